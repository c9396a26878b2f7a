"""
Creating the run of a work folder on a server that does not know it yet.

Promises: the run gets its own id; what lies in ``scripts/`` becomes its model, and the files it was
given become its inputs, so that it can be run again from there. A token, byte code and hidden files
are never part of a model. A repeat stores nothing twice.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from physicsrunner.client.case import digest
from physicsrunner.client.uplink import Uplink
from physicsrunner.core.paths import check_path
from physicsrunner.errors import UnsafePath
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import CONFIG_NAME
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.messages import LeaseGrant

_SAME_TIME: Final = (1980, 1, 1, 0, 0, 0)


def claim(attempt: Attempt, uplink: Uplink) -> LeaseGrant:
    """Create the run from the work folder; a repeat is answered with the same lease."""
    native = cast("Any", uplink)  # only the native wire creates runs under ids of ours
    bundle = attempt.folder.control / "bundle.zip"
    pack_scripts(attempt.folder.scripts, bundle)
    try:
        model = native.upload_bundle(bundle, attempt.name)
    finally:
        bundle.unlink(missing_ok=True)
    request: dict[str, Any] = {
        "id": attempt.run,
        "model_id": model["id"],
        "model_version": model.get("version"),
        "name": attempt.name,
        "parameters": {"inputs": dict(_parameters(attempt))},
        "inputs": [_stored(native, name, path) for name, path in given_inputs(attempt)],
        "claim": {"agent": socket.gethostname()},
    }
    return cast("LeaseGrant", native.claim(request))


def _parameters(attempt: Attempt) -> dict[str, Any]:
    try:
        given = json.loads((attempt.folder.inputs / "parameters.json").read_text("utf-8"))
    except (OSError, ValueError):
        given = attempt.config.parameters
    return dict(given) if isinstance(given, dict) else dict(attempt.config.parameters)


def given_inputs(attempt: Attempt) -> Iterator[tuple[str, Path]]:
    """
    Yield the files of ``inputs/`` and ``raw/`` that the run was given, by their name on the server.

    Not what is derived (the parameters have a place of their own, links lead to what is there
    already), and not what main.py wrote: it is later than the program's start.
    """
    folder, started = attempt.folder, attempt.history.started
    for top in (folder.inputs, folder.raw):
        base = top if top == folder.inputs else folder.root
        for here, folders, files in os.walk(top):
            folders.sort()
            for name in sorted(files):
                path = Path(here) / name
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or path in _derived(folder):
                    continue
                if started is not None and found.st_mtime > started:
                    continue
                relative = path.relative_to(base).as_posix()
                if _can_be_named(relative):
                    yield relative, path


def _derived(folder: WorkFolder) -> tuple[Path, ...]:
    return tuple(folder.inputs / name for name in ("parameters.json", "runInputs.json"))


def _can_be_named(relative: str) -> bool:
    try:
        check_path(relative)
    except UnsafePath:
        return False
    return True


def _stored(native: Any, name: str, path: Path) -> dict[str, Any]:
    sha256, size = digest(path), path.stat().st_size
    native.store_input(path, sha256)
    return {"path": name, "sha256": sha256, "size": size}


def pack_scripts(scripts: Path, target: Path) -> None:
    """Zip what is in ``scripts/``, but not config.json (it holds a token) and byte code."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for path in _model_files(scripts):
            name = path.relative_to(scripts).as_posix()
            entry = zipfile.ZipInfo(name, _SAME_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if os.access(path, os.X_OK) else 0o100644) << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                while data := source.read(1 << 20):
                    out.write(data)


def _model_files(scripts: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(scripts):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if name.startswith(".") or name.endswith(".pyc") or not path.is_file():
                continue
            if path == scripts / CONFIG_NAME:
                continue
            if _can_be_named(path.relative_to(scripts).as_posix()):
                yield path
