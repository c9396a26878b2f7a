"""Round trips a second of each door against the native API, and of pings on the TCP door."""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import transfer
from tests.support.processes import Processes

from physicsrunner.client.client import Client
from physicsrunner.core.run import DOORS
from physicsrunner.wire.frames import FrameStream, encode_frame

RATIO = 0.7
PINGS = 3_000.0  # a second
RUNS = 200
WINDOW = 256  # pings on their way
ATH = {"frequency_range": [200, 2000], "num_frequencies": 4, "sim_type": "2"}
ATH_JOB = {**ATH, "formula_type": "OSSE", "label": "bench"}


@dataclass(frozen=True)
class Question:
    """One request, as one door has it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


class Asker:
    """A connection that is kept; one question after the other."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._line = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def ask(self, question: Question) -> bytes:
        self._line.request(question.method, question.path, question.body, question.headers)
        answer = self._line.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{question.method} {question.path}: {answer.status} {read[:300]!r}")
        return read

    def value(self, question: Question) -> Any:
        return json.loads(self.ask(question))

    def close(self) -> None:
        self._line.close()


def main(argv: Sequence[str]) -> int:
    """Ask the same through every door in turns; print the rates and their ratios."""
    parser = argparse.ArgumentParser(prog="scripts/bench doors")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--asked", type=int, default=150, help="round trips in one turn")
    parser.add_argument("--pings", type=int, default=30_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with transfer.workplace() as place, _server(place) as (url, token, tcp):
        asker = Asker(url)
        with closing(asker):
            rates = {
                name: _compare(asker, questions, options.rounds, options.asked)
                for name, questions in _operations(asker, url, token).items()
            }
        pings = statistics.median(_pings(tcp, options.pings) for _ in range(5))
    return _report(rates, pings, as_json=options.json)


@contextmanager
def _server(place: Path) -> Iterator[tuple[str, str, int]]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        tcp = free.getsockname()[1]
    processes = Processes(place / "server")
    try:
        environment = {
            "PHYSICSRUNNER_DOORS": ", ".join(DOORS),
            "PHYSICSRUNNER_DOOR_USER": "admin",
            "PHYSICSRUNNER_SHAKESCENARIO_PORT": str(tcp),
        }
        server = processes.server(place / "data", **environment)
        yield server.url, server.token, tcp
    finally:
        processes.close()


def _operations(asker: Asker, url: str, token: str) -> dict[str, dict[str, Question]]:
    """Make runs through the doors; return what is asked of each, by operation."""
    known = {"Authorization": f"Bearer {token}"}
    typed = {**known, "Content-Type": "application/json"}
    theirs = {"auth-token": token, "Content-Type": "application/json"}
    solve = Question("POST", "/ath/api/solve", typed, json.dumps(ATH_JOB).encode())
    job, *_ = [asker.value(solve)["job_id"] for _ in range(RUNS)]
    with Client(url, token) as client:
        model = client.get(job)["model_id"]
    request = {"model_id": model, "parameters": ATH_JOB}
    create = Question("POST", "/api/v1/simulations", typed, json.dumps(request).encode())
    api, orchestration = "/physicsworks/api/v1", "/architech/api/v1/simulations"
    return {
        "show a run": {
            "native": Question("GET", f"/api/v1/simulations/{job}/status", known),
            "ath": Question("GET", f"/ath/api/status/{job}", known),
            "architech": Question("GET", f"{orchestration}/{job}/status", known),
            "physicsworks": Question("GET", f"{api}/jobs/{job}", theirs),
        },
        "list 50 runs": {
            "native": Question("GET", "/api/v1/simulations?limit=50", known),
            "ath": Question("GET", "/ath/api/jobs?limit=50", known),
            "architech": Question("GET", f"{orchestration}?limit=50&all=true", known),
            "physicsworks": Question("GET", f"{api}/jobs?pageSize=50&all=true", theirs),
        },
        "create a run": {
            "native": create,
            "ath": solve,
            "physicsworks": Question("POST", f"{api}/simulation/run/{model}", theirs, b"{}"),
        },
    }


def _compare(
    asker: Asker, questions: dict[str, Question], rounds: int, asked: int
) -> dict[str, float]:
    """Return the round trips a second of each, the median of turns that they take by turns."""
    seen: dict[str, list[float]] = {name: [] for name in questions}
    for turn in range(rounds + 1):
        for name, question in questions.items():
            rate = asked / _timed(asker, question, asked)
            if turn:  # the first one warms up
                seen[name].append(rate)
    return {name: statistics.median(found) for name, found in seen.items()}


def _timed(asker: Asker, question: Question, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        asker.ask(question)
    return time.perf_counter() - start


def _pings(port: int, number: int) -> float:
    """Return the answers a second to *number* pings, of which `WINDOW` are on their way."""
    frames = [
        encode_frame({"v": 1, "op": "ping", "req_id": str(place), "payload": {}})
        for place in range(number)
    ]
    with socket.create_connection(("127.0.0.1", port)) as line:
        stream, sent, answered = FrameStream(), 0, 0
        start = time.perf_counter()
        while answered < number:
            ahead = min(number, answered + WINDOW)
            if ahead > sent:
                line.sendall(b"".join(frames[sent:ahead]))
                sent = ahead
            for body in stream.feed(line.recv(1 << 16)):
                if not json.loads(body)["ok"]:
                    raise SystemExit(f"a ping was answered {body!r}")
                answered += 1
        return number / (time.perf_counter() - start)


def _report(rates: dict[str, dict[str, float]], pings: float, *, as_json: bool) -> int:
    ratios = {
        operation: {door: rate / found["native"] for door, rate in found.items()}
        for operation, found in rates.items()
    }
    good = pings >= PINGS and all(min(found.values()) >= RATIO for found in ratios.values())
    if as_json:
        print(json.dumps({"rates": rates, "ratios": ratios, "pings": pings}))
        return 0 if good else 1
    print(f"round trips a second on one connection; in turns; at least {RATIO} x the native API's")
    for operation, found in rates.items():
        for door, rate in found.items():
            print(f"{operation:<14} {door:<14}{rate:9,.0f}/s {ratios[operation][door]:6.2f} x")
    print(f"pipelined pings on the TCP door {pings:9,.0f}/s (at least {PINGS:,.0f})")
    return 0 if good else 1
