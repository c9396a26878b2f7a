"""
Stage watch: everything that goes on beside the program, until the files are delivered.

The folder is watched; what changes is hinted to the follower (status lines and live series) and to
the sync (files). The lease is renewed. The stage itself only begins to start these, and `Watchers`
ends them: main.py does not wait for what takes long to load. What it writes meanwhile is found by
the first scan.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.attach import set_token
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.heartbeat import Heartbeat
from physicsrunner.wire.messages import HeldLease

if TYPE_CHECKING:
    from physicsrunner.core.progress import Status
    from physicsrunner.runner.follow import Follower
    from physicsrunner.runner.sync import Sync
    from physicsrunner.runner.watch import FolderWatch


def run(attempt: Attempt) -> None:
    """Start the follower, the sync and the lease's heartbeat."""
    contact(attempt).start()


def contact(attempt: Attempt) -> Watchers:
    """Return the attempt's watchers; from the first lease on they keep it and report."""
    watchers = attempt.watchers
    if watchers is None:
        watchers = attempt.watchers = Watchers(attempt)
    watchers.keep_contact()
    return watchers


class Watchers:
    """What works beside the program."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.sync: Sync | None = None
        self._follower: Follower | None = None
        self._watch: FolderWatch | None = None
        self._heartbeat: Heartbeat | None = None
        self._starting: threading.Thread | None = None
        self._sending = False
        self._news = threading.Event()
        self._ended = threading.Event()

    def keep_contact(self) -> None:
        """Renew the lease and report, once there is a lease."""
        attempt = self._attempt
        if attempt.uplink is None or attempt.grant is None:
            return
        attempt.reporter.start(attempt.uplink)
        if attempt.renew and self._heartbeat is None:
            self._heartbeat = Heartbeat(
                attempt.uplink,
                HeldLease(attempt.run, attempt.number),
                renew_s=attempt.grant.renew_s,
                heed=attempt.reporter.heed,
                on_token=lambda token: set_token(attempt, token),
                random=attempt.clock.random,
                log=attempt.log,
            )
            self._heartbeat.start()

    def start(self) -> None:
        """Start following, and sending where there is a server."""
        self._starting = threading.Thread(target=self._start_following, name="watch-start")
        self._starting.start()

    def attached(self) -> None:
        """The server has been reached, if it had not before: send from now on."""
        if self.sync is None:
            self.sync = self._make_sync()
        self._send()

    def settle(self) -> None:
        """The program has ended: read what it left and end following."""
        self._ended.set()
        self._news.set()
        if self._starting is not None:
            self._starting.join()
            self._starting = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._follower is not None:
            self._follower.finish()
            self._follower = None

    def close(self) -> None:
        """End everything."""
        try:
            self.settle()
        finally:
            if self._heartbeat is not None:
                self._heartbeat.close()
            if self.sync is not None:
                self.sync.close()

    def _start_following(self) -> None:
        attempt = self._attempt
        try:
            self._watch_folder()
            if attempt.uplink is not None and attempt.grant is not None and attempt.plan.upload:
                self.sync = self._make_sync()
                self._send()
            import physicsrunner.runner.post.archives
            import physicsrunner.runner.post.provenance
            import physicsrunner.runner.post.results  # noqa: F401 - for the next stage

            self._follow_once_there_is_something()
        except (PhysicsRunnerError, OSError) as error:
            attempt.warn(f"nothing is followed live: {error}")
        except Exception:
            attempt.log.exception("nothing is followed live")

    def _watch_folder(self) -> None:
        from physicsrunner.runner.watch import FolderWatch

        self._watch = FolderWatch(self._attempt.folder.root, self._changed, log=self._attempt.log)
        self._watch.start()

    def _follow_once_there_is_something(self) -> None:
        """Loading the follower and its rules takes a tenth of a second: not for nothing."""
        while not _any_output(self._attempt.folder.outputs):
            if self._ended.is_set():
                return
            self._news.wait()
            self._news.clear()
        self._follow()

    def _follow(self) -> None:
        from physicsrunner.runner.follow import Follower

        attempt = self._attempt
        follower = Follower(
            attempt.folder,
            rules=_rules(attempt),
            on_status=self._status,
            now=attempt.clock.now,
            log=attempt.log,
        )
        self._follower = follower
        follower.touch({attempt.folder.root})

    def _send(self) -> None:
        if self.sync is not None and not self._sending:
            self._sending = True
            self.sync.start()

    def _make_sync(self) -> Sync:
        from physicsrunner.runner.sync import Followed, Sync

        attempt = self._attempt
        assert attempt.uplink is not None  # noqa: S101 (the caller looked)
        sync = Sync(
            attempt.uplink,
            now=attempt.clock.now,
            random=attempt.clock.random,
            log=attempt.log,
        )
        sync.add(Followed(attempt.run, attempt.number, attempt.folder))
        return sync

    def _changed(self, paths: frozenset[Path]) -> None:
        self._news.set()
        sync, follower = self.sync, self._follower
        if sync is not None:
            sync.touch(paths)
        if follower is not None:
            follower.touch(paths)

    def _status(self, status: Status) -> None:
        self._attempt.reporter.status(status.progress, status.label or None, status.eta_s)


def _any_output(outputs: Path) -> bool:
    for folder, _, files in os.walk(outputs):
        for name in files:
            with suppress(OSError):  # gone again
                if (Path(folder) / name).stat().st_size:
                    return True
    return False


def _rules(attempt: Attempt) -> Sequence[Any]:
    from physicsrunner.runner.rules import rules_for

    return rules_for(attempt.case.series, "case.yaml")
