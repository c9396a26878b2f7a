"""
Every logged event to NATS JetStream.

Promises: the stream `wire.live.STREAM` gets all logged events in their order, at least once; the
message id is the event's id, so that what is sent twice within ten minutes is kept once. The
cursor stands in the database and moves when the stream has acknowledged: whoever is killed, nothing
is left out. Where NATS is away nobody waits but this task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from anyio import to_thread

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.events.base import ensure_stream, needs_nats
from physicsrunner.server.bodies import StrictJson
from physicsrunner.service.outbox import OutboxService
from physicsrunner.service.received import NATS
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

CONSUMER: Final = NATS
BATCH: Final = 200  #: events between two writes of the cursor
ACK_S: Final = 5.0
CONNECT_S: Final = 5.0
AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0)  #: between tries while NATS is away
_SECRET: Final = re.compile(r"//[^/@]*@")

_LOG = logging.getLogger(__name__)


class Jetstream:
    """Publishes to the NATS server of *url*; `run` goes on until cancelled."""

    def __init__(self, outbox: OutboxService, url: str) -> None:
        needs_nats("the setting nats")
        self._outbox = outbox
        self._url = url
        self._wake = asyncio.Event()
        self._client: Any = None
        self._prefixes: set[str] = set()

    def take(self, events: Sequence[Event]) -> None:
        """Wake up where there is something to publish."""
        if any(event.id is not None for event in events):
            self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    await self._connect()
                    async for _ in _published(self):
                        failures = 0
                except Exception as error:
                    if failures == 0:
                        text = _SECRET.sub("//...@", str(error) or type(error).__name__)
                        _LOG.warning("NATS does not take events; they wait: %s", text)
                    await self._disconnect()
                    await asyncio.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
                    failures += 1
        finally:
            await self._disconnect()

    async def batch(self, after: int) -> int:
        """Publish some events behind *after*; return the new cursor, when it is kept."""
        self._wake.clear()
        events, upto = await to_thread.run_sync(self._outbox.log, after, BATCH)
        if upto == after:
            await self._wake.wait()
            return after
        done = after
        try:
            for event in events:
                await self._publish(event)
                done = event.id or done
            done = upto
        finally:
            if done > after:
                with contextlib.suppress(PhysicsRunnerError):
                    await to_thread.run_sync(self._outbox.passed, CONSUMER, done)
        return done

    async def begin(self) -> int:
        """Return the cursor."""
        return await to_thread.run_sync(self._outbox.cursor, CONSUMER)

    async def _publish(self, event: Event) -> None:
        prefix = event.type.partition("/")[0]
        if prefix not in self._prefixes:
            await self._ensure_stream(prefix)
        await self._client.jetstream().publish(
            live.subject_of(event.type),
            StrictJson.dumps(event.envelope(), separators=(",", ":")).encode(),
            timeout=ACK_S,
            stream=live.STREAM,
            headers={live.MESSAGE_ID: str(event.id)},
        )

    async def _connect(self) -> None:
        if self._client is not None:
            return
        import nats

        async def quiet(_error: Exception) -> None:
            return  # what goes wrong is said once, by `run`

        self._client = await nats.connect(
            self._url,
            name="physicsrunner server",
            connect_timeout=CONNECT_S,
            allow_reconnect=False,
            max_reconnect_attempts=0,
            error_cb=quiet,
        )
        await self._ensure_stream(*live.STREAM_PREFIXES)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._prefixes = set()
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), ACK_S)

    async def _ensure_stream(self, *prefixes: str) -> None:
        """Have the stream take all subjects that begin with *prefixes*."""
        await ensure_stream(self._client.jetstream(), [f"{prefix}.>" for prefix in prefixes])
        self._prefixes.update(prefixes)


async def _published(publisher: Jetstream) -> Any:
    """Yield after each batch."""
    cursor = await publisher.begin()
    while True:
        cursor = await publisher.batch(cursor)
        yield cursor
