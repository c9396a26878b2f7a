"""What an answer tells those who may not know: nothing of what belongs to others."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.run import NewRun, NewStudy, RunRecord
from physicsrunner.core.state import RunState
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from physicsrunner.service.access import Identity
from physicsrunner.wire.messages import Enrollment, HeldLease, Renewals, SyncOp
from tests.contract.service_house import House, open_house

TERMS = LeaseTerms()


@dataclass
class Street:
    """A house with ada's run of no project, and eve, who may read nothing of hers."""

    house: House
    ada: Identity
    eve: Identity
    run: RunRecord
    model: str  #: eve's


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    """Two people who have no role on the server."""
    house = open_house(tmp_path)
    ada, eve = person(house, "ada"), person(house, "eve")
    run = house.services.runs.create(ada, NewRun(model_id=model(house, ada)))
    yield Street(house, ada, eve, run, model(house, eve))
    house.services.close()


def person(house: House, name: str) -> Identity:
    """Make a person without a role."""
    house.services.accounts.add_user(house.admin, name)
    made = house.services.access.tokens.create(house.admin, "t", user=name)
    return house.services.access.authenticate(made.token)


def model(house: House, who: Identity) -> str:
    """Add a model of *who*."""
    made = house.model()
    path = house.services.models.bundle(house.admin, made)
    return house.services.models.add(who, path, who.subject).id


ASKED: dict[str, Callable[[Any, Identity, str], Any]] = {
    "get": lambda at, who, run: at.runs.get(who, run),
    "attempts": lambda at, who, run: at.runs.attempts(who, run),
    "cancel": lambda at, who, run: at.runs.cancel(who, run),
    "retry": lambda at, who, run: at.runs.retry(who, run),
    "delete": lambda at, who, run: at.runs.delete(who, run),
    "files": lambda at, who, run: at.files.list(who, run),
    "file": lambda at, who, run: at.files.path(who, run, "logs/main.log"),
    "room": lambda at, who, run: at.events.room(who, f"run:{run}"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_number_is_not_answered_by_the_id_that_belongs_to_it(street: Street, asked: str) -> None:
    """Of a foreign run by its number one learns what one learns of a number that is no run's."""
    answers = []
    for number in (street.run.number, 999):
        with pytest.raises(NotFound) as refused:
            ASKED[asked](street.house.services, street.eve, str(number))
        answers.append(str(refused.value).replace(str(number), "N"))
    assert answers[0] == answers[1]
    assert street.run.id not in answers[0]


def test_an_id_that_is_taken_is_not_told_what_has_it(street: Street) -> None:
    """Creating, claiming or repeating a run under a foreign id: another one is to be made up."""
    runs, eve, wanted = street.house.services.runs, street.eve, NewRun(id=street.run.id)
    mine = runs.create(eve, NewRun(model_id=street.model))
    runs.cancel(eve, mine.id)
    for call in (
        lambda: runs.create(eve, wanted),
        lambda: runs.create_many(eve, [wanted]),
        lambda: runs.claim(eve, wanted, "host"),
        lambda: runs.retry(eve, mine.id, street.run.id),
    ):
        with pytest.raises(Conflict, match="make up another one"):
            call()
    with pytest.raises(NotAllowed, match="created by somebody else"):
        runs.create(street.house.admin, wanted)  # who may read it is told


def test_an_id_that_is_taken_meanwhile_does_not_show_what_has_it(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the write another person's run of that id came: it stays theirs."""
    runs, eve = street.house.services.runs, street.eve
    wanted = NewRun(id=street.run.id, model_id=street.model)
    monkeypatch.setattr(runs, "_present", lambda *_: None)
    monkeypatch.setattr(runs, "_present_of", lambda *_: {})
    for call in (
        lambda: runs.create(eve, wanted),
        lambda: runs.create_many(eve, [wanted]),
        lambda: runs.claim(eve, wanted, "host"),
    ):
        with pytest.raises(Conflict, match="make up another one"):
            call()


def test_the_id_of_a_foreign_study_is_not_told_what_has_it(street: Street) -> None:
    """As of runs."""
    studies = street.house.services.studies
    wanted = NewStudy(name="study", id=str(uuid.uuid4()))
    studies.create(street.ada, wanted)
    with pytest.raises(Conflict, match="make up another one"):
        studies.create(street.eve, wanted)
    with pytest.raises(NotAllowed, match="somebody else"):
        studies.create(street.house.admin, wanted)


def test_a_token_is_not_confined_to_a_project_that_one_may_not_see(street: Street) -> None:
    """Otherwise the answer told whether there is such a project."""
    house = street.house
    house.services.accounts.add_project(house.admin, "thermal")
    for project in ("thermal", "nothing"):
        with pytest.raises(NotFound, match=f"no project {project}"):
            house.services.access.tokens.create(street.eve, "t", project=project)
    house.services.accounts.set_member(house.admin, "thermal", "eve", "viewer")
    eve = house.services.access.refreshed(street.eve)
    assert house.services.access.tokens.create(eve, "t", project="thermal").token


@pytest.mark.parametrize("agent", ["a" * 300, "a\nb", " "])
def test_a_run_is_not_claimed_by_a_machine_without_a_good_name(street: Street, agent: str) -> None:
    """What no agent can be called cannot be stored on every database, and harms a log."""
    with pytest.raises(InvalidRequest, match="printable"):
        street.house.services.runs.claim(street.ada, NewRun(), agent)


def test_an_agent_does_not_get_at_the_runs_of_a_machine_by_taking_its_name(street: Street) -> None:
    """What somebody carries out on a machine is not let at by whoever enrolls under its name."""
    services = street.house.services
    run, _ = services.runs.claim(street.ada, NewRun(), "laptop")
    ticket = services.access.issue_enroll_token(street.house.admin)
    bearer = services.access.authenticate(ticket.token)
    with pytest.raises(Conflict, match="make a token for that name"):
        services.fleet.enroll(bearer, Enrollment("laptop", "n" * 16))
    named = services.access.issue_enroll_token(street.house.admin, "laptop")
    bearer = services.access.authenticate(named.token)
    token = services.fleet.enroll(bearer, Enrollment("laptop", "n" * 16)).token
    agent = services.access.authenticate(token)
    with pytest.raises(NotFound):
        services.runs.get(agent, run.id)
    with pytest.raises(NotFound):
        services.files.list(agent, run.id)
    op = SyncOp(run.id, 1, "logs/main.log", "append", offset=0, length=1)
    assert street.house.sync(agent, [op], b"x")[0].error == "not_allowed"


def renewed(house: House, bearer: Identity, run: str) -> str | None:
    """Renew attempt 1 of *run*; return the error."""
    renewals = Renewals([HeldLease(run, 1)])
    return house.services.leases.renew(bearer, renewals)[0].error


@pytest.mark.parametrize("how", ["disabled", "left", "viewer"])
def test_the_lease_of_a_claimed_run_ends_with_who_carries_it_out(street: Street, how: str) -> None:
    """Who was disabled or lost the right to claim there keeps no lease and gets no fresh token."""
    house, admin, services = street.house, street.house.admin, street.house.services
    services.accounts.add_project(admin, "thermal")
    services.accounts.set_member(admin, "thermal", "ada", "user")
    ada = services.access.refreshed(street.ada)
    fails = NewRun(project_id="thermal", configuration={"on_lost_contact": "fail"})
    run, grant = services.runs.claim(ada, fails, "laptop")
    bearer = services.access.authenticate(grant.token)
    assert services.access.exchange(grant.token)
    assert services.leases.grant(bearer, run.id, 1)
    house.clock.move(TERMS.lease_s / 2)
    assert renewed(house, bearer, run.id) is None

    if how == "disabled":
        services.accounts.change_user(admin, "ada", disabled=True)
    elif how == "left":
        services.accounts.remove_member(admin, "thermal", "ada")
    else:
        services.accounts.set_member(admin, "thermal", "ada", "viewer")
    with pytest.raises(NotAllowed):
        services.access.exchange(grant.token)
    with pytest.raises(NotAllowed):
        services.leases.grant(bearer, run.id, 1)
    assert renewed(house, bearer, run.id) == "not_allowed"

    house.clock.move(TERMS.lease_s + 1)
    assert services.leases.expire(house.clock()) == [run.id]
    for _ in range(round(TERMS.grace_s / TERMS.lease_s) + 1):  # in steps: the server never slept
        house.clock.move(TERMS.lease_s)
        services.leases.expire(house.clock())
    ended = services.runs.get(admin, run.id)
    assert (ended.status, ended.error_code) == (RunState.FAILED, "lost_contact")


def test_who_is_let_in_again_goes_on_with_the_run_that_they_claimed(street: Street) -> None:
    """The run was waited for; the leases of others were never touched."""
    house, services = street.house, street.house.services
    run, grant = services.runs.claim(street.ada, NewRun(), "laptop")
    other, theirs = services.runs.claim(street.eve, NewRun(), "laptop")
    bearer, others = (services.access.authenticate(one.token) for one in (grant, theirs))
    services.accounts.change_user(house.admin, "ada", disabled=True)
    assert renewed(house, bearer, run.id) == "not_allowed"
    assert renewed(house, others, other.id) is None
    services.accounts.change_user(house.admin, "ada", disabled=False)
    assert renewed(house, bearer, run.id) is None
