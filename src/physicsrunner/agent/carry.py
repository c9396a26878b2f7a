"""One attempt, carried out by the runner in this process."""

from __future__ import annotations

import threading
from pathlib import Path

from physicsrunner.agent.adopt import Work
from physicsrunner.client.native import NativeUplink
from physicsrunner.errors import ConfigError
from physicsrunner.runner.attempt import carry_out as carried_out
from physicsrunner.runner.result import RunResult
from physicsrunner.wire.documents import parse_config


class Runner:
    """
    Carries out attempts, each with a connection and a token of its own.

    Parameters
    ----------
    cache
        The folder of inputs that were fetched before; None: the user's.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache

    def __call__(self, work: Work, stop: threading.Event) -> RunResult:
        """Carry out the attempt in *work*, or go on with it, until *stop* is set."""
        config = parse_config(work.config.read_text("utf-8"), str(work.config))
        if config.server is None or config.token is None:
            raise ConfigError(f"{work.config} lacks server or token")
        uplink = NativeUplink(config.server, config.token)
        try:
            return carried_out(config, uplink=uplink, stop=stop, cache=self._cache)
        finally:
            uplink.close()
