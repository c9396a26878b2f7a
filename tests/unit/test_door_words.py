"""The words that doors have for the states of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from physicsrunner.core.run import DOORS, RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.server.doors.words import WORDS, states_of, word

RUN = RunSummary(id="r", number=1, name="n", created_by="ada", created_at=0.0, updated_at=0.0)


def test_every_door_has_a_word_for_every_state() -> None:
    """No run is without a state at any door."""
    assert set(WORDS) == set(DOORS)
    for words in WORDS.values():
        assert set(words) == set(RunState)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("queued", "pending queued queued RUNNING"),
        ("preparing", "running running running RUNNING"),
        ("retrying", "running running running RUNNING"),
        ("paused", "running running running PAUSED"),
        ("completed", "finished completed complete COMPLETED"),
        ("failed", "error failed error FAILED"),
        ("timeout", "error failed error FAILED"),
        ("cancelled", "error canceled cancelled FAILED"),
    ],
)
def test_the_words_are_those_of_the_documents(state: str, words: str) -> None:
    """In the order of `DOORS`."""
    run = replace(RUN, status=RunState(state))
    assert [word(door, run) for door in DOORS] == words.split()


@pytest.mark.parametrize("door", DOORS)
def test_a_word_leads_back_to_its_states(door: str) -> None:
    """A filter by the word of a run finds that run."""
    for state in RunState:
        run = replace(RUN, status=state)
        assert state in states_of(door, [word(door, run)])
    assert set(states_of(door, WORDS[door].values())) == set(RunState)


def test_a_stop_reads_as_cancelled_at_once_at_the_door_that_promises_it() -> None:
    """Before the program has ended, and for good: a job that is cancelled becomes nothing else."""
    asked = replace(RUN, status=RunState.RUNNING, cancel_requested=True)
    assert word("ath", asked) == "cancelled"
    assert word("shakescenario", asked) == "running"
    assert word("ath", replace(asked, status=RunState.COMPLETED)) == "cancelled"
    assert word("shakescenario", replace(asked, status=RunState.COMPLETED)) == "completed"


def test_a_foreign_word_is_refused_with_those_that_there_are() -> None:
    """Each door has its own spelling, and says so."""
    with pytest.raises(InvalidRequest, match=r"'canceled'.*queued, running, complete, error"):
        states_of("ath", ["running", "canceled"])
