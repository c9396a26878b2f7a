"""Memory of runner and server (VmHWM) while a file of 4 GiB goes up."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import transfer

from physicsrunner.runner.workdir import WorkFolder

LIMIT_MIB = 150


def main(argv: Sequence[str]) -> int:
    """Send one large file from a process of its own; read both sides' high-water marks."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory")
    parser.add_argument("--mib", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--send", nargs=4, metavar=("URL", "RUN", "TOKEN", "FOLDER"))
    options = parser.parse_args(argv)
    if options.send:
        return _send(*options.send)
    with transfer.workplace() as place, transfer.server(place / "server") as server:
        folder = transfer.work_folder(place / "work")
        transfer.make_file(folder.outputs / "files" / "one.dat", options.mib * transfer.MIB)
        before = transfer.high_water(server.pid)
        claimed = transfer.claim(server)
        command = [sys.executable, str(Path(__file__).parent), "memory"]
        done = subprocess.run(
            [*command, "--send", server.url, claimed.run, claimed.token, str(folder.root)],
            check=True,
            capture_output=True,
            text=True,
        )
        sent = json.loads(done.stdout)
        found = {
            "bytes": options.mib * transfer.MIB,
            "seconds": sent["seconds"],
            "runner_mib": sent["high_water"] / transfer.MIB,
            "runner_before_mib": sent["before"] / transfer.MIB,
            "server_mib": transfer.high_water(server.pid) / transfer.MIB,
            "server_before_mib": before / transfer.MIB,
        }
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.mib} MiB in {found['seconds']:.1f} s: runner {found['runner_mib']:.0f} MiB "
            f"(before: {found['runner_before_mib']:.0f}), server {found['server_mib']:.0f} MiB "
            f"(before: {found['server_before_mib']:.0f}); at most {LIMIT_MIB} each"
        )
    return 0 if max(found["runner_mib"], found["server_mib"]) < LIMIT_MIB else 1


def _send(url: str, run: str, token: str, folder: str) -> int:
    before = transfer.high_water(os.getpid())
    work = WorkFolder(Path(folder))
    seconds, _ = transfer.deliver(url, transfer.Claimed(run, token), work)
    after = transfer.high_water(os.getpid())
    print(json.dumps({"seconds": seconds, "before": before, "high_water": after}))
    return 0
