"""Who is let in where no request carries a token: the handshake of ``/ws``, and the login."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websocket

from physicsrunner.core.permissions import Scope
from physicsrunner.server.ws import NOT_AUTHENTICATED
from physicsrunner.wire import live, rest
from tests.process.test_rights import OURS, THEIRS, Bearer, House, Target
from tests.support.processes import Processes

PASSWORD = "correct horse battery"
#: What is said to who has no good token.
REFUSED = ("not_authenticated", "token_expired")


@pytest.fixture
def house(processes: Processes) -> Iterator[House]:
    """The people, projects and machines of the matrix."""
    made = House(processes.server(PHYSICSRUNNER_WEBHOOK_PRIVATE="yes"))
    yield made
    made.close()


class Line:
    """One connection of ``/ws``."""

    def __init__(self, url: str) -> None:
        address = url.replace("http", "ws", 1) + "/ws"
        self.socket = websocket.create_connection(address, timeout=60)
        assert self.socket.sock is not None
        self._sock: socket.socket = self.socket.sock

    def close(self) -> None:
        """Hang up, whoever has before."""
        self._sock.close()

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send one message; return what is said to it, past events that are told meanwhile."""
        self.socket.send(json.dumps(message))
        while True:
            answer = self.heard()
            if "/" not in answer["type"]:
                return answer

    def heard(self) -> dict[str, Any]:
        """Return the next message; ``closed`` with its code at the end."""
        kind, data = self.socket.recv_data()
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return {"type": "closed", "code": int.from_bytes(data[:2], "big")}
        found: dict[str, Any] = json.loads(data)
        return found


@contextmanager
def line(url: str) -> Iterator[Line]:
    """Connect while the block lasts."""
    opened = Line(url)
    try:
        yield opened
    finally:
        opened.close()


def hears(bearer: Bearer, room: str, target: Target) -> bool:
    """Say whether the table lets *bearer* into a room of *target*."""
    if room == live.run_room(target.run):
        return target.may(bearer, "runs:read") and target.may(bearer, "events:read")
    if bearer.kind != "user":
        return False
    return bearer.scope_in("events:read", target.project) not in (Scope.NONE, Scope.OWN)


def test_the_handshake_of_every_bearer(house: House) -> None:
    """Who has no good token hears nothing; the others enter the rooms that the table gives."""
    wrong, tried = [], 0
    for bearer in house.bearers:
        with line(house.url) as opened:
            answer = opened.ask(type="auth", token=bearer.token)
            if not bearer.good:
                if answer["type"] != "error" or answer["error"]["code"] not in REFUSED:
                    wrong.append(f"{bearer.name}: {answer}")
                if (end := opened.heard()) != {"type": "closed", "code": NOT_AUTHENTICATED}:
                    wrong.append(f"{bearer.name}: {end}")
                continue
            if answer["type"] != "ready":
                wrong.append(f"{bearer.name}: {answer}")
                continue
            own = house.mine.get(bearer.name)
            for target in (*house.targets.values(), house.private, *([own] if own else [])):
                rooms = [live.run_room(target.run)]
                if target.project is not None:
                    rooms.append(live.project_room(target.project))
                for room in rooms:
                    tried += 1
                    said = opened.ask(type=live.SUBSCRIBE, room=room)
                    if (said["type"] == "subscribed") is not hears(bearer, room, target):
                        wrong.append(f"{bearer.name}, {room} of {target.project}: {said}")
                    code = said.get("error", {}).get("code", "not_found")
                    if code not in ("not_found", "not_allowed"):
                        wrong.append(f"{bearer.name}, {room}: {said}")
    assert not wrong, "\n".join(wrong)
    assert tried > 80


def test_the_login_takes_the_right_password_alone(house: House) -> None:
    """Whatever token the request carries besides; who may not come in is not told why."""
    for name in ("member-user", "disabled", "nobody"):
        house.put(f"{rest.user(name)}/password", json={"password": PASSWORD})

    def login(user: str, password: str, token: str | None = None) -> tuple[int, str]:
        body = {"user": user, "password": password}
        answer = house.call("POST", rest.LOGIN, token, json=body)
        code = answer.json().get("code", "") if not answer.ok else ""
        return answer.status_code, code

    revoked = next(bearer.token for bearer in house.bearers if bearer.name == "revoked")
    for token in (None, revoked, house.admin):
        assert login("member-user", PASSWORD, token)[0] == 200, token
        assert login("member-user", "wrong password", token) == (401, "not_authenticated")
        assert login("disabled", PASSWORD, token) == (401, "not_authenticated")
        assert login("nobody at all", PASSWORD, token) == (401, "not_authenticated")
    token = house.post(rest.LOGIN, {"user": "nobody", "password": PASSWORD}, None)["token"]
    for project in (OURS, THEIRS):  # a login gives what its person has, and no more
        answer = house.call("GET", rest.simulation(house.targets[project].run), token)
        assert answer.status_code == 404
