"""One run, seen and asked for through every door of a real server, in each door's words."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import requests

from physicsrunner.core.run import DOORS
from physicsrunner.wire import rest
from physicsrunner.wire.frames import FrameDecoder, encode_frame
from tests.contract.rest_server import zip_of
from tests.support.agents import MAIN, Fleet
from tests.support.processes import Processes
from tests.support.wait import wait_until

#: native, physicsworks, shakescenario, ath, architech
QUEUED = ["queued", "pending", "queued", "queued", "RUNNING"]
RUNNING = ["running", "running", "running", "running", "RUNNING"]
PAUSED = ["paused", "running", "running", "running", "PAUSED"]
COMPLETED = ["completed", "finished", "completed", "complete", "COMPLETED"]
FAILED = ["failed", "failed", "failed", "error", "FAILED"]
CANCELLED = ["cancelled", "canceled", "canceled", "cancelled", "FAILED"]
SOLVE = {"frequency_range": [200, 2000], "num_frequencies": 3, "sim_type": "2"}


class Doors:
    """A server with all doors, an agent, and a program without a token at each door."""

    def __init__(self, processes: Processes) -> None:
        self.port = processes.port()
        self.fleet = Fleet(
            processes,
            PHYSICSRUNNER_DOORS=", ".join(DOORS),
            PHYSICSRUNNER_DOOR_USER="admin",
            PHYSICSRUNNER_SHAKESCENARIO_PORT=str(self.port),
            PHYSICSRUNNER_SHAKESCENARIO_MODEL="roped",
            PHYSICSRUNNER_ATH_MODEL="roped",
        )
        body = zip_of({"main.py": MAIN.encode()})
        self.model = self.fleet.call("POST", f"{rest.MODELS}?name=roped", data=body).json()["id"]

    def http(self, method: str, path: str, **kwargs: Any) -> Any:
        """Make one request without a token."""
        answer = requests.request(method, self.fleet.server.url + path, timeout=30, **kwargs)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def tcp(self, op: str, **payload: Any) -> Any:
        """Make one request on the TCP line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
            line.sendall(encode_frame({"v": 1, "op": op, "req_id": "1", "payload": payload}))
            decoder = FrameDecoder()
            while (answer := decoder.feed(line.recv(65536))) is None:
                pass
        assert answer["ok"], answer
        return answer["result"]

    def words(self, run: str) -> list[str]:
        """Return where a run stands, at the native API and then at each door."""
        native = self.fleet.run(run)
        job = self.tcp("get", id=native["number"])
        return [
            native["status"],
            self.http("GET", f"/physicsworks/api/v1/jobs/{run}")["status"],
            job.get("job", job)["status"],
            self.http("GET", f"/ath/api/status/{run}")["status"],
            self.http("GET", f"/architech/api/v1/simulations/{run}/status")["status"],
        ]

    def await_words(self, run: str, words: list[str]) -> None:
        wait_until(
            lambda: self.words(run) == words,
            timeout=60,
            on_timeout=lambda: f"{self.words(run)} is not {words}\n{self.fleet.story()}",
        )

    def lists(self, *, every: bool) -> list[set[str]]:
        """Return which runs each door lists: its own, or all."""
        more = "?all=true" if every else ""
        numbers = self.tcp("list", **({"all": True} if every else {}))["jobs"]
        ids = {run["number"]: run["id"] for run in self.native_list()}
        return [
            {job["id"] for job in self.http("GET", f"/physicsworks/api/v1/jobs{more}")["data"]},
            {ids[job["id"]] for job in numbers},
            {job["id"] for job in self.http("GET", f"/ath/api/jobs{more}")["items"]},
            {run["id"] for run in self.http("GET", f"/architech/api/v1/simulations{more}")},
        ]

    def native_list(self) -> list[dict[str, Any]]:
        return list(self.fleet.call("GET", rest.SIMULATIONS).json()["data"])


@pytest.fixture
def doors(processes: Processes) -> Doors:
    """Give a server with all doors, without an agent yet."""
    return Doors(processes)


def test_a_run_stands_at_every_door_where_it_stands(doors: Doors) -> None:
    """Queued, running, paused by one door, let go on by another, completed, failed."""
    fleet = doors.fleet
    run, bad = fleet.submit("one"), fleet.submit("bad", code=3)
    assert doors.words(run) == QUEUED
    fleet.agent("node")
    fleet.started("one")
    doors.await_words(run, RUNNING)
    doors.http("POST", f"/architech/api/v1/simulations/{run}/pause")
    doors.await_words(run, PAUSED)
    fleet.ask(run, "resume")
    doors.await_words(run, RUNNING)
    fleet.let_go("one", "bad")
    doors.await_words(run, COMPLETED)
    doors.await_words(bad, FAILED)
    fleet.check(run, "one")


@pytest.mark.parametrize("door", DOORS)
def test_a_stop_at_one_door_is_seen_at_all(doors: Doors, door: str) -> None:
    """The program is asked once, whatever door it was, and the run ends cancelled everywhere."""
    fleet = doors.fleet
    run = fleet.submit("one")
    fleet.agent("node")
    fleet.started("one")
    if door == "shakescenario":
        doors.tcp("cancel", job_id=fleet.run(run)["number"])
    else:
        path = {
            "physicsworks": f"/physicsworks/api/v1/jobs/abort/{run}",
            "ath": f"/ath/api/stop/{run}",
            "architech": f"/architech/api/v1/simulations/{run}/stop",
        }[door]
        doors.http("POST", path)
    assert doors.http("GET", f"/ath/api/status/{run}")["status"] == "cancelled"
    doors.await_words(run, CANCELLED)


def test_each_door_lists_its_own_runs_and_all_when_asked(doors: Doors) -> None:
    """A run came by one door; the others show it by its id, and in their lists on request."""
    project = "/physicsworks/api/v1/simulation/run"
    theirs = doors.http("POST", f"{project}/{doors.model}", json={})
    tcp = doors.tcp("submit", mag=5.2, lon=12.34, lat=45.67, depth=10)
    number = tcp.get("job", tcp)["id"]
    solve = {**SOLVE, "formula_type": "OSSE", "label": "mine"}
    horn = doors.http("POST", "/ath/api/solve", json=solve)["job_id"]
    native = doors.fleet.submit("native")
    by_door = {run.get("door"): run["id"] for run in doors.native_list()}
    assert by_door == {
        "physicsworks": by_door["physicsworks"],
        "shakescenario": doors.fleet.run(str(number))["id"],
        "ath": horn,
        None: native,
    }, theirs
    own = [by_door[door] for door in DOORS[:3]]
    assert doors.lists(every=False) == [{own[0]}, {own[1]}, {own[2]}, set()]
    assert doors.lists(every=True) == [{*own, native}] * 4
    for run in (*own, native):
        assert doors.words(run) == QUEUED


def test_what_a_browser_brings_from_elsewhere_is_nobody(doors: Doors) -> None:
    """A page of another site, or a name that was led here, has no rights without a token."""
    run = doors.fleet.submit("one")
    url = doors.fleet.server.url
    for headers in ({"Origin": "https://evil.example.org"}, {"Host": "evil.example.org"}):
        for path in (
            f"/physicsworks/api/v1/jobs/{run}",
            f"/ath/api/status/{run}",
            f"/architech/api/v1/simulations/{run}/status",
        ):
            answer = requests.get(url + path, headers=headers, timeout=30)
            assert answer.status_code == 401, (path, headers, answer.text)
            token = {"Authorization": f"Bearer {doors.fleet.server.token}"}
            if path.startswith("/physicsworks"):
                token = {"auth-token": doors.fleet.server.token}
            known = requests.get(url + path, headers={**headers, **token}, timeout=30)
            assert known.ok, (path, headers, json.dumps(known.json()))
