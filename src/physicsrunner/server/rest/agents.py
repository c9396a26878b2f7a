"""Agents: enrolled, seen, drained, resumed, removed; and their heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, message
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.documents import RUN_ID
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest
from physicsrunner.wire.messages import Enrolled, Enrollment, Heartbeat, HeartbeatAnswer

router = APIRouter(tags=["agents"])

Reader = Annotated[Identity, Allowed("agents:read")]
Joining = Annotated[Identity, Allowed("agents:join")]
Enroller = Annotated[Identity, Allowed("agents:enroll")]
Beating = Annotated[Identity, Allowed("agents:heartbeat")]
Drainer = Annotated[Identity, Allowed("agents:drain")]
Resumer = Annotated[Identity, Allowed("agents:resume")]
Remover = Annotated[Identity, Allowed("agents:remove")]

_AGENT = f"{rest.AGENTS}/{{name}}"
_TOKEN = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"  # noqa: S105 - an example
_SHAPE = {
    "name": str,
    "state": str,
    "reason": str,
    "host": object,
    "labels": list[str],
    "resources": object,
    "slots": int,
    "active": int,
    "first_seen": float,
    "last_seen": float,
}
_EXAMPLE = {
    "name": "node-7",
    "state": "active",
    "host": {"hostname": "node-7", "cores": 16},
    "labels": ["gpu"],
    "resources": {"cpu_cores": 16, "memory_gb": 64, "gpu_count": 2, "storage_gb": 900},
    "slots": 8,
    "active": 3,
    "first_seen": 1767225600.0,
    "last_seen": 1767225630.0,
}


@dataclass(frozen=True)
class EnrollToken:
    """Asks for a one-time token by which an agent enrolls."""

    name: str | None = None  #: the only name that it is good for; None: any
    lifetime_s: float = 3600.0


@router.get(
    rest.AGENTS, summary="List agents", responses=gives({"data": [_SHAPE]}, {"data": [_EXAMPLE]})
)
async def list_agents(who: Reader, parts: Shared) -> Response:
    """List the agents: state, resources, what they carry out, when they were last heard of."""
    return answer({"data": await to_thread.run_sync(parts.services.fleet.agents, who)})


@router.post(
    rest.ENROLL,
    summary="Enroll an agent",
    openapi_extra=takes(Enrollment, {"name": "node-7", "nonce": "b1946ac92492d234"}),
    responses=gives(Enrolled, {"name": "node-7", "token": _TOKEN}),
)
async def enroll(request: Request, who: Joining, parts: Shared) -> Response:
    """
    Exchange a one-time token for the agent's own.

    The same nonce may ask again: an answer that was lost costs nothing.
    """
    wanted = await message(request, Enrollment)
    return answer(await to_thread.run_sync(parts.services.fleet.enroll, who, wanted))


@router.post(
    rest.ENROLL_TOKENS,
    status_code=201,
    summary="Make a one-time token for an agent",
    openapi_extra=takes({"name": str, "lifetime_s": float}, {"name": "node-7"}, required=False),
    responses=gives({"token": str, "expires": float}, {"token": _TOKEN}, status=201),
)
async def enroll_token(request: Request, who: Enroller, parts: Shared) -> Response:
    """Make a token by which one agent can enroll, once; without a name it may take any."""
    wanted = await message(request, EnrollToken)
    make = parts.services.fleet.enroll_token
    made = await to_thread.run_sync(make, who, wanted.name, wanted.lifetime_s)
    return answer(made if isinstance(made, dict) else {"token": made}, 201)


@router.get(_AGENT, summary="Show an agent", responses=gives(_SHAPE, _EXAMPLE))
async def show(name: str, who: Reader, parts: Shared) -> Response:
    """Show one agent, and the runs that it carries out."""
    return answer(await to_thread.run_sync(parts.services.fleet.agent, who, name))


@router.put(
    _AGENT,
    summary="Say that an agent is there",
    openapi_extra=takes(
        Heartbeat,
        {"leases": [{"run": RUN_ID, "attempt": 1}], "free": {"cpu_cores": 8}, "slots": 8},
    ),
    responses=gives(
        HeartbeatAnswer,
        {
            "renew_s": 15.0,
            "flush_s": 0.05,
            "state": "active",
            "leases": [{"run": RUN_ID, "attempt": 1, "deadline": 1767225675.0, "commands": []}],
        },
    ),
)
async def heartbeat(request: Request, name: str, who: Beating, parts: Shared) -> Response:
    """Keep all leases of an agent; the answer carries commands, fresh tokens and the rhythm."""
    beat = await message(request, Heartbeat)
    return answer(await to_thread.run_sync(parts.services.fleet.heartbeat, who, name, beat))


@router.post(
    f"{_AGENT}/drain",
    summary="Give an agent no more work",
    responses=gives(_SHAPE, {**_EXAMPLE, "state": "draining"}),
)
async def drain(name: str, who: Drainer, parts: Shared) -> Response:
    """Let it finish what it has; it is given nothing more until it is resumed."""
    return answer(await to_thread.run_sync(parts.services.fleet.drain, who, name, True))


@router.post(
    f"{_AGENT}/resume", summary="Give an agent work again", responses=gives(_SHAPE, _EXAMPLE)
)
async def resume(name: str, who: Resumer, parts: Shared) -> Response:
    """Give work again to an agent that was drained, or paused because runs failed on it."""
    return answer(await to_thread.run_sync(parts.services.fleet.resume, who, name))


@router.delete(
    _AGENT,
    summary="Remove an agent",
    responses=gives({"name": str, "removed": bool}, {"name": "node-7", "removed": True}),
)
async def remove(name: str, who: Remover, parts: Shared) -> Response:
    """Forget an agent and refuse its token. What it carries out becomes unreachable."""
    await to_thread.run_sync(parts.services.fleet.remove, who, name)
    return answer({"name": name, "removed": True})
