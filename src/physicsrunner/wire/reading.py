"""
JSON that somebody else wrote, read without keeping everybody else waiting.

Why: the parser is one piece of C that lets no other thread of the process run. A few megabytes of
nothing but brackets would hold up the event loop, and with it all heartbeats, for seconds.

Promises: how much there is to read is counted, and refused with `TooLarge`, before anything of it
is read; the longest time without a turn for other threads follows from that count, and not from
what the text says. No value is changed by how it is read.
"""

from __future__ import annotations

import json
from typing import Any, Final

from physicsrunner.core.garbage import uncollected
from physicsrunner.errors import TooLarge

#: Commas, colons, dots and opening brackets of one text: about as many as it has values and names,
#: and one more for each number with a fraction, which takes the longest to be written again.
MOST_MARKS: Final = 300_000
LARGE: Final = 64 * 1024  #: bytes; what is smaller is read in about a millisecond, whatever it is
_MARKS: Final = (b",", b":", b".", b"[", b"{")


def marks(body: bytes) -> int:
    """Return how many marks (see `MOST_MARKS`) there are; those in texts count, too."""
    return sum(body.count(mark) for mark in _MARKS)


def check_marks(body: bytes, most: int = MOST_MARKS) -> None:
    """Raise `TooLarge` if there are more than *most*."""
    count = marks(body) if len(body) > most else 0
    if count > most:
        raise TooLarge(
            f"the JSON has {count} commas, colons, dots and brackets, at most {most} are taken: "
            "send it in several parts, and much data of one run as an input file"
        )


def check_values(value: Any, what: str, most: int = MOST_MARKS) -> None:
    """Raise `TooLarge` if lists and objects in *value*, one within the other, have over *most*."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        inner = item.values() if isinstance(item, dict) else item
        count += len(inner)
        if count > most:
            raise TooLarge(f"{what} has over {most} values: send much data as an input file")
        waiting.extend(one for one in inner if isinstance(one, (dict, list)))


def loads(body: bytes, *, most: int = MOST_MARKS, **options: Any) -> Any:
    """
    Return the JSON value that *body* is; *options* are those of ``json.loads``.

    A large one is best read in a thread: others get their turns then.

    Raises
    ------
    TooLarge
        If it has more than *most* marks.
    ValueError
        If it is not JSON, or lists and objects lie in each other too deep to be read.
    """
    try:
        if len(body) <= LARGE:
            return json.loads(body, **options)
        check_marks(body, most)
        with uncollected():
            # These functions of Python's are where others get their turn: of what is large most
            # is numbers.
            return json.loads(body, parse_float=_float, parse_int=_int, **options)
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply in each other") from None


def _float(text: str) -> float:
    return float(text)


def _int(text: str) -> int:
    return int(text)
