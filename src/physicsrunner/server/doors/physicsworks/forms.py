"""
Large forms: a body ``json={... "chunk": "BASE64" ...}`` of any size, read in bounded memory.

The published runner sends what a log or a medium has grown by in one request, however much that
is. Promises: the bytes that come out are exactly those that went in, or `InvalidRequest` is raised;
memory holds some pieces, never the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import unquote_to_bytes

from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.physicsworks import decode_chunk
from physicsrunner.wire.reading import loads

_KEY: Final = re.compile(rb'"chunk"\s*:\s*"')
#: What matters for the depth of a place in JSON: texts (whole, or cut off) and brackets.
_DEPTH: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)
_FIELD: Final = b"json="
_MAX_FIELDS: Final = 1024 * 1024  # bytes of the JSON without its chunk
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True)
class Payload:
    """The bytes that a form carried: in memory, or in a file."""

    size: int
    data: bytes | None = None
    file: IO[bytes] | None = None

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes."""
        if self.data is not None:
            yield self.data
        elif self.file is not None:
            self.file.seek(0)
            while piece := self.file.read(_PIECE):
                yield piece


def read_form(source: IO[bytes], target: IO[bytes]) -> tuple[Mapping[str, Any], Payload]:
    """Read the form in *source*; its chunk goes, decoded, to *target*."""
    form = FormStream(target.write)
    while piece := source.read(_PIECE):
        form.feed(piece)
    fields = form.finish()
    return fields, Payload(form.size, file=target)


class FormStream:
    """Takes a form body piece by piece; hands the decoded chunk on as it comes."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self.size = 0  #: bytes of the chunk so far
        self._sink = sink
        self._raw = b""  # not yet unescaped: the beginning of the field, or half an escape
        self._named = False  # `json=` has been read
        self._ended = False  # the field has ended, another one follows
        self._head = b""  # the JSON up to the chunk
        self._tail = b""  # the JSON after it
        self._in_chunk = False
        self._chunked = False  # the chunk's end has been read
        self._rest = b""  # base64 that is no whole group of four yet

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        raw = self._raw + piece
        if not self._named:
            if len(raw) < len(_FIELD):
                self._raw = raw
                return
            if not raw.startswith(_FIELD):
                raise InvalidRequest("a form of this size begins with its field 'json'")
            raw, self._named = raw[len(_FIELD) :], True
        if self._ended:
            return
        raw, found, _ = raw.partition(b"&")
        self._ended = bool(found)
        # An escape may be cut in two: its beginning waits for the next piece.
        cut = raw.rfind(b"%", max(0, len(raw) - 2))
        self._raw = b"" if cut < 0 or self._ended else raw[cut:]
        whole = raw if not self._raw else raw[:cut]
        self._text(unquote_to_bytes(whole.replace(b"+", b" ")))

    def finish(self) -> dict[str, Any]:
        """End the form; return its fields without the chunk."""
        if self._raw and self._named:
            self._text(unquote_to_bytes(self._raw.replace(b"+", b" ")))
        try:
            if not self._chunked:
                raise ValueError
            fields = loads(self._head + b'"' + self._tail)
        except ValueError:
            raise InvalidRequest("the form's field 'json' is not JSON with a 'chunk'") from None
        if not isinstance(fields, dict) or fields.pop("chunk", None) != "":
            raise InvalidRequest("the form's JSON has no text 'chunk'")
        return fields

    def _text(self, text: bytes) -> None:
        if not self._in_chunk and not self._chunked:
            self._head += text
            found = _find_key(self._head)
            if found is None:
                self._check(self._head)
                return
            text = self._head[found.end() :]
            self._head = self._head[: found.end()]
            self._in_chunk = True
        if self._in_chunk:
            data, end, text = text.partition(b'"')
            self._base64(data, last=bool(end))
            if not end:
                return
            self._in_chunk, self._chunked = False, True
        self._tail += text
        self._check(self._tail)

    def _base64(self, data: bytes, *, last: bool) -> None:
        data = self._rest + data.replace(b"\\", b"")  # JSON may write / as \/
        whole = len(data) if last else len(data) // 4 * 4
        self._rest = data[whole:]
        try:
            decoded = decode_chunk(data[:whole].decode("ascii"))
        except UnicodeDecodeError:
            raise InvalidRequest("'chunk' is not base64") from None
        self.size += len(decoded)
        self._sink(decoded)

    @staticmethod
    def _check(fields: bytes) -> None:
        if len(fields) > _MAX_FIELDS:
            raise InvalidRequest(f"the form's JSON without its chunk is over {_MAX_FIELDS} bytes")


def _find_key(head: bytes) -> re.Match[bytes] | None:
    """Return where the form's own key ``chunk`` stands in *head*; metadata may have one too."""
    for found in _KEY.finditer(head):
        depth = 0
        for token in _DEPTH.finditer(head, 0, found.start()):
            first = token[0][:1]
            depth += (first in b"{[") - (first in b"}]")
        if depth == 1:
            return found
    return None
