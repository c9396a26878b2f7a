"""Why a run is where it is, in words."""

from __future__ import annotations

from typing import Any

import pytest

from physicsrunner.core import breaker
from physicsrunner.core.reasons import Away, Cap, Offered, Situation, duration, reason
from physicsrunner.core.resources import Room
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState

NOW = 1000.0
NODE = Offered(Room(cpu_cores=8, memory_gb=32), ("linux",))
GPU = Offered(Room(cpu_cores=2, gpu_count=1), ("linux", "gpu"))
NO_GPUS = "waiting: no agent offers 2 GPUs; the largest offers 1"
POLICY = {"max_retries": 3}


def run(status: RunState = RunState.QUEUED, **fields: Any) -> RunSummary:
    base = RunSummary("r", 17, "name", "ada", 0.0, 0.0, status=status, agent="node7")
    return RunSummary(**{**vars(base), **fields})


def there(**fields: Any) -> Situation:
    return Situation(**{"agents": [NODE, GPU], **fields})


@pytest.mark.parametrize(
    ("fields", "situation", "said"),
    [
        ({}, there(), "waiting: the next agent that has room takes it"),
        ({}, there(agents=[]), "waiting: no agent is connected"),
        (
            {},
            there(agents=[], others=[Away("a1", "drained by ada")]),
            "waiting: the only agent, a1, takes no work now: drained by ada",
        ),
        (
            {},
            there(agents=[], others=[Away(f"a{n}", "it is leaving") for n in range(5)]),
            (
                "waiting: none of the 5 known agents takes work now: a0 (it is leaving), "
                "a1 (it is leaving), a2 (it is leaving), 2 more"
            ),
        ),
        (
            {"gpu_count": 2},
            there(others=[Away("small", "x"), Away("big", "drained by ada", Room(8, gpu_count=4))]),
            f"{NO_GPUS}; big takes no work now: drained by ada",
        ),
        ({}, there(before=None), "waiting for its turn"),
        ({"gpu_count": 2}, there(before=None), NO_GPUS),
        ({"gpu_count": 2}, there(), NO_GPUS),
        (
            {"gpu_count": 1, "labels": ["linux"]},
            there(agents=[NODE]),
            "waiting: no agent offers 1 GPU; the largest offers 0",
        ),
        (
            {"memory_gb": 64},
            there(),
            "waiting: no agent offers 64 GB of memory; the largest offers 32",
        ),
        (
            {"cpu_cores": 4, "gpu_count": 1},
            there(),
            "waiting: no agent offers 4 cores and 1 GPU at once",
        ),
        (
            {"labels": ["gpu", "site:north"]},
            there(),
            "waiting: no agent has the labels gpu, site:north",
        ),
        (
            {},
            there(caps=[Cap("the server", 9, 3), Cap("project thermal", 4, 4)]),
            "waiting: project thermal already runs 4 of 4",
        ),
        ({}, there(before=12), "waiting: 12 runs are before it"),
        ({}, there(before=1), "waiting: 1 run is before it"),
        ({}, there(before=100, more=True), "waiting: more than 100 runs are before it"),
        ({"held": True}, there(asked_by="ada", before=3), "held by ada"),
        ({"held": True}, there(), "held"),
    ],
)
def test_runs_that_wait(fields: dict[str, Any], situation: Situation, said: str) -> None:
    """The first thing that stands in the way is named, with its numbers."""
    assert reason(run(**fields), situation, NOW) == said


def test_runs_that_are_tried_again() -> None:
    """When, why, and which try it will be; when its time has come it waits as any other."""
    waits = run(
        RunState.RETRYING,
        retry_policy=POLICY,
        retry_count=1,
        not_before=NOW + 30,
        error_message="main.py ended with exit code 3",
    )
    said = "retrying in 30 s: main.py ended with exit code 3 (try 2 of 4)"
    assert reason(waits, there(), NOW) == said
    assert reason(waits, there(), NOW + 30) == "waiting: the next agent that has room takes it"


@pytest.mark.parametrize(
    ("status", "fields", "said"),
    [
        (RunState.PREPARING, {}, "preparing on node7"),
        (RunState.RUNNING, {}, "running on node7"),
        (RunState.PAUSED, {"pause_requested": True}, "paused on node7"),
        (RunState.PAUSED, {}, "paused on node7: it was asked to go on"),
        (RunState.RUNNING, {"pause_requested": True}, "running on node7: it was asked to pause"),
        (RunState.RUNNING, {"cancel_requested": True}, "running on node7: it was asked to stop"),
        (
            RunState.RUNNING,
            {"silent": True, "silence_limit_s": 600.0},
            "running on node7: no output for more than 10 min",
        ),
        (
            RunState.RUNNING,
            {"unreachable": True, "deadline": NOW - 30},
            "unreachable: node7 has not been heard of for 90 s; it is waited for",
        ),
        (
            RunState.RUNNING,
            {"unreachable": True, "deadline": NOW - 30, "on_lost_contact": "retry"},
            "unreachable: node7 has not been heard of for 90 s; in 4 min another agent gets it",
        ),
        (
            RunState.RUNNING,
            {"unreachable": True, "deadline": NOW - 30, "on_lost_contact": "fail"},
            "unreachable: node7 has not been heard of for 90 s; in 4 min it is counted as failed",
        ),
        (
            RunState.COMPLETED,
            {},
            "completed: main.py ended with 0 and all files are stored",
        ),
        (RunState.FAILED, {"error_message": "exit code 3"}, "failed: exit code 3"),
        (RunState.FAILED, {"error_code": "internal"}, "failed: internal"),
        (RunState.TIMEOUT, {}, "timeout: it was not said why"),
        (RunState.CANCELLED, {}, "cancelled on request"),
    ],
)
def test_runs_that_somebody_has_or_had(status: RunState, fields: dict[str, Any], said: str) -> None:
    """Where it is, what it was asked, and what will follow."""
    assert reason(run(status, **fields), there(), NOW) == said


@pytest.mark.parametrize(
    ("status", "fields", "said"),
    [
        (RunState.RUNNING, {"cancel_requested": True}, "running on node7: ada asked it to stop"),
        (RunState.RUNNING, {"pause_requested": True}, "running on node7: ada asked it to pause"),
        (RunState.PAUSED, {"pause_requested": True}, "paused on node7 by ada"),
        (RunState.PAUSED, {}, "paused on node7: ada asked it to go on"),
        (RunState.CANCELLED, {}, "cancelled by ada"),
    ],
)
def test_who_asked_is_named(status: RunState, fields: dict[str, Any], said: str) -> None:
    """A person can be asked why."""
    assert reason(run(status, **fields), there(asked_by="ada"), NOW) == said


@pytest.mark.parametrize("status", list(RunState))
def test_every_state_has_a_reason(status: RunState) -> None:
    """No state is without words, however little is known."""
    bare = RunSummary("r", 1, "name", "ada", 0.0, 0.0, status=status, unreachable=True)
    assert reason(bare, Situation(), NOW)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (0.4, "0 s"), (90, "90 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_durations_in_words(seconds: float, said: str) -> None:
    """Seconds, minutes, hours, days."""
    assert duration(seconds) == said


def test_the_breaker() -> None:
    """Five failures at start in a row open it; the reason says so."""
    assert [breaker.is_open(failures) for failures in range(7)] == [False] * 5 + [True] * 2
    assert breaker.reason(5, "no space left").endswith("the last one: no space left")
    assert "5 runs in a row" in breaker.reason(5, None)
