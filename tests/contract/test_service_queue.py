"""The queue through the services: batches, retries, pause, lost contact, waits, deletion."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import NewRun, NewStudy, RunFilter, RunRecord
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotTerminal,
    PhysicsRunnerError,
    Pinned,
    ServerUnavailable,
    TooLarge,
)
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import live
from physicsrunner.wire.messages import (
    Failure,
    HeldLease,
    LeaseGrant,
    LeaseRequest,
    Renewals,
    Report,
    ReportAnswer,
    Resources,
    Result,
)
from tests.contract.service_house import House, open_house
from tests.support.postgres import PostgresServer

S = RunState
POLICY = {"max_retries": 2, "retry_delay_seconds": 10}
STORES = ("memory", "sqlite", "postgresql")


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield server.fresh()
        server.drop()
    else:
        yield "memory:" if request.param == "memory" else None


@pytest.fixture
def house(url: str | None, tmp_path: Path) -> Iterator[House]:
    opened = open_house(tmp_path, url=url)
    yield opened
    opened.services.close()


def submit(house: House, configuration: dict[str, Any] | None = None, **fields: Any) -> RunRecord:
    request = NewRun(model_id=house.model(), configuration=configuration or {})
    return house.services.runs.create(house.admin, replace(request, **fields))


def say(
    house: House, grant: LeaseGrant, state: RunState | None = None, **said: Any
) -> ReportAnswer:
    report = replace(Report(grant.run, grant.attempt, state), **said)
    return house.services.leases.report(house.bearer(grant), [report])[0]


def fails(house: House, grant: LeaseGrant, exit_code: int = 3) -> ReportAnswer:
    error = Failure("program_failed", f"main.py ended with exit code {exit_code}")
    return say(house, grant, S.FAILED, exit_code=exit_code, error=error)


def starts(house: House, agent: str = "x") -> LeaseGrant:
    (grant,) = house.lease(agent)
    assert say(house, grant, S.RUNNING).state is S.RUNNING
    return grant


def get(house: House, run: str) -> RunRecord:
    return house.services.runs.get(house.admin, run)


def look(house: House, seconds: float = 0.0) -> list[str]:
    """Let *seconds* go by as a clock loop sees them, and return who was marked."""
    marked: list[str] = []
    while seconds > 30:
        house.clock.move(30)
        seconds -= 30
        marked += house.services.leases.expire(house.clock())
    house.clock.move(seconds)
    return marked + house.services.leases.expire(house.clock())


# -- batches --------------------------------------------------------------------------------------


def test_a_batch_is_queued_in_its_order_with_its_study(house: House) -> None:
    """Numbers count up, each run has its own parameters, and all belong to the study."""
    model = house.model()
    wanted = [NewRun(model_id=model, name=f"r{n}", parameters={"n": n}) for n in range(50)]

    made = house.services.runs.create_many(house.admin, wanted, NewStudy("sweep"))

    assert [run.name for run in made] == [f"r{n}" for n in range(50)]
    assert [run.number for run in made] == list(range(1, 51))
    (study,) = {run.study_id for run in made}
    assert study is not None
    assert house.services.studies.get(house.admin, study)["counts"] == {"queued": 50}
    assert get(house, made[7].id).parameters == {"n": 7}
    grants = house.lease("x", max=2)
    assert [(grant.number, grant.parameters) for grant in grants] == [(1, {"n": 0}), (2, {"n": 1})]


def test_a_run_of_a_batch_is_as_if_it_had_been_asked_for_alone(house: House) -> None:
    """What runs of a batch have in common is read once, and what each has of its own is its own."""
    runs = house.services.runs
    shared = {"environment_variables": {"A": "1"}}
    first = NewRun(
        model_id=house.model(),
        name="r",
        configuration=shared,
        resource_requirements={"cpu_cores": 0},
        tags=["t"],
    )
    wanted = [
        first,
        replace(first, name="n" * 300, parameters={"n": 1}, description="own"),
        replace(first, name="s", configuration={"environment_variables": {"A": 1}}),
        replace(first, name=None),
        replace(first, name="t", configuration={"stop_when_silent": False}),
        replace(first, configuration={"priority": 1}, pinned=True),
        replace(first, configuration={"environment_variables": {"A": {"secret": "x"}}}),
        replace(first, configuration={"environment_variables": {"A": {"secret": "y"}}}),
        replace(first, tags=[]),
        replace(first, tags=["u", "v"], simulation_type="sweep"),
    ]

    def kept(run: str) -> dict[str, Any]:
        own: dict[str, Any] = {"id": "", "number": 0, "created_at": 0.0, "updated_at": 0.0}
        return vars(replace(get(house, run), **own))

    alone = [kept(runs.create(house.admin, one).id) for one in wanted]
    house.lease("x", max=len(wanted))
    together = runs.create_many(house.admin, wanted)

    assert [kept(run.id) for run in together] == alone
    grants = house.lease("y", max=len(wanted))
    assert [grant.environment.get("A") for grant in grants[6:8]] == ["x", "y"]
    for bad in (replace(first, name="\ud800"), replace(first, description="\ud800")):
        with pytest.raises(InvalidRequest, match=r"runs\[1\].*Unicode"):
            runs.create_many(house.admin, [first, bad])


def test_of_a_batch_all_runs_are_queued_or_none(house: House) -> None:
    """The bad one is named by its place; nothing, not even the study, is left behind."""
    model, runs = house.model(), house.services.runs
    good = NewRun(model_id=model)
    key = str(uuid.uuid4())
    other = str(uuid.uuid4())
    runs.create(house.user("bob"), replace(good, id=other))
    house.services.accounts.add_project(house.admin, "p")
    before = runs.list(house.admin, RunFilter()).total
    bad: list[tuple[list[NewRun], type[PhysicsRunnerError], str]] = [
        ([], InvalidRequest, "no run"),
        ([good, replace(good, configuration={"priority": 9})], InvalidRequest, r"runs\[1\]"),
        ([good, replace(good, model_id=None)], InvalidRequest, "model_id"),
        ([good, replace(good, model_id="nobody")], NotFound, r"runs\[1\]"),
        ([replace(good, id=key), replace(good, id=key)], InvalidRequest, r"runs\[1\].*same id"),
        ([good, replace(good, id="../x")], InvalidRequest, r"runs\[1\].*UUID"),
        ([good, replace(good, id=other)], NotAllowed, "somebody else"),
        ([good, replace(good, project_id="p")], InvalidRequest, "project"),
        ([good, replace(good, study_id=key)], InvalidRequest, "another study"),
        ([good] * 10_001, TooLarge, "10000"),
    ]
    for wanted, error, said in bad:
        with pytest.raises(error, match=said):
            runs.create_many(house.admin, wanted, NewStudy("s"))
    with pytest.raises(InvalidRequest, match="max_concurrent_runs"):
        runs.create_many(house.admin, [good], NewStudy("s", max_concurrent_runs=0))
    with pytest.raises(NotAllowed):
        runs.create_many(house.user("eve", "viewer"), [good])
    assert runs.list(house.admin, RunFilter()).total == before
    assert house.services.studies.list(house.admin) == []


def test_a_batch_that_is_sent_again_is_the_same_batch(house: House) -> None:
    """Each run's own id is its key; those that are missing are added."""
    model, runs = house.model(), house.services.runs
    wanted = [NewRun(model_id=model, id=str(uuid.uuid4())) for _ in range(3)]
    study = NewStudy("s", str(uuid.uuid4()))
    first = runs.create_many(house.admin, wanted[:2], study)

    again = runs.create_many(house.admin, [*wanted, NewRun(model_id=model)], study)

    assert again[:2] == first
    assert [run.number for run in again] == [1, 2, 3, 4]
    assert {run.study_id for run in again} == {study.id}
    assert runs.create_many(house.admin, wanted[:2], study) == first
    with pytest.raises(NotAllowed):
        runs.create_many(house.user("bob"), [NewRun(model_id=model)], study)


# -- caps -----------------------------------------------------------------------------------------


def test_caps_of_server_and_study_are_kept(url: str | None, tmp_path: Path) -> None:
    """A run that would be one too many waits, those behind it do not, and the reason says why."""
    house = open_house(tmp_path, url=url, options=ServerOptions(max_concurrent_runs=3))
    try:
        model, runs = house.model(), house.services.runs
        made = runs.create_many(
            house.admin, [NewRun(model_id=model)] * 3, NewStudy("s", max_concurrent_runs=1)
        )
        others = runs.create_many(house.admin, [NewRun(model_id=model)] * 3)

        grants = house.lease("x", max=10, cpu_cores=99)

        assert [grant.run for grant in grants] == [made[0].id, others[0].id, others[1].id]
        assert house.lease("y", max=10) == []
        assert runs.reason(get(house, made[1].id)) == "waiting: the server already runs 3 of 3"
        say(house, grants[2], S.FAILED)
        assert runs.reason(get(house, made[1].id)) == "waiting: study s already runs 1 of 1"
        (last,) = house.lease("y", max=10)
        assert last.run == others[2].id
    finally:
        house.services.close()


# -- trying again ---------------------------------------------------------------------------------


def test_a_failure_that_the_policy_answers_is_not_the_end(house: House) -> None:
    """The attempt has failed, the run waits, is carried out again, and fails at last."""
    run = submit(house, {"retry_policy": POLICY})
    for n in (1, 2):
        grant = starts(house)
        assert grant.attempt == n
        answer = fails(house, grant)
        assert (answer.state, answer.error) == (S.RETRYING, None)
        assert fails(house, grant) == answer  # the answer was lost
        again = get(house, run.id)
        assert (again.retry_count, again.not_before, again.deadline) == (
            n,
            house.clock() + 10,
            None,
        )
        said = f"retrying in 10 s: main.py ended with exit code 3 (try {n + 1} of 3)"
        assert house.services.runs.reason(again) == said
        assert house.lease() == []
        house.clock.move(10)
    grant = starts(house)
    assert fails(house, grant).state is S.FAILED

    ended = get(house, run.id)
    assert (ended.attempt, ended.retry_count, ended.exit_code) == (3, 2, 3)
    tried = house.services.runs.attempts(house.admin, run.id)
    assert [(one.attempt, one.state, one.exit_code) for one in tried] == [
        (1, "failed", 3),
        (2, "failed", 3),
        (3, "failed", 3),
    ]
    types = [event.type for event in house.services.runs.events(house.admin, run.id)]
    assert types.count(live.RETRIED) == 2
    assert types.count(live.FAILED) == 1
    assert types.count(live.PREPARING) == types.count(live.FREED) == 3


def test_only_failures_that_are_named_are_tried_again(house: House) -> None:
    """An exit code is not a signal; what a failed attempt left is no result of the run."""
    submit(house, {"retry_policy": {**POLICY, "retry_on_failure_types": ["signal"]}})
    grant = starts(house)
    say(house, grant, results=[Result("u", 1.0)])
    assert fails(house, grant, -9).state is S.RETRYING
    again = get(house, grant.run)
    assert (again.result_count, again.results) == (0, [])
    house.clock.move(10)
    assert fails(house, starts(house)).state is S.FAILED


def test_a_timeout_is_tried_again_where_the_policy_says_so(house: House) -> None:
    """The attempt's own record says timeout."""
    submit(house, {"retry_policy": {**POLICY, "retry_on_failure_types": ["timeout"]}})
    grant = starts(house)
    assert say(house, grant, S.TIMEOUT, error=Failure("timeout", "60 s")).state is S.RETRYING
    (tried,) = house.services.runs.attempts(house.admin, grant.run)
    assert tried.state == "timeout"


def test_contradictions_after_an_attempt_that_is_tried_again(house: House) -> None:
    """What has failed cannot have completed; renewing it is no error and keeps nothing."""
    submit(house, {"retry_policy": POLICY})
    grant = starts(house)
    fails(house, grant)
    before = get(house, grant.run)

    assert say(house, grant, S.COMPLETED).error == "illegal_transition"
    assert say(house, grant, progress=5.0).state is S.RETRYING
    renewals = Renewals([HeldLease(grant.run, 1)])
    (kept,) = house.services.leases.renew(house.bearer(grant), renewals)
    assert (kept.error, kept.deadline, kept.commands) == (None, None, [])
    assert get(house, grant.run) == before
    house.clock.move(10)
    starts(house, "y")
    assert say(house, grant, S.FAILED).error == "lease_lost"


def test_a_run_that_is_to_stop_is_not_tried_again(house: House) -> None:
    """Cancel goes before every policy; a run that waits for its next try is cancelled at once."""
    submit(house, {"retry_policy": POLICY})
    grant = starts(house)
    house.services.runs.cancel(house.admin, grant.run)
    assert fails(house, grant).state is S.FAILED

    submit(house, {"retry_policy": POLICY})
    grant = starts(house)
    fails(house, grant)
    cancelled = house.services.runs.cancel(house.admin, grant.run)
    assert (cancelled.status, cancelled.not_before is None) == (S.CANCELLED, False)
    house.clock.move(100)
    assert house.lease() == []


def test_what_was_asked_to_pause_is_held_when_it_comes_back(house: House) -> None:
    """Its agent may give it back before it could pause it: it is nobody's until it is let go."""
    submit(house)
    (grant,) = house.lease("x")
    house.services.runs.pause(house.admin, grant.run)
    assert say(house, grant, hand_back=True).state is S.RETRYING
    found = get(house, grant.run)
    assert (found.held, found.pause_requested) == (True, False)
    assert house.lease("y") == []
    house.services.runs.resume(house.admin, grant.run)
    (second,) = house.lease("y")
    assert second.attempt == 2


def test_what_is_handed_back_is_given_to_another_and_not_counted(house: House) -> None:
    """At once, with the next attempt's number; the one who handed it back has nothing to say."""
    submit(house)
    grant = starts(house, "x")
    answer = say(house, grant, hand_back=True)
    assert (answer.state, answer.error) == (S.RETRYING, None)
    assert say(house, grant, hand_back=True) == answer
    assert get(house, grant.run).retry_count == get(house, grant.run).lost_count == 0

    (second,) = house.lease("y")
    assert (second.run, second.attempt) == (grant.run, 2)
    assert say(house, grant, hand_back=True).error == "lease_lost"
    house.services.runs.cancel(house.admin, grant.run)
    assert say(house, second, hand_back=True).state is S.CANCELLED
    assert say(house, second, hand_back=True).state is S.CANCELLED
    claimed, _ = house.claimed()
    assert say(house, claimed, hand_back=True).error == "invalid_request"


def test_retrying_an_ended_run_makes_a_new_one(house: House) -> None:
    """Same parameters, model version, configuration and policy; the old one stays as it is."""
    runs = house.services.runs
    run = submit(house, {"retry_policy": {"max_retries": 0}}, parameters={"a": 1}, tags=["t"])
    with pytest.raises(Conflict):
        runs.retry(house.admin, run.id)
    fails(house, starts(house))
    before = get(house, run.id)

    fresh = runs.retry(house.admin, run.number)

    assert (fresh.status, fresh.retry_of, fresh.attempt) == (S.QUEUED, run.id, 0)
    for name in ("parameters", "model_version", "configuration", "retry_policy", "tags", "name"):
        assert getattr(fresh, name) == getattr(run, name)
    assert get(house, run.id) == before
    (grant,) = house.lease()
    assert (grant.run, grant.parameters) == (fresh.id, {"a": 1})
    claimed, _ = house.claimed()
    say(house, claimed, S.FAILED)
    with pytest.raises(InvalidRequest):
        runs.retry(house.admin, claimed.run)
    with pytest.raises(NotAllowed):
        runs.retry(house.user("eve", "viewer"), run.id)
    with pytest.raises(NotFound):
        runs.retry(house.admin, 10**6)


# -- lost contact ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "state", "lost"),
    [("wait", S.RUNNING, 0), ("retry", S.RETRYING, 1), ("fail", S.FAILED, 0)],
)
def test_what_follows_a_long_silence_the_run_says(
    house: House, policy: str, state: RunState, lost: int
) -> None:
    """Unreachable after the lease, given up after the grace time, by the run's own word alone."""
    run = submit(house, {"on_lost_contact": policy})
    grant = starts(house)
    assert grant.stop_when_lost is (policy != "wait")
    look(house, 61)
    assert get(house, run.id).unreachable
    look(house, 299)
    assert get(house, run.id).status is S.RUNNING
    look(house, 1)

    found = get(house, run.id)
    assert (found.status, found.lost_count, found.unreachable) == (state, lost, policy == "wait")
    late = say(house, grant, S.COMPLETED, exit_code=0)
    if policy == "wait":
        assert late.state is S.COMPLETED
        return
    assert late.error == "lease_lost"
    renewals = Renewals([HeldLease(grant.run, 1)])
    assert house.services.leases.renew(house.bearer(grant), renewals)[0].error == "lease_lost"
    assert get(house, run.id) == found
    assert found.error_code == "lost_contact"
    assert found.error_message == "x was not heard of for 6 min"


def test_lost_machines_are_counted_apart_and_not_for_ever(house: House) -> None:
    """Three lost machines are outlived, the fourth is the end."""
    run = submit(house, {"on_lost_contact": "retry"})
    for n in range(1, 5):
        starts(house)
        look(house, 361)
        found = get(house, run.id)
        assert found.retry_count == 0
        assert (found.status, found.lost_count) == ((S.RETRYING, n) if n < 4 else (S.FAILED, 3))
        house.clock.move(1200)


def test_a_run_that_was_to_stop_and_is_lost_is_cancelled(house: House) -> None:
    """Nobody is left who could report it."""
    run = submit(house, {"on_lost_contact": "retry"})
    starts(house)
    house.services.runs.cancel(house.admin, run.id)
    look(house, 361)
    assert get(house, run.id).status is S.CANCELLED


def test_cancel_by_force_ends_what_is_unreachable(house: House) -> None:
    """Without contact it ends at once and its holder is fenced; with contact it is a request."""
    run = submit(house)
    grant = starts(house)
    asked = house.services.runs.cancel(house.admin, run.id, True)
    assert (asked.status, asked.cancel_requested) == (S.RUNNING, True)
    look(house, 61)
    assert house.services.runs.cancel(house.admin, run.id).status is S.RUNNING
    assert house.services.runs.cancel(house.admin, run.id, True).status is S.CANCELLED
    assert say(house, grant, S.COMPLETED).error == "lease_lost"
    assert say(house, grant, progress=3.0).error == "lease_lost"
    (tried,) = house.services.runs.attempts(house.admin, run.id)
    assert (tried.agent, tried.state) == ("x", "cancelled")


def test_a_server_that_was_stopped_gives_up_nobody_it_could_not_hear(house: House) -> None:
    """After an hour of sleep everybody has the time of one lease to come back."""
    run = submit(house, {"on_lost_contact": "retry"})
    grant = starts(house)
    look(house, 1)
    house.clock.move(3600)
    look(house)
    assert get(house, run.id).status is S.RUNNING
    house.clock.move(30)
    fresh = house.services.access.authenticate(house.services.access.exchange(grant.token))
    renewals = Renewals([HeldLease(run.id, 1)])
    assert house.services.leases.renew(fresh, renewals)[0].error is None
    look(house, 45)
    found = get(house, run.id)
    assert (found.status, found.unreachable) == (S.RUNNING, False)


# -- waiting --------------------------------------------------------------------------------------


def test_a_wait_can_have_a_limit(house: House) -> None:
    """The run times out in the queue; one that a person holds, or that is carried out, does not."""
    limited = {"queue_timeout_minutes": 2}
    taken, waits, held, free = (submit(house, limited) for _ in range(4))
    starts(house)
    free = submit(house)
    house.services.runs.pause(house.admin, held.id)
    look(house, 121)

    found = get(house, waits.id)
    assert (found.status, found.error_code) == (S.TIMEOUT, "queue_timeout")
    assert found.error_message == "it waited longer than 2 min in the queue"
    assert get(house, taken.id).status is S.RUNNING
    assert [get(house, run.id).status for run in (held, free)] == [S.QUEUED] * 2
    assert house.types()[-1] == live.TIMED_OUT or live.TIMED_OUT in house.types()


def test_a_retry_waits_anew(house: House) -> None:
    """The limit counts from when it may begin."""
    run = submit(house, {"queue_timeout_minutes": 2, "retry_policy": POLICY})
    look(house, 100)
    fails(house, starts(house))
    look(house, 10 + 119)
    assert get(house, run.id).status is S.RETRYING
    look(house, 2)
    assert get(house, run.id).status is S.TIMEOUT


@pytest.mark.parametrize(
    ("asks", "follows"), [("retry", S.RETRYING), ("fail", S.FAILED), ("wait", S.RETRYING)]
)
def test_lost_contact_that_the_agent_reports_ends_as_the_run_asks(
    house: House, asks: str, follows: RunState
) -> None:
    """As if the server had given it up: `fail` fails also where a policy tries lost machines."""
    policy = {"max_retries": 1, "retry_on_failure_types": ["lost"]}
    run = submit(house, {"on_lost_contact": asks, "retry_policy": policy})
    (grant,) = house.lease()
    error = Failure("lost_contact", "x stopped it")
    assert say(house, grant, S.FAILED, error=error).state is follows
    assert get(house, run.id).lost_count == (follows is S.RETRYING)


def test_who_asked_is_named_and_a_list_says_why_in_short(house: House) -> None:
    """Who cancelled, paused or let go on; and no error of an attempt that was not the end."""
    runs, op = house.services.runs, house.user("op", "operator")
    submit(house, {"retry_policy": {"max_retries": 1}})
    (grant,) = house.lease()
    runs.pause(op, grant.run)
    assert runs.reason(get(house, grant.run)) == "preparing on agent-1: op asked it to pause"
    runs.resume(op, grant.run)
    say(house, grant, RunState.FAILED, exit_code=3, error=Failure("program_failed", "exit 3"))
    waits = get(house, grant.run)
    assert runs.reasons([waits]) == ["retrying in 30 s: exit 3 (try 2 of 2)"]
    house.clock.move(31)
    assert runs.reasons([get(house, grant.run)]) == ["waiting for its turn"]
    runs.cancel(op, grant.run)
    ended = get(house, grant.run)
    assert runs.reason(ended) == "cancelled by op"
    assert (ended.error_code, ended.error_message, ended.exit_code) == (None, None, None)
    assert "exit 3" in str(runs.attempts(op, grant.run)), (
        "what the attempt ended by stays with the attempt"
    )


def asks(house: House, name: str, free: float, most: int = 9) -> list[str]:
    """Return the names of the runs that an agent of 4 cores with *free* ones is given."""
    room = Resources(cpu_cores=free)
    total = Resources(cpu_cores=4.0)
    has = [HeldLease(run.id, run.attempt) for run in house.services._store.active_on(name)]
    request = LeaseRequest(name, free=room, max=most, holding=has, resources=total, slots=8)
    grants = house.services.leases.acquire(house.agent(name), request)
    return [grant.name for grant in grants]


def test_a_big_run_is_not_passed_over_for_ever(house: House) -> None:
    """After ten minutes one agent, and only one, is kept free for it; what is before it is not."""
    big = {"resource_requirements": {"cpu_cores": 4.0}}
    submit(house, name="big", **big)
    for n in range(9):
        submit(house, name=f"small {n}")
    assert asks(house, "x", 2.0) == ["small 0", "small 1"], "it has just begun to wait"
    house.clock.move(601)
    assert asks(house, "x", 3.0) == []
    assert asks(house, "y", 1.0) == ["small 2"], "one agent is enough"
    assert asks(house, "tiny", 1.0) == ["small 3"]
    submit(house, {"priority": 3}, name="urgent")
    assert asks(house, "x", 3.0) == ["urgent"], "it comes before the big one"
    house.clock.move(61)  # x has not asked for a minute
    assert asks(house, "y", 3.0) == []
    assert asks(house, "x", 4.0) == ["big"]
    house.clock.move(1)  # the head of the queue is read once a second
    assert asks(house, "y", 1.0) == ["small 4"]


def test_no_agent_is_kept_free_for_a_run_that_a_cap_or_a_person_holds(house: House) -> None:
    """It would wait for nothing."""
    study = house.services.studies.create(house.admin, NewStudy("s", max_concurrent_runs=1))["id"]
    needs = {"resource_requirements": {"cpu_cores": 4.0}}
    submit(house, name="first", study_id=study)
    held = submit(house, name="held", **needs)
    assert asks(house, "x", 1.0) == ["first"]
    submit(house, name="second", study_id=study, **needs)
    house.services.runs.pause(house.admin, held.id)
    submit(house, name="small")
    house.clock.move(601)
    assert asks(house, "y", 3.0) == ["small"]


# -- pause ----------------------------------------------------------------------------------------


def test_a_run_that_waits_is_held_and_released(house: House) -> None:
    """Held it is handed to nobody; twice is once; the reason names who holds it."""
    runs, ada = house.services.runs, house.user("ada")
    run = submit(house)
    with pytest.raises(NotAllowed):
        runs.pause(ada, run.id)
    op = house.user("op", "operator")
    assert runs.pause(op, run.id).held
    assert runs.pause(op, run.number).held
    assert runs.reason(get(house, run.id)) == "held by op"
    assert runs.reasons([get(house, run.id)]) == ["held"]
    assert house.lease() == []
    assert not runs.resume(op, run.id).held
    assert not runs.resume(op, run.id).held
    assert [kind for kind in house.types() if kind in (live.HELD, live.RELEASED)] == [
        live.HELD,
        live.RELEASED,
    ]
    assert len(house.lease()) == 1


def test_a_run_that_is_carried_out_is_asked_to_pause(house: House) -> None:
    """A command until the holder reports that it did; the same to go on."""
    runs = house.services.runs
    run = submit(house)
    grant = starts(house)
    renewals = Renewals([HeldLease(grant.run, 1)])

    def asked() -> list[str]:
        return house.services.leases.renew(house.bearer(grant), renewals)[0].commands

    assert runs.pause(house.admin, run.id).status is S.RUNNING
    assert asked() == asked() == ["pause"]
    assert say(house, grant, S.PAUSED).commands == []
    assert runs.resume(house.admin, run.id).status is S.PAUSED
    assert asked() == ["resume"]
    assert say(house, grant, S.RUNNING).commands == []
    runs.pause(house.admin, run.id)
    say(house, grant, S.PAUSED)
    runs.cancel(house.admin, run.id)
    assert asked() == ["cancel"]
    with pytest.raises(Conflict):
        runs.pause(house.admin, run.id)
    assert say(house, grant, S.CANCELLED).state is S.CANCELLED
    for change in (runs.pause, runs.resume):
        with pytest.raises(Conflict):
            change(house.admin, run.id)


def test_silence_is_told_once_until_there_is_output_again(house: House) -> None:
    """An event each time it falls silent, a field while it is."""
    submit(house, {"silence_minutes": 10, "stop_when_silent": True})
    grant = starts(house)
    assert (grant.limits.silence_s, grant.limits.stop_when_silent) == (600.0, True)
    for silent in (True, True, False, True):
        say(house, grant, silent=silent)
    assert get(house, grant.run).silent
    assert house.types().count(live.SILENT) == 2
    reason = house.services.runs.reason(get(house, grant.run))
    assert reason == "running on x: no output for more than 10 min"
    with pytest.raises(InvalidRequest, match="silence_minutes"):
        submit(house, {"stop_when_silent": True})


# -- deletion -------------------------------------------------------------------------------------


def test_only_what_has_ended_and_is_not_pinned_can_be_deleted(house: House) -> None:
    """Rows, events and files go; the event that it was deleted stays, with who did it."""
    runs = house.services.runs
    run = submit(house)
    for state in ("queued", "preparing"):
        with pytest.raises(NotTerminal, match=state):
            runs.delete(house.admin, run.id)
        grants = house.lease()
    grant = grants[0]
    house.put(house.bearer(grant), grant, {"logs/main.log": b"x"})
    fails(house, grant)
    assert runs.pin(house.admin, run.id).pinned
    assert runs.pin(house.admin, run.id).pinned
    with pytest.raises(Pinned):
        runs.delete(house.admin, run.id)
    assert not runs.pin(house.admin, run.id, False).pinned
    with pytest.raises(NotAllowed):
        runs.delete(house.user("eve", "viewer"), run.id)
    folder = house.services.data / "simulations" / run.id
    assert folder.exists()

    assert runs.delete(house.admin, run.id).id == run.id

    assert not folder.exists()
    assert list((house.services.data / "deleting").iterdir()) == []
    for gone in (runs.get, runs.delete, runs.cancel):
        with pytest.raises(NotFound):
            gone(house.admin, run.id)
    left = [event for event in runs.events(house.admin) if event.run == run.id]
    assert [event.type for event in left] == [live.DELETED]
    assert runs.list(house.admin, RunFilter()).total == 0
    assert say(house, grant, S.FAILED).error == "not_found"


def test_two_who_delete_at_once_delete_once(house: House) -> None:
    """One of them is told that there is nothing any more, or that it is done."""
    run = submit(house)
    house.services.runs.cancel(house.admin, run.id)
    errors: list[PhysicsRunnerError] = []

    def delete() -> None:
        try:
            house.services.runs.delete(house.admin, run.id)
        except PhysicsRunnerError as error:
            errors.append(error)

    threads = [threading.Thread(target=delete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, NotFound) for error in errors)
    assert len(errors) <= 3
    deleted = [event for event in house.services.runs.events(house.admin) if event.run == run.id]
    assert len(deleted) == 1


def test_a_deletion_that_was_interrupted_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the rows went: the run is whole. Killed after: its files are swept."""
    house = open_house(tmp_path)
    whole, gone = submit(house), submit(house)
    for run in (whole, gone):
        house.services.runs.cancel(house.admin, run.id)
    removal = house.services.removal

    def killed(*_: object, **__: object) -> list[str]:
        raise ServerUnavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(removal._store, "delete_runs", killed)
        with pytest.raises(ServerUnavailable):
            removal.remove([whole.id])
    with monkeypatch.context() as patch:
        patch.setattr(type(removal), "_remove_folder", lambda _self, _run: None)
        assert removal.remove([gone.id, gone.id, "nobody"]) == [gone.id]
    assert len(list((house.services.data / "deleting").iterdir())) == 2
    house.services.close()

    again = open_house(tmp_path)
    try:
        folders = {path.name for path in (again.services.data / "simulations").iterdir()}
        assert folders == {whole.id}
        assert get(again, whole.id).status is S.CANCELLED
        assert list((again.services.data / "deleting").iterdir()) == []
    finally:
        again.services.close()


# -- secrets --------------------------------------------------------------------------------------


def test_secrets_reach_the_program_and_nobody_else(house: House) -> None:
    """In the grant alone; in the record, the events and the files stands a mask."""
    configuration = {
        "environment_variables": {"N": 4, "KEY": {"secret": "s3cret"}, "PASS": "word!"},
        "secret_variables": ["PASS"],
    }
    run = submit(house, configuration)
    made = house.services.runs.create_many(
        house.admin, [NewRun(model_id=house.model(), configuration=configuration)]
    )
    for grant in house.lease("x", max=2):
        assert grant.environment == {"N": "4", "KEY": "s3cret", "PASS": "word!"}
        assert grant.secrets == ["KEY", "PASS"]
        fails(house, grant)
    again = house.services.runs.retry(house.admin, made[0].id)
    (grant,) = house.lease("x")
    assert (grant.run, grant.environment["KEY"]) == (again.id, "s3cret")
    shown = get(house, run.id)
    assert shown.configuration["environment_variables"] == {"N": 4, "KEY": "***", "PASS": "***"}
    everything = repr([shown, house.told, house.services.runs.events(house.admin)])
    for path in (house.services.data / "simulations").rglob("*.json"):
        everything += path.read_text()
    assert "s3cret" not in everything
    assert "word!" not in everything


@pytest.mark.parametrize(
    "configuration",
    [
        {"secret_variables": ["A"]},
        {"secret_variables": "A", "environment_variables": {"A": "b"}},
        {"secret_variables": ["B"], "environment_variables": {"A": "b"}},
        {"environment_variables": {"A": {"hidden": "b"}}},
        {"environment_variables": {"A": {"secret": ["b"]}}},
        {"environment_variables": {"A": {"secret": "b", "more": 1}}},
        {"environment_variables": {"A=B": {"secret": "b"}}},
    ],
)
def test_secrets_that_are_none(house: House, configuration: dict[str, Any]) -> None:
    """A secret that could not be given is refused before anything is kept."""
    with pytest.raises(InvalidRequest):
        submit(house, configuration)


# -- what the queue says --------------------------------------------------------------------------


def test_how_the_queue_stands(house: House) -> None:
    """Counts, the first ones that wait with their reasons, and what the agents have free."""
    submit(house, resource_requirements={"gpu_count": 2}, name="needs GPUs")
    submit(house, name="taken")
    request = LeaseRequest(
        "x",
        free=Resources(cpu_cores=4),
        resources=Resources(cpu_cores=4, memory_gb=16),
        slots=4,
        host={"hostname": "node7"},
    )
    (grant,) = house.services.leases.acquire(house.agent("x"), request)
    house.clock.move(90)
    full = replace(request, free=Resources(cpu_cores=3), holding=[HeldLease(grant.run, 1)])
    assert house.services.leases.acquire(house.agent("x"), full) == []  # it is still there

    status = house.services.queue.status(house.admin)

    assert status.counts == {**{state.value: 0 for state in RunState}, "queued": 1, "preparing": 1}
    assert (status.waiting, status.oldest_waiting_s) == (1, 90)
    (waiting,) = status.next
    assert (waiting.name, waiting.waits_s) == ("needs GPUs", 90)
    assert waiting.reason == "waiting: no agent offers 2 GPUs; the largest offers 0"
    (agent,) = status.agents
    assert (agent.name, agent.active, agent.slots, agent.state) == ("x", 1, 4, "active")
    assert (agent.resources["memory_gb"], agent.host) == (16, {"hostname": "node7"})
    assert grant.resources == Resources(cpu_cores=1)
    bare = house.services.queue.status(house.user("eve", "viewer"))
    assert (bare.waiting, bare.agents) == (1, [])
    with pytest.raises(NotAllowed):
        house.services.queue.status(house.agent("x"))


def test_the_order_is_priority_then_first_come(house: House) -> None:
    """And what is asked later with a higher priority goes first; how many go before is said."""
    low, normal, high, second = (
        submit(house, {"priority": word}) for word in ("low", "normal", "critical", "normal")
    )
    request = LeaseRequest("x", free=Resources(cpu_cores=0), resources=Resources(cpu_cores=8))
    assert house.services.leases.acquire(house.agent("x"), request) == []
    assert house.services.runs.reason(get(house, low.id)) == "waiting: 3 runs are before it"
    order = [grant.run for grant in house.lease("x", max=4)]
    assert order == [high.id, normal.id, second.id, low.id]


def test_many_agents_at_once_share_the_queue(house: House) -> None:
    """Each run is handed out once, and each ends once."""
    model = house.model()
    made = house.services.runs.create_many(house.admin, [NewRun(model_id=model)] * 60)
    taken: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        agent = house.agent(name)
        request = LeaseRequest(name, free=Resources(cpu_cores=7), max=7)
        while grants := house.services.leases.acquire(agent, request):
            reports = [Report(grant.run, grant.attempt, S.RUNNING) for grant in grants]
            reports += [Report(grant.run, grant.attempt, S.COMPLETED) for grant in grants]
            answers = house.services.leases.report(agent, reports)
            assert [answer.error for answer in answers] == [None] * len(reports)
            with lock:
                taken.extend(grant.run for grant in grants)

    threads = [threading.Thread(target=work, args=(f"agent-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == sorted(run.id for run in made)
    counts = house.services.queue.status(house.admin).counts
    assert counts["completed"] == 60
    ended = [event.run for event in house.told if event.type == live.COMPLETED]
    assert sorted(run for run in ended if run) == sorted(taken)
    assert all(get(house, run.id).status in TERMINAL for run in made[:3])
