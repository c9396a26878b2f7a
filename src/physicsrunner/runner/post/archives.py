"""
Archives of what main.py left: ``vtp.tar.gz`` and ``gltf.tar.gz`` in outputs/files for viewers, and
``result.zip`` in outputs for people.

Promises: the same files give the same bytes (sorted names, no times, no owners); nothing is held
in memory; an archive appears whole, and a kill leaves none half made. Links out of the work folder
are left out.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import UnsafePath
from physicsrunner.runner.workdir import WorkFolder, files_below

#: Kinds of geometry that viewers take as an archive.
GEOMETRY: Final = ("vtp", "gltf")
DOWNLOADABLE: Final = "result.zip"
_SAME_TIME: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 1024 * 1024
#: Packed already: trying again costs time and gains nothing.
_PACKED: Final = frozenset({".zip", ".gz", ".bz2", ".xz", ".zst", ".png", ".jpg", ".mp4", ".webm"})


def geometry_archives(
    folder: WorkFolder, left: Iterable[os.DirEntry[str]] | None = None
) -> list[Path]:
    """
    Make an archive of each kind of geometry file below outputs/; return their paths.

    *left* is what lies there, if that is known.
    """
    made = []
    found: dict[str, list[Path]] = {kind: [] for kind in GEOMETRY}
    for path in _chosen(
        files_below(str(folder.outputs)) if left is None else left,
        folder,
        tuple(f".{kind}" for kind in GEOMETRY),
    ):
        found[path.suffix.lower()[1:]].append(path)
    for kind, files in found.items():
        if files:
            target = folder.outputs / "files" / f"{kind}.tar.gz"
            _tar(files, folder.outputs, target)
            made.append(target)
    return made


def downloadable(folder: WorkFolder, wanted: Any) -> Path | None:
    """
    Make the zip of the files that *wanted* names; None when it names none that are there.

    Parameters
    ----------
    wanted
        Patterns relative to the work folder (``outputs/*.vtu``; a folder means all in it), or the
        nested object of the PhysicsWorks wire, whose true leaves are paths.
    """
    target = folder.outputs / DOWNLOADABLE
    found = {
        path
        for pattern in _patterns(wanted)
        for path in _matching(folder, pattern)
        if path != target
    }
    if not found:
        return None
    temporary = folder.control / f"{DOWNLOADABLE}.part"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for path in sorted(found):
            entry = zipfile.ZipInfo(folder.relative(path), _SAME_TIME)
            packed = path.suffix.lower() in _PACKED
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                while data := source.read(_CHUNK):
                    out.write(data)
    temporary.replace(target)
    return target


def _tar(files: Iterable[Path], base: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(files):
                with path.open("rb") as source:
                    entry = tarfile.TarInfo(path.relative_to(base).as_posix())
                    entry.size = os.fstat(source.fileno()).st_size
                    entry.mode = 0o644
                    archive.addfile(entry, source)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _chosen(
    entries: Iterable[os.DirEntry[str]], folder: WorkFolder, endings: tuple[str, ...] = ("",)
) -> Iterator[Path]:
    for entry in entries:
        if entry.name.lower().endswith(endings):
            path = Path(entry.path)
            if _inside(path, folder):
                yield path


def _inside(path: Path, folder: WorkFolder) -> bool:
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.root.resolve())
    except (OSError, RuntimeError):
        return False


def _patterns(wanted: Any) -> Iterator[str]:
    if isinstance(wanted, str):
        yield wanted
    elif isinstance(wanted, Mapping):
        yield from _leaves(wanted.get("basic", wanted), "")
    elif isinstance(wanted, (list, tuple)):
        for item in wanted:
            yield from _patterns(item)


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}/{key}")
    elif value and path:
        yield path


def _matching(folder: WorkFolder, pattern: str) -> Iterator[Path]:
    try:
        clean = check_path(pattern.strip("/"))
    except UnsafePath:
        return
    exact = folder.root / clean
    # A name with brackets is first taken as it stands.
    matches = [exact] if exact.exists() else sorted(folder.root.glob(clean))
    for path in matches:
        if path.is_dir():
            yield from _chosen(files_below(str(path)), folder)
        elif _inside(path, folder):
            yield path
