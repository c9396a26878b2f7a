"""
What a PhysicsWorks server has of one run's files, kept on our side: that wire cannot be asked.

Promises:

- A file is either *live* (logs, plots, media: appended as they grow) or a *result* (everything
  else: sent in chunks when it is whole). `kind_of` decides by the artifact's path alone.
- What is remembered over a restart is only what was sealed. Everything else is sent anew, under a
  new stored name: after a kill nobody can say how much of an append the server took.

This module sends nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RESULT: Final = "downloadables"
#: Folder of the artifact -> the array of the run document that lists it. First match wins.
LIVE_KINDS: Final = (
    ("logs/", "logs"),
    ("outputs/plots/", "plots"),
    ("outputs/media/", "media"),
)
_RESULT_FOLDERS: Final = ("outputs/data_files/", "outputs/")
KINDS: Final[tuple[str, ...]] = ("logs", "plots", "media", RESULT, "graphics")
_EXTENSION: Final = re.compile(r"(\.tar)?\.[A-Za-z0-9]{1,16}$")
_PIECE: Final = 1024 * 1024  # bytes read at once where nothing is sent


def kind_of(path: str) -> str:
    """Return the array of the run document that lists the artifact *path*."""
    return next((kind for folder, kind in LIVE_KINDS if path.startswith(folder)), RESULT)


def known_name(path: str) -> str:
    """Return the name by which people know the artifact: its path below its kind's folder."""
    folders = (*(folder for folder, _ in LIVE_KINDS), *_RESULT_FOLDERS)
    return next((path[len(folder) :] for folder in folders if path.startswith(folder)), path)


def extension(path: str) -> str:
    """Return the extension of the stored name: ``.tar.gz`` is one."""
    found = _EXTENSION.search(path)
    return found.group() if found else ""


@dataclass
class SentFile:
    """One file of the run, as the server has it."""

    path: str
    stored: str  #: the name on the server
    offset: int = 0  #: bytes that the server has for certain (a result: that we hold for it)
    hasher: Any = field(default_factory=hashlib.sha256)  #: over the bytes sent; None: not known
    sealed: str | None = None  #: SHA-256
    source: Path | None = None  #: of a result: where its bytes are
    held: bytearray = field(default_factory=bytearray)  #: of a result without a source
    next_chunk: int = 0  #: of a result: chunks sent
    target: tuple[int, str] | None = None  #: of a result: (size, SHA-256) that is being sent
    created: bool = False  #: the server knows the stored name
    lock: threading.RLock = field(default_factory=threading.RLock)  #: held while it is sent

    @property
    def live(self) -> bool:
        """Whether it is sent while it grows."""
        return kind_of(self.path) != RESULT

    def restart(self) -> None:
        """Forget what the server has: the file goes anew, under a new stored name."""
        self.stored = stored_name(self.path)
        self.offset = 0
        self.created = False
        self.sealed = None
        self.restart_chunks()

    def restart_chunks(self) -> None:
        """Send the chunks from the first one again."""
        self.hasher = hashlib.sha256()
        self.next_chunk = 0
        self.target = None

    def hash_known(self, source: Path | None) -> bool:
        """
        Say whether `hasher` covers the bytes sent; read *source* again where it does not.

        After a restart a sealed log may go on growing: what was sealed must still be its head.
        """
        if self.hasher is not None:
            return True
        if source is None or self.sealed is None:
            return False
        head = hashlib.sha256()
        for piece in read_range(source, 0, self.offset, _PIECE):
            head.update(piece)
        if head.hexdigest() != self.sealed:
            return False
        self.hasher = head
        return True


def stored_name(path: str) -> str:
    """Make a new stored name for the artifact *path*."""
    return f"{uuid.uuid4()}{extension(path)}"


def read_range(source: Path, offset: int, length: int, piece: int) -> Iterator[bytes]:
    """Read *length* bytes of *source* from *offset* on, fewer if the file ends before."""
    with source.open("rb") as file:
        file.seek(offset)
        while length > 0 and (data := file.read(min(piece, length))):
            length -= len(data)
            yield data


class SentFiles:
    """
    All files of one run; sealed ones are written to *ledger* (JSON lines) when it is given.

    Any thread may call; a `SentFile` is changed with its ``lock`` held.
    """

    def __init__(self, ledger: Path | None = None) -> None:
        self._ledger = ledger
        self._guard = threading.Lock()
        self._files: dict[str, SentFile] = {}
        if ledger is not None and ledger.exists():
            self._load(ledger)

    def _load(self, ledger: Path) -> None:
        for line in ledger.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                path = row["path"]
                if row.get("removed"):
                    self._files.pop(path, None)
                    continue
                self._files[path] = SentFile(
                    path=path,
                    stored=row["stored"],
                    offset=row["size"],
                    hasher=None if row["size"] else hashlib.sha256(),
                    sealed=row["sha256"],
                    created=True,
                )
            except (ValueError, KeyError, TypeError):
                continue  # a line cut by a kill: that file is sent anew

    def _write(self, row: dict[str, Any]) -> None:
        if self._ledger is not None:
            with self._guard, self._ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def all(self) -> list[SentFile]:
        """Return all files, by path."""
        with self._guard:
            return [self._files[path] for path in sorted(self._files)]

    def get(self, path: str) -> SentFile:
        """Return the file, new if it is not known yet."""
        with self._guard:
            if path not in self._files:
                self._files[path] = SentFile(path=path, stored=stored_name(path))
            return self._files[path]

    def seal(self, file: SentFile, sha256: str) -> None:
        """Remember that the server has all of it."""
        file.sealed = sha256
        file.held = bytearray()
        size = file.offset
        self._write({"path": file.path, "stored": file.stored, "size": size, "sha256": sha256})

    def unseal(self, file: SentFile) -> None:
        """Note, before more bytes go into it, that the stored file is no longer what was sealed."""
        if file.sealed is not None:
            self._write({"path": file.path, "removed": True})
            file.sealed = None

    def remove(self, path: str) -> SentFile | None:
        """Forget the file; None when it was not known."""
        with self._guard:
            file = self._files.pop(path, None)
        if file is not None and file.sealed:
            self._write({"path": path, "removed": True})
        return file

    def listed(self, kind: str) -> list[SentFile]:
        """Return the files that the array *kind* lists, by path."""
        return [
            file
            for file in self.all()
            if kind_of(file.path) == kind and (file.created if file.live else file.sealed)
        ]

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return the array *kind* of the run document."""
        if kind == "graphics":
            return [entry for file in self.listed(RESULT) if (entry := _graphic(file)) is not None]
        return [_ENTRY[kind](file) for file in self.listed(kind)]


def _log(file: SentFile) -> dict[str, Any]:
    return {"name": str(Path(known_name(file.path)).with_suffix("")), "file": file.stored}


def _medium(file: SentFile) -> dict[str, Any]:
    kind = Path(file.path).suffix.lstrip(".")
    return {"name": known_name(file.path), "type": kind, "file": file.stored}


def _downloadable(file: SentFile) -> dict[str, Any]:
    return {"name": known_name(file.path), "file": file.stored, "size": file.offset}


_ENTRY: Final[dict[str, Callable[[SentFile], dict[str, Any]]]] = {
    "logs": _log,
    "plots": _log,
    "media": _medium,
    RESULT: _downloadable,
}


def _graphic(file: SentFile) -> dict[str, Any] | None:
    """Return the entry of an archive of geometry (``vtp...tar.gz``), None for other files."""
    name = Path(file.path).name
    kind = next((kind for kind in ("vtp", "gltf") if name.startswith(kind)), None)
    if kind is None or not name.endswith(".tar.gz"):
        return None
    title = kind.upper()
    return {
        "name": title,
        "type": kind,
        "file": file.stored,
        "value": {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, file.stored)),
            "title": title,
            "slug": kind,
            "simulationFields": True,
            "data": {"filename": file.stored},
        },
    }
