"""
The log of one attempt: ``debug/runner.log``, and standard error in debug mode.

Promises: a logger of its own, which is registered nowhere and configures nothing of the process;
tokens and values of secret variables never reach a file or a screen; a line is in its file when the
call returns. Before the files of the run are sealed, `open` lets later lines go to a file in the
control folder, which is never sent, and is made with its first line. One file is held open.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.hidden import spellings
from physicsrunner.runner.workdir import ensure

_JWT: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Logger(logging.Logger):
    """
    Hands each line to *write*.

    Records, handlers and formatters are passed by, and nobody asks from where it was called: for
    the lines of an attempt all that costs ten times what writing them does.
    """

    def __init__(self, name: str, level: int, write: Callable[[str], None]) -> None:
        super().__init__(name, level)
        self._write = write

    def _log(
        self, level: int, msg: object, args: Any, exc_info: Any = None, *more: Any, **other: Any
    ) -> None:
        del more, other
        at = time.time()
        try:
            text = str(msg) % args if args else str(msg)
        except (TypeError, ValueError):
            text = f"{msg} {args}"  # a fault of ours must not keep the line from being written
        name = logging.getLevelName(level)
        line = f"{_second(int(at))}.{int(at % 1.0 * 1000):03d}Z {name:<7} {text}"
        if exc_info:
            error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
            line = "\n".join([line, "".join(traceback.format_exception(error)).rstrip("\n")])
        self._write(line)


def _opened(path: Path) -> int:
    try:
        return os.open(path, _APPEND, 0o644)
    except FileNotFoundError:
        ensure(path.parent)
        return os.open(path, _APPEND, 0o644)


class AttemptLog:
    """Owns one attempt's logger, and says where its lines go."""

    def __init__(self, name: str, *, debug: bool, token: str | None = None) -> None:
        self._hidden: dict[str, str] = {}
        self.hide(token, "[token]")
        self._debug = debug
        self._file: Path | None = None
        self._descriptor: int | None = None
        self._guard = threading.Lock()  # a number that was closed may be another file's
        level = logging.DEBUG if debug else logging.INFO
        # Not getLogger: that would keep one logger a run for the life of the process.
        self.logger: logging.Logger = _Logger(name, level, self._line)

    def hide(self, value: str | None, name: str) -> None:
        """Show *name* wherever *value* would stand; one of a few characters hides nothing."""
        if value is None or value in self._hidden:
            return
        more = dict.fromkeys(spellings(value), name)
        # The longest first: one may be part of another. A new dict: other threads read this one.
        found = sorted({**self._hidden, **more}.items(), key=lambda item: -len(item[0]))
        self._hidden = dict(found)

    def redact(self, text: str) -> str:
        """Return *text* without what is to be hidden."""
        for value, name in self._hidden.items():
            text = text.replace(value, name)
        return text

    def open(self, path: Path) -> None:
        """Write to *path* from now on; a file that cannot be opened costs the log, not the run."""
        first = self._file is None
        self.close()
        try:
            # Later ones have no line as often as not.
            descriptor = _opened(path) if first else None
        except OSError as error:
            self.logger.warning("cannot write the log %s: %s", path, error)
            return
        with self._guard:
            self._file, self._descriptor = path, descriptor

    def close(self) -> None:
        """Write to the file no more."""
        with self._guard:
            descriptor, self._file, self._descriptor = self._descriptor, None, None
            if descriptor is not None:
                os.close(descriptor)

    def _line(self, line: str) -> None:
        if "eyJ" in line:
            line = _JWT.sub("[token]", line)
        data = f"{self.redact(line)}\n".encode("utf-8", "backslashreplace")
        if self._debug:
            with suppress(OSError, ValueError):  # standard error is gone
                sys.stderr.write(data.decode())
                sys.stderr.flush()
        # A full disk costs a line of the log, not the run.
        with self._guard, suppress(OSError):
            if self._file is None:
                return
            if self._descriptor is None:
                self._descriptor = _opened(self._file)
            os.write(self._descriptor, data)
