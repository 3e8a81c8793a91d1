"""Median time of `puma --help` and `puma --version`, each in ten fresh processes.

Run with: make benchmark
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 10
LIMIT = 0.3  # seconds


def seconds(*args: str) -> float:
    """Return the wall-clock time of one run of `puma` with `args`."""
    puma = Path(sys.executable).with_name("puma")
    began = time.perf_counter()
    subprocess.run([puma, *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    """Print one line for each option; return 1 if a median is over the limit."""
    slow = False
    for option in ("--help", "--version"):
        times = [seconds(option) for _ in range(RUNS)]
        median = statistics.median(times)
        slow = slow or median > LIMIT
        print(
            f"puma {option}: median {median:.3f} s of {RUNS} "
            f"({min(times):.3f} to {max(times):.3f}); limit {LIMIT} s"
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
