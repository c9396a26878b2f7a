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

A store decides nothing about states: it is given a `Decide` that asks `core`. It reads no clock.
Trouble of the database is raised as `ServerUnavailable` or `StorageFull`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunFilter, RunRecord, RunSummary
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.wire.live import Event


@dataclass(frozen=True)
class Change:
    """What a decision changes, all of it in one transaction."""

    run: Mapping[str, Any] = field(default_factory=dict)  #: fields of `RunSummary`
    body: Mapping[str, Any] = field(default_factory=dict)  #: fields of `core.run.BODY_FIELDS`
    attempt: Mapping[str, Any] = field(default_factory=dict)  #: fields of `AttemptRecord`
    events: Sequence[Event] = ()


#: Sees the run as it is and says what changes: None is nothing, an error of ours refuses.
Decide = Callable[[RunSummary], "Change | None"]
Listener = Callable[[Sequence[Event]], None]


@dataclass(frozen=True)
class AttemptRecord:
    """One try of a run, and who had it."""

    run_id: str
    attempt: int
    agent: str
    leased_at: float
    state: str = "preparing"
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class Offer:
    """What an agent that asks for work can take."""

    room: Room
    now: float
    labels: Sequence[str] = ()
    limit: int = 1


@dataclass(frozen=True)
class FileRow:
    """A sealed file of an attempt."""

    path: str
    size: int  #: bytes
    sha256: str


@dataclass(frozen=True)
class ModelRow:
    """One version of a model."""

    id: str
    name: str
    version: str  #: SHA-256 of its content
    size: int  #: bytes of the zip
    sha256: str  #: of the zip
    created: float
    created_by: str
    project_id: str | None = None


class RunStore(Protocol):
    """Runs, their attempts and their events."""

    def add_run(
        self, run: RunRecord, events: Sequence[Event], attempt: Mapping[str, Any] | None = None
    ) -> tuple[RunRecord, bool]:
        """
        Keep *run* under the next free number, with *events*; return it, and whether it is new.

        With *attempt* (fields of `AttemptRecord`) it is leased from the start. A run of that id
        that is there already stays as it is and is returned.
        """
        ...

    def summary(self, run: str | int) -> RunSummary | None:
        """Return the run of that id or number without its heavy parts; None if there is none."""
        ...

    def record(self, run: str | int) -> RunRecord | None:
        """Return the run of that id or number with everything; None if there is none."""
        ...

    def runs(self, wanted: RunFilter) -> tuple[list[RunSummary], int]:
        """Return one page of the runs that *wanted* describes, and how many there are in all."""
        ...

    def change(
        self, decisions: Sequence[tuple[str, Decide]]
    ) -> list[RunSummary | PhysicsRunnerError]:
        """
        Carry out the decisions in order, in one transaction; answer each by the run as it is then.

        A decision that raises an error of ours is answered by that error and changes nothing; the
        others stand. An unknown run is answered by `NotFound`.
        """
        ...

    def acquire(self, offer: Offer, decide: Decide) -> list[RunSummary]:
        """
        Hand out runs that wait and fit: highest priority first, then the oldest.

        *decide* is asked for each; with None that run is passed over.
        """
        ...

    def overdue(self, now: float, limit: int = 1000) -> list[str]:
        """Return the ids of runs whose deadline has passed and that are not unreachable yet."""
        ...

    def unconfirmed(self, agent: str) -> list[RunSummary]:
        """Return the runs leased to *agent* of which it has not been heard since."""
        ...

    def attempt(self, run: str, attempt: int) -> AttemptRecord | None:
        """Return one attempt; None if there is none."""
        ...

    def attempts(self, run: str) -> list[AttemptRecord]:
        """Return all attempts of a run, the first first."""
        ...

    def append_events(self, events: Sequence[Event]) -> list[Event]:
        """Write *events*, and return them with their ids."""
        ...

    def events(self, run: str | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events (of one run) with an id over *after*, ascending."""
        ...


class FileStore(Protocol):
    """Which files are sealed."""

    def seal(
        self, run: str, attempt: int, files: Sequence[FileRow], events: Sequence[Event]
    ) -> None:
        """Keep *files* as sealed, in place of rows of the same paths, and write *events*."""
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
    """Models, uploaded inputs and agents."""

    def add_model(self, row: ModelRow, new_id: str) -> ModelRow:
        """
        Keep a version of the model of that name; return it with the model's id.

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

    def add_upload(self, sha256: str, size: int, *, by: str, now: float) -> None:
        """Keep that an input of this content lies in the folder of inputs; a repeat is success."""
        ...

    def upload(self, sha256: str) -> int | None:
        """Return the size in bytes of an uploaded input; None if there is none."""
        ...

    def agent_seen(
        self, agent: str, *, now: float, host: Mapping[str, Any], labels: Sequence[str]
    ) -> None:
        """Keep that an agent was heard of."""
        ...

    def agents(self) -> list[dict[str, Any]]:
        """Return all agents: id, host, labels, first_seen, last_seen (POSIX seconds)."""
        ...


class Store(RunStore, FileStore, ModelStore, Protocol):
    """All that must survive, apart from the bytes of files."""

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with every batch of stored events, in order. It must be quick."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
