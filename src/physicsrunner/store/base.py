"""
What a store promises. `SqlStore` and `MemoryStore` keep it (tests/contract/test_store.py).

Promises:

- One transaction changes a run's record and writes its events: either both are there or neither.
- `change` and `acquire` read, decide and write in that one transaction: whoever asks at the same
  time sees the run before or after, never between. A run is handed out to one caller only.
- When a method returns, its effect survives ``kill -9``, and with `SqlStore` a power cut.
- Events get ascending ids in the order in which they become visible. A listener hears of them in
  that order, after they are stored and before the call returns.
- A file's row says "sealed": callers write it only after the bytes are flushed.
- How many runs there are of each state is kept with every change (`counts`): no list counts rows.
- ``by`` is who asked, kept with the events for the audit; None: the server itself.

A store decides nothing about states: it is given a `Decide` that asks `core`. It reads no clock.
Trouble of the database is raised as `ServerUnavailable` or `StorageFull`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.store.accounts import AccountStore
from physicsrunner.store.outbox import OutboxStore, Received
from physicsrunner.store.rows import (
    Actor,
    AgentRow,
    AttemptRecord,
    Change,
    FileRow,
    ModelRow,
    Offer,
    RunPage,
    Sealed,
    StudyFilter,
    StudyRow,
)
from physicsrunner.store.uploads import UploadStore
from physicsrunner.wire.live import Event

__all__ = [
    "Actor",
    "AgentRow",
    "AgentStore",
    "AttemptRecord",
    "Change",
    "Decide",
    "FileRow",
    "FileStore",
    "Listener",
    "ModelRow",
    "ModelStore",
    "Offer",
    "RunPage",
    "RunStore",
    "Store",
    "StudyFilter",
    "StudyRow",
    "StudyStore",
]

#: Sees the run as it is and says what changes: None is nothing, an error of ours refuses.
Decide = Callable[[RunSummary], "Change | None"]
Listener = Callable[[Sequence[Event]], None]


class RunStore(Protocol):
    """Runs, their attempts and their events."""

    def add_run(
        self,
        run: RunRecord,
        events: Sequence[Event],
        attempt: Mapping[str, Any] | None = None,
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> tuple[RunRecord, bool]:
        """
        Keep *run* under the next free number, with *events*; return it, and whether it is new.

        With *attempt* (fields of `AttemptRecord`) it is leased from the start. A run of that id
        that is there already stays as it is and is returned. *secrets*: id to encrypted text.
        """
        ...

    def add_runs(
        self,
        items: Sequence[tuple[RunRecord, Sequence[Event]]],
        *,
        by: Actor | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> list[tuple[RunSummary, bool]]:
        """Keep many runs as `add_run` keeps one, in their order and in one transaction."""
        ...

    def delete_runs(
        self,
        ids: Sequence[str],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
        received: Received | None = None,
    ) -> list[str]:
        """
        Delete runs that have ended and are not pinned, with their rows; return their ids.

        Of their events those stay that wait as *received* says; theirs of *events* are written.
        """
        ...

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run of that id or number without its heavy parts; None if there is none."""
        ...

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run of that id or number with everything; None if there is none."""
        ...

    def summaries(self, runs: Sequence[str]) -> dict[str, RunSummary]:
        """Return those of *runs* that there are, by id, without their heavy parts."""
        ...

    def records(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return those of *runs* that there are, by id, with everything."""
        ...

    def secrets(self, run: str) -> str | None:
        """Return the encrypted secrets of a run; None if it has none."""
        ...

    def runs(self, wanted: RunFilter) -> RunPage:
        """Return one page of the runs that *wanted* describes; `store.lists` bounds its cost."""
        ...

    def counts(self, kind: str, key: str = "") -> dict[RunState, int]:
        """
        Return how many runs of each state there are; a state without runs is left out.

        *kind*: all, project, creator, private (a creator's runs of no project), model, study,
        agent (which has them or had them last), door, pinned (*key*: a door, or "" for all).
        """
        ...

    def change(
        self,
        decisions: Sequence[tuple[str, Decide]],
        *,
        by: Actor | None = None,
        sealed: Sealed | None = None,
    ) -> list[RunSummary | PhysicsRunnerError]:
        """
        Carry out the decisions in order, in one transaction; answer each by the run as it is then.

        A decision that raises an error of ours is answered by that error and changes nothing; the
        others stand. An unknown run is answered by `NotFound`. *sealed* is kept first, anyway.
        """
        ...

    def acquire(self, offer: Offer, decide: Decide, *, by: Actor | None = None) -> list[RunSummary]:
        """
        Hand out runs that wait and fit: highest priority first, then the oldest.

        *decide* is asked for each; with None that run is passed over. Runs of projects and studies
        that run as many as they may are passed over too. If a call of the same moment fails, it
        may be asked again from the first run on: only the last answers count.
        """
        ...

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""
        ...

    def lost(self, now: float, grace_s: float, limit: int = 1000) -> list[RunSummary]:
        """
        Return unreachable runs whose deadline is more than *grace_s* seconds ago.

        Those that wait for their agent for ever (``on_lost_contact`` wait) are left out.
        """
        ...

    def waiting_too_long(self, now: float, limit: int = 1000) -> list[str]:
        """
        Return the ids of runs that wait longer than their ``queue_limit_s``.

        A run that is to be tried again waits from its ``not_before`` on; one that is held does not
        wait in this sense.
        """
        ...

    def oldest_waiting(self, limit: int = 50) -> list[RunSummary]:
        """Return the runs that wait, held ones too, in the queue's order."""
        ...

    def waiting_before(self, run: RunSummary, limit: int = 1000) -> int:
        """Return how many runs the queue has before *run*, counted up to *limit*; held ones not."""
        ...

    def unconfirmed(self, agent: str) -> list[tuple[str, int]]:
        """Return attempts leased to *agent* of which it has not been heard since: run, number."""
        ...

    def active_on(self, agent: str) -> list[RunSummary]:
        """Return the runs that *agent* holds now, by their number."""
        ...

    def ended(
        self,
        before: float | None = None,
        keep: int | None = None,
        door: str | None = None,
        limit: int = 1000,
    ) -> list[str]:
        """
        Return the ids of ended runs that retention may delete, the oldest first; never pinned ones.

        Those that ended before *before*, and those beyond the newest *keep*; both None: none.
        With *door* only of the runs that it created.
        """
        ...

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        ...

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        ...

    def append_events(self, events: Sequence[Event], *, by: Actor | None = None) -> list[Event]:
        """Write *events*, and return them with their ids."""
        ...

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        ...

    def prune_events(
        self,
        before: float,
        limit: int = 10_000,
        *,
        audit: bool = True,
        received: Received | None = None,
    ) -> int:
        """
        Delete events of before *before* that are of no run there is; return how many.

        With *audit*: of none, and that a run was deleted; without, what is left of deleted runs.
        What waits as *received* says stays. A call looks at some events, the next at those behind.
        """
        ...


class StudyStore(Protocol):
    """Studies: runs that belong together, and how many of them may run at once."""

    def add_study(self, row: StudyRow, told: Event, *, by: Actor | None = None) -> StudyRow:
        """Keep a study and write *told*; one of that id that is there stays and is returned."""
        ...

    def cap_study(self, study_id: str, cap: int | None, told: Event) -> None:
        """Let *cap* runs of a study run at once from now on, and write *told*."""
        ...

    def study(self, study_id: str) -> StudyRow | None:
        """Return a study; None if there is none."""
        ...

    def studies(self, wanted: StudyFilter) -> list[StudyRow]:
        """Return one page of the studies that *wanted* describes, the latest first."""
        ...


class FileStore(Protocol):
    """Which files are sealed."""

    def seal(
        self,
        files: Mapping[tuple[str, int], Sequence[FileRow]],
        events: Sequence[Event],
        *,
        by: Actor | None = None,
    ) -> None:
        """Keep *files* of attempts (run, number) as sealed, once for each path; write *events*."""
        ...

    def unseal(self, run: str, attempt: int, path: str, *, removed_at: float | None = None) -> None:
        """
        Forget that a file is sealed; silent if it is not.

        With *removed_at* the row is kept among the removed files, until retention.
        """
        ...

    def sealed(
        self, run: str, attempt: int, paths: Sequence[str] | None = None
    ) -> dict[str, FileRow]:
        """Return the sealed files of an attempt by path: all, or those of *paths*."""
        ...


class ModelStore(Protocol):
    """Models."""

    def add_model(
        self,
        row: ModelRow,
        new_id: str,
        told: Callable[[ModelRow], Event] | None = None,
        *,
        by: Actor | None = None,
    ) -> ModelRow:
        """
        Keep a version of the model of that name; return it with the model's id.

        What *told* makes of a version that is new is written in the same transaction.

        *new_id* becomes the id if the name is new in its project. The same content again, also
        under another name, has the size and SHA-256 of the zip that was stored first.
        """
        ...

    def model(self, model_id: str, version: str | None = None) -> ModelRow | None:
        """Return that version, or the newest; None if there is none."""
        ...

    def models(self) -> list[ModelRow]:
        """Return the newest version of every model, the latest first."""
        ...


class AgentStore(Protocol):
    """The agents that were heard of."""

    def agent_seen(
        self,
        agent: str,
        *,
        now: float,
        host: Mapping[str, Any],
        labels: Sequence[str],
        resources: Mapping[str, Any] | None = None,
        slots: int | None = None,
    ) -> AgentRow:
        """Keep that an agent was heard of and what it has (None: as before); return its row."""
        ...

    def agent(self, name: str) -> AgentRow | None:
        """Return an agent, also a removed one; None if it was never heard of."""
        ...

    def agents(self) -> list[AgentRow]:
        """Return all agents but the removed ones, by name."""
        ...

    def change_agent(
        self,
        name: str,
        fields: Mapping[str, Any],
        events: Sequence[Event] = (),
        *,
        by: Actor | None = None,
    ) -> AgentRow:
        """Change fields of `AgentRow` and write *events*; raise `NotFound` if it is unknown."""
        ...

    def remove_agent(
        self, name: str, events: Sequence[Event] = (), *, by: Actor | None = None
    ) -> bool:
        """Put an agent into state removed: it is given nothing. Say whether it was there."""
        ...


class Store(
    RunStore,
    StudyStore,
    FileStore,
    ModelStore,
    UploadStore,
    AgentStore,
    OutboxStore,
    AccountStore,
    Protocol,
):
    """All that must survive, apart from the bytes of files."""

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with every batch of stored events, in order. It must be quick."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
