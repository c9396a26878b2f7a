"""The acoustics door with real processes: jobs of a main.py, clients that poll, and kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.contract.ath_door import MESH, SOLVE
from tests.contract.rest_server import zip_of
from tests.support.agents import Fleet, lives, send
from tests.support.processes import Processes
from tests.support.wait import wait_until

#: Says where it is, leaves a mesh, and waits at its rope; then it leaves its results.
MAIN = """\
import json, os, pathlib, sys, time
from physicsrunner import solver
given = solver.inputs()
name, rope = given["name"], pathlib.Path(given["rope"])
with (rope / (name + ".starts")).open("a") as file:
    file.write(str(os.getpid()) + "\\n")
(solver.files_dir() / "horn.msh").write_text("$Elements\\n0\\n$EndElements\\n")
solver.progress(42, "Solving BEM frequencies", step="bem_solve")
ticks = 0
while not (rope / (name + ".go")).exists():
    if solver.stop_requested() and not given.get("deaf"):
        sys.exit(9)
    ticks += 1
    (rope / (name + ".ticks")).write_text(str(ticks))
    time.sleep(0.02)
mesh = solver.inputs_dir() / "mesh.json"
tags = json.loads(mesh.read_text())["surfaceTags"] if mesh.exists() else None
found = {"tags": tags, "count": given["num_frequencies"]}
(solver.files_dir() / "results.json").write_text(json.dumps(found))
"""
LEASE_S, GRACE_S = 4.0, 2.0


class Client:
    """A client of the document: it knows the address, and polls."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        body = zip_of({"main.py": MAIN.encode()})
        fleet.call("POST", "/api/v1/models?name=rope", data=body)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Make one request, without a token."""
        url = f"{self.fleet.server.url}/ath/api/{path}"
        return requests.request(method, url, timeout=30, **more)

    def solve(self, name: str, **more: Any) -> str:
        """Have a job solved."""
        fields = {**SOLVE, "name": name, "rope": str(self.fleet.rope), **more}
        answer = self.ask("POST", "solve", json=fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def poll(
        self, until: Callable[[dict[str, dict[str, Any]]], Any], timeout: float = 60.0
    ) -> dict[str, dict[str, Any]]:
        """Ask for the list once a second, as a browser does, until it shows what is waited for."""
        found: dict[str, dict[str, Any]] = {}

        def look() -> bool:
            found.clear()
            try:
                answer = self.ask("GET", "jobs?limit=200&offset=0")
            except requests.ConnectionError:
                return False  # the server is away: the client tries again
            found.update({item["id"]: item for item in answer.json()["items"]})
            return bool(until(found))

        wait_until(
            look,
            timeout=timeout,
            interval=1.0,
            on_timeout=lambda: f"{json.dumps(found, indent=1)}\n{self.fleet.story()}",
        )
        return found

    def wait(self, job: str, status: str, timeout: float = 60.0) -> dict[str, Any]:
        """Poll until a job is in a state; return its item."""
        return self.poll(lambda found: found[job]["status"] == status, timeout)[job]


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server with the door, as this machine's admin, and one agent with room for three."""
    fleet = Fleet(
        processes,
        lease_s=LEASE_S,
        grace_s=GRACE_S,
        PHYSICSRUNNER_DOORS="ath",
        PHYSICSRUNNER_DOOR_USER="admin",
        PHYSICSRUNNER_ATH_MODEL="rope",
    )
    fleet.agent("here", "--slots", "3", "--cores", "3")
    return fleet


def test_a_job_from_its_request_to_its_deletion(fleet: Fleet) -> None:
    """Queued, running with its stage and its mesh, complete with its results, deleted."""
    client = Client(fleet)
    job = client.solve("one", mesh=MESH, label="Tritonia")
    second = client.solve("two")
    found = client.poll(lambda found: found[job]["has_mesh_artifact"])
    running = found[job]
    assert (running["status"], running["progress"], running["label"]) == (
        "running",
        0.42,
        "Tritonia",
    )
    assert (running["stage"], running["stage_message"]) == ("bem_solve", "Solving BEM frequencies")
    assert (running["has_results"], running["completed_at"]) == (False, None)
    assert found[second]["status"] == "queued", "one at a time"
    assert client.ask("GET", f"results/{job}").status_code == 400
    assert client.ask("DELETE", f"jobs/{job}").status_code == 409
    fleet.let_go("one", "two")
    complete = client.wait(job, "complete")
    assert (complete["progress"], complete["has_results"]) == (1.0, True)
    assert complete["created_at"] <= complete["started_at"] <= complete["completed_at"]
    results = client.ask("GET", f"results/{job}")
    assert results.json() == {"tags": MESH["surfaceTags"], "count": 48}
    mesh = client.ask("GET", f"mesh-artifact/{job}")
    assert mesh.text.endswith("$EndElements\n")
    client.wait(second, "complete")
    assert client.ask("GET", f"results/{second}").json()["tags"] is None
    assert client.ask("DELETE", f"jobs/{job}").json() == {"deleted": True, "job_id": job}
    assert client.ask("GET", f"status/{job}").status_code == 404
    assert not list(fleet.server.data.glob(f"simulations/{job}*"))
    assert list(client.poll(lambda _found: True)) == [second]


def test_a_running_job_is_stopped(fleet: Fleet) -> None:
    """It reads cancelled at once, its program ends, and the next one follows."""
    client = Client(fleet)
    job, waits, last = client.solve("one"), client.solve("two"), client.solve("three")
    pid = fleet.started("one")
    client.wait(job, "running")
    assert client.ask("POST", f"stop/{waits}").json()["status"] == "cancelled"
    assert client.ask("POST", f"stop/{job}").json()["status"] == "cancelled"
    assert client.ask("GET", f"status/{job}").json()["status"] == "cancelled"
    wait_until(lambda: not lives(pid), on_timeout=fleet.story)
    fleet.started("three")
    fleet.let_go("three")
    client.wait(last, "complete")
    assert client.wait(job, "cancelled")["error_message"] == "Cancelled by user"
    assert fleet.pids("two") == []
    assert client.ask("GET", f"results/{job}").status_code == 400


def test_a_stopped_job_is_deleted_before_its_program_has_ended(fleet: Fleet) -> None:
    """The agent hears that nobody waits for it, ends it, and goes on with the next job."""
    client = Client(fleet)
    job = client.solve("one", deaf=True)
    pid = fleet.started("one")
    client.wait(job, "running")
    client.ask("POST", f"stop/{job}")
    assert client.ask("DELETE", f"jobs/{job}").status_code == 200
    after = client.solve("two")
    fleet.started("two")
    wait_until(lambda: not lives(pid), timeout=60, on_timeout=fleet.story)
    fleet.let_go("two")
    client.wait(after, "complete")
    assert fleet.agents["here"].alive
    assert client.ask("GET", f"status/{job}").status_code == 404
    # What it wrote stays where it was written, and is not offered to the server for ever.
    note = fleet.work("here") / job / "1" / ".done"
    wait_until(note.exists, timeout=60, on_timeout=fleet.story)


def test_a_job_whose_machine_is_gone_for_good_ends_and_the_queue_goes_on(fleet: Fleet) -> None:
    """kill -9 of everything: running becomes error as the document says, queued is resumed."""
    client = Client(fleet)
    jobs = [client.solve(name) for name in ("one", "two", "three")]
    pid = fleet.started("one")
    client.wait(jobs[0], "running")
    fleet.server.kill()
    fleet.agents["here"].kill()
    send([pid], 9)
    fleet.server.restart()
    lost = client.wait(jobs[0], "error")
    assert lost["error_message"] == "Server restarted during execution"
    found = client.poll(lambda _found: True)
    assert [found[job]["status"] for job in jobs[1:]] == ["queued", "queued"]
    fleet.let_go("two", "three")
    fleet.agent("another", "--slots", "3", "--cores", "3")
    done = [client.wait(job, "complete") for job in jobs[1:]]
    assert done[0]["completed_at"] <= done[1]["started_at"], "in their order, one by one"


def test_a_job_whose_program_went_with_all_else_ends_when_they_are_back(fleet: Fleet) -> None:
    """As after a power cut: the agent finds that its program is gone, and the queue goes on."""
    client = Client(fleet)
    job, waits = client.solve("one"), client.solve("two")
    pid = fleet.started("one")
    client.wait(job, "running")
    fleet.server.kill()
    fleet.agents["here"].kill()
    os.killpg(os.getpgid(pid), signal.SIGKILL)  # and whoever would have noted its end
    fleet.server.restart()
    fleet.let_go("two")
    fleet.agent("here", "--slots", "3", "--cores", "3")
    lost = client.wait(job, "error")
    assert lost["error_message"] == "Server restarted during execution"
    client.wait(waits, "complete")
    assert len(fleet.pids("one")) == 1, "nothing is tried twice unasked"


def test_a_job_outlives_its_server_and_its_agent(fleet: Fleet) -> None:
    """Killed and started again in time, they find the program where it is, and it completes."""
    client = Client(fleet)
    job = client.solve("one")
    pid = fleet.started("one")
    client.wait(job, "running")
    fleet.server.kill()
    fleet.agents["here"].kill()
    fleet.server.restart()
    again = fleet.agent("here", "--slots", "3", "--cores", "3")
    wait_until(lambda: "taking up run" in again.output(), timeout=60, on_timeout=again.story)
    fleet.let_go("one")
    client.wait(job, "complete")
    assert fleet.pids("one") == [pid]
    assert client.ask("GET", f"results/{job}").json()["count"] == 48
