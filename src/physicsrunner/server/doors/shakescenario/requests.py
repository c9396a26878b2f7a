"""
What a frame of the ShakeScenario door asks for.

Promises: anything that is no request raises what `line` answers; one with more JSON in it than can
be read without holding up all others is refused before it is read.
"""

from __future__ import annotations

from physicsrunner.errors import TooLarge
from physicsrunner.wire import frames
from physicsrunner.wire.reading import loads


def read(body: bytes) -> frames.Request:
    """Return the request that the JSON *body* is; raise `FrameError` or `BadRequest`."""
    try:
        return frames.request_of(frames.json_of(body, loads))
    except TooLarge as error:  # of which request, nobody has read
        raise frames.BadRequest(frames.BAD_REQUEST, str(error)) from None
