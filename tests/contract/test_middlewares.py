"""The guards in real Flask, FastAPI and Starlette applications, and before a plain function."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from physicsrunner.core.run import NewRun
from physicsrunner.errors import NotAllowed, NotAuthenticated, UsageError
from physicsrunner.middlewares import auth_guard, configure, permission_guard
from physicsrunner.middlewares.verify import _CONFIGURED
from tests.contract.rest_server import RestServer, rest_server

Ask = Callable[[str, "str | None"], tuple[int, str]]
ROLES = {"user": ["resource:read"], "operator": ["resource:*"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """A server that knows whose token it is."""
    with rest_server(tmp_path_factory.mktemp("data")) as running:
        running.session.get(running.url + "/health")
        for role in ("viewer", "user", "operator"):
            running.services.access.user_token(f"the-{role}", role)
        running.value("GET", "/api/v1/whoami")
        yield running


@pytest.fixture(params=["key", "server"])
def configured(request: pytest.FixtureRequest, server: RestServer) -> Iterator[RestServer]:
    """The guards configured in both ways."""
    if request.param == "key":
        configure(key_file=server.services.data / "secret.key", roles=ROLES)
    else:
        configure(server=server.url, roles=ROLES, remember_s=0.0)
    yield server
    _CONFIGURED.clear()


def flask_app() -> Ask:
    """The seed's views in Flask, with and without the request as an argument."""
    app = flask.Flask("users")

    @app.get("/who")
    @auth_guard
    def protected_route(request: Any) -> str:
        assert flask.g.current_user is request.current_user
        return str(request.current_user.name)

    @app.get("/write/<int:number>")
    @permission_guard("resource:write")
    def admin_route(number: int) -> str:
        return f"{flask.g.current_user.name} {number}"

    @app.get("/async")
    @auth_guard()
    def plain() -> str:
        return str(flask.g.current_user.name)

    def ask(path: str, token: str | None) -> tuple[int, str]:
        with app.test_client() as client:
            answer = client.get(path, headers=_headers(token))
        if answer.status_code >= 400:
            assert answer.content_type == "application/problem+json"
        return answer.status_code, answer.text

    return ask


def fastapi_app() -> Ask:
    """The same in FastAPI: sync and async, with and without the request as an argument."""
    app = FastAPI()

    @app.get("/who")
    @auth_guard
    def protected_route(request):  # type: ignore[no-untyped-def]  # as the seed writes it
        assert request.state.current_user is request.current_user
        return PlainTextResponse(request.current_user.name)

    @app.get("/write/{number}")
    @permission_guard("resource:write")
    def admin_route(number: int, http: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{http.state.current_user.name} {number}")

    @app.get("/async")
    @auth_guard
    async def without_request(word: str = "the-user") -> PlainTextResponse:
        return PlainTextResponse(word)

    return _asking(app)


def starlette_app() -> Ask:
    """The same in Starlette."""

    @auth_guard
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.current_user.name)

    @permission_guard("resource:write")
    def write(request: Request) -> PlainTextResponse:
        name, number = request.state.current_user.name, request.path_params["number"]
        return PlainTextResponse(f"{name} {number}")

    return _asking(
        Starlette(
            routes=[Route("/who", who), Route("/async", who), Route("/write/{number}", write)]
        )
    )


def _asking(app: Any) -> Ask:
    def ask(path: str, token: str | None) -> tuple[int, str]:
        status, headers, body = asyncio.run(_get(app, path, _headers(token)))
        if status >= 400:
            assert headers[b"content-type"] == b"application/problem+json"
        return status, body.decode()

    return ask


async def _get(
    app: Any, path: str, headers: dict[str, str]
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Make one request as an ASGI server makes it."""
    said: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in said[1:])
    return said[0]["status"], dict(said[0]["headers"]), body


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("make", [flask_app, fastapi_app, starlette_app])
def test_only_who_may_gets_in(make: Callable[[], Ask], configured: RestServer) -> None:
    """No token and a wrong one are 401, a role without the permission 403, others are served."""
    ask, token = make(), configured.services.access.user_token
    user, operator = token("the-user", "user"), token("the-operator", "operator")
    assert ask("/who", None)[0] == 401
    assert ask("/who", "no.such.token")[0] == 401
    assert ask("/who", user) == (200, "the-user")
    assert ask("/async", None)[0] == 401
    assert ask("/async", user) == (200, "the-user")
    assert ask("/write/7", None)[0] == 401
    assert ask("/write/7", user)[0] == 403
    assert ask("/write/7", operator) == (200, "the-operator 7")
    assert ask("/write/7", configured.admin) == (200, "admin 7")
    expired = token("the-user", "user", lifetime_s=0.001)
    late = time.time() + 60
    if _CONFIGURED[0].look_up.__name__ == "look_up":
        configure(key_file=configured.services.data / "secret.key", now=lambda: late)
        assert ask("/who", expired)[0] == 401


def test_a_confined_token_has_no_permissions_of_the_application(configured: RestServer) -> None:
    """A token that is confined to permissions of the server gives none of others."""
    access = configured.services.access
    admin = access.authenticate(configured.admin)
    confined = access.tokens.create(admin, "reads", scopes=["runs:read"]).token
    ask = flask_app()
    assert ask("/who", confined) == (200, "admin")
    assert ask("/write/7", confined)[0] == 403


def test_the_server_knows_what_was_revoked(server: RestServer) -> None:
    """A token that was revoked is refused, once the remembered answer is too old."""
    clock = SimpleNamespace(time=1000.0)
    configure(server=server.url, remember_s=10, now=lambda: clock.time)
    access = server.services.access
    admin = access.authenticate(server.admin)
    made = access.tokens.create(admin, "short-lived")
    ask = flask_app()
    assert ask("/who", made.token) == (200, "admin")
    access.tokens.revoke(admin, made.id)
    assert ask("/who", made.token)[0] == 200
    clock.time += 11
    assert ask("/who", made.token)[0] == 401
    _CONFIGURED.clear()


@dataclass
class PlainRequest:
    """What a framework that is not known here may hand over."""

    headers: dict[str, str] = field(default_factory=dict)
    current_user: Any = None


def test_other_frameworks_get_the_error(configured: RestServer) -> None:
    """Where no framework is known, the guard raises what is wrong."""

    @permission_guard("runs:delete", "resource:write")
    def view(request: PlainRequest) -> str:
        return str(request.current_user.name)

    token = configured.services.access.user_token
    assert view(PlainRequest(_headers(configured.admin))) == "admin"
    assert view(PlainRequest({"auth-token": configured.admin})) == "admin"
    with pytest.raises(NotAuthenticated):
        view(PlainRequest())
    with pytest.raises(NotAllowed):
        view(PlainRequest(_headers(token("the-viewer", "viewer"))))


def test_a_guard_that_was_not_configured_lets_nobody_in(tmp_path: Path) -> None:
    """Without `configure` nobody gets in, and what is configured wrongly is refused."""
    _CONFIGURED.clear()
    assert flask_app()("/who", "x.y.z")[0] == 400
    for wrong in ({}, {"key": "short"}, {"key": "k" * 32, "server": "http://x"}):
        with pytest.raises(UsageError):
            configure(**wrong)  # type: ignore[arg-type]  # wrong on purpose
    for wrong_name in ("", "resource", ":", "resource:"):
        with pytest.raises(UsageError):
            permission_guard(wrong_name)


def test_a_machine_is_never_taken_for_a_person(configured: RestServer) -> None:
    """Somebody may call a machine as they like: an application does not see it as that user."""
    access, ask = configured.services.access, starlette_app()
    owner = access.authenticate(access.user_token("owner", "user"))
    _, grant = configured.services.runs.claim(owner, NewRun(), "the-user")
    for token in (grant.token, access.agent_token("the-user")):
        assert ask("/who", token) == (200, "agent:the-user")
        assert ask("/write/7", token)[0] == 403
