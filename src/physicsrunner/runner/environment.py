"""
What main.py finds: its environment, its command line and its copy of config.json.

Promises: both names of every variable (PHYSICSRUNNER_* and the published PHYSICSWORKS_*); the
environment of this process is read, never written. The copy of config.json beside main.py has
mode 0600, because it holds the token.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from physicsrunner.engines.base import Program
from physicsrunner.engines.local import TAG
from physicsrunner.errors import ConfigError, StorageFull
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.workdir import ensure
from physicsrunner.wire.documents import NATIVE, parse_mapping

CONFIG_NAME: Final = "config.json"


@cache
def _inherited() -> Mapping[str, str]:
    """Return the environment of an agent, which nobody changes: each look decodes all of it."""
    return dict(os.environ)


def program(attempt: Attempt, environment: Mapping[str, str] | None = None) -> Program:
    """Return what the execute stage starts; *environment* None: in that of this process."""
    folder = attempt.folder
    config = write_config(attempt)
    ensure(folder.main_log.parent)
    if environment is None:
        environment = os.environ if attempt.station.alone else _inherited()
    return Program(
        argv=(
            sys.executable,
            str(attempt.main_script),
            f"--inputsPath={folder.inputs}",
            f"--outputsPath={folder.outputs}",
            f"--rawPath={folder.raw}",
        ),
        cwd=folder.scripts,
        environment=variables(attempt, config, environment),
        stdout=folder.main_log,
        stderr=folder.main_log,
        control=folder.control / "program",
    )


def variables(attempt: Attempt, config: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of main.py."""
    folder, settings = attempt.folder, attempt.config
    token = (attempt.grant.token if attempt.grant else None) or settings.token or ""
    both = {
        "INPUTS_DIR": str(folder.inputs),
        "OUTPUTS_DIR": str(folder.outputs),
        "RAW_DIR": str(folder.raw),
        "WORK_DIR": str(folder.root),
        "RUN_ID": attempt.run,
        "HOST": config_host(attempt) or "",
        "TOKEN": token,
        "CONFIG_PATH": str(config),
        "STOP_FILE": str(folder.stop_file),
        "ATTEMPT": str(attempt.number),
    }
    own = {f"PHYSICSRUNNER_{name}": value for name, value in both.items()}
    if settings.server:
        own["PHYSICSRUNNER_HOST"] = settings.server
    seed = (attempt.grant.parameters if attempt.grant else {}).get("random_seed")
    if isinstance(seed, int):
        own["PHYSICSRUNNER_RANDOM_SEED"] = str(seed)
    # Run ids are given by people too: without chance in it, one run could end another's processes.
    tag = f"{attempt.run}.{attempt.number}.{uuid.uuid4().hex[:12]}".replace("/", "_")
    outer = inherited.get(TAG)
    return {
        **inherited,
        **attempt.case.environment,
        **settings.environment,
        **(attempt.grant.environment if attempt.grant else {}),
        **{f"PHYSICSWORKS_{name}": value for name, value in both.items()},
        **own,
        # A run inside a run belongs to both: whoever stops the outer one finds this one too.
        TAG: f"{outer}/{tag}" if outer else tag,
        "PYTHONUNBUFFERED": "1",
    }


def config_host(attempt: Attempt) -> str | None:
    """Return the base address, with ``/`` at its end, to which the published paths are added."""
    if attempt.config.host:
        return attempt.config.host
    server = attempt.config.server
    return f"{server.rstrip('/')}/physicsworks/" if server else None


def config_document(attempt: Attempt) -> dict[str, Any]:
    """Return config.json as main.py finds it: both wires' keys, and the run's id."""
    config = attempt.config
    document = read_config(config.path)
    document["workDir"] = str(attempt.folder.root)
    if attempt.grant:
        document["token"] = attempt.grant.token or config.token
    document["resource"] = {"id": attempt.run, "name": attempt.name}
    if config.wire == NATIVE:
        project = attempt.grant.project if attempt.grant else None
        for key, value in (
            ("host", config_host(attempt)),
            ("project", project or "default"),
            ("simulation", attempt.run),
            ("job", attempt.run),
            ("owner", ""),
        ):
            document.setdefault(key, value)
    return document


def read_config(path: str | None) -> dict[str, Any]:
    """Return the keys of the file that the runner was started with; empty if it is gone."""
    if not path:
        return {}
    try:
        return parse_mapping(Path(path).read_text("utf-8"), path)
    except (OSError, ValueError, ConfigError):
        return {}


def write_config(attempt: Attempt) -> Path:
    """Write main.py's copy of config.json into ``scripts/``; return its path."""
    path = attempt.folder.scripts / CONFIG_NAME
    write_private(path, json.dumps(config_document(attempt)) + "\n", unread=True)
    return path


def write_private(path: Path, text: str, *, unread: bool = False) -> None:
    """
    Replace *path* by *text*, whole or not at all, readable by its owner alone.

    What is *unread* is read by nobody before a later step, and written again where that was not
    reached: the first time it is just written.
    """
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.part"
    data = text.encode()
    try:
        if unread:
            with suppress(FileExistsError):
                _write_new(str(path), data)
                return
        try:
            _write_new(temporary, data)
        except FileExistsError:
            os.unlink(temporary)  # noqa: PTH108 (left by a kill)
            _write_new(temporary, data)
        os.replace(temporary, path)  # noqa: PTH105 (one of the few files of a short run)
    except OSError as error:
        raise StorageFull(f"cannot write {path}: {error}") from error


def _write_new(name: str, data: bytes) -> None:
    left = memoryview(data)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)
