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
#: Lists and objects that lie in each other. The parser of Python 3.11 ends at about 990, that of
#: 3.13 at many thousand, which nothing could write again.
MOST_DEEP: Final = 500
LARGE: Final = 64 * 1024  #: bytes; what is smaller is read in about a millisecond, whatever it is
_NESTED: Final = "lists and objects are nested too deeply in each other"
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
            value = json.loads(body, **options)
        else:
            check_marks(body, most)
            with uncollected():
                # These functions of Python's are where others get their turn: of what is large
                # most is numbers.
                value = json.loads(body, parse_float=_float, parse_int=_int, **options)
    except RecursionError:
        raise ValueError(_NESTED) from None
    if body.count(b"[") + body.count(b"{") > MOST_DEEP and _is_deep(value):
        raise ValueError(_NESTED)
    return value


def _is_deep(value: Any) -> bool:
    """Say whether there is something below more than `MOST_DEEP` lists and objects."""
    level = [value]
    for _ in range(MOST_DEEP + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _float(text: str) -> float:
    return float(text)


def _int(text: str) -> int:
    return int(text)
