"""
Files of a run, fetched into a folder: whole, checked, several at once.

Promises:

- A file appears under its name only when all of it has come and its SHA-256 is the sealed one.
- What came before a cut is kept beside it (``NAME.part``) and not fetched again.
- A file that is there already, with the same content, is not fetched.
- Two downloads into one folder at once do not disturb each other.
- No path that the server names leads out of the folder.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from physicsrunner.client.case import digest
from physicsrunner.core.paths import check_path
from physicsrunner.errors import DigestMismatch, NotFound, ServerUnavailable, UnsafePath
from physicsrunner.wire import rest

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

#: Told of a download: bytes done, bytes in all, the file at hand.
OnFile = Callable[[int, int, str], None]
_PART: Final = ".part"


@dataclass(frozen=True)
class Downloaded:
    """One file that is here now."""

    path: str  #: on the server
    target: Path
    size: int
    sha256: str | None  #: the sealed one, checked; None: the file was not sealed yet
    fetched: bool = True  #: False: it was here already


class _Count:
    """Bytes of all files together, from several threads."""

    def __init__(self, total: int, on_file: OnFile | None) -> None:
        self._total = total
        self._done = 0
        self._on_file = on_file
        self._lock = threading.Lock()

    def add(self, count: int, path: str) -> None:
        with self._lock:
            self._done += count
            if self._on_file:
                self._on_file(self._done, max(self._total, self._done), path)


def download(
    client: Client,
    run: str,
    target: Path,
    paths: Sequence[str],
    *,
    jobs: int = 4,
    on_file: OnFile | None = None,
) -> list[Downloaded]:
    """Fetch files of *run* into *target*; see `Client.download`."""
    wanted = choose(client.files(run), paths)
    target.mkdir(parents=True, exist_ok=True)
    root = target.resolve()
    count = _Count(sum(int(file["size"]) for file in wanted), on_file)
    with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="download") as pool:
        futures = [pool.submit(_fetch, client, run, file, root, count) for file in wanted]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def choose(files: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> list[Mapping[str, Any]]:
    """
    Return those of *files* that *paths* name: a file, a folder, or a pattern.

    A pattern without a slash is held against the file's name alone. Raises `NotFound` for a path
    that names nothing.
    """
    if not paths:
        return list(files)
    chosen: dict[str, Mapping[str, Any]] = {}
    for wanted in paths:
        found = [file for file in files if _names(wanted.rstrip("/"), str(file["path"]))]
        if not found:
            raise NotFound(f"the run has no file {wanted!r}; `physicsrunner files RUN` lists them")
        chosen.update({str(file["path"]): file for file in found})
    return list(chosen.values())


def _names(wanted: str, path: str) -> bool:
    held = path if "/" in wanted else path.rsplit("/", 1)[-1]
    return path == wanted or path.startswith(f"{wanted}/") or fnmatchcase(held, wanted)


def _fetch(
    client: Client, run: str, file: Mapping[str, Any], root: Path, count: _Count
) -> Downloaded:
    path, size, sha256 = str(file["path"]), int(file["size"]), file.get("sha256")
    target = _inside(root, path)
    if _same(target, size, sha256):
        count.add(size, path)
        return Downloaded(path, target, size, sha256, fetched=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part_file(target) as part:
        client.answered(lambda: _receive(client, run, path, size, sha256, part, count))
        if sha256 and digest(part) != sha256:
            # What was kept from before may have been of another content: once more, from the start.
            count.add(-part.stat().st_size, path)
            os.truncate(part, 0)
            client.answered(lambda: _receive(client, run, path, size, sha256, part, count))
            if digest(part) != sha256:
                os.truncate(part, 0)
                raise DigestMismatch(f"{path}: what came is not what the server has sealed")
        size = part.stat().st_size
        part.replace(target)
    return Downloaded(path, target, size, sha256)


def _inside(root: Path, path: str) -> Path:
    target = root / check_path(path)
    # A link that lies in the folder already must not lead out of it.
    if not target.parent.resolve().is_relative_to(root):
        raise UnsafePath(f"{path!r} would be written outside {root}")
    if target.is_symlink() or target.is_dir():
        raise UnsafePath(f"{target} is a link or a folder; it is in the way of {path!r}")
    return target


def _same(target: Path, size: int, sha256: str | None) -> bool:
    if sha256 is None or not target.is_file() or target.stat().st_size != size:
        return False
    return digest(target) == sha256


@contextmanager
def _part_file(target: Path) -> Iterator[Path]:
    """Give the file to write to, held by a lock; one of our own when another holds it."""
    part = target.with_name(target.name[: 255 - len(_PART)] + _PART)
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other may have moved the file away between our two steps.
        ours = part.exists() and os.fstat(handle).st_ino == part.stat().st_ino
    except OSError:
        ours = False
    try:
        if ours:
            yield part
        else:
            own = target.with_name(f".{uuid.uuid4().hex}{_PART}")
            try:
                own.touch()
                yield own
            finally:
                own.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _receive(
    client: Client,
    run: str,
    path: str,
    size: int,
    sha256: str | None,
    part: Path,
    count: _Count,
) -> None:
    """Fetch what is missing of *part*; what comes before a cut stays."""
    have = part.stat().st_size
    if have > size or sha256 is None:
        os.truncate(part, 0)  # of another content, or of one that may still change
        have = 0
    # Counted once, however often the line is cut.
    if have and have == size:
        count.add(size, path)
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        # If the rest is of another content, the SHA-256 of the whole will tell.
        headers["Range"] = f"bytes={have}-"
    url = rest.artifact(run, path)
    with client.http.request("GET", url, headers=headers, stream=True) as response:
        if response.status_code != 206:
            os.truncate(part, 0)
            have = 0
        count.add(have, path)
        written = have
        try:
            with part.open("ab") as file:
                for data in client.http.pieces(response):
                    file.write(data)
                    written += len(data)
                    count.add(len(data), path)
        except ServerUnavailable:
            count.add(-written, path)
            raise
    if sha256 and part.stat().st_size < size:
        count.add(-written, path)
        raise ServerUnavailable(f"{path}: the line was cut after {written} of {size} bytes")
