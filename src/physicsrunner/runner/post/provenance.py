"""
Where a run's results come from: metadata/provenance.json and metadata/run_metadata.json.

They say enough to do the run again and to see that it was the same: interpreter, platform,
packages, the command, hashes of scripts and inputs, times. Never a token, never the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from physicsrunner import __version__
from physicsrunner.core.paths import printable
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import CONFIG_NAME
from physicsrunner.runner.result import StageTime
from physicsrunner.runner.workdir import files_below, write_whole

_Paths = tuple[tuple[str, int], ...]  # each with the time of its last change

#: `json.dumps` makes one for every value.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_HASHED_FILES: Final = 10_000  # more than that are counted, not hashed
_HASHED_BYTES: Final = 1024**3


def write(attempt: Attempt, stages: Sequence[StageTime]) -> None:
    """Write both files."""
    folder = attempt.folder.metadata
    redact = attempt.log_file.redact
    _write(f"{folder}/provenance.json", provenance(attempt), redact)
    _write(f"{folder}/run_metadata.json", _encoded(metadata(attempt, stages)), redact)


def provenance(attempt: Attempt) -> dict[str, str]:
    """Return what the run was made from, each value in JSON."""
    folder = attempt.folder
    document: dict[str, Any] = {
        "argv": [
            sys.executable,
            str(attempt.main_script),
            f"--inputsPath={folder.inputs}",
            f"--outputsPath={folder.outputs}",
            f"--rawPath={folder.raw}",
        ],
        "scripts": hashes(folder.scripts),
        "inputs": hashes(folder.inputs),
        "raw": hashes(folder.raw),
    }
    if attempt.grant is not None and attempt.grant.bundle is not None:
        document["model"] = {
            "id": attempt.grant.bundle.model,
            "version": attempt.grant.bundle.version,
        }
    named = {"run": attempt.run, "attempt": attempt.number}
    return {
        **_encoded(named),
        **_installation(_search_path(int(time.monotonic()))),
        **_encoded(document),
    }


@lru_cache(maxsize=1)
def _installation(paths: _Paths) -> Mapping[str, str]:
    """Return what is the same for all runs of this process while *paths* are, in JSON."""
    return _encoded(
        {
            "physicsrunner": __version__,
            "python": {"version": platform.python_version(), "executable": sys.executable},
            "platform": {
                "system": platform.platform(),
                "machine": platform.machine(),
                "processors": os.cpu_count(),
                "node": platform.node(),
            },
            "packages": packages(paths),
        }
    )


def metadata(attempt: Attempt, stages: Sequence[StageTime]) -> dict[str, Any]:
    """Return what became of the run."""
    outcome, history = attempt.outcome, attempt.history
    document: dict[str, Any] = {
        "run": attempt.run,
        "attempt": attempt.number,
        "name": attempt.name,
        "begun": _time(history.begun),
        "started": _time(history.started),
        "ended": _time(outcome.time if outcome else None),
        "stages": {stage.stage: round(stage.seconds, 6) for stage in stages if not stage.skipped},
        "warnings": list(attempt.warnings),
    }
    if outcome is not None:
        document["state"] = outcome.state.value
        document["exit_code"] = outcome.exit_code
        if outcome.error is not None:
            document["error"] = {"code": outcome.error.code, "message": outcome.error.message}
    return document


@lru_cache(maxsize=1)
def _search_path(second: int) -> _Paths:
    """Return where packages are, with the times of the last change: something was installed."""
    del second  # once in each
    return tuple(_changed(path) for path in sys.path)


def _changed(path: str) -> tuple[str, int]:
    try:
        return path, os.stat(path or ".").st_mtime_ns  # noqa: PTH116 (for every run)
    except OSError:
        return path, 0


def packages(paths: _Paths) -> dict[str, str]:
    """Return the packages that are installed at *paths*, by name."""
    from importlib import metadata as installed

    found: dict[str, str] = {}
    for distribution in installed.distributions(path=[path for path, _ in paths]):
        # The folder's name tells both; reading every METADATA file takes ten times as long.
        stem = getattr(getattr(distribution, "_path", None), "stem", "")
        name, dash, version = stem.partition("-")
        if not dash:
            name, version = distribution.metadata["Name"] or "", distribution.version
        if name:
            found.setdefault(name.replace("_", "-").lower(), version)
    return dict(sorted(found.items()))


def hashes(folder: Path) -> dict[str, Any]:
    """Return size and SHA-256 of each file below *folder*, by path."""
    found: dict[str, Any] = {}
    spent = 0
    top = str(folder)
    own = f"{top}/{CONFIG_NAME}"
    for entry in files_below(top, lambda name: name != "__pycache__"):
        path = entry.path
        if path.endswith(".pyc") or path == own:
            continue
        if len(found) >= _HASHED_FILES:
            return found
        try:
            if not entry.is_file():
                continue
            size = entry.stat().st_size
            spent += size
            key = printable(path[len(top) + 1 :])
            found[key] = {"size": size}
            if spent <= _HASHED_BYTES:
                found[key]["sha256"] = _digest(path)
        except OSError:
            continue
    return found


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _encoded(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _ENCODER.encode(value) for key, value in values.items()}


def _write(path: str, values: Mapping[str, str], redact: Callable[[str], str]) -> None:
    # One line for each key: indenting all of it takes ten times as long.
    lines = (f'  "{key}": {text}' for key, text in values.items())
    write_whole(path, redact("{\n" + ",\n".join(lines) + "\n}\n"))
