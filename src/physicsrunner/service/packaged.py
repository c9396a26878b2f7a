"""
Models that a setting names: one of the users', or else a case that came with physicsrunner.

Promises: a model of that name (of no project) or id that is in the store wins, in its newest
version; where there is none, the packaged case of that name becomes a model, once, and again when
a newer physicsrunner brings another version of it. A case that people have given a version of
their own is never put over.
"""

from __future__ import annotations

import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from physicsrunner.client.case import CASE_FILES, pack, read_case
from physicsrunner.errors import ConfigError, NotFound
from physicsrunner.examples import EXAMPLES
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.models import ModelService, bundle_version
from physicsrunner.store.base import ModelRow, Store
from physicsrunner.wire.documents import Case, parse_case

#: Who is named as the creator of a model that came with us.
PACKAGED_BY: Final = "physicsrunner"
_MOST: Final = 1_000  # case files that are remembered


@dataclass(frozen=True)
class NamedModel:
    """The version of a model that a run is to use, and its case file's defaults."""

    id: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class PackagedModels:
    """Finds models by the names that settings give. Thread-safe."""

    def __init__(
        self, store: Store, models: ModelService, access: AccessService, scratch: Path
    ) -> None:
        self._store = store
        self._models = models
        self._access = access
        self._scratch = scratch
        self._lock = threading.Lock()
        self._ids: dict[str, str] = {}
        self._case = lru_cache(_MOST)(_read)  # a version's file never changes

    def model(self, identity: Identity, name: str) -> NamedModel:
        """
        Return the model *name* in its newest version, for runs that *identity* asks for.

        Raises
        ------
        NotFound
            If there is neither a model nor a packaged case of that name.
        """
        self._access.require(identity, "runs:create")
        row = self._newest(name)
        case = self._case(self._models.content(row.version))
        return NamedModel(row.id, row.version, case.parameters)

    def _newest(self, name: str) -> ModelRow:
        known = self._ids.get(name)
        row = self._store.model(known) if known is not None else None
        if row is not None:
            return row
        with self._lock:
            row = self._found(name) or self._stored(name, None)
            self._ids[name] = row.id
            return row

    def _found(self, name: str) -> ModelRow | None:
        """Return the model of the store; ours in the version that this physicsrunner has."""
        row = self._store.model(name)
        if row is None:
            of_name = [one for one in self._store.models() if one.name == name]
            row = next((one for one in of_name if one.project_id is None), None)
        if row is None or row.created_by != PACKAGED_BY or name not in EXAMPLES:
            return row
        return self._stored(name, row)

    def _stored(self, name: str, there: ModelRow | None) -> ModelRow:
        """Return the packaged case as a model; *there* is the version of it that is newest."""
        if name not in EXAMPLES:
            raise NotFound(
                f"there is no model {name!r} (of no project): upload it, or change the setting; "
                f"packaged are {', '.join(EXAMPLES)}"
            )
        case = read_case(EXAMPLES[name].folder)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            packed = Path(folder) / "model.zip"
            pack(case.model, packed, lambda _length: None)
            if there is not None and there.version == bundle_version(packed):
                return there
            ours = Identity("user", PACKAGED_BY, "admin")
            added = self._models.add(ours, packed, name)
        row = self._store.model(added.id, added.version)
        if row is None:
            raise NotFound(f"the model {name!r} was removed while it was stored; try again")
        return row


def _read(bundle: Path) -> Case:
    """Return what the case file of *bundle* says; nothing if it has none, or a wrong one."""
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
        found = next((name for name in CASE_FILES if name in names), None)
        if found is None:
            return Case()
        text = archive.read(found).decode("utf-8", "replace")
    try:
        return parse_case(text, found)
    except ConfigError:  # its main.py may do without
        return Case()
