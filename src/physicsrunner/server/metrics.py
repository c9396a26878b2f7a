"""
What the server counts, for Prometheus.

Promises: a registry of its own for each server (two in one process do not mix); a path stands in a
label by its route, never by its ids, so that the number of series is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "physicsrunner_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "physicsrunner_request_seconds",
            "Time to answer, without streamed bodies still to be sent.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.sync_bytes = Counter(
            "physicsrunner_sync_bytes",
            "Bytes of sync frames, as they came over the line.",
            registry=self.registry,
        )
        self.sync_operations = Counter(
            "physicsrunner_sync_operations", "Operations of sync frames.", registry=self.registry
        )
        self.events = Counter(
            "physicsrunner_events", "Events of the live feed.", ("type",), registry=self.registry
        )
        self.viewers = Gauge(
            "physicsrunner_viewers", "Connected viewers and agents.", registry=self.registry
        )
        self.dropped = Counter(
            "physicsrunner_viewers_dropped",
            "Viewers dropped because they did not read.",
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """Count a request that came at *began*, by the performance counter."""
        self.requests.labels(method, route, status).inc()
        self.seconds.labels(route).observe(time.perf_counter() - began)

    def text(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts requests by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics, doors: Sequence[str] = ()) -> None:
        self.app = app
        self.metrics = metrics
        self.doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answered(scope["method"], self._route(scope), message["status"], began)
            await send(message)

        await self.app(scope, receive, noted)

    def _route(self, scope: Scope) -> str:
        """Return the path of the route as it is declared, with that of its door in front."""
        path = getattr(scope.get("route"), "path", None)
        if path is None:
            return "(none)"
        # A route that was included below a prefix does not know of it.
        door = scope["path"].split("/", 2)[1]
        return f"/{door}{path}" if door in self.doors else str(path)
