"""
Many runs in one request, and how one request becomes many runs.

Two forms, which may not be mixed: ``runs`` names each run in full; ``base_request`` with
``parameter_variations`` (BatchSimulationRequest) says once what all have in common. A repeat of
either is harmless: the runs of the second form get ids that follow from the base's own id.

Pure: no run is made here.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Final

from physicsrunner.core.records import changed
from physicsrunner.core.run import NewRun, NewStudy
from physicsrunner.errors import InvalidRequest

MAX_RUNS: Final = 10_000  #: in one request
BATCH_MARKS: Final = 1_000_000  #: of it (`wire.reading`): about 30 parameters a run
MODES: Final = ("parallel", "sequential")


@dataclass(frozen=True)
class ParameterSet:
    """What one run of a batch has of its own."""

    parameters: dict[str, Any] = field(default_factory=dict)  #: in place of the base's inputs
    set_id: str | None = None  #: default: its place in the list, from 1
    weight: float | None = None  #: of a weighted run; kept with its parameters
    description: str | None = None


@dataclass(frozen=True)
class BatchRequest:
    """``POST /api/v1/simulations/batch``: many runs in one transaction."""

    runs: list[NewRun] = field(default_factory=list)
    base_request: NewRun | None = None  #: what the runs of `parameter_variations` have in common
    parameter_variations: list[ParameterSet] = field(default_factory=list)
    execution_mode: str = "parallel"  #: sequential: one run of the study at a time
    max_concurrent_runs: int | None = None  #: of the study, which is then made
    study: NewStudy | None = None  #: the runs belong to it; it is made when it is not there


@dataclass(frozen=True)
class BatchAnswer:
    """Its answer. The runs are queued, all of them or none."""

    count: int
    study: str | None = None  #: its id
    first: int | None = None  #: the lowest of their numbers
    last: int | None = None  #: the highest
    ids: list[str] = field(default_factory=list)  #: in the order of the request


def runs_of(request: BatchRequest) -> list[NewRun]:
    """Return the runs that *request* asks for, or raise `InvalidRequest`."""
    if request.execution_mode not in MODES:
        raise InvalidRequest(
            f"execution_mode {request.execution_mode!r}: it is one of {', '.join(MODES)}"
        )
    if (request.base_request is None) == (not request.runs):
        raise InvalidRequest("a batch has either runs, or base_request with parameter_variations")
    found = request.runs if request.base_request is None else _variations(request)
    if not found:
        raise InvalidRequest("parameter_variations is empty: there is no run in this batch")
    if len(found) > MAX_RUNS:
        raise InvalidRequest(
            f"{len(found)} runs in one request: at most {MAX_RUNS}; send them in several"
        )
    return found


def study_of(request: BatchRequest) -> NewStudy | None:
    """Return the study that the runs belong to; None: to none."""
    limit = 1 if request.execution_mode == "sequential" else request.max_concurrent_runs
    if limit is not None and limit < 1:
        raise InvalidRequest(f"max_concurrent_runs {limit}: it is 1 or more")
    if limit is None:
        return request.study
    if request.study is not None:
        return replace(request.study, max_concurrent_runs=limit)
    first = request.base_request or request.runs[0]
    key = None if first.id is None else str(uuid.uuid5(_namespace(first.id), "study"))
    return NewStudy(first.name or "batch", key, first.project_id, limit)


def _variations(request: BatchRequest) -> list[NewRun]:
    base = request.base_request
    assert base is not None  # noqa: S101 - asked by the caller
    space = None if base.id is None else _namespace(base.id).bytes
    inputs = base.parameters.get("inputs") or {}
    if not isinstance(inputs, dict):
        raise InvalidRequest("base_request.parameters.inputs is an object of values, by name")
    found = []
    for number, one in enumerate(request.parameter_variations, 1):
        name = str(number) if one.set_id is None else one.set_id
        parameters = {**base.parameters, "inputs": {**inputs, **one.parameters}, "set_id": name}
        if one.weight is not None:
            parameters["weight"] = one.weight
        found.append(
            changed(
                base,
                id=None if space is None else _id_in(space, name),
                name=None if base.name is None else f"{base.name} {name}",
                description=one.description or base.description,
                parameters=parameters,
            )
        )
    return found


def _namespace(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidRequest(f"id {text[:60]!r}: a run's id is a UUID") from None


def _id_in(space: bytes, name: str) -> str:
    """Return ``uuid5(space, name)`` as text: a third of the time for each of thousands."""
    raw = name.encode("utf-8", "surrogatepass")
    digest = hashlib.sha1(space + raw, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
