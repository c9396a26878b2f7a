"""
The log of one attempt: ``debug/runner.log``, and standard error in debug mode.

Promises: a logger of its own, which is registered nowhere and configures nothing of the process;
tokens and values of secret variables never reach a file or a screen; no file is held open: there
may be hundreds of logs in a process. Before the files of the run are sealed,
`open` lets later lines go to a file in the control folder, which is never sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from physicsrunner.runner.workdir import ensure

_JWT: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_SHORTEST: Final = 4  # characters
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Redacting(logging.Formatter):
    """Replaces tokens: those that are known, and whatever looks like one."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        at, level = _second(int(record.created)), record.levelname
        text = f"{at}.{int(record.msecs):03d}Z {level:<7} {record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if "eyJ" in text:
            text = _JWT.sub("[token]", text)
        return self._redact(text)


class _Logger(logging.Logger):
    """Asks nobody from where it was called: no line says it, and it costs as much as the rest."""

    def findCaller(  # noqa: N802 (logging's name)
        self, stack_info: bool = False, stacklevel: int = 1
    ) -> tuple[str, int, str, str | None]:
        del stack_info, stacklevel
        return "", 0, "", None


class _Appending(logging.Handler):
    """Opens its file for each of the few lines that it writes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        try:
            file = os.open(self._path, _APPEND, 0o644)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError:
            return  # a full disk costs a line of the log, not the run


class AttemptLog:
    """Owns the handlers of one attempt's logger."""

    def __init__(self, name: str, *, debug: bool, token: str | None = None) -> None:
        self._hidden: dict[str, str] = {}
        self.hide(token, "[token]")
        level = logging.DEBUG if debug else logging.INFO
        # Not getLogger: that would keep one logger a run for the life of the process.
        self.logger: logging.Logger = _Logger(name, level)
        self._formatter = _Redacting(self.redact)
        self._handler: logging.Handler | None = None
        if debug:
            self._add(logging.StreamHandler(sys.stderr))

    def hide(self, value: str | None, name: str) -> None:
        """Show *name* wherever *value* would stand; one of a few characters hides nothing."""
        if value is None or len(value) < _SHORTEST or value in self._hidden:
            return
        quoted = (json.dumps(value), json.dumps(value, ensure_ascii=False))
        both = {value: name, **{text[1:-1]: name for text in quoted}}
        # The longest first: one may be part of another. A new dict: other threads read this one.
        found = sorted({**self._hidden, **both}.items(), key=lambda item: -len(item[0]))
        self._hidden = dict(found)

    def redact(self, text: str) -> str:
        """Return *text* without what is to be hidden."""
        for value, name in self._hidden.items():
            text = text.replace(value, name)
        return text

    def open(self, path: Path) -> None:
        """Write to *path* from now on; a file that cannot be opened costs the log, not the run."""
        self.close()
        try:
            ensure(path.parent)
            os.close(os.open(path, _APPEND, 0o644))
        except OSError as error:
            self.logger.warning("cannot write the log %s: %s", path, error)
            return
        self._handler = _Appending(path)
        self._add(self._handler)

    def close(self) -> None:
        """Write to the file no more."""
        if self._handler is not None:
            self.logger.removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(self._formatter)
        self.logger.addHandler(handler)
