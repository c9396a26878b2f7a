"""Agents: enrolled, seen, drained, resumed, removed; and their heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer, exchanged, message
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.server.rest.access import limited
from physicsrunner.server.rest.documents import AGENT, RUN_ID
from physicsrunner.service.access import Identity
from physicsrunner.service.fleet import ENROLL_S, AgentInfo
from physicsrunner.service.names import agent_name
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


@dataclass(frozen=True)
class EnrollToken:
    """Asks for a one-time token by which an agent enrolls."""

    name: str | None = None  #: the only name that it is good for; None: any
    lifetime_s: float = ENROLL_S


@router.get(
    rest.AGENTS,
    summary="List agents",
    responses=gives({"data": list[AgentInfo]}, {"data": [AGENT]}),
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
    wanted = await limited(request, EnrollToken)
    if wanted.name is not None:
        agent_name(wanted.name)  # an empty one must not be taken for any
    make = parts.services.fleet.enroll_token
    return answer(await to_thread.run_sync(make, who, wanted.name, wanted.lifetime_s), 201)


@router.get(_AGENT, summary="Show an agent", responses=gives(AgentInfo, AGENT))
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
    return await exchanged(request, Heartbeat, partial(parts.services.fleet.heartbeat, who, name))


@router.post(
    f"{_AGENT}/drain",
    summary="Give an agent no more work",
    responses=gives(AgentInfo, {**AGENT, "state": "draining"}),
)
async def drain(name: str, who: Drainer, parts: Shared) -> Response:
    """Let it finish what it has; it is given nothing more until it is resumed."""
    return answer(await to_thread.run_sync(parts.services.fleet.drain, who, name, True))


@router.post(
    f"{_AGENT}/resume", summary="Give an agent work again", responses=gives(AgentInfo, AGENT)
)
async def resume(name: str, who: Resumer, parts: Shared) -> Response:
    """Give work again to an agent that was drained, or paused because runs failed on it."""
    return answer(await to_thread.run_sync(parts.services.fleet.resume, who, name))


@router.delete(
    _AGENT,
    summary="Remove an agent",
    responses=gives(AgentInfo, AGENT),
)
async def remove(
    name: str,
    who: Remover,
    parts: Shared,
    force: Annotated[bool, Query(description="Although it holds runs: they are lost")] = False,
) -> Response:
    """
    Forget an agent and take its token back.

    One that carries out runs answers 409 ``conflict``; with ``force`` another agent gets those of
    its runs that may be tried again, and the others have failed.
    """
    drop = parts.services.fleet.remove
    return answer(await to_thread.run_sync(lambda: drop(who, name, force=force)))
