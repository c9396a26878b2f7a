"""
Tables, sizes and durations as a person reads them in a terminal.

Promises: a table is never wider than it is told; wide characters count as two columns; control
characters of names never reach the terminal. Pure: the width and the time are arguments.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_GAP: Final = "  "
_LEAST: Final = 6  # columns that a shrunken cell keeps


@dataclass(frozen=True)
class Column:
    """One column: its title, how it is set, and whether it may be shortened."""

    title: str
    right: bool = False  #: numbers stand at the right
    shrink: bool = False  #: texts that may lose their end
    spare: bool = False  #: left out first when the terminal is narrow


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    """
    Set *rows* below the titles of *columns*.

    Parameters
    ----------
    width
        Columns of the terminal; None: as wide as it comes (a file, a pipe).

    Returns
    -------
    list of str
        The lines, without trailing spaces; the first one holds the titles, if there are any.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    shown = list(range(len(columns)))
    while width is not None and _total(columns, cells, shown, least=True) > width:
        spare = [i for i in shown if columns[i].spare]
        if not spare:
            break
        shown.remove(spare[-1])
    widths = _widths(columns, cells, shown, width)
    titles = [column.title for column in columns]
    lines = [titles, *cells] if any(titles) else cells
    return [_cut(_line(columns, row, shown, widths), width) for row in lines]


def _line(
    columns: Sequence[Column], row: Sequence[str], shown: Sequence[int], widths: dict[int, int]
) -> str:
    parts = []
    for i in shown:
        text = _cut(row[i], widths[i])
        pad = " " * (widths[i] - columns_of(text))
        parts.append(pad + text if columns[i].right else text + pad)
    return _GAP.join(parts).rstrip()


def _natural(columns: Sequence[Column], cells: Sequence[Sequence[str]], i: int) -> int:
    return max([columns_of(columns[i].title), *(columns_of(row[i]) for row in cells)])


def _total(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], shown: Sequence[int], *, least: bool
) -> int:
    widths = (
        min(_natural(columns, cells, i), max(_LEAST, columns_of(columns[i].title)))
        if least and columns[i].shrink
        else _natural(columns, cells, i)
        for i in shown
    )
    return sum(widths) + len(_GAP) * (len(shown) - 1)


def _widths(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    shown: Sequence[int],
    width: int | None,
) -> dict[int, int]:
    widths = {i: _natural(columns, cells, i) for i in shown}
    if width is None:
        return widths
    over = sum(widths.values()) + len(_GAP) * (len(shown) - 1) - width
    # The widest text gives way first, a column at a time.
    while over > 0:
        soft = [i for i in shown if columns[i].shrink and widths[i] > _LEAST]
        if not soft:
            break
        widest = max(soft, key=lambda i: widths[i])
        widths[widest] -= 1
        over -= 1
    return widths


def columns_of(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _cut(text: str, width: int | None) -> str:
    if width is None or columns_of(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 1  # of the sign that says: there was more
    for char in text:
        used += columns_of(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + "…"


def fit(text: str, width: int | None) -> str:
    """Return *text* on one line, at most *width* columns wide."""
    return _cut(printable(text), width)


def printable(text: str) -> str:
    """Return *text* with control characters as escapes: a name cannot move the cursor."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def size(count: float) -> str:
    """
    Return a number of bytes with a unit of 1,000.

    Examples
    --------
    >>> size(999), size(1536), size(2.5e9)
    ('999 B', '1.5 kB', '2.5 GB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    units = iter(("kB", "MB", "GB", "TB"))
    count, unit = count / 1000.0, next(units)
    while count >= 999.95 and (larger := next(units, None)):
        count, unit = count / 1000.0, larger
    return f"{count:.1f} {unit}"


def count(number: int, thing: str) -> str:
    """
    Return how many of a thing there are.

    Examples
    --------
    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str:
    """
    Return a duration.

    Examples
    --------
    >>> seconds(0.042), seconds(12.3), seconds(75), seconds(7265), seconds(None)
    ('0.04 s', '12.3 s', '1:15 min', '2:01 h', '')
    """
    if value is None:
        return ""
    if value < 1:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    hours = whole // 3600
    if hours < 48:
        return f"{hours}:{whole % 3600 // 60:02d} h"
    return f"{hours / 24:.1f} days"


def ago(then: float | None, now: float) -> str:
    """Return how long ago POSIX time *then* was, or the date when that was over a week ago."""
    if then is None:
        return ""
    passed = max(0.0, now - then)
    if passed < 60:
        return f"{passed:.0f} s ago"
    if passed < 3600:
        return f"{passed // 60:.0f} min ago"
    if passed < 48 * 3600:
        return f"{passed // 3600:.0f} h ago"
    if passed < 7 * 86400:
        return f"{passed // 86400:.0f} days ago"
    return dt.datetime.fromtimestamp(then, dt.timezone.utc).strftime("%Y-%m-%d")


def number(value: object) -> str:
    """Return a result's value: numbers with at most six digits, the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.6g}"
