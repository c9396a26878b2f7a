"""Messages and JSON: what is encoded decodes to the same, and a wrong key is named."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire import messages
from physicsrunner.wire.codec import decode, encode

MESSAGES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and is_dataclass(value) and value.__module__ == messages.__name__
]

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**53), 2**53),
    float: _FLOATS,
    bool: st.booleans(),
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _FLOATS | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if kind is Any:
        return _JSON
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if a is type(None) else _values(a) for a in arguments))
    if origin is list:
        return st.lists(_values(arguments[0]), max_size=3)
    if origin is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), _values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if is_dataclass(kind):
        return _instances(kind)
    return _PLAIN[kind]


def _instances(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{field.name: _values(hints[field.name]) for field in fields(cls)})


@pytest.mark.parametrize("message", MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_message_survives_the_wire(message: Any, data: st.DataObject) -> None:
    """``decode(encode(m)) == m`` for every message, through real JSON text."""
    value = data.draw(_instances(message))
    assert decode(message, json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("message", MESSAGES, ids=lambda cls: cls.__name__)
def test_an_older_side_ignores_what_it_does_not_know(message: Any) -> None:
    """An unknown key changes nothing, and every field without a default is asked for by name."""
    value = _smallest(message)
    assert decode(message, {**value, "of_a_later_version": [1]}) == decode(message, value)
    for name in value:
        with pytest.raises(InvalidRequest, match=f"{message.__name__}.*{name}"):
            decode(message, {key: item for key, item in value.items() if key != name})


def _smallest(cls: Any) -> dict[str, Any]:
    """Return the JSON of a message with its required fields alone."""
    plain: dict[Any, Any] = {str: "x", int: 1, float: 1.5, bool: True, Any: None}
    hints = get_type_hints(cls)
    result: dict[str, Any] = {}
    for field in fields(cls):
        if field.default is MISSING and field.default_factory is MISSING:
            kind = hints[field.name]
            if get_origin(kind) is list:
                result[field.name] = []
            elif isinstance(kind, type) and issubclass(kind, Enum):
                result[field.name] = next(iter(kind)).value
            else:
                result[field.name] = plain[kind]
    return result


@pytest.mark.parametrize(
    ("message", "data", "where"),
    [
        (messages.SyncOp, [], "SyncOp: expected an object"),
        (messages.SyncOp, None, "SyncOp: expected an object"),
        (messages.HeldLease, {"run": 1, "attempt": 1}, "HeldLease.run: expected str, got int"),
        (messages.HeldLease, {"run": "r", "attempt": True}, "attempt: expected int, got bool"),
        (messages.HeldLease, {"run": "r", "attempt": "1"}, "attempt: expected int, got str"),
        (messages.HeldLease, {"run": "r", "attempt": 1.0}, "attempt: expected int, got float"),
        (messages.Renewals, {"leases": {}}, "Renewals.leases: expected a list"),
        (messages.Renewals, {"leases": [{}]}, r"Renewals.leases\[0\]: the key 'run' is missing"),
        (messages.LeaseRequest, {"agent": "a", "labels": "abc"}, "labels: expected a list"),
        (messages.LeaseRequest, {"agent": "a", "host": []}, "host: expected an object"),
        (messages.LeaseRequest, {"agent": None}, "agent: expected str"),
        (
            messages.Report,
            {"run": "r", "attempt": 1, "state": "done"},
            "state: 'done' is none of .*completed",
        ),
        (messages.Report, {"run": "r", "attempt": 1, "progress": "50"}, "progress: expected float"),
    ],
)
def test_a_wrong_value_is_named(message: Any, data: Any, where: str) -> None:
    """The error says which message, which key, and what was expected."""
    with pytest.raises(InvalidRequest, match=where):
        decode(message, data)


def test_whole_numbers_are_numbers() -> None:
    """A float field takes JSON's 50 and keeps it as a float; None fields are left out."""
    report = decode(messages.Report, {"run": "r", "attempt": 1, "progress": 50})
    assert report == messages.Report("r", 1, progress=50.0)
    assert isinstance(report.progress, float)
    said = {"run": "r", "attempt": 1, "progress": 50.0, "hand_back": False}
    assert encode(report) == said


def test_states_travel_as_words() -> None:
    """An enum is its value on the wire."""
    assert encode(messages.Report("r", 1, state=RunState.FAILED))["state"] == "failed"


@given(data=_JSON)
def test_nothing_but_invalid_request_comes_out_of_bad_input(data: Any) -> None:
    """Whatever JSON a stranger sends, it decodes or raises `InvalidRequest`."""
    for message in MESSAGES:
        try:
            decode(message, data)
        except InvalidRequest as error:
            assert str(error)  # noqa: PT017 - which messages refuse is not the point


def test_a_message_with_a_constructor_of_its_own_is_refused() -> None:
    """What decoding would pass over cannot become a message unnoticed."""

    @dataclass(frozen=True)
    class Checked:
        number: int

        def __post_init__(self) -> None:
            raise AssertionError

    with pytest.raises(TypeError, match="Checked"):
        decode(Checked, {"number": 1})
