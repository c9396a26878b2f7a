"""
Between JSON values and the frozen dataclasses of `wire`.

Promises: ``decode(type, encode(value)) == value`` for every message (a property test holds it).
Unknown keys are ignored, so that an older side understands a newer one; a missing or wrong one
raises `InvalidRequest` with the message's name and the key. It knows only what messages are made
of: dataclasses, enums, lists, dicts, optional and plain JSON values.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from physicsrunner.errors import InvalidRequest

T = TypeVar("T")
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
MAX_DEPTH: Final = 64  #: lists and objects in each other, in what users give


def encode(value: Any) -> Any:
    """Return *value* as plain JSON values; a field that is None, as by default, is left out."""
    if type(value) in _PLAIN:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(item)
            for field in fields(value)
            if (item := getattr(value, field.name)) is not None or field.default is not None
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(cls: type[T], data: Any) -> T:
    """Build a *cls* of the JSON object *data*, or raise `InvalidRequest`."""
    value: T = _decode(cls, data, cls.__name__)
    return value


def check_depth(value: Any, where: str) -> None:
    """
    Raise `InvalidRequest` if lists and objects lie in each other more than `MAX_DEPTH` deep.

    Reading JSON can go deeper than writing it: such a value could be taken and never be shown.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for item in level
            if isinstance(item, (Mapping, list, tuple))
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
        if not level:
            return
    raise InvalidRequest(f"{where}: nested more than {MAX_DEPTH} deep")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _decode(kind: Any, data: Any, where: str) -> Any:
    if kind is Any:
        return data
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data, where)
    if origin in (list, tuple):
        if not isinstance(data, (list, tuple)):
            raise InvalidRequest(f"{where}: expected a list, got {type(data).__name__}")
        items = (_decode(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(data))
        return list(items) if origin is list else tuple(items)
    if origin is dict:
        if not isinstance(data, Mapping):
            raise InvalidRequest(f"{where}: expected an object, got {type(data).__name__}")
        return {
            key: _decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in data.items()
        }
    if is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            allowed = ", ".join(str(member.value) for member in kind)
            raise InvalidRequest(f"{where}: {data!r} is none of {allowed}") from None
    return _decode_plain(kind, data, where)


def _decode_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    problem: InvalidRequest | None = None
    for kind in rest:
        try:
            return _decode(kind, data, where)
        except InvalidRequest as error:
            problem = problem or error
    raise problem or InvalidRequest(f"{where}: null is not allowed")


def _decode_dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise InvalidRequest(f"{where}: expected an object, got {type(data).__name__}")
    hints = _hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in data:
            values[field.name] = _decode(
                hints[field.name], data[field.name], f"{where}.{field.name}"
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InvalidRequest(f"{where}: the key {field.name!r} is missing")
    return kind(**values)


def _decode_plain(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise InvalidRequest(f"{where}: the number is too large") from None
    # JSON's true is an int to Python and never a number to us.
    if isinstance(data, kind) and not (kind in (int, float) and isinstance(data, bool)):
        return data
    raise InvalidRequest(f"{where}: expected {kind.__name__}, got {type(data).__name__}")
