"""The plain WebSocket ``/ws``, with real clients against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket
import websockets

from physicsrunner.server import rooms, ws
from physicsrunner.wire import live, rest
from physicsrunner.wire.live import Event
from tests.contract.rest_server import RestServer, rest_server
from tests.process.test_webhooks import ask, happen
from tests.support.processes import Processes
from tests.support.wait import wait_until
from tests.support.websockets import JsonSocket


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server of each test's own."""
    with rest_server(tmp_path / "data") as running:
        yield running


class Line(JsonSocket):
    """One connection, which begins with its token."""

    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(f"{url}/ws")
        if token is not None:
            self.send(type="auth", token=token)

    def wait_for_id(self, number: int) -> None:
        """Wait until the event of that id has come."""
        wait_until(
            lambda: any(event["id"] == number for event in self.events()),
            on_timeout=lambda: self.messages,
        )

    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if "/" in message["type"]]


@contextmanager
def line(url: str, token: str | None) -> Iterator[Line]:
    """A connection for the block."""
    found = Line(url, token)
    try:
        yield found
    finally:
        found.close()


def test_a_listener_hears_what_was_and_what_comes(server: RestServer) -> None:
    """auth, subscribe after an event, ping, unsubscribe: the same envelopes as over REST."""
    run, _ = server.claim()
    server.report(run, state="running")
    with line(server.url, server.admin) as mine:
        assert mine.wait("ready")[0]["subject"] == "admin"
        mine.send(type="ping")
        mine.wait("pong")
        mine.send(type="subscribe", room=live.run_room(run), after=0)
        mine.wait("subscribed")
        server.report(run, progress=42.0, label="half")
        mine.wait(live.PROGRESS)
        server.report(run, state="failed", exit_code=1)
        mine.wait(live.FAILED)
        logged = server.value("GET", f"{rest.simulation(run)}/events")["data"]
        assert [event for event in mine.events() if event["id"] is not None] == logged
        mine.send(type="unsubscribe", room=live.run_room(run))
        mine.wait("unsubscribed")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"type": "auth", "token": "nonsense"}', ws.NOT_AUTHENTICATED),
        ('{"type": "auth"}', ws.NOT_AUTHENTICATED),
        ('{"type": "subscribe", "room": "all"}', ws.NOT_AUTHENTICATED),
        ("no json", ws.NOT_AUTHENTICATED),
        ("[]", ws.NOT_AUTHENTICATED),
        ('"' + "x" * 70_000 + '"', ws.TOO_BIG),
    ],
)
def test_nobody_is_let_in_without_a_good_token(server: RestServer, first: str, code: int) -> None:
    """The first message is a good token or the last one; the code says why."""
    with line(server.url, None) as mine:
        mine.socket.send(first)
        assert mine.ended() == code


def test_who_says_nothing_is_sent_away(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without auth does not stay."""
    monkeypatch.setattr(ws, "AUTH_S", 0.2)
    with line(server.url, None) as mine:
        assert mine.ended() == ws.NO_AUTH_IN_TIME


def test_wrong_messages_are_answered_until_there_are_too_many(server: RestServer) -> None:
    """Each is told what is wrong; rooms that may not be entered are refused; at last it ends."""
    with line(server.url, server.admin) as mine:
        mine.wait("ready")
        mine.send(type="subscribe", room="run:4711")
        assert mine.wait("error")[0]["error"]["code"] == "not_found"
        mine.send(type="subscribe", room="all", after=-1)
        assert mine.wait("error", 2)[1]["error"]["code"] == "invalid_request"
        with contextlib.suppress(OSError, websocket.WebSocketException):
            for _ in range(ws.MAX_ERRORS + 1):
                mine.socket.send("nothing")
        assert mine.ended() == ws.BAD_MESSAGES


def test_too_many_connections_are_told_to_come_later(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of connections is bounded; one that ends makes room."""
    monkeypatch.setattr(ws, "MAX_CONNECTIONS", 1)
    with line(server.url, server.admin) as first:
        first.wait("ready")
        with line(server.url, server.admin) as second:
            assert second.ended() == ws.TRY_LATER

    def let_in() -> bool:
        with line(server.url, server.admin) as third:
            wait_until(lambda: third.of("ready") or third.code)
            return bool(third.of("ready"))

    wait_until(let_in)


def test_a_revoked_token_hears_no_more(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection ends when its token is revoked, not when it is used again."""
    monkeypatch.setattr(rooms, "LOOK_S", 0.1)
    access = server.services.access
    token = access.agent_token("node-7")
    who = access.authenticate(server.admin)
    with line(server.url, token) as agent, line(server.url, server.admin) as admin:
        agent.send(type="subscribe", room="agent:node-7")
        agent.wait("subscribed")
        access.revoke_agent(who, "node-7")
        assert agent.ended() == ws.NOT_AUTHENTICATED
        admin.send(type="ping")
        admin.wait("pong")


def test_who_does_not_read_is_sent_away_and_the_others_hear(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one loses its connection; a quick one gets everything meanwhile."""
    monkeypatch.setattr(rooms, "MAX_WAITING", 100)
    run, _ = server.claim()
    address = server.url.replace("http", "ws") + "/ws"
    slow = websocket.create_connection(
        address, timeout=10, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)
    )
    slow.send(json.dumps({"type": "auth", "token": server.admin}))
    slow.send(json.dumps({"type": "subscribe", "room": live.run_room(run)}))
    assert json.loads(slow.recv())["type"] == "ready"
    assert json.loads(slow.recv())["type"] == "subscribed"
    with line(server.url, server.admin) as good:
        good.send(type="subscribe", room=live.run_room(run))
        good.wait("subscribed")
        count = 0

        def dropped() -> bool:
            nonlocal count
            data = {"path": "logs/main.log", "offset": 10**9 * count, "text": "x" * 50_000}
            server.services.feed.publish([Event(live.LOG, run, 1, None, 0.0, data)] * 10)
            count += 10
            wait_until(lambda: len(good.of(live.LOG)) == count, timeout=20)
            found = server.call("GET", "/metrics", token=None).text
            return "physicsrunner_viewers_dropped_total 1.0" in found

        wait_until(dropped, timeout=60)
    slow.close()


def test_of_who_takes_no_answers_nothing_more_is_read(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred answers wait and no more, however much is asked."""
    waiting: list[int] = []
    put = ws.Listener.put

    def noted(listener: ws.Listener, text: str) -> None:
        put(listener, text)
        waiting.append(listener.waiting())

    reading = threading.Event()

    async def write(listener: ws.Listener) -> None:
        while not reading.is_set():
            await asyncio.sleep(0.01)
        await written(listener)

    written = ws.Listener.write
    monkeypatch.setattr(ws.Listener, "put", noted)
    monkeypatch.setattr(ws.Listener, "write", write)
    with line(server.url, server.admin) as mine:
        for _ in range(300):
            mine.send(type="ping")
        wait_until(lambda: len(waiting) >= ws.MAX_BEHIND)
        reading.set()
        mine.wait("pong", 300)  # of who reads on, everything was heard
    assert max(waiting) == ws.MAX_BEHIND


def test_a_listener_goes_on_where_it_was_over_a_restart_of_the_server(
    processes: Processes,
) -> None:
    """The server is killed -9 and restarted: with ``after`` every event comes once, in order."""
    server = processes.server()
    seen: list[int] = []

    for number in range(3):
        with line(server.url, server.token) as mine:
            mine.send(type="subscribe", room="all", after=seen[-1] if seen else 0)
            mine.wait("subscribed")
            happen(server, 5)
            newest = ask(server, "GET", rest.EVENTS)["newest"]
            mine.wait_for_id(newest)
            server.kill(15 if number == 1 else 9)
            code = mine.ended()
            assert code == (ws.RESTARTING if number == 1 else None)
            seen += [event["id"] for event in mine.events()]
        wait_until(lambda: not server.alive)
        server.restart()
        happen(server, 1)
    with line(server.url, server.token) as mine:
        mine.send(type="subscribe", room="all", after=seen[-1])
        mine.wait("subscribed")
        seen += [event["id"] for event in mine.events()]
    assert seen == list(range(1, len(seen) + 1))


def test_five_hundred_listeners_hear_everything(server: RestServer) -> None:
    """500 at once: each hears each event once and in order."""
    run, _ = server.claim()
    many, events = 500, 20

    async def listen(ready: asyncio.Semaphore, go: asyncio.Event) -> list[int]:
        address = server.url.replace("http", "ws") + "/ws"
        async with ready:
            connection = await websockets.connect(address, open_timeout=60, ping_interval=None)
            await connection.send(json.dumps({"type": "auth", "token": server.admin}))
            await connection.send(json.dumps({"type": "subscribe", "room": live.run_room(run)}))
            for expected in ("ready", "subscribed"):
                assert json.loads(await connection.recv())["type"] == expected
        here.append(connection)
        await go.wait()
        found: list[int] = []
        while len(found) < events:
            message = json.loads(await connection.recv())
            if message["type"] == live.PROGRESS:
                found.append(message["data"]["n"])
        await connection.close()
        return found

    here: list[Any] = []

    async def all_of_them() -> list[list[int]]:
        ready, go = asyncio.Semaphore(20), asyncio.Event()
        tasks = [asyncio.create_task(listen(ready, go)) for _ in range(many)]
        while len(here) < many:
            assert not any(task.done() for task in tasks), "one was not let in"
            await asyncio.sleep(0.05)
        for number in range(events):
            event = Event(live.PROGRESS, run, 1, None, 0.0, {"n": number})
            await asyncio.to_thread(server.services.feed.publish, [event])
        go.set()
        return await asyncio.wait_for(asyncio.gather(*tasks), 120)

    heard = asyncio.run(all_of_them())
    assert heard == [list(range(events))] * many
