"""Kinds of events, their patterns and classes, signatures, and who is woken for what."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import physicsrunner.events as events
from physicsrunner.errors import MissingExtra, NotAuthenticated
from physicsrunner.server import waker as waking
from physicsrunner.server.waker import Waker
from physicsrunner.server.webhooks import LONGEST_S, TRIES, wait_s
from physicsrunner.server.ws import CODES
from physicsrunner.wire import live, webhooks
from physicsrunner.wire.live import Event

LOGGED = sorted(
    value
    for name, value in vars(live).items()
    if name.isupper() and isinstance(value, str) and "/" in value[1:] and value[0] != "/"
)


@pytest.mark.parametrize(
    ("patterns", "kind", "fits"),
    [
        ([], "a/b", True),
        (["a/b"], "a/b", True),
        (["a/*"], "a/b/c", True),
        (["*/c"], "a/b/c", True),
        (["a*c"], "a/b/c", True),
        (["*a*a*"], "a/b", False),
        (["a/b*b"], "a/b", False),
        (["a"], "a/b", False),
        (["x", "*"], "a/b", True),
    ],
)
def test_a_star_is_anything(patterns: list[str], kind: str, fits: bool) -> None:
    """Patterns match whole types; none at all match every type."""
    assert live.type_matches(patterns, kind) is fits


@given(st.lists(st.text("ab/", max_size=4), min_size=1, max_size=4), st.data())
def test_what_a_pattern_stands_for_it_matches(parts: list[str], data: st.DataObject) -> None:
    """Any text put in the place of each star gives a type that the pattern fits."""
    kind = parts[0]
    for part in parts[1:]:
        kind += data.draw(st.text("ab/", max_size=4)) + part
    assert live.type_matches(["*".join(parts)], kind)


def test_every_event_of_runs_and_agents_has_its_pair() -> None:
    """A publisher and a listener for each logged kind, and Job names for those of runs."""
    for what in ("Publisher", "Listener"):
        classes = [getattr(events, name) for name in events.__all__ if name.endswith(what)]
        kinds = {found.kind for found in classes if hasattr(found, "kind")}
        wanted = {
            kind
            for kind in LOGGED
            if kind.startswith(("simulation/", "agent/")) and kind not in live.LIVE_ONLY
        }
        assert kinds == wanted | {"simulation/updated"}
    for word in ("Created", "Started", "Updated", "Completed", "Failed", "Cancelled", "Retried"):
        assert hasattr(events, f"Job{word}Publisher")
        assert hasattr(events, f"Job{word}Listener")


def test_the_package_is_light_until_it_is_used() -> None:
    """Importing it loads neither nats-py nor anything else heavy."""
    code = (
        "import sys, physicsrunner.events as e; e.JobCreatedListener; "
        "print([n for n in ('nats', 'requests', 'sqlalchemy', 'fastapi', 'socketio') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nats-py is missing, the error names the extra."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "nats" else find(name, *a)
    )
    with pytest.raises(MissingExtra, match="events"):
        events.JobCreatedPublisher(None)


def signed(secret: str, stamp: int, body: bytes) -> dict[str, str]:
    return {
        webhooks.TIMESTAMP.upper(): str(stamp),
        webhooks.SIGNATURE.lower(): webhooks.sign(secret, stamp, body),
    }


def test_a_signature_covers_time_and_body() -> None:
    """The right one passes, in whatever letter case; every change of it is refused."""
    body, stamp = b'{"id": 1}', 1_700_000_000
    good = signed("s" * 20, stamp, body)
    events.verify_webhook("s" * 20, good, body, now=stamp + 299)
    two = {**good, webhooks.SIGNATURE.lower(): f"v1=00,{webhooks.sign('s' * 20, stamp, body)}"}
    events.verify_webhook("s" * 20, two, body, now=stamp)
    wrong: list[tuple[str, dict[str, str], bytes, float]] = [
        ("t" * 20, good, body, stamp),
        ("s" * 20, good, body + b" ", stamp),
        ("s" * 20, good, body, stamp + 301),
        ("s" * 20, good, body, stamp - 301),
        ("s" * 20, {**good, webhooks.TIMESTAMP.upper(): str(stamp + 1)}, body, stamp),
        ("s" * 20, {**good, webhooks.TIMESTAMP.upper(): "²"}, body, stamp),
        ("s" * 20, {**good, webhooks.TIMESTAMP.upper(): "-1"}, body, stamp),
        ("s" * 20, {webhooks.TIMESTAMP: str(stamp)}, body, stamp),
        ("s" * 20, {**good, webhooks.SIGNATURE.lower(): "v1=é"}, body, stamp),
        ("s" * 20, {}, body, stamp),
    ]
    for secret, headers, said, now in wrong:
        with pytest.raises(NotAuthenticated):
            events.verify_webhook(secret, headers, said, now=now)


def test_a_webhook_is_tried_later_and_later() -> None:
    """The waits double from one second to ten minutes; all tries together take half an hour."""
    waits = [wait_s(tries, lambda: 1.0) for tries in range(1, TRIES)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST_S
    assert wait_s(1, lambda: 0.0) == 0.5


class Woken:
    """A waker with agents that are told, by name."""

    def __init__(self, *agents: str) -> None:
        self.agents = agents
        self.told: list[str] = []
        self.waker = Waker(self.told.append, lambda: self.agents)

    def take(self, kind: str, run: str, **data: Any) -> None:
        self.waker.take(Event(kind, run, 1, None, 0.0, data, id=1))

    async def for_a_while(self, work: Any = None, ticks: int = 40) -> None:
        task = asyncio.create_task(self.waker.run())
        for _ in range(ticks):
            if work is not None:
                work()
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_idlest_agent_is_told_first_and_the_others_are_let_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One run that is taken wakes one agent: the one that carries out least."""
    monkeypatch.setattr(waking, "WAVE_S", 0.005)

    async def all_of_it() -> list[str]:
        woken = Woken(*(f"a{number}" for number in range(100)))
        for number in range(100):
            if number != 42:
                woken.take(live.PREPARING, f"old{number}", agent=f"a{number}")
        woken.take(live.QUEUED, "new")

        def taken() -> None:
            if woken.told:
                woken.take(live.PREPARING, "new", agent=woken.told[0])

        await woken.for_a_while(taken)
        return woken.told

    assert asyncio.run(all_of_it()) == ["a42"]


def test_everybody_is_told_when_nobody_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that only the last agent can take reaches it in a few waves, each agent told once."""
    monkeypatch.setattr(waking, "WAVE_S", 0.0)
    monkeypatch.setattr(waking, "ROUND_S", 60.0)

    async def all_of_it() -> list[str]:
        woken = Woken(*(f"a{number}" for number in range(100)))
        woken.take(live.QUEUED, "new")
        await woken.for_a_while()
        return woken.told

    told = asyncio.run(all_of_it())
    assert sorted(told) == sorted({f"a{number}" for number in range(100)})


def test_a_run_that_is_tried_again_waits_until_it_is_due() -> None:
    """Agents are told when its time has come, at once without a delay, and not if it was ended."""

    async def all_of_it() -> list[str]:
        woken = Woken("a")
        woken.take(live.RETRIED, "1", not_before=3600.0)
        woken.take(live.RETRIED, "2", not_before=0.02)
        woken.take(live.CANCELLED, "2")
        await woken.for_a_while()
        assert woken.waker._later == {}  # its timer ended with the waker that was cancelled
        return woken.told

    assert asyncio.run(all_of_it()) == []

    async def waiting() -> list[str]:
        woken = Woken("a")
        woken.take(live.RETRIED, "1", not_before=0.02)
        woken.take(live.RETRIED, "2", not_before=0.0)
        await woken.for_a_while()
        return woken.told

    assert asyncio.run(waiting())[0] == "a"


def test_the_page_names_every_event_and_no_other() -> None:
    """docs/events.md has a row for each type, and none that does not exist."""
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    tables = page.partition("## What each event says")[2]
    rows = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([a-z/]+)`", row)]
    assert sorted(named) == LOGGED
    live_only = tables.partition("Live only")[2]
    assert all((f"`{kind}`" in live_only) == (kind in live.LIVE_ONLY) for kind in LOGGED)
    for code, words in CODES.items():
        assert f"| {code} | {words}".replace(" after", " `after`") in page, code


def test_nobody_is_told_of_what_does_not_wait() -> None:
    """What was held, cancelled or deleted before anybody was told wakes nobody."""

    async def all_of_it() -> list[str]:
        woken = Woken("a")
        for run, kind in (("1", live.HELD), ("2", live.CANCELLED), ("3", live.DELETED)):
            woken.take(live.QUEUED, run)
            woken.take(kind, run)
        await woken.for_a_while()
        return woken.told

    assert asyncio.run(all_of_it()) == []
