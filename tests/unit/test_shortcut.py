"""Which requests take the short way, and that nothing about them is different for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from physicsrunner.errors import LeaseLost, NotAuthenticated, StorageFull
from physicsrunner.server import problems
from physicsrunner.server.auth import Allowed, open_route
from physicsrunner.server.limits import Limits
from physicsrunner.server.metrics import Metrics
from physicsrunner.server.rest import leases, queue, sync
from physicsrunner.server.shortcut import Short, Shortcut, short_routes
from physicsrunner.service.identity import Identity
from physicsrunner.wire import rest

AGENT = Identity(kind="agent", subject="node-7", run=None, attempt=None)
GOOD = [(b"authorization", b"Bearer good"), (b"content-length", b"2")]


class Access:
    """Knows three tokens: an agent's, one that the store has to be asked for, a bad one."""

    def recall(self, token: str | None, _origin: str | None = None) -> Identity | None:
        if token == "good":
            return AGENT
        if token == "person":
            return replace(AGENT, kind="user", role="viewer")
        if token == "ask":
            return None
        raise NotAuthenticated("the token is not ours")


def went(
    headers: list[tuple[bytes, bytes]],
    *,
    error: Exception | None = None,
    path: str = rest.REPORTS,
    method: str = "POST",
    started: bool = True,
) -> tuple[str, int, Any, Metrics]:
    """Send one request; return the way that it took, status and value of its answer, the counts."""
    ways: list[str] = []
    sent: list[Any] = []
    metrics = Metrics()
    parts: Any = SimpleNamespace(
        services=SimpleNamespace(access=Access()), limits=Limits(json=100), metrics=metrics
    )

    async def handler(_request: Request, who: Identity, given: Any) -> Response:
        assert (who, given) == (AGENT, parts)
        ways.append("short")
        if error is not None:
            raise error
        return Response(b"[]")

    async def long_way(_scope: Any, _receive: Any, send: Any) -> None:
        ways.append("long")
        await Response(b"{}")(_scope, _receive, send)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"[]"}

    short = Short(rest.REPORTS, "reports:write", handler)
    routes = {(known, rest.REPORTS): short for known in ("GET", "POST")}
    app = Shortcut(long_way, routes, lambda: parts if started else None)
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": None}
    asyncio.run(app(scope, receive, send))
    (way,) = ways
    return way, sent[0]["status"], json.loads(sent[1]["body"]), metrics


def test_a_request_in_order_takes_the_short_way() -> None:
    """It is answered by the handler, and counted as on the long way."""
    way, status, value, metrics = went(GOOD)
    assert (way, status, value) == ("short", 200, [])
    counted = f'physicsrunner_requests_total{{method="POST",route="{rest.REPORTS}",status="200"}} 1'
    assert counted in metrics.text().decode()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [GOOD[0]],
        [GOOD[1]],
        [(b"authorization", b"Basic good"), GOOD[1]],
        [(b"authorization", b"Bearer "), GOOD[1]],
        [(b"authorization", b"Bearer bad"), GOOD[1]],
        [(b"authorization", b"Bearer ask"), GOOD[1]],
        [(b"authorization", b"Bearer person"), GOOD[1]],
        [*GOOD, GOOD[0]],
        [*GOOD, GOOD[1]],
        [GOOD[0], (b"content-length", b"101")],
        [GOOD[0], (b"content-length", b"-1")],
        [GOOD[0], (b"content-length", b"9" * 19)],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"expect", b"100-continue")],
    ],
    ids=lambda headers: ",".join(f"{name.decode()}={value.decode()}" for name, value in headers),
)
def test_what_is_not_in_order_takes_the_long_way(headers: list[tuple[bytes, bytes]]) -> None:
    """Nothing is refused on the short way: whatever may be wrong, the long way says it."""
    assert went(headers)[0] == "long"


def test_who_asks_without_a_body_need_not_say_so() -> None:
    """A GET has no length; whoever gives it one that is allowed is answered as well."""
    assert went(GOOD[:1], method="GET")[0] == "short"
    assert went(GOOD, method="GET")[0] == "short"
    assert went([*GOOD[:1], (b"transfer-encoding", b"chunked")], method="GET")[0] == "long"


def test_other_requests_take_the_long_way() -> None:
    """Another path or method, and whatever comes before the server has started."""
    assert went(GOOD, path=f"{rest.REPORTS}/")[0] == "long"
    assert went(GOOD, method="PUT")[0] == "long"
    assert went(GOOD, started=False)[0] == "long"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LeaseLost("r", 1), 409, "lease_lost"),
        (StorageFull("full"), 507, "storage_full"),
        (OSError(28, "no space"), 507, "storage_full"),
        (OSError(5, "input/output error"), 500, "error"),
        (RuntimeError("inside"), 500, "error"),
    ],
)
def test_errors_are_answered_as_on_the_long_way(error: Exception, status: int, code: str) -> None:
    """What a handler raises becomes the problem that the framework would have made of it."""
    way, answered, value, _metrics = went(GOOD, error=error)
    assert (way, answered) == ("short", status)
    assert value["code"] == code or status == 500
    assert "inside" not in json.dumps(value)


def test_each_error_that_the_application_knows_is_known_on_the_short_way() -> None:
    """The two ways are told of the same kinds of errors."""
    api = FastAPI()
    before = set(api.exception_handlers)
    problems.install(api)
    for kind in set(api.exception_handlers) - before:
        assert isinstance(kind, type)
        assert problems.handler_of(kind) is api.exception_handlers[kind]


def test_the_hot_routes_have_a_short_way_with_the_permission_they_declare() -> None:
    """What runners ask for all the time is there, under what its route declares."""
    found = {
        key: short.permission
        for key, short in short_routes([m.router for m in (sync, leases, queue)]).items()
    }
    assert found == {
        ("POST", rest.SYNC): "files:write",
        ("POST", rest.LEASES): "leases:acquire",
        ("PUT", rest.LEASES): "leases:renew",
        ("POST", rest.REPORTS): "reports:write",
        ("GET", rest.QUEUE): "queue:read",
    }


def test_a_route_without_a_permission_has_no_short_way() -> None:
    """An open route, or one that declares nothing, cannot be put there by mistake."""
    for dependencies in (
        [open_route("for a test")],
        [],
        [Allowed("runs:read"), Allowed("runs:create")],
    ):
        router = APIRouter()
        router.add_api_route("/x", lambda: None, dependencies=dependencies)
        with pytest.raises((TypeError, ValueError)):
            short_routes([router])
