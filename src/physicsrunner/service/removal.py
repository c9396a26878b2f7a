"""
Deleting runs: their rows, then their files.

Promises: the database goes first, in one transaction; whoever is killed in the middle leaves a run
whole, or deleted with its folder named in ``deleting/`` and swept at the next start. A run that has
not ended, or is pinned, stays as it is. Of its events those stay that a receiver still waits for.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from physicsrunner.errors import StorageFull
from physicsrunner.service import facts
from physicsrunner.service.received import Receivers
from physicsrunner.store.base import Actor, Store
from physicsrunner.store.spool import Spool
from physicsrunner.wire import live

FOLDER: Final = "deleting"

_LOG = logging.getLogger(__name__)


class Removal:
    """Deletes runs. Thread-safe."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        data: Path,
        receivers: Receivers,
        *,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self.received = receivers.received
        self._spool = spool
        self._notes = data / FOLDER
        self._now = now

    def remove(self, runs: Sequence[str], *, by: Actor | None = None) -> list[str]:
        """
        Delete those of *runs* that have ended and are not pinned; return the ids of those.

        Parameters
        ----------
        by
            Who asked; None: the server itself (retention).
        """
        present = self._store.summaries(runs)
        events = [
            facts.event(run, live.DELETED, self._now(), name=run.name, created_by=run.created_by)
            for run in present.values()
        ]
        try:
            self._notes.mkdir(exist_ok=True)
            for run in present:
                (self._notes / run).touch()
        except OSError as error:
            raise StorageFull(f"the deletion cannot be noted: {error.strerror}") from error
        gone = self._store.delete_runs(list(present), events, by=by, received=self.received())
        kept = set(present) - set(gone)
        for run in gone:
            self._remove_folder(run)
        for run in kept:
            (self._notes / run).unlink(missing_ok=True)
        return gone

    def sweep(self) -> list[str]:
        """Finish what was begun when the server ended; return the ids of runs whose files went."""
        try:
            noted = sorted(note.name for note in self._notes.iterdir())
        except FileNotFoundError:
            return []
        swept = []
        for run in noted:
            if self._store.summary(run) is None:
                self._remove_folder(run)
                swept.append(run)
            else:
                (self._notes / run).unlink(missing_ok=True)
        return swept

    def _remove_folder(self, run: str) -> None:
        folder = self._spool.run_folder(run)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            (self._notes / run).unlink(missing_ok=True)
        except OSError as error:
            # The note stays: the next start tries again.
            _LOG.warning("the files of the deleted run %s are still there: %s", run, error)
