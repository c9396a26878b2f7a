"""
A thousand runs at the same time on one agent: what agent and server take, and every line there.

Each run is a ``sh`` that writes a line of its log and its progress every second. The processor
time is measured when all of them run; the memory is the most that was seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import house

AGENT_CORES, AGENT_MIB, SERVER_CORES = 0.7, 400.0, 1.0
_MAIN = """
import os
program = '''i=0
while [ ! -e "{gate}" ]; do
  i=$((i+1)); echo "line $i"; echo "running - $((i % 100))% step $i" >> "$1/state.txt"; sleep 1
done
echo "end $i"
'''
os.execv("/bin/sh", ["sh", "-c", program, "sh", os.environ["PHYSICSRUNNER_OUTPUTS_DIR"]])
"""


def main(argv: Sequence[str]) -> int:
    """Start all, measure, end all, count the lines."""
    parser = argparse.ArgumentParser(prog="scripts/bench thousand")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with house.up(options.runs) as place:
        gate = place.place / "gate"
        begun = _start(place, gate, options.runs)
        found = _measured(place, options.seconds)
        gate.touch()
        counts = house.ended(place.client, options.runs, 600.0)
        whole = _whole(place.place / "data" / "simulations")
    found |= {"runs": options.runs, "all_running_s": round(begun, 1), "whole": whole}
    if counts.get("completed") != options.runs:
        raise SystemExit(f"not all were completed: {counts}")
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.runs} runs at once (all running after {begun:.0f} s), for "
            f"{options.seconds:.0f} s: agent {found['agent_cores']:.2f} core (at most "
            f"{AGENT_CORES}), {found['agent_mib']:.0f} MiB (at most {AGENT_MIB:.0f}); server "
            f"{found['server_cores']:.2f} core (at most {SERVER_CORES:.0f}), "
            f"{found['server_mib']:.0f} MiB; {whole} runs with every line"
        )
    good = found["agent_cores"] <= AGENT_CORES and found["agent_mib"] <= AGENT_MIB
    return 0 if good and found["server_cores"] <= SERVER_CORES and whole == options.runs else 1


def _start(place: house.House, gate: Path, runs: int) -> float:
    """Queue *runs*; return the seconds until all of them run."""
    from physicsrunner.client.case import read_case
    from physicsrunner.client.options import RunOptions

    case = Path(tempfile.mkdtemp(prefix="physicsrunner-case-"))
    (case / "main.py").write_text(_MAIN.replace("{gate}", str(gate)))
    found = read_case(case)
    place.client.upload_model(found)
    start = time.perf_counter()
    sets: list[dict[str, Any]] = [{"number": number} for number in range(runs)]
    place.client.submit_many(found, sets, name="line", options=RunOptions(cores=0))
    while True:
        counts = place.client.queue()["counts"]
        if counts.get("running", 0) == runs:
            return time.perf_counter() - start
        if time.perf_counter() - start > 600.0:
            raise SystemExit(f"they do not all run: {counts}")
        time.sleep(0.5)


def _measured(place: house.House, seconds: float) -> dict[str, Any]:
    pids = {"agent": place.agent, "server": place.server}
    before = {name: house.processor_seconds(pid) for name, pid in pids.items()}
    most = dict.fromkeys(pids, 0.0)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        time.sleep(1.0)
        most = {name: max(most[name], house.resident(pid)) for name, pid in pids.items()}
    took = time.perf_counter() - start
    found: dict[str, Any] = {}
    for name, pid in pids.items():
        used = house.processor_seconds(pid) - before[name]
        found[f"{name}_cores"] = round(used / took, 3)
        found[f"{name}_mib"] = round(most[name], 1)
    return found


def _whole(folder: Path) -> int:
    """Return how many runs have every line of theirs on the server."""
    whole = 0
    for log in folder.glob("*/attempts/1/logs/main.log"):
        lines = log.read_text().splitlines()
        last = int(lines[-1].removeprefix("end "))
        expected = [f"line {number}" for number in range(1, last + 1)]
        whole += lines[:-1] == expected
    return whole


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
