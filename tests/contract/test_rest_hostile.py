"""Requests that a faulty or hostile client makes: each is answered, none is a failure of ours."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.errors import BadFrame
from physicsrunner.server import downloads
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.hub import Hub
from physicsrunner.server.intake import manifest
from physicsrunner.server.members import Told
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.rooms import Rooms
from physicsrunner.service.events import Room
from physicsrunner.service.services import build
from physicsrunner.wire import rest
from physicsrunner.wire.live import Event
from tests.contract.rest_server import RestServer, rest_server

DATA = "outputs/data_files/u.vtu"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize("field", ["offset", "length", "size", "attempt"])
@pytest.mark.parametrize("value", ["", [], {}, False, True, 0.0, 1.5, "1", -1])
@pytest.mark.parametrize("kind", ["append", "truncate"])
def test_a_number_that_is_none_is_a_bad_frame(field: str, value: Any, kind: str) -> None:
    """Every number of an operation is a whole one; what only looks empty is none."""
    op = {"run": "R", "attempt": 1, "path": DATA, "op": kind, "offset": 0, "length": 0, "size": 0}
    with pytest.raises(BadFrame):
        manifest({"v": 1, "ops": [{**op, field: value}]})


@pytest.mark.parametrize(
    "body",
    [
        '{"reports": [{"run": "R", "attempt": 1, "progress": NaN}]}',
        '{"reports": [{"run": "R", "attempt": 1, "eta_s": -Infinity}]}',
        '{"reports": [{"run": "R", "attempt": 1, "progress": 1' + "0" * 400 + "}]}",
        '{"reports": [{"run": "R", "attempt": 1' + "0" * 400 + "}]}",
        '{"reports": ' + "[" * 600 + "]" * 600 + "}",
    ],
)
def test_json_that_is_none_is_refused(server: RestServer, body: str) -> None:
    """NaN, numbers that no machine holds and deep nesting are the sender's fault."""
    run, _ = server.claim()
    answer = server.call("POST", rest.REPORTS, data=body.replace("R", run, 1))
    assert answer.status_code in (200, 400, 422), answer.text


def test_a_deep_document_does_not_block_the_queue(server: RestServer) -> None:
    """One run with parameters of endless depth must not keep the others from the agents."""
    model = server.model()["id"]
    deep = '{"a":' * 450 + "1" + "}" * 450
    body = f'{{"model_id": "{model}", "parameters": {{"inputs": {deep}}}}}'
    assert server.call("POST", rest.SIMULATIONS, data=body).status_code == 422
    good = server.value("POST", rest.SIMULATIONS, json={"model_id": model})
    ask = {"agent": "a", "free": {"cpu_cores": 8, "memory_gb": 32}, "max": 5}
    leased = server.value("POST", rest.LEASES, json=ask)
    assert [lease["run"] for lease in leased] == [good["id"]]


def test_a_file_that_grows_while_it_is_fetched_comes_as_it_was(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is as long as it says, whatever the program writes meanwhile."""
    run, _ = server.claim()
    op = {"run": run, "attempt": 1, "path": "logs/main.log", "op": "append"}
    server.sync([({**op, "offset": 0, "length": 5}, b"first")])
    before = downloads.file_response

    def grown(*args: Any, **kwargs: Any) -> Any:
        response = before(*args, **kwargs)
        with args[1].open("ab") as file:
            file.write(b" and more")
        return response

    monkeypatch.setattr("physicsrunner.server.rest.artifacts.file_response", grown)
    answer = server.call("GET", rest.artifact(run, "logs/main.log"))
    assert (answer.status_code, answer.content) == (200, b"first")


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-30", 206, b"0123456789"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=4-400", 206, b"456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=x", 200, b"0123456789"),
    ],
)
def test_ranges(server: RestServer, wanted: str, status: int, content: bytes | None) -> None:
    """Each range is answered as RFC 9110 has it; what is no range is passed over."""
    run, _ = server.claim()
    server.put_file(run, DATA, b"0123456789")
    answer = server.call("GET", rest.artifact(run, DATA), headers={"Range": wanted})
    assert answer.status_code == status, answer.text
    assert content is None or answer.content == content
    assert status != 416 or answer.headers["Content-Range"] == "bytes */10"


def test_ranges_of_an_empty_file(server: RestServer) -> None:
    """An empty file can be fetched whole; a range of it cannot be satisfied."""
    run, _ = server.claim()
    server.put_file(run, DATA, b"")
    assert server.call("GET", rest.artifact(run, DATA)).content == b""
    answer = server.call("GET", rest.artifact(run, DATA), headers={"Range": "bytes=0-"})
    assert answer.status_code in (200, 416)


def test_two_at_once_make_one_model(server: RestServer) -> None:
    """The same bundle sent by many at once is one model with one content."""
    found: list[dict[str, Any]] = []

    def send() -> None:
        found.append(server.model())

    _at_once(send, 6)
    assert len({(item["id"], item["version"], item["sha256"]) for item in found}) == 1


def test_two_claims_at_once_are_one_run(server: RestServer) -> None:
    """A claim sent by two threads at once is one run with one attempt."""
    run = str(uuid.uuid4())
    found: list[dict[str, Any]] = []

    def send() -> None:
        with requests.Session() as session:
            answer = session.post(
                server.url + rest.SIMULATIONS,
                json={"id": run, "claim": {"agent": "here"}},
                headers={"Authorization": f"Bearer {server.admin}"},
                timeout=30,
            )
        found.append(answer.json())

    _at_once(send, 6)
    assert {(item["lease"]["run"], item["lease"]["attempt"]) for item in found} == {(run, 1)}
    assert server.value("GET", rest.SIMULATIONS)["total"] == 1


def _at_once(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_no_line_is_too_far(server: RestServer) -> None:
    """A line of the series that no file has is no failure of ours."""
    run, _ = server.claim()
    server.put_file(run, "metadata/series.jsonl", b'{"series": "p", "x": 1, "y": 2}\n')
    for line in (10, 1 << 53, 1 << 62, 1 << 70):
        path = f"{rest.simulation(run)}/series?after_line={line}"
        assert server.call("GET", path).status_code in (200, 422)


def test_live_events_are_strict_json() -> None:
    """What goes over socket.io has no NaN in it: browsers would drop the connection."""
    text = StrictJson.dumps(["event", {"y": [float("nan"), 1.5], "z": float("-inf")}])
    assert json.loads(text, parse_constant=pytest.fail) == [
        "event",
        {"y": ["NaN", 1.5], "z": "-Infinity"},
    ]


def test_the_feed_survives_an_event_that_cannot_be_sent(tmp_path: Path) -> None:
    """One event that fails is not the end of the feed, and closing it twice is no error."""
    services = build(tmp_path, now=lambda: 1e9)
    told: list[str] = []
    sent: list[str] = []

    async def deliver(events: Sequence[Event]) -> None:
        told.extend(event.type for event in events)
        if events[0].type == "bad":
            raise TypeError("cannot be sent")

    async def story() -> None:
        feed = Rooms(services.access, services.events, Metrics())
        feed._rooms["all"] = {}
        feed._deliver = deliver  # type: ignore[method-assign]
        hub = Hub(asyncio.get_running_loop())
        feed.attach(hub)
        task = asyncio.create_task(feed.run())
        for kind in ("bad", "good"):
            sent.append(kind)
            hub.publish([Event(kind, None, None, None, 1e9)])
            await asyncio.wait_for(_until(lambda: len(told) == len(sent)), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await feed.close()
        await feed.close()

    asyncio.run(story())
    services.close()
    assert told == sent


def test_an_event_that_cannot_be_sent_keeps_nobody_from_the_next(tmp_path: Path) -> None:
    """Of events that are delivered together, one that fails is left out alone."""
    services = build(tmp_path, now=lambda: 1e9)
    told: list[str] = []

    class Somebody:
        def tell(self, words: Told) -> None:
            if words.event.type == "bad":
                raise TypeError("cannot be put into words")
            told.append(words.event.type)

        def waiting(self) -> int:
            return 0

    async def story() -> None:
        feed = Rooms(services.access, services.events, Metrics())
        room = Room(name="all")
        feed._rooms["all"] = {Somebody(): room}  # type: ignore[dict-item]
        await feed._deliver(
            [Event(kind, None, None, None, 1e9) for kind in ("first", "bad", "last")]
        )

    asyncio.run(story())
    services.close()
    assert told == ["first", "last"]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)
