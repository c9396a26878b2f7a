"""
Cases: what a model is run with again and again, kept with the model.

A model's case file names its parameters and their defaults. Other values can be saved: they become
a new version of the model, which differs in one small file (`SAVED`) alone, so they are as durable
and as traceable as the program itself, and each run says by its model's version what it was made
of. The price of a save is a copy of the bundle on the disk. main.py sees no difference, and who
names parameters of their own is not touched by them.

Promises: what is saved is whole or not there; of two changes at the same time each is made on top
of the other, and those of different models do not wait for each other; saving what is there already
makes no version; a model that came with physicsrunner is not changed. A new upload of the model,
without the small file, begins with its own defaults again.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from physicsrunner.client.case import CASE_FILES
from physicsrunner.errors import ConfigError, Conflict, InvalidRequest, NotFound
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.models import ModelService
from physicsrunner.service.packaged import PACKAGED_BY
from physicsrunner.store.base import ModelRow
from physicsrunner.wire.codec import check_depth
from physicsrunner.wire.documents import Case, parse_case

#: The file of a bundle that holds what was saved.
SAVED: Final = "case.saved.json"
_MOST: Final = 256  # bundles of which is remembered what they say
_MOST_TEXT: Final = 1024 * 1024  # bytes of a case file
_MOST_VALUES: Final = 100_000  # of its parameters
_MOST_BYTES: Final = 4 * 1024 * 1024  # of saved parameters, as JSON


@dataclass(frozen=True)
class SavedCase:
    """A model's newest version, and what it is run with."""

    row: ModelRow
    document: Case = field(default_factory=Case)
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: the saved ones, or defaults
    revision: int = 0  #: how often other values were saved
    created: float = 0.0  #: POSIX seconds: when the version came that they were saved on top of
    files: tuple[str, ...] = ()  #: of the bundle, without `SAVED`
    problem: str | None = None  #: why its case file cannot be read

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The parameters that the case file names."""
        return self.document.parameters

    def problems(self) -> list[str]:
        """Return why it cannot be run as it is, in words; empty if it can."""
        found = [] if self.problem is None else [self.problem]
        for name in self.document.inputs:
            inside = f"{name.rstrip('/')}/"
            if not any(file == name or file.startswith(inside) for file in self.files):
                found.append(
                    f"its case file names the input {name!r}, which is not part of the model: "
                    "put it into the bundle, or send it along with each run"
                )
        return found


@dataclass(frozen=True)
class _Bundle:
    document: Case
    problem: str | None
    files: tuple[str, ...]
    saved: Mapping[str, Any] | None


class CaseService:
    """What models are run with. Thread-safe."""

    def __init__(self, models: ModelService, access: AccessService, scratch: Path) -> None:
        self._models = models
        self._access = access
        self._scratch = scratch
        self._lock = threading.Lock()
        self._saving: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._read = lru_cache(_MOST)(_read)  # a version's file never changes

    def list(self, identity: Identity, project: str | None) -> Cases:
        """Return the cases of *project* (None: of none) that the caller may read, latest first."""
        rows = self._models.readable(identity)
        return [self._case(row) for row in rows if row.project_id == project]

    def get(self, identity: Identity, model: str) -> SavedCase:
        """Return the case of the model of that id or name; raise `NotFound`."""
        try:
            return self._case(self._models.usable(identity, model))
        except NotFound:
            named = [row for row in self._models.readable(identity) if row.name == model]
            if not named:
                raise
            return self._case(named[0])

    def save(
        self,
        identity: Identity,
        model: str,
        change: Callable[[SavedCase], Mapping[str, Any]],
    ) -> SavedCase:
        """
        Save what *change* makes of the case; return it as it is then.

        Raises
        ------
        InvalidRequest
            If the parameters cannot be kept as JSON, or are over 4 MiB.
        Conflict
            If the model came with physicsrunner: its newer versions are put over it.
        """
        found = self.get(identity, model).row.id
        with self._turn(found):
            case = self.get(identity, found)
            self._access.require_new(identity, "models:create", case.row.project_id)
            _check_ours(case.row)
            parameters = dict(change(case))
            text = _text(parameters)
            if text == _text(dict(case.parameters)):
                return case
            saved = {
                "revision": case.revision + 1,
                "created": case.created,
                "parameters": parameters,
            }
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                bundle = Path(folder) / "model.zip"
                _rewrite(self._models.content(case.row.version), bundle, json.dumps(saved))
                row = case.row
                added = self._models.add(identity, bundle, row.name, row.project_id)
            return self._case(self._models.usable(identity, added.id, added.version))

    def _turn(self, model: str) -> threading.Lock:
        """Return the lock of a model, which is there as long as somebody has it."""
        with self._lock:
            return self._saving.setdefault(model, threading.Lock())

    def _case(self, row: ModelRow) -> SavedCase:
        bundle = self._read(self._models.content(row.version))
        saved = bundle.saved
        return SavedCase(
            row,
            bundle.document,
            bundle.document.parameters if saved is None else saved["parameters"],
            0 if saved is None else saved["revision"],
            row.created if saved is None else saved["created"],
            bundle.files,
            bundle.problem,
        )


Cases = list[SavedCase]  # inside the class, `list` is the method


def _check_ours(row: ModelRow) -> None:
    if row.created_by == PACKAGED_BY:
        raise Conflict(
            f"the model {row.name!r} came with physicsrunner, which brings its newer versions: "
            "upload a copy of it under another name, and change that"
        )


def _text(parameters: Mapping[str, Any]) -> str:
    check_depth(parameters, "parameters")
    _check_finite(parameters)
    text = json.dumps(parameters, sort_keys=True)
    if len(text) > _MOST_BYTES:
        raise InvalidRequest(f"the parameters are over {_MOST_BYTES} bytes; give large ones a file")
    return text


def _check_finite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"a parameter is {value}; expected a finite number")
    for item in value.values() if isinstance(value, Mapping) else value if _is_list(value) else ():
        _check_finite(item)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _read(path: Path) -> _Bundle:
    with zipfile.ZipFile(path) as bundle:
        names = [info.filename for info in bundle.infolist() if not info.is_dir()]
        document, problem = _document(bundle, names)
        files = tuple(name for name in names if name != SAVED)
        return _Bundle(document, problem, files, _saved(bundle) if SAVED in names else None)


def _document(bundle: zipfile.ZipFile, names: list[str]) -> tuple[Case, str | None]:
    found = next((name for name in CASE_FILES if name in names), None)
    if found is None:
        return Case(), None
    try:
        if bundle.getinfo(found).file_size > _MOST_TEXT:
            raise ConfigError(f"{found} is over {_MOST_TEXT} bytes")
        case = parse_case(bundle.read(found).decode("utf-8"), found)
        return replace(case, parameters=_plain(case.parameters, found)), None
    except (ConfigError, UnicodeDecodeError, RecursionError) as error:  # main.py may do without
        return Case(), f"{found} cannot be read: {str(error)[:500]}"


def _plain(parameters: Mapping[str, Any], where: str) -> dict[str, Any]:
    """
    Return *parameters* as JSON has them, or raise `ConfigError`.

    YAML has more: dates, numbers without end, and a few lines that mean thousands of millions of
    values, or lists that hold themselves.
    """
    waiting: list[Any] = [parameters]
    seen = 0
    while waiting:
        item = waiting.pop()
        inner = item.values() if isinstance(item, Mapping) else item if _is_list(item) else ()
        seen += len(inner)
        if seen > _MOST_VALUES:
            raise ConfigError(f"{where} has over {_MOST_VALUES} values")
        waiting.extend(inner)
    try:
        plain: dict[str, Any] = json.loads(json.dumps(parameters, allow_nan=False))
        check_depth(plain, "parameters")
    except (TypeError, ValueError, InvalidRequest) as error:
        raise ConfigError(f"{where}: a parameter is none that JSON has: {error}") from None
    return plain


def _saved(bundle: zipfile.ZipFile) -> Mapping[str, Any] | None:
    """Return what was saved; None where somebody put another file of that name there."""
    try:
        if bundle.getinfo(SAVED).file_size > 2 * _MOST_BYTES:
            return None
        saved = json.loads(bundle.read(SAVED))
        good = (
            isinstance(saved["parameters"], dict)
            and isinstance(saved["revision"], int)
            and isinstance(saved["created"], (int, float))
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return saved if good else None


def _rewrite(source: Path, target: Path, saved: str) -> None:
    """
    Write the bundle *source* with other saved values as *target*.

    The other members are copied as they are, packed: to pack them again would take minutes.
    """
    shutil.copyfile(source, target)
    with zipfile.ZipFile(target, "a") as bundle:
        old = bundle.NameToInfo.pop(SAVED, None)
        if old is not None:
            bundle.filelist.remove(old)
            if all(info.header_offset < old.header_offset for info in bundle.filelist):
                bundle.start_dir = old.header_offset  # the last one, as we put it: write over it
        bundle.writestr(zipfile.ZipInfo(SAVED), saved)
