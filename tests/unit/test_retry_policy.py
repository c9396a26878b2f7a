"""Which runs are tried again, after what, how often and how much later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.core.retry import (
    DELAYS_S,
    FAILURES,
    LONGEST_S,
    RetryPolicy,
    failure_of,
    next_try,
    tries,
)
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest

FAILED, TIMEOUT = RunState.FAILED, RunState.TIMEOUT

policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 100),
    delay_s=st.none() | st.floats(0, LONGEST_S),
    exponential=st.booleans(),
    on=st.sets(st.sampled_from(FAILURES)).map(
        lambda chosen: tuple(name for name in FAILURES if name in chosen)
    ),
    max_lost=st.integers(0, 100),
)


def run(policy: dict[str, Any] | None = None, **fields: Any) -> RunSummary:
    base = RunSummary("r", 1, "name", "ada", 0.0, 0.0, retry_policy=policy)
    return RunSummary(**{**vars(base), **fields})


@given(policies)
def test_a_policy_survives_the_database(policy: RetryPolicy) -> None:
    """What is stored is what was asked."""
    assert RetryPolicy.from_json(policy.to_json()) == policy


@given(policies, st.integers(1, 10_000))
def test_every_wait_is_bounded_and_none_is_shorter_than_the_one_before(
    policy: RetryPolicy, n: int
) -> None:
    """Whatever the policy, nobody waits for ever, and the waits do not shrink."""
    assert 0 <= policy.wait(n) <= policy.wait(n + 1) <= LONGEST_S


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({}, [30, 300, 1200, 1200]),
        ({"retry_delay_seconds": 7}, [7, 7, 7, 7]),
        ({"retry_delay_seconds": 7, "exponential_backoff": True}, [7, 14, 28, 56]),
        ({"exponential_backoff": True}, [30, 60, 120, 240]),
    ],
)
def test_the_delays(policy: dict[str, Any], waits: list[float]) -> None:
    """30, 300 and 1,200 s where none is named; constant or doubling where one is."""
    assert [RetryPolicy.from_json(policy).wait(n) for n in range(1, 5)] == waits
    assert DELAYS_S == (30, 300, 1200)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("often", "object"),
        ({"max_retry": 3}, "max_retry is unknown"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"max_retries": 10**9}, "max_retries"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds"),
        ({"retry_delay_seconds": float("nan")}, "retry_delay_seconds"),
        ({"retry_delay_seconds": 1e300}, "retry_delay_seconds"),
        ({"exponential_backoff": "yes"}, "exponential_backoff"),
        ({"retry_on_failure_types": "lost"}, "retry_on_failure_types"),
        ({"retry_on_failure_types": ["bad luck"]}, "retry_on_failure_types"),
        ({"retry_on_failure_types": [["lost"]]}, "retry_on_failure_types"),
        ({"max_lost": "many"}, "max_lost"),
    ],
)
def test_policies_that_are_none(policy: Any, said: str) -> None:
    """The wrong key is named."""
    with pytest.raises(InvalidRequest, match=said):
        RetryPolicy.from_json(policy)


@pytest.mark.parametrize(
    ("state", "before", "exit_code", "code", "failure"),
    [
        (FAILED, RunState.RUNNING, 3, "program_failed", "exit_code"),
        (FAILED, RunState.RUNNING, -9, "program_failed", "signal"),
        (FAILED, RunState.RUNNING, None, "program_lost", "lost"),
        (FAILED, RunState.PREPARING, None, "unavailable", "download"),
        (FAILED, RunState.PREPARING, None, None, "download"),
        (FAILED, RunState.RUNNING, None, "internal", None),
        (FAILED, RunState.RUNNING, 0, None, None),
        (TIMEOUT, RunState.RUNNING, -15, "timeout", "timeout"),
        (TIMEOUT, RunState.RUNNING, -15, "silent", "timeout"),
        (RunState.CANCELLED, RunState.RUNNING, -15, "cancelled", None),
        (RunState.COMPLETED, RunState.RUNNING, 0, None, None),
    ],
)
def test_what_an_attempt_ended_by(
    state: RunState, before: RunState, exit_code: int | None, code: str | None, failure: str | None
) -> None:
    """Exit code, signal, lost machine, time limit, or before main.py was started."""
    assert failure_of(state, before=before, exit_code=exit_code, code=code) == failure


def test_tries_are_counted_and_lost_machines_apart() -> None:
    """Two retries after failures, and besides them three lost machines."""
    policy = {"max_retries": 2, "retry_delay_seconds": 5}
    assert next_try(run(policy), "exit_code") == 5
    assert next_try(run(policy, retry_count=1), "exit_code") == 5
    assert next_try(run(policy, retry_count=2), "exit_code") is None
    assert next_try(run(policy, retry_count=2), "lost") == 5
    assert next_try(run(policy, lost_count=3), "lost") is None
    assert next_try(run(policy, lost_count=3), "signal") == 5
    assert next_try(run({**policy, "retry_on_failure_types": ["signal"]}), "exit_code") is None
    assert next_try(run({**policy, "retry_on_failure_types": ["signal"]}), "lost") is None


def test_without_a_policy_nothing_is_tried_again_but_what_says_so() -> None:
    """`on_lost_contact: retry` answers a lost machine, also with a policy that does not."""
    for failure in FAILURES:
        assert next_try(run(), failure) is None
        assert next_try(run({"max_retries": 0}), failure) is None
    assert next_try(run(on_lost_contact="retry"), "lost") == 30
    assert next_try(run(on_lost_contact="retry"), "exit_code") is None
    assert next_try(run({"max_retries": 0}, on_lost_contact="retry"), "lost") == 30
    assert next_try(run({"max_lost": 0}, on_lost_contact="retry"), "lost") is None


def test_a_run_that_is_to_stop_or_is_its_creators_is_not_tried_again() -> None:
    """Neither a cancel request nor a claim leaves anybody to try."""
    policy = {"max_retries": 9}
    for failure in (*FAILURES, None):
        assert next_try(run(policy, cancel_requested=True), failure) is None
        assert next_try(run(policy, claimed=True), failure) is None
    assert next_try(run(policy), None) is None


def test_the_number_of_the_try() -> None:
    """The first of three; never more than there can be."""
    assert tries(run({"max_retries": 2})) == (1, 3)
    assert tries(run({"max_retries": 2}, retry_count=2)) == (3, 3)
    assert tries(run(retry_count=2)) == (3, 3)
