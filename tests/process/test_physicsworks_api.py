"""The published package's own API client works against a real server with real agents."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.wire import rest
from tests.contract.rest_server import zip_of
from tests.support.agents import Fleet
from tests.support.physicsworks_published import published_python
from tests.support.processes import Processes
from tests.support.wait import wait_until

CASE = b"""\
name: plate
description: A plate that is heated.
parameters:
  temperature: {value: 300, unit: K}
  mesh: {cells: 10}
  rope: none
  site: none
"""
MAIN = """\
import argparse, json, pathlib, time
parser = argparse.ArgumentParser()
for name in ("--inputsPath", "--outputsPath"):
    parser.add_argument(name)
given = parser.parse_known_args()[0]
values = json.loads((pathlib.Path(given.inputsPath) / "parameters.json").read_text())
outputs = pathlib.Path(given.outputsPath)
(outputs / "logs" / "solver.log").write_text("begun\\n")
while values["rope"] != "none" and not pathlib.Path(values["rope"]).exists():
    time.sleep(0.02)
(outputs / "files" / "field a.bin").write_bytes(bytes(range(256)) * 4000)
(outputs / "media" / "film.mp4").write_bytes(b"film")
(outputs / "plots" / "residual.csv").write_text("n,r\\n1,0.5\\n")
(outputs / "results.csv").write_text(f"t_max,cells\\n{values['temperature']['value']},"
                                     f"{values['mesh']['cells']}\\n")
"""
#: What a person writes with the published client; it is given its answers' place, and arguments.
CLIENT = """\
import json, sys, time
from pathlib import Path
from physicsworks.api import (
    ApiError, Filter, FilterOperator, RunDispatchError, Sort, SortDirection,
    configure, runners, simulations, storage,
)
given = json.loads(sys.argv[1])
client = configure(host=given["host"], token=given.get("token") or None)

def ended(job):
    while True:
        found = runners.jobs.get(job)
        if found["status"] in ("finished", "failed", "canceled"):
            return found
        time.sleep(0.1)

def refused(call, *args, **more):
    try:
        return call(*args, **more)
    except ApiError as error:
        return error.status_code

"""
WHOLE_LIFE = """
(simulation,) = simulations.list_by_project("thermal", page=1, page_size=20)["data"]
key = simulation["id"]
tree = simulations.update_tree(key, [
    {"slug": "temperature", "fullPath": "/temperature", "value": 350},
    {"slug": "cells", "fullPath": "/mesh/cells", "value": 20},
])
check = simulations.check_run(key)
run = simulations.dispatch_and_wait(key, runner_ids=["north"], poll_interval=1, timeout=60)
job = ended(run)
document = simulations.runs.get(key, run)
print(json.dumps({
    "simulation": simulation,
    "tree": tree["tree"],
    "again": simulations.get("thermal", key)["tree"],
    "unknown": refused(simulations.update_tree, key, [{"fullPath": "/none", "value": 1}]),
    "check": check,
    "run": run,
    "job": job,
    "document": document,
    "listed": simulations.runs.list(key, status="finished", sort=Sort("createdAt", "desc")),
    "none": simulations.runs.list(key, status="error"),
    "jobs": [one["id"] for one in runners.jobs.list(status="finished")],
    "of project": [one["id"] for one in runners.jobs.list_by_project("thermal")],
    "of another": runners.jobs.list_by_project("default"),
    "runners": runners.list(filter=Filter("name", FilterOperator.CONTAINS, "nor")),
    "runner": runners.get("north"),
    "added": runners.members.add("north", ["admin", "nobody@example.org"]),
    "removed": runners.members.remove("north", ["admin"]),
    "alive": refused(runners.delete, "north"),
    "files": {
        one["file"]: storage.download_run_file(key, run, one["file"], destination=given["to"])
        for kind in ("logs", "plots", "media", "downloadables") for one in document[kind]
    },
    "by name": storage.download_run_file(key, run, "field a.bin", destination=given["to"] + "/b"),
    "of the model": storage.download_simulation_file(key, "main.py", destination=given["to"]),
    "no file": refused(storage.get_run_file_grant, key, run, "../../secret.key"),
}))
"""


#: What the server's counters say once the client has looked for its job.
LOOKED = '/v1/jobs",status="200"'


class Person:
    """Runs programs that use the published client."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._python = published_python()
        self._fleet = fleet
        self._script = folder / "client.py"
        self.host = f"{fleet.server.url}/physicsworks/api/"

    def runs(self, program: str, **given: Any) -> Any:
        """Run *program* after `CLIENT`; return what it printed."""
        self._script.write_text(CLIENT + program)
        arguments = {"host": self.host, "token": self._fleet.server.token, **given}
        done = subprocess.run(
            [str(self._python), str(self._script), json.dumps(arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + self._fleet.story()
        return json.loads(done.stdout)


@pytest.fixture
def fleet(processes: Processes) -> Fleet:
    """A server with a project and a model in it."""
    made = Fleet(processes)
    made.call("POST", rest.PROJECTS, json={"id": "thermal"})
    return made


def model(fleet: Fleet, main: str = MAIN) -> str:
    """Store the model of a simulation; return its id."""
    body = zip_of({"main.py": main.encode(), "case.yaml": CASE})
    path = f"{rest.MODELS}?name=plate&project_id=thermal"
    return str(fleet.call("POST", path, data=body).json()["id"])


def test_a_simulation_is_read_changed_run_and_its_files_fetched(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Everything that the client offers for one simulation, from its tree to its results' bytes."""
    key = model(fleet)
    for name in ("north", "south"):
        fleet.agent(name, "--slots", "1")
        fleet.await_agent(name)
    to = tmp_path / "downloads"
    (to / "b").mkdir(parents=True)

    found = Person(fleet, tmp_path).runs(WHOLE_LIFE, to=str(to))

    assert (found["simulation"]["id"], found["simulation"]["name"]) == (key, "plate")
    assert found["simulation"]["tree"]["temperature"] == {"value": 300, "unit": "K"}
    assert found["tree"] == found["again"]
    assert found["tree"]["temperature"] == {"value": 350, "unit": "K"}
    assert found["unknown"] == 422
    assert found["check"] == {"message": "passed", "statusCode": 200, "errors": []}
    assert (found["job"]["status"], found["job"]["runner"]) == ("finished", "north")
    assert found["job"]["resource"]["id"] == found["run"]
    results = {one["name"]: one["value"] for one in found["document"]["results"]}
    assert results == {"t_max": 350, "cells": 20}
    assert found["document"]["status"] == "finished"
    assert [one["id"] for one in found["listed"]["data"]] == [found["run"]]
    assert found["listed"]["totalCount"] == 1
    assert found["none"] == {"data": [], "totalCount": 0}
    assert found["jobs"] == found["of project"] == [found["run"]]
    assert found["of another"] == []
    assert [one["id"] for one in found["runners"]["data"]] == ["north"]
    assert found["runner"]["status"] == "active"
    assert (found["added"]["success"], found["added"]["failure"]) == (
        ["admin"],
        ["nobody@example.org"],
    )
    assert found["removed"]["failure"] == ["admin"]
    assert found["alive"] == 409
    assert found["no file"] == 404
    assert_downloads(fleet, found)


def assert_downloads(fleet: Fleet, found: dict[str, Any]) -> None:
    """Every file that the run document names was fetched, byte for byte."""
    files = found["files"]
    expected = {
        "logs/solver.log",
        "outputs/plots/residual.csv",
        "outputs/media/film.mp4",
        "outputs/data_files/field a.bin",
    }
    assert expected <= set(files)
    for path, meta in files.items():
        where = f"{rest.simulation(found['run'])}/artifacts/{path}"
        assert Path(meta["path"]).read_bytes() == fleet.call("GET", where).content, path
        assert Path(meta["path"]).name == path.rpartition("/")[2]
    assert Path(found["by name"]["path"]).read_bytes() == bytes(range(256)) * 4000
    assert Path(found["of the model"]["path"]).read_text() == MAIN


STEERED = """
key = given["simulation"]
simulations.run(key)
(first,) = runners.jobs.list()
cancelled = runners.jobs.cancel(first["id"])
simulations.update_tree(key, [{"fullPath": "rope", "value": given["rope"]}])
Path(given["rope"] + ".ready").touch()
run = simulations.dispatch_and_wait(key, poll_interval=1, timeout=90)
while runners.jobs.get(run)["status"] != "running":
    time.sleep(0.1)
ignored = runners.jobs.cancel(run)
aborted = runners.jobs.abort(kind="simulation", resource=key)
print(json.dumps({
    "first": first,
    "cancelled": cancelled,
    "ignored": ignored["abort"],
    "aborted": aborted,
    "end": ended(run),
    "again": runners.jobs.abort(job_id=run)["status"],
    "by resource": runners.jobs.abort(kind="Run", resource=run)["status"],
    "nothing": refused(runners.jobs.abort, kind="simulation", resource=key),
    "unknown": refused(runners.jobs.get, "00000000-0000-4000-8000-000000000000"),
}))
"""


def test_jobs_are_cancelled_and_aborted(fleet: Fleet, tmp_path: Path) -> None:
    """What waits is cancelled; what runs is not touched by that, and is aborted."""
    key = model(fleet)
    rope = tmp_path / "rope"
    person = Person(fleet, tmp_path)
    script = tmp_path / "client.py"
    script.write_text(CLIENT + STEERED)
    arguments = {
        "host": person.host,
        "token": fleet.server.token,
        "simulation": key,
        "rope": str(rope),
    }
    out = tmp_path / "out"
    with out.open("w") as stdout:
        running = subprocess.Popen(
            [str(published_python()), str(script), json.dumps(arguments)], stdout=stdout
        )
    try:
        # Only now: the first job has to wait.
        wait_until(Path(f"{rope}.ready").exists, timeout=60, on_timeout=fleet.story)
        fleet.agent("north", "--slots", "1")
        assert running.wait(120) == 0
    finally:
        running.kill()
        running.wait()

    found = json.loads(out.read_text())
    assert (found["first"]["status"], found["first"]["resource"]) == ("pending", {})
    assert found["cancelled"]["status"] == "canceled"
    assert found["ignored"] is False
    assert found["aborted"]["abort"] is True
    assert found["end"]["status"] == "canceled"
    assert found["end"]["statusLabel"] == "Aborted by user"
    assert found["again"] == found["by resource"] == "canceled"
    assert (found["nothing"], found["unknown"]) == (404, 404)


def test_waiting_outlives_the_servers_death(fleet: Fleet, tmp_path: Path) -> None:
    """The job that was asked for is still there, and so is the changed tree that it is made of."""
    key = model(fleet)
    person, script, out = Person(fleet, tmp_path), tmp_path / "client.py", tmp_path / "out"
    script.write_text(
        CLIENT
        + """
key = given["simulation"]
simulations.update_tree(key, [{"fullPath": "/temperature", "value": 350}])
print(simulations.dispatch_and_wait(key, poll_interval=1, timeout=100))
"""
    )
    arguments = {"host": person.host, "token": fleet.server.token, "simulation": key}
    with out.open("w") as stdout:
        waiting = subprocess.Popen(
            [str(published_python()), str(script), json.dumps(arguments)], stdout=stdout
        )
    try:
        # It has its answer, and looks for its job.
        wait_until(lambda: LOOKED in fleet.call("GET", "/metrics").text, timeout=60)
        (run,) = queued(fleet)
        fleet.server.kill()
        fleet.server.restart()
        fleet.agent("north", "--slots", "1")
        assert waiting.wait(120) == 0
    finally:
        waiting.kill()
        waiting.wait()

    assert out.read_text().strip() == run
    results = fleet.wait(run, "completed")
    assert results["parameters"]["temperature"] == {"value": 350, "unit": "K"}


def queued(fleet: Fleet) -> list[str]:
    """Return the ids of all runs."""
    return [str(one["id"]) for one in fleet.call("GET", rest.SIMULATIONS).json()["data"]]


INSIDE = """\
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--inputsPath")
inputs = pathlib.Path(parser.parse_known_args()[0].inputsPath)
sys.path.insert(0, json.loads((inputs / "parameters.json").read_text())["site"])
from physicsworks.api import configure, runners, simulations
config = json.load(open("config.json"))
configure()
mine = simulations.get(config["project"], config["simulation"])
run = simulations.runs.get(config["simulation"], config["resource"]["id"])
outputs = pathlib.Path(os.environ["PHYSICSWORKS_OUTPUTS_DIR"])
(outputs / "files" / "seen.json").write_text(json.dumps({
    "tree": mine["tree"], "run": run["status"], "job": runners.jobs.get(config["job"])["status"],
    "jobs": [one["id"] for one in runners.jobs.list()],
}))
"""


def test_the_client_works_inside_main_py(fleet: Fleet, tmp_path: Path) -> None:
    """Without any configuration it sees its own simulation, run and job, and nobody else's."""
    key = model(fleet, INSIDE)
    fleet.agent("north", "--slots", "2")
    fleet.await_agent("north")
    site = next((published_python().parent.parent / "lib").glob("python*/site-packages"))
    program = """
simulations.update_tree(given["simulation"], [{"fullPath": "site", "value": given["site"]}])
run = simulations.dispatch_and_wait(given["simulation"], poll_interval=1)
job = ended(run)
storage.download_run_file(given["simulation"], run, "seen.json", destination=given["to"])
print(json.dumps(job))
"""
    to = tmp_path / "seen.json"

    job = Person(fleet, tmp_path).runs(program, simulation=key, site=str(site), to=str(to))

    assert job["status"] == "finished"
    seen = json.loads(to.read_text())
    assert seen["tree"]["site"] == str(site)
    assert (seen["run"], seen["job"], seen["jobs"]) == ("running", "running", [job["id"]])


def test_the_client_logs_in_and_renews_its_tokens(fleet: Fleet, tmp_path: Path) -> None:
    """A name and a password are enough; a token that is good no more is renewed by the client."""
    model(fleet)
    password = "correct horse battery"
    body = {"name": "ada@example.org", "role": "user", "password": password}
    fleet.call("POST", rest.USERS, json=body)
    program = """
client.login("ada@example.org", given["password"])
first = simulations.list_by_project("thermal")["totalCount"]
client.set_token("worn.out.token")
second = simulations.list_by_project("thermal")["totalCount"]
try:
    client.login("ada@example.org", "wrong")
except ApiError as error:
    print(json.dumps([first, second, error.status_code, refused(runners.list)]))
"""

    found = Person(fleet, tmp_path).runs(program, token="", password=password)

    assert found == [1, 1, 401, 403]  # who may see agents, the server's table says
