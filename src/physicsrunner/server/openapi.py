"""
The description of the REST API: our messages as schemas, an example at every route.

Promises: what stands under ``components.schemas`` is made from the dataclasses themselves, so it
cannot say anything else than the code; nothing on /docs comes from another machine.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from physicsrunner.core.run import RunSummary
from physicsrunner.errors import NotFound
from physicsrunner.wire import messages
from physicsrunner.wire.live import Event

_REF: Final = "#/components/schemas/{model}"
#: Name -> message: those of the wire, and whatever a route names besides.
_DESCRIBED: Final[dict[str, type]] = {
    value.__name__: value
    for value in (*vars(messages).values(), RunSummary, Event)
    if isinstance(value, type) and is_dataclass(value)
}
PROBLEM: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "type": "object",
    "description": "Every error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "retryable", "what_to_do"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable; docs/errors.md lists all."},
        "retryable": {"type": "boolean"},
        "what_to_do": {"type": "string"},
    },
}
_PROBLEM_EXAMPLE: Final = {
    "type": "urn:physicsrunner:error:not_found",
    "title": "There is no such thing, or it is not visible to the caller",
    "status": 404,
    "detail": "there is no run 17",
    "code": "not_found",
    "retryable": False,
    "what_to_do": NotFound.what_to_do,
}

TAGS: Final = (
    {"name": "simulations", "description": "Runs: create, watch, read, cancel, pause, retry."},
    {"name": "queue", "description": "What waits, and for what; studies."},
    {"name": "agents", "description": "The machines that carry runs out."},
    {"name": "files", "description": "Artifacts and logs of runs; inputs."},
    {"name": "models", "description": "Versioned, immutable bundles with a main.py."},
    {"name": "runners", "description": "What agents and runners call: leases, reports, the sync."},
    {"name": "access", "description": "Tokens."},
    {"name": "server", "description": "The server itself."},
)


@dataclass(frozen=True)
class Also:
    """A message with more fields than its own."""

    kind: type
    fields: Mapping[str, Any]


def also(kind: type, **fields: Any) -> Also:
    """Return *kind* with more *fields*, for a description."""
    return Also(kind, fields)


def schema(kind: Any) -> dict[str, Any]:
    """Return the schema of *kind*: a reference for a message, else a small schema of its own."""
    if isinstance(kind, Mapping):
        return {
            "type": "object",
            "properties": {name: schema(item) for name, item in kind.items()},
        }
    if isinstance(kind, list):
        return {"type": "array", "items": schema(kind[0])}
    if isinstance(kind, Also):
        return {"allOf": [schema(kind.kind), schema(kind.fields)]}
    if get_origin(kind) is list:
        return {"type": "array", "items": schema(get_args(kind)[0])}
    if isinstance(kind, type) and is_dataclass(kind):
        known = _DESCRIBED.setdefault(kind.__name__, kind)
        if known is not kind:
            raise ValueError(f"{known} and {kind} would have one name in the description")
        return {"$ref": _REF.format(model=kind.__name__)}
    if isinstance(kind, (type, types.UnionType)):
        return dict(_simple(kind))
    return {}


@cache
def _simple(kind: Any) -> dict[str, Any]:
    """Return the schema of a type without fields. Few are asked for, by many routes."""
    return TypeAdapter(kind).json_schema()


def takes(
    kind: Any, example: Any = None, media: str = "application/json", required: bool = True
) -> dict[str, Any]:
    """Return ``openapi_extra`` of a route whose body is *kind*."""
    content: dict[str, Any] = {"schema": schema(kind)}
    if kind is bytes:
        content["schema"] = {"type": "string", "format": "binary"}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": required, "content": {media: content}}}


def gives(
    kind: Any, example: Any = None, *, status: int = 200, text: str = "Success", **also: str
) -> dict[int | str, dict[str, Any]]:
    """Return ``responses`` of a route that answers with *kind* as JSON."""
    content: dict[str, Any] = {"schema": schema(kind)}
    if example is not None:
        content["example"] = example
    return {
        status: {"description": text, "content": {"application/json": content}},
        **_problems(),
        **{name.lstrip("_"): {"description": value} for name, value in also.items()},
    }


def gives_bytes(
    media: str = "application/octet-stream", text: str = "The bytes", example: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return ``responses`` of a route that answers with a file or a text."""
    binary = media not in ("text/plain", "text/html")
    content: dict[str, Any] = {
        "schema": {"type": "string", **({"format": "binary"} if binary else {})}
    }
    if example is not None:
        content["example"] = example
    return {200: {"description": text, "content": {media: content}}, **_problems()}


def install(app: FastAPI) -> None:
    """Make *app* describe itself with our schemas."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=list(TAGS),
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_schemas())
            _without_validation_errors(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way


def _problems() -> dict[int | str, dict[str, Any]]:
    problem = {"schema": {"$ref": _REF.format(model="Problem")}, "example": _PROBLEM_EXAMPLE}
    return {
        "default": {
            "description": "A problem",
            "content": {"application/problem+json": problem},
        }
    }


def _without_validation_errors(document: dict[str, Any]) -> None:
    """Drop FastAPI's own 422: what is not valid is answered as a problem, like every error."""
    for item in document.get("paths", {}).values():
        for operation in item.values():
            operation.get("responses", {}).pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _schemas() -> dict[str, Any]:
    adapters: list[tuple[str, Literal["validation"], TypeAdapter[Any]]] = [
        (name, "validation", TypeAdapter(kind)) for name, kind in _DESCRIBED.items()
    ]
    _, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    found: dict[str, Any] = dict(definitions.get("$defs", {}))
    return {**found, "Problem": dict(PROBLEM)}
