"""Read damaged files by the thousand: unnamed exceptions, hangs and wrong values are faults.

``python -m tests.fuzz --n 20000 [--seed 0] [--only readings,stac]`` prints a line a reader and
ends with 1 when there is a fault. A fault is told with the number of its input, and
``--only NAME --first NUMBER --n 1`` reads that one again.
"""

import argparse
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

import soilkit
from soilkit.errors import SoilkitError
from tests.fuzz.targets import SHARES

LIMIT_S = 20
MEMORY_MIB = 1500  # more than the largest good file needs, many times over
OUTCOMES = ("read", "refused", "unnamed", "hang", "silent")


PACKAGE = Path(soilkit.__file__).parent


class Hang(BaseException):
    """Raised by the alarm; no reader may catch it."""


@dataclass
class Tally:
    """How the inputs of one reader ended."""

    outcomes: Counter = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    slowest_s: float = 0.0

    def add(self, outcome: str, number: int, seconds: float, about: str = "") -> None:
        self.outcomes[outcome] += 1
        self.seconds += seconds
        self.slowest_s = max(self.slowest_s, seconds)
        if outcome in OUTCOMES[2:]:
            self.faults.setdefault(f"{outcome}: {about}", f"first at input {number}")


def try_one(attempt, rng) -> tuple[str, str]:
    """The outcome of one input, and what is to be said of a fault."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        attempt(rng)
    except SoilkitError:
        return "refused", ""
    except Hang:
        return "hang", "no answer"
    except AssertionError as error:
        return "silent", str(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
        if not ours:
            raise
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return "unnamed", f"{type(error).__name__} at {where}: {str(error)[:120]!r}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return ("silent", f"{grown:.0f} MiB for a small file") if grown > MEMORY_MIB else ("read", "")


def run(n: int, *, seed: int = 0, only: tuple[str, ...] = (), first: int = 0) -> dict[str, Tally]:
    """Read ``n`` inputs in all, shared among the readers (or ``n`` each of those named)."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)

    def stop(*_):
        raise Hang

    previous = signal.signal(signal.SIGALRM, stop)
    tallies = {}
    try:
        for prepare, share in SHARES.items():
            name = prepare.__name__
            if only and name not in only:
                continue
            tallies[name] = tally = Tally()
            with tempfile.TemporaryDirectory() as folder:
                attempt = prepare(Path(folder))
                for number in range(first, first + (n if only else max(1, n * share // 100))):
                    started = time.perf_counter()
                    signal.alarm(LIMIT_S)
                    outcome, about = try_one(attempt, random.Random(f"{seed} {name} {number}"))
                    signal.alarm(0)
                    tally.add(outcome, number, time.perf_counter() - started, about)
    finally:
        signal.alarm(0)
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGALRM, previous)
    return tallies


def table(tallies: dict[str, Tally]) -> pd.DataFrame:
    """One row a reader."""
    rows = [
        {"reader": name, "inputs": tally.outcomes.total()}
        | {outcome: tally.outcomes[outcome] for outcome in OUTCOMES}
        | {"seconds": round(tally.seconds), "slowest [s]": round(tally.slowest_s, 1)}
        for name, tally in tallies.items()
    ]
    return pd.DataFrame(rows)


def faults(tallies: dict[str, Tally]) -> list[str]:
    """What is wrong, a line each."""
    return [
        f"{name}: {fault} ({where})"
        for name, tally in tallies.items()
        for fault, where in tally.faults.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", default="", help="readers, with commas; n inputs each")
    options = parser.parse_args()
    only = tuple(filter(None, options.only.split(",")))
    tallies = run(options.n, seed=options.seed, only=only, first=options.first)
    lines = faults(tallies) or ["no unnamed error, no hang, nothing silent"]
    sys.stdout.write("\n".join([table(tallies).to_string(index=False), *lines, ""]))
    return bool(faults(tallies))


if __name__ == "__main__":
    sys.exit(main())
