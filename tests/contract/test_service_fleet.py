"""Agents: heartbeat, joining, draining, removal, and the breaker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from physicsrunner.service.access import Identity
from physicsrunner.wire import live
from physicsrunner.wire.messages import (
    Enrollment,
    Failure,
    Heartbeat,
    HeldLease,
    LeaseGrant,
    LeaseRequest,
    Report,
    Resources,
)
from tests.contract.service_house import House, open_house
from tests.support.postgres import PostgresServer

S = RunState


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    url: str | None = "memory:" if request.param == "memory" else None
    server: PostgresServer | None = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        url = server.fresh()
    opened = open_house(tmp_path, url=url)
    yield opened
    opened.services.close()
    if server is not None:
        server.drop()


def leased(house: House, agent: Identity, number: int) -> list[LeaseGrant]:
    runs = [NewRun(model_id=house.model())] * number
    house.services.runs.create_many(house.admin, runs)
    request = LeaseRequest(agent.subject, free=Resources(cpu_cores=number), max=number)
    return house.services.leases.acquire(agent, request)


def fails_at_start(
    house: House, agent: Identity, *, cancel: bool = False, code: str = "unavailable"
) -> None:
    (grant,) = leased(house, agent, 1)
    if cancel:
        house.services.runs.cancel(house.admin, grant.run)
    error = Failure(code, "download: no space left")
    report = Report(grant.run, grant.attempt, S.FAILED, error=error)
    assert house.services.leases.report(agent, [report])[0].error is None


def names(house: House) -> list[str]:
    return [event.type for event in house.told if event.type.startswith("agent/")]


def test_one_heartbeat_keeps_all_leases_and_brings_what_is_asked(house: House) -> None:
    """Deadlines, commands, lost leases, and the rhythm: in one answer, in the order named."""
    agent = house.agent("x")
    grants = leased(house, agent, 5)
    started = [Report(grant.run, 1, S.RUNNING) for grant in grants]
    house.services.leases.report(agent, started)
    runs = house.services.runs
    runs.pause(house.admin, grants[1].run)
    runs.cancel(house.admin, grants[2].run)
    house.services.leases.report(agent, [Report(grants[3].run, 1, hand_back=True)])
    house.lease("y")
    house.clock.move(59)
    leases = [HeldLease(grant.run, 1) for grant in grants] + [HeldLease("nobody", 1)]
    beat = Heartbeat(
        leases,
        free=Resources(cpu_cores=1),
        resources=Resources(cpu_cores=8, memory_gb=32),
        labels=["gpu"],
        slots=9,
        host={"hostname": "node7"},
    )

    answer = house.services.fleet.heartbeat(agent, "x", beat)

    assert (answer.state, answer.renew_s, answer.lost_s) == ("active", 15, 360)
    assert [kept.commands for kept in answer.leases[:3]] == [[], ["pause"], ["cancel"]]
    assert [kept.error for kept in answer.leases] == [
        None,
        None,
        None,
        "lease_lost",
        None,
        "not_found",
    ]
    assert answer.leases[0].deadline == house.clock() + 60
    (row, _) = house.services.fleet.agents(house.admin)
    assert (row.name, row.slots, row.labels, row.active) == ("x", 9, ["gpu"], 4)
    assert row.free == {"cpu_cores": 1, "memory_gb": 0, "gpu_count": 0, "storage_gb": 0}
    assert row.resources["memory_gb"] == 32
    assert (row.host, row.last_seen) == ({"hostname": "node7"}, house.clock())


def test_a_thousand_leases_are_one_heartbeat(house: House) -> None:
    """All of them are kept; a second agent keeps none of them."""
    agent = house.agent("x")
    grants = leased(house, agent, 1000)
    assert len(grants) == 1000
    house.clock.move(30)
    beat = Heartbeat([HeldLease(grant.run, grant.attempt) for grant in grants])
    answer = house.services.fleet.heartbeat(agent, "x", beat)
    kept = answer.leases
    assert {one.deadline for one in kept} == {house.clock() + 60}
    assert answer.flush_s == 0.25  # what so many write is gathered, for fewer requests
    assert house.services.fleet.heartbeat(agent, "x", Heartbeat(beat.leases[:9])).flush_s == 0.05
    stolen = house.services.fleet.heartbeat(house.agent("y"), "y", beat).leases
    assert {one.error for one in stolen} == {"not_allowed"}


def test_who_may_speak_for_an_agent(house: House) -> None:
    """The agent itself, and operators; nobody else, and no agent for another."""
    fleet = house.services.fleet
    fleet.heartbeat(house.agent("x"), "x", Heartbeat())
    fleet.heartbeat(house.user("op", "operator"), "x", Heartbeat())
    grant, bearer = house.claimed()
    for identity in (house.agent("y"), house.user("ada"), bearer):
        with pytest.raises(NotAllowed):
            fleet.heartbeat(identity, "x", Heartbeat())
    for change in (fleet.drain, fleet.resume, fleet.remove):
        for identity in (house.agent("x"), house.user("ada")):
            with pytest.raises(NotAllowed):
                change(identity, "x")
    with pytest.raises(NotAllowed):
        fleet.agents(house.user("ada"))
    assert [one.name for one in fleet.agents(house.agent("x"))] == ["x"]
    with pytest.raises(NotFound):
        fleet.agent(house.agent("x"), "y")
    assert grant.attempt == 1


@pytest.mark.parametrize(
    "beat",
    [
        Heartbeat(slots=-1),
        Heartbeat(slots=10**9),
        Heartbeat(labels=["l"] * 1001),
        Heartbeat(host={"a": [[[]]], "deep": None}),
    ],
)
def test_heartbeats_that_make_no_sense(house: House, beat: Heartbeat) -> None:
    """What cannot be is refused; what is odd is not."""
    if beat.host:
        assert house.services.fleet.heartbeat(house.agent("x"), "x", beat).state == "active"
        return
    with pytest.raises(InvalidRequest):
        house.services.fleet.heartbeat(house.agent("x"), "x", beat)
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    odd = replace(Heartbeat(), host={"deep": deep})
    with pytest.raises(InvalidRequest):
        house.services.fleet.heartbeat(house.agent("x"), "x", odd)


def test_an_agent_that_is_drained_finishes_what_it_has(house: House) -> None:
    """Nothing new, everything old; resumed it works again; each is told once."""
    agent, fleet = house.agent("x"), house.services.fleet
    (grant,) = leased(house, agent, 1)
    house.services.runs.create(house.admin, NewRun(model_id=house.model()))
    drained = fleet.drain(house.admin, "x")
    assert fleet.drain(house.admin, "x") == drained
    assert (drained.state, drained.reason) == ("draining", "drained by admin")

    held = LeaseRequest("x", free=Resources(cpu_cores=9), holding=[HeldLease(grant.run, 1)])
    assert house.services.leases.acquire(agent, held) == []
    answer = fleet.heartbeat(agent, "x", Heartbeat([HeldLease(grant.run, 1)]))
    assert (answer.state, answer.leases[0].error) == ("draining", None)
    house.services.leases.report(agent, [Report(grant.run, 1, S.RUNNING)])
    assert house.services.leases.report(agent, [Report(grant.run, 1, S.COMPLETED)])[0].state
    assert fleet.resume(house.admin, "x").state == "active"
    assert fleet.drain(house.admin, "x", False).state == "active"
    assert len(house.services.leases.acquire(agent, held)) == 1
    assert names(house) == [live.AGENT_DRAINED, live.AGENT_RESUMED]
    with pytest.raises(NotFound):
        fleet.drain(house.admin, "nobody")


def test_an_agent_that_leaves_by_itself_is_shown_as_draining(house: House) -> None:
    """It says so in its heartbeat; when it comes back it is active as before."""
    agent, fleet = house.agent("x"), house.services.fleet
    assert fleet.heartbeat(agent, "x", Heartbeat(draining=True)).state == "active"
    assert fleet.agent(house.admin, "x").state == "draining"
    fleet.heartbeat(agent, "x", Heartbeat())
    assert fleet.agent(house.admin, "x").state == "active"


def test_an_agent_on_which_nothing_starts_is_paused_with_a_reason(house: House) -> None:
    """Five in a row; a program that was started, or a cancelled run, is none of them."""
    agent, fleet = house.agent("x"), house.services.fleet
    for _ in range(4):
        fails_at_start(house, agent)
    fails_at_start(house, agent, cancel=True)
    (grant,) = leased(house, agent, 1)
    house.services.leases.report(agent, [Report(grant.run, 1, S.RUNNING)])
    house.services.leases.report(agent, [Report(grant.run, 1, S.FAILED, exit_code=1)])
    for _ in range(5):
        assert fleet.agent(house.admin, "x").state == "active"
        fails_at_start(house, agent)

    paused = fleet.agent(house.admin, "x")
    said = "5 runs in a row failed before main.py was started; "
    assert paused.state == "paused"
    assert paused.reason == f"{said}the last one: download: no space left"
    assert leased(house, agent, 1) == []
    answer = fleet.heartbeat(agent, "x", Heartbeat())
    assert (answer.state, answer.reason) == ("paused", paused.reason)
    assert fleet.drain(house.admin, "x").state == "paused"
    reason = house.services.runs.reason(
        house.services.runs.create(house.admin, NewRun(model_id=house.model()))
    )
    away = "waiting: the only agent, x, takes no work now: paused: "
    assert reason == f"{away}{paused.reason}"
    assert fleet.resume(house.admin, "x").reason is None
    for _ in range(4):
        fails_at_start(house, agent)
    assert fleet.agent(house.admin, "x").state == "active"
    assert names(house) == [live.AGENT_PAUSED, live.AGENT_RESUMED]


@pytest.mark.parametrize("code", ["not_found", "unsafe_archive"])
def test_a_run_that_no_machine_could_start_speaks_against_none(house: House, code: str) -> None:
    """One bad model does not pause one agent after another."""
    agent, fleet = house.agent("x"), house.services.fleet
    for _ in range(6):
        fails_at_start(house, agent, code=code)
    assert fleet.agent(house.admin, "x").state == "active"


def test_an_agent_joins_with_a_one_time_token(house: House) -> None:
    """The same nonce may ask again after a lost answer; another may not."""
    access, fleet = house.services.access, house.services.fleet
    issued = fleet.enroll_token(house.admin, "node7")
    bearer = access.authenticate(str(issued["token"]))
    assert issued["expires"] == house.clock() + 3600
    wanted = Enrollment("node7", "nonce-of-node7-1234", host={"hostname": "node7"})

    joined = fleet.enroll(bearer, wanted)
    again = fleet.enroll(bearer, wanted)

    assert access.authenticate(again.token).subject == joined.name == "node7"
    agent = access.authenticate(joined.token)
    assert fleet.heartbeat(agent, "node7", Heartbeat()).state == "active"
    assert fleet.agent(house.admin, "node7").name == "node7"
    with pytest.raises(NotAllowed):
        fleet.enroll(bearer, replace(wanted, nonce="another-nonce-56789"))
    with pytest.raises(NotAllowed):
        fleet.enroll(house.user("ada"), wanted)
    with pytest.raises(NotAllowed):
        fleet.enroll_token(house.user("ada"))


def test_a_name_that_reads_as_two_does_not_join(house: House) -> None:
    """With it, an agent would have the label that confines runs to both of them."""
    access, name = house.services.access, "north|agent:south"
    with pytest.raises(InvalidRequest, match=r"has no \|"):
        access.issue_enroll_token(house.admin, name)
    with pytest.raises(InvalidRequest, match=r"has no \|"):
        access.agent_token(name)
    joining = access.authenticate(access.issue_enroll_token(house.admin).token)
    with pytest.raises(InvalidRequest, match=r"has no \|"):
        house.services.fleet.enroll(joining, Enrollment(name, "once"))


def test_a_removed_agent_is_refused_until_it_joins_again(house: House) -> None:
    """Its token is taken back; what it held must have ended, or is lost by force."""
    access, fleet = house.services.access, house.services.fleet
    token = access.agent_token("x")
    agent = access.authenticate(token)
    made = house.services.runs.create_many(
        house.admin,
        [
            NewRun(model_id=house.model(), configuration={"on_lost_contact": policy})
            for policy in ("wait", "retry", "fail")
        ],
    )
    request = LeaseRequest("x", free=Resources(cpu_cores=9), max=9)
    assert len(house.services.leases.acquire(agent, request)) == 3
    with pytest.raises(Conflict, match="3 runs"):
        fleet.remove(house.admin, "x")

    fleet.remove(house.admin, "x", force=True)

    states = [house.services.runs.get(house.admin, run.id).status for run in made]
    assert states == [S.FAILED, S.RETRYING, S.FAILED]
    assert fleet.agents(house.admin) == []
    with pytest.raises(NotAuthenticated):
        access.authenticate(token)
    for refused in (
        lambda: house.services.leases.acquire(agent, request),
        lambda: fleet.heartbeat(agent, "x", Heartbeat()),
    ):
        with pytest.raises(NotAllowed):
            refused()
    with pytest.raises(NotFound):
        fleet.resume(house.admin, "x")
    with pytest.raises(NotFound):
        fleet.remove(house.admin, "nobody")
    bearer = access.authenticate(str(fleet.enroll_token(house.admin, "x")["token"]))
    fresh = access.authenticate(fleet.enroll(bearer, Enrollment("x", "a-nonce-of-x-123")).token)
    house.clock.move(1200)
    assert len(house.services.leases.acquire(fresh, request)) == 1
