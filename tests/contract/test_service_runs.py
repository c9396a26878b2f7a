"""What people and agents ask the server's core: models, runs, leases, reports, tokens."""

from __future__ import annotations

import json
import stat
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import InputFile, NewRun, RunFilter
from physicsrunner.core.state import RunState
from physicsrunner.errors import (
    DigestMismatch,
    InvalidRequest,
    LeaseLost,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    TokenExpired,
    UnsafeArchive,
)
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
from tests.contract.service_house import START, House, make_zip, open_house, sha, whole

RUNNING, COMPLETED, FAILED = RunState.RUNNING, RunState.COMPLETED, RunState.FAILED


@pytest.fixture(params=["sqlite", "memory"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    opened = open_house(tmp_path, url="memory:" if request.param == "memory" else None)
    yield opened
    opened.services.close()


def say(
    house: House, grant: LeaseGrant, state: RunState | None = None, **said: Any
) -> ReportAnswer:
    report = replace(Report(grant.run, grant.attempt, state), **said)
    return house.services.leases.report(house.bearer(grant), [report])[0]


def queued(house: House, **fields: Any) -> str:
    request = replace(NewRun(model_id=house.model()), **fields)
    return house.services.runs.create(house.admin, request).id


# -- secrets and tokens ---------------------------------------------------------------------------


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    """Key and admin token are mode 0600 and stay the same over a restart."""
    first = open_house(tmp_path)
    data = first.services.data
    kept = {name: (data / name).read_text() for name in ("secret.key", "admin.token")}
    first.services.close()
    second = open_house(tmp_path)
    second.services.close()

    for name, text in kept.items():
        assert (data / name).read_text() == text
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600
    assert second.admin.role == "admin"


def test_tokens_of_others_and_expired_ones_are_refused(house: House) -> None:
    """No token, a foreign one, an expired one: each has its own error."""
    access = house.services.access
    grant, _ = house.claimed()
    for bad in (None, "", "x.y.z", grant.token[:-2] + "xx"):
        with pytest.raises(NotAuthenticated):
            access.authenticate(bad)
    house.clock.move(3601)
    with pytest.raises(TokenExpired):
        access.authenticate(grant.token)

    fresh = access.authenticate(access.exchange(grant.token))
    assert (fresh.kind, fresh.run, fresh.attempt) == ("attempt", grant.run, 1)
    house.clock.move(31 * 24 * 3600)
    with pytest.raises(TokenExpired):
        access.exchange(grant.token)
    with pytest.raises(NotAllowed):
        access.exchange(access.user_token("ada", "user"))


def test_roles(house: House) -> None:
    """A viewer changes nothing, a user only what is theirs, an operator what is everybody's."""
    run, _ = house.services.runs.claim(house.user("ada"), NewRun(name="r"), "host")
    runs = house.services.runs
    for identity in (house.user("eve", "viewer"), house.user("bob")):
        with pytest.raises(NotAllowed):
            runs.cancel(identity, run.id)
    with pytest.raises(NotAllowed):
        runs.create(house.user("eve", "viewer"), NewRun(model_id="x"))
    with pytest.raises(NotAllowed):
        house.services.leases.acquire(house.user("ada"), LeaseRequest("a"))
    with pytest.raises(InvalidRequest):
        house.user("ada", "emperor")
    assert runs.get(house.user("eve", "viewer"), run.id).name == "r"
    assert runs.cancel(house.user("ada"), run.id).cancel_requested
    assert runs.cancel(house.user("op", "operator"), run.id).cancel_requested


# -- models and inputs ----------------------------------------------------------------------------


def test_a_models_version_is_its_content(house: House, tmp_path: Path) -> None:
    """Packed in another order, or again, it is the same version; other content is another."""
    models = house.services.models
    one = make_zip(tmp_path / "1.zip", {"main.py": "x", "lib/a.py": "a"})
    two = make_zip(tmp_path / "2.zip", {"lib/a.py": "a", "main.py": "x"})
    other = make_zip(tmp_path / "3.zip", {"main.py": "y"})

    first = models.add(house.admin, one, "m")
    again = models.add(house.admin, two, "m")
    house.clock.move(1)
    newer = models.add(house.admin, other, "m")

    assert again == first
    assert (newer.id, newer.version != first.version) == (first.id, True)
    assert models.get(house.admin, first.id) == newer
    assert models.list(house.admin) == [newer]
    bundle = models.bundle(house.admin, first.id, first.version)
    assert sha(bundle.read_bytes()) == first.sha256
    assert bundle.stat().st_size == first.size
    with pytest.raises(NotFound):
        models.bundle(house.admin, first.id, "0" * 64)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"other.py": ""}, InvalidRequest),
        ({"sub/main.py": ""}, InvalidRequest),
        ({"main.py": "", "../evil": ""}, UnsafeArchive),
        ({"main.py": "", "/abs": ""}, UnsafeArchive),
        ({"main.py": "", "a\\b": ""}, UnsafeArchive),
    ],
)
def test_bundles_that_are_refused(
    house: House, tmp_path: Path, files: dict[str, str], error: type[PhysicsRunnerError]
) -> None:
    """No main.py, or a path that leads out: nothing is kept."""
    with pytest.raises(error):
        house.services.models.add(house.admin, make_zip(tmp_path / "b.zip", files), "m")
    assert house.services.models.list(house.admin) == []


def test_links_bombs_and_broken_zips_are_refused(house: House, tmp_path: Path) -> None:
    """A link, a file that grows a thousandfold, and what is no zip at all."""
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    linked, bomb, broken = (tmp_path / name for name in ("link.zip", "bomb.zip", "broken.zip"))
    with zipfile.ZipFile(linked, "w") as archive:
        archive.writestr("main.py", "")
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("main.py", b"\0" * 5_000_000)
    broken.write_bytes(b"PK nonsense")

    for path, error in ((linked, UnsafeArchive), (bomb, UnsafeArchive), (broken, InvalidRequest)):
        with pytest.raises(error):
            house.services.models.add(house.admin, path, "m")


def test_inputs_are_known_by_their_content(house: House, tmp_path: Path) -> None:
    """An input is verified, kept once, and given to the runs that use it alone."""
    mesh = tmp_path / "mesh"
    mesh.write_bytes(b"mesh")
    runs = house.services.runs
    assert runs.store_input(house.admin, sha(b"mesh").upper(), mesh) == 4
    assert runs.store_input(house.admin, sha(b"mesh"), mesh) == 4
    with pytest.raises(DigestMismatch):
        runs.store_input(house.admin, sha(b"other"), mesh)
    with pytest.raises(InvalidRequest):
        runs.input_path(house.admin, "../secret.key")

    queued(house, inputs=[InputFile("raw/mesh.msh", sha(b"mesh"), extract=True)])
    (grant,) = house.lease()
    assert [(item.path, item.size, item.extract) for item in grant.inputs] == [
        ("raw/mesh.msh", 4, True)
    ]
    assert grant.inputs[0].url == f"/api/v1/uploads/{sha(b'mesh')}"
    assert runs.input_path(house.bearer(grant), sha(b"mesh")).read_bytes() == b"mesh"
    _, bearer = house.claimed()
    with pytest.raises(NotAllowed):
        runs.input_path(bearer, sha(b"mesh"))
    for bad in (InputFile("../x", sha(b"mesh")), InputFile("x", "zz"), InputFile("x", "0" * 64)):
        with pytest.raises(PhysicsRunnerError):
            queued(house, inputs=[bad])


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_is_created_once(house: House) -> None:
    """The id is the idempotency key; another person cannot take it."""
    run = str(uuid.uuid4())
    request = NewRun(id=run, model_id=house.model(), parameters={"inputs": {"re": 100}})
    runs = house.services.runs

    first = runs.create(house.admin, request)
    again = runs.create(house.admin, replace(request, name="other", model_id=None))

    assert again == first
    assert (first.id, first.number, first.status, first.name) == (run, 1, RunState.QUEUED, "demo")
    assert house.types() == [live.REQUESTED, live.QUEUED]
    assert runs.get(house.admin, "1") == runs.get(house.admin, 1) == runs.get(house.admin, run)
    inputs = house.services.data / "simulations" / run / "inputs"
    assert json.loads((inputs / "parameters.json").read_text()) == {"inputs": {"re": 100}}
    with pytest.raises(NotAllowed):
        runs.create(house.user("bob"), request)
    with pytest.raises(NotAllowed):
        runs.claim(house.user("bob"), request, "host")
    with pytest.raises(NotFound):
        runs.get(house.admin, str(uuid.uuid4()))


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_was_asked_lies_beside_the_first_file(house: House, size: int) -> None:
    """A lease alone makes no folder: of trivial runs nothing ever comes."""
    asked = {"name": "\u2603", "long": "x" * size}
    request = NewRun(model_id=house.model(), parameters=asked)
    (run,) = house.services.runs.create_many(house.admin, [request])
    (grant,) = house.lease("x")
    folder = house.services.data / "simulations" / run.id
    assert not folder.exists()

    house.put(house.bearer(grant), grant, {"logs/main.log": b"line"})

    assert json.loads((folder / "inputs/parameters.json").read_text()) == asked
    assert json.loads((folder / "inputs/configuration.json").read_text()) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "../../etc"},
        {"id": "1"},
        {"model_id": None},
        {"configuration": {"priority": 9}},
        {"configuration": {"timeout_minutes": -1}},
        {"configuration": {"timeout_minutes": "soon"}},
        {"configuration": {"on_lost_contact": "panic"}},
        {"resource_requirements": {"cpu_cores": -1}},
        {"resource_requirements": {"cpu_cores": "many"}},
        {"name": "\ud800"},
        {"tags": ["good", "\udfff"]},
    ],
)
def test_requests_that_cannot_be_carried_out_are_refused(
    house: House, fields: dict[str, object]
) -> None:
    """A bad field is named in the error; no run is left behind."""
    with pytest.raises(InvalidRequest):
        queued(house, **fields)
    assert house.services.runs.list(house.admin, RunFilter()).total == 0


def test_lists_show_each_bearer_what_is_theirs(house: House) -> None:
    """People see all runs, an agent those it holds, an attempt its own."""
    queued(house, name="waiting", tags=["t"])
    (grant,) = house.lease("x")
    claimed, bearer = house.claimed("claimed")
    runs = house.services.runs

    assert runs.list(house.user("eve", "viewer"), RunFilter()).total == 2
    assert [run.id for run in runs.list(house.agent("x"), RunFilter()).runs] == [grant.run]
    assert [run.id for run in runs.list(bearer, RunFilter()).runs] == [claimed.run]
    assert runs.list(house.admin, RunFilter(tag="t")).total == 1
    for bad in (RunFilter(sort="secret"), RunFilter(limit=0), RunFilter(offset=-1)):
        with pytest.raises(InvalidRequest):
            runs.list(house.admin, bad)
    with pytest.raises(NotFound):
        runs.get(bearer, grant.run)


def test_a_queued_run_is_cancelled_at_once(house: House) -> None:
    """Nobody carries it out, so nobody has to be asked; twice is the same."""
    run = queued(house)

    for _ in range(2):
        record = house.services.runs.cancel(house.admin, run)
        assert (record.status, record.cancel_requested) == (RunState.CANCELLED, True)
    assert house.lease() == []
    assert house.types()[-1] == live.CANCELLED


def test_a_running_run_is_asked_to_stop(house: House) -> None:
    """Cancelling is a request until the runner reports it: renewals and reports carry it."""
    queued(house)
    (grant,) = house.lease()
    say(house, grant, RUNNING)

    record = house.services.runs.cancel(house.admin, grant.run)
    house.services.runs.cancel(house.admin, grant.run)

    assert (record.status, record.cancel_requested) == (RUNNING, True)
    assert house.types().count(live.CANCEL_REQUESTED) == 1
    renewals = Renewals([HeldLease(grant.run, 1)])
    assert house.services.leases.renew(house.bearer(grant), renewals)[0].commands == ["cancel"]
    assert say(house, grant, progress=5.0).commands == ["cancel"]
    answer = say(house, grant, RunState.CANCELLED)
    assert (answer.state, answer.commands) == (RunState.CANCELLED, [])
    ended = house.services.runs.cancel(house.admin, grant.run)
    assert ended.status is RunState.CANCELLED


# -- leases ---------------------------------------------------------------------------------------


def test_a_grant_says_all_that_a_runner_needs(house: House) -> None:
    """Bundle, parameters, environment, limits, deadline and a token for this attempt alone."""
    house.services.accounts.add_project(house.admin, "p")
    queued(
        house,
        name="r",
        project_id="p",
        parameters={"inputs": {"a": 1}},
        configuration={"timeout_minutes": 2, "environment_variables": {"N": 4}},
    )
    (grant,) = house.lease("x")

    assert (grant.attempt, grant.number, grant.name, grant.project) == (1, 1, "r", "p")
    assert grant.parameters == {"inputs": {"a": 1}}
    assert grant.environment == {"N": "4"}
    assert grant.limits.time_s == 120.0
    assert (grant.deadline, grant.renew_s) == (house.clock() + 60, 15)
    assert grant.bundle is not None
    assert (
        grant.bundle.url == f"/api/v1/models/{grant.model}/versions/{grant.bundle.version}/bundle"
    )
    bearer = house.bearer(grant)
    bundle = house.services.models.bundle(bearer, grant.bundle.model, grant.bundle.version)
    assert sha(bundle.read_bytes()) == grant.bundle.sha256
    again = house.services.leases.grant(bearer, grant.run, 1)
    assert replace(again, token=grant.token) == grant
    other = house.model({"main.py": "secret"}, "other")
    with pytest.raises(NotAllowed):
        house.services.models.bundle(bearer, other)
    with pytest.raises(NotAllowed):
        house.services.leases.grant(house.user("eve", "viewer"), grant.run, 1)


def test_only_what_fits_is_leased(house: House) -> None:
    """An agent with two free cores does not get a run that needs four."""
    queued(house, resource_requirements={"cpu_cores": 4}, configuration={"priority": "critical"})
    queued(house, resource_requirements={"cpu_cores": 2}, name="small")

    request = LeaseRequest("x", free=Resources(cpu_cores=2), max=5)
    assert [grant.name for grant in house.services.leases.acquire(house.agent("x"), request)] == [
        "small"
    ]
    with pytest.raises(NotAllowed):
        house.services.leases.acquire(house.agent("y"), request)
    with pytest.raises(InvalidRequest):
        house.services.leases.acquire(house.agent("x"), replace(request, max=0))


def test_a_lease_whose_answer_was_lost_is_given_again(house: House) -> None:
    """The agent that asks again gets the same attempt, until it has been heard of it."""
    queued(house)
    queued(house)
    (lost,) = house.lease("x")

    (again,) = house.lease("x")
    assert (again.run, again.attempt) == (lost.run, 1)
    held = LeaseRequest("x", holding=[HeldLease(lost.run, 1)])
    (second,) = house.services.leases.acquire(house.agent("x"), held)
    assert second.run != lost.run
    say(house, lost, RUNNING)
    assert [grant.run for grant in house.lease("x", max=5)] == [second.run]
    assert house.lease("y") == []


def test_renewing_extends_and_hands_out_fresh_tokens_at_half_life(house: House) -> None:
    """Each renewal moves the deadline; after half its life the token is replaced."""
    grant, bearer = house.claimed()
    renewals = Renewals([HeldLease(grant.run, 1), HeldLease(str(uuid.uuid4()), 1)])
    house.clock.move(15)

    first, wrong = house.services.leases.renew(bearer, renewals)
    assert (first.deadline, first.renew_s, first.token) == (house.clock() + 60, 15, None)
    assert wrong.error == "not_allowed"
    house.clock.move(1785)
    (late, _) = house.services.leases.renew(bearer, renewals)
    assert late.token is not None
    assert house.services.access.authenticate(late.token).issued == house.clock()
    house.clock.move(1700)
    queued(house)
    (leased,) = house.lease("x")
    house.clock.move(1800)
    (by_agent,) = house.services.leases.renew(
        house.agent("x"), Renewals([HeldLease(leased.run, 1)], agent="x")
    )
    assert by_agent.token is not None
    (soon,) = house.services.leases.renew(
        house.agent("x"), Renewals([HeldLease(leased.run, 1)], agent="x")
    )
    assert soon.token is None


def test_lost_contact_is_not_failure(house: House) -> None:
    """A deadline that passes marks the run; the same agent comes back as if nothing had been."""
    queued(house)
    (grant,) = house.lease("x")
    say(house, grant, RUNNING)
    leases = house.services.leases

    house.clock.move(60)
    assert leases.expire(house.clock()) == []
    house.clock.move(1)
    assert leases.expire(house.clock()) == [grant.run]
    assert leases.expire(house.clock()) == []
    run = house.services.runs.get(house.admin, grant.run)
    assert (run.unreachable, run.status) == (True, RUNNING)
    assert house.types()[-1] == live.UNREACHABLE
    assert house.lease("y") == []

    house.clock.move(100_000)
    fresh = house.services.access.authenticate(house.services.access.exchange(grant.token))
    (answer,) = leases.renew(fresh, Renewals([HeldLease(grant.run, 1)]))
    assert (answer.error, answer.deadline) == (None, house.clock() + 60)
    assert not house.services.runs.get(house.admin, grant.run).unreachable
    assert house.types()[-1] == live.REACHABLE


def test_after_a_restart_everybody_has_time_to_renew(tmp_path: Path) -> None:
    """A server that was away for an hour marks nobody before a lease's time has passed."""
    house = open_house(tmp_path)
    grant, _ = house.claimed()
    house.services.close()
    second = open_house(tmp_path, start=START + 3600)
    leases = second.services.leases
    try:
        second.clock.move(59)
        assert leases.expire(second.clock()) == []
        second.clock.move(1)
        assert leases.expire(second.clock()) == [grant.run]
    finally:
        second.services.close()


def test_wrong_agents_and_attempts_change_nothing(house: House) -> None:
    """The right number of the wrong agent, and the wrong number of the right one, are refused."""
    queued(house)
    (grant,) = house.lease("x")
    report = Report(grant.run, 1, RUNNING)
    leases = house.services.leases

    assert leases.report(house.agent("y"), [report])[0].error == "not_allowed"
    assert leases.report(house.agent("x"), [replace(report, attempt=2)])[0].error == "not_found"
    (answer,) = leases.renew(house.agent("y"), Renewals([HeldLease(grant.run, 1)], agent="x"))
    assert answer.error == "not_allowed"
    _, stranger = house.claimed()
    assert leases.report(stranger, [report])[0].error == "not_allowed"
    assert house.services.runs.get(house.admin, grant.run).status is RunState.PREPARING
    with pytest.raises(NotFound):
        leases.grant(house.agent("x"), grant.run, 2)


# -- reports --------------------------------------------------------------------------------------


def test_the_life_of_a_run(house: House) -> None:
    """From the queue to its end, with the events and their data."""
    queued(house, name="cavity")
    (grant,) = house.lease("x")
    house.clock.move(2)
    assert say(house, grant, RUNNING, stage="execute").state is RUNNING
    house.put(house.bearer(grant), grant, {"logs/main.log": b"done\n"})
    house.clock.move(10)
    results = [Result("u_max", 0.5, unit="m/s"), Result("ok", True, "boolean")]

    answer = say(house, grant, COMPLETED, exit_code=0, results=results)

    assert answer == ReportAnswer(grant.run, 1, COMPLETED)
    run = house.services.runs.get(house.admin, grant.run)
    assert (run.progress_percent, run.exit_code, run.published_attempt) == (100, 0, 1)
    assert (run.duration_seconds, run.deadline, run.result_count) == (10, None, 2)
    assert house.services.runs.results(house.admin, grant.run) == results
    logged = house.services.runs.events(house.admin, grant.run)
    assert [event.type for event in logged] == [
        live.REQUESTED,
        live.QUEUED,
        live.PREPARING,
        live.STARTED,
        live.SEALED,
        live.RESULTS,
        live.FREED,
        live.COMPLETED,
    ]
    assert sorted({event.id for event in logged if event.id}) == [event.id for event in logged]
    assert logged == [event for event in house.told if event.id is not None and event.run]
    done = logged[-1].data
    assert (done["simulation_id"], done["duration_seconds"]) == (grant.run, 10)
    assert done["result_summary"]["output_count"] == 2
    assert logged[3].data["started_by"] == "admin"
    assert logged[3].data["resource_allocation"]["cpu_cores"] == 1.0


def test_repeats_are_success_and_contradictions_are_not(house: House) -> None:
    """The end said again, or what was before it, changes nothing; another end is refused."""
    grant, _ = house.claimed()
    say(house, grant, RUNNING)
    assert say(house, grant, RUNNING).error is None
    say(house, grant, FAILED, exit_code=3, error=Failure("program_failed", "exit 3"))
    before = house.services.runs.get(house.admin, grant.run)

    assert say(house, grant, FAILED, exit_code=9).state is FAILED
    assert say(house, grant, RUNNING).state is FAILED
    assert say(house, grant, progress=50.0).state is FAILED
    assert say(house, grant, COMPLETED).error == "illegal_transition"

    assert house.services.runs.get(house.admin, grant.run) == before
    assert (before.exit_code, before.error_code) == (3, "program_failed")
    renewals = Renewals([HeldLease(grant.run, 1)])
    (answer,) = house.services.leases.renew(house.bearer(grant), renewals)
    assert (answer.error, answer.deadline) == (None, None)


def test_a_run_completes_only_when_all_is_sealed(house: House) -> None:
    """Files that are not sealed are named; failing needs none of it."""
    grant, bearer = house.claimed()
    say(house, grant, RUNNING)
    ops = [op for name in ("b", "a") for op in whole(grant, name, b"x")]
    house.sync(bearer, [ops[0], ops[2]], b"xx")

    refused = say(house, grant, COMPLETED)
    assert (refused.error, refused.unsealed) == ("not_sealed", ["a", "b"])
    assert house.services.runs.get(house.admin, grant.run).status is RUNNING
    house.sync(bearer, [ops[1], ops[3]])
    assert say(house, grant, COMPLETED).state is COMPLETED

    other, bearer = house.claimed()
    house.sync(bearer, whole(other, "half", b"xy")[:1], b"xy")
    assert say(house, other, FAILED).state is FAILED
    assert [file.path for file in house.services.files.list(house.admin, other.run)] == ["half"]


def test_states_follow_the_table(house: House) -> None:
    """Paused and resumed are two events; what the table has not is refused and changes nothing."""
    grant, _ = house.claimed()
    assert say(house, grant, COMPLETED).error == "illegal_transition"
    assert say(house, grant, RunState.QUEUED).error == "illegal_transition"
    for state in (RUNNING, RunState.PAUSED, RUNNING):
        assert say(house, grant, state).state is state
    assert house.types()[-3:] == [live.STARTED, live.PAUSED, live.RESUMED]


def test_one_bad_report_does_not_harm_the_others(house: House) -> None:
    """A batch is answered one by one, in its order."""
    for _ in range(2):
        queued(house)
    first, second = house.lease("x", max=2)
    reports = [
        Report(first.run, 1, RUNNING),
        Report("no-such-run", 1, RUNNING),
        Report(second.run, 1, RunState.PAUSED),
        Report(second.run, 1, progress=7.0),
        Report(second.run, 1, RUNNING),
    ]

    answers = house.services.leases.report(house.agent("x"), reports)

    assert [answer.error for answer in answers] == [
        None,
        "not_found",
        "illegal_transition",
        None,
        None,
    ]
    assert house.services.runs.get(house.admin, second.run).status is RUNNING


def test_progress_goes_to_viewers_at_once_and_to_the_database_each_second(house: House) -> None:
    """Every report is shown; `get` shows the latest; what waits is written by the clock loop."""
    grant, _ = house.claimed()
    say(house, grant, RUNNING)
    del house.told[:]
    for percent in (10.0, 11.0, 12.0):
        assert say(house, grant, progress=percent, label=f"step {percent}").error is None

    assert [event.data["progress_percent"] for event in house.told] == [10, 11, 12]
    assert {event.id for event in house.told} == {None}
    assert house.services.runs.get(house.admin, grant.run).progress_percent == 12
    stored = house.services._store.summary(grant.run)
    assert stored is not None
    assert stored.progress_percent < 12
    house.clock.move(1)
    house.services.leases.expire(house.clock())
    stored = house.services._store.summary(grant.run)
    assert stored is not None
    assert (stored.progress_percent, stored.label) == (12, "step 12.0")
    say(house, grant, progress=250.0)
    assert house.services.runs.get(house.admin, grant.run).progress_percent == 100


def test_times_that_a_runner_reports_are_kept_but_not_the_future(house: House) -> None:
    """A run that was carried out offline keeps its own times."""
    grant, _ = house.claimed()
    say(house, grant, RUNNING, time=house.clock() - 500)
    say(house, grant, FAILED, time=house.clock() + 10**9)

    run = house.services.runs.get(house.admin, grant.run)
    assert (run.started_at, run.completed_at) == (house.clock() - 500, house.clock())


# -- claims ---------------------------------------------------------------------------------------


def test_a_claim_again_gives_the_lease_again(house: House) -> None:
    """After a lost answer, or from another machine: the same attempt with a fresh token."""
    request = NewRun(id=str(uuid.uuid4()), name="mine")
    runs = house.services.runs
    run, first = runs.claim(house.admin, request, "host-1")
    assert (run.status, first.attempt, first.bundle) == (RunState.PREPARING, 1, None)
    house.clock.move(100)

    _, second = runs.claim(house.admin, request, "host-2")

    assert (second.run, second.attempt, second.deadline) == (run.id, 1, house.clock() + 60)
    assert say(house, second, RUNNING).state is RUNNING
    assert say(house, first, progress=3.0).error == "lease_lost"
    assert say(house, first, FAILED).error == "lease_lost"
    with pytest.raises(LeaseLost):
        house.services.leases.grant(house.bearer(first), run.id, 1)
    say(house, second, FAILED)
    ended, third = runs.claim(house.admin, request, "host-2")
    assert (ended.status, third.attempt) == (FAILED, 1)
    assert say(house, third, FAILED).state is FAILED
    house.put(house.bearer(third), third, {"late": b"x"})


def test_a_run_of_an_agent_cannot_be_claimed(house: House) -> None:
    """What an agent carries out is not taken from it by a claim; what waits can be."""
    waiting = queued(house)
    _, grant = house.services.runs.claim(house.admin, NewRun(id=waiting), "host")
    assert grant.attempt == 1
    taken = queued(house)
    house.lease("x")
    with pytest.raises(NotAllowed):
        house.services.runs.claim(house.admin, NewRun(id=taken), "host")
    with pytest.raises(InvalidRequest):
        house.services.runs.claim(house.admin, NewRun(name="r"), "")


def test_events_are_for_those_who_may_see_them(house: House) -> None:
    """A person reads the whole log, an attempt its run's part."""
    grant, bearer = house.claimed()
    other, _ = house.claimed()
    runs = house.services.runs

    assert len(runs.events(house.admin, None, 1, 2)) == 2
    assert {event.run for event in runs.events(bearer, grant.run)} == {grant.run}
    with pytest.raises(NotAllowed):
        runs.events(bearer, None)
    with pytest.raises(NotFound):  # whether there is such a run is not theirs to know
        runs.events(bearer, other.run)


def test_a_subscriber_that_fails_harms_nobody(house: House) -> None:
    """Its fault is logged; the change stands and the others hear of it."""
    heard: list[str] = []

    def broken(_events: object) -> None:
        raise ZeroDivisionError

    stop = house.services.feed.subscribe(broken)
    house.services.feed.subscribe(lambda events: heard.extend(event.type for event in events))
    grant, _ = house.claimed()
    stop()

    assert heard == [live.REQUESTED, live.PREPARING]
    assert house.services.runs.get(house.admin, grant.run).status is RunState.PREPARING
