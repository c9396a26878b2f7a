"""
From the submission of a run to the start of its main.py, on an agent that waits for work.

The clock starts before the request is made and ends with the first line of main.py (its
interpreter has started by then). One run at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import house
import transfer
from tests.support.wait import wait_until

from physicsrunner.client.client import Client

TARGET_MS = 300.0
_MAIN = "import time\nbegan = time.time()\nprint(began, flush=True)\n"


def main(argv: Sequence[str]) -> int:
    """Submit, wait for the end, read the time that main.py printed."""
    parser = argparse.ArgumentParser(prog="scripts/bench start")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    from physicsrunner.client.case import read_case

    case = Path(tempfile.mkdtemp(prefix="physicsrunner-case-"))
    (case / "main.py").write_text(_MAIN)
    found = read_case(case)
    delays = []
    with house.up(4) as place:
        place.client.upload_model(found)
        for number in range(-2, options.runs):  # the first ones load what is loaded once
            before = time.time()
            run = place.client.submit(found, {})["id"]
            log = place.place / "data" / "simulations" / run / "attempts" / "1" / "logs/main.log"
            wait_until(partial(_has_line, log), timeout=60.0)
            if number >= 0:
                delays.append(1e3 * (float(log.read_text()) - before))
            wait_until(partial(_has_completed, place.client, run), timeout=60.0)
    half, most = transfer.quantile(delays, 0.5), transfer.quantile(delays, 0.95)
    if options.json:
        print(json.dumps({"p50_ms": round(half, 1), "p95_ms": round(most, 1)}))
    else:
        print(
            f"{options.runs} runs: p50 {half:.0f} ms (at most {TARGET_MS:.0f}), p95 {most:.0f} ms"
        )
    return 0 if half <= TARGET_MS else 1


def _has_line(log: Path) -> bool:
    return log.exists() and log.read_text().endswith("\n")


def _has_completed(client: Client, run: str) -> bool:
    return bool(client.get(run)["status"] == "completed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
