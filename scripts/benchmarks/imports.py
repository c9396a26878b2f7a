"""What importing `physicsrunner.solver` costs a main.py, over bare Python."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

import transfer

AT_MOST_MS = 60.0
PROGRAM = (
    "import time; start = time.perf_counter(); import physicsrunner.solver; "
    "print(1000 * (time.perf_counter() - start))"
)


def main(argv: Sequence[str]) -> int:
    """Import it in one fresh interpreter after another; the median counts."""
    parser = argparse.ArgumentParser(prog="scripts/bench imports")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    took = [
        float(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True))
        for _ in range(options.rounds)
    ]
    median = transfer.median(took)
    if options.json:
        print(json.dumps({"ms": took, "median": median}))
    else:
        print(f"import physicsrunner.solver: median {median:.1f} ms (at most {AT_MOST_MS:.0f})")
    return 0 if median <= AT_MOST_MS else 1
