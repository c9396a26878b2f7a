"""
The calls of the architech door: decode, one call into a service, encode.

Promises: every route says which permission it needs; what waits for the design service holds no
thread that anybody else needs. The service's parts, the mapping among them, are read when the
server starts, and what is wrong with them is said then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.core.run import RunFilter
from physicsrunner.errors import InvalidRequest, TooLarge
from physicsrunner.server.auth import open_route
from physicsrunner.server.bodies import json_of, plain_answer
from physicsrunner.server.doors import local, words
from physicsrunner.server.doors.architech.clients import Clients, in_words
from physicsrunner.server.doors.architech.documents import is_stopped, simulation_run, status
from physicsrunner.server.doors.architech.sockets import ClientSockets
from physicsrunner.server.doors.routing import Caller, allowed
from physicsrunner.server.live import MAX_MESSAGE
from physicsrunner.service.design_mapping import DesignMapping
from physicsrunner.service.design_runs import DOOR, DesignRuns, Start
from physicsrunner.service.designs import DesignService
from physicsrunner.service.identity import Identity
from physicsrunner.service.mapping_file import read_mapping
from physicsrunner.service.messages import SEND, MessageService
from physicsrunner.service.services import Services

BASE: Final = "/api/v1"
SIMULATIONS: Final = f"{BASE}/simulations"
ONE: Final = f"{SIMULATIONS}/{{simulation_id}}"
TOTAL: Final = "X-Total-Count"  #: how many runs a list has in all
KEY: Final = "Idempotency-Key"
_STARTING: Final = 32  # starts that wait for the design service at once


def router(services: Services) -> APIRouter:
    """Return the routes of this door, to be included below ``/architech``."""
    clients = Clients()
    calls = _Calls(services)
    routes = APIRouter()
    identified = local.caller(services)

    def add(path: str, call: Callable[..., Any], method: str, permission: str) -> None:
        guard = allowed(permission, identified)
        routes.add_api_route(path, call, methods=[method], dependencies=[guard])

    add(f"{SIMULATIONS}/start", calls.start, "POST", "runs:create")
    add(SIMULATIONS, calls.list, "GET", "runs:read")
    add(ONE, calls.show, "GET", "runs:read")
    add(f"{ONE}/status", calls.status, "GET", "runs:read")
    add(f"{ONE}/stop", calls.stop, "POST", "runs:cancel")
    add(f"{ONE}/pause", calls.pause, "POST", "runs:pause")
    add(f"{ONE}/resume", calls.resume, "POST", "runs:resume")
    add(f"{BASE}/messages", _Messages(services, clients).send, "POST", SEND)
    routes.add_api_websocket_route(
        "/ws/{client_id}",
        ClientSockets(services, clients).serve,
        dependencies=[open_route("a header, its address or its first message brings the token")],
    )
    return routes


def _runs(services: Services) -> DesignRuns:
    options = services.options
    designs = None
    if options.architech_design_url is not None:
        designs = DesignService(
            options.architech_design_url,
            now=time.monotonic,
            sleep=time.sleep,
            random=random.random,
        )
    file = options.architech_mapping
    mapping = DesignMapping() if file is None else read_mapping(file)
    packaged, model = services.packaged, options.architech_model
    return DesignRuns(services.runs, packaged, designs, mapping, model)


class _Calls:
    """The calls about simulations. Handlers without ``async`` run in the thread pool."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._runs = _runs(services)
        self._starting: CapacityLimiter | None = None

    async def start(self, request: Request, who: Caller) -> Response:
        """Fetch a design and start a run of it."""
        wanted = _start(await json_of(request), request.headers.get(KEY))
        if self._starting is None:
            self._starting = CapacityLimiter(_STARTING)
        run = await to_thread.run_sync(self._runs.start, who, wanted, limiter=self._starting)
        return plain_answer(simulation_run(run))

    def list(
        self,
        who: Caller,
        user_id: str | None = None,
        project_id: str | None = None,
        status: Annotated[list[str] | None, Query()] = None,
        limit: int = 50,
        offset: int = 0,
        all: bool = False,
    ) -> Response:
        """List the runs that came by this door, the newest first."""
        asked_for = [word for text in status or [] for word in text.upper().split(",") if word]
        wanted = RunFilter(
            status=words.states_of(DOOR, asked_for),
            project_id=project_id,
            limit=limit,
            offset=offset,
        )
        page = self._runs.page(who, wanted, user_id, every=all)
        answer = plain_answer([simulation_run(run) for run in page.runs])
        answer.headers[TOTAL] = str(page.total)
        return answer

    def show(self, simulation_id: str, who: Caller) -> Response:
        """Show one run."""
        return plain_answer(simulation_run(self._services.runs.get(who, simulation_id)))

    def status(self, simulation_id: str, who: Caller) -> Response:
        """Show where a run stands."""
        run = self._services.runs.get(who, simulation_id)
        return plain_answer(status(run, self._services.runs.reason(run)))

    def stop(self, simulation_id: str, who: Caller) -> Response:
        """Ask for a run to be stopped; false: it had ended before."""
        return plain_answer(is_stopped(self._services.runs.cancel(who, simulation_id)))

    def pause(self, simulation_id: str, who: Caller) -> Response:
        """Ask for a run to be paused."""
        self._services.runs.pause(who, simulation_id)
        return plain_answer(True)

    def resume(self, simulation_id: str, who: Caller) -> Response:
        """Let a run go on."""
        self._services.runs.resume(who, simulation_id)
        return plain_answer(True)


class _Messages:
    """What people have said to those who are connected."""

    def __init__(self, services: Services, clients: Clients) -> None:
        self._messages = MessageService(services.access, services.runs)
        self._clients = clients

    async def send(self, request: Request, who: Caller) -> Response:
        """Send a message to a client, to all who hear of a run, or to everybody connected."""
        body = _object(await json_of(request))
        client, run = (_text(body, key) for key in ("client_id", "simulation_id"))
        if client is not None and run is not None:
            raise InvalidRequest("name a client_id or a simulation_id, not both")
        if run is not None:
            run = await to_thread.run_sync(self._messages.about, who, run)
            text = _message(body, who, "simulation", simulation_id=run)
            count = await self._clients.send_about(run, text)
        elif client is not None:
            text = _message(body, who, "personal", client_id=client)
            count = await self._clients.send_to(
                client, text, lambda other: self._messages.to_person(who, other)
            )
        else:
            self._messages.to_all(who)
            count = await self._clients.send_to_all(_message(body, who, "broadcast"))
        return plain_answer({"sent": count})


def _message(body: dict[str, Any], who: Identity, scope: str, **to: str) -> str:
    if "message" not in body:
        raise InvalidRequest("message is missing: a text, or any JSON value")
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    said = {"type": "message", "scope": scope, **to, "from": who.subject, "time": now}
    text = in_words({**said, "message": body["message"]})
    if len(text) > MAX_MESSAGE:
        raise TooLarge(f"a message is at most {MAX_MESSAGE} characters long")
    return text


def _start(value: Any, key: str | None) -> Start:
    body = _object(value)
    design, user, project, run = (
        _text(body, name) for name in ("design_id", "user_id", "project_id", "id")
    )
    if design is None or user is None:
        raise InvalidRequest(f"{'design_id' if design is None else 'user_id'} is missing")
    return Start(design, user, project, run, key)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object")
    return value


def _text(body: dict[str, Any], name: str) -> str | None:
    found = body.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidRequest(f"{name} is a text")
    return found
