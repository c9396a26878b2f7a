"""
The slots and resources of this machine: which attempts have them, and which wait for them.

Promises: no more programs run at once than there are slots, and together they need no more than the
machine has (but for one alone, and those that ran before the agent was started); places are given
in the order in which they were asked for. An attempt whose program has ended takes neither: its
files are on their way while the next program runs. As many may be late with that as there are
slots; more of them take slots again, so that work comes no faster than the server takes its files.

A question for work, the making of a work folder and the fetching of inputs take a while, in which
the slot of a short run would stand idle. So as many more runs are asked for as are likely to end
meanwhile (what message queues call prefetch): none where programs take longer than a moment, so
that no run waits at one agent for what another has free.

It starts, stops and asks for nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from physicsrunner.agent.resources import Machine
from physicsrunner.wire.messages import Resources

LATE_S: Final = 1.0  #: a delivery that takes longer may hold up what comes
AHEAD_S: Final = 0.1  #: a run that is leased ahead waits about so long for its place
SHORT_S: Final = 1.0  #: programs that lasted longer say nothing of what ends in a moment
_RECENT_S: Final = 0.5
_MOST: Final = 32
_ROUNDING: Final = 1e-9  # of sums of cores and gigabytes


class Places:
    """
    All places of one agent. Any thread may call.

    *now* is a clock in seconds; *on_free* is called whenever a program has left its place.
    """

    def __init__(
        self, machine: Machine, now: Callable[[], float], on_free: Callable[[], None]
    ) -> None:
        self._on_free = on_free
        self._machine = machine
        self._now = now
        self._guard = threading.RLock()
        # In the order in which each came: the first has waited, run or been delivering longest.
        self._line: dict[AgentPlace, None] = {}
        self._inside: dict[AgentPlace, None] = {}
        self._left: dict[AgentPlace, None] = {}
        self._taken = Resources(0.0)  #: by those inside
        self._ends: deque[float] = deque()  #: of short programs, when they left

    def enter(self, needs: Resources, *, at_once: bool = False) -> AgentPlace:
        """
        Return a place with *needs*, taken as soon as it is free.

        With *at_once* it is taken now: its program runs already, or has run.
        """
        place = AgentPlace(self, needs)
        with self._guard:
            if at_once:
                self._take(place)
            else:
                self._line[place] = None
                self._admit()
        return place

    def free(self) -> Resources:
        """Return what no program has."""
        with self._guard:
            return self._machine.less([self._taken])

    def offer(self) -> tuple[Resources, int]:
        """Return what to ask work for: free resources and slots, with what is free soon."""
        with self._guard:
            now = self._now()
            # What has run for long is not what ends in a moment, and keeps what it has.
            short = [place for place in self._inside if now - place.since <= SHORT_S]
            room = len(self._inside) < self._machine.slots
            soon = self._ending_soon() if short or room else 0
            taken = self._taken
            for place in short[:soon]:
                taken = _changed(taken, place.needs, -1)
            for place in self._line:
                taken = _changed(taken, place.needs, 1)
            late = sum(now - place.since > LATE_S for place in self._left) - self._machine.slots
            given = len(self._inside) + len(self._line) + max(0, late)
            slots = self._machine.slots - given + soon
            return self._machine.less([taken]), max(0, slots)

    def _ending_soon(self) -> int:
        """Return how many programs are likely to end in `AHEAD_S`, going by the last ones."""
        since = self._now() - _RECENT_S
        while self._ends and self._ends[0] < since:
            self._ends.popleft()
        return min(_MOST, int(len(self._ends) * AHEAD_S / _RECENT_S))

    def _admit(self) -> None:
        """Give places to those who wait, while the first of them fits."""
        while self._line:
            first = next(iter(self._line))
            if not self._fits(first.needs):
                return
            del self._line[first]
            self._take(first)

    def _fits(self, needs: Resources) -> bool:
        if not self._inside:
            return True
        whole, taken = self._machine.resources, _changed(self._taken, needs, 1)
        return (
            len(self._inside) < self._machine.slots
            and taken.cpu_cores <= whole.cpu_cores + _ROUNDING
            and taken.memory_gb <= whole.memory_gb + _ROUNDING
            and taken.gpu_count <= whole.gpu_count
        )

    def _take(self, place: AgentPlace) -> None:
        place.since, place.taken = self._now(), True
        self._inside[place] = None
        self._taken = _changed(self._taken, place.needs, 1)
        if place.call is not None:
            place.call()

    def tell(self, place: AgentPlace, call: Callable[[], None]) -> None:
        """Call *call* when *place* is taken; at once when it is already."""
        with self._guard:
            place.call = call
            if not place.taken:
                return
        call()

    def leave(self, place: AgentPlace) -> None:
        """Give *place* to the next; the files of its program are still on their way."""
        with self._guard:
            now = self._now()
            if place in self._inside:
                self._out(place)
                if now - place.since <= SHORT_S:
                    self._ends.append(now)
            elif place in self._line:
                del self._line[place]  # it ended without a program
            else:
                return
            place.since = now
            self._left[place] = None
            self._admit()
        self._on_free()

    def give_up(self, place: AgentPlace) -> bool:
        """Let *place* wait no more; False: it was taken."""
        with self._guard:
            if place not in self._line:
                return False
            del self._line[place]
            self._admit()
            return True

    def over(self, place: AgentPlace) -> None:
        """Forget *place*: its attempt is over, or waits for the server."""
        with self._guard:
            if place in self._inside:
                self._out(place)
            self._line.pop(place, None)
            self._left.pop(place, None)
            self._admit()

    def _out(self, place: AgentPlace) -> None:
        del self._inside[place]
        # Nothing is left of the rounding of sums when nobody is left.
        self._taken = _changed(self._taken, place.needs, -1) if self._inside else Resources(0.0)


class AgentPlace:
    """One attempt's (`runner.place.Place`)."""

    def __init__(self, places: Places, needs: Resources) -> None:
        self._places = places
        self.needs = needs
        self.taken = False
        self.since = 0.0  #: when it was taken, or left
        self.call: Callable[[], None] | None = None

    def when_taken(self, call: Callable[[], None]) -> None:
        """Call *call* when it is taken; at once when it is already."""
        self._places.tell(self, call)

    def give_up(self) -> bool:
        """Wait no more; False: it was taken."""
        return self._places.give_up(self)

    def leave(self) -> None:
        """Give it to others; the files of its program are still on their way."""
        self._places.leave(self)

    def over(self) -> None:
        """Forget it: the attempt is over, or waits for the server."""
        self._places.over(self)


def _changed(taken: Resources, needs: Resources, sign: int) -> Resources:
    return Resources(
        cpu_cores=taken.cpu_cores + sign * needs.cpu_cores,
        memory_gb=taken.memory_gb + sign * needs.memory_gb,
        gpu_count=taken.gpu_count + sign * needs.gpu_count,
    )
