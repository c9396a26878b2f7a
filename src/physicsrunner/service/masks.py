"""
The values of a run's secrets in what its program writes: covered where logs are shown.

Promises: of a run with secrets no live line and no answer that reads a log holds the value of one,
also where it is split over two pieces; as many ``*`` stand in its place as it has bytes, so that
offsets hold. What lies in the spool is main.py's own and stays as it is: its SHA-256 is that of the
file. Where the stored secrets cannot be read (another key), nothing is shown at all.

Values under `SHORTEST` bytes are not looked for: they would stand in every log.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import BinaryIO, Final, Protocol

from physicsrunner.core.hidden import SHORTEST, spellings

_MOST: Final = 10_000  # runs of which it is remembered


class SecretStore(Protocol):
    """What is needed of the store."""

    def secrets(self, run: str) -> str | None:
        """Return the encrypted secrets of a run; None if it has none."""
        ...


class Opener(Protocol):
    """What is needed of the safe."""

    def open(self, sealed: str) -> str:
        """Return what was sealed."""
        ...


class Mask:
    """Covers some values in bytes. Pure."""

    def __init__(self, values: Iterable[str]) -> None:
        texts = {text for value in values for text in spellings(value)}
        self._values = sorted(text.encode(errors="surrogatepass") for text in texts)
        self.reach = max(map(len, self._values), default=1) - 1  #: bytes a value may lie outside

    def __bool__(self) -> bool:
        return bool(self._values)

    def covered(self, data: bytes) -> bytes:
        """Return *data* with ``*`` for each byte of a value."""
        shown: bytearray | None = None
        for value in self._values:
            place = data.find(value)
            while place >= 0:
                shown = bytearray(data) if shown is None else shown
                shown[place : place + len(value)] = b"*" * len(value)
                place = data.find(value, place + 1)
        return data if shown is None else bytes(shown)

    def begun(self, data: bytes) -> int:
        """Return how many bytes at the end of *data* may be the beginning of a value."""
        for length in range(min(self.reach, len(data)), 0, -1):
            end = data[-length:]
            if any(len(value) > length and value.startswith(end) for value in self._values):
                return length
        return 0

    def read(self, file: BinaryIO, offset: int, limit: int, *, ended: bool) -> tuple[bytes, int]:
        """
        Return at most *limit* bytes of *file* from *offset* on, covered, and up to where it reads.

        While the file may still grow (not *ended*), what may be the beginning of a value at its end
        is not there yet.
        """
        size = file.seek(0, 2)
        start = max(0, min(offset, size) - self.reach)
        file.seek(start)
        raw = file.read(min(offset, size) - start + limit + self.reach)
        shown, end = self.covered(raw), len(raw)
        if start + end >= size:
            back = self.begun(raw)
            if not ended:
                end, size = end - back, size - back
            elif back >= SHORTEST:
                shown = shown[:-back] + b"*" * back
        first = offset - start
        return shown[first : min(first + limit, end)], size


class Masks:
    """The masks of the runs of one server. Thread-safe."""

    def __init__(self, store: SecretStore, safe: Opener) -> None:
        self._store = store
        self._safe = safe
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Mask | None] = OrderedDict()

    def of(self, run: str) -> Mask | None:
        """Return the mask of a run's secrets; None: it has none."""
        with self._lock:
            if run in self._known:
                self._known.move_to_end(run)
                return self._known[run]
        sealed = self._store.secrets(run)
        mask = None if sealed is None else Mask(json.loads(self._safe.open(sealed)).values())
        with self._lock:
            self._known[run] = mask = mask or None
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return mask
