"""
Files that come over the PhysicsWorks wire, on their way into an attempt.

Promises:

- ``storage/append`` adds at the end of what is stored, ``isNew`` begins the file anew;
  ``storage/chunks`` writes chunk i at i x 5 MiB and makes no hole: a chunk whose place lies past
  the stored bytes is answered "later" (503), so a sender that retries mends its order itself.
- The bytes stored are those that came. A file whose size is known is sealed when it is whole;
  the others when the run ends, and every file of a run that one of our runners carries out at
  once, because nobody else would.
- A file of which a part never came is not passed off as whole: at the end it is sealed under the
  name ``NAME.incomplete``, and the book says how much is missing.

Whose files these are and who may write, the services decide.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from physicsrunner.errors import (
    InvalidRequest,
    NotFound,
    PhysicsRunnerError,
    ServerUnavailable,
    StorageFull,
)
from physicsrunner.server.doors.physicsworks import book as books
from physicsrunner.server.doors.physicsworks.book import Book, StoredName
from physicsrunner.server.doors.physicsworks.forms import Payload
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.messages import SyncOp, SyncResult
from physicsrunner.wire.physicsworks import CHUNK_SIZE

_REMEMBERED: Final = 512  # attempts whose books are kept in memory
_READ: Final = 1024 * 1024


class ChunkTooEarly(ServerUnavailable):
    """A chunk came before the one in front of it."""

    code = "offset_mismatch"
    what_to_do = "Send the chunks in order; send this one again after those before it."


@dataclass(frozen=True)
class Place:
    """The attempt that files go to, and as whom."""

    identity: Identity
    run: str
    attempt: int


@dataclass
class _Open:
    """One attempt's book and what is known of its files."""

    book: Book = field(default_factory=Book)
    loaded: bool = False
    users: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    hashes: dict[str, tuple[int, Any]] = field(default_factory=dict)  #: path -> (bytes, hash)

    def forget(self) -> None:
        """Read everything again: what is stored may be more than what is known here."""
        self.loaded = False
        self.book = Book()
        self.hashes.clear()


class DoorFiles:
    """The files of all attempts that are served at this door."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guard = threading.Lock()
        self._opened: OrderedDict[tuple[str, int], _Open] = OrderedDict()

    # -- what comes ------------------------------------------------------------------------------

    def append(self, place: Place, fields: Mapping[str, Any], data: Payload) -> None:
        """Add *data* to a log, plot or medium."""
        stored, original = _names(fields)
        with self._open(place) as opened:
            kind = books.guess_kind(stored, ascii_text=bool(fields.get("isAscii", True)))
            name, ops, row = self._named(place, opened, stored, original, kind, None)
            size = self._stored_size(place, name.path)
            if fields.get("isNew") and size:
                ops.append(self._op(place, name.path, "truncate", size=0))
                size = 0
            ops.append(self._op(place, name.path, "append", offset=size, length=data.size))
            self._carry(place, opened, ops, data.pieces(), row)
            self._hashed(opened, name.path, size, data)
            if not opened.book.runner or self._ended(place):
                self._seal(place, opened, [name.path, books.PATH])

    def chunk(self, place: Place, fields: Mapping[str, Any], data: Payload) -> None:
        """Write one chunk of a result file; the last one makes it whole."""
        stored, original = _names(fields)
        index, expected = _number(fields, "chunkIndex"), _number(fields, "fileSize")
        start = index * CHUNK_SIZE
        if data.size > CHUNK_SIZE or start + data.size > expected:
            raise InvalidRequest(
                f"chunk {index} of {data.size} bytes does not fit into {expected} bytes: "
                f"chunk i begins at i x {CHUNK_SIZE}"
            )
        with self._open(place) as opened:
            name, ops, row = self._named(place, opened, stored, original, books.RESULT, expected)
            size = self._stored_size(place, name.path)
            if start > size:
                raise ChunkTooEarly(
                    f"{original}: chunk {index} begins at {start}, stored are {size} bytes"
                )
            ops.append(self._op(place, name.path, "write", offset=start, length=data.size))
            size = max(size, start + data.size)
            last = start + data.size == expected
            if last and size > expected:
                ops.append(self._op(place, name.path, "truncate", size=expected))
            self._carry(place, opened, ops, data.pieces(), row)
            self._hashed(opened, name.path, start, data)
            if last or not opened.book.runner:
                self._seal(place, opened, [name.path, books.PATH])

    def note(self, place: Place, fact: Mapping[str, Any]) -> None:
        """Write *fact* into the book, unless it says so already."""
        with self._open(place) as opened:
            self._note(place, opened, [fact])
            if not opened.book.runner or self._ended(place):
                self._seal(place, opened, [books.PATH])

    def keep(self, place: Place, fields: Mapping[str, Any]) -> None:
        """Keep parts of the run document; files go where their array says they belong."""
        with self._open(place) as opened:
            book = opened.book
            if (news := book.news(fields)) is not None:
                self._note(place, opened, [news])
            for kind in (kind for kind in books.LISTED if kind in fields):
                listed = books.file_names(fields[kind])
                for old, new in book.superseded(kind, listed):
                    self._supersede(place, opened, old, new)
                for name, target in book.moves(kind, listed):
                    self._move(place, opened, name, self._place(place, book, name, target))
            if not book.runner or self._ended(place):
                self._seal(place, opened, [books.PATH])

    def fields(self, place: Place) -> dict[str, Any]:
        """Return the parts of the run document that are kept."""
        with self._open(place) as opened:
            return dict(opened.book.fields)

    def kept(self, place: Place) -> tuple[dict[str, Any], list[str]]:
        """Return the same, and the artifacts of the files that its arrays list."""
        with self._open(place) as opened:
            fields, names = dict(opened.book.fields), opened.book.names
            arrays = (fields.get(kind) for kind in (*books.LISTED, "graphics", books.RESULT))
            listed = (file for array in arrays if array for file in books.file_names(array))
            return fields, [names[file].path for file in listed if file in names]

    def artifact(self, place: Place, file: str) -> str:
        """
        Return the path of the file that people mean by *file*.

        It is a stored name of that wire, a path, or the end of the path of one file alone.
        """
        with self._open(place) as opened:
            if file in opened.book.names:
                return opened.book.names[file].path
        stored = self._services.files.list(place.identity, place.run, place.attempt)
        paths = [one.path for one in stored]
        if file in paths:
            return file
        ending = [path for path in paths if file and path.endswith(f"/{file}")]
        if len(ending) > 1:
            raise InvalidRequest(
                f"there are {len(ending)} files {file!r}: {', '.join(ending[:10])}"
            )
        if not ending:
            raise NotFound(f"run {place.run} has no file {file!r}")
        return ending[0]

    def seal_all(self, place: Place) -> list[str]:
        """Seal what is there; return the names of files of which a part never came."""
        with self._open(place) as opened:
            torn = [
                (name, size)
                for name in list(opened.book.names.values())
                if name.expected is not None
                and (size := self._stored_size(place, name.path)) < name.expected
            ]
            for name, size in torn:
                path = f"{name.path}.incomplete"
                fact = {"incomplete": path, "size": size, "expected": name.expected}
                self._note(place, opened, [fact])
                self._move(place, opened, name, path)
            files = self._services.files.stored(place.identity, place.run, place.attempt)
            self._seal(place, opened, [file.path for file in files if not file.sealed])
            return [name.original for name, _ in torn]

    # -- how it is stored ------------------------------------------------------------------------

    @contextmanager
    def _open(self, place: Place) -> Iterator[_Open]:
        """Give the attempt's book, to one caller at a time."""
        key = (place.run, place.attempt)
        with self._guard:
            opened = self._opened.setdefault(key, _Open())
            opened.users += 1
            self._opened.move_to_end(key)
        try:
            with opened.lock:
                self._load(place, opened)
                yield opened
        finally:
            with self._guard:
                opened.users -= 1
                self._forget_idle()

    def _load(self, place: Place, opened: _Open) -> None:
        if opened.loaded:
            return
        try:
            path = self._services.files.path(place.identity, place.run, books.PATH, place.attempt)
            opened.book.load(path.read_bytes())
        except NotFound:
            opened.book = Book()
        opened.loaded = True

    def _forget_idle(self) -> None:
        """Forget the books that were not used for longest; one in use must stay the only one."""
        idle = [key for key, opened in self._opened.items() if not opened.users]
        for key in idle[: max(0, len(self._opened) - _REMEMBERED)]:
            del self._opened[key]

    def _named(
        self,
        place: Place,
        opened: _Open,
        stored: str,
        original: str,
        kind: str,
        expected: int | None,
    ) -> tuple[StoredName, list[SyncOp], bytes]:
        """Return the artifact of a stored name, and what to write into the book if it is new."""
        known = opened.book.names.get(stored)
        if known is not None and known.expected == expected:
            return known, [], b""
        if known is None:
            taken = [
                file.path
                for file in self._services.files.stored(place.identity, place.run, place.attempt)
            ]
            path = opened.book.place(stored, original, kind, taken)
            known = StoredName(stored, path, original, expected)
        fact = _fact(StoredName(stored, known.path, original, expected))
        row = opened.book.lines([fact])
        op = self._op(place, books.PATH, "append", offset=opened.book.size, length=len(row))
        # Known only once it is written: a failure in between must not leave a name in memory.
        return known, [op], row

    def _note(self, place: Place, opened: _Open, facts: Sequence[Mapping[str, Any]]) -> None:
        row = opened.book.lines(facts)
        op = self._op(place, books.PATH, "append", offset=opened.book.size, length=len(row))
        self._carry(place, opened, [op], (), row)

    def _place(self, place: Place, book: Book, name: StoredName, kind: str) -> str:
        files = self._services.files.stored(place.identity, place.run, place.attempt)
        return book.place(name.stored, name.original, kind, [file.path for file in files])

    def _move(self, place: Place, opened: _Open, name: StoredName, path: str) -> None:
        self._carry(place, opened, [self._op(place, name.path, "rename", to=path)])
        opened.hashes.pop(name.path, None)
        moved = StoredName(name.stored, path, name.original, name.expected)
        self._note(place, opened, [_fact(moved)])

    def _supersede(self, place: Place, opened: _Open, old: StoredName, new: StoredName) -> None:
        """Let *new* take the place of *old*, the same file that was begun anew."""
        self._note(place, opened, [{"stored": old.stored, "gone": True}])
        self._carry(place, opened, [self._op(place, old.path, "remove")])
        opened.hashes.pop(old.path, None)
        self._move(place, opened, new, old.path)

    def _carry(
        self,
        place: Place,
        opened: _Open,
        ops: Sequence[SyncOp],
        pieces: Iterable[bytes] = (),
        row: bytes = b"",
    ) -> None:
        """
        Carry out operations as one frame; raise what the first failing one means.

        *row* is for the book; its operation is the first one.
        """
        # On this wire logs go on after "finished": what grows then is no other result.
        writer = self._services.files.open_frame(
            place.identity, list(ops), amend=opened.book.runner
        )
        try:
            for piece in itertools.chain((row,), pieces):
                if piece:
                    writer.feed(piece)
            results = writer.finish()
        except BaseException:
            writer.abort()
            opened.forget()
            raise
        failed = next((result for result in results if result.error), None)
        if failed is not None:
            opened.forget()
            raise _failure(failed)
        opened.book.load(row)

    def _seal(self, place: Place, opened: _Open, paths: Sequence[str]) -> None:
        ops = []
        for path in dict.fromkeys(paths):
            size = self._stored_size(place, path)
            digest = self._digest(place, opened, path, size)
            ops.append(self._op(place, path, "seal", size=size, sha256=digest))
        if ops:
            self._carry(place, opened, ops)

    def _hashed(self, opened: _Open, path: str, offset: int, data: Payload) -> None:
        """Go on hashing a file that grows in order; otherwise it is read when it is sealed."""
        length, running = opened.hashes.get(path, (0, None))
        if offset == 0:
            length, running = 0, hashlib.sha256()
        if running is None or length != offset:
            opened.hashes.pop(path, None)
            return
        for piece in data.pieces():
            running.update(piece)
        opened.hashes[path] = (offset + data.size, running)

    def _digest(self, place: Place, opened: _Open, path: str, size: int) -> str:
        length, running = opened.hashes.get(path, (-1, None))
        if running is not None and length == size:
            return str(running.hexdigest())
        digest = hashlib.sha256()
        local = self._services.files.path(place.identity, place.run, path, place.attempt)
        with local.open("rb") as file:
            while piece := file.read(_READ):
                digest.update(piece)
        return digest.hexdigest()

    def _stored_size(self, place: Place, path: str) -> int:
        try:
            local = self._services.files.path(place.identity, place.run, path, place.attempt)
            return local.stat().st_size
        except (NotFound, FileNotFoundError):
            return 0

    def _ended(self, place: Place) -> bool:
        return self._services.runs.get(place.identity, place.run).completed_at is not None

    def _op(self, place: Place, path: str, op: str, **fields: Any) -> SyncOp:
        return SyncOp(run=place.run, attempt=place.attempt, path=path, op=op, **fields)


def _fact(name: StoredName) -> dict[str, Any]:
    fact = {"stored": name.stored, "path": name.path, "original": name.original}
    return fact if name.expected is None else {**fact, "expected": name.expected}


def _names(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return the stored name and the name that people know."""
    stored = fields.get("filename")
    metadata = fields.get("metadata")
    original = metadata.get("originalname") if isinstance(metadata, Mapping) else None
    if not isinstance(stored, str) or not stored:
        raise InvalidRequest("the form's JSON has no text 'filename'")
    return stored, original if isinstance(original, str) and original else stored


def _number(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest(f"the form's JSON has no whole number {key!r}")
    return value


def _failure(result: SyncResult) -> PhysicsRunnerError:
    text = result.detail or str(result.error)
    if result.error == StorageFull.code:
        return StorageFull(text)
    if result.retryable or result.error == "offset_mismatch":
        return ChunkTooEarly(text)
    return InvalidRequest(text)
