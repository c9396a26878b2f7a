"""From an engine event to 500 WebSocket clients of the architech door, at 20 events a second."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

import house
import transfer
import websockets
from tests.support.processes import Processes, ServerProcess

from physicsrunner.client.native import NativeUplink
from physicsrunner.core.state import RunState
from physicsrunner.wire.messages import Report

HERE = Path(__file__).resolve().parent
AS_CLIENTS = "--as-clients"
#: Each client comes under a name of its own.
PATH = "/architech/ws/bench-{}?token={}"


async def _client(url: str, run: str, seen: array[float], joined: asyncio.Event) -> None:
    """Hear of a run, and note the number and the time of every event."""
    async with websockets.connect(url, compression=None, max_queue=None) as line:
        await line.send(json.dumps({"subscribe": run}))
        while True:
            text = await line.recv()
            now = time.perf_counter()
            assert isinstance(text, str)
            _, found, rest = text.partition('"label":"event ')
            if found:
                seen.append(float(rest.partition('"')[0]))
                seen.append(now)
            elif '"type":"subscribed"' in text:
                joined.set()


async def _listen(url: str, token: str, run: str, count: int, into: Path) -> None:
    """Keep *count* clients until a line comes in; then write what they saw."""
    seen = [array("d") for _ in range(count)]
    joined = [asyncio.Event() for _ in range(count)]
    base = url.replace("http", "ws", 1)
    tasks = []
    for number in range(count):
        address = base + PATH.format(number, token)
        tasks.append(asyncio.create_task(_client(address, run, seen[number], joined[number])))
        if number % 50 == 49:  # as pages are opened, and not all in one moment
            await asyncio.gather(*(event.wait() for event in joined[: number + 1]))
    await asyncio.gather(*(event.wait() for event in joined))
    sys.stdout.write("joined\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    into.write_text(json.dumps({"ended": len(ended), "seen": [list(one) for one in seen]}))


def _clients(argv: Sequence[str]) -> int:
    import uvloop

    url, token, run, count, into = argv
    uvloop.run(_listen(url, token, run, int(count), Path(into)))
    return 0


def main(argv: Sequence[str]) -> int:
    """Report progress at a steady rate, and compare the times with those of all clients."""
    if argv and argv[0] == AS_CLIENTS:
        return _clients(argv[1:])
    parser = argparse.ArgumentParser(prog="scripts/bench architech")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with transfer.workplace() as place:
        processes = Processes(place)
        try:
            server = processes.server(place / "data", PHYSICSRUNNER_DOORS="architech")
            found = _measured(processes, server, options)
        finally:
            processes.close()
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.clients} clients, {options.events} events at {options.rate:g}/s: "
            f"p50 {found['p50_ms']:.1f} ms, p95 {found['p95_ms']:.1f} ms (at most 100), longest "
            f"{found['max_ms']:.1f} ms, {found['missing']:.0f} not seen, server "
            f"{found['server_cpu']:.0%} of a core, clients {found['clients_cpu']:.0%}"
        )
    return 0 if found["p95_ms"] <= 100 and not found["missing"] else 1


def _measured(
    processes: Processes, server: ServerProcess, options: argparse.Namespace
) -> dict[str, float]:
    claimed = transfer.claim(server)
    into = processes.folder / "seen.json"
    clients = subprocess.Popen(
        [
            *(sys.executable, str(HERE), "architech", AS_CLIENTS),
            *(server.url, server.token, claimed.run, str(options.clients), str(into)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert clients.stdin is not None
        assert clients.stdout is not None
        if clients.stdout.readline() != "joined\n":
            raise SystemExit("the clients could not connect")
        both, began = (server.pid, clients.pid), time.perf_counter()
        before = [house.processor_seconds(pid) for pid in both]
        sent = _report(server, claimed, options.events, options.rate)
        took = time.perf_counter() - began
        after = [house.processor_seconds(pid) for pid in both]
        time.sleep(1.0)  # what is on its way arrives, or it is later than any bound
        clients.communicate("done\n", timeout=60)
    finally:
        clients.kill()
        clients.wait()
    found = json.loads(into.read_text())
    if found["ended"]:
        raise SystemExit(f"{found['ended']} clients were sent away")
    delays = [
        seen[place + 1] - sent[int(seen[place])]
        for seen in found["seen"]
        for place in range(0, len(seen), 2)
    ]
    return {
        "p50_ms": transfer.quantile(delays, 0.5) * 1e3,
        "p95_ms": transfer.quantile(delays, 0.95) * 1e3,
        "max_ms": max(delays) * 1e3,
        "missing": options.clients * options.events - len(delays),
        "server_cpu": (after[0] - before[0]) / took,
        "clients_cpu": (after[1] - before[1]) / took,
    }


def _report(
    server: ServerProcess, claimed: transfer.Claimed, events: int, rate: float
) -> list[float]:
    """Report progress; return when each report was begun to be sent."""
    sent = []
    uplink = NativeUplink(server.url, claimed.token)
    try:
        uplink.report([Report(claimed.run, 1, state=RunState.RUNNING)])
        start = time.perf_counter()
        for number in range(events):
            pause = start + number / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            sent.append(time.perf_counter())
            report = Report(claimed.run, 1, progress=number / events, label=f"event {number}")
            uplink.report([report])
    finally:
        uplink.close()
    return sent
