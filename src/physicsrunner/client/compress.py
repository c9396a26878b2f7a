"""
Whether a body travels faster compressed, and compressing it while it is sent.

Promises: a body is compressed only when a sample of it and the measured speed of the line say
that it arrives sooner so; on a fast line (loopback) it goes as it is. zstd where the package
`zstandard` is there, deflate (zlib) elsewhere. Nothing here decides what is sent.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

try:
    import zstandard
except ImportError:  # the extra [fast] is not installed
    zstandard = None  # type: ignore[assignment]

SAMPLE: Final = 64 * 1024  # bytes
MIN_BODY: Final = 16 * 1024  # bytes: below that a request's own cost counts more
_GAIN: Final = 0.8  # compressed must take less than this part of the time
_FASTER: Final = 1.1  # what compression must have brought to be tried again at once
_PLAIN: Final = 100  # bodies without a trial, otherwise


class LineSpeed:
    """How fast the line carried the last bodies, in bytes a second."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._plain = 0  # bodies to come that are not compressed

    def measured(self, count: int, seconds: float) -> None:
        """Take note that *count* bytes took *seconds*. Small bodies say nothing."""
        if count < 4 * SAMPLE or seconds <= 0:
            return
        rate = count / seconds
        self.rate = rate if self.rate is None else 0.5 * self.rate + 0.5 * rate

    def compressed(self, count: int, seconds: float) -> None:
        """
        Take note that a body of *count* bytes before compression took *seconds*.

        A server that is busy looks like a slow line. If less on the line was no faster, the line
        is not what we wait for.
        """
        if count < 4 * SAMPLE or seconds <= 0 or self.rate is None:
            return
        if count / seconds < _FASTER * self.rate:
            self._plain = _PLAIN

    def worth_trying(self) -> bool:
        """Whether compression may be tried with the next body."""
        if self._plain:
            self._plain -= 1
        return not self._plain


def encodings() -> tuple[str, ...]:
    """Return the content encodings that we can make, best first."""
    return ("zstd", "deflate") if zstandard is not None else ("deflate",)


def pays(
    sample: bytes,
    encoding: str,
    rate: float | None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """
    Whether a body like *sample* arrives sooner compressed, on a line of *rate* bytes a second.

    On a line whose speed is not known yet the answer is no: the first bodies measure it.
    """
    if rate is None or len(sample) < 512:
        return False
    start = clock()
    packed = len(_one_shot(sample, encoding))
    speed = len(sample) / max(clock() - start, 1e-9)
    ratio = packed / len(sample)
    # Compressing and sending overlap: the slower of the two counts.
    return max(1.0 / speed, ratio / rate) < _GAIN / rate


def compressed(pieces: Iterable[Any], encoding: str) -> Iterator[bytes]:
    """Compress *pieces* as one stream while they are read."""
    packer = _packer(encoding)
    for piece in pieces:
        out = packer.compress(piece)
        if out:
            yield out
    out = packer.flush()
    if out:
        yield out


def _packer(encoding: str) -> Any:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=1).compressobj()
    return zlib.compressobj(1)


def _one_shot(sample: bytes, encoding: str) -> bytes:
    packer = _packer(encoding)
    return bytes(packer.compress(sample) + packer.flush())
