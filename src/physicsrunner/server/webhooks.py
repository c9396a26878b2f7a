"""
Carrying events to webhooks.

Promises: each webhook gets its events in the order of the log, each at least once, whatever is
killed: the cursor stands in the database and moves when the receiver has answered. An event that is
not taken is tried again, later and later (`wait_s`), and after `TRIES` tries put on the dead
letters, so that the next one gets its turn. Each webhook has a task of its own: one that hangs
harms no other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from anyio import to_thread

from physicsrunner.core.retry import Backoff
from physicsrunner.errors import NotTaken, PhysicsRunnerError
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.posting import post
from physicsrunner.service.events import hears
from physicsrunner.service.outbox import OutboxService, told_to
from physicsrunner.store.outbox import WebhookRow
from physicsrunner.wire import webhooks
from physicsrunner.wire.live import Event, type_matches

TRIES: Final = 12
FIRST_S: Final = 1.0  #: before the second try; then twice as long each time
LONGEST_S: Final = 600.0
TIMEOUT_S: Final = 10.0  #: for an answer
BATCH: Final = 50  #: events read at once, and delivered before the cursor is written
KEEP_S: Final = 1.0  #: the cursor is written at least so often while events are delivered
FAR: Final = 5_000  #: ids passed over before that is written, too
TROUBLE_S: Final = 2.0  #: after trouble with the database

_LOG = logging.getLogger(__name__)


async def send(row: WebhookRow, secret: str, event: Event, *, private: bool) -> int:
    """Send one event; return the status of the answer, or raise `NotTaken`."""
    body = StrictJson.dumps(event.envelope(), separators=(",", ":")).encode()
    stamp = int(time.time())
    headers = {
        webhooks.EVENT: event.type,
        webhooks.DELIVERY: str(event.id or ""),
        webhooks.WEBHOOK: row.id,
        webhooks.TIMESTAMP: str(stamp),
        webhooks.SIGNATURE: webhooks.sign(secret, stamp, body),
    }
    return await post(row.url, headers, body, timeout_s=TIMEOUT_S, private=private)


def wait_s(tries: int, chance: Callable[[], float]) -> float:
    """Return the seconds to wait after the *tries*-th failure (from 1)."""
    return Backoff(FIRST_S, LONGEST_S).wait(tries, random=chance)


class Webhooks:
    """All webhooks of one server; `run` serves them until cancelled."""

    def __init__(self, outbox: OutboxService) -> None:
        self._outbox = outbox
        self._carriers: dict[str, Carrier] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._open = True
        outbox.listen(lambda webhook: self._note(loop, webhook))

    def take(self, events: Sequence[Event]) -> None:
        """Wake the carriers whose webhooks want one of *events*."""
        # What it is told depends on type and project alone: many events are few kinds.
        kinds = {(event.type, event.project): event for event in events if event.id is not None}
        for carrier in self._carriers.values():
            if not carrier.wake.is_set() and any(map(carrier.wants, kinds.values())):
                carrier.wake.set()

    async def run(self) -> None:
        """Serve all webhooks, those that are added, and no longer those that are removed."""
        try:
            for row in await _patiently(self._outbox.active):
                self._start(row)
            while True:
                await self._renew(await self._changed.get())
        finally:
            self._open = False
            await self._stop(list(self._tasks))

    def _note(self, loop: asyncio.AbstractEventLoop, webhook: str) -> None:
        if self._open:
            loop.call_soon_threadsafe(self._changed.put_nowait, webhook)

    async def _renew(self, webhook: str) -> None:
        await self._stop([webhook])
        row = await _patiently(self._outbox.row, webhook)
        if row is not None and row.active:
            self._start(row)

    def _start(self, row: WebhookRow) -> None:
        carrier = self._carriers[row.id] = Carrier(self._outbox, row)
        self._tasks[row.id] = asyncio.create_task(carrier.run())

    async def _stop(self, ids: Sequence[str]) -> None:
        tasks = [task for one in ids if (task := self._tasks.pop(one, None)) is not None]
        for one in ids:
            self._carriers.pop(one, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Carrier:
    """Brings one webhook its events."""

    def __init__(self, outbox: OutboxService, row: WebhookRow) -> None:
        self.wake = asyncio.Event()
        self._outbox = outbox
        self._row = row
        self._readable = told_to(row)
        self._kept = row.cursor  # as it stands in the database
        self._cursor = row.cursor
        self._failures = row.failures
        self._next_try = row.next_try_at
        self._kept_at = 0.0

    def wants(self, event: Event) -> bool:
        """Say whether *event* is to be sent."""
        return type_matches(self._row.types, event.type) and hears(self._readable, event, None)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                await self._wait()
                await self._some()
            except PhysicsRunnerError as error:
                _LOG.warning("webhook %s waits: %s", self._row.id, error)
                await asyncio.sleep(TROUBLE_S)
            except Exception:
                _LOG.exception("webhook %s failed; it is tried again", self._row.id)
                await asyncio.sleep(TROUBLE_S)

    async def _wait(self) -> None:
        if self._next_try is not None:
            # No longer than it ever is: the clock may have been set back meanwhile.
            await asyncio.sleep(min(max(0.0, self._next_try - time.time()), LONGEST_S))

    async def _some(self) -> None:
        self.wake.clear()
        events, upto = await to_thread.run_sync(
            self._outbox.pending, self._row, self._cursor, BATCH
        )
        if not events:
            behind = upto > self._cursor
            self._cursor = upto
            if self._cursor - self._kept > FAR:
                await self._keep()
            if not behind:
                await self.wake.wait()
            return
        secret = await to_thread.run_sync(self._outbox.secret, self._row)
        for event in events:
            if not await self._deliver(event, secret):
                return
            if time.monotonic() - self._kept_at > KEEP_S:
                await self._keep()
        await self._keep()

    async def _deliver(self, event: Event, secret: str) -> bool:
        """Send one event; say whether the next one may follow at once."""
        number = event.id or 0
        try:
            await send(self._row, secret, event, private=self._outbox.private)
        except NotTaken as error:
            if self._cursor > self._kept:
                await self._keep()
            self._failures += 1
            text = str(error)[:500]
            if self._failures >= TRIES:
                _LOG.warning("webhook %s does not take event %d: %s", self._row.id, number, text)
                tries, self._failures, self._next_try = self._failures, 0, None
                await to_thread.run_sync(self._outbox.bury, self._row.id, number, tries, text)
                self._cursor = self._kept = number
                return True
            self._next_try = time.time() + wait_s(self._failures, random.random)
            await to_thread.run_sync(
                self._outbox.failed, self._row.id, self._failures, self._next_try, text
            )
            return False
        self._cursor, self._next_try = number, None
        if self._failures:
            await self._keep()
        return True

    async def _keep(self) -> None:
        await to_thread.run_sync(self._outbox.delivered, self._row.id, self._cursor)
        self._kept, self._failures, self._kept_at = self._cursor, 0, time.monotonic()


async def _patiently(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Ask until the database answers."""
    while True:
        try:
            return await to_thread.run_sync(ask, *arguments)
        except PhysicsRunnerError as error:
            _LOG.warning("webhooks wait: %s", error)
            await asyncio.sleep(TROUBLE_S)
