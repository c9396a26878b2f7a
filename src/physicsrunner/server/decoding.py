"""
Content-Encoding of request bodies: identity, deflate, gzip and zstd, piece by piece.

Promises: memory stays bounded whatever the bytes are (a bomb grows by at most `STEP` at a time, and
the caller stops it by counting); an encoding that is unknown or not installed is
`UnsupportedEncoding` (415) before a byte is read; damaged bytes are `BadFrame`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

from physicsrunner.errors import BadFrame, UnsupportedEncoding

STEP: Final = 1024 * 1024
# zstandard has no bound on what one call returns, and a block of 4 bytes can mean 128 KiB: so it
# gets little at a time. 1 KiB can grow to 32 MiB at the very worst.
_ZSTD_SLICE: Final = 1024


class Decoder(Protocol):
    """Takes encoded bytes as they come and gives raw bytes in bounded pieces."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the raw bytes that *data* completes."""
        ...

    def finish(self) -> None:
        """Raise `BadFrame` if the encoded stream has not ended."""
        ...


def decoder(encoding: str | None) -> Decoder:
    """Return a decoder of *encoding* (a Content-Encoding header), or raise."""
    name = (encoding or "identity").strip().lower()
    if name in ("", "identity"):
        return _Identity()
    if name in ("deflate", "gzip", "x-gzip"):
        return _Zlib()
    if name == "zstd":
        return _zstd()
    raise UnsupportedEncoding(f"Content-Encoding {name[:40]!r} is not known here")


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class _Zlib:
    """deflate and gzip; which one it is, the header of the stream says."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                raise BadFrame("there are bytes after the end of the compressed body")
            try:
                raw = self._stream.decompress(data, STEP)
            except zlib.error:
                raise BadFrame("the compressed body is damaged") from None
            if raw:
                yield raw
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def finish(self) -> None:
        if not self._stream.eof:
            raise BadFrame("the compressed body ends too early")


class _Zstd:
    def __init__(self, module: Any) -> None:
        self._module = module
        self._stream = module.ZstdDecompressor(max_window_size=128 * STEP).decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            if self._stream.eof:
                raise BadFrame("there are bytes after the end of the compressed body")
            try:
                raw = self._stream.decompress(data[start : start + _ZSTD_SLICE])
            except self._module.ZstdError:
                raise BadFrame("the compressed body is damaged") from None
            if raw:
                yield raw
        if self._stream.eof and self._stream.unused_data:
            raise BadFrame("there are bytes after the end of the compressed body")

    def finish(self) -> None:
        if not self._stream.eof:
            raise BadFrame("the compressed body ends too early")


def _zstd() -> Decoder:
    try:
        import zstandard
    except ImportError:
        raise UnsupportedEncoding("zstd is not installed on this server") from None
    return _Zstd(zstandard)
