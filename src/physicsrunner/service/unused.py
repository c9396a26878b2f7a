"""
Uploaded inputs that no run names, sent long ago: removed, where the operator wants it.

Promises: nothing is removed that a run names, that was sent or asked for in the last hour, or while
this process is younger than that. Which inputs runs name is read without holding anybody up; what
came since is looked at while no run can be made (`service.gate`), right before the removal.

Models stay: one is named by people, scripts and doors that no run tells of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from physicsrunner.core.run import RunFilter
from physicsrunner.service.inputs import WANTED_S, Inputs
from physicsrunner.service.options import DAY_S
from physicsrunner.store.base import Store

PASS_S: Final = 3600.0  #: between two looks at all of them
MOST: Final = 20_000  #: inputs in one step, for which the runs are read once
SLICE: Final = 100  #: removed while no run can be made
_RUNS: Final = 2_000


class UnusedInputs:
    """Removes inputs, step by step. One thread calls it."""

    def __init__(
        self, store: Store, inputs: Inputs, days: float | None, *, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._inputs = inputs
        self._days = days
        self._next = now() + WANTED_S  # what was asked for before this process, nobody knows
        self._after = ""

    def step(self, now: float) -> tuple[int, bool]:
        """Look at the next `MOST` inputs; return how many went, and whether there are more."""
        if self._days is None or now < self._next:
            return 0, False
        old = dict(self._store.uploads_before(now - self._days * DAY_S, self._after, MOST))
        if not old:
            self._after, self._next = "", now + PASS_S
            return 0, False
        with self._inputs.gate.alone():  # nothing is being made: up to this number all are there
            newest = self._store.runs(RunFilter(limit=1, sort="-number")).runs
        since = newest[0].number if newest else 0
        unused = sorted(self._unnamed(set(old)))
        gone = 0
        for at in range(0, len(unused), SLICE):
            some = {key: old[key] for key in unused[at : at + SLICE]}
            gone += self._inputs.remove_unused(some, since)
        self._after = max(old)
        return gone, True

    def _unnamed(self, keys: set[str]) -> set[str]:
        """Return those of *keys* that no run names."""
        after: int | None = 0
        while keys and after is not None:
            named, after = self._store.inputs_named(after, _RUNS)
            keys -= named
        return keys
