"""
The messages of the native wire, as frozen dataclasses. docs/protocol.md restates them.

Promises: every field says its unit in its name or comment; times are POSIX seconds (UTC) on the
wire, ids are strings. A message never changes its meaning: new fields have defaults, and an old
side ignores what it does not know.

Names are those of the database and of the docs. `wire.codec` turns messages into JSON and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from physicsrunner.core.results import Result as Result  # what main.py left; travels as it is
from physicsrunner.core.state import RunState

PROTOCOL_VERSION = 1

# -- leases ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resources:
    """What a run needs, or what an agent has free."""

    cpu_cores: float = 1.0
    memory_gb: float = 0.0
    gpu_count: int = 0
    storage_gb: float = 0.0


@dataclass(frozen=True)
class LeaseRequest:
    """``POST /api/v1/leases``: an agent asks for work."""

    agent: str
    free: Resources = field(default_factory=Resources)
    labels: list[str] = field(default_factory=list)
    max: int = 1
    host: dict[str, Any] = field(default_factory=dict)  #: hostname, cores, memory, versions
    #: What the agent has. Attempts leased to it that are not named and of which nothing has been
    #: heard are given again: the answer that named them was lost.
    holding: list[HeldLease] = field(default_factory=list)
    resources: Resources | None = None  #: all that the agent has; `free` is what is left of it
    slots: int = 1  #: how many attempts it carries out at once


@dataclass(frozen=True)
class RemoteInput:
    """A file that the runner fetches before main.py starts."""

    path: str  #: relative to ``inputs/`` (or ``raw/`` when it starts with ``raw/``)
    size: int  #: bytes
    sha256: str
    url: str  #: relative to the server's base, or absolute
    extract: bool = False  #: an archive that is unpacked where it lies


@dataclass(frozen=True)
class Bundle:
    """The model's zip: main.py and what it needs. Unpacked into ``scripts/``."""

    model: str
    version: str  #: SHA-256 of the bundle's content (`core.bundle`)
    size: int  #: bytes of the zip
    sha256: str  #: of the zip itself
    url: str


@dataclass(frozen=True)
class Limits:
    """Limits of one attempt."""

    time_s: float | None = None  #: of main.py, wall clock; stands still while it is paused
    silence_s: float | None = None  #: without any output: reported as silent
    stop_when_silent: bool = False
    stop_grace_s: float = 10.0  #: stop file -> SIGTERM, and SIGTERM -> SIGKILL


@dataclass(frozen=True)
class LeaseGrant:
    """One attempt of one run, leased: all that a runner needs to carry it out."""

    run: str
    attempt: int
    number: int
    name: str
    deadline: float  #: POSIX seconds
    renew_s: float  #: seconds between renewals
    token: str  #: the attempt's token
    bundle: Bundle | None = None  #: None: main.py lies in the work folder already
    inputs: list[RemoteInput] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    project: str | None = None
    model: str | None = None
    resources: Resources = field(default_factory=Resources)  #: what it takes of its agent
    secrets: list[str] = field(default_factory=list)  #: names in `environment` never to be shown
    stop_when_lost: bool = False  #: its `on_lost_contact` gives it to another after the grace time


@dataclass(frozen=True)
class HeldLease:
    """A lease that its holder wants to keep."""

    run: str
    attempt: int


@dataclass(frozen=True)
class Renewals:
    """``PUT /api/v1/leases``: keep all of these."""

    leases: list[HeldLease]
    agent: str | None = None  #: None with an attempt token: the token names its agent


@dataclass(frozen=True)
class RenewalAnswer:
    """What became of one lease."""

    run: str
    attempt: int
    deadline: float | None = None
    renew_s: float | None = None
    token: str | None = None  #: a fresh one, at half-life
    commands: list[str] = field(default_factory=list)  #: cancel, pause, resume, drain
    error: str | None = None  #: a code: lease_lost, not_found, not_allowed


@dataclass(frozen=True)
class Heartbeat:
    """``PUT /api/v1/agents/{name}``: an agent is there, and keeps all these leases."""

    leases: list[HeldLease] = field(default_factory=list)
    free: Resources = field(default_factory=Resources)
    resources: Resources = field(default_factory=Resources)
    labels: list[str] = field(default_factory=list)
    slots: int = 1
    host: dict[str, Any] = field(default_factory=dict)
    draining: bool = False  #: it takes no more work (SIGTERM)


@dataclass(frozen=True)
class HeartbeatAnswer:
    """What became of its leases, and the rhythm and state that the server asks of it."""

    renew_s: float  #: seconds between heartbeats
    flush_s: float  #: seconds between two sends of what changed in one file
    state: str  #: active, draining, paused, removed
    reason: str | None = None
    leases: list[RenewalAnswer] = field(default_factory=list)
    lost_s: float = 360.0  #: without contact; then `stop_when_lost` runs are given to others


@dataclass(frozen=True)
class Enrollment:
    """``POST /api/v1/agents/enroll``, with a one-time token: an agent joins."""

    name: str
    nonce: str  #: made once by the agent: the same one may ask again after a lost answer
    host: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Enrolled:
    """Its answer."""

    name: str
    token: str  #: the agent's


# -- reports -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """Why an attempt did not complete."""

    code: str  #: program_failed, timeout, cancelled, download_failed, ...
    message: str


@dataclass(frozen=True)
class Report:
    """What a runner says of its attempt. Fields that are None say nothing."""

    run: str
    attempt: int
    state: RunState | None = None
    stage: str | None = None
    progress: float | None = None  #: percent of the whole run, 0 to 100
    label: str | None = None
    eta_s: float | None = None
    exit_code: int | None = None  #: main.py's; a signal n is -n
    error: Failure | None = None
    results: list[Result] | None = None
    time: float | None = None  #: when it happened, POSIX seconds
    hand_back: bool = False  #: the program does not run; another may carry the run out, uncounted
    silent: bool | None = None  #: no output for as long as the run allows; False: there is again


@dataclass(frozen=True)
class Reports:
    """``POST /api/v1/reports``: what became of many attempts."""

    reports: list[Report]


@dataclass(frozen=True)
class ReportAnswer:
    """What became of one report."""

    run: str
    attempt: int
    state: RunState | None = None  #: the run's state now
    commands: list[str] = field(default_factory=list)
    error: str | None = None  #: a code: lease_lost, not_sealed, illegal_transition, ...
    detail: str | None = None
    unsealed: list[str] = field(default_factory=list)  #: with not_sealed: at most 1,000 paths


# -- sync --------------------------------------------------------------------------------------

#: append, write, truncate, seal, remove, rename
OPERATIONS = ("append", "write", "truncate", "seal", "remove", "rename")


@dataclass(frozen=True)
class SyncOp:
    """One operation on one file of one attempt. ``append`` and ``write`` carry bytes."""

    run: str
    attempt: int
    path: str  #: the artifact's path (`core.paths.artifact_path`)
    op: str
    offset: int | None = None  #: append, write
    length: int | None = None  #: append, write: raw bytes that follow in the frame
    size: int | None = None  #: truncate, seal
    sha256: str | None = None  #: seal
    to: str | None = None  #: rename


@dataclass(frozen=True)
class SyncResult:
    """What became of one operation."""

    offset: int  #: bytes of the file that are stored now
    sealed: bool = False
    error: str | None = None  #: offset_mismatch, digest_mismatch, unsafe_path, storage_full, ...
    detail: str | None = None
    retryable: bool = False


@dataclass(frozen=True)
class StoredFile:
    """A file of an attempt as the server has it."""

    path: str
    size: int
    sealed: bool = False
    sha256: str | None = None  #: of a sealed file


@dataclass(frozen=True)
class BlockHashes:
    """SHA-256 of each block of a stored file; the last block may be shorter."""

    path: str
    size: int
    block_size: int
    hashes: list[str]
