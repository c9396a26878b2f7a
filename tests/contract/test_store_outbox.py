"""What every store keeps for those who carry its events further (`store.outbox`)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import RunRecord
from physicsrunner.store import memory_outbox, sql_outbox
from physicsrunner.store.base import Store
from physicsrunner.store.memory import MemoryStore
from physicsrunner.store.outbox import EventFilter, Readable, WebhookRow
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire.live import Event

START = 1_000.0


@pytest.fixture(params=("memory", "sqlite", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store, empty."""
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = SqlStore(f"sqlite:///{tmp_path / 'store.db'}")
    else:
        opened = SqlStore(request.getfixturevalue("postgres"))
    yield opened
    opened.close()


def fact(kind: str, run: str | None = None, project: str | None = None) -> Event:
    return Event(kind, run, 1, project, START, {"a": [1, "é"]})


def webhook(**fields: Any) -> WebhookRow:
    row = WebhookRow(str(uuid.uuid4()), "http://x/", "sealed", ["a/*"], None, "ada", START)
    return replace(row, **fields)


def types(store: Store, wanted: EventFilter) -> list[str]:
    return [event.type for event in store.find_events(wanted).events]


def test_a_page_tells_how_far_it_looked(store: Store) -> None:
    """Who goes on from `upto` gets every event once, whatever the filter passes over."""
    told = store.append_events([fact(f"simulation/{n % 3}") for n in range(10)])
    assert store.last_event() == told[-1].id
    wanted = EventFilter(types=["*/1"], limit=2)
    page = store.find_events(wanted)
    assert [event.id for event in page.events] == [told[1].id, told[4].id]
    assert page.upto == told[4].id
    rest = store.find_events(replace(wanted, after=page.upto))
    assert [event.id for event in rest.events] == [told[7].id]
    assert rest.upto == told[-1].id
    nothing = store.find_events(replace(wanted, after=rest.upto))
    assert (nothing.events, nothing.upto) == ([], told[-1].id)
    beyond = store.find_events(EventFilter(after=10**9))
    assert (beyond.events, beyond.upto) == ([], 10**9)
    assert page.events[0] == told[1]
    assert store.event(told[3].id or 0) == told[3]
    assert store.event(10**9) is None


def test_an_empty_log_is_a_page(store: Store) -> None:
    """Nothing has happened: no event, and the cursor stays where it was."""
    page = store.find_events(EventFilter())
    assert (page.events, page.upto, store.last_event()) == ([], 0, 0)


def test_one_call_looks_at_a_bounded_part_of_the_log(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that nothing fits does not read a long log in one go, and gets to its end."""
    for module in (sql_outbox, memory_outbox):
        monkeypatch.setattr(module, "SCAN", 3)
    told = store.append_events([fact("a/b") for _ in range(7)] + [fact("a/c")])
    wanted, calls = EventFilter(types=["a/c"]), 0
    while not (page := store.find_events(wanted)).events:
        assert page.upto > wanted.after
        wanted, calls = replace(wanted, after=page.upto), calls + 1
    assert calls == 2
    assert page.events[0].id == told[-1].id


def test_types_are_patterns(store: Store) -> None:
    """A star is anything; what means something to the database is only a letter."""
    kinds = ["simulation/started", "simulation/resource/released", "agent/joined", "a_c", "abc"]
    store.append_events([fact(kind) for kind in kinds])
    for patterns, expected in (
        ([], kinds),
        (["*"], kinds),
        (["simulation/*"], kinds[:2]),
        (["*/released", "agent/joined"], kinds[1:3]),
        (["a_c"], ["a_c"]),
        (["%"], []),
        (["*e*e*e*"], ["simulation/resource/released"]),
        (["simulation"], []),
    ):
        assert types(store, EventFilter(types=patterns)) == expected, patterns


def test_what_may_be_read_is_held_by_the_store(store: Store) -> None:
    """Of projects the named ones; of no project one's own runs; nothing that is of no run."""
    runs = {}
    for name, by, project in (
        ("mine", "ada", None),
        ("hers", "eve", None),
        ("in", "eve", "p"),
        ("out", "ada", "q"),
    ):
        run = RunRecord(str(uuid.uuid4()), 0, name, by, START, START, project_id=project)
        store.add_run(run, [fact(name, run.id, project)])
        runs[name] = run.id
    kinds = (("agent/joined", None), ("webhook/added", "p"), ("member/set", "p"))
    store.append_events([fact(kind, None, project) for kind, project in kinds])
    ada = Readable(frozenset({"p"}), "ada")
    assert types(store, EventFilter(readable=ada)) == ["mine", "in", "webhook/added"]
    assert types(store, EventFilter(readable=ada, project="q")) == []
    assert types(store, EventFilter(readable=ada, run=runs["hers"])) == []
    assert types(store, EventFilter(readable=Readable())) == []
    assert types(store, EventFilter(readable=Readable(run=runs["hers"]))) == ["hers"]
    assert len(types(store, EventFilter())) == 7


def test_a_cursor_never_goes_back(store: Store) -> None:
    """A late writer cannot make a consumer get everything again."""
    assert store.cursor("nats") is None
    store.set_cursor("nats", 0, START)
    assert store.cursor("nats") == 0
    store.set_cursor("nats", 7, START)
    store.set_cursor("nats", 3, START)
    assert store.cursor("nats") == 7
    assert store.cursor("other") is None


def test_webhooks_are_kept_changed_and_removed(store: Store) -> None:
    """A webhook comes back as it was kept; its cursor never goes back."""
    first, second = webhook(cursor=4), webhook(created_at=START + 1, project_id="p", types=[])
    store.add_webhook(second)
    store.add_webhook(first)
    assert store.webhooks() == [first, second]
    changed = store.change_webhook(first.id, {"failures": 2, "next_try_at": 5.0, "cursor": 2})
    assert changed == replace(first, failures=2, next_try_at=5.0)
    assert store.webhook(first.id) == changed
    assert store.change_webhook(first.id, {}) == changed
    assert store.change_webhook("none", {"failures": 1}) is None
    assert store.webhook("none") is None
    assert store.remove_webhook(first.id)
    assert not store.remove_webhook(first.id)
    assert store.webhooks() == [second]


def test_a_dead_letter_and_the_cursor_are_one(store: Store) -> None:
    """What was buried is passed over, once; its letters go with their webhook."""
    row, other = webhook(failures=12, next_try_at=9.0), webhook()
    store.add_webhook(row)
    store.add_webhook(other)
    assert store.bury(row.id, 5, tries=12, error="no", now=START)
    assert not store.bury(row.id, 5, tries=12, error="no", now=START)
    assert store.bury(row.id, 6, tries=12, error="no", now=START)
    assert not store.bury("none", 6, tries=12, error="no", now=START)
    kept = store.webhook(row.id)
    assert kept is not None
    assert (kept.cursor, kept.failures, kept.next_try_at, kept.last_error) == (6, 0, None, "no")
    letters = store.dead_letters(row.id)
    assert [letter.event_id for letter in letters] == [5, 6]
    assert store.dead_letters(row.id, letters[0].id) == letters[1:]
    assert store.dead_letters(row.id, limit=1) == letters[:1]
    store.change_dead_letter(letters[0].id, tries=13, error="still no", now=START + 1)
    assert store.dead_letters(row.id)[0] == replace(
        letters[0], tries=13, error="still no", time=START + 1
    )
    assert store.remove_dead_letter(letters[0].id)
    assert not store.remove_dead_letter(letters[0].id)
    assert store.dead_letters(other.id) == []
    assert store.remove_webhook(row.id)
    assert store.dead_letters(row.id) == []
