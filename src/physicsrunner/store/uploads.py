"""What is kept of uploaded inputs, beside their bytes: the words of the store for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from physicsrunner.store.rows import Actor
from physicsrunner.wire.live import Event


class UploadStore(Protocol):
    """Uploaded inputs, and which of them runs name."""

    def add_upload(self, sha256: str, size: int, told: Event, *, by: Actor) -> None:
        """Keep that *by* has sent an input, and write *told*; a repeat changes nothing."""
        ...

    def upload(self, sha256: str) -> int | None:
        """Return the size in bytes of an uploaded input; None if there is none."""
        ...

    def sent_input(self, sha256: str, user: str) -> bool:
        """Say whether *user* has sent the input of that content: knowing its name is not enough."""
        ...

    def uploads_before(self, before: float, after: str, limit: int) -> Mapping[str, int]:
        """Return inputs that were first sent before *before*: SHA-256 over *after* -> size."""
        ...

    def inputs_named(self, after: int, limit: int) -> tuple[set[str], int | None]:
        """
        Return the inputs that runs over number *after* name, and up to which number that is.

        None in its place: there are no further runs. One call looks at *limit* runs with inputs.
        """
        ...

    def remove_uploads(self, keys: Sequence[str], events: Sequence[Event]) -> None:
        """Forget inputs, and who has sent them; write *events*."""
        ...
