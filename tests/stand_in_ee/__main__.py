"""``python -m tests.stand_in_ee``: a stand-in in a process of its own, until its input ends.

Prints one line of JSON with the address. Counters and faults: see ``server._private``.
"""

import argparse
import json
import sys

from tests.stand_in_ee.server import StandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stand_in_ee", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--faults", default="{}", help="JSON: the fields of Faults")
    arguments = parser.parse_args()
    server = StandIn(arguments.port)
    server.faults.set(**json.loads(arguments.faults))
    sys.stdout.write(json.dumps({"url": server.url}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
