"""
What runs are given: uploaded inputs, known by their content, and the copy of what was asked.

Promises: an input is kept once, verified; an attempt's token gets those of its run alone. What was
asked lies beside what comes of it, for people and other tools: from the first file on, for the runs
of a batch. It is a copy of the record, and no run is refused for want of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from physicsrunner.core.run import RunRecord
from physicsrunner.errors import DigestMismatch, NotAllowed
from physicsrunner.service import asked
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.store.base import Store
from physicsrunner.store.blobs import BlobStore
from physicsrunner.store.digest import file_digest
from physicsrunner.store.spool import Spool

_LOG = logging.getLogger(__name__)
_FIELDS: Final = ("parameters", "configuration")


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
        self._store.add_upload(key, size, by=identity.subject, now=self._now())
        return size

    def path(self, identity: Identity, sha256: str) -> Path:
        """Return an input's file, to read."""
        self._access.require(identity, "inputs:read")
        key = asked.sha256_of(sha256)
        if identity.kind != "user" and not self._uses(identity, key):
            raise NotAllowed("the token's run does not use this input")
        return self._blobs.path(key)

    def _uses(self, identity: Identity, key: str) -> bool:
        runs = [identity.run or ""]
        if identity.kind == "agent":
            runs = [run.id for run in self._store.active_on(identity.subject)]
        records = self._store.records(runs).values()
        return any(item["sha256"] == key for record in records for item in record.inputs)

    def ensure_beside(self, run: str) -> None:
        """Write what was asked of the run of that id beside what comes of it."""
        if (self._spool.run_folder(run) / "inputs").exists():
            return
        record = self._store.record(run)
        if record is not None:
            self.write_beside(record)

    def write_beside(self, run: RunRecord) -> None:
        """Write what was asked beside what will come of it, if it does not lie there yet."""
        folder = self._spool.run_folder(run.id) / "inputs"
        try:
            if folder.exists():
                return
            folder.mkdir(parents=True, exist_ok=True)
            for name in _FIELDS:
                text = json.dumps(getattr(run, name), indent=2, ensure_ascii=False)
                (folder / f"{name}.json").write_text(
                    # Lone surrogates of a JSON text stay what they were: escapes.
                    text + "\n",
                    encoding="utf-8",
                    errors="backslashreplace",
                )
        except OSError as error:
            _LOG.warning("run %s: its inputs were not written beside it: %s", run.id, error)
