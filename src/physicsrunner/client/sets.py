"""
Files of parameter sets: one run for each line, item or row.

Promises: JSON lines, a JSON or YAML list of objects, and CSV with a head are understood, by what
the file is called; a mistake is a `UsageError` that names the file and the line. Pure but for
`read_sets`.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Final

from physicsrunner.client.case import scalar
from physicsrunner.errors import UsageError

_CSV: Final = (".csv", ".tsv")
_YAML: Final = (".yaml", ".yml")
_EXPECTED: Final = "expected JSON lines, a JSON or YAML list of objects, or CSV with a head"


def read_sets(path: Path) -> list[dict[str, Any]]:
    """Return the parameter sets of the file at *path*."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8; {_EXPECTED}") from None
    return parse_sets(text, path.name, where=str(path))


def parse_sets(text: str, name: str, *, where: str = "the file") -> list[dict[str, Any]]:
    """
    Return the parameter sets that *text* holds; *name* says by its end what it is.

    Examples
    --------
    >>> parse_sets("re,steady\\n100,true\\n4e2,false\\n", "sweep.csv")
    [{'re': 100, 'steady': True}, {'re': 400.0, 'steady': False}]
    >>> parse_sets('{"re": 100}\\n\\n{"re": 400}\\n', "sweep.jsonl")
    [{'re': 100}, {'re': 400}]
    """
    ending = Path(name).suffix.lower()
    if ending in _CSV:
        found = _rows(text, where, "\t" if ending == ".tsv" else ",")
    elif ending in _YAML:
        found = _items(_yaml(text, where), where)
    elif text.lstrip().startswith("["):
        found = _items(_json(text, where), where)
    else:
        found = [
            _mapping(_json(line, f"{where}, line {number}"), f"{where}, line {number}")
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    if not found:
        raise UsageError(f"{where} holds no parameter set; {_EXPECTED}")
    return found


def _rows(text: str, where: str, delimiter: str) -> list[dict[str, Any]]:
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    if not rows:
        return []
    names = [name.strip() for name in rows[0]]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{where}: the first line names each column, and each one once")
    found = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise UsageError(
                f"{where}, row {number}: {len(row)} values; the head names {len(names)}"
            )
        found.append({name: scalar(cell) for name, cell in zip(names, row, strict=True)})
    return found


def _items(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise UsageError(f"{where} holds no list; {_EXPECTED}")
    return [_mapping(item, f"{where}, item {number}") for number, item in enumerate(value, 1)]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected an object of values by name, such as {{'re': 100}}")
    return {str(name): item for name, item in value.items()}


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}; {_EXPECTED}") from None


def _yaml(text: str, where: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}," if mark else ""
        raise UsageError(f"{where}{line} is not YAML; {_EXPECTED}") from None
