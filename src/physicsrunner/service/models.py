"""
Models: immutable, versioned bundles with a main.py.

Promises: a bundle is checked before it is kept (safe names, no links, no bomb, main.py at its top);
its version is the SHA-256 of its content, and the same content is stored once; a model's name is
one model in its project.
"""

from __future__ import annotations

import hashlib
import uuid
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.core.bundle import MAX_BYTES, check_member, check_names, content_version
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotFound, UnsafeArchive
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.store.base import ModelRow, Store
from physicsrunner.store.blobs import BlobStore
from physicsrunner.store.digest import READ, file_digest
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
#: What every Python can unpack.
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model."""

    id: str
    name: str
    version: str  #: SHA-256 of its content
    size: int  #: bytes of the zip
    sha256: str  #: of the zip
    created: float  #: POSIX seconds


Versions = list[ModelVersion]  # inside the class, `list` is the method
Rows = list[ModelRow]


class ModelService:
    """Bundles in, bundles out. Thread-safe."""

    def __init__(
        self, store: Store, blobs: BlobStore, access: AccessService, *, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._access = access
        self._now = now

    def add(
        self,
        identity: Identity,
        zip_path: Path,
        name: str | None = None,
        project: str | None = None,
    ) -> ModelVersion:
        """
        Keep the bundle at *zip_path*, which stays the caller's to remove, in *project* or in none.

        Raises
        ------
        InvalidRequest, UnsafeArchive
            If it is no zip, has no main.py, or holds what must not be unpacked.
        """
        self._access.require_new(identity, "models:create", project)
        title = (name or "").strip() or "model"
        if len(title) > 255:
            raise InvalidRequest("the model's name is longer than 255 characters")
        self._check_name(identity, title, project)
        version = bundle_version(zip_path)
        self._blobs.put(version, zip_path)
        # Of what is kept: the same content may lie there already, packed in another way.
        sha256, size = file_digest(self._blobs.path(version))
        row = ModelRow(
            id="",
            name=title,
            version=version,
            size=size,
            sha256=sha256,
            created=self._now(),
            created_by=identity.subject,
            project_id=project,
        )
        kept = self._store.add_model(row, str(uuid.uuid4()), _added, by=identity.actor)
        return _version(kept)

    def bundle(self, identity: Identity, model_id: str, version: str | None = None) -> Path:
        """Return the zip of a version, to read. A machine gets those of its runs alone."""
        return self._blobs.path(self.usable(identity, model_id, version).version)

    def content(self, version: str) -> Path:
        """Return the zip of a version, for the services themselves."""
        return self._blobs.path(version)

    def get(self, identity: Identity, model_id: str, version: str | None = None) -> ModelVersion:
        """Return a version of a model; *version* None: the newest."""
        return _version(self.usable(identity, model_id, version))

    def list(self, identity: Identity) -> Versions:
        """Return the newest version of every model that the caller may read, the latest first."""
        return [_version(row) for row in self.readable(identity)]

    def readable(self, identity: Identity) -> Rows:
        """Return what the store has of the same."""
        self._access.require(identity, "models:read")
        shown = self._may_read if identity.kind == "user" else self._uses
        return [row for row in self._store.models() if shown(identity, row)]

    def usable(self, identity: Identity, model_id: str, version: str | None = None) -> ModelRow:
        """Return what the store has of a version that the caller may read; raise `NotFound`."""
        self._access.require(identity, "models:read")
        row = self.row(model_id, version)
        if identity.kind == "user":
            if not self._may_read(identity, row):
                raise NotFound(f"there is no model {model_id}")
        elif not self._uses(identity, row):
            raise NotAllowed("the token's run does not use this model")
        return row

    def row(self, model_id: str, version: str | None) -> ModelRow:
        """Return what the store has of a version; raise `NotFound`."""
        row = self._store.model(model_id, version)
        if row is None:
            of = f" version {version}" if version else ""
            raise NotFound(f"there is no model {model_id}{of}")
        return row

    def _may_read(self, identity: Identity, row: ModelRow) -> bool:
        return self._access.may_see(identity, "models:read", row.project_id, row.created_by)

    def _uses(self, identity: Identity, row: ModelRow) -> bool:
        """Say whether a machine's run has that model, or a run that an agent carries out."""
        if identity.kind == "attempt":
            run = self._store.summary(identity.run or "")
            runs = [] if run is None else [run]
        else:
            runs = self._store.active_on(identity.subject)
        return any((run.model_id, run.model_version) == (row.id, row.version) for run in runs)

    def _check_name(self, identity: Identity, name: str, project: str | None) -> None:
        """Raise where somebody else's model would get a version of who may not even read it."""
        for row in self._store.models():
            if (row.name, row.project_id) == (name, project) and not self._may_read(identity, row):
                raise Conflict(f"the model name {name!r} is taken; choose another one")


def _version(row: ModelRow) -> ModelVersion:
    return ModelVersion(row.id, row.name, row.version, row.size, row.sha256, row.created)


def _added(row: ModelRow) -> Event:
    data = {"model_id": row.id, "name": row.name, "version": row.version, "size": row.size}
    return Event(live.MODEL_ADDED, None, None, row.project_id, row.created, data)


def bundle_version(zip_path: Path) -> str:
    """Return the content version of a zip; raise if it must not be kept."""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            names = [
                check_member(
                    info.filename,
                    mode=info.external_attr >> 16,
                    size=info.file_size,
                    packed=info.compress_size,
                )
                for info in members
            ]
            check_names(names)
            left, pairs = MAX_BYTES, []
            for name, info in zip(names, members, strict=True):
                sha256, size = _member_digest(archive, info, left)
                left -= size
                pairs.append((name, sha256))
    except _BROKEN as error:
        raise InvalidRequest(f"the bundle is not a readable zip: {error}") from None
    return content_version(pairs)


def _member_digest(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    if info.compress_type not in _METHODS:
        raise InvalidRequest(f"{info.filename!r} is packed in a way that not every runner can read")
    with archive.open(info) as stream:
        while data := stream.read(READ):
            size += len(data)
            # What the archive declares is not believed: what comes out is counted.
            if size > limit:
                raise UnsafeArchive(f"the bundle is over {MAX_BYTES} bytes when unpacked")
            digest.update(data)
    return digest.hexdigest(), size
