"""How one request becomes many runs, and the files that parameter sets are read from."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.client.options import RunOptions
from physicsrunner.client.sets import parse_sets, read_sets
from physicsrunner.core.run import NewRun, NewStudy
from physicsrunner.errors import InvalidRequest, UsageError
from physicsrunner.wire.batch import BatchRequest, ParameterSet, runs_of, study_of
from physicsrunner.wire.codec import decode, encode

BASE = NewRun(id=str(uuid.UUID(int=7)), model_id="m", name="sweep")


@given(st.lists(st.text(max_size=8), min_size=1, max_size=50, unique=True))
def test_variations_have_ids_that_follow_from_the_base(names: list[str]) -> None:
    """The same request again names the same runs; no two of it are one."""
    request = BatchRequest(
        base_request=BASE, parameter_variations=[ParameterSet(set_id=name) for name in names]
    )
    runs = runs_of(request)
    assert [run.id for run in runs] == [run.id for run in runs_of(request)]
    assert len({run.id for run in runs}) == len(names)
    assert [run.parameters["set_id"] for run in runs] == names
    space = uuid.UUID(BASE.id or "")
    assert [run.id for run in runs] == [str(uuid.uuid5(space, name)) for name in names]
    assert decode(BatchRequest, encode(request)) == request


def test_a_variation_replaces_inputs_and_keeps_the_rest() -> None:
    """Values of the base stay where a set has none of its own."""
    base = NewRun(model_id="m", parameters={"inputs": {"re": 1, "dt": 2}, "random_seed": 5})
    sets = [ParameterSet({"re": 9}, weight=0.5, description="d")]
    (run,) = runs_of(BatchRequest(base_request=base, parameter_variations=sets))
    assert run.parameters == {
        "inputs": {"re": 9, "dt": 2},
        "random_seed": 5,
        "set_id": "1",
        "weight": 0.5,
    }
    assert (run.id, run.name, run.description) == (None, None, "d")


def test_a_batch_is_either_runs_or_variations() -> None:
    """Neither, both and too many are refused."""
    one = [ParameterSet()]
    for wrong in (
        BatchRequest(),
        BatchRequest(parameter_variations=one),
        BatchRequest(runs=[BASE], base_request=BASE, parameter_variations=one),
        BatchRequest(base_request=BASE),
        BatchRequest(runs=[BASE] * 10_001),
        BatchRequest(runs=[BASE], execution_mode="adaptive"),
    ):
        with pytest.raises(InvalidRequest):
            runs_of(wrong)


def test_the_study_of_a_batch() -> None:
    """None unless one is named or a limit asks for one; sequential is a limit of one."""
    assert study_of(BatchRequest(runs=[BASE])) is None
    named = BatchRequest(runs=[BASE], study=NewStudy("mine"))
    assert study_of(named) == NewStudy("mine")
    made = study_of(BatchRequest(runs=[BASE], max_concurrent_runs=4))
    assert made is not None
    assert (made.name, made.max_concurrent_runs) == ("sweep", 4)
    assert made == study_of(BatchRequest(runs=[BASE], max_concurrent_runs=4))
    one = study_of(BatchRequest(runs=[BASE], study=NewStudy("s"), execution_mode="sequential"))
    assert one == NewStudy("s", max_concurrent_runs=1)
    with pytest.raises(InvalidRequest):
        study_of(BatchRequest(runs=[BASE], max_concurrent_runs=0))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "re,name\n100,x\n1e2,y\n"),
        ("a.tsv", "re\tname\n100\tx\n1e2\ty\n"),
        ("a.yaml", "- {re: 100, name: x}\n- {re: 100.0, name: y}\n"),
        ("a.json", '[{"re": 100, "name": "x"}, {"re": 100.0, "name": "y"}]'),
        ("a.jsonl", '{"re": 100, "name": "x"}\n\n{"re": 100.0, "name": "y"}'),
        ("a.csv", "re,name\r\n100,x\r\n\r\n1e2,y\r\n"),
    ],
)
def test_sets_are_read_by_what_the_file_is_called(tmp_path: Path, name: str, text: str) -> None:
    """JSON lines, lists in JSON or YAML, and CSV say the same."""
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # as a spreadsheet writes it
    assert read_sets(path) == [{"re": 100, "name": "x"}, {"re": 100.0, "name": "y"}]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "no parameter set"),
        ("a.csv", "re,re\n1,2\n", "each one once"),
        ("a.csv", "re,dt\n1\n", "row 2"),
        ("a.yaml", "re: 3", "no list"),
        ("a.yaml", "- 3", "item 1"),
        ("a.yaml", "[", "line"),
        ("a.jsonl", '{"re": 1}\n{', "line 2"),
        ("a.jsonl", "3", "line 1"),
        ("a.json", "[1]", "item 1"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(name: str, text: str, told: str) -> None:
    """The message names the file and where it is wrong."""
    with pytest.raises(UsageError, match=told) as caught:
        parse_sets(text, name, where=f"dir/{name}")
    assert f"dir/{name}" in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Half a character is not guessed at."""
    (tmp_path / "a.csv").write_bytes(b"re\n\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        read_sets(tmp_path / "a.csv")


def test_options_say_what_was_given_and_no_more() -> None:
    """What is left out is left to the server; secrets are marked and never shown."""
    assert RunOptions().configuration() == {}
    assert RunOptions().request() == {}
    options = RunOptions(
        cores=2,
        gpus=1,
        retries=1,
        retry_delay_s=5,
        retry_on=("signal",),
        environment={"A": "1"},
        secrets={"B": "hidden"},
        pinned=True,
    )
    expected: dict[str, Any] = {
        "retry_policy": {
            "max_retries": 1,
            "retry_delay_seconds": 5,
            "retry_on_failure_types": ["signal"],
        },
        "environment_variables": {"A": "1", "B": {"secret": "hidden"}},
    }
    assert options.configuration() == expected
    assert options.request() == {
        "resource_requirements": {"cpu_cores": 2, "gpu_count": 1},
        "pinned": True,
    }
    assert "hidden" not in repr(options)
