"""
What a runner needs of a server, whatever wire that server speaks.

`NativeUplink` (client/native.py) and `PhysicsWorksUplink` (client/physicsworks.py) keep these
promises; without a server there is no uplink (None) and everything stays in the work folder.

Promises of every implementation:

- One call is one try. `ServerUnavailable` (retryable; ``retry_after`` where the server named one)
  means: nothing is known of the outcome, ask `files` and go on. Any other error is final.
- Calls may come from several threads at once.
- ``send`` answers one result for each operation, in order, also when some fail.
- Bytes are read from their source while they are sent; memory stays bounded. A source that
  became shorter meanwhile is answered with the error ``source_changed``.
- ``operations`` says what ``send`` can do. ``append`` and ``seal`` are always among them. To an
  uplink without ``write`` a rewritten file is sent again from the start: an append at offset 0
  to a file that is stored replaces it, and ``blocks`` is never called. Without ``remove`` or
  ``rename`` such changes are not sent (a renamed file is sent as a new one).

An uplink decides nothing: what to send is `core.sync`'s, when is `runner.sync`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from physicsrunner.wire.messages import (
    OPERATIONS,
    BlockHashes,
    HeldLease,
    LeaseGrant,
    RenewalAnswer,
    Report,
    ReportAnswer,
    StoredFile,
    SyncOp,
    SyncResult,
)

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Outgoing:
    """One operation and where its bytes are: in memory, or in a file at the op's offset."""

    op: SyncOp
    data: Buffer | None = None  #: the op's bytes, exactly ``op.length``; None: read `source`
    source: Path | None = None  #: the local file; set for append and write, with `data` too


#: What a server of the native wire can do.
ALL_OPERATIONS: Final = frozenset(OPERATIONS)


class Uplink(Protocol):
    """One server, as seen by the runners of one machine."""

    @property
    def operations(self) -> frozenset[str]:
        """Which operations of `SyncOp` this wire has."""
        ...

    def attempt(self, run: str, attempt: int) -> LeaseGrant:
        """Return what this attempt is to do."""
        ...

    def fetch(self, url: str, *, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """Open the file at *url* from byte *offset* on; iterate over its bytes."""
        ...

    def files(self, run: str, attempt: int) -> Mapping[str, StoredFile]:
        """Return what the server has stored of this attempt, by path."""
        ...

    def blocks(self, run: str, attempt: int, path: str, block_size: int) -> BlockHashes:
        """Return the hashes of a stored file's blocks."""
        ...

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        """Carry out the operations in order; the answer has one result for each."""
        ...

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        """Report what became of attempts."""
        ...

    def renew(self, leases: Sequence[HeldLease]) -> Sequence[RenewalAnswer]:
        """Keep the leases; learn commands."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
