"""
What the attempts of one process share: watch, sync, reports, followers, and the wait for programs.

An agent makes one `Station` and hands it to every `carry_out`; hundreds of attempts then cost a
blocked thread each and nothing that wakes up. Without one, `carry_out` makes its own.

Promises:

- One recursive watch over `root`, one `Sync`, one sender of reports, one thread for all followers
  and one for the ends of all programs. Each begins when it is first needed and ends at `close`.
- Journals reach the disk within about a second, all by one thread; a kill loses nothing of them.
- `attempts` names the attempts under way by run and number; whoever keeps their leases hands
  answers to them there (`Attempt.heed`, `Attempt.set_token`).
- It carries nothing out and knows nothing of agents.
"""

from __future__ import annotations

import logging
import random as chance
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.engines.local import LocalEngine

if TYPE_CHECKING:
    from physicsrunner.runner.context import Attempt
    from physicsrunner.runner.flush import Flusher
    from physicsrunner.runner.follow_pump import Pump
    from physicsrunner.runner.reports import ReportSender
    from physicsrunner.runner.routes import RoutedWatch, Told, Watching
    from physicsrunner.runner.sync import Sync


#: Files that a process with many attempts may open, where the system lets it.
_OPEN_FILES: Final = 16_384


class Station:
    """
    What attempts share. Any thread may call.

    Parameters
    ----------
    root
        An existing folder that all work folders lie in.
    uplink
        The server of all attempts; None: offline. It is not closed.
    alone
        It belongs to one attempt, whose token the uplink takes.
    log
        Where to tell what is no single attempt's; None: this module's logger.
    """

    def __init__(
        self,
        root: Path,
        uplink: Uplink | None,
        *,
        alone: bool = False,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = chance.random,
        log: logging.Logger | None = None,
    ) -> None:
        self.root = root.absolute()
        self.uplink = uplink
        self.alone = alone
        self.engine = LocalEngine(sleep)
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.log = log or logging.getLogger(__name__)
        self._now = now
        self._random = random
        self._guard = threading.RLock()
        self._flush_s = 0.0
        self._sync: Sync | None = None
        self._watch: RoutedWatch | None = None
        self._pump: Pump | None = None
        self._reports: ReportSender | None = None
        self._flusher: Flusher | None = None

    def start(self) -> None:
        """Load and start everything now, so that the first attempt does not wait for it."""
        from physicsrunner.runner.post import archives, provenance, results  # noqa: F401 - loaded
        from physicsrunner.runner.rules import packaged

        packaged()
        self.engine.open_files = _room_for_files()
        self.watch()
        self.pump()
        if self.uplink is not None:
            self.sync()
            self.reports()

    def flush(self, path: Path) -> None:
        """Have what was appended to *path* on the disk soon."""
        with self._guard:
            if self._flusher is None:
                from physicsrunner.runner.flush import Flusher

                self._flusher = Flusher(self.log)
        self._flusher.soon(path)

    def rhythm(self, flush_s: float) -> None:
        """Send what changed in one file every *flush_s* seconds at most: the server asks for it."""
        with self._guard:
            self._flush_s = max(0.0, flush_s)
            self._keep_rhythm()

    def watch(self) -> RoutedWatch:
        """Return the watch over all work folders."""
        with self._guard:
            if self._watch is None:
                from physicsrunner.runner.routes import RoutedWatch

                self._watch = RoutedWatch(self.root, self._watching, log=self.log)
                self._watch.start()
                self._keep_rhythm()
            return self._watch

    def sync(self) -> Sync:
        """Return the sync of all attempts' files."""
        with self._guard:
            if self._sync is None:
                from physicsrunner.runner.sync import Sync

                self._sync = Sync(self._server(), now=self._now, random=self._random, log=self.log)
                self._sync.start()
            return self._sync

    def pump(self) -> Pump:
        """Return the thread that calls all followers."""
        with self._guard:
            if self._pump is None:
                from physicsrunner.runner.follow_pump import Pump

                self._pump = Pump(log=self.log)
                self._keep_rhythm()
            return self._pump

    def reports(self) -> ReportSender:
        """Return the sender of all reports."""
        with self._guard:
            if self._reports is None:
                from physicsrunner.runner.reports import ReportSender

                self._reports = ReportSender(self._server(), random=self._random, log=self.log)
                self._keep_rhythm()
            return self._reports

    def close(self) -> None:
        """End every thread. Attempts have ended before; programs go on."""
        for part in (
            self._watch,
            self._pump,
            self._reports,
            self._sync,
            self._flusher,
            self.engine,
        ):
            if part is not None:
                part.close()

    def _watching(self, root: Path, told: Told) -> Watching:
        from physicsrunner.runner.watch import FolderWatch, is_network

        if not self.alone and not is_network(root):
            from physicsrunner.runner.tree_watch import TreeWatch

            try:
                return TreeWatch(root, told, log=self.log)
            except OSError as error:
                self.log.warning("%s: watching in another way", error)
        return FolderWatch(root, told, log=self.log)

    def _server(self) -> Uplink:
        assert self.uplink is not None  # noqa: S101 (offline nobody asks)
        return self.uplink

    def _keep_rhythm(self) -> None:
        from physicsrunner.runner.reports import BETWEEN_S
        from physicsrunner.runner.routes import COALESCE_S

        if self._watch is not None:
            self._watch.least_s = max(COALESCE_S, self._flush_s)
        if self._pump is not None:
            self._pump.least_s = self._flush_s
        if self._reports is not None:
            self._reports.least_s = max(BETWEEN_S, self._flush_s)


def _room_for_files() -> int | None:
    """
    Let this process open as many files as hundreds of attempts need (three each).

    Returns
    -------
    int or None
        The limit that there was, which programs keep; None: nothing was changed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft
