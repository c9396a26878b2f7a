"""
Telling agents at once that a run waits, and not all of them for one run.

Promises: who carries out the least is told first; then twice as many, and so on, until what waits
was taken or everybody was told. An idle agent hears of a run as soon as it is queued; a hundred
busy ones are not all asked for each of ten thousand. Only hints: agents ask besides.

What agents carry out is counted from the events that pass; after a start of the server nothing is
known, which only changes who is told first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from physicsrunner.wire import live
from physicsrunner.wire.live import Event

WAVE_S: Final = 0.05  #: between two waves of agents that are told
LONGEST_S: Final = 86_400.0  #: that is waited for a run that is to be tried again
ROUND_S: Final = 0.25  #: after a round in which nobody took what waits

_LOG = logging.getLogger(__name__)
_MAKES_WORK: Final = frozenset({live.QUEUED, live.RELEASED})
_ENDS: Final = frozenset({live.COMPLETED, live.FAILED, live.CANCELLED, live.TIMED_OUT, live.FREED})
_IDLES: Final = _ENDS | {live.DELETED, live.HELD}


class Waker:
    """
    One for each server; its methods are called on the event loop.

    Parameters
    ----------
    wake
        Tells one agent that there is work.
    agents
        The agents that can be told now.
    """

    def __init__(self, wake: Callable[[str], None], agents: Callable[[], Iterable[str]]) -> None:
        self._wake = wake
        self._agents = agents
        self._waiting: dict[str, None] = {}  # in the order in which they came
        self._held: Counter[str] = Counter()
        self._holder: dict[str, str] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}  # runs that may be tried again then
        self._work = asyncio.Event()

    def take(self, event: Event) -> None:
        """Learn from *event* what waits and who carries out how much."""
        run = event.run
        if run is None:
            if event.type == live.AGENT_RESUMED:
                self._work.set()
        elif event.type in _MAKES_WORK:
            self._add(run)
        elif event.type == live.RETRIED:
            self._given_back(run)
            self._add_later(run, event)
        elif event.type == live.PREPARING:
            self._drop(run)
            self._taken(run, event.data.get("agent"))
        elif event.type in _IDLES:
            self._drop(run)
            self._given_back(run)
            if event.type in _ENDS and self._waiting:
                self._work.set()  # a cap may have held back what waits

    def joined(self) -> None:
        """Learn that an agent has come; it asks by itself."""
        if self._waiting:
            self._work.set()

    async def run(self) -> None:
        """Tell agents until cancelled."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await self._round()
                if self._waiting:
                    await asyncio.sleep(ROUND_S)
        finally:
            for run in list(self._later):
                self._drop(run)

    async def _round(self) -> None:
        """Tell one agent after the other until what waits was taken."""
        told: set[str] = set()
        size = len(self._waiting)
        while self._waiting:
            idle = sorted(set(self._agents()) - told, key=lambda agent: self._held[agent])
            if not idle:
                return
            for agent in idle[:size]:
                told.add(agent)
                try:
                    self._wake(agent)
                except Exception:
                    _LOG.exception("agent %s was not told that there is work", agent)
            size *= 2
            await asyncio.sleep(WAVE_S)

    def _add(self, run: str) -> None:
        self._later.pop(run, None)
        self._waiting[run] = None
        self._work.set()

    def _add_later(self, run: str, event: Event) -> None:
        """Have *run* wait from the time on that *event* names."""
        due = event.data.get("not_before")
        wait = due - event.time if isinstance(due, (int, float)) else 0.0
        if wait <= 0:
            self._add(run)
            return
        self._drop(run)
        loop = asyncio.get_running_loop()
        self._later[run] = loop.call_later(min(wait, LONGEST_S), self._add, run)

    def _drop(self, run: str) -> None:
        self._waiting.pop(run, None)
        timer = self._later.pop(run, None)
        if timer is not None:
            timer.cancel()

    def _taken(self, run: str, agent: object) -> None:
        self._given_back(run)
        if isinstance(agent, str):
            self._holder[run] = agent
            self._held[agent] += 1

    def _given_back(self, run: str) -> None:
        agent = self._holder.pop(run, None)
        if agent is not None:
            self._held[agent] -= 1
            if self._held[agent] <= 0:
                del self._held[agent]
