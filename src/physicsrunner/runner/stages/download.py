"""
Stage download: what main.py needs, from the server or from the work folder.

Promises: repeatable from its start after a kill, and what had come is not fetched again; files are
verified and appear whole; archives are extracted safely. Without an answer from the server a run
whose main.py lies here already goes on offline; it is delivered later.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import ConfigError
from physicsrunner.runner.archive import extract
from physicsrunner.runner.attach import NO_ANSWER_NOW, attach, patience
from physicsrunner.runner.cache import InputCache, default_folder
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import write_private
from physicsrunner.runner.fetch import fetch_file
from physicsrunner.runner.stages.watch import contact
from physicsrunner.runner.workdir import write_whole
from physicsrunner.wire.documents import PHYSICSWORKS, parse_case
from physicsrunner.wire.messages import Bundle, RemoteInput

#: Seconds without an answer until the stage gives up; and when it can go on without one.
PATIENCE_S: Final = 600.0
OFFLINE_AFTER_S: Final = 3.0

CASE_FILES: Final = ("case.yaml", "case.yml", "case.json")


def run(attempt: Attempt) -> None:
    """Fetch, verify, extract; write parameters and the JSON files of the wire."""
    _use_local_archives(attempt)
    if attempt.uplink is not None:
        _attach_or_go_offline(attempt)
    if attempt.grant is not None:
        contact(attempt)  # a large mesh takes longer than a lease
        if attempt.grant.bundle is not None:
            _fetch_bundle(attempt, attempt.grant.bundle)
        for item in attempt.grant.inputs:
            _fetch_input(attempt, item)
        _write_documents(attempt)
    read_case(attempt)
    _write_parameters(attempt)
    if attempt.config.wire == PHYSICSWORKS:
        _link_raw(attempt)


def read_case(attempt: Attempt) -> None:
    """Read the case file beside main.py, if there is one."""
    scripts = str(attempt.folder.scripts)
    for name in CASE_FILES:
        if os.path.isfile(f"{scripts}/{name}"):  # noqa: PTH113 (mostly there is none)
            path = attempt.folder.scripts / name
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error
            case = parse_case(text, str(path))
            if case.series:
                # A wrong rule is said now, not when the run has gone by unfollowed.
                from physicsrunner.runner.rules import rules_for

                rules_for(case.series, str(path))
            attempt.case = case
            return


# -- with a server ---------------------------------------------------------------------------


def _attach_or_go_offline(attempt: Attempt) -> None:
    if attempt.granted:
        return
    can_wait_for_later = attempt.main_script.is_file()
    try:
        attach(attempt, OFFLINE_AFTER_S if can_wait_for_later else PATIENCE_S)
    except NO_ANSWER_NOW as error:
        if not can_wait_for_later:
            raise
        attempt.warn(
            f"the server does not answer ({error}): going on offline; deliver later with "
            f"`physicsrunner sync {attempt.folder.root}`"
        )
        return
    _write_resource(attempt)


def _write_resource(attempt: Attempt) -> None:
    """Write the run's id back into config.json, as the PhysicsWorks wire has it."""
    resource = getattr(attempt.uplink, "resource", None)
    path = attempt.config.path
    if attempt.config.wire != PHYSICSWORKS or not resource or not path:
        return
    try:
        document = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return  # YAML stays as its author wrote it; scripts/config.json has the resource
    if document.get("resource") != resource:
        document["resource"] = resource
        write_private(Path(path), json.dumps(document, indent=2) + "\n")


def _fetch_bundle(attempt: Attempt, bundle: Bundle) -> None:
    if bundle.sha256 and _cache(attempt).unpack(
        bundle.sha256, bundle.size, attempt.folder.scripts, extract
    ):
        attempt.log.info("the scripts: from the cache")
        return
    archive = attempt.folder.control / "download" / "bundle.zip"
    _fetch(attempt, bundle.url, archive, bundle.size, bundle.sha256, "the scripts")
    extract(archive, attempt.folder.scripts)
    archive.unlink(missing_ok=True)


def _fetch_input(attempt: Attempt, item: RemoteInput) -> None:
    target = _place(attempt, item.path)
    if not (item.sha256 and _has(target, item.size, item.sha256)):
        _fetch(attempt, item.url, target, item.size, item.sha256, item.path)
    if item.extract:
        extract(target, target.parent)


def _fetch(attempt: Attempt, url: str, target: Path, size: int, sha256: str, what: str) -> None:
    assert attempt.uplink is not None  # noqa: S101 (there is a lease)
    cache = _cache(attempt)
    target.parent.mkdir(parents=True, exist_ok=True)
    if sha256 and cache.get(sha256, size, target):
        attempt.log.info("%s: from the cache", what)
        return
    key = sha256 or hashlib.sha256(url.encode()).hexdigest()
    attempt.log.info("fetching %s", what)
    digest = fetch_file(
        attempt.uplink,
        url,
        target,
        part=attempt.folder.control / "download" / f"{key}.part",
        size=size if size >= 0 else None,
        sha256=sha256 or None,
        patience=patience(attempt, PATIENCE_S),
    )
    if sha256:
        cache.put(digest, target)


def _cache(attempt: Attempt) -> InputCache:
    return InputCache(attempt.cache or default_folder(), now=attempt.clock.now)


def _place(attempt: Attempt, path: str) -> Path:
    """Return where an input goes: below ``inputs/``, or below ``raw/`` when it says so."""
    check_path(path)
    if path.startswith("raw/"):
        return attempt.folder.root / path
    return attempt.folder.inputs / path.removeprefix("inputs/")


def _has(path: Path, size: int, sha256: str) -> bool:
    try:
        if path.stat().st_size != size:
            return False
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    except OSError:
        return False
    return digest.hexdigest() == sha256


def _write_documents(attempt: Attempt) -> None:
    documents = getattr(attempt.uplink, "documents", None)
    for name, value in documents().items() if documents is not None else ():
        _write_json(attempt.folder.inputs / check_path(name), value)


def _link_raw(attempt: Attempt) -> None:
    """Make the meshes of ``raw/`` visible in ``inputs/``, where published scripts look."""
    for path in sorted(attempt.folder.raw.iterdir()):
        link = attempt.folder.inputs / path.name
        if path.is_file() and not link.exists() and not link.is_symlink():
            link.symlink_to(Path("..") / "raw" / path.name)


# -- parameters ------------------------------------------------------------------------------


def _write_parameters(attempt: Attempt) -> None:
    """
    Write ``inputs/parameters.json`` (name: value) and ``inputs/runInputs.json`` (a list).

    The case's defaults, then what the run was asked for, then config.json. Files that lie there
    already stay when nobody names a parameter.
    """
    granted: Mapping[str, Any] = attempt.grant.parameters if attempt.grant else {}
    if isinstance(granted.get("inputs"), Mapping):
        granted = granted["inputs"]
    values = {**attempt.case.parameters, **granted, **attempt.config.parameters}
    folder = attempt.folder.inputs
    flat, listed = folder / "parameters.json", folder / "runInputs.json"
    if values or (attempt.grant is not None and not flat.exists()):
        _write_json(flat, values)
    if attempt.config.wire != PHYSICSWORKS and (values or not listed.exists()):
        _write_json(listed, [_run_input(name, value) for name, value in values.items()])


def _run_input(name: str, value: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"slug": name, "fullPath": name, "value": value}
    if isinstance(value, Mapping) and "value" in value:
        entry["value"] = value["value"]
        if value.get("unit") is not None:
            entry["unit"] = value["unit"]
    return entry


def _write_json(path: Path, value: Any) -> None:
    write_whole(str(path), json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# -- without a server ------------------------------------------------------------------------


def _use_local_archives(attempt: Attempt) -> None:
    """Use scriptsArchive, inputsArchive and mainScript where they name files of this machine."""
    config, folder = attempt.config, attempt.folder
    scripts = _local(attempt, config.scripts_archive)
    if scripts is not None:
        extract(scripts, folder.scripts)
    inputs = _local(attempt, config.inputs_archive)
    if inputs is not None:
        extract(inputs, folder.inputs)
    script = _local(attempt, config.main_script)
    if script is not None and not attempt.main_script.exists():
        shutil.copyfile(script, attempt.main_script)


def _local(attempt: Attempt, name: str | None) -> Path | None:
    """Find a file that the configuration names: in the work folder, or beside config.json."""
    if not name:
        return None
    root = attempt.folder.root
    places = [root, root / "inputs", root / "scripts"]
    if attempt.config.path:
        places.append(Path(attempt.config.path).absolute().parent)
    found = (place / name for place in places)  # an absolute name stays absolute
    return next((path for path in found if path.is_file()), None)
