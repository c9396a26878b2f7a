"""What is removed with time, and what never: on every store, with files beside the rows."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import InputFile, NewRun, RunRecord
from physicsrunner.core.state import RunState
from physicsrunner.errors import NotFound
from physicsrunner.service.check import check
from physicsrunner.service.options import DAY_S, DOOR_KEEP, Keep, ServerOptions
from physicsrunner.service.retention import SLICE
from physicsrunner.store.base import Store
from physicsrunner.store.outbox import WebhookRow
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.live import Event
from tests.contract.service_house import START, House, open_house, sha
from tests.support.postgres import PostgresServer

CANCELLED = RunState.CANCELLED
EVERYTHING = Keep()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The database of the house, of each kind."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield server.fresh()
        server.drop()
    else:
        yield {"memory": "memory:", "sqlite": None}[request.param]


class Kept:
    """A house whose runs have ended some days ago."""

    def __init__(self, folder: Path, url: str | None, keep: Keep, **more: Any) -> None:
        options = ServerOptions(keep=keep, **more)
        self.house: House = open_house(folder, url=url, options=options)
        self.store: Store = self.house.services._store
        self.root = self.house.services.data / "simulations"

    def add(self, days: float, state: RunState = CANCELLED, **fields: Any) -> str:
        """Add a run that ended so many days ago, with a file; return its id."""
        run, then = str(uuid.uuid4()), START - days * DAY_S
        held = state is RunState.RUNNING
        if held:
            fields.update(attempt=1, agent="node", deadline=START)
        record = RunRecord(
            id=run,
            number=0,
            name="run",
            created_by="ada",
            created_at=then,
            updated_at=then,
            status=state,
            completed_at=None if held or state is RunState.QUEUED else then,
            **fields,
        )
        event = Event("simulation/requested", run, None, None, then, {})
        attempt = {"agent": "node", "state": state, "leased_at": then} if held else None
        self.store.add_run(record, [event], attempt)
        (self.root / run).mkdir()
        (self.root / run / "file").write_text("data")
        return run

    def tidy(self) -> set[str]:
        """Go on until nothing is left to remove; return the ids of the removed."""
        gone: set[str] = set()
        while True:
            step = self.house.services.retention.step(self.house.clock())
            gone.update(step.runs)
            assert len(step.runs) <= SLICE
            if not step.more and not step.runs:
                return gone

    def there(self, run: str) -> bool:
        """Say whether a run is there, and that its rows and its files agree on it."""
        row = self.store.summary(run) is not None
        assert (self.root / run).exists() is row
        return row


@pytest.fixture
def keeping(tmp_path: Path, url: str | None) -> Iterator[Any]:
    """Give a function that opens a house with what it is to keep."""
    opened: list[Kept] = []

    def make(keep: Keep = EVERYTHING, **more: Any) -> Kept:
        opened.append(Kept(tmp_path, url, keep, **more))
        return opened[-1]

    yield make
    for kept in opened:
        kept.house.services.close()


def test_by_default_everything_stays(keeping: Any) -> None:
    """However old and however many: nobody asked for anything else."""
    kept = keeping()
    runs = [kept.add(days) for days in (1, 1000, 10_000)]
    assert kept.tidy() == set()
    assert all(kept.there(run) for run in runs)


def test_runs_go_with_their_age(keeping: Any) -> None:
    """What ended longer ago goes with its events and files; what is pinned or goes on stays."""
    kept = keeping(Keep(days=30))
    old, young = kept.add(31), kept.add(29)
    pinned = kept.add(99, pinned=True)
    waits, runs = kept.add(99, RunState.QUEUED), kept.add(99, RunState.RUNNING)
    failed = kept.add(99, RunState.FAILED)
    assert kept.tidy() == {old, failed}
    assert not kept.there(old)
    assert all(kept.there(run) for run in (young, pinned, waits, runs))
    assert [event.type for event in kept.store.events(old)] == ["simulation/deleted"]
    assert kept.store.counts("all")[CANCELLED] == 2


def test_the_newest_stay(keeping: Any) -> None:
    """Beyond a number the oldest go; pinned ones neither go nor count."""
    kept = keeping(Keep(runs=2))
    runs = [kept.add(days) for days in (5, 4, 3, 2, 1)]
    pinned = kept.add(50, pinned=True)
    assert kept.tidy() == set(runs[:3])
    assert kept.there(pinned)


def test_more_than_a_slice_goes_in_several_steps(keeping: Any) -> None:
    """No step removes more than a slice; the last one says that there is no more."""
    kept = keeping(Keep(days=1))
    runs = {kept.add(9) for _ in range(SLICE + 7)}
    first = kept.house.services.retention.step(kept.house.clock())
    assert len(first.runs) == SLICE
    assert first.more
    assert set(first.runs) | kept.tidy() == runs


def test_a_door_keeps_its_own_promise(keeping: Any) -> None:
    """Runs of the ath door go after 30 days; others are nobody's to remove."""
    kept = keeping()
    old, other = kept.add(31, door="ath"), kept.add(31)
    young = kept.add(29, door="ath")
    assert DOOR_KEEP["ath"] == Keep(days=30, runs=1000)
    assert kept.tidy() == {old}
    assert kept.there(young)
    assert kept.there(other)


def test_a_door_keeps_a_number(keeping: Any) -> None:
    """Its newest runs stay, whatever others there are."""
    kept = keeping(door_keep={"ath": Keep(runs=1)})
    runs = [kept.add(days, door="ath") for days in (3, 2, 1)]
    others = [kept.add(days) for days in (3, 2, 1)]
    assert kept.tidy() == set(runs[:2])
    assert all(kept.there(run) for run in others)


def test_the_audit_stays_unless_it_is_told_for_how_long(keeping: Any) -> None:
    """That a run was deleted and what people did outlives runs; a setting of its own ends it."""
    kept = keeping(Keep(days=30))
    old = kept.add(31)
    kept.tidy()
    kept.house.clock.move(9999 * DAY_S)
    kept.tidy()
    assert [event.type for event in kept.store.events(old)] == ["simulation/deleted"]
    assert any(event.type == "token/created" for event in kept.store.events())
    kept.house.services.retention._options = ServerOptions(keep=Keep(days=30), audit_days=100)
    kept.tidy()
    assert kept.store.events() == []


def webhook(kept: Kept, **fields: Any) -> str:
    """Add a webhook that has nothing of the log; return its id."""
    row = WebhookRow(str(uuid.uuid4()), "http://x/", "sealed", [], None, "ada", START, **fields)
    kept.store.add_webhook(row)
    return row.id


def left(kept: Kept, run: str) -> list[str]:
    """Return the types of the events that are left of a run."""
    return [event.type for event in kept.store.events(run)]


def test_no_event_goes_that_a_webhook_has_not_received(keeping: Any) -> None:
    """The events of a removed run wait for who is to be told of them, and go when they have it."""
    kept = keeping(Keep(days=2))
    waiting = webhook(kept)
    webhook(kept, active=False)
    old = kept.add(3)
    kept.tidy()
    assert left(kept, old) == ["simulation/requested", "simulation/deleted"]
    kept.store.change_webhook(waiting, {"cursor": kept.store.last_event()})
    kept.tidy()
    assert left(kept, old) == ["simulation/deleted"]


def test_an_event_waits_for_nobody_for_ever(keeping: Any) -> None:
    """A receiver that fails for ever holds an event 30 days after it happened, and no longer."""
    kept = keeping(Keep(days=2))
    webhook(kept)
    old, older = kept.add(3), kept.add(31)
    kept.tidy()
    assert left(kept, older) == ["simulation/deleted"]
    assert len(left(kept, old)) == 2
    kept.house.clock.move(28 * DAY_S)
    kept.tidy()
    assert left(kept, old) == ["simulation/deleted"]


def test_events_wait_for_nats_where_the_server_is_to_tell_it(keeping: Any) -> None:
    """Also before it was ever reached: it is to get all that is kept."""
    kept = keeping(Keep(days=2), nats="nats://127.0.0.1:1")
    old = kept.add(3)
    kept.tidy()
    assert len(left(kept, old)) == 2
    kept.store.set_cursor("nats", kept.store.last_event(), START)
    kept.tidy()
    assert left(kept, old) == ["simulation/deleted"]


def test_a_folder_that_a_kill_left_is_swept_at_the_next_start(
    keeping: Any, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    """The rows went, then the power: the next start removes the files."""
    if url == "memory:":
        pytest.skip("a store in memory has no next start")
    kept = keeping(Keep(days=30))
    old = kept.add(31)

    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", power_cut)
        with pytest.raises(KeyboardInterrupt):
            kept.tidy()
    assert kept.store.summary(old) is None
    assert (kept.root / old / "file").exists()
    again = keeping(Keep(days=30))
    assert not (again.root / old).exists()


class Sent:
    """A house to which inputs were sent."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.house = kept, kept.house
        self.model = self.house.model()

    def send(self, text: str) -> str:
        """Send an input; return its SHA-256."""
        path = self.house.folder / "sent"
        path.write_text(text)
        self.house.services.runs.store_input(self.house.admin, sha(text.encode()), path)
        return sha(text.encode())

    def queue(self, key: str) -> str:
        """Queue a run that names an input; return its id."""
        wanted = NewRun(model_id=self.model, inputs=[InputFile("mesh.msh", key)])
        return self.house.services.runs.create(self.house.admin, wanted).id

    def there(self, key: str) -> bool:
        """Say whether an input is there, and that its row, its file and the check agree on it."""
        row = self.kept.store.upload(key) is not None
        assert (self.house.services.data / "inputs" / key).exists() is row
        assert self.kept.store.sent_input(key, "admin") is row
        if isinstance(self.kept.store, SqlStore):
            data, database = self.house.services.data, self.kept.store.database
            found = check(data, database, now=time.time() + 1e6)
            assert found.good, found
        return row

    def tidy_later(self, days: float) -> None:
        """Let time pass, and tidy."""
        self.house.clock.move(days * DAY_S)
        assert self.kept.tidy() == set()


def test_inputs_that_no_run_names_go_with_their_age(keeping: Any) -> None:
    """Those of runs stay, also of ended ones, until the run is deleted; it is in the audit."""
    sent = Sent(keeping(inputs_days=10))
    used, unused = sent.send("used"), sent.send("unused")
    run = sent.queue(used)
    sent.tidy_later(9.9)
    assert sent.there(unused)
    young = sent.send("young")
    sent.tidy_later(0.2)
    assert [sent.there(key) for key in (used, unused, young)] == [True, False, True]
    told = sent.kept.store.audit(kind="input/removed")
    assert [event.data for event in told] == [{"sha256": unused, "size": len("unused")}]
    with pytest.raises(NotFound, match="PUT"):
        sent.queue(unused)
    assert sent.there(sent.send("unused"))
    assert sent.queue(unused)

    runs = sent.house.services.runs
    runs.cancel(sent.house.admin, run)
    sent.tidy_later(0.2)
    assert sent.there(used)
    runs.delete(sent.house.admin, run)
    sent.tidy_later(0.2)
    assert not sent.there(used)


def test_inputs_stay_without_the_setting(keeping: Any) -> None:
    """Nobody asked for anything else."""
    sent = Sent(keeping(Keep(days=1)))
    unused = sent.send("unused")
    sent.tidy_later(1000)
    assert sent.there(unused)


def test_an_input_that_was_asked_for_lately_stays_for_the_run_that_will_come(keeping: Any) -> None:
    """Who was told that it is there need not send it: for an hour it does not go."""
    sent = Sent(keeping(inputs_days=1))
    first, second = sent.send("first"), sent.send("second")
    sent.house.clock.move(2 * DAY_S)
    assert sent.house.services.runs.input_path(sent.house.admin, first)
    sent.send("second")
    sent.tidy_later(0)
    assert sent.there(first)
    assert sent.there(second)
    sent.tidy_later(0.9 / 24)
    assert sent.there(first)
    sent.tidy_later(2 / 24)
    sent.tidy_later(2 / 24)
    assert not sent.there(first)
    assert not sent.there(second)


def test_an_input_does_not_go_while_a_run_is_made_of_it(
    keeping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that comes during the look keeps it; one that comes during the removal is refused."""
    sent = Sent(keeping(inputs_days=1))
    kept, gone = sent.send("kept"), sent.send("gone")
    store = sent.kept.store
    made: list[str] = []
    refused: list[NotFound] = []
    look, remove = store.inputs_named, store.remove_uploads

    def looks(after: int, limit: int) -> Any:
        found = look(after, limit)
        if not made:
            made.append(sent.queue(kept))
        return found

    def come_late() -> None:
        try:
            sent.queue(gone)
        except NotFound as error:
            refused.append(error)

    late = threading.Thread(target=come_late)

    def removes(*arguments: Any) -> None:
        late.start()
        remove(*arguments)

    monkeypatch.setattr(store, "inputs_named", looks)
    monkeypatch.setattr(store, "remove_uploads", removes)
    sent.tidy_later(2)
    late.join(30)
    assert made
    assert refused
    assert sent.there(kept)
    assert not sent.there(gone)
