"""
Between JSON values and the frozen dataclasses of `wire`.

Promises: ``decode(type, encode(value)) == value`` for every message (a property test holds it).
Unknown keys are ignored, so that an older side understands a newer one; a missing or wrong one
raises `InvalidRequest` with the message's name and the key. It knows only what messages are made
of: dataclasses, enums, lists, dicts, optional and plain JSON values. What a type means is worked
out once: a request brings thousands of messages. A message has neither ``__post_init__`` nor
``__slots__``: it is made without its constructor.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from physicsrunner.errors import InvalidRequest

T = TypeVar("T")
_Decoder = Callable[[Any], Any]
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
MAX_DEPTH: Final = 64  #: lists and objects in each other, in what users give


def encode(value: Any) -> Any:
    """Return *value* as plain JSON values; a field that is None, as by default, is left out."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {
            str(key): item if type(item) in _PLAIN else encode(item) for key, item in value.items()
        }
    if kind is list:
        return [item if type(item) in _PLAIN else encode(item) for item in value]
    names = _names(kind)
    if names is not None:
        return {
            name: item if type(item) in _PLAIN else encode(item)
            for name, always in names
            if (item := getattr(value, name)) is not None or always
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
    kind: Any = cls
    try:
        value: T = _decoder(kind)(data)
    except _Wrong as wrong:
        raise InvalidRequest(f"{cls.__name__}{wrong.path}: {wrong.text}") from None
    return value


def check_depth(value: Any, where: str) -> None:
    """
    Raise `InvalidRequest` if lists and objects lie in each other more than `MAX_DEPTH` deep.

    Reading JSON can go deeper than writing it: such a value could be taken and never be shown.
    """
    if not _within(value, MAX_DEPTH):
        raise InvalidRequest(f"{where}: nested more than {MAX_DEPTH} deep")


def _within(value: Any, depth: int) -> bool:
    """Say whether lists and objects lie in each other at most *depth* deep."""
    if isinstance(value, dict):
        inside: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        inside = value
    elif isinstance(value, Mapping):
        inside = value.values()
    else:
        return True
    if depth == 0:
        return False
    for inner in inside:
        if type(inner) not in _PLAIN and not _within(inner, depth - 1):
            return False
    return True


class _Wrong(Exception):
    """A value that is not as its message says, and where it stands in the message."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def below(self, step: str) -> _Wrong:
        """Return the same of the value that has this one at *step*."""
        return _Wrong(self.text, step + self.path)


@cache
def _names(kind: type) -> tuple[tuple[str, bool], ...] | None:
    """Return the fields of a dataclass, and whether each stands there also when it is None."""
    if not is_dataclass(kind):
        return None
    return tuple((field.name, field.default is not None) for field in fields(kind))


@cache
def _decoder(kind: Any) -> _Decoder:
    """Return what makes a *kind* of a JSON value, or raises `_Wrong`."""
    if kind is Any:
        return lambda data: data
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind))
    if origin in (list, tuple):
        return _list(_decoder(get_args(kind)[0]), origin)
    if origin is dict:
        return _dict(_decoder(get_args(kind)[1]))
    if is_dataclass(kind):
        return _message(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    return _plain(kind)


def _union(kinds: tuple[Any, ...]) -> _Decoder:
    nothing = type(None) in kinds
    decoders = [_decoder(kind) for kind in kinds if kind is not type(None)]

    def union(data: Any) -> Any:
        if data is None and nothing:
            return None
        problem: _Wrong | None = None
        for one in decoders:
            try:
                return one(data)
            except _Wrong as wrong:
                problem = problem or wrong
        raise problem or _Wrong("null is not allowed")

    return union


def _list(one: _Decoder, make: type) -> _Decoder:
    def many(data: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise _Wrong(f"expected a list, got {type(data).__name__}")
        found: list[Any] = []
        try:
            for item in data:
                found.append(one(item))  # noqa: PERF401 - how many there are says where it failed
        except _Wrong as wrong:
            raise wrong.below(f"[{len(found)}]") from None
        return found if make is list else tuple(found)

    return many


def _dict(one: _Decoder) -> _Decoder:
    def mapping(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _Wrong(f"expected an object, got {type(data).__name__}")
        found: dict[Any, Any] = {}
        for key, item in data.items():
            try:
                found[key] = one(item)
            except _Wrong as wrong:
                raise wrong.below(f".{key}") from None
        return found

    return mapping


def _message(kind: Any) -> _Decoder:
    if hasattr(kind, "__post_init__") or "__slots__" in vars(kind):
        raise TypeError(f"{kind.__name__} cannot be a message: see the codec's promises")
    hints = get_type_hints(kind)
    plan: list[tuple[str, _Decoder, Callable[[], Any] | None, bool]] | None = None
    # Its `__init__` would set each field by a call: a request brings tens of thousands of messages.
    known = {field.name: field.default for field in fields(kind) if field.default is not MISSING}

    def message(data: Any) -> Any:
        nonlocal plan
        if plan is None:  # at the first use: a message may hold itself
            plan = _plan(kind, hints)
        if not isinstance(data, Mapping):
            raise _Wrong(f"expected an object, got {type(data).__name__}")
        found = object.__new__(kind)
        values = found.__dict__
        values.update(known)
        for name, one, make, needed in plan:
            if name in data:
                try:
                    values[name] = one(data[name])
                except _Wrong as wrong:
                    raise wrong.below(f".{name}") from None
            elif make is not None:
                values[name] = make()
            elif needed:
                raise _Wrong(f"the key {name!r} is missing")
        return found

    return message


def _plan(
    kind: Any, hints: Mapping[str, Any]
) -> list[tuple[str, _Decoder, Callable[[], Any] | None, bool]]:
    """Return for each field its decoder, what makes its default, and whether it has none."""
    return [
        (
            field.name,
            _decoder(hints[field.name]),
            None if field.default_factory is MISSING else field.default_factory,
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    ]


def _enum(kind: type[Enum]) -> _Decoder:
    def member(data: Any) -> Any:
        try:
            return kind(data)
        except ValueError:
            allowed = ", ".join(str(one.value) for one in kind)
            raise _Wrong(f"{data!r} is none of {allowed}") from None

    return member


def _plain(kind: Any) -> _Decoder:
    def plain(data: Any) -> Any:
        if type(data) is kind:
            return data
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            try:
                return float(data)
            except OverflowError:
                raise _Wrong("the number is too large") from None
        # JSON's true is an int to Python and never a number to us.
        if isinstance(data, kind) and not (kind in (int, float) and isinstance(data, bool)):
            return data
        raise _Wrong(f"expected {kind.__name__}, got {type(data).__name__}")

    return plain
