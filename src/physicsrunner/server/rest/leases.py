"""What agents and runners say of their attempts: leases and reports."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response

from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import exchanged
from physicsrunner.server.openapi import gives, takes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest
from physicsrunner.wire.messages import (
    LeaseGrant,
    LeaseRequest,
    RenewalAnswer,
    Renewals,
    ReportAnswer,
    Reports,
)

router = APIRouter(tags=["runners"])

Acquirer = Annotated[Identity, Allowed("leases:acquire")]
Renewer = Annotated[Identity, Allowed("leases:renew")]
Reporter = Annotated[Identity, Allowed("reports:write")]

_RUN = "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77"
GRANT_EXAMPLE = {
    "run": _RUN,
    "attempt": 1,
    "number": 17,
    "name": "cavity at Re 100",
    "deadline": 1767225660.0,
    "renew_s": 15.0,
    "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
    "bundle": {
        "model": "5c1f2e0a-7f0e-4a4e-9a53-3a1f5b0c2d11",
        "version": "9f2c" + "0" * 60,
        "size": 4096,
        "sha256": "ab12" + "0" * 60,
        "url": "/api/v1/models/5c1f2e0a-7f0e-4a4e-9a53-3a1f5b0c2d11/versions/9f2c/bundle",
    },
    "inputs": [],
    "parameters": {"inputs": {"reynolds": 100}},
    "environment": {},
    "limits": {"time_s": 3600.0, "stop_grace_s": 10.0},
}


@router.post(
    rest.LEASES,
    summary="Ask for work",
    openapi_extra=takes(
        LeaseRequest, {"agent": "node-7", "free": {"cpu_cores": 8, "memory_gb": 32}, "max": 1}
    ),
    responses=gives(list[LeaseGrant], [GRANT_EXAMPLE]),
)
async def acquire(request: Request, who: Acquirer, parts: Shared) -> Response:
    """Lease at most ``max`` runs that fit; an empty list when there is no work."""
    leases = parts.services.leases
    return await exchanged(request, LeaseRequest, partial(leases.acquire, who))


@router.put(
    rest.LEASES,
    summary="Keep leases",
    openapi_extra=takes(Renewals, {"agent": "node-7", "leases": [{"run": _RUN, "attempt": 1}]}),
    responses=gives(
        list[RenewalAnswer],
        [{"run": _RUN, "attempt": 1, "deadline": 1767225675.0, "renew_s": 15.0, "commands": []}],
    ),
)
async def renew(request: Request, who: Renewer, parts: Shared) -> Response:
    """Renew many leases; each is answered with its deadline, commands, a token where due."""
    return await exchanged(request, Renewals, partial(parts.services.leases.renew, who))


@router.post(
    rest.REPORTS,
    summary="Report what became of attempts",
    openapi_extra=takes(
        Reports,
        {"reports": [{"run": _RUN, "attempt": 1, "state": "running", "progress": 42.0}]},
    ),
    responses=gives(list[ReportAnswer], [{"run": _RUN, "attempt": 1, "state": "running"}]),
)
async def report(request: Request, who: Reporter, parts: Shared) -> Response:
    """Take state, stage, progress and results of many attempts; one answer for each."""
    leases = parts.services.leases
    return await exchanged(request, Reports, lambda said: leases.report(who, said.reports))
