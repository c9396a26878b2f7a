"""`GET /api/v1/events`, the client's `EventLog`, and ``physicsrunner events``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from physicsrunner.client.client import Client
from physicsrunner.client.events import EventLog
from physicsrunner.service.events import MAX_PAGE
from physicsrunner.wire import live, rest
from tests.contract.rest_server import RestServer, rest_server
from tests.process.test_webhooks import ask, happen
from tests.support.processes import Processes
from tests.support.wait import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server of each test's own."""
    with rest_server(tmp_path / "data") as running:
        yield running


def test_pages_go_on_where_the_last_one_ended(server: RestServer) -> None:
    """With ``next`` every event comes once, with every filter and size of page."""
    happen(server, 5)
    run = server.value("GET", rest.SIMULATIONS)["data"][0]
    everything = server.value("GET", f"{rest.EVENTS}?limit={MAX_PAGE}")["data"]
    of_kind = [event for event in everything if event["type"] == live.REQUESTED]
    for query, expected in (
        ("limit=2", everything),
        ("limit=1&types=simulation/requested", of_kind),
        (f"limit=3&run={run['id']}", [e for e in everything if e["run"] == run["id"]]),
        (f"limit=3&run={run['number']}", [e for e in everything if e["run"] == run["id"]]),
        ("limit=4&types=user/*,token/*", [e for e in everything if e["run"] is None]),
        ("limit=4&project=none", []),
    ):
        found, after = [], 0
        while True:
            page = server.value("GET", f"{rest.EVENTS}?{query}&after={after}")
            found += page["data"]
            if page["next"] == after:
                break
            after = page["next"]
        assert found == expected, query
        assert after == page["newest"] == everything[-1]["id"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("after=-1", 422),
        ("after=x", 422),
        ("after=99999999999999999999", 422),
        ("limit=0", 422),
        ("limit=100000", 422),
        ("wait=31", 422),
        ("wait=nan", 422),
        ("types=a%20b", 422),
        ("types=" + "a,b," * 40, 422),
        ("run=4711", 404),
        ("run=../x", 404),
        ("after=9223372036854775807", 200),
    ],
)
def test_what_cannot_be_asked_is_said(server: RestServer, query: str, status: int) -> None:
    """Wrong questions are answered with what is wrong."""
    assert server.call("GET", f"{rest.EVENTS}?{query}").status_code == status


def test_who_waits_is_answered_when_something_happens(server: RestServer) -> None:
    """A long poll ends with the first event that fits, and at the server's end."""
    newest = server.value("GET", rest.EVENTS)["newest"]
    answers: list[dict[str, list[dict[str, str]]]] = []

    def wait(query: str) -> None:
        with Client(server.url, server.admin) as client:
            asked = f"{rest.EVENTS}?after={newest}&wait=30&{query}"
            answers.append(client.http.value("GET", asked, read_s=60))

    one = threading.Thread(target=wait, args=("types=simulation/requested",))
    other = threading.Thread(target=wait, args=("types=agent/paused",))
    one.start()
    other.start()
    happen(server, 1)
    one.join(20)
    assert [event["type"] for event in answers[0]["data"]] == [live.REQUESTED]
    assert other.is_alive()
    server.services._store.append_events([live.Event("agent/paused", None, None, None, 1.0)])
    other.join(20)
    assert [event["type"] for event in answers[1]["data"]] == ["agent/paused"]


def test_who_waits_hears_nothing_when_their_token_is_revoked(server: RestServer) -> None:
    """A long poll that waited with a token that is no longer good is refused, not answered."""
    newest = server.value("GET", rest.EVENTS)["newest"]
    made = server.value("POST", rest.TOKENS, json={"name": "waits"})
    answers: list[requests.Response] = []

    def wait() -> None:
        asked = f"{server.url}{rest.EVENTS}?after={newest}&wait=30&types=simulation/requested"
        headers = {"Authorization": f"Bearer {made['token']}"}
        answers.append(requests.get(asked, headers=headers, timeout=60))

    one = threading.Thread(target=wait)
    one.start()
    used = f"{rest.TOKENS}?user=admin"
    wait_until(
        lambda: any(
            row["id"] == made["id"] and "last_used_at" in row
            for row in server.value("GET", used)["data"]
        )
    )
    server.value("DELETE", rest.token(made["id"]))
    happen(server, 1)
    one.join(40)
    assert [answer.status_code for answer in answers] == [401]


def test_a_log_is_followed_over_a_restart_of_the_server(processes: Processes) -> None:
    """`EventLog.follow` gives every event once and in order, whatever happens to the server."""
    server = processes.server()
    seen: list[int] = []
    stop = threading.Event()

    def follow() -> None:
        with Client(server.url, server.token, patience_s=60) as client:
            log = EventLog(client)
            for event in log.follow():
                seen.append(event.id or 0)
                if stop.is_set():
                    return

    reader = threading.Thread(target=follow)
    reader.start()
    for _ in range(2):
        happen(server, 2)
        server.kill()
        server.restart()
    happen(server, 2)
    newest = ask(server, "GET", rest.EVENTS)["newest"]
    wait_until(lambda: seen and seen[-1] == newest, timeout=60, on_timeout=lambda: seen)
    stop.set()
    happen(server, 1)
    reader.join(30)
    assert not reader.is_alive()
    assert seen == list(range(1, len(seen) + 1))


def test_the_command_line_lists_and_follows(processes: Processes) -> None:
    """`events` shows the latest, one run's, those behind an id; --follow goes on."""
    server = processes.server()
    happen(server, 2)
    listed = processes.cli("events", server=server).stdout
    assert "simulation/requested" in listed
    assert "run 2" in listed
    of_one = processes.cli("events", "--run", "1", "--json", server=server)
    events = [json.loads(line) for line in of_one.stdout.splitlines()]
    assert {event["data"]["number"] for event in events} == {1}
    after = str(events[0]["id"])
    some = processes.cli("events", "--run", "1", "--after", after, "--json", server=server)
    assert [json.loads(line) for line in some.stdout.splitlines()] == events[1:]
    none = processes.cli("events", "--type", "simulation/failed", "--after", "0", server=server)
    assert "no events" in none.stderr
    wrong = processes.cli("events", "--run", "4711", server=server, check=False)
    assert wrong.returncode == 6
    following = processes.python(
        *("events", "--follow", "--json", "--type", "simulation/requested", "--after", "0"),
        environment={"PHYSICSRUNNER_SERVER": server.url, "PHYSICSRUNNER_TOKEN": server.token},
    )
    wait_until(lambda: following.output().count("\n") == 2, timeout=30, on_timeout=following.story)
    happen(server, 1)
    wait_until(lambda: following.output().count("\n") == 3, timeout=30, on_timeout=following.story)
    following.stop()
