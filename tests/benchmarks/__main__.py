"""Run every benchmark in turn, each in a fresh interpreter so that none inherits memory."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each bench_*.py's main; the number of those that failed."""
    failed = 0
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        command = [sys.executable, "-m", f"tests.benchmarks.{path.stem}"]
        failed += subprocess.run(command, cwd=Path(__file__).parents[2]).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
