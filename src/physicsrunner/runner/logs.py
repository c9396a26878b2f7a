"""
The log of one attempt: ``debug/runner.log``, and standard error in debug mode.

Promises: a logger of its own, which is registered nowhere and configures nothing of the process;
tokens never reach a file or a screen; closed at the end. Before the files of the run are sealed,
`seal` lets later lines go to a file in the control folder, which is never sent.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_JWT: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s"


class _Redacting(logging.Formatter):
    """Replaces tokens: those that are known, and whatever looks like one."""

    def __init__(self, secrets: set[str]) -> None:
        super().__init__(_FORMAT, "%Y-%m-%dT%H:%M:%S")
        self._secrets = secrets
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[token]")
        return _JWT.sub("[token]", text)


class AttemptLog:
    """Owns the handlers of one attempt's logger."""

    def __init__(self, name: str, *, debug: bool, secrets: Iterable[str | None]) -> None:
        self.secrets = {secret for secret in secrets if secret}
        level = logging.DEBUG if debug else logging.INFO
        # Not getLogger: that would keep one logger a run for the life of the process.
        self.logger = logging.Logger(name, level)  # noqa: LOG001
        self._formatter = _Redacting(self.secrets)
        self._handler: logging.Handler | None = None
        if debug:
            self._add(logging.StreamHandler(sys.stderr))

    def open(self, path: Path) -> None:
        """Write to *path* from now on; a file that cannot be opened costs the log, not the run."""
        self.close()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            self.logger.warning("cannot write the log %s: %s", path, error)
            return
        handler.handleError = _ignore  # type: ignore[method-assign]  # a full disk is no traceback
        self._handler = handler
        self._add(handler)

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self.logger.removeHandler(self._handler)
            self._handler.close()
            self._handler = None

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(self._formatter)
        self.logger.addHandler(handler)


def _ignore(record: logging.LogRecord) -> None:
    """Lose a line of the log rather than the run."""
