"""
Runs whose main.py does nothing, queue to sealed, against a bare loop of `subprocess.run`.

Both are carried out by as many workers on this machine, one after the other: N runs that wait in
the queue until all are completed (every file sealed), and N calls of
``subprocess.run([sys.executable, "main.py"])`` by N threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import control
import house

TARGET = 0.5


def main(argv: Sequence[str]) -> int:
    """Measure both and compare."""
    parser = argparse.ArgumentParser(prog="scripts/bench turnaround")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--workers", type=int, default=4 * (os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    case = control.case()
    bare = _bare(case / "main.py", options.runs, options.workers)
    with house.up(options.workers) as place:
        _queued(place, case, options.workers)  # what is loaded once is loaded
        before = (house.processor_seconds(place.server), house.processor_seconds(place.agent))
        took = _queued(place, case, options.runs)
        after = (house.processor_seconds(place.server), house.processor_seconds(place.agent))
    ours = options.runs / took
    server, agent = (1e3 * (b - a) / options.runs for a, b in zip(before, after, strict=True))
    found = {
        "runs": options.runs,
        "workers": options.workers,
        "bare_per_s": round(bare, 1),
        "per_s": round(ours, 1),
        "ratio": round(ours / bare, 2),
        "server_cpu_ms": round(server, 1),
        "agent_cpu_ms": round(agent, 1),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.runs} runs by {options.workers} workers: {ours:.1f} a second, a bare loop "
            f"{bare:.1f}: ratio {ours / bare:.2f}, at least {TARGET}; processor time of a run: "
            f"agent {agent:.1f} ms, server {server:.1f} ms"
        )
    return 0 if ours / bare >= TARGET else 1


def _bare(main: Path, runs: int, workers: int) -> float:
    """Return how many a second a bare loop carries out."""

    def once(_: int) -> None:
        subprocess.run([sys.executable, str(main)], check=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(once, range(workers)))
        start = time.perf_counter()
        list(pool.map(once, range(runs)))
    return runs / (time.perf_counter() - start)


def _queued(place: house.House, case: Path, runs: int) -> float:
    """Queue *runs* and return the seconds until all are completed."""
    from physicsrunner.client.case import read_case
    from physicsrunner.client.options import RunOptions

    found = read_case(case)
    place.client.upload_model(found)
    before = place.client.queue()["counts"].get("completed", 0)
    sets: list[dict[str, Any]] = [{"number": number} for number in range(runs)]
    start = time.perf_counter()
    place.client.submit_many(found, sets, name="nothing", options=RunOptions(cores=0))
    counts = house.ended(place.client, before + runs, 300.0)
    took = time.perf_counter() - start
    if counts.get("completed") != before + runs:
        raise SystemExit(f"not all were completed: {counts}")
    return took


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
