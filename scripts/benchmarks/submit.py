"""A batch of 10,000 runs by one request over HTTP, against one second."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import control
import transfer

TARGET_S = 1.0


def main(argv: Sequence[str]) -> int:
    """Submit batches and take the median."""
    parser = argparse.ArgumentParser(prog="scripts/bench submit")
    parser.add_argument("--store", choices=control.STORES, default="sqlite")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    times, used = [], []
    with control.server(options.store) as server, control.client(server) as client:
        control.submit(client, 1)  # the first one of all compiles the statements
        for batch in range(options.batches):
            before = control.processor_seconds(server.pid)
            took, answer = control.submit(client, options.runs)
            used.append(control.processor_seconds(server.pid) - before)
            times.append(took)
            if answer["count"] != options.runs:
                raise SystemExit(f"{answer['count']} of {options.runs} runs are queued")
            if not options.json:
                print(
                    f"batch {batch + 1}: {options.runs} runs in {took:.3f} s "
                    f"(server: {used[-1]:.2f} s of processor time)",
                    flush=True,
                )
    took = transfer.median(times)
    ratio = TARGET_S / took
    if options.json:
        found = {"store": options.store, "runs": options.runs, "seconds": times, "ratio": ratio}
        print(json.dumps(found))
    else:
        print(
            f"{options.store}: {options.runs} runs in {took:.3f} s (median), at most {TARGET_S:g} "
            f"s: ratio {ratio:.2f}"
        )
    return 0 if ratio >= 1.0 else 1
