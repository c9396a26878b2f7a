"""Webhooks, with a real server and real receivers over HTTP."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.server import webhooks as carrying
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import rest
from tests.contract.rest_server import RestServer, rest_server
from tests.support.processes import Processes, ServerProcess, Started
from tests.support.wait import wait_until

SECRET = "a secret of tests, long enough"
ROOT = Path(__file__).parents[2]


class Receiver:
    """A receiver in a process of its own; `took` is what it answered with success."""

    def __init__(self, processes: Processes, mode: str = "204") -> None:
        folder = processes.folder / f"receiver-{len(processes.started)}"
        folder.mkdir()
        self.file, self.mode, self.secret = folder / "took", folder / "mode", folder / "secret"
        self.file.touch()
        self.mode.write_text(mode)
        self.secret.write_text(SECRET)
        self._processes = processes
        self.port = processes.port()
        self.process = self._start()

    def _start(self) -> Started:
        files = [str(self.file), str(self.secret), str(self.mode)]
        started = self._processes.start(
            [sys.executable, "-m", "tests.support.receiver", str(self.port), *files],
            name="receiver",
            cwd=ROOT,
        )
        wait_until(
            lambda: f"listening on {self.port}\n" in started.output(),
            timeout=60,
            on_timeout=started.story,
        )
        return started

    def restart(self) -> None:
        """Start it again on its port."""
        self.process = self._start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def lines(self) -> list[dict[str, Any]]:
        """Return all requests."""
        whole, _, _ = self.file.read_text().rpartition("\n")  # not a line that is being written
        return [json.loads(line) for line in whole.splitlines()]

    def took(self) -> list[int]:
        """Return the ids of the events it answered with success, in the order they came."""
        return [int(line["delivery"]) for line in self.lines() if line["status"] in (200, 204)]


def ask(server: ServerProcess | RestServer, method: str, path: str, **body: Any) -> Any:
    token = server.admin if isinstance(server, RestServer) else server.token
    response = requests.request(
        method,
        server.url + path,
        json=body or None,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert response.ok, response.text
    return response.json()


def hook(server: ServerProcess | RestServer, receiver: Receiver, **more: Any) -> str:
    made = ask(server, "POST", rest.WEBHOOKS, url=receiver.url, secret=SECRET, **more)
    assert made["secret"] == SECRET
    found: str = made["id"]
    return found


def happen(server: ServerProcess | RestServer, count: int) -> None:
    """Have runs requested, each with events of its own."""
    for number in range(count):
        claim = {"agent": "here"}
        ask(server, "POST", rest.SIMULATIONS, name=f"run {number}", claim=claim)


def logged(server: ServerProcess | RestServer, types: str = "simulation/*") -> list[int]:
    """Return the ids of all logged events of *types*."""
    page = ask(server, "GET", f"{rest.EVENTS}?limit=1000&types={types}")
    return [event["id"] for event in page["data"]]


def unique(ids: list[int]) -> list[int]:
    """Return *ids* without the later ones of each."""
    return list(dict.fromkeys(ids))


def test_events_arrive_signed_and_in_order(processes: Processes) -> None:
    """A receiver gets every event of its types once, in the log's order, with a good signature."""
    server = processes.server(PHYSICSRUNNER_WEBHOOK_PRIVATE="yes")
    receiver = Receiver(processes)
    wrong = Receiver(processes)
    wrong.secret.write_text("another secret, just as long")
    number = hook(server, receiver, types=["simulation/*"])
    hook(server, wrong, types=["simulation/requested"])
    happen(server, 20)
    expected = logged(server)
    wait_until(lambda: len(receiver.took()) >= len(expected), on_timeout=receiver.lines)
    assert receiver.took() == expected
    lines = receiver.lines()
    assert all(line["good"] and line["webhook"] == number for line in lines)
    events = ask(server, "GET", f"{rest.EVENTS}?limit=1000&types=simulation/*")["data"]
    assert [line["event"] for line in lines] == events
    wait_until(lambda: len(wrong.took()) == 20)
    assert not any(line["good"] for line in wrong.lines())
    assert wrong.took() == logged(server, "simulation/requested")


def test_what_happens_while_everybody_dies_arrives(processes: Processes) -> None:
    """Receiver and server are killed -9 again and again: every event arrives, in order."""
    server = processes.server(PHYSICSRUNNER_WEBHOOK_PRIVATE="yes")
    receiver = Receiver(processes)
    hook(server, receiver, types=["simulation/*"])
    happen(server, 5)
    wait_until(lambda: receiver.took())
    receiver.process.kill()
    happen(server, 5)
    server.kill()
    server.restart()
    happen(server, 5)
    receiver.restart()
    wait_until(lambda: len(unique(receiver.took())) > 15, timeout=60, on_timeout=receiver.lines)
    server.kill()
    server.restart()
    happen(server, 5)
    expected = logged(server)
    wait_until(
        lambda: len(unique(receiver.took())) >= len(expected),
        timeout=60,
        on_timeout=receiver.lines,
    )
    # What came again came from where it went on; nothing was left out and nothing overtook.
    assert unique(receiver.took()) == expected
    assert all(line["good"] for line in receiver.lines())


def test_a_receiver_that_hangs_harms_no_other(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one never answers, another gets everything: it does not wait for the first's end."""
    monkeypatch.setattr(carrying, "TIMEOUT_S", 3600.0)
    options = ServerOptions(webhook_private=True)
    with rest_server(tmp_path / "data", options=options) as server:
        slow, quick = Receiver(processes, "hang"), Receiver(processes)
        hook(server, slow)
        hook(server, quick, types=["simulation/*"])
        happen(server, 10)
        expected = logged(server)
        wait_until(lambda: quick.took() == expected, on_timeout=quick.took)
        wait_until(lambda: slow.lines())
        assert len(slow.lines()) == 1


def test_what_is_refused_comes_again_and_at_last_is_a_dead_letter(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused twice it comes a third time; refused always it is put aside and can be sent again."""
    monkeypatch.setattr(carrying, "FIRST_S", 0.01)
    monkeypatch.setattr(carrying, "LONGEST_S", 0.05)
    options = ServerOptions(webhook_private=True)
    with rest_server(tmp_path / "data", options=options) as server:
        receiver = Receiver(processes, "refuse 2")
        number = hook(server, receiver, types=["simulation/requested"])
        happen(server, 2)
        wait_until(lambda: receiver.took() == logged(server, "simulation/requested"))
        assert [line["try"] for line in receiver.lines()] == [1, 2, 3, 1, 2, 3]
        receiver.mode.write_text("503")
        happen(server, 1)
        place = f"{rest.WEBHOOKS}/{number}"
        letters = wait_until(lambda: ask(server, "GET", f"{place}/dead")["data"], timeout=30)
        lost = logged(server, "simulation/requested")[-1]
        assert [(item["event"], item["tries"]) for item in letters] == [(lost, carrying.TRIES)]
        assert letters[0]["error"] == "answered 503"
        again = f"{place}/dead/{letters[0]['id']}/send"
        assert ask(server, "POST", again)["taken"] is False
        assert ask(server, "GET", f"{place}/dead")["data"][0]["tries"] == carrying.TRIES + 1
        receiver.mode.write_text("200")
        assert ask(server, "POST", again)["taken"] is True
        assert ask(server, "GET", f"{place}/dead")["data"] == []
        happen(server, 1)  # the next ones have their turn
        expected = logged(server, "simulation/requested")
        wait_until(lambda: sorted(unique(receiver.took())) == expected)


def test_the_command_line_makes_lists_tries_and_removes(processes: Processes) -> None:
    """add prints the id and says the secret once; test, list, pause, dead and remove work."""
    server = processes.server(PHYSICSRUNNER_WEBHOOK_PRIVATE="yes")
    receiver = Receiver(processes)
    made = processes.cli("webhooks", "add", receiver.url, "--type", "simulation/*", server=server)
    number = made.stdout.strip()
    assert "secret: " in made.stderr
    secret = made.stderr.split("secret: ")[1].split()[0]
    receiver.secret.write_text(secret)
    assert "taken: 204" in processes.cli("webhooks", "test", number, server=server).stdout
    assert [(line["good"], line["event"]["type"]) for line in receiver.lines()] == [
        (True, "webhook/test")
    ]
    listed = processes.cli("webhooks", "--json", server=server)
    assert [row["id"] for row in listed.json["data"]] == [number]
    assert secret not in listed.stdout
    for file in server.data.glob("physicsrunner.db*"):
        assert secret.encode() not in file.read_bytes()
    processes.cli("webhooks", "pause", number, server=server)
    happen(server, 1)
    processes.cli("webhooks", "resume", number, server=server)
    wait_until(lambda: receiver.lines()[-1]["event"]["type"] != "webhook/test")
    receiver.mode.write_text("500")
    refused = processes.cli("webhooks", "test", number, server=server, check=False)
    assert refused.returncode == 1
    assert "answered 500" in refused.stderr
    assert "no dead letters" in processes.cli("webhooks", "dead", number, server=server).stderr
    processes.cli("webhooks", "remove", number, server=server)
    assert "no webhooks" in processes.cli("webhooks", server=server).stderr


def test_a_webhook_leads_to_public_addresses_alone(processes: Processes) -> None:
    """Without the setting no request goes to this machine or its network, by number or by name."""
    server = processes.server()
    for url in (
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest",
        "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/",
        "ftp://example.org/",
        "http://user:pw@example.org/",
        "http:///x",
        "nothing",
        "http://example.org:0/",
        "http://example.org/\r\nX: y",
    ):
        response = requests.post(
            server.url + rest.WEBHOOKS,
            json={"url": url},
            headers={"Authorization": f"Bearer {server.token}"},
            timeout=30,
        )
        assert response.status_code == 422, url
    receiver = Receiver(processes)
    by_name = receiver.url.replace("127.0.0.1", "localhost")
    number = ask(server, "POST", rest.WEBHOOKS, url=by_name)["id"]
    outcome = ask(server, "POST", f"{rest.WEBHOOKS}/{number}/test")
    assert outcome["taken"] is False
    assert "not a public address" in outcome["error"]
    assert receiver.lines() == []
