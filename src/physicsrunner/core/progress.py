"""
state.txt: the lines by which main.py says how far the whole run is.

Promises:

- Both forms of line, mixed: ``YYYY-MM-DD HH:MM:SS,progress,message,step,status`` (messages may
  hold commas) and free text with "50%", "25 percent" and keywords.
- The last line is the current status; progress stays what it was until a line names another. It
  is a percentage of the whole run and is never rescaled.
- A line counts when its end has arrived (``\n``, ``\r\n`` or ``\r``), or at `StateParser.finish`.
- Any bytes are taken: not UTF-8, NULs, lines without end (their first 64 KiB count).

Keywords set the status that is shown; the exit code alone decides the outcome. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_LINE: Final = 64 * 1024  # bytes
LONGEST_LABEL: Final = 500  # characters

_STATUSES: Final = {
    "pending": "pending",
    "running": "running",
    "finished": "finished",
    "completed": "finished",
    "complete": "finished",
    "done": "finished",
    "success": "finished",
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "abort": "failed",
    "aborted": "failed",
    "crash": "failed",
    "crashed": "failed",
}
_LINE_END: Final = re.compile(rb"[\r\n]")
_STRUCTURED: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?,")
_PERCENT: Final = re.compile(
    r"(?<![\w.])(?<!\d,)(?P<number>\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s{0,3}(?:%|percent\b)"
    r"(?P<tail>\s{0,3}(?:complete|completed|done|finished)\b)?",
    re.IGNORECASE,
)
_FINISHED: Final = re.compile(
    r"(?<!\bnot )(?<!\bnot yet )(?<!\bnever )(?<!\bwithout )(?<![\w-])"
    r"(?:finished|completed|done|success)\b(?!-)",
    re.IGNORECASE,
)
_WORD: Final = r"(?:errors?|failed|failure|abort(?:ed|ing)?|crash(?:ed)?)"
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+|nan|inf)"
# Words that name a quantity when they follow: "error norm", "abort tolerance", "crash test".
_QUANTITY: Final = (
    r"(?:norms?|tolerances?|tol|estimat\w*|bounds?|bars?|levels?|rates?|thresholds?|limits?"
    r"|criteri\w*|counts?|margins?|analysis|residuals?|indicators?|functions?|l1|l2|linf|rms|max"
    r"|min|mean|tests?|if|when|free|is|was|=|<|>|~|below|above|under|within|decreas\w*|reduc\w*"
    r"|between|after|converge\w*)"
)
_FIRST_WORD: Final = re.compile(
    rf"\W*{_WORD}\b(?![-/])(?!\s*[:=]?\s*{_NUMBER}(?:[eE.][-+\d]|\s*$|\s+errors?\b))"
    rf"(?!\s*{_QUANTITY}(?:\W|$))",
    re.IGNORECASE,
)
_BEFORE_COLON: Final = re.compile(
    rf"(?<![\w/.-])(?<!\bno )(?<!\b0 ){_WORD}\s{{0,3}}(?:[\[(][^\])]{{0,40}}[\])])?\s{{0,3}}:"
    rf"(?!:)(?!\s*(?:{_NUMBER}|none\b|no\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Status:
    """What a run says of itself at one moment."""

    progress: float | None  #: percent of the whole run, 0 to 100; None: never said
    label: str  #: the text for people
    status: str | None = None  #: pending, running, finished, failed; None: the line does not say
    step: str = ""  #: the step that the structured form names
    eta_s: float | None = None  #: seconds that remain, where the program's logs tell


class StateParser:
    """Takes state.txt in pieces, as it grows."""

    def __init__(self) -> None:
        self.current: Status | None = None
        self._held = b""
        self._first = True

    def feed(self, data: bytes) -> Status | None:
        """Take *data*; return the status of the last line that it completed, or None."""
        lines = _LINE_END.split(self._held[:LONGEST_LINE] + data)
        self._held = lines.pop()
        if len(self._held) > LONGEST_LINE:
            self._held = self._held[:LONGEST_LINE]
        if self._first and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            self._first = False
        return self._take(lines)

    def finish(self) -> Status | None:
        """Take the last line, which has no end; return its status, or None."""
        held, self._held = self._held, b""
        return self._take([held])

    def peek(self, rest: bytes = b"") -> Status | None:
        """Return what the last, unended line, with *rest*, would say; it stays unread."""
        held = self._held + rest
        status = _status_of([held], self.current) if held.strip() else None
        return status or self.current

    def restart(self) -> None:
        """The file begins anew: forget a line half read. Progress stays until it is named."""
        self._held = b""
        self._first = True

    def _take(self, lines: Sequence[bytes]) -> Status | None:
        status = _status_of(lines, self.current)
        if status is not None:
            self.current = status
        return status


def parse_line(line: str) -> Status | None:
    """Return what one line says, or None for a blank one. Its progress is None if unnamed."""
    text = line.replace("\0", "").strip().removeprefix("\ufeff")
    if not text:
        return None
    structured = _STRUCTURED.match(text)
    if structured:
        return _parse_columns(text[structured.end() :])
    progress = _percent(text)
    return Status(progress, text[:LONGEST_LABEL], _keyword(text, progress))


def _status_of(lines: Sequence[bytes], before: Status | None) -> Status | None:
    # Only the last line and the last percentage count: walking back makes 100,000 lines cheap.
    last: Status | None = None
    for raw in reversed(lines):
        if last is not None and not _may_name_progress(raw):
            continue
        status = parse_line(_decode(raw))
        if status is None:
            continue
        if last is None:
            last = status
        if status.progress is not None:
            return Status(status.progress, last.label, last.status, last.step)
    if last is None or before is None or before.progress is None:
        return last
    return Status(before.progress, last.label, last.status, last.step)


def _may_name_progress(raw: bytes) -> bool:
    return b"%" in raw or raw[4:5] == b"-" or b"ercent" in raw or b"ERCENT" in raw


def _decode(raw: bytes) -> str:
    raw = raw[:LONGEST_LINE]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _parse_columns(rest: str) -> Status:
    columns = rest.split(",")
    progress = _clamped(columns[0])
    status = _STATUSES.get(columns[-1].strip().lower()) if len(columns) > 2 else None
    if status is not None or len(columns) > 3:
        message, step = columns[1:-2], columns[-2]
        if not message:  # "progress,message,status"
            message, step = [step], ""
    else:
        message, step = columns[1:2], ",".join(columns[2:])
    label = ",".join(message).strip()
    return Status(
        progress, label[:LONGEST_LABEL], status or _keyword(label, progress), step.strip()
    )


def _clamped(text: str) -> float | None:
    try:
        number = float(text.strip().rstrip("%"))
    except ValueError:
        return None
    return min(100.0, max(0.0, number)) if math.isfinite(number) else None


def _percent(text: str) -> float | None:
    if "%" not in text and "percent" not in text.lower():
        return None
    named = []
    for match in _PERCENT.finditer(text):
        before = text[: match.start()]
        negative = before.endswith("-") and (len(before) < 2 or not before[-2].isalnum())
        number = float(match["number"])
        if negative or number > 100:
            continue
        if match["tail"] or re.search(r"progress\W*$", before, re.IGNORECASE):
            return number
        named.append(number)
    return named[0] if named else None


def _keyword(text: str, progress: float | None) -> str | None:
    if _FIRST_WORD.match(text) or _BEFORE_COLON.search(text):
        return "failed"
    # "Mesh done - 20%" is the end of a part, not of the run.
    if _FINISHED.search(text) and (progress is None or progress >= 100):
        return "finished"
    return None
