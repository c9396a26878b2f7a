"""The error tree: stable codes, a status, what to do, and it pickles."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from physicsrunner import errors
from physicsrunner.errors import PhysicsRunnerError


def _tree(cls: type[PhysicsRunnerError]) -> list[type[PhysicsRunnerError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _tree(child))]


TREE = [cls for cls in _tree(PhysicsRunnerError) if cls.__module__ == errors.__name__]
BY_NAME = pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)


def _instance(cls: type[PhysicsRunnerError]) -> PhysicsRunnerError:
    count = len(inspect.signature(cls).parameters) if "__init__" in vars(cls) else 1
    return cls(*(f"argument {n}" for n in range(count)))


def test_codes_are_unique() -> None:
    """One code, one class: an answer can be turned back into the error that it was."""
    codes = [cls.code for cls in TREE]
    assert sorted(codes) == sorted(set(codes))


@BY_NAME
def test_each_says_what_it_is_and_what_to_do(cls: type[PhysicsRunnerError]) -> None:
    """Code, status, exit status, a first line and advice are there for every class."""
    assert re.fullmatch(r"[a-z_]+", cls.code)
    assert 400 <= cls.status_hint <= 599
    assert 1 <= cls.exit_code <= 125
    assert cls.what_to_do.endswith(".")
    assert (cls.__doc__ or "").strip().partition("\n")[0].endswith(".")
    assert "code" in vars(cls), "a class without a code of its own cannot be told on the wire"


@BY_NAME
def test_each_pickles_and_copies(cls: type[PhysicsRunnerError]) -> None:
    """An error crosses a process boundary with its arguments and its text."""
    error = _instance(cls)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is cls
        assert (again.args, str(again)) == (error.args, str(error))
        assert vars(again) == vars(error)


def test_only_what_time_can_mend_is_retryable() -> None:
    """A retry helps against an absent server, a full disk and a lock-out, and nothing else."""
    mended = {"unavailable", "design_service_away", "storage_full", "too_many_tries"}
    assert {cls.code for cls in TREE if cls.retryable} == mended


def test_the_tree_is_drawn_in_the_docstring() -> None:
    """Every class stands in the picture at the head of the module, below its parent."""
    drawing = (errors.__doc__ or "").split("The tree::")[1]
    for cls in TREE:
        assert re.search(rf"\b{cls.__name__}\b", drawing), cls.__name__


def test_texts_name_the_numbers() -> None:
    """Errors that carry numbers tell them."""
    assert str(errors.LeaseLost("r", 3)) == "run r: attempt 3 is not the leased attempt"
    text = str(errors.IllegalTransition("failed", "started"))
    assert text == "a run that is failed cannot take the event started"
