"""Cases and parameters as a person gives them: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from physicsrunner.client.case import parse_parameters, read_case
from physicsrunner.errors import UsageError
from physicsrunner.wire import rest
from tests.support.cases import make_case


@pytest.mark.parametrize("there", [True, False])
def test_what_is_no_case_says_what_one_is(tmp_path: Path, *, there: bool) -> None:
    """A file of another kind and a missing folder are told apart."""
    path = tmp_path / "notes.txt"
    if there:
        path.write_text("notes")
    with pytest.raises(UsageError, match="a case is a folder with a main") as caught:
        read_case(path)
    assert ("is not there" in str(caught.value)) is not there


@pytest.mark.parametrize("given", ["a=1e400", "a=[1, .inf]", "a={b: .nan}"])
def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path, given: str) -> None:
    """Before anything is made or sent, and by the parameter's name."""
    case = read_case(make_case(tmp_path / "case"))
    with pytest.raises(UsageError, match=r"'a' is .*; expected a finite number"):
        case.parameters(parse_parameters([given]))


def test_an_infinite_default_is_refused_as_well(tmp_path: Path) -> None:
    """What stands in case.yaml is held to the same."""
    defaults: dict[str, Any] = {"length": float("inf")}
    case = read_case(make_case(tmp_path / "case", parameters=defaults))
    with pytest.raises(UsageError, match="'length' is inf"):
        case.parameters({})
    assert case.parameters({"length": 2.0}) == {"length": 2.0}


@pytest.mark.parametrize("run", ["", " "])
def test_no_run_is_named(run: str) -> None:
    """An empty number is not the list of all runs."""
    with pytest.raises(UsageError, match="no run is named"):
        rest.simulation(run)


def test_a_run_is_one_part_of_a_path() -> None:
    """What a person types cannot lead to another address."""
    assert rest.simulation("../models?x") == f"{rest.SIMULATIONS}/..%2Fmodels%3Fx"
