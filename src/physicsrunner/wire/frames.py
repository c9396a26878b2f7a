"""
Frames: an unsigned 64-bit big-endian length, then that many bytes of UTF-8 JSON.

A sync frame is such a manifest followed by the raw bytes of its operations, in order. The TCP
door's messages (docs/shakescenario.md) are the same frames without raw bytes, one behind the other:
a request is ``{v, op, req_id, payload}``, its answer ``{v, req_id, ok, result}`` or
``{v, req_id, ok, error: {code, message}}``.

Promises: standard library only, and no import of ours, so that the file works when it is copied
out alone. A length over the limit is refused before anything of it is read. `FrameError` is
raised for anything that is not a frame, `BadRequest` for a frame that is not a request.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

LENGTH = struct.Struct(">Q")
MAX_MANIFEST = 16 * 1024 * 1024  # bytes
VERSION = 1  #: of requests and answers
MAX_REQ_ID = 200  # characters

#: Error codes of the protocol itself; what an operation can answer besides, its server says.
BAD_FRAME = "BAD_FRAME"  #: no frame, or one over the limit; the connection is closed
BAD_REQUEST = "BAD_REQUEST"  #: a frame, but its JSON is not ``{v, op, req_id, payload}``
UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
UNKNOWN_OP = "UNKNOWN_OP"


class FrameError(ValueError):
    """The bytes are not a frame, or it is over the limit."""


class BadRequest(ValueError):
    """A frame that cannot be taken as a request: ``code``, and the ``req_id`` where it has one."""

    def __init__(self, code: str, message: str, req_id: str | None = None) -> None:
        super().__init__(code, message, req_id)
        self.code = code
        self.message = message
        self.req_id = req_id


def encode_frame(value: Any) -> bytes:
    """Return *value* as one frame: its length and its JSON."""
    return frame_of(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def frame_of(body: bytes) -> bytes:
    """Return the frame whose JSON is *body*."""
    return LENGTH.pack(len(body)) + body


class FrameDecoder:
    """
    Takes bytes as they come and gives the JSON of one frame, then what follows it.

    ``feed`` returns None until the frame is whole. Bytes past its end are kept in ``rest`` (they
    are the operations' raw bytes, or the next frame's beginning). *loads* reads the JSON.
    """

    def __init__(
        self, limit: int = MAX_MANIFEST, loads: Callable[[bytes], Any] = json.loads
    ) -> None:
        self.limit = limit
        self.rest = b""
        self._loads = loads
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
            value = self._loads(body)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"the frame is not JSON: {error}") from None
        if value is None:
            raise FrameError("the frame holds null, which no frame does")
        return value


class FrameStream:
    """
    Takes bytes as they come and gives the bodies of all frames that are whole, in their order.

    Parameters
    ----------
    limit
        Bytes of the largest body that is taken. It may be changed between two calls of ``feed``.
    """

    def __init__(self, limit: int = MAX_MANIFEST) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._have = 0
        self._need = LENGTH.size  # bytes without which there is nothing to see

    @property
    def waiting(self) -> int:
        """How many bytes there are of a frame that is not whole yet."""
        return self._have

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Take *data*; yield the body of each frame that is whole. Go through it to its end.

        Raises
        ------
        FrameError
            At a length over the limit, after the frames before it. The stream is of no use then.
        """
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        whole, at = b"".join(self._parts), 0
        self._need = LENGTH.size
        while len(whole) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(whole, at)
            if length > self.limit:
                raise FrameError(f"a frame of {length} bytes is over the limit of {self.limit}")
            end = at + LENGTH.size + length
            if end > len(whole):
                self._need = end - at
                break
            yield whole[at + LENGTH.size : end]
            at = end
        self._parts = [whole[at:]] if at < len(whole) else []
        self._have = len(whole) - at


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    op: str
    req_id: str | None
    payload: dict[str, Any]


def request(op: str, req_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the envelope of a request."""
    return {"v": VERSION, "op": op, "req_id": req_id, "payload": payload}


def answer(req_id: str | None, result: Any) -> dict[str, Any]:
    """Return the envelope of what a request comes to."""
    return {"v": VERSION, "req_id": req_id, "ok": True, "result": result}


def refusal(req_id: str | None, code: str, message: str) -> dict[str, Any]:
    """Return the envelope of an error; *req_id* None: of which request cannot be told."""
    error = {"code": code, "message": message}
    return {"v": VERSION, "req_id": req_id, "ok": False, "error": error}


def json_of(body: bytes, loads: Callable[..., Any] = json.loads) -> Any:
    """Return the JSON value of a frame's body; raise `FrameError` if it is not one."""
    try:
        return loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the frame is not JSON: {str(error)[:200]}") from None


def request_of(value: Any) -> Request:
    """
    Return the request that a frame's value is.

    ``req_id`` and ``payload`` may be missing or null. Further keys are passed over.

    Raises
    ------
    BadRequest
        If it is none: with code `BAD_REQUEST`, or `UNSUPPORTED_VERSION`.
    """
    if not isinstance(value, dict):
        raise BadRequest(BAD_REQUEST, "a request is an object {v, op, req_id, payload}")
    req_id = value.get("req_id")
    if req_id is not None and (not _is_text(req_id) or len(req_id) > MAX_REQ_ID):
        raise BadRequest(BAD_REQUEST, f"req_id is a text of at most {MAX_REQ_ID} characters")
    version, op, payload = value.get("v"), value.get("op"), value.get("payload")
    if type(version) is not int or version != VERSION:
        raise BadRequest(UNSUPPORTED_VERSION, f"v is {VERSION} here", req_id)
    if not _is_text(op) or not op:
        raise BadRequest(BAD_REQUEST, "op is missing: it names what is asked for", req_id)
    if payload is not None and not isinstance(payload, dict):
        raise BadRequest(BAD_REQUEST, "payload is an object", req_id)
    return Request(op, req_id, payload or {})


def _is_text(value: Any) -> bool:
    """Say whether *value* is a text that can be sent: half a Unicode pair cannot."""
    return isinstance(value, str) and (value.isascii() or not any(map(_is_half, value)))


def _is_half(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
