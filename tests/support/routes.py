"""All routes of the server, with what each declares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from physicsrunner.server.auth import Open, Permission, markers_of


@dataclass(frozen=True)
class Declared:
    """One method of one route."""

    method: str
    path: str
    permission: str | None = None  #: what it needs
    open: str | None = None  #: why it needs nothing

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def declared(routes: Iterable[Any], prefix: str = "") -> Iterator[Declared]:
    """Yield what every route of an application declares; nothing of those that declare nothing."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:  # FastAPI keeps routers that were included as they are
            more = getattr(route.include_context, "prefix", "")
            yield from declared(inner.routes, prefix + more)
            continue
        path = prefix + getattr(route, "path", "")
        markers = list(markers_of(route.dependant)) if hasattr(route, "dependant") else []
        needs = [mark.permission for mark in markers if isinstance(mark, Permission)]
        why = [mark.why for mark in markers if isinstance(mark, Open)]
        for method in sorted(getattr(route, "methods", None) or ["WEBSOCKET"]):
            if len(needs) + len(why) > 1:
                raise AssertionError(f"{method} {path} declares {needs + why}: one thing, please")
            yield Declared(method, path, *needs) if needs else Declared(method, path, None, *why)
