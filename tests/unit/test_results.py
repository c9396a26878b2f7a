"""results.csv and results.json: types, units, and what cannot be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.core.results import Result, read_results
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire import messages


def test_the_message_is_the_same_class() -> None:
    """What is read here travels as it is."""
    assert messages.Result is Result


def test_results_csv() -> None:
    """A line of names and a line of values; numbers, booleans and texts are told apart."""
    text = "n,t_max [K],converged, method ,empty,far\r\n3,273.15,True,PISO,,1e400\r\n"
    assert read_results(text, None) == [
        Result("n", 3),
        Result("t_max", 273.15, unit="K"),
        Result("converged", True, "boolean"),
        Result("method", "PISO", "ascii"),
        Result("empty", "", "ascii"),
        Result("far", "inf", "ascii"),
    ]


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("", []),
        ("\ufeff", []),
        ("only,names\n", []),
        ('"a,b","c ""d"""\n"x,y",2\n', [Result("a,b", "x,y", "ascii"), Result('c "d"', 2)]),
        ("a,b,c\n1,2\n", [Result("a", 1), Result("b", 2)]),
        ("a\n1,2\n", [Result("a", 1)]),
        ("\n\na\n-1.5e-3\n7\n", [Result("a", -1.5e-3)]),
        ("a,b\nnan,-inf\n", [Result("a", "nan", "ascii"), Result("b", "-inf", "ascii")]),
        ("a,b\n1_000,0x10\n", [Result("a", "1_000", "ascii"), Result("b", "0x10", "ascii")]),
        ("\ufeffa\n1\n", [Result("a", 1)]),
    ],
)
def test_odd_csv(text: str, results: list[Result]) -> None:
    """Quotes, ragged lines, marks and numbers that are none."""
    assert read_results(text, None) == results


def test_results_json() -> None:
    """Types are kept; a unit stands in the entry or in the name; lists and objects are json."""
    text = json.dumps(
        {
            "t_max": {"value": 273.15, "unit": "K"},
            "n": 3,
            "p [Pa]": 1.0,
            "ok": {"value": False},
            "word": "7",
            "list": [1, True, "x"],
            "object": {"value": 1, "more": 2},
            "nothing": None,
            "big": {"value": [1], "type": "json"},
        }
    )
    assert read_results(None, text) == [
        Result("t_max", 273.15, unit="K"),
        Result("n", 3),
        Result("p", 1.0, unit="Pa"),
        Result("ok", False, "boolean"),
        Result("word", "7", "ascii"),
        Result("list", [1, True, "x"], "json"),
        Result("object", {"value": 1, "more": 2}, "json"),
        Result("nothing", "null", "ascii"),
        Result("big", [1], "json"),
    ]


def test_results_json_as_a_list() -> None:
    """The form that the wire has is read too."""
    text = json.dumps([{"name": "a", "type": "scalar", "value": 1}, {"name": "b", "value": "x"}])
    assert read_results(None, text) == [Result("a", 1), Result("b", "x", "ascii")]


def test_json_wins_over_csv() -> None:
    """The same name in both files: results.json has the word, in the place of the first."""
    assert read_results("a,b\n1,2\n", '{"a": 5, "c": 3}') == [
        Result("a", 5),
        Result("b", 2),
        Result("c", 3),
    ]


@pytest.mark.parametrize("text", ["{", "3", '"x"', "[1]", '[{"name": "a"}]'])
def test_a_json_file_that_is_none(text: str) -> None:
    """It is an error that names the file; with a list of problems the rest is still read."""
    with pytest.raises(InvalidRequest, match=r"results\.json"):
        read_results("a\n1\n", text)
    problems: list[str] = []
    assert read_results("a\n1\n", text, problems=problems) == [Result("a", 1)]
    assert len(problems) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_what_is_read_is_always_json(values: dict[str, object]) -> None:
    """NaN and the infinities never reach the wire as numbers, however deep they stand."""
    for result in read_results(None, json.dumps(values)):
        json.dumps(result.value, allow_nan=False)
        assert result.value is not None
        assert result.type in ("scalar", "boolean", "ascii", "json")
