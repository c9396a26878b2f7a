"""The architech door's WebSocket: who is let in, what they hear, and what is said to them."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from physicsrunner.cli.server import log_to_stderr
from physicsrunner.server import rooms, ws
from physicsrunner.server.doors.architech import clients, sockets
from physicsrunner.server.doors.architech.sockets import ID_TAKEN
from physicsrunner.server.ws import (
    BAD_MESSAGES,
    NO_AUTH_IN_TIME,
    NOT_AUTHENTICATED,
    TOO_BIG,
    TOO_SLOW,
)
from physicsrunner.wire import rest
from tests.contract.architech_house import API, SIMULATIONS, Line, house, line, start
from tests.contract.rest_server import RestServer
from tests.contract.test_architech_door import person
from tests.support.wait import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server with the door, a design service and a model."""
    with house(tmp_path) as running:
        yield running


def send(server: RestServer, *, status: int = 200, token: str | None = None, **body: Any) -> Any:
    """Have a message sent; return the answer's JSON."""
    answer = server.call(
        "POST", f"{API}/messages", json=body, token=server.admin if token is None else token
    )
    assert answer.status_code == status, answer.text
    return answer.json()


# -- who is let in ---------------------------------------------------------------------------------


def test_a_token_comes_by_the_header_the_address_or_the_first_message(server: RestServer) -> None:
    """Each way is as good as the others, and a wrong one is refused by each."""
    with line(server) as mine:
        assert mine.messages == [{"type": "connected", "client_id": "tab-1"}]
    for good in (True, False):
        token = server.admin if good else "wrong"
        with line(server, token=token) as by_header:
            _expect(by_header, good)
        with line(server, token=None, query=f"?token={token}") as by_address:
            _expect(by_address, good)
        with line(server, token=None) as by_message:
            by_message.send(token=token)
            _expect(by_message, good)


def test_no_log_shows_the_token_of_an_address(
    server: RestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with --debug either, where it says who has connected."""
    loggers = [logging.getLogger(name) for name in ("physicsrunner", "uvicorn")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    log_to_stderr(debug=True)
    try:
        for token in (server.admin, "wrong"):
            with line(server, token=None, query=f"?x=1&token={token}") as mine:
                _expect(mine, token != "wrong")
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
    said = capsys.readouterr().err
    assert said.count('"WebSocket /architech/ws/tab-1?..." [accepted]') == 2
    assert server.admin not in said
    assert "token=" not in said


def _expect(mine: Line, good: bool) -> None:
    if good:
        mine.wait("connected")
        return
    assert mine.ended() == NOT_AUTHENTICATED
    assert mine.messages[0]["error"]["code"] == "not_authenticated"


@pytest.mark.parametrize("first", ['{"subscribe": "x"}', '{"token": 7}', "{}"])
def test_without_a_token_nothing_is_heard(server: RestServer, first: str) -> None:
    """Whatever else the first message is, the connection ends."""
    with line(server, token=None) as mine:
        mine.socket.send(first)
        assert mine.ended() == NOT_AUTHENTICATED


def test_who_says_nothing_is_sent_away(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, with a code that says why."""
    monkeypatch.setattr(sockets, "AUTH_S", 0.1)
    with line(server, token=None) as mine:
        assert mine.ended() == NO_AUTH_IN_TIME


@pytest.mark.parametrize("client", ["x" * 91, " ", "a\nb"])
def test_a_client_id_that_can_be_none(server: RestServer, client: str) -> None:
    """It is refused with words."""
    with line(server, client=client, token=server.admin) as mine:
        assert mine.ended() == BAD_MESSAGES
        assert "client_id" in mine.messages[0]["error"]["detail"]


def test_on_this_machine_no_token_is_needed(tmp_path: Path) -> None:
    """Not by a page of elsewhere, nor under another name; a first token is what counts."""
    with house(tmp_path, door_user="admin", cors_origins=("https://app.example",)) as server:
        with line(server, token=None) as mine:
            mine.wait("connected")
        with line(server, token=None, origin="https://app.example") as mine:
            mine.wait("connected")
        for more in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            with line(server, token=None, **more) as mine:
                mine.send(ping=1)
                assert mine.ended() == NOT_AUTHENTICATED
        run, _ = server.claim()
        token = person(server, "nat", None)
        with line(server, "nats", token=None) as mine:
            mine.wait("connected")
            mine.send(token=token)
            assert mine.wait("authenticated")[0]["user"] == "nat"
            mine.send(subscribe=run)
            assert mine.wait("error")[0]["error"]["code"] == "not_found"
        with line(server, token=None) as mine:
            mine.wait("connected")
            mine.send(token="wrong")
            assert mine.ended() == NOT_AUTHENTICATED
        with line(server, "desk", token=None) as mine, line(server, "desk", token=None) as other:
            mine.wait("connected")
            other.wait("connected")
            other.send(token=token)
            assert other.ended() == ID_TAKEN


def test_a_revoked_token_hears_no_more(server: RestServer) -> None:
    """The connection ends soon after."""
    server.value("POST", rest.USERS, json={"name": "una", "role": "user"})
    made = server.value("POST", rest.TOKENS, json={"name": "t", "user": "una"})
    with line(server, token=made["token"]) as mine:
        mine.wait("connected")
        server.call("DELETE", f"{rest.TOKENS}/{made['id']}")
        assert mine.ended() == NOT_AUTHENTICATED


# -- what is heard ---------------------------------------------------------------------------------


def test_status_progress_and_logs_of_a_run(server: RestServer) -> None:
    """In this door's words, those of the run alone, and none after it was left."""
    run, _ = server.claim()
    other, _ = server.claim()
    with line(server) as mine:
        answer = mine.subscribe(run)
        assert (answer["simulation_id"], answer["simulation"]["status"]) == (run, "RUNNING")
        server.report(other, state="running")
        server.report(run, state="running")
        server.report(run, progress=42.0, label="half")
        base = {"run": run, "attempt": 1, "path": "logs/main.log"}
        server.sync([({**base, "op": "append", "offset": 0, "length": 6}, b"hello\n")])
        assert mine.wait("log")[0]["data"]["text"] == "hello\n"
        (progress,) = mine.wait("progress")
        assert progress["data"]["progress_percent"] == 42.0
        (started,) = mine.of("status")
        assert (started["status"], started["event"]) == ("RUNNING", "simulation/started")
        assert isinstance(started["event_id"], int)
        assert started["time"].endswith("+00:00")
        server.report(run, state="failed", exit_code=3)
        failed = mine.wait("status", 2)[-1]
        assert (failed["status"], failed["data"]["state"]) == ("FAILED", "failed")
        assert failed["data"]["exit_code"] == 3
        assert {message.get("simulation_id", run) for message in mine.messages} == {run}
        mine.send(unsubscribe=other)
        mine.send(unsubscribe=run)
        mine.wait("unsubscribed", 2)
        server.value("DELETE", rest.simulation(run))
        mine.send(ping="still there?")
        assert mine.wait("pong")[0]["pong"] == "still there?"
        assert [m["event"] for m in mine.messages if "event" in m][-1] != "simulation/deleted"


def test_who_comes_late_hears_what_was(server: RestServer) -> None:
    """With ``after``, the logged events behind it come first; by the run's number, too."""
    run, _ = server.claim()
    server.report(run, state="running")
    number = server.value("GET", rest.simulation(run))["number"]
    logged = server.value("GET", f"{rest.simulation(run)}/events")["data"]
    with line(server) as mine:
        assert mine.subscribe(number, after=0)["simulation_id"] == run
        told = [message for message in mine.messages if "event" in message]
        assert [(m["event_id"], m["event"]) for m in told] == [
            (event["id"], event["type"]) for event in logged
        ]


def test_a_run_that_may_not_be_heard(server: RestServer) -> None:
    """Another person's run is not there; the connection goes on."""
    run = start(server)["id"]
    token = person(server, "nat", None)
    with line(server, token=token) as mine:
        mine.wait("connected")
        for wanted in (run, str(uuid.uuid4()), "99"):
            mine.send(subscribe=wanted)
        refused = mine.wait("error", 3)
        assert {item["error"]["code"] for item in refused} == {"not_found"}
        server.value("POST", f"{SIMULATIONS}/{run}/stop")
        mine.send(ping=1)
        mine.wait("pong")
        assert [message for message in mine.messages if "event" in message] == []


@pytest.mark.parametrize(
    "text",
    [
        *("x", "[]", "{}", '{"subscribe": null}', '{"subscribe": ["x"]}', '{"subscribe": ""}'),
        *('{"subscribe": "x", "after": "y"}', '{"token": "late"}', "[" * 50_000),
    ],
)
def test_what_means_nothing_is_answered(server: RestServer, text: str) -> None:
    """A few are, and then the connection ends."""
    with line(server) as mine:
        mine.send(ping=1)
        mine.wait("pong")
        with contextlib.suppress(OSError, websocket.WebSocketException):
            for _ in range(30):
                mine.socket.send(text)
        assert mine.ended() == BAD_MESSAGES
        assert mine.of("error")[0]["error"]["code"] == "invalid_request"


def test_a_message_that_is_too_large(server: RestServer) -> None:
    """It ends the connection."""
    with line(server) as mine:
        mine.send(subscribe="x" * 70_000)
        assert mine.ended() == TOO_BIG


# -- what is said ----------------------------------------------------------------------------------


def test_personal_messages_a_broadcast_and_a_room(server: RestServer) -> None:
    """Each reaches those whom it is for; a client in two tabs hears it in both."""
    run = start(server)["id"]
    with (
        line(server, "tab-1") as one,
        line(server, "tab-1") as again,
        line(server, "tab-2") as two,
    ):
        two.subscribe(run)
        assert send(server, client_id="tab-1", message="for one") == {"sent": 2}
        assert send(server, simulation_id=run, message={"a": [1]}) == {"sent": 1}
        assert send(server, message="for all") == {"sent": 3}
        assert send(server, client_id="nobody", message="x") == {"sent": 0}
        for mine in (one, again):
            heard = mine.wait("message", 2)
            assert [(m["scope"], m["message"]) for m in heard] == [
                ("personal", "for one"),
                ("broadcast", "for all"),
            ]
        heard = two.wait("message", 2)
        assert [(m["scope"], m["message"]) for m in heard] == [
            ("simulation", {"a": [1]}),
            ("broadcast", "for all"),
        ]
        assert {m["from"] for m in heard} == {"admin"}
    wait_until(lambda: send(server, message="gone") == {"sent": 0})


def test_a_client_id_is_one_persons(server: RestServer) -> None:
    """While somebody is connected as it, nobody else is, nor hears what is meant for it."""
    token = person(server, "una", "user")
    with line(server, "desk", token=token) as hers:
        hers.wait("connected")
        with line(server, "desk", token=server.admin) as mine:
            assert mine.ended() == ID_TAKEN
        assert send(server, client_id="desk", message="x") == {"sent": 1}
    wait_until(lambda: send(server, client_id="desk", message="gone?") == {"sent": 0})
    with line(server, "desk") as mine:
        assert send(server, client_id="desk", message="x", token=token) == {"sent": 0}
        assert mine.of("message") == []


def test_who_may_speak_to_whom(server: RestServer) -> None:
    """A user to themselves and about their own runs; to everybody an operator."""
    user, operator, viewer = (
        person(server, "una", "user"),
        person(server, "olaf", "operator"),
        person(server, "vic", "viewer"),
    )
    body = {"design_id": "bridge-7", "user_id": "una"}
    own = server.value("POST", f"{SIMULATIONS}/start", json=body, token=user)["id"]
    others = start(server)["id"]
    with line(server, "hers", token=user) as hers:
        hers.wait("connected")
        hers.subscribe(own)
        assert send(server, client_id="hers", message="x", token=user) == {"sent": 1}
        assert send(server, simulation_id=own, message="x", token=user) == {"sent": 1}
        assert send(server, message="x", token=operator) == {"sent": 1}
        assert send(server, client_id="hers", message="x", token=operator) == {"sent": 1}
        send(server, message="x", token=user, status=403)
        send(server, simulation_id=others, message="x", token=user, status=403)
        send(server, client_id="hers", message="x", token=viewer, status=403)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"message": "x", "client_id": "a", "simulation_id": "b"}, 422),
        ({"message": "x", "client_id": 7}, 422),
        ({"message": "x", "simulation_id": "none"}, 404),
        ({"message": "x" * 70_000}, 413),
    ],
)
def test_a_message_that_cannot_be_sent(
    server: RestServer, body: dict[str, Any], status: int
) -> None:
    """It says why."""
    send(server, status=status, **body)


@pytest.mark.parametrize("by", ["events", "messages"])
def test_who_does_not_read_is_sent_away_and_the_others_hear(
    server: RestServer, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Whatever it is that they do not read; nobody waits for them."""
    monkeypatch.setattr(rooms, "MAX_WAITING", 20)
    monkeypatch.setattr(clients, "MAX_WAITING", 20)
    run, _ = server.claim()
    server.report(run, state="running")
    large = "x" * 60_000
    with line(server, "quick") as quick, _deaf(server, run) as deaf:
        quick.subscribe(run)
        wait_until(lambda: send(server, client_id="deaf", message="?") == {"sent": 1})
        sent = 0

        def gone() -> bool:
            nonlocal sent
            sent += 1
            if by == "events":
                server.report(run, label=f"{sent} {large}")
                return not send(server, client_id="deaf", message="?")["sent"]
            send(server, client_id="quick", message=sent)
            return not send(server, client_id="deaf", message=large)["sent"]

        wait_until(gone, timeout=60, interval=0.001)
        wait_until(lambda: len(quick.of("progress" if by == "events" else "message")) >= sent)
        assert _close_code(deaf) in (TOO_SLOW, None)


def test_the_answers_of_who_reads_nothing_do_not_pile_up(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is taken from a client that leaves a hundred answers lying."""
    most = 0
    put = ws.Listener.put

    def noted(client: ws.Listener, text: str) -> None:
        nonlocal most
        put(client, text)
        most = max(most, client.waiting())

    monkeypatch.setattr(ws.Listener, "put", noted)
    run, _ = server.claim()
    with _deaf(server, run) as deaf:
        deaf.settimeout(2)
        text = json.dumps({"ping": "x" * 1000}).encode()
        ping = websocket.ABNF.create_frame(text, websocket.ABNF.OPCODE_TEXT).format()
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                deaf.sendall(ping * 50)
        wait_until(lambda: most >= ws.MAX_BEHIND, timeout=20, on_timeout=lambda: most)
    assert most <= ws.MAX_BEHIND + 1


def test_what_a_pong_repeats_is_short(server: RestServer) -> None:
    """So is the id that a subscription repeats."""
    with line(server) as mine:
        mine.send(ping={"a": [1, None]})
        assert mine.wait("pong")[0]["pong"] == {"a": [1, None]}
        long: tuple[dict[str, Any], ...]
        long = ({"ping": "x" * 1024}, {"unsubscribe": "x" * 91}, {"subscribe": 10**91})
        for number, message in enumerate(long):
            mine.send(**message)
            assert len(json.dumps(mine.wait("error", number + 1)[-1])) < 1000
        mine.send(ping="x" * 1000)
        assert mine.wait("pong", 2)


@contextlib.contextmanager
def _deaf(server: RestServer, run: str) -> Iterator[socket.socket]:
    """A connection that subscribes and then reads nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        address = f"{server.url.replace('http', 'ws')}/architech/ws/deaf?token={server.admin}"
        made = websocket.create_connection(address, socket=raw, timeout=30)
        made.send(json.dumps({"subscribe": run}))
        yield raw


def _close_code(raw: socket.socket) -> int | None:
    """Return the code of the close that is behind all that was never read; None: it was cut."""
    raw.settimeout(10)
    tail = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(65536):
            tail = (tail + piece)[-200:]
    place = tail.rfind(b"\x88")
    return int.from_bytes(tail[place + 2 : place + 4], "big") if place >= 0 else None
