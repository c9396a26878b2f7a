"""The live feed, with real socket.io clients against a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import socketio
import websocket

from physicsrunner.client.live import Feed
from physicsrunner.server import rooms as door
from physicsrunner.wire import live, rest
from physicsrunner.wire.live import Event
from tests.contract.rest_server import RestServer, rest_server
from tests.process.test_webhooks import ask, happen
from tests.support.processes import Processes
from tests.support.wait import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server of each test's own."""
    with rest_server(tmp_path / "data") as running:
        yield running


class Viewer:
    """A socket.io client that keeps what it gets."""

    def __init__(self, server: RestServer, token: str, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.client = socketio.Client(reconnection=False)
        self.client.on(live.EVENT, self._event)
        self.client.on(live.COMMAND, self.commands.append)
        self.client.connect(
            server.url,
            auth={"token": token},
            transports=options.get("transports", ["websocket"]),
            wait_timeout=30,
        )

    def _event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def subscribe(self, room: str, after: int | None = None) -> dict[str, Any]:
        """Subscribe; return the acknowledgement."""
        wanted = {"room": room} if after is None else {"room": room, "after": after}
        answer: dict[str, Any] = self.client.call(live.SUBSCRIBE, wanted, timeout=30)
        return answer

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type."""
        return [event for event in self.events if event["type"] == kind]


@contextmanager
def viewer(server: RestServer, token: str | None = None, **options: Any) -> Iterator[Viewer]:
    """A connected viewer; it leaves no thread."""
    found = Viewer(server, token or server.admin, **options)
    try:
        yield found
    finally:
        # The library's writer may have taken the word that it ends and wait for another: whoever
        # joins it would wait for 25 s. On a line that is cut, or by one more word, it ends.
        if found.client.eio.ws is not None:
            found.client.eio.ws.abort()
        found.client.shutdown()
        found.client.eio.queue.put(None)
        wait_until(lambda: not found.client.connected)


def put_line(server: RestServer, run: str, offset: int, text: str) -> int:
    """Append *text* to the main log; return the next offset."""
    data = text.encode()
    op = {"run": run, "attempt": 1, "path": "logs/main.log", "op": "append"}
    server.sync([({**op, "offset": offset, "length": len(data)}, data)])
    return offset + len(data)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_viewer_sees_a_run_live(server: RestServer, transport: str) -> None:
    """State, progress, log text, series, files and seals reach the room of the run, in order."""
    run, _ = server.claim()
    other, _ = server.claim()
    point = {"series": "residual/Ux", "x": 1, "y": 0.5}
    with viewer(server, transports=[transport]) as mine:
        assert mine.subscribe(live.run_room(run)) == {"ok": True, "room": live.run_room(run)}
        server.report(run, state="running")
        server.report(run, progress=42.0, label="half way")
        put_line(server, other, 0, "not for you\n")
        put_line(server, run, 0, "Time = 1\n")
        server.put_file(run, "metadata/series.jsonl", json.dumps(point).encode() + b"\n")
        server.report(run, state="failed", exit_code=1)
        wait_until(lambda: mine.of(live.FAILED), on_timeout=lambda: mine.events)
    types = [event["type"] for event in mine.events]
    assert {live.STARTED, live.PROGRESS, live.LOG, live.SERIES, live.SEALED} <= set(types)
    assert types.index(live.STARTED) < types.index(live.LOG) < types.index(live.FAILED)
    assert {event["run"] for event in mine.events} == {run}
    assert "".join(event["data"]["text"] for event in mine.of(live.LOG)) == "Time = 1\n"
    assert mine.of(live.SERIES)[0]["data"]["points"] == [point]
    keys = {"id", "type", "run", "attempt", "project", "time", "data"}
    assert all(set(event) == keys for event in mine.events)
    assert all((event["id"] is None) == (event["type"] in live.LIVE_ONLY) for event in mine.events)


def test_a_late_viewer_gets_every_logged_event_once_and_in_order(server: RestServer) -> None:
    """``after`` replays the log and goes on live, without a gap, while events keep coming."""
    run, _ = server.claim()
    server.report(run, state="running")
    stop = threading.Event()

    def keep_sealing() -> None:
        number = 0
        while not stop.is_set():
            server.put_file(run, f"outputs/data_files/{number}", b"x")
            number += 1

    writer = threading.Thread(target=keep_sealing)
    writer.start()
    try:
        with viewer(server) as late:
            wait_until(lambda: len(_logged(server, run)) > 10)
            assert late.subscribe(live.run_room(run), after=0)["ok"]
            seen = len(late.events)
            wait_until(lambda: len(late.events) > seen + 5)
            stop.set()
            writer.join(60)
            logged = _logged(server, run)
            wait_until(lambda: logged[-1] in [event["id"] for event in late.events])
    finally:
        stop.set()
        writer.join(60)
    ids = [event["id"] for event in late.events if event["id"] is not None]
    assert sorted(set(ids)) == logged
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids))


def _logged(server: RestServer, run: str) -> list[int]:
    """Return the ids of all logged events of a run, however many there are by now."""
    found: list[int] = []
    while True:
        after = found[-1] if found else 0
        page = server.value("GET", f"{rest.simulation(run)}/events?limit=1000&after={after}")
        if not page["data"]:
            return found
        found += [event["id"] for event in page["data"]]


@pytest.mark.parametrize("auth", [None, {}, {"token": "nonsense"}, {"token": 7}, "text"])
def test_nobody_enters_without_a_good_token(server: RestServer, auth: Any) -> None:
    """The connection is refused, with the same problem as over REST."""
    client = socketio.Client(reconnection=False)
    said: list[Any] = []
    client.on("connect_error", said.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(server.url, auth=auth, transports=["websocket"], wait_timeout=30)
    client.shutdown()
    assert "not_authenticated" in str(said)


def test_a_connection_ends_with_its_token(server: RestServer) -> None:
    """The client is told so at once, and not only left without events and pings."""
    made = server.value("POST", rest.TOKENS, json={"name": "watches"})
    with viewer(server, made["token"]) as seen:
        assert seen.subscribe("all")["ok"]
        server.value("DELETE", rest.token(made["id"]))
        wait_until(lambda: not seen.client.connected, timeout=25.0)  # pings are given 40 s


def test_an_attempt_token_hears_its_own_run_alone(server: RestServer) -> None:
    """Rooms are refused as REST would refuse; a wrong request is answered, not ignored."""
    run, lease = server.claim()
    other, _ = server.claim()
    with viewer(server, lease["token"]) as mine:
        assert mine.subscribe(live.run_room(run))["ok"]
        for room in ("all", "project:x", "agent:here"):
            assert mine.subscribe(room)["error"]["code"] == "not_allowed", room
        assert mine.subscribe(live.run_room(other))["error"]["code"] == "not_found"
        wrong: list[Any] = [None, {}, {"room": 7}, {"room": "nothing"}, {"room": "run:"}, []]
        for wanted in wrong:
            answer = mine.client.call(live.SUBSCRIBE, wanted, timeout=30)
            assert answer["error"]["code"] == "invalid_request", wanted
        assert mine.subscribe("run:4711")["error"]["code"] == "not_found"


def test_an_agent_hears_of_work_and_of_a_cancel_request(server: RestServer) -> None:
    """The room of an agent gets commands at once; polling would bring them later."""
    agent = server.services.access.agent_token("node-7")
    model = server.model()
    with viewer(server, agent) as node:
        assert node.subscribe("agent:node-7")["ok"]
        assert node.subscribe("agent:node-8")["error"]["code"] == "not_allowed"
        run = server.value("POST", rest.SIMULATIONS, json={"model_id": model["id"]})["id"]
        wait_until(lambda: [item for item in node.commands if item["command"] == live.WORK])
        server.value("POST", rest.LEASES, json={"agent": "node-7"}, token=agent)
        server.report(run, token=agent, state="running")
        server.value("POST", f"{rest.simulation(run)}/cancel")
        wait_until(lambda: [item for item in node.commands if item["command"] == "cancel"])
        assert node.commands[-1] == {"run": run, "attempt": 1, "command": "cancel"}


def test_a_viewer_that_does_not_read_is_dropped(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses its connection; the others get everything meanwhile."""
    monkeypatch.setattr(door, "MAX_WAITING", 100)
    run, _ = server.claim()
    address = server.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    slow = websocket.create_connection(address, timeout=10, sockopt=((1, 8, 4096),))
    slow.recv()
    slow.send("40" + json.dumps({"token": server.admin}))
    slow.recv()
    slow.send('420["subscribe",' + json.dumps({"room": live.run_room(run)}) + "]")
    assert '"ok":true' in slow.recv()
    text = "x" * 50_000
    with viewer(server) as good:
        good.subscribe(live.run_room(run))
        count = 0

        def dropped() -> bool:
            nonlocal count
            data = {"path": "logs/main.log", "offset": 10**9 * count, "text": text}
            server.services.feed.publish([Event(live.LOG, run, 1, None, 0.0, data)] * 10)
            count += 10
            # No faster than one that reads can be: on a busy machine it would be dropped, too.
            wait_until(lambda: len(good.of(live.LOG)) == count, on_timeout=lambda: len(good.events))
            found = server.call("GET", "/metrics", token=None).text
            return "physicsrunner_viewers_dropped_total 1.0" in found

        wait_until(dropped, timeout=60)
    slow.close()


def test_a_feed_goes_on_where_it_was_over_a_restart_of_the_server(processes: Processes) -> None:
    """The server is killed -9 and restarted: a feed gets every event once, in order."""
    server = processes.server()
    with Feed(server.url, server.token, "all", after=0) as feed:
        seen: list[int] = []
        for _ in range(3):
            happen(server, 3)
            server.kill()
            server.restart()
        happen(server, 1)
        newest = ask(server, "GET", rest.EVENTS)["newest"]
        while not seen or seen[-1] < newest:
            event = feed.next(30)
            assert event is not None, seen
            if event.id is not None:
                seen.append(event.id)
    assert seen == list(range(1, newest + 1))


def test_log_lines_arrive_once_and_in_order(server: RestServer) -> None:
    """Lines that are sent one by one reach a subscriber whole, in order, each once."""
    run, _ = server.claim()
    with viewer(server) as mine:
        mine.subscribe(live.run_room(run))
        offset = 0
        for number in range(200):
            offset = put_line(server, run, offset, f"{number}\n")
        text = "".join(f"{number}\n" for number in range(200))
        wait_until(lambda: "".join(e["data"]["text"] for e in mine.of(live.LOG)) == text)
