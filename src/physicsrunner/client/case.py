"""
A case folder, read: which files make the model, which are inputs, which parameters it has.

Promises:

- `read_case` takes a folder with a main.py (or a zip of one) and says what would be sent; it
  changes nothing.
- Parameters are checked against the names in case.yaml, where it names any.
- `pack` writes the same bytes for the same files: times and owners do not go into the zip.

What is left out of a model: hidden files, ``__pycache__``, byte code, and work folders of runs.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.bundle import MAIN, check_names
from physicsrunner.core.paths import check_path
from physicsrunner.errors import ConfigError, UsageError
from physicsrunner.wire.documents import Case, parse_case

CASE_FILES: Final = ("case.yaml", "case.yml", "case.json")
#: Folders of a case whose files are inputs, not part of the model.
INPUT_FOLDERS: Final = ("inputs", "raw")
_CONTROL: Final = ".physicsrunner"  # what makes a folder a work folder
_SAME_TIME: Final = (1980, 1, 1, 0, 0, 0)
_BLOCK: Final = 1 << 20
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None, "~": None}


@dataclass(frozen=True)
class CaseFile:
    """One file of a case: its name on the other side, and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True)
class CaseFolder:
    """A case as read from disk."""

    folder: Path
    name: str
    document: Case
    model: tuple[CaseFile, ...]  #: names relative to ``scripts/``
    inputs: tuple[CaseFile, ...]  #: relative to ``inputs/``, or to the root below ``raw/``
    archive: Path | None = None  #: the model is this zip; `model` and `inputs` are empty

    def parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case's defaults with *given* on top; an unknown name is a `UsageError`."""
        known = self.document.parameters
        for name in given:
            if known and name not in known:
                near = get_close_matches(name, list(known), n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known)}"
                raise UsageError(f"the case {self.name!r} has no parameter {name!r}; {hint}")
        values = {**known, **given}
        for name, value in values.items():
            _check_finite(name, value)
        return values


def read_case(path: Path) -> CaseFolder:
    """
    Read the case at *path*: a folder, a main.py in one, or a zip.

    Raises
    ------
    UsageError
        If there is no such folder or no main.py in it.
    ConfigError
        If its case file is wrong.
    """
    if path.is_file() and path.suffix == ".py":
        return _read_script(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return _read_zip(path)
    if not path.is_dir():
        wrong = "is no case" if path.exists() else "is not there"
        raise UsageError(f"{path} {wrong}; a case is a folder with a {MAIN}, a script, or a zip")
    document = _document(path)
    if not (path / MAIN).is_file():
        raise UsageError(f"{path} has no {MAIN}; a case is a folder with a {MAIN} at its top")
    inputs = {file.name: file for file in _input_files(path, document)}
    listed = {file.path for file in inputs.values()}
    model = tuple(
        file
        for file in _walk(path, path)
        if file.path not in listed and file.name.split("/")[0] not in INPUT_FOLDERS
    )
    check_names(file.name for file in model)
    name = document.name or path.resolve().name or "case"
    return CaseFolder(path, name, document, model, tuple(inputs.values()))


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """
    Read ``NAME=VALUE`` texts; values are numbers, true, false, null, lists, objects or texts.

    Examples
    --------
    >>> parse_parameters(["re=100", "dt=1e-3", "name=a=b", "walls=[1, 2]", "steady=true"])
    {'re': 100, 'dt': 0.001, 'name': 'a=b', 'walls': [1, 2], 'steady': True}
    """
    return dict(_parameter(text) for text in texts)


def pack(files: Sequence[CaseFile], target: Path, on_bytes: Callable[[int], None]) -> None:
    """Write *files* into the zip *target*; *on_bytes* hears of each packed block's length."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for file in sorted(files, key=lambda file: file.name):
            entry = zipfile.ZipInfo(file.name, _SAME_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if _executable(file.path) else 0o100644) << 16
            with file.path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                while block := source.read(_BLOCK):
                    out.write(block)
                    on_bytes(len(block))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _check_finite(name: str, value: Any) -> None:
    # JSON has no word for infinity, and a server would refuse the whole request for it.
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"the parameter {name!r} is {value}; expected a finite number")
    inner = list(value.values()) if isinstance(value, Mapping) else value
    for item in inner if isinstance(inner, (list, tuple)) else ():
        _check_finite(name, item)


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _document(folder: Path) -> Case:
    for name in CASE_FILES:
        path = folder / name
        if path.is_file():
            try:
                return _case(path.read_text(encoding="utf-8"), str(path))
            except UnicodeDecodeError:
                raise ConfigError(f"{path} is not UTF-8; expected YAML or JSON") from None
    return Case()


def _case(text: str, where: str) -> Case:
    """Read a case file; a rule for live series that is wrong is said before anything runs."""
    case = parse_case(text, where)
    rules = [item for item in case.series if not isinstance(item, str)]
    if rules:
        from physicsrunner.core.series_format import rule_sets

        rule_sets(rules, f"{where}: series")
    return case


def _read_script(path: Path) -> CaseFolder:
    if path.name == MAIN:
        return read_case(path.parent)
    # Any other script is a model of one file, called main.py on the other side.
    return CaseFolder(path.parent, path.stem, Case(), (CaseFile(MAIN, path),), ())


def _read_zip(path: Path) -> CaseFolder:
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        found = [name for name in CASE_FILES if name in names]
        document = (
            _case(archive.read(found[0]).decode("utf-8", "replace"), f"{path}/{found[0]}")
            if found
            else Case()
        )
    if MAIN not in names:
        raise UsageError(f"{path} has no {MAIN} at its top")
    return replace(
        CaseFolder(path.parent, document.name or path.stem, document, (), ()), archive=path
    )


def _walk(folder: Path, root: Path) -> Iterator[CaseFile]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        if path.is_dir():
            # A linked folder may lead round in a circle; a work folder is a run, not a model.
            if not path.is_symlink() and not (path / _CONTROL).is_dir():
                yield from _walk(path, root)
        elif path.is_file():
            yield CaseFile(check_path(path.relative_to(root).as_posix()), path)


def _input_files(folder: Path, document: Case) -> Iterator[CaseFile]:
    for name in INPUT_FOLDERS:
        if (folder / name).is_dir():
            for file in _walk(folder / name, folder):
                yield CaseFile(_input_name(file.name), file.path)
    for listed in document.inputs:
        path = folder / check_path(listed)
        if path.is_dir():
            for file in _walk(path, folder):
                yield CaseFile(_input_name(file.name), file.path)
        elif path.is_file():
            yield CaseFile(_input_name(listed), path)
        else:
            raise ConfigError(f"{folder}: the input {listed!r} of the case file is not there")


def _input_name(name: str) -> str:
    return name.removeprefix("inputs/")


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UsageError(f"the parameter {text!r} is not NAME=VALUE")
    return name, scalar(value)


def scalar(text: str) -> Any:
    """Return the value that a person means by *text*: a number, a word of JSON, or a text."""
    # Plainer than YAML 1.1, to which 1e-3 is a text, 010 is 8 and 12:30 is a number.
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _NUMBER.fullmatch(word):
        return float(word) if set(word) & set(".eE") else int(word)
    if not word.startswith(("[", "{", '"', "'")):
        return text
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return text
