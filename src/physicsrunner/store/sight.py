"""
What several works of one transaction want to read, read at once, and what each sees of the others.

Promises:

- The works are carried out in their order, and each sees what those before it have changed, though
  nothing of it is written before all have been carried out.
- A work that fails has changed nothing that another one sees.
- Runs are handed out in the queue's order. What other calls of the same moment make of the queue's
  head is seen; what they put into the queue is there for the next ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD, LEASABLE
from physicsrunner.store import schema
from physicsrunner.store.hot import ByKeys
from physicsrunner.store.rows import Offer
from physicsrunner.store.sql_counts import COUNTS, Moves, counts_of
from physicsrunner.store.sql_rows import BY_ID, run_of
from physicsrunner.store.sql_transaction import Changed, Transaction
from physicsrunner.store.sql_walks import FITTING, NOT_OF_FULL, PAGE, Candidate, head, in_order

_AGENTS: Final = ByKeys(select(schema.agents.c.id, schema.agents.c.state), schema.agents.c.id)
_ROOM: Final = ("cpu_cores", "memory_gb", "gpu_count", "storage_gb")


@dataclass(frozen=True)
class Needs:
    """What a work reads."""

    runs: Sequence[str] = ()  #: ids
    offer: Offer | None = None  #: of an agent that asks for runs that wait


class Sight:
    """The database as the works of one transaction see it."""

    def __init__(self, needs: Sequence[Needs]) -> None:
        self.changed = Changed()  #: what works have changed, to be written
        self.moves: Moves = Counter()  #: and how the numbers of runs change by that
        self._ids = list(dict.fromkeys(run for one in needs for run in one.runs))
        self._offers = [one.offer for one in needs if one.offer is not None]
        self._runs: dict[str, RunSummary] | None = None
        self._head: tuple[list[Candidate], bool] | None = None
        self._states: dict[str, str] | None = None
        self._held: int | None = None
        self._few = min(PAGE, sum(max(0, offer.limit) for offer in self._offers))

    def ask(self, connection: Connection) -> None:
        """Ask for all that is needed; nobody waits for the answers yet."""
        self._connection = connection
        if self._ids:
            self._found = BY_ID.send(connection, self._ids)
        if not self._offers:
            return
        agents = [offer.agent for offer in self._offers if offer.agent is not None]
        self._agents = _AGENTS.send(connection, agents) if agents else list
        self._all: Callable[[], list[Any]] = list
        if any(offer.caps is not None for offer in self._offers):
            self._all = COUNTS.send(connection, {"kind": "all", "key": ""})
        # What the roomiest of them could take: each looks at what fits itself.
        values = {name: max(getattr(o.room, name) for o in self._offers) for name in _ROOM}
        values["now"] = max(offer.now for offer in self._offers)
        self._waiting = FITTING.starts(connection, values, self._few)

    def keep(self, transaction: Transaction) -> None:
        """Show the next works what one has changed."""
        self.changed.add(transaction.changed)
        for key, more in transaction.moves.items():
            self.moves[key] += more

    def run(self, run: str) -> RunSummary | None:
        """Return the run that a work needs, as it is now; None if there is none."""
        if self._runs is None:
            found = [run_of(row) for row in self._found()]
            self._runs = {one.id: one for one in found}
        return self.changed.runs.get(run) or self._runs.get(run)

    def allowed(self, offer: Offer) -> int:
        """Return how many runs *offer* may be given at most."""
        if self._states is None:
            self._states = dict(map(tuple, self._agents()))
        if self._states.get(offer.agent or "", "active") != "active":
            return 0
        if offer.caps is None:
            return offer.limit
        if self._held is None:
            counts = counts_of(self._all())
            self._held = sum(counts.get(state, 0) for state in HELD)
        more = sum(self.moves.get(("all", "", state.value), 0) for state in HELD)
        return min(offer.limit, offer.caps - self._held - more)

    def waiting(self, offer: Offer, any_full: Callable[[], bool]) -> Iterator[Candidate]:
        """
        Iterate over runs that wait for *offer* or a roomier one, in the queue's order.

        *any_full*: whether runs of projects and studies that can have no more were met.
        """
        if self._head is None:
            self._head = head([answer() for answer in self._waiting], self._few)
        first, all_of_them = self._head
        yield from self._still(first, offer)
        if all_of_them:
            return
        seen = {found.run.id for found in first}
        values: Mapping[str, Any] = {"now": offer.now, **vars(offer.room)}
        rest = in_order(
            self._connection, lambda: NOT_OF_FULL if any_full() else FITTING, values, PAGE
        )
        yield from self._still((found for found in rest if found.run.id not in seen), offer)

    def _still(self, found: Any, offer: Offer) -> Iterator[Candidate]:
        """Iterate over those that still wait, as they are now."""
        changed = self.changed.runs
        for one in found:
            run = changed.get(one.run.id)
            if run is not None:
                if run.status not in LEASABLE or run.held:
                    continue
                one = one.as_now(run)
            if one.run.not_before is None or one.run.not_before <= offer.now:
                yield one
