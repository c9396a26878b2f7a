"""
The new whole lines of one file that grows, is cut, rewritten or replaced.

Promises:

- Every byte is given once, in pieces of whole lines; a line without end waits until its end, or
  until the file is final. A line longer than 64 KiB is cut.
- A file that was cut, rewritten or replaced by another is noticed (its first and last bytes that
  were read are compared) and read anew from its start; one that was replaced by a longer copy of
  itself is read on.
- Memory is bounded by the piece (256 KiB), whatever the size of the file.

Never opens anything but regular files, and never waits for one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PIECE: Final = 256 * 1024  # bytes
LONGEST_LINE: Final = 64 * 1024  # bytes
_HEAD: Final = 256  # bytes
_TAIL: Final = 64  # bytes


@dataclass(frozen=True)
class Piece:
    """Some whole lines."""

    data: bytes
    restarted: bool  #: these are the first of a file that began anew
    more: bool  #: the file holds more that can be read at once


class Tail:
    """Reads one file on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0  #: bytes that were given
        self._head = b""
        self._last = b""
        self._skipping = False  # the rest of a line that was cut
        self._seen: tuple[int, int, int] | None = None

    def read(self, *, final: bool = False) -> Piece | None:
        """Return the next piece, or None when there is nothing new."""
        try:
            # Opening a pipe would let go a writer that waits for its reader: look first.
            if not stat.S_ISREG(self.path.stat().st_mode):
                return None
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # gone, or not ours to read: it may come back
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return None
            identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            if identity == self._seen and not final:
                return None
            restarted = self._began_anew(file, status.st_size)
            if restarted:
                self._restart()
            piece = self._next(file, final=final)
            if piece is None or not piece.more:
                self._seen = identity
            if piece is not None:
                return Piece(piece.data, restarted, piece.more)
            return Piece(b"", restarted=True, more=False) if restarted else None
        except OSError:
            return None
        finally:
            os.close(file)

    def waiting(self) -> bytes:
        """Return the beginning of the line that has no end yet; it is not read by this."""
        if self._seen is None or self._seen[1] <= self.position:
            return b""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                return file.read(LONGEST_LINE)
        except OSError:
            return b""

    def state(self) -> dict[str, Any]:
        """Return what a tail after a restart needs, as JSON values."""
        return {
            "position": self.position,
            "head": self._head.hex(),
            "last": self._last.hex(),
            "skipping": self._skipping,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the tail that gave *state* was."""
        self.position = int(state["position"])
        self._head = bytes.fromhex(state["head"])
        self._last = bytes.fromhex(state["last"])
        self._skipping = bool(state["skipping"])

    def _restart(self) -> None:
        self.position, self._head, self._last, self._skipping = 0, b"", b"", False

    def _began_anew(self, file: int, size: int) -> bool:
        if self.position == 0:
            return False
        if size < self.position:
            return True
        if os.pread(file, len(self._head), 0) != self._head:
            return True
        return os.pread(file, len(self._last), self.position - len(self._last)) != self._last

    def _next(self, file: int, *, final: bool) -> Piece | None:
        data = os.pread(file, PIECE, self.position)
        full = len(data) == PIECE
        if self._skipping:
            end = _line_end(data, first=True)
            self._advance(data if end < 0 else data[: end + 1])
            self._skipping = end < 0
            more = full or 0 <= end < len(data) - 1
            return Piece(b"", restarted=False, more=more) if data else None
        end = _line_end(data, first=False)
        if end >= 0:
            self._advance(data[: end + 1])
            return Piece(
                data[: end + 1], restarted=False, more=full or (final and data[end + 1 :] != b"")
            )
        if data and (final or len(data) >= LONGEST_LINE):
            self._advance(data)
            self._skipping = not final
            return Piece(data[:LONGEST_LINE] + b"\n", restarted=False, more=full)
        return None

    def _advance(self, data: bytes) -> None:
        if len(self._head) < _HEAD and self.position == len(self._head):
            self._head += data[: _HEAD - len(self._head)]
        self.position += len(data)
        self._last = (self._last + data)[-_TAIL:]


def _line_end(data: bytes, *, first: bool) -> int:
    if first:
        ends = [end for end in (data.find(b"\n"), data.find(b"\r")) if end >= 0]
        return min(ends, default=-1)
    return max(data.rfind(b"\n"), data.rfind(b"\r"))
