"""
Results of a run: what results.csv and results.json say.

Promises:

- results.csv is a line of names and a line of values (quotes as in RFC 4180); a value that reads
  as a number is a scalar, true and false are booleans, everything else is text.
- results.json keeps its types: numbers, booleans, strings; lists and objects are type ``json``.
- A unit in a name (``t_max [K]``) becomes the unit.
- What is returned is always valid JSON: NaN and the infinities, which JSON has no numbers for,
  become the texts ``nan``, ``inf`` and ``-inf``.

Pure: text in, values out. Never reads a file.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from physicsrunner.errors import InvalidRequest

_UNIT: Final = re.compile(r"(?P<name>.*\S)\s*\[(?P<unit>[^\[\]]*)\]\s*")
_INT: Final = re.compile(r"[+-]?\d{1,300}")
_FLOAT: Final = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE
)
_TYPES: Final = ("scalar", "boolean", "ascii", "json")
_OBJECT_KEYS: Final = frozenset({"name", "value", "unit", "type"})


@dataclass(frozen=True)
class Result:
    """One named value of a run. ``type`` as on the PhysicsWorks wire."""

    name: str
    value: Any
    type: str = "scalar"  #: scalar, boolean, ascii, or json for lists and objects
    unit: str | None = None


def read_results(
    csv_text: str | None, json_text: str | None, *, problems: list[str] | None = None
) -> list[Result]:
    """
    Return the results that the two files name, in their order; results.json wins.

    Parameters
    ----------
    csv_text, json_text
        The text of results.csv and results.json; None where there is no such file.
    problems
        Where given, what cannot be read is described here and the rest is returned.

    Raises
    ------
    InvalidRequest
        If a file cannot be read and *problems* is None.
    """
    found: dict[str, Result] = {}
    for read, text in ((_from_csv, csv_text), (_from_json, json_text)):
        if text is None or not text.strip("\ufeff \t\r\n"):
            continue
        try:
            for result in read(text.removeprefix("\ufeff")):
                found[result.name] = result
        except InvalidRequest as error:
            if problems is None:
                raise
            problems.append(str(error))
    return list(found.values())


def result_of(name: str, value: Any, unit: str | None = None) -> Result:
    """Return the result *name* with the type that *value* has in JSON."""
    if unit is None and (match := _UNIT.fullmatch(name)):
        name, unit = match["name"], match["unit"].strip() or None
    value = _finite(value)
    if isinstance(value, bool):
        return Result(name, value, "boolean", unit)
    if isinstance(value, (int, float)):
        return Result(name, value, "scalar", unit)
    if isinstance(value, str):
        return Result(name, value, "ascii", unit)
    if value is None:
        return Result(name, "null", "ascii", unit)
    return Result(name, value, "json", unit)


def _from_csv(text: str) -> list[Result]:
    try:
        rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    except csv.Error as error:
        raise InvalidRequest(f"results.csv cannot be read: {error}") from None
    if len(rows) < 2:
        return []
    names, values = rows[0], rows[1]
    return [
        result_of(name.strip(), _typed(value.strip()))
        for name, value in zip(names, values, strict=False)  # a ragged file gives what it has
        if name.strip()
    ]


def _typed(text: str) -> Any:
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _from_json(text: str) -> list[Result]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"results.json is not JSON: {error}") from None
    if isinstance(data, Mapping):
        return [_entry(str(name), value) for name, value in data.items()]
    if isinstance(data, list):
        results = []
        for number, item in enumerate(data):
            if not isinstance(item, Mapping) or "name" not in item or "value" not in item:
                raise InvalidRequest(
                    f"results.json: entry {number} must be an object with name and value"
                )
            results.append(_entry(str(item["name"]), item))
        return results
    raise InvalidRequest("results.json must hold an object {name: value} or a list of objects")


def _entry(name: str, value: Any) -> Result:
    if not (isinstance(value, Mapping) and "value" in value and value.keys() <= _OBJECT_KEYS):
        return result_of(name, value)
    unit = value.get("unit")
    result = result_of(name, value["value"], None if unit is None else str(unit))
    kind = value.get("type")
    # A stated type is kept where it fits; a text is never called a number.
    if kind in _TYPES and (kind == "json" or (kind == "ascii" and isinstance(result.value, str))):
        return replace(result, type=kind)
    return result


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
