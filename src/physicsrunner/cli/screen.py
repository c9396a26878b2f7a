"""
Where commands write: results to standard output, everything else to standard error.

Promises:

- With ``--json`` standard output holds JSON alone: one document, or one a line.
- Progress is drawn in place on a terminal only; elsewhere a plain line now and then.
- Nothing that came from a run (labels, names) can move the cursor.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

from physicsrunner.cli.tables import Column, columns_of, fit, printable, seconds, size, table

_PLAIN_EVERY_S: Final = 5.0
_DRAW_EVERY_S: Final = 0.08


class Screen:
    """The two streams of a command."""

    def __init__(
        self, *, as_json: bool = False, out: IO[str] | None = None, err: IO[str] | None = None
    ) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None when standard output is none."""
        return shutil.get_terminal_size().columns if _is_terminal(self._out) else None

    def document(self, value: Any) -> None:
        """Write *value* as one JSON document."""
        indent = 2 if _is_terminal(self._out) else None
        self._write(json.dumps(value, indent=indent, default=str, ensure_ascii=False) + "\n")

    def line(self, value: Any) -> None:
        """Write *value* as one line of JSON."""
        self._write(json.dumps(value, default=str, ensure_ascii=False) + "\n")

    def text(self, text: str = "") -> None:
        """Write a line of text."""
        self._write(_lines(text))

    def raw(self, text: str) -> None:
        """Write *text* as it is: a log."""
        self._write(text)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Write a table that fits the terminal."""
        for number, line in enumerate(table(columns, rows, self.width)):
            self._write((self._bold(line) if number == 0 and columns[0].title else line) + "\n")

    def note(self, text: str) -> None:
        """Say something to the person, on standard error."""
        self._err.write(_lines(text))
        self._err.flush()

    def progress(self, title: str = "", *, quiet: bool = False) -> Progress:
        """Return a progress line on standard error; with ``--json`` or *quiet* a silent one."""
        return Progress(self._err, title, silent=quiet or self.as_json)

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if _is_terminal(self._out) and _colours() else text

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
        except UnicodeEncodeError:
            # A terminal or pipe that is not UTF-8 must not end the command.
            encoding = getattr(self._out, "encoding", None) or "ascii"
            self._out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._out.flush()


class Progress:
    """
    One line that tells how far something is.

    On a terminal it is redrawn in place, elsewhere written as a plain line every five seconds: what
    is done sooner leaves no line. May be called from several threads.
    """

    def __init__(
        self,
        stream: IO[str],
        title: str = "",
        *,
        silent: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._title = title
        self._silent = silent
        self._live = _is_terminal(stream) and os.environ.get("TERM") != "dumb"
        self._now = now
        self._start = now()
        self._shown_at = -1e9 if self._live else self._start
        self._drawn = False
        self._last = ""  # the words that were shown last; empty: nothing was shown
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, fraction: float | None, text: str = "") -> None:
        """Show *fraction* (0 to 1; None: unknown) and what is going on."""
        with self._lock:
            if self._silent or not self._due(fraction, text):
                return
            self._shown_at, self._last = self._now(), text
            if self._live:
                self._draw(fraction, text)
            else:
                part = "" if fraction is None else f"{100 * fraction:3.0f} %  "
                self._stream.write(f"{self._title}{part}{fit(text, None)}".rstrip() + "\n")
                self._stream.flush()

    def bytes(self, done: int, total: int, text: str = "") -> None:
        """Show a transfer: bytes, speed and the time that is left."""
        speed = done / max(1e-3, self._now() - self._start)
        left = f", {seconds((total - done) / speed)} left" if 0 < done < total else ""
        told = f"{size(done)} of {size(total)}, {size(speed)}/s{left}  {text}"
        self.show(done / total if total else 1.0, told)

    def say(self, text: str) -> None:
        """Write a line that stays, above the progress line."""
        with self._lock:
            if self._silent:
                return
            self._erase()
            self._stream.write(fit(text, None) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Take the line away."""
        with self._lock:
            self._erase()
            self._stream.flush()

    def _due(self, fraction: float | None, text: str) -> bool:
        passed = self._now() - self._shown_at
        if self._live:
            return passed >= _DRAW_EVERY_S or fraction == 1.0
        if fraction == 1.0:
            return bool(self._last) and text != self._last
        return passed >= _PLAIN_EVERY_S

    def _draw(self, fraction: float | None, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        head = self._title
        if fraction is not None:
            head += f"{self._bar(fraction)} {100 * fraction:3.0f} %  "
        self._stream.write("\r\x1b[2K" + fit(head, width) + fit(text, width - columns_of(head)))
        self._stream.flush()
        self._drawn = True

    def _bar(self, fraction: float, width: int = 24) -> str:
        full = round(width * min(1.0, max(0.0, fraction)))
        encoding = (getattr(self._stream, "encoding", None) or "").lower()
        done, rest = ("█", "░") if encoding.startswith("utf") else ("#", "-")
        return done * full + rest * (width - full)

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False


def _lines(text: str) -> str:
    """Return *text* with an end; what is no text in a name must not steer the terminal."""
    return "\n".join(map(printable, text.split("\n"))) + "\n"


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _colours() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
