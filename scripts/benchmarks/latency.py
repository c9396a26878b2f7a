"""From a log line written to its sight by a socket.io subscriber, at 100 lines a second."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import socketio
import transfer

from physicsrunner.client.native import NativeUplink
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.watch import FolderWatch


class Viewer:
    """A subscriber that notes when each line came."""

    def __init__(self, url: str, token: str, run: str) -> None:
        self.seen: dict[int, float] = {}
        self._rest = ""
        self._lock = threading.Lock()
        self._client = socketio.Client()
        self._client.on("event", self._event)
        self._client.connect(url, auth={"token": token}, transports=["websocket"])
        answer = self._client.call("subscribe", {"room": f"run:{run}"}, timeout=10)
        if not (isinstance(answer, dict) and answer.get("ok")):
            raise SystemExit(f"not subscribed: {answer}")

    def _event(self, event: dict[str, Any]) -> None:
        now = time.perf_counter()
        if event.get("type") != "simulation/log":
            return
        data = event["data"]
        text = data.get("text") or data.get("message") or data.get("lines") or ""
        if isinstance(text, list):
            text = "".join(line if line.endswith("\n") else line + "\n" for line in text)
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                if line.startswith("line "):
                    self.seen.setdefault(int(line.split()[1]), now)

    def close(self) -> None:
        self._client.disconnect()


def main(argv: Sequence[str]) -> int:
    """Write lines at a steady rate, flush each, and compare the times."""
    parser = argparse.ArgumentParser(prog="scripts/bench latency")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with transfer.workplace() as place, transfer.server(place / "server") as server:
        claimed = transfer.claim(server)
        folder = transfer.work_folder(place / "work")
        uplink = NativeUplink(server.url, claimed.token)
        sync = Sync(uplink)
        sync.add(Followed(claimed.run, 1, folder))
        watch = FolderWatch(folder.root, sync.touch)
        viewer = Viewer(server.url, server.token, claimed.run)
        sync.start()
        watch.start()
        try:
            written = _write(folder.main_log, options.lines, options.rate)
            deadline = time.perf_counter() + 10.0
            while len(viewer.seen) < options.lines and time.perf_counter() < deadline:
                time.sleep(0.05)
        finally:
            watch.close()
            sync.close()
            uplink.close()
            viewer.close()
    delays = [viewer.seen[index] - at for index, at in written.items() if index in viewer.seen]
    missing = options.lines - len(delays)
    half, most = transfer.quantile(delays, 0.5) * 1e3, transfer.quantile(delays, 0.95) * 1e3
    found = {"p50_ms": half, "p95_ms": most, "max_ms": max(delays) * 1e3, "missing": missing}
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.lines} lines at {options.rate:.0f}/s: p50 {half:.1f} ms (at most 50), "
            f"p95 {most:.1f} ms (at most 150), longest {found['max_ms']:.1f} ms, {missing} not seen"
        )
    return 0 if half <= 50 and most <= 150 and not missing else 1


def _write(path: Any, lines: int, rate: float) -> dict[int, float]:
    written = {}
    start = time.perf_counter()
    with path.open("a", buffering=1) as file:
        for index in range(lines):
            pause = start + index / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            written[index] = time.perf_counter()
            file.write(f"line {index} Solving for Ux, Initial residual = 0.01\n")
    return written
