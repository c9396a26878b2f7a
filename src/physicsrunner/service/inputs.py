"""
What runs are given: uploaded inputs, known by their content, and the copy of what was asked.

Promises: an input is kept once, verified, and read by those alone who may. An attempt's token gets
those of its run. What was
asked lies beside what comes of it, for people and other tools: from the first file on, for the runs
of a batch. It is a copy of the record, and no run is refused for want of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import RunRecord
from physicsrunner.errors import DigestMismatch, NotAllowed, NotFound
from physicsrunner.service import asked
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.gate import Gate
from physicsrunner.store.base import Store
from physicsrunner.store.blobs import BlobStore
from physicsrunner.store.digest import file_digest
from physicsrunner.store.spool import Spool, make_folder, put
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

_LOG = logging.getLogger(__name__)
_NAMES: Final = ("parameters.json", "configuration.json")
_REMEMBERED: Final = 1_000  # runs that were granted and of which no file has come
WANTED_S: Final = 3600.0  #: an input that was sent or asked for is kept so long for a run to come
_LONGEST: Final = 16 * 1024  # characters of what is remembered of one


class Inputs:
    """The folder of inputs. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        blobs: BlobStore,
        spool: Spool,
        *,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._access = access
        self._blobs = blobs
        self._spool = spool
        self._now = now
        self._lock = threading.Lock()
        #: Passed by whoever makes a run: none is made of an input that goes at the same moment.
        self.gate = Gate()
        self._lately: list[set[str]] = [set(), set()]  # sent or asked for: this hour, the last
        self._turned = now()
        self._granted: dict[str, Sequence[str]] = {}  # run -> the texts of what was asked

    def keep(self, identity: Identity, sha256: str, path: Path) -> int:
        """
        Keep an input by its content; return its size in bytes. *path* stays the caller's to remove.

        Raises
        ------
        DigestMismatch
            If the content is not that of *sha256*.
        """
        self._access.require(identity, "inputs:create")
        key = asked.sha256_of(sha256)
        found, size = file_digest(path)
        if found != key:
            raise DigestMismatch(f"the content has SHA-256 {found}, not {key}")
        self._blobs.put(key, path)
        data = {"sha256": key, "size": size}
        told = Event(live.INPUT_SENT, None, None, None, self._now(), data)
        self._wanted(key)
        with self.gate.shared():
            self._blobs.put(key, path)  # once more: until here it may have gone as unused
            self._store.add_upload(key, size, told, by=identity.actor)
        return size

    def remove_unused(self, uploads: Mapping[str, int], since: int) -> int:
        """
        Remove those of *uploads*, with their sizes, that no run names; return how many.

        Parameters
        ----------
        since
            A run's number: none up to that one names any of them.
        """
        with self.gate.alone():
            now = self._now()
            named, _ = self._store.inputs_named(since, sys.maxsize)
            gone = sorted(uploads.keys() - named - self._wanted())
            if gone:
                said = [{"sha256": key, "size": uploads[key]} for key in gone]
                events = [Event(live.INPUT_REMOVED, None, None, None, now, one) for one in said]
                self._store.remove_uploads(gone, events)
            for key in gone:
                self._blobs.delete(key)
        return len(gone)

    def path(self, identity: Identity, sha256: str, run: str | None = None) -> Path:
        """
        Return an input's file, to read.

        It can be read by those who may read all, by who has sent it, through a *run* that has it
        and that the caller may read, and by the runners of such runs. To all others it is not
        there: who knows a SHA-256 does not have the content.
        """
        self._access.require(identity, "inputs:read")
        key = asked.sha256_of(sha256)
        if not self.may_read(identity, key):
            self._through(identity, key, run)
        self._wanted(key)
        return self._blobs.path(key)

    def _wanted(self, *keys: str) -> set[str]:
        """Note that somebody has *keys*, or asks for them; return all of the last hour or two."""
        with self._lock:
            passed = self._now() - self._turned
            if passed >= WANTED_S:
                last = self._lately[0] if passed < 2 * WANTED_S else set()
                self._lately, self._turned = [set(), last], self._now()
            self._lately[0].update(keys)
            return self._lately[0] | self._lately[1] if not keys else set()

    def may_read(self, identity: Identity, key: str) -> bool:
        """Say whether the caller may read the input, not through a run that is named."""
        if identity.kind != "user":
            return self._uses(identity, key)
        if identity.scope("inputs:read") is Scope.ANY:
            return True
        return self._store.sent_input(key, identity.subject)

    def _through(self, identity: Identity, key: str, run: str | None) -> None:
        if identity.kind != "user":
            raise NotAllowed("the token's run does not use this input")
        record = None if run is None else self._store.record(run)
        seen = record is not None and self._access.may(identity, "runs:read", record)
        if record is None or not seen or all(item["sha256"] != key for item in record.inputs):
            raise NotFound(f"there is no input {key}")

    def _uses(self, identity: Identity, key: str) -> bool:
        runs = [identity.run or ""]
        if identity.kind == "agent":
            runs = [run.id for run in self._store.active_on(identity.subject)]
        records = self._store.records(runs).values()
        return any(item["sha256"] == key for record in records for item in record.inputs)

    def remember(self, run: RunRecord) -> None:
        """Have at hand what was asked of *run*, whose first file will come soon, or never."""
        texts = _texts(run)
        if sum(map(len, texts)) > _LONGEST:
            return
        with self._lock:
            self._granted[run.id] = texts
            if len(self._granted) > _REMEMBERED:
                del self._granted[next(iter(self._granted))]

    def ensure_beside(self, run: str) -> None:
        """Write what was asked of the run of that id beside what comes of it."""
        with self._lock:
            texts = self._granted.pop(run, None)
        folder = self._folder(run)
        if _is_there(folder):
            return
        if texts is not None:
            _write(folder, texts)
            return
        record = self._store.record(run)
        if record is not None:
            _write(folder, _texts(record))

    def write_beside(self, run: RunRecord) -> None:
        """Write what was asked beside what will come of it, if it does not lie there yet."""
        folder = self._folder(run.id)
        if not _is_there(folder):
            _write(folder, _texts(run))

    def _folder(self, run: str) -> str:
        return f"{self._spool.run_folder(run)}/inputs"


def _texts(run: RunRecord) -> Sequence[str]:
    """Return the texts of the files that say what was asked."""
    said = (run.parameters, run.configuration)
    return [json.dumps(value, indent=2, ensure_ascii=False) + "\n" for value in said]


def _is_there(folder: str) -> bool:
    # One that cannot be looked at cannot be written to either, which says why.
    return os.path.exists(folder)  # noqa: PTH110 - of each run: texts


def _write(folder: str, texts: Sequence[str]) -> None:
    try:
        make_folder(folder)
        for name, text in zip(_NAMES, texts, strict=True):
            # Lone surrogates of a JSON text stay what they were: escapes.
            put(f"{folder}/{name}", text.encode(errors="backslashreplace"))
    except OSError as error:
        _LOG.warning("what was asked was not written to %s: %s", folder, error)
