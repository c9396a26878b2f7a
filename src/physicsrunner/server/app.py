"""
The one place that puts the server's parts together.

Promises: `create_app` gives one ASGI application with all doors: REST, socket.io, foreign wires;
its lifespan starts the live feed and the clock and ends them. Here, and nowhere below, the time is
read. It opens no socket and no file: `serve` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import socketio
from anyio import to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

import physicsrunner
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.events.base import needs_nats
from physicsrunner.server import openapi, problems
from physicsrunner.server.auth import open_route
from physicsrunner.server.doors.cors import DoorCors
from physicsrunner.server.hub import Hub
from physicsrunner.server.jetstream import Jetstream
from physicsrunner.server.limits import BodyLimits, Limits
from physicsrunner.server.live import Live
from physicsrunner.server.metrics import Measured, Metrics
from physicsrunner.server.parts import Parts
from physicsrunner.server.ratelimit import RateLimit
from physicsrunner.server.rest import (
    access,
    agents,
    artifacts,
    attempts,
    audit,
    batch,
    events,
    leases,
    logs,
    models,
    projects,
    queue,
    requests,
    server,
    simulations,
    sync,
    tokens,
    uploads,
    users,
    webhooks,
)
from physicsrunner.server.rooms import Rooms
from physicsrunner.server.shortcut import Shortcut, short_routes
from physicsrunner.server.webhooks import Webhooks
from physicsrunner.server.ws import Sockets
from physicsrunner.service.services import Services
from physicsrunner.wire.live import SOCKETIO_PATH, WEBSOCKET_PATH

CLOCK_S: Final = 1.0  #: between two looks at overdue leases
TIDY_S: Final = 30.0  #: between two looks for runs that are too old
LAST_BODIES_S: Final = 3.0  #: for cut bodies to write what they have

_LOG = logging.getLogger(__name__)
# A request is compared with one route after the other: what runners ask for all the time is first.
_ROUTERS: Final = (
    sync,
    leases,
    queue,
    batch,
    simulations,
    requests,
    agents,
    artifacts,
    logs,
    models,
    uploads,
    attempts,
    access,
    tokens,
    users,
    projects,
    audit,
    events,
    webhooks,
    server,
)
#: Of these so much is asked that they have a way of their own.
_SHORT: Final = (sync, leases, queue)
#: Where the doors of other systems' clients are. Each has a ``router(services)``, or a
#: ``lifespan(parts)`` for what is no HTTP or goes on between requests, or both.
_DOORS: Final = "physicsrunner.server.doors"


class Application:
    """The ASGI application of one server, and how to ask it to end."""

    def __init__(
        self,
        services: Services,
        *,
        limits: Limits | None = None,
        sockets: Mapping[str, socket.socket] | None = None,
    ) -> None:
        if services.options.nats:
            needs_nats("the setting nats")  # now, and not when the first event is to be told
        if services.options.door_user is not None and services.options.local_user is None:
            _LOG.warning(
                "door_user does not count: trusted_proxies names a proxy, and what comes through "
                "one looks like a program of this machine; every caller of a door needs a token"
            )
        self._services = services
        self._limits = limits or Limits()
        self._bound = sockets or {}
        self._hub: Hub | None = None
        self._parts: Parts | None = None  # made when it starts
        self._doors = {
            name: importlib.import_module(f"{_DOORS}.{name}") for name in services.options.doors
        }
        self.metrics = Metrics()
        self._rooms = Rooms(services.access, services.events, self.metrics)
        self._live = Live(services.access, self._rooms)
        self._sockets = Sockets(services.access, self._rooms)
        self.api = self._api()
        doors = socketio.ASGIApp(
            self._live.server, self.api, socketio_path=SOCKETIO_PATH.strip("/")
        )
        short = short_routes(module.router for module in _SHORT)
        self.asgi: ASGIApp = Shortcut(doors, short, lambda: self._parts)

    async def begin_stopping(self) -> None:
        """Wake and send away all who wait: followers and viewers. Requests go on."""
        if self._hub is None or self._hub.closed:
            return
        self._hub.close()
        await self._rooms.close()
        await self._sockets.close()
        await self._live.close()

    def _api(self) -> FastAPI:
        api = FastAPI(
            title="physicsrunner",
            version=getattr(physicsrunner, "__version__", "0"),
            description="Give it a main.py. It runs it anywhere, shows it live, loses nothing.",
            openapi_url=None,  # a route of ours, which declares that it is open
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
            swagger_ui_oauth2_redirect_url=None,
        )
        for module in _ROUTERS:
            api.include_router(module.router)
        for name, door in self._doors.items():
            if hasattr(door, "router"):
                routes = door.router(self._services)
                api.include_router(routes, prefix=f"/{name}", tags=["doors"])
        api.add_api_websocket_route(
            WEBSOCKET_PATH,
            self._sockets.serve,
            dependencies=[open_route("its first message brings the token")],
        )
        problems.install(api)
        openapi.install(api)
        api.add_middleware(BodyLimits, limits=self._limits)
        pages = self._services.options.cors_origins
        if pages:
            api.add_middleware(DoorCors, origins=pages, doors=tuple(self._doors))
        api.add_middleware(Measured, metrics=self.metrics, doors=tuple(self._doors))
        return api

    @contextlib.asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        hub = Hub(asyncio.get_running_loop())
        logins = RateLimit(time.monotonic)
        parts = Parts(
            self._services, hub, self._rooms, self._limits, self.metrics, logins, self._bound
        )
        api.state.parts = self._parts = parts
        self._hub = hub
        self._rooms.attach(hub)
        carriers = self._carriers(hub)
        unsubscribe = self._services.feed.subscribe(hub.publish)
        tasks = [
            asyncio.create_task(self._rooms.run()),
            asyncio.create_task(self._clock()),
            asyncio.create_task(self._tidy()),
            *carriers,
        ]
        try:
            async with contextlib.AsyncExitStack() as stack:
                for door in self._doors.values():
                    if hasattr(door, "lifespan"):
                        await stack.enter_async_context(door.lifespan(parts))
                yield
        finally:
            await self.begin_stopping()
            unsubscribe()
            if not await to_thread.run_sync(parts.bodies.wait, LAST_BODIES_S):
                _LOG.warning("a body was still open at the end; its sender will go on later")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _carriers(self, hub: Hub) -> list[asyncio.Task[None]]:
        """Start what brings the log to others: webhooks, and NATS where it is named."""
        outbox = self._services.outbox
        carriers: list[Webhooks | Jetstream] = [Webhooks(outbox)]
        if self._services.options.nats:
            carriers.append(Jetstream(outbox, self._services.options.nats))
        for carrier in carriers:
            hub.listen(carrier.take, lambda _event: False)
        return [asyncio.create_task(carrier.run()) for carrier in carriers]

    async def _tidy(self) -> None:
        """Remove what retention no longer keeps, a little at a time, until cancelled."""
        wait_s = CLOCK_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                step = await to_thread.run_sync(self._services.retention.step, time.time())
                wait_s = CLOCK_S if step.more else TIDY_S
            except PhysicsRunnerError as error:  # the database is away, or full
                wait_s = TIDY_S
                _LOG.warning("old runs could not be removed: %s", error)
            except Exception:
                wait_s = TIDY_S
                _LOG.exception("removing old runs failed; it is tried again")

    async def _clock(self) -> None:
        """Look for overdue leases until cancelled."""
        while True:
            await asyncio.sleep(CLOCK_S)
            try:
                await to_thread.run_sync(self._services.leases.expire, time.time())
            except PhysicsRunnerError as error:
                _LOG.warning("overdue leases could not be looked for: %s", error)
            except Exception:
                _LOG.exception("looking for overdue leases failed; it is tried again")


def create_app(
    services: Services,
    *,
    limits: Limits | None = None,
    sockets: Mapping[str, socket.socket] | None = None,
) -> Application:
    """
    Put the server together around *services*.

    *sockets* are those of doors that speak TCP, bound, by the door's name.
    """
    return Application(services, limits=limits, sockets=sockets)
