"""
Frames: an unsigned 64-bit big-endian length, then that many bytes of UTF-8 JSON.

A sync frame is such a manifest followed by the raw bytes of its operations, in order. The TCP
door's messages are the same frames without raw bytes.

Promises: standard library only, and no import of ours, so that the file works when it is copied
out alone. A length over the limit is refused before anything of it is read. `FrameError` is
raised for anything that is not a frame.
"""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTH = struct.Struct(">Q")
MAX_MANIFEST = 16 * 1024 * 1024  # bytes


class FrameError(ValueError):
    """The bytes are not a frame, or it is over the limit."""


def encode_frame(value: Any) -> bytes:
    """Return *value* as one frame: its length and its JSON."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return LENGTH.pack(len(body)) + body


class FrameDecoder:
    """
    Takes bytes as they come and gives the JSON of one frame, then what follows it.

    ``feed`` returns None until the frame is whole. Bytes past its end are kept in ``rest`` (they
    are the operations' raw bytes, or the next frame's beginning).
    """

    def __init__(self, limit: int = MAX_MANIFEST) -> None:
        self.limit = limit
        self.rest = b""
        self._parts: list[bytes] = []
        self._have = 0
        self._need: int | None = None

    def feed(self, data: bytes) -> Any | None:
        """Take *data*; return the frame's value when it is whole, else None."""
        self._parts.append(data)
        self._have += len(data)
        if self._need is None and self._have >= LENGTH.size:
            (length,) = LENGTH.unpack(b"".join(self._parts)[: LENGTH.size])
            if length > self.limit:
                raise FrameError(f"a frame of {length} bytes is over the limit of {self.limit}")
            self._need = LENGTH.size + length
        if self._need is None or self._have < self._need:
            return None
        whole = b"".join(self._parts)
        body, self.rest = whole[LENGTH.size : self._need], whole[self._need :]
        self._parts, self._have, self._need = [], 0, None
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"the frame is not JSON: {error}") from None
        if value is None:
            raise FrameError("the frame holds null, which no frame does")
        return value
