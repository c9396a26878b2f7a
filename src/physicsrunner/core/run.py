"""
A run, as it is asked for, kept and listed.

Promises: the records are frozen; times are POSIX seconds (UTC), sizes bytes, durations seconds.
`RunSummary` holds what a list shows and what decisions need; `RunRecord` adds the heavy parts
(parameters, configuration, results), which no list ever reads.

Nothing here decides: states are `core.state`'s, leases are `core.lease`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest

PRIORITIES: Final[Mapping[str, int]] = {"low": 0, "normal": 1, "high": 2, "critical": 3}

#: What lists can be ordered by; a leading ``-`` turns the order round.
SORT_KEYS: Final = (
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "number",
    "name",
    "status",
    "priority",
    "progress_percent",
)
MAX_LIMIT: Final = 1000
LONGEST_NAME: Final = 255  #: characters of a run's name that are kept

#: Front doors for clients of other systems, by which a run may have come.
DOORS: Final = ("physicsworks", "shakescenario", "ath", "architech")


@dataclass(frozen=True)
class InputFile:
    """A file that a run is given, known by its content."""

    path: str  #: relative to ``inputs/`` (or ``raw/`` when it starts with ``raw/``)
    sha256: str
    size: int = 0  #: bytes
    extract: bool = False  #: an archive that is unpacked where it lies


@dataclass(frozen=True)
class NewRun:
    """A request for a run (SimulationRequest on the REST API)."""

    model_id: str | None = None  #: None: the program lies with the caller (claimed runs)
    id: str | None = None  #: UUIDv4 of the caller, the idempotency key
    model_version: str | None = None  #: None: the newest
    name: str | None = None
    description: str | None = None
    simulation_type: str = "deterministic"
    parameters: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    resource_requirements: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    project_id: str | None = None
    inputs: list[InputFile] = field(default_factory=list)
    study_id: str | None = None
    retry_of: str | None = None
    pinned: bool = False
    door: str | None = None  #: set by the door, never by a client


@dataclass(frozen=True)
class NewStudy:
    """A request for a study: runs that belong together."""

    name: str
    id: str | None = None  #: UUIDv4 of the caller, the idempotency key
    project_id: str | None = None
    max_concurrent_runs: int | None = None  #: of it at once; None: no limit of its own


@dataclass(frozen=True)
class RunSummary:
    """A run without its heavy parts: one row of the table of runs."""

    id: str
    number: int  #: server-wide, from 1
    name: str
    created_by: str
    created_at: float
    updated_at: float
    status: RunState = RunState.QUEUED
    project_id: str | None = None
    study_id: str | None = None
    model_id: str | None = None
    model_version: str | None = None
    simulation_type: str = "deterministic"
    description: str | None = None
    tags: list[str] = field(default_factory=list)
    priority: int = 1
    # What it needs.
    cpu_cores: float = 1.0
    memory_gb: float = 0.0
    gpu_count: int = 0
    storage_gb: float = 0.0
    labels: list[str] = field(default_factory=list)  #: an agent must have all of them
    time_limit_s: float | None = None
    # Where it stands.
    stage: str | None = None
    label: str | None = None
    progress_percent: float = 0.0  #: 0 to 100
    eta_seconds: float | None = None
    exit_code: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    started_at: float | None = None
    completed_at: float | None = None  #: when it ended, however it ended
    cancel_requested: bool = False
    held: bool = False  #: queued, but not handed out
    unreachable: bool = False  #: its agent has not renewed in time
    result_count: int = 0
    published_attempt: int | None = None  #: the attempt whose files are the run's
    # Its lease.
    attempt: int = 0  #: 0: never leased
    agent: str | None = None
    claimed: bool = False  #: carried out by the one who created it, not by an agent
    confirmed: bool = False  #: the holder has been heard of since the lease was granted
    deadline: float | None = None
    token_issued: float | None = None  #: when the attempt's token was last made
    # Trying again.
    retry_count: int = 0
    lost_count: int = 0  #: tries that ended because the machine was lost
    not_before: float | None = None  #: not handed out earlier
    on_lost_contact: str = "wait"
    retry_of: str | None = None
    retry_policy: dict[str, Any] | None = None  #: `core.retry.RetryPolicy` as JSON; None: none
    # What people ask of it.
    pause_requested: bool = False  #: the program is to be stopped (SIGSTOP), or is
    pinned: bool = False  #: never deleted, by nobody and no retention
    queue_limit_s: float | None = None  #: it times out when it waits longer
    silence_limit_s: float | None = None  #: no output for so long: a `simulation/silent` event
    stop_when_silent: bool = False  #: and then it is stopped
    silent: bool = False  #: its silence has been told, and no output came since
    door: str | None = None  #: the foreign door that created it

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from start to end; None while it has not ended or never started."""
        if self.started_at is None or self.completed_at is None:
            return None
        return max(0.0, self.completed_at - self.started_at)


def altered(run: RunSummary, fields: Mapping[str, Any]) -> RunSummary:
    """Return the summary of *run* with these fields in place of its own; quick."""
    return summary_from({**vars(run), **fields})


def summary_from(fields: dict[str, Any]) -> RunSummary:
    """Return a summary of exactly these fields, which must be all that there are."""
    # Thousands a second: `__init__` of a frozen class sets each of its fifty fields by a call.
    run = RunSummary.__new__(RunSummary)
    vars(run).update(fields)
    return run


@dataclass(frozen=True)
class RunRecord(RunSummary):
    """A run with everything that is known of it."""

    parameters: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    resource_requirements: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


def record_from(fields: dict[str, Any]) -> RunRecord:
    """Return a record of exactly these fields, which must be all that there are."""
    run = RunRecord.__new__(RunRecord)
    vars(run).update(fields)
    return run


#: The fields of `RunRecord` that live beside the table of runs.
BODY_FIELDS: Final = (
    "parameters",
    "configuration",
    "resource_requirements",
    "inputs",
    "results",
    "metrics",
)


@dataclass(frozen=True)
class RunFilter:
    """Which runs a list shows, and in which order."""

    status: list[RunState] = field(default_factory=list)  #: empty: all
    #: A run that was asked to stop counts as cancelled, however it stands and will end.
    asked_is_cancelled: bool = False
    project_id: str | None = None
    model_id: str | None = None
    created_by: str | None = None
    agent: str | None = None
    study_id: str | None = None
    name: str | None = None  #: part of the name, upper and lower case alike
    tag: str | None = None
    door: str | None = None  #: the foreign door that created them
    #: Only runs of these projects, and runs of no project by `visible_to`; None: no such bound.
    projects: list[str] | None = None
    visible_to: str | None = None
    limit: int = 50
    offset: int = 0
    sort: str = "-created_at"


def check_filter(wanted: RunFilter) -> RunFilter:
    """Return *wanted* if it can be answered, otherwise raise `InvalidRequest`."""
    if wanted.sort.removeprefix("-") not in SORT_KEYS:
        raise InvalidRequest(f"sort={wanted.sort!r}: runs sort by {', '.join(SORT_KEYS)}")
    if not 0 < wanted.limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit={wanted.limit}: it must lie in 1 to {MAX_LIMIT}")
    if wanted.offset < 0:
        raise InvalidRequest(f"offset={wanted.offset}: it must not be negative")
    return wanted


def priority_of(value: Any) -> int:
    """
    Return the priority 0 to 3 that *value* means: a number, or low, normal, high, critical.

    None is normal.
    """
    if value is None:
        return PRIORITIES["normal"]
    if isinstance(value, str) and value.lower() in PRIORITIES:
        return PRIORITIES[value.lower()]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 3:
        return value
    raise InvalidRequest(f"priority {value!r}: it is 0 to 3, or one of {', '.join(PRIORITIES)}")
