"""
Stage watch: everything that goes on beside the program, until the files are delivered.

The folder is watched; what changes is hinted to the follower (status lines and live series) and to
the sync (files). The lease is renewed. The station does all that for many attempts; here is one
attempt's part. The stage itself only begins to start these, and `Watchers` ends them: main.py does
not wait for what takes long to load. What it writes meanwhile is found by the first scan.

Of the many short attempts of an agent most are over before anybody could look: they are followed
from some tenths of a second on, and whoever waits for the program begins it (`Watchers.look`). What
ends before goes whole, in one frame.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.heartbeat import Heartbeat
from physicsrunner.runner.workdir import files_below
from physicsrunner.wire.messages import HeldLease

if TYPE_CHECKING:
    from physicsrunner.core.progress import Status
    from physicsrunner.runner.follow import Follower
    from physicsrunner.runner.sync import Sync


_FEW: Final = 3  # attempts
#: Until the first report of one of many: most of those that end soon then need no other.
_FIRST_OF_MANY_S: Final = 0.25
_FOLLOW_S: Final = 0.1  # until an attempt of an agent is followed
_FOLLOW_OF_MANY_S: Final = 0.3


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
    """What works beside the program: this attempt's part of what the station does for all."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.sync: Sync | None = None
        self.due: float | None = None  #: when `look` begins to follow, POSIX seconds
        self._follower: Follower | None = None
        self._watching = False
        self._heartbeat: Heartbeat | None = None
        self._starting: threading.Thread | None = None
        self._guard = threading.Lock()
        self._ended = False
        #: What lay below outputs/ when the program had ended; None: that was not looked at.
        self.left: Sequence[os.DirEntry[str]] | None = None

    def keep_contact(self) -> None:
        """Renew the lease and report, once there is a lease."""
        attempt = self._attempt
        if attempt.uplink is None or attempt.grant is None:
            return
        after = _FIRST_OF_MANY_S if self._one_of_many() else 0.0
        attempt.reporter.start(attempt.station.reports(), after)
        if attempt.renew and self._heartbeat is None:
            self._heartbeat = Heartbeat(
                attempt.uplink,
                HeldLease(attempt.run, attempt.number),
                renew_s=attempt.grant.renew_s,
                heed=attempt.reporter.heed,
                on_token=attempt.set_token,
                random=attempt.clock.random,
                log=attempt.log,
            )
            self._heartbeat.start()

    def start(self) -> None:
        """Start following, and sending where there is a server."""
        if not self._attempt.station.alone:
            after = _FOLLOW_OF_MANY_S if self._one_of_many() else _FOLLOW_S
            self.due = self._attempt.clock.now() + after
            return
        self._starting = threading.Thread(target=self._start_following, name="watch-start")
        self._starting.start()

    def look(self, now: float) -> None:
        """Begin to follow, if that is due at the time *now*."""
        # A clock that was set back must not put it off.
        if self.due is not None and not 0.0 < self.due - now <= _FOLLOW_OF_MANY_S:
            self.due = None
            self._start_following()

    def attached(self) -> Sync:
        """Send, if that was not begun before: the server has been reached, `finish` follows."""
        if self.sync is None:
            self.sync = self._begin_to_send(look=False)
        return self.sync

    def settle(self) -> None:
        """The program has ended: read what it left and end following."""
        if self._starting is not None:
            self._starting.join()
            self._starting = None
        self.due = None
        if self._watching:
            self._attempt.station.watch().remove(self._attempt.folder.root)
            self._watching = False
        with self._guard:
            # What it wrote at its very end may not have been heard of.
            ended, self._ended = self._ended, True
            if not ended and self._follower is None:
                self.left = list(files_below(str(self._attempt.folder.outputs)))
                if any(map(_has_bytes, self.left)):
                    self._follower = self._make_follower()
        if self._follower is not None:
            self._attempt.station.pump().forget(self._follower)
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
                self.sync.remove(self._attempt.run, self._attempt.number)

    def _one_of_many(self) -> bool:
        station = self._attempt.station
        return not station.alone and len(station.attempts) > _FEW

    def _start_following(self) -> None:
        attempt = self._attempt
        try:
            self._watching = True
            attempt.station.watch().add(attempt.folder.root, self._changed)
            if attempt.uplink is not None and attempt.grant is not None and attempt.plan.upload:
                self.sync = self._begin_to_send()
            import physicsrunner.runner.post.archives
            import physicsrunner.runner.post.provenance
            import physicsrunner.runner.post.results  # noqa: F401 - for the next stage
        except (PhysicsRunnerError, OSError) as error:
            attempt.warn(f"nothing is followed live: {error}")
        except Exception:
            attempt.log.exception("nothing is followed live")

    def _begin_to_send(self, *, look: bool = True) -> Sync:
        from physicsrunner.runner.sync import Followed

        attempt = self._attempt
        sync = attempt.station.sync()
        followed = Followed(attempt.run, attempt.number, attempt.folder, fresh=attempt.fresh)
        sync.add(followed, look=look)
        return sync

    def _make_follower(self) -> Follower:
        from physicsrunner.runner.follow import Follower

        attempt = self._attempt
        return Follower(
            attempt.folder,
            rules=_rules(attempt),
            on_status=self._status,
            now=attempt.clock.now,
            log=attempt.log,
            redact=attempt.log_file.redact,
        )

    def _changed(self, paths: frozenset[Path]) -> None:
        attempt = self._attempt
        if attempt.watched_for_more:
            attempt.stop.wake()
        if self.sync is not None:
            self.sync.touch(paths)
        self._follow(paths)

    def _follow(self, paths: Collection[Path]) -> None:
        """Follow once there is something: loading the follower takes a tenth of a second."""
        outputs = self._attempt.folder.outputs
        if self._follower is None:
            concerned = any(
                path.is_relative_to(outputs) or outputs.is_relative_to(path) for path in paths
            )
            if not concerned or not _any_output(outputs):
                return
            with self._guard:
                if self._ended:
                    return
                if self._follower is None:  # two threads may hear of the first output
                    self._follower = self._make_follower()
            paths = {self._attempt.folder.root}
        follower = self._follower
        if follower is not None:
            self._attempt.station.pump().touch(follower, paths)

    def _status(self, status: Status) -> None:
        self._attempt.reporter.status(
            status.progress, status.label or None, status.eta_s, step=status.step
        )


def _any_output(outputs: Path) -> bool:
    return any(map(_has_bytes, files_below(str(outputs))))


def _has_bytes(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.stat().st_size > 0
    except OSError:
        return False  # gone again


def _rules(attempt: Attempt) -> Sequence[Any]:
    from physicsrunner.runner.rules import rules_for

    return rules_for(attempt.case.series, "case.yaml")
