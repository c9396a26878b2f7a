"""
Keeping the folders of jobs as the server's runs are, for as long as the door is served.

Promises: one task writes all folders, one at a time, beside the event loop. What could not be
written, on a full disk for one, is tried again later and later (`AGAIN`), and at once when its run
changes, until it can be or the door ends; the next start tries it, too. The log says when that
begins and when all folders are well again, not each try. It never keeps a job from going on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Sequence
from typing import Final

from anyio import to_thread

from physicsrunner.core.retry import Backoff
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.server.doors.shakescenario.folders import Folders
from physicsrunner.server.hub import Hub
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

AGAIN: Final = Backoff(base=5.0, cap=300.0)  #: between two tries of what could not be written

_ALL: Final = ""  # the id of no run: a look at all folders
_SILENT: Final = frozenset({live.PINNED, live.UNPINNED, live.SILENT, live.RESULTS})

_LOG = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def kept(folders: Folders, hub: Hub) -> AsyncIterator[None]:
    """Keep *folders* as the server's runs are while the block lasts."""
    keeper = _Keeper(folders)
    hub.listen(keeper.take, lambda _event: False)
    keeping = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


class _Keeper:
    """Writes what is due: at first all folders, then those of runs that change."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._due: dict[str, None] = {_ALL: None}
        self._behind: dict[str, None] = {}  # could not be written when last tried
        self._changed = asyncio.Event()
        self._in_trouble = False  # and the log says so

    def take(self, events: Sequence[Event]) -> None:
        """Note whose folders are due by *events*."""
        for event in events:
            if event.run is not None and event.id is not None and event.type not in _SILENT:
                self._due[event.run] = None
                self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        tries, again_at = 0, None
        while True:
            if again_at is not None and loop.time() >= again_at:
                self._due.update(self._behind)
                again_at = None
            while self._due:
                run_id = next(iter(self._due))
                del self._due[run_id]
                await self._try(run_id)
            if not self._behind:
                self._well()
                tries, again_at = 0, None
            elif again_at is None:
                tries += 1
                again_at = loop.time() + AGAIN.wait(tries, random=random.random)
            await self._something(again_at)

    async def _something(self, until: float | None) -> None:
        """Wait until a run changes, at most *until* then."""
        loop = asyncio.get_running_loop()
        timer = None if until is None else loop.call_at(until, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._changed.clear()

    async def _try(self, run_id: str) -> None:
        try:
            if run_id == _ALL:
                self._due.update(dict.fromkeys(await to_thread.run_sync(self._folders.begin)))
            else:
                await to_thread.run_sync(self._folders.refresh, run_id)
        except (PhysicsRunnerError, OSError) as error:
            self._behind[run_id] = None
            if not self._in_trouble:
                _LOG.warning("a job's folder could not be written; it is tried again: %s", error)
            self._in_trouble = True
            return
        except Exception:
            # A fault of ours, which another try would not mend.
            _LOG.exception("a job's folder could not be written; the next start tries again")
        self._behind.pop(run_id, None)

    def _well(self) -> None:
        if self._in_trouble:
            _LOG.warning("the folders of all jobs are written again")
        self._in_trouble = False
