"""Users, logins, tokens, projects and the audit, on every store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from physicsrunner.core.permissions import Scope
from physicsrunner.core.run import InputFile, NewRun, RunFilter
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    TokenExpired,
    TooManyTries,
)
from physicsrunner.service.access import Identity
from physicsrunner.service.accounts import LOCKED_S, TRIES, AccountService
from physicsrunner.service.passwords import Passwords
from physicsrunner.wire import live, tokens
from tests.contract.service_house import House, make_zip, open_house

PASSWORD = "correct horse battery"
QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """Services on each store."""
    url = {"memory": "memory:", "sqlite": None}.get(request.param)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
    opened = open_house(tmp_path, url=url)
    yield opened
    opened.services.close()


@pytest.fixture
def accounts(house: House) -> AccountService:
    """The accounts of that house, with a hash that is quick and worth nothing."""
    return AccountService(house.services.access, now=house.clock, passwords=QUICK)


def member(house: House, accounts: AccountService, name: str, **places: str) -> Identity:
    """Make a person without a role on the server; return who bears a token of theirs."""
    accounts.add_user(house.admin, name)
    for project, role in places.items():
        with contextlib.suppress(Conflict):
            accounts.add_project(house.admin, project)
        accounts.set_member(house.admin, project, name, role)
    issued = house.services.access.tokens.create(house.admin, "test", user=name)
    return house.services.access.authenticate(issued.token, "192.0.2.7")


def refused(call: Callable[[], object], kind: type[PhysicsRunnerError]) -> PhysicsRunnerError:
    """Return the error of a call that must be refused as *kind*."""
    with pytest.raises(kind) as caught:
        call()
    assert PASSWORD not in str(caught.value)
    return caught.value


# -- login ---------------------------------------------------------------------------------------


def test_a_password_gets_a_token(house: House, accounts: AccountService) -> None:
    """The right password gives a token that lasts as long as asked; a wrong one says nothing."""
    accounts.add_user(house.admin, "ada", "user", PASSWORD)
    issued = accounts.login("ada", PASSWORD, origin="192.0.2.7", lifetime_s=60)
    who = house.services.access.authenticate(issued.token)
    assert (who.kind, who.subject, who.role) == ("user", "ada", "user")
    house.clock.move(61)
    refused(lambda: house.services.access.authenticate(issued.token), TokenExpired)
    wrong = refused(lambda: accounts.login("ada", "wrong"), NotAuthenticated)
    nobody = refused(lambda: accounts.login("grace", "wrong"), NotAuthenticated)
    assert str(wrong) == str(nobody)
    accounts.add_user(house.admin, "machine", "user")
    refused(lambda: accounts.login("machine", ""), NotAuthenticated)
    refused(lambda: accounts.login("ada", PASSWORD, lifetime_s=1e12), InvalidRequest)


def test_five_wrong_passwords_lock_for_a_quarter_of_an_hour(
    house: House, accounts: AccountService
) -> None:
    """After five in a row the right one is refused too, also by a new service; then it is taken."""
    accounts.add_user(house.admin, "ada", "user", PASSWORD)
    for _ in range(TRIES - 1):
        refused(lambda: accounts.login("ada", "wrong"), NotAuthenticated)
    accounts.login("ada", PASSWORD)  # in a row: that was the end of it
    for _ in range(TRIES - 1):
        refused(lambda: accounts.login("ada", "wrong"), NotAuthenticated)
    refused(lambda: accounts.login("ada", "wrong"), TooManyTries)
    again = AccountService(house.services.access, now=house.clock, passwords=QUICK)
    house.clock.move(LOCKED_S / 2)
    error = refused(lambda: again.login("ada", PASSWORD), TooManyTries)
    assert isinstance(error, TooManyTries)
    assert error.retry_after == pytest.approx(LOCKED_S / 2)
    assert again.user(house.admin, "ada").locked
    house.clock.move(LOCKED_S / 2 + 1)
    assert again.login("ada", PASSWORD).token
    assert live.USER_LOCKED in [event.type for event in house.told]


def test_tries_at_the_same_time_are_all_counted(house: House, accounts: AccountService) -> None:
    """Sixteen wrong passwords at once are no sixteen guesses: five are counted, then it is shut."""
    accounts.add_user(house.admin, "ada", "user", PASSWORD)

    def guess(_number: int) -> str:
        return type(refused(lambda: accounts.login("ada", "wrong"), PhysicsRunnerError)).__name__

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(guess, range(16)))
    assert answers.count("NotAuthenticated") == TRIES - 1
    assert answers.count("TooManyTries") == 16 - TRIES + 1
    assert [event.type for event in house.told].count(live.LOGIN_FAILED) == TRIES


def test_that_a_name_is_locked_does_not_tell_that_somebody_has_it(
    house: House, accounts: AccountService
) -> None:
    """Tried as often as a person's, a name that nobody has is answered the same, word by word."""

    def answers(name: str) -> list[tuple[str, str, object]]:
        tries = [
            refused(lambda: accounts.login(name, "wrong"), PhysicsRunnerError) for _ in range(7)
        ]
        return [
            (error.code, str(error).replace(name, "NAME"), getattr(error, "retry_after", None))
            for error in tries
        ]

    assert answers("ada") == answers("nobody")
    assert answers("x" * 64)[-1][0] == "too_many_tries"
    house.clock.move(15 * 60)
    assert answers("nobody")[0][0] == "not_authenticated"


def test_an_admin_unlocks_and_resets(house: House, accounts: AccountService) -> None:
    """An admin lifts a lock-out, sets a password, and other logins of that person end."""
    accounts.add_user(house.admin, "ada", "user", PASSWORD)
    before = accounts.login("ada", PASSWORD)
    for _ in range(TRIES):
        refused(lambda: accounts.login("ada", "wrong"), PhysicsRunnerError)
    accounts.change_user(house.admin, "ada", unlock=True)
    accounts.login("ada", PASSWORD)
    accounts.set_password(house.admin, "ada", "another good one")
    refused(lambda: house.services.access.authenticate(before.token), NotAuthenticated)
    ada = house.services.access.authenticate(accounts.login("ada", "another good one").token)
    refused(lambda: accounts.set_password(ada, "ada", PASSWORD, old="wrong"), NotAuthenticated)
    accounts.set_password(ada, "ada", PASSWORD, old="another good one")
    assert house.services.access.still_good(ada)
    refused(lambda: accounts.set_password(ada, "admin", PASSWORD), NotAllowed)
    refused(lambda: accounts.set_password(house.admin, "ada", "short"), InvalidRequest)


def test_somebody_disabled_is_refused_at_once(house: House, accounts: AccountService) -> None:
    """All tokens of a disabled person are refused at once, on open connections too, and logins."""
    accounts.add_user(house.admin, "ada", "user", PASSWORD)
    token = accounts.login("ada", PASSWORD).token
    access = house.services.access
    ada = access.authenticate(token)
    assert access.still_good(ada)
    accounts.change_user(house.admin, "ada", disabled=True)
    assert not access.still_good(ada)
    refused(lambda: access.authenticate(token), NotAuthenticated)
    refused(lambda: accounts.login("ada", PASSWORD), NotAuthenticated)
    accounts.change_user(house.admin, "ada", disabled=False)
    assert access.authenticate(token).subject == "ada"
    refused(lambda: accounts.change_user(house.admin, "admin", disabled=True), Conflict)
    refused(lambda: accounts.change_user(house.admin, "admin", role=None), Conflict)
    refused(lambda: accounts.change_user(ada, "ada", role="admin"), NotAllowed)


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "agent:x", "a/b", "ä", "x" * 65, "-x"])
def test_names_that_nobody_can_have(house: House, accounts: AccountService, name: str) -> None:
    """A name that could be mistaken or misused is refused."""
    refused(lambda: accounts.add_user(house.admin, name), InvalidRequest)
    refused(lambda: accounts.add_project(house.admin, name), InvalidRequest)


def test_a_name_is_one_person(house: House, accounts: AccountService) -> None:
    """The same name again, also in capitals, is a conflict; so is a project's."""
    accounts.add_user(house.admin, "ada")
    refused(lambda: accounts.add_user(house.admin, "Ada"), Conflict)
    accounts.add_project(house.admin, "thermal")
    refused(lambda: accounts.add_project(house.admin, "Thermal"), Conflict)


# -- tokens --------------------------------------------------------------------------------------


def test_tokens_are_listed_used_and_revoked(house: House, accounts: AccountService) -> None:
    """A token is listed with its last use, written once a minute; revoked it is refused at once."""
    ada = member(house, accounts, "ada")
    access = house.services.access
    issued = access.tokens.create(ada, "sweep", lifetime_s=3600)
    who = access.authenticate(issued.token, "192.0.2.9")
    row = next(row for row in access.tokens.list(ada) if row.id == issued.id)
    assert (row.name, row.last_used_from) == ("sweep", "192.0.2.9")
    assert row.last_used_at == house.clock.time
    house.clock.move(30)
    access.authenticate(issued.token, "192.0.2.10")
    assert access.tokens.list(ada)[0].last_used_at == pytest.approx(house.clock.time - 30)
    house.clock.move(31)
    assert access.recall(issued.token, "192.0.2.10") is None  # it has to be written again
    access.authenticate(issued.token, "192.0.2.10")
    assert access.recall(issued.token, "192.0.2.10") == access.authenticate(
        issued.token, "192.0.2.10"
    )
    grace = member(house, accounts, "grace")
    refused(lambda: access.tokens.revoke(grace, issued.id), NotFound)
    refused(lambda: access.tokens.list(grace, "ada"), NotAllowed)
    access.tokens.revoke(ada, issued.id)
    access.tokens.revoke(ada, issued.id)  # again is success
    refused(lambda: access.authenticate(issued.token), NotAuthenticated)
    assert not access.still_good(who)
    assert issued.token not in str(house.told)


def test_a_confined_token_gives_less_and_never_more(house: House, accounts: AccountService) -> None:
    """A token of few permissions and one project has these alone, and makes none that has more."""
    accounts.add_project(house.admin, "thermal")
    access = house.services.access
    make = access.tokens.create
    issued = make(house.admin, "few", scopes=["runs:read", "tokens:create"], project="thermal")
    few = access.authenticate(issued.token)
    assert few.scope("runs:read") is Scope.PROJECT
    assert few.scope("runs:cancel") is Scope.NONE
    assert few.scope("tokens:create") is Scope.NONE  # of the server: not through a project's token
    assert few.scope_in("runs:read", "other") is Scope.NONE
    assert few.scope_in("runs:read", None) is Scope.NONE
    refused(lambda: make(few, "more"), NotAllowed)
    issued = make(house.admin, "few", scopes=["runs:read", "tokens:create"], lifetime_s=60)
    few = access.authenticate(issued.token)
    more = access.authenticate(make(few, "same").token)
    assert more.scopes == few.scopes
    assert more.expires == few.expires
    refused(lambda: make(few, "more", scopes=["runs:read", "runs:cancel"]), NotAllowed)
    refused(lambda: make(house.admin, "none", scopes=["no:such"]), InvalidRequest)
    refused(lambda: make(house.admin, "none", project="nowhere"), NotFound)
    refused(lambda: make(house.admin, "none", user="nobody"), NotFound)
    fresh = access.authenticate(access.tokens.refresh(few).token)
    assert (fresh.scopes, fresh.expires) == (few.scopes, few.expires)


def test_a_one_time_token_enrolls_one_agent(house: House) -> None:
    """It is good once; the same nonce gets the same answer; a name stays whose it is."""
    access = house.services.access
    ticket = access.authenticate(access.issue_enroll_token(house.admin).token)
    token = access.use_enroll_token(ticket, "node-7", "nonce-of-node-7")
    assert access.authenticate(token).subject == "node-7"
    assert access.use_enroll_token(ticket, "node-7", "nonce-of-node-7") == token
    refused(lambda: access.use_enroll_token(ticket, "node-7", "another-nonce"), NotAllowed)
    refused(lambda: access.use_enroll_token(ticket, "node-8", "nonce-of-node-7"), NotAllowed)
    other = access.authenticate(access.issue_enroll_token(house.admin).token)
    refused(lambda: access.use_enroll_token(other, "node-7", "nonce-of-a-thief"), Conflict)
    bound = access.authenticate(access.issue_enroll_token(house.admin, "node-7").token)
    refused(lambda: access.use_enroll_token(bound, "node-8", "nonce-of-node-8"), NotAllowed)
    fresh = access.use_enroll_token(bound, "node-7", "nonce-after-reinstall")
    refused(lambda: access.authenticate(token), NotAuthenticated)
    access.revoke_agent(house.admin, "node-7")
    refused(lambda: access.authenticate(fresh), NotAuthenticated)
    late = access.issue_enroll_token(house.admin)
    house.clock.move(3601)
    refused(lambda: access.authenticate(late.token), TokenExpired)
    refused(lambda: access.issue_enroll_token(house.user("ben")), NotAllowed)


def test_a_token_that_the_server_did_not_keep_is_refused(house: House) -> None:
    """A token signed with the key but not in the table, or without an id, is refused."""
    key = (house.services.data / "secret.key").read_text().strip()
    for token_id in (None, "0" * 32):
        made = tokens.Claims("user", "admin", house.clock.time, role="admin", token_id=token_id)
        forged = tokens.issue(key, made)
        refused(lambda forged=forged: house.services.access.authenticate(forged), NotAuthenticated)  # type: ignore[misc]


# -- projects ------------------------------------------------------------------------------------


def test_a_foreign_run_is_not_there(house: House, accounts: AccountService) -> None:
    """Who may not read a run is told that there is none; lists and models leave it out."""
    ada = member(house, accounts, "ada", thermal="user")
    ben = member(house, accounts, "ben", flow="operator")
    runs, models = house.services.runs, house.services.models
    packed = make_zip(house.folder / "m.zip", {"main.py": "print(1)"})
    model = models.add(ada, packed, "m", "thermal").id
    run = runs.create(ada, NewRun(model_id=model, project_id="thermal"))
    private = runs.create(house.admin, NewRun(model_id=house.model()))
    for call in (runs.get, runs.cancel, runs.pause, runs.delete, runs.results):
        refused(lambda call=call: call(ben, run.id), NotFound)  # type: ignore[misc]
    refused(lambda: runs.get(ada, private.id), NotFound)
    refused(lambda: models.get(ben, model), NotFound)
    refused(lambda: runs.create(ben, NewRun(model_id=model, project_id="flow")), NotFound)
    refused(lambda: runs.create(ben, NewRun(model_id=model, project_id="thermal")), NotAllowed)
    assert [item.id for item in runs.list(ada, RunFilter()).runs] == [run.id]
    assert runs.list(ben, RunFilter()).runs == []
    assert [item.id for item in models.list(ada)] == [model]
    assert models.list(ben) == []
    accounts.set_member(house.admin, "thermal", "ben", "viewer")
    ben = house.services.access.refreshed(ben)
    assert runs.get(ben, run.id).id == run.id
    refused(lambda: runs.cancel(ben, run.id), NotAllowed)
    accounts.remove_member(house.admin, "thermal", "ada")
    ada = house.services.access.refreshed(ada)
    refused(lambda: runs.get(ada, run.id), NotFound)  # what belongs to a project is nobody's own


def test_an_input_is_read_by_those_who_have_it(house: House, accounts: AccountService) -> None:
    """Knowing a SHA-256 gives no content: not to read, not through a run of one's own."""
    ada = member(house, accounts, "ada", thermal="user")
    ben = member(house, accounts, "ben", thermal="viewer", flow="user")
    runs = house.services.runs
    mesh = house.folder / "mesh"
    mesh.write_bytes(b"mesh")
    sha256 = hashlib.sha256(b"mesh").hexdigest()
    runs.store_input(ada, sha256, mesh)
    assert runs.input_path(ada, sha256).read_bytes() == b"mesh"
    refused(lambda: runs.input_path(ben, sha256), NotFound)
    packed = make_zip(house.folder / "m.zip", {"main.py": "print(1)"})
    model = house.services.models.add(ben, packed, "m", "flow").id
    wanted = NewRun(model_id=model, project_id="flow", inputs=[InputFile("mesh", sha256)])
    refused(lambda: runs.create(ben, wanted), NotFound)
    own = house.services.models.add(ada, packed, "m", "thermal").id
    given = NewRun(model_id=own, project_id="thermal", inputs=[InputFile("mesh", sha256)])
    run = runs.create(ada, given)
    assert runs.input_path(ben, sha256, run.id).read_bytes() == b"mesh"
    runs.store_input(ben, sha256, mesh)
    assert runs.create(ben, wanted).inputs[0]["sha256"] == sha256


def test_members_are_the_project_admins_to_set(house: House, accounts: AccountService) -> None:
    """A project's admin sets members and its cap; others of it see, and strangers see nothing."""
    ada = member(house, accounts, "ada", thermal="admin")
    ben = member(house, accounts, "ben", thermal="operator")
    eve = member(house, accounts, "eve")
    accounts.set_member(ada, "thermal", "eve", "user")
    assert accounts.change_project(ada, "thermal", cap=4).max_concurrent_runs == 4
    refused(lambda: accounts.change_project(ada, "thermal", cap=0), InvalidRequest)
    refused(lambda: accounts.set_member(ben, "thermal", "eve", "admin"), NotAllowed)
    refused(lambda: accounts.set_member(ada, "thermal", "nobody", "user"), NotFound)
    refused(lambda: accounts.set_member(ada, "thermal", "eve", "king"), InvalidRequest)
    assert {row.user for row in accounts.members(ben, "thermal")} == {"admin", "ada", "ben", "eve"}
    accounts.remove_member(ada, "thermal", "eve")
    accounts.remove_member(ada, "thermal", "eve")
    eve = house.services.access.refreshed(eve)
    refused(lambda: accounts.project(eve, "thermal"), NotFound)
    assert accounts.projects(eve) == []
    refused(lambda: accounts.add_project(eve, "mine"), NotAllowed)


# -- the audit -----------------------------------------------------------------------------------


def test_every_change_of_accounts_is_in_the_audit(house: House, accounts: AccountService) -> None:
    """Who, what, from where and when stands in the log, is found, and names no secret."""
    ada = member(house, accounts, "ada", thermal="admin")
    accounts.add_user(house.admin, "ben", None, PASSWORD)
    accounts.set_member(ada, "thermal", "ben", "viewer")
    refused(lambda: accounts.login("ben", "wrong", origin="198.51.100.1"), NotAuthenticated)
    issued = accounts.login("ben", PASSWORD, origin="198.51.100.1")
    audit = house.services.audit
    entries = [entry for page in audit.all(house.admin) for entry in page]
    kinds = {entry.type for entry in entries}
    assert kinds >= {
        live.USER_CREATED,
        live.TOKEN_CREATED,
        live.PROJECT_CREATED,
        live.MEMBER_SET,
        live.LOGIN_FAILED,
        live.LOGGED_IN,
    }
    text = str(entries)
    assert PASSWORD not in text
    assert "wrong" not in text
    assert issued.token not in text
    mine = audit.entries(house.admin, actor="ada")
    assert [(entry.type, entry.origin) for entry in mine] == [(live.MEMBER_SET, "192.0.2.7")]
    failed = audit.entries(house.admin, kind="login/*")
    assert [(entry.actor, entry.origin) for entry in failed] == [("ben", "198.51.100.1")] * 2
    assert audit.entries(house.admin, after=entries[-1].id or 0) == []
    refused(lambda: audit.entries(ada), NotAllowed)


def test_the_first_admin_survives_a_lost_database(tmp_path: Path) -> None:
    """A data folder whose database is gone makes the bearer of admin.token its admin again."""
    first = open_house(tmp_path)
    token = first.services.admin_token_file.read_text().strip()
    first.services.close()
    for name in ("", "-wal", "-shm"):
        (tmp_path / "data" / f"physicsrunner.db{name}").unlink(missing_ok=True)
    again = open_house(tmp_path)
    assert again.services.access.authenticate(token).role == "admin"
    issued = again.services.access.tokens.list(again.admin)
    assert [row.name for row in issued] == ["admin.token"]
    again.services.access.tokens.revoke(again.admin, issued[0].id)
    refused(lambda: again.services.access.authenticate(token), NotAuthenticated)
    again.services.close()
    third = None
    with pytest.raises(NotAuthenticated):
        third = open_house(tmp_path)  # revoked stays revoked
    assert third is None
