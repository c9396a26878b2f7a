"""The API client's part of the PhysicsWorks door: every call that the published client makes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.core.state import RunState
from physicsrunner.wire import rest
from physicsrunner.wire.messages import Result
from tests.contract.physicsworks_house import House, house

GOLDEN = Path(__file__).parent / "golden" / "physicsworks_api.txt"
#: What differs from one time to the next, and what stands for it.
CHANGING = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "{address}"),
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "{token}"),
)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[House]:
    """A server with the door."""
    with house(tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    """One server with a simulation, for what is refused: it changes nothing."""
    with house(tmp_path_factory.mktemp("data")) as made:
        yield made, made.model()


def job(door: House, run: str) -> Any:
    """Return a job."""
    return door.value("GET", f"v1/jobs/{run}")


def asked(**query: Any) -> dict[str, Any]:
    """Return a query as the client sends it: what is no text as JSON."""
    plain = (str, int)
    return {
        name: value if isinstance(value, plain) else json.dumps(value)
        for name, value in query.items()
    }


def by(field: str, operator: str, value: Any) -> dict[str, Any]:
    """Return a filter as the client sends it."""
    return {"columnField": field, "operatorValue": operator, "value": value}


# -- the transcript --------------------------------------------------------------------------------


class Transcript:
    """Calls and their answers as they are written down."""

    def __init__(self, door: House) -> None:
        self._door = door
        self._names: dict[str, str] = {}
        self.blocks: list[str] = []

    def name(self, word: str, value: str) -> str:
        """Have *word* stand for *value*."""
        self._names[value] = f"{{{word}}}"
        return value

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call; return its JSON."""
        answer = self._door.call(method, path, json=body)
        asked = [f"> {method} /physicsworks/api/{path}"]
        if body is not None:
            asked.append(f"> {json.dumps(body)}")
        said = [f"< {answer.status_code}", f"< content-type: {answer.headers['content-type']}"]
        self.blocks.append("\n".join((*asked, "", *said, f"< {answer.text}")))
        return answer.json()

    def text(self) -> str:
        """Return all of it."""
        text = "\n\n\n".join(self.blocks) + "\n"
        for pattern, word in CHANGING:
            text = pattern.sub(word, text)
        for value, word in self._names.items():
            text = text.replace(value, word)
        return text


def test_the_transcript(door: House) -> None:
    """One simulation from its tree to its results: every answer is the bytes written down."""
    said = Transcript(door)
    door.server.value("POST", rest.PROJECTS, json={"id": "thermal", "name": "Thermal group"})
    key = said.name("simulation", door.model(project="thermal"))
    said.call("GET", "v1/projects")
    said.call("GET", "v1/projects/thermal/simulations?page=1&pageSize=20")
    said.call("GET", f"v1/projects/thermal/simulations/{key}")
    inputs = [
        {"slug": "temperature", "fullPath": "/temperature", "value": 350},
        {"slug": "cells", "fullPath": "/mesh/cells", "value": 20},
    ]
    said.call("PATCH", f"v1/simulation/tree/{key}", {"inputs": inputs})
    said.call("PATCH", f"v1/simulation/tree/{key}", {"inputs": [{"fullPath": "/mesh/cell"}]})
    said.call("POST", f"v1/simulation/tree/check/{key}")
    door.agent("north", "gpu")
    said.call("GET", "v1/runners")
    run = said.call("POST", f"v1/simulation/run/{key}", {"runners": ["north"]})["id"]
    said.name("run", run)
    said.call("GET", "v1/jobs")
    assert door.lease() == [run]
    said.call("GET", f"v1/jobs/{run}")
    results = [Result("t_max", 350.0, unit="K")]
    door.finish(run, {"logs/solver.log": b"begun\n"}, results=results, progress=100.0)
    said.call("GET", f"v1/jobs/{run}")
    said.call("GET", f"v1/simulations/{key}/runs")
    said.call("GET", f"v1/simulations/{key}/runs/{run}")
    said.call("GET", f"v1/simulations/{key}/runs/{run}/files/download?file=solver.log")
    said.call("GET", f"v1/simulations/{key}/runs/{run}/files/download?file=none.log")
    said.call("POST", f"v1/jobs/abort/{run}")
    said.call("PUT", "v1/runners/members/add", {"runner": "north", "emails": ["admin", "x@y.z"]})
    said.call("DELETE", "v1/runners/north")
    assert said.text() == GOLDEN.read_text()


# -- who calls -------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_shown(door: House) -> None:
    """No header, an empty one (the client's, when it has no token), a wrong one: 401."""
    for token in (None, "", "a.b.c"):
        for prefix in ("/physicsworks/api", "/physicsworks"):
            answer = door.call("GET", "v1/jobs", token=token, prefix=prefix)
            assert answer.status_code == 401
            assert answer.json()["code"] == "not_authenticated"


def test_on_this_machine_the_named_person_acts(tmp_path: Path) -> None:
    """With the setting door_user no token is needed from here; a proxy's word is not from here."""
    with house(tmp_path / "data", door_user="admin") as door:
        assert door.call("GET", "v1/jobs", token=None).status_code == 200
        assert door.call("GET", "v1/jobs", token="").status_code == 200
        assert door.call("GET", "v1/jobs", token="a.b.c").status_code == 401
        forwarded = {"X-Forwarded-For": "127.0.0.1"}
        assert door.call("GET", "v1/jobs", token=None, headers=forwarded).status_code == 401
        assert door.call("GET", "v1/jobs", token=None, headers={"Host": "a.b"}).status_code == 401


def test_login_gives_two_tokens_and_the_second_renews_both(door: House) -> None:
    """The access token lasts an hour, the refresh token a day and each renewal another one."""
    password = "correct horse battery"
    body = {"name": "ada@example.org", "role": "user", "password": password}
    door.server.value("POST", rest.USERS, json=body)
    wrong = door.call("POST", "auth/login", json={"email": "ada@example.org", "password": "x"})
    assert wrong.status_code == 401
    given = {"email": "ada@example.org", "password": password}
    first = door.value("POST", "auth/login?ci=true", json=given, token=None)
    door.clock.time += 3700
    expired = door.call("GET", "v1/jobs", token=first["accessToken"])
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")
    refreshed = {"token": first["refreshToken"]}
    door.clock.time += 70_000
    second = door.value("POST", "auth/v1/refresh_token", json=refreshed, token=None)
    assert door.call("GET", "v1/jobs", token=second["accessToken"]).status_code == 200
    door.clock.time += 70_000
    again = {"token": second["refreshToken"]}
    assert door.call("POST", "auth/v1/refresh_token", json=again, token=None).status_code == 200
    assert door.call("POST", "auth/v1/refresh_token", json=refreshed).status_code == 401
    for bad in ({}, {"token": 7}, {"token": ""}):
        assert door.call("POST", "auth/v1/refresh_token", json=bad).status_code == 401
    assert door.call("POST", "auth/login", json={"email": 1}).status_code == 422


def test_an_address_refreshes_only_so_often(door: House) -> None:
    """Anybody may ask, and each try costs: it counts with the logins."""
    codes = [
        door.call("POST", "auth/v1/refresh_token", json={"token": "x"}, token=None).status_code
        for _ in range(21)
    ]
    assert codes == [401] * 20 + [429]


def test_a_project_is_its_members_alone(door: House) -> None:
    """Who is no member sees neither the project nor its simulations, runs and files."""
    for name in ("thermal", "secret"):
        door.server.value("POST", rest.PROJECTS, json={"id": name})
    key, other = door.model(project="thermal"), door.model(project="secret")
    run = door.dispatch(other)
    token = door.person("ada", None, thermal="user")
    listed = door.value("GET", "v1/projects", token=token)["data"]
    assert sorted(one["id"] for one in listed) == ["default", "thermal"]
    assert door.value("GET", "v1/projects/thermal", token=token)["role"] == "user"
    found = door.value("GET", "v1/projects/thermal/simulations", token=token)
    assert [one["id"] for one in found["data"]] == [key]
    for path in (
        "v1/projects/secret",
        "v1/projects/secret/simulations",
        f"v1/projects/secret/simulations/{other}",
        f"v1/projects/thermal/simulations/{other}",
        f"v1/simulations/{other}/runs",
        f"v1/simulations/{other}/runs/{run}",
        f"v1/simulations/{key}/runs/{run}",
        f"v1/jobs/{run}",
        f"v1/simulations/{other}/files/download?file=main.py",
        f"v1/simulations/{other}/runs/{run}/files/download?file=a",
    ):
        assert door.call("GET", path, token=token).status_code == 404, path
    assert door.call("POST", f"v1/simulation/run/{other}", token=token).status_code == 404
    assert door.call("POST", f"v1/jobs/abort/{run}", token=token).status_code == 404
    body = {"inputs": [{"fullPath": "/steps", "value": 1}]}
    path = f"v1/simulation/tree/{other}"
    assert door.call("PATCH", path, json=body, token=token).status_code == 404


def test_what_has_no_project_is_in_the_place_default(door: House) -> None:
    """Models and runs of no project are found there; a project of that name is one, though."""
    door.server.value("POST", rest.PROJECTS, json={"id": "thermal"})
    key, other = door.model(), door.model(project="thermal")
    mine, theirs = door.dispatch(key), door.dispatch(other)
    found = door.value("GET", "v1/projects/default/simulations")["data"]
    assert [one["id"] for one in found] == [key]
    assert door.value("GET", f"v1/projects/default/simulations/{key}")["project"] == "default"
    for project, run in (("default", mine), ("thermal", theirs)):
        query = asked(filter=by("project", "equals", project))
        jobs = door.value("GET", "v1/jobs", params=query)
        assert ([one["id"] for one in jobs["data"]], jobs["totalCount"]) == ([run], 1)
    # Of a member without a role, too: nothing of others, nothing of a project.
    token = door.person("ada", None, thermal="user")
    query = asked(filter=by("project", "equals", "default"))
    hers = door.dispatch(other, token=token)
    assert door.value("GET", "v1/jobs", params=query, token=token)["data"] == []
    assert [one["id"] for one in door.value("GET", "v1/jobs", token=token)["data"]] == [hers]
    door.server.value("POST", rest.PROJECTS, json={"id": "default"})
    assert door.value("GET", "v1/projects/default/simulations")["data"] == []
    assert door.value("GET", "v1/jobs", params=query)["data"] == []


# -- lists -----------------------------------------------------------------------------------------


def test_lists_are_leafed_through(door: House) -> None:
    """Five without pageSize, as the client's documentation has it; every page in the same order."""
    key = door.model()
    runs = [door.dispatch(key) for _ in range(7)]
    path = f"v1/simulations/{key}/runs"
    newest = runs[::-1]
    first, second = door.value("GET", path), door.value("GET", f"{path}?page=2")
    assert [one["id"] for one in first["data"] + second["data"]] == newest
    assert (len(first["data"]), first["totalCount"], second["totalCount"]) == (5, 7, 7)
    by_age = asked(page=2, pageSize=3, sort={"field": "createdAt", "sort": "asc"})
    assert [one["id"] for one in door.value("GET", path, params=by_age)["data"]] == runs[3:6]
    assert door.value("GET", f"{path}?page=9")["data"] == []
    assert len(door.value("GET", "v1/jobs")["data"]) == 7


def test_runs_and_jobs_are_filtered(door: House) -> None:
    """By the words of this wire: those of runs for runs, those of jobs for jobs."""
    key, other = door.model(), door.model("beam")
    ended, aborted, waits = (door.dispatch(key) for _ in range(3))
    assert len(door.lease()) == 3
    door.finish(ended)
    door.value("POST", f"v1/jobs/abort/{aborted}")
    door.report(aborted, RunState.RUNNING)
    door.report(aborted, RunState.CANCELLED)
    elsewhere = door.dispatch(other)

    def jobs(*given: Any) -> set[str]:
        found = door.value("GET", "v1/jobs", params=asked(filter=by(*given)))
        assert found["totalCount"] == len(found["data"])
        return {one["id"] for one in found["data"]}

    assert jobs("status", "equals", "finished") == {ended}
    assert jobs("status", "is", "canceled") == jobs("status", "equals", "CANCELLED") == {aborted}
    assert jobs("status", "isAnyOf", ["running", "pending"]) == {waits, elsewhere}
    assert jobs("status", "not", "running") == {ended, aborted, elsewhere}
    assert jobs("status", "equals", "failed") == set()
    assert jobs("simulation", "equals", other) == jobs("name", "contains", "BEA") == {elsewhere}
    assert jobs("kind", "equals", "Run") == {ended, aborted, waits, elsewhere}
    assert jobs("kind", "equals", "Mesh") == jobs("project", "equals", "none") == set()
    path = f"v1/simulations/{key}/runs"
    found = door.value("GET", path, params=asked(filter=by("status", "equals", "error")))
    assert [one["id"] for one in found["data"]] == [aborted]
    found = door.value("GET", path, params=asked(filter=by("simulation", "equals", other)))
    assert found == {"data": [], "totalCount": 0}


def test_simulations_are_sorted_and_filtered(door: House) -> None:
    """By any field that they have; the status is that of the latest run."""
    door.clock.time += 1
    names = {door.model(name): name for name in ("beam", "plate", "arch")}
    keys = {name: key for key, name in names.items()}
    run = door.dispatch(keys["beam"])
    path = "v1/projects/default/simulations"

    def found(**query: Any) -> list[str]:
        return [names[one["id"]] for one in door.value("GET", path, params=asked(**query))["data"]]

    assert found() == ["arch", "plate", "beam"]
    assert found(sort={"field": "name", "sort": "asc"}) == ["arch", "beam", "plate"]
    assert found(sort={"field": "name", "sort": "asc"}, page=2, pageSize=2) == ["plate"]
    assert found(filter=by("name", "startsWith", "B")) == ["beam"]
    assert found(filter=by("name", "endsWith", "ate")) == ["plate"]
    assert found(filter=by("name", "isAnyOf", ["arch", "beam"])) == ["arch", "beam"]
    assert found(filter=by("files", "equals", "main.py")) == ["arch", "plate", "beam"]
    assert found(filter=by("status", "equals", "pending")) == ["beam"]
    assert found(filter=by("run", "isEmpty", None)) == ["arch", "plate"]
    beam = door.value("GET", f"{path}/{keys['beam']}")
    assert (beam["status"], beam["run"]) == ("pending", run)
    created = beam["createdAt"]
    assert found(filter=by("createdAt", "after", created)) == ["arch", "plate"]
    assert found(filter=by("createdAt", "onOrBefore", created)) == ["beam"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"page": 0}, "page='0'"),
        ({"page": "two"}, "whole number"),
        ({"pageSize": 100_000}, "from 1 to 1000"),
        ({"page": "9" * 30}, "whole number"),
        ({"sort": "createdAt"}, "sort is not JSON"),
        ({"sort": {"field": "color"}}, "createdAt"),
        ({"sort": {"field": "name", "sort": "up"}}, "asc"),
        ({"filter": "[" * 5000}, "filter is not JSON"),
        ({"filter": [1]}, "JSON object"),
        ({"filter": {"value": 1}}, "columnField"),
        ({"filter": by("status", "like", "x")}, "startsWith"),
        ({"filter": by("status", "equals", "sleeping")}, "pending"),
        ({"filter": by("status", "equals", 7)}, "words"),
        ({"filter": by("status", "contains", "run")}, "isAnyOf"),
        ({"filter": by("color", "equals", "red")}, "status (equals"),
    ],
)
def test_a_list_that_cannot_be_answered_is_refused(
    calm: tuple[House, str], query: dict[str, Any], said: str
) -> None:
    """With what can be asked for, at every list of runs."""
    door, key = calm
    for path in ("v1/jobs", f"v1/simulations/{key}/runs"):
        answer = door.call("GET", path, params=asked(**query))
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


def test_other_lists_name_their_fields(door: House) -> None:
    """Sorting or filtering by what they have not is refused, too."""
    door.model()
    door.agent("north")
    for path in ("v1/projects/default/simulations", "v1/runners", "v1/projects"):
        for query in ({"sort": {"field": "color"}}, {"filter": by("color", "equals", "red")}):
            answer = door.call("GET", path, params=asked(**query))
            assert answer.status_code == 422
            assert "name" in answer.json()["detail"]


def test_lists_show_what_came_by_this_door(door: House) -> None:
    """With all=true the others, too; by its id every run is shown."""
    key = door.model()
    native, mine = door.native(key), door.dispatch(key)
    path = f"v1/simulations/{key}/runs"
    for where in ("v1/jobs", path):
        assert [one["id"] for one in door.value("GET", where)["data"]] == [mine]
        everything = door.value("GET", f"{where}?all=true")
        assert [one["id"] for one in everything["data"]] == [mine, native]
    assert job(door, native)["status"] == "pending"
    assert door.value("GET", f"{path}/{native}")["id"] == native
    assert door.server.value("GET", rest.simulation(mine))["door"] == "physicsworks"


# -- trees -----------------------------------------------------------------------------------------


def test_a_changed_tree_is_what_the_next_run_is_made_of(door: House) -> None:
    """The new values are kept in a version of their own; a run that was queued keeps its own."""
    key = door.model()
    before = door.dispatch(key)
    changed = door.patch(key, temperature=350, mesh__cells=20)
    assert changed["tree"]["temperature"] == {"value": 350, "unit": "K"}
    assert changed["tree"]["mesh"] == {"cells": 20, "kind": "tri"}
    assert changed["revision"] == 1
    after = door.dispatch(key)
    records = [door.server.value("GET", rest.simulation(run)) for run in (before, after)]
    assert [one["parameters"]["mesh"]["cells"] for one in records] == [10, 20]
    assert records[1]["model_version"] == changed["version"] != records[0]["model_version"]
    # main.py's own files are the same.
    grant = door.value("GET", f"v1/simulations/{key}/files/download?file=case.yaml")
    assert b"{value: 300, unit: K}" in requests.get(grant["downloadUrl"], timeout=30).content


def test_there_and_back_again(door: House) -> None:
    """What was once is again; saving what is there makes no version; source solver starts anew."""
    key = door.model()
    first = door.patch(key, steps=7)
    second = door.patch(key, steps=8)
    third = door.patch(key, steps=7)
    assert [one["tree"]["steps"] for one in (first, second, third)] == [7, 8, 7]
    again = door.value("GET", f"v1/projects/default/simulations/{key}")
    assert (again["tree"]["steps"], again["revision"]) == (7, 3)
    assert door.patch(key, steps=7)["version"] == again["version"]
    path = f"v1/simulation/tree/{key}"
    reset = door.value("PATCH", path, json={"source": "solver"})
    assert reset["tree"]["steps"] == 5
    assert reset["createdAt"] == first["createdAt"] < reset["updatedAt"]
    tree = {**again["tree"], "steps": 99}
    given = {"baseTree": tree, "inputs": [{"fullPath": "mesh/kind", "value": "hex"}]}
    replaced = door.value("PATCH", path, json=given)
    assert (replaced["tree"]["steps"], replaced["tree"]["mesh"]["kind"]) == (99, "hex")
    # A new upload of the program begins with its own defaults.
    assert door.model(files={"main.py": b"print(2)\n"}) == key
    assert door.value("GET", f"v1/projects/default/simulations/{key}")["tree"]["steps"] == 5


def test_a_changed_tree_outlives_a_restart(tmp_path: Path) -> None:
    """It lies with the models."""
    with house(tmp_path / "data") as door:
        key = door.model()
        version = door.patch(key, steps=7)["version"]
    with house(tmp_path / "data") as door:
        found = door.value("GET", f"v1/projects/default/simulations/{key}")
        assert (found["version"], found["tree"]["steps"]) == (version, 7)


def test_two_changes_at_once_are_both_kept(door: House) -> None:
    """Each is made on top of the other."""
    names = [f"p{number}" for number in range(8)]
    case = "parameters:\n" + "".join(f"  {name}: 0\n" for name in names)
    key = door.model(files={"case.yaml": case.encode()})
    start = threading.Barrier(len(names))
    path = f"{door.server.url}/physicsworks/api/v1/simulation/tree/{key}"
    states: list[int] = []

    def change(name: str) -> None:
        start.wait()
        body = {"inputs": [{"fullPath": name, "value": 1}]}
        headers = {"auth-token": door.server.admin}
        states.append(requests.patch(path, json=body, headers=headers, timeout=60).status_code)

    def stepping() -> None:
        while any(thread.is_alive() for thread in threads):
            door.clock.time += 0.001

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    stepping()
    for thread in threads:
        thread.join()
    assert states == [200] * len(names)
    found = door.value("GET", f"v1/projects/default/simulations/{key}")
    assert (found["tree"], found["revision"]) == (dict.fromkeys(names, 1), len(names))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "inputs is a list"),
        ({"inputs": {"a": 1}}, "inputs is a list"),
        ({"inputs": [1]}, "inputs is a list"),
        ({"inputs": [{"value": 1}]}, "fullPath"),
        ({"inputs": [{"fullPath": "//", "value": 1}]}, "fullPath"),
        ({"inputs": [{"fullPath": "/steps"}]}, "a value"),
        ({"inputs": [{"fullPath": "/stps", "value": 1}]}, "did you mean /steps?"),
        ({"inputs": [{"fullPath": "/mesh/size", "value": 1}]}, "no input /mesh/size"),
        ({"inputs": [{"fullPath": "/mesh", "value": 1}]}, "is a group"),
        ({"inputs": [{"fullPath": "/steps/a", "value": 1}]}, "not a group"),
        ({"inputs": [{"fullPath": "/temperature/b", "value": 1}]}, "not a group"),
        ({"inputs": [{"fullPath": "/steps", "value": 1, "unit": "s"}]}, "has no unit"),
        ({"inputs": [], "source": "elsewhere"}, "simulation or solver"),
        ({"inputs": [], "baseTree": [1]}, "baseTree"),
        ({"inputs": [], "baseTree": {"other": 1}}, "no input /other"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    calm: tuple[House, str], body: dict[str, Any], said: str
) -> None:
    """With what is wrong, and nothing is changed."""
    door, key = calm
    answer = door.call("PATCH", f"v1/simulation/tree/{key}", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert door.value("GET", f"v1/projects/default/simulations/{key}")["revision"] == 0


def test_values_that_no_json_has_are_refused(door: House) -> None:
    """NaN, a value that is nested too deep, and one of megabytes."""
    key = door.model(files={"case.yaml": b""})
    path = f"v1/simulation/tree/{key}"
    deep = "[" * 80 + "]" * 80
    for value in ("NaN", "1e999", deep, json.dumps("x" * 5_000_000)):
        text = f'{{"inputs": [{{"fullPath": "/a", "value": {value}}}]}}'
        assert door.call("PATCH", path, data=text).status_code == 422
    for text in ("{", "[1]", "\xff"):
        assert door.call("PATCH", path, data=text.encode("latin-1")).status_code == 422


def test_a_model_without_a_case_file_takes_any_input(door: House) -> None:
    """It names none, so none is wrong."""
    key = door.model(files={"case.yaml": b""})
    assert door.value("GET", f"v1/projects/default/simulations/{key}")["tree"] == {}
    inputs = [{"fullPath": "/walls/left", "value": 1, "unit": "K"}, {"fullPath": "a", "value": 2}]
    path = f"v1/simulation/tree/{key}"
    found = door.value("PATCH", path, json={"inputs": inputs})
    assert found["tree"] == {"walls": {"left": {"value": 1, "unit": "K"}}, "a": 2}
    assert door.patch(key, b=3)["tree"]["b"] == 3
    by_path = {one["fullPath"]: one["value"] for one in found["inputs"]}
    assert by_path == {"/walls/left": 1, "/a": 2}


def test_what_cannot_be_run_says_why(door: House) -> None:
    """A case that names a file which is not in the model, or cannot be read, is not queued."""
    missing = door.model("missing", files={"case.yaml": b"inputs: [mesh.vtu, parts]\n"})
    broken = door.model("broken", files={"case.yaml": b"parametres: {a: 1}\n"})
    whole = door.model(
        "whole",
        files={"case.yaml": b"inputs: [mesh.vtu, parts]\n", "mesh.vtu": b"m", "parts/a": b"a"},
    )
    for key, said in ((missing, "mesh.vtu"), (broken, "case.yaml")):
        check = door.value("POST", f"v1/simulation/tree/check/{key}")
        assert (check["message"], check["statusCode"]) == ("failed", 422)
        assert said in check["errors"][0]
        answer = door.call("POST", f"v1/simulation/run/{key}")
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    assert door.value("GET", "v1/projects/default/simulations")["totalCount"] == 3
    assert door.value("POST", f"v1/simulation/tree/check/{whole}")["message"] == "passed"
    assert door.dispatch(whole)


@pytest.mark.parametrize(
    "case",
    [
        b"parameters: {a: 2026-01-01}\n",
        b"parameters: {a: .inf}\n",
        b"parameters: {a: !!binary aGVsbG8=}\n",
        b"parameters: {? [1, 2] : 3}\n",
        b"parameters: &a {b: *a}\n",
        b"parameters: {a: " + b"[" * 100 + b"]" * 100 + b"}\n",
        b"parameters:\n  a: &a [0,0,0,0,0,0,0,0,0,0]\n"
        + b"".join(
            b"  %c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10))
            for n in range(9)
        ),
        b"parameters:\n" + b"".join(b"  p%d: %d\n" % (n, n) for n in range(90_000)),
        b"\xff",
        b"- 1\n",
    ],
)
def test_a_case_file_that_means_harm_harms_nobody(calm: tuple[House, str], case: bytes) -> None:
    """The list is shown, with the others; the model says what is wrong with its case file."""
    door, _ = calm
    key = door.model("harmful", files={"case.yaml": case})
    found = door.value("GET", "v1/projects/default/simulations")
    assert len(found["data"]) == 2
    check = door.value("POST", f"v1/simulation/tree/check/{key}")
    assert (check["message"], check["errors"][0][:9]) == ("failed", "case.yaml")


def test_a_file_of_the_users_own_in_the_place_of_the_saved_one(door: House) -> None:
    """It is no saved case: the defaults count, and the first change takes its place."""
    for number, text in enumerate((b"[1]", b"{", b'{"parameters": 7}', b"[" * 9000, b"")):
        files = {"case.saved.json": text} if text else {"case.saved.json": b" "}
        key = door.model(f"odd{number}", files=files)
        assert door.patch(key, steps=7)["tree"]["steps"] == 7


def test_a_simulation_has_its_models_name_too(door: House) -> None:
    """The id and the name mean the same; what is neither is not found."""
    key = door.model("plate")
    assert door.value("GET", "v1/projects/default/simulations/plate")["id"] == key
    assert job(door, door.dispatch("plate"))["simulation"] == key
    for what in ("none", "../plate", "%00", "0" * 300, key.upper()):
        answer = door.call("POST", f"v1/simulation/run/{what}")
        assert answer.status_code == 404, what


def test_the_run_of_a_simulation_is_one_too(door: House) -> None:
    """main.py is told its run as its simulation; run again, it is made of the same."""
    key = door.model()
    door.patch(key, steps=7)
    run = door.dispatch(key)
    door.patch(key, steps=8)
    found = door.value("GET", f"v1/projects/default/simulations/{run}")
    assert (found["id"], found["tree"]["steps"], found["model"]) == (run, 7, key)
    again = door.dispatch(run)
    record = door.server.value("GET", rest.simulation(again))
    assert (record["parameters"]["steps"], record["door"]) == (7, "physicsworks")
    assert door.value("GET", f"v1/simulations/{run}/runs")["totalCount"] == 2
    assert door.value("GET", f"v1/simulations/{run}/runs/{run}")["id"] == run
    assert door.value("POST", f"v1/simulation/tree/check/{run}")["message"] == "passed"


# -- runners and jobs ------------------------------------------------------------------------------


def test_a_job_goes_to_the_runners_that_it_names(door: House) -> None:
    """To none but these, whatever labels others say they have; it says for whom it waits."""
    key = door.model()
    for name in ("north", "south", "east"):
        door.agent(name)
    run = door.dispatch(key, "south", "east")
    assert job(door, run)["reason"].startswith("waiting")
    assert door.lease("north", "agent:south", "agent:south|agent:east") == []
    assert door.lease("east") == [run]
    one = door.dispatch(key, "south")
    assert door.lease("east") == door.lease("north") == []
    assert door.lease("south") == [one]
    assert door.lease("north") == []
    assert door.lease("north", "gpu") == []
    # Only one of the names is no name of an agent.
    odd = door.dispatch(key, "south")
    assert door.lease("sou") == door.lease("south|agent:east") == []
    assert door.lease("south") == [odd]


def test_runners_that_are_not_there_are_refused(door: House) -> None:
    """By who may see runners; for others such a job waits, and says for whom."""
    key = door.model()
    path = f"v1/simulation/run/{key}"
    assert door.call("POST", path, json={"runners": ["ghost"]}).status_code == 404
    for bad in ("north", [7], [""], {"a": 1}, ["x" * 300]):
        assert door.call("POST", path, json={"runners": bad}).status_code == 422, bad
    assert door.call("POST", path, json=[1]).status_code == 422
    assert door.value("GET", "v1/jobs")["totalCount"] == 0
    assert door.value("POST", path, json={"runners": []})["status"] == "pending"
    token = door.person("ada", "user")
    assert door.call("GET", "v1/runners", token=token).status_code == 403
    run = door.dispatch(key, "ghost", token=token)
    door.agent("north")
    door.clock.time += 3
    assert "agent:ghost" in job(door, run)["reason"]


def test_a_job_has_its_resource_once_it_was_given_out(door: House) -> None:
    """Then its id is the run's; before there is none, and its time is never before the call."""
    key = door.model()
    before = door.clock.time
    run = door.dispatch(key)
    waiting = job(door, run)
    assert (waiting["status"], waiting["resource"], waiting["simulation"]) == ("pending", {}, key)
    assert waiting["createdAt"] == "2027-01-15T08:00:02.000000Z"
    assert door.clock.time > before
    door.lease()
    given = job(door, run)
    assert (given["status"], given["resource"]["id"], given["runner"]) == ("running", run, "north")
    door.report(run, RunState.FAILED)
    assert job(door, run)["status"] == "failed"


def test_cancel_ends_what_waits_and_nothing_else(door: House) -> None:
    """A second time is the same; a job that was given out goes on; abort is for that."""
    key = door.model()
    waits, runs = door.dispatch(key), door.dispatch(key)
    for _ in range(2):
        assert door.value("POST", f"v1/jobs/cancel/{waits}")["status"] == "canceled"
    assert door.lease() == [runs]
    assert door.value("POST", f"v1/jobs/cancel/{runs}")["abort"] is False
    for _ in range(2):
        aborted = door.value("POST", f"v1/jobs/abort/{runs}")
        assert (aborted["status"], aborted["abort"]) == ("running", True)
    door.report(runs, RunState.CANCELLED)
    ended = job(door, runs)
    assert (ended["status"], ended["statusLabel"]) == ("canceled", "Aborted by user")
    assert door.value("GET", f"v1/simulations/{key}/runs/{runs}")["status"] == "error"
    unknown = "00000000-0000-4000-8000-000000000000"
    for what in ("cancel", "abort"):
        assert door.call("POST", f"v1/jobs/{what}/{unknown}").status_code == 404


def test_abort_by_resource(door: House) -> None:
    """Of a run, or the latest of a simulation that goes on, if it is the caller's."""
    key, other = door.model(), door.model("beam")
    first, second, elsewhere = door.dispatch(key), door.dispatch(key), door.dispatch(other)
    path = "v1/jobs/abort"
    assert door.value("POST", path, json={"kind": "simulation", "resource": key})["id"] == second
    assert door.value("POST", path, json={"kind": "Run", "resource": elsewhere})["id"] == elsewhere
    assert job(door, first)["status"] == "pending"
    token = door.person("ada", "user")
    theirs = {"kind": "simulation", "resource": key}
    assert door.call("POST", path, json=theirs, token=token).status_code == 404
    own = {"kind": "Run", "resource": first}
    assert door.call("POST", path, json=own, token=token).status_code == 403
    assert door.value("POST", path, json=theirs)["id"] == first
    assert door.call("POST", path, json=theirs).status_code == 404
    for bad in ({}, {"kind": "Mesh", "resource": key}, {"kind": "Run"}, {"resource": key}):
        assert door.call("POST", path, json=bad).status_code == 422


def test_runners_are_our_agents(door: House) -> None:
    """Shown with what they are; deleted once they have been silent, and hold nothing."""
    key = door.model()
    door.agent("north", "gpu")
    run = door.dispatch(key)
    door.lease("north", "gpu")
    shown = door.value("GET", "v1/runners/north")
    assert (shown["status"], shown["tags"], shown["activeJobs"]) == ("active", ["gpu"], 1)
    assert door.call("GET", "v1/runners/ghost").status_code == 404
    alive = door.call("DELETE", "v1/runners/north")
    assert (alive.status_code, alive.json()["code"]) == (409, "conflict")
    assert "heard of" in alive.json()["detail"]
    door.clock.time += 30
    busy = door.call("DELETE", "v1/runners/north")
    assert (busy.status_code, "1 runs" in busy.json()["detail"]) == (409, True)
    door.finish(run)
    door.clock.time += 30
    assert door.value("DELETE", "v1/runners/north")["id"] == "north"
    assert door.value("GET", "v1/runners") == {"data": [], "totalCount": 0}
    assert door.call("GET", "v1/runners/north").status_code == 404


def test_members_of_a_runner(door: House) -> None:
    """Whoever is one of our people is served already; nobody can be left out; both are said."""
    door.agent("north")
    door.person("ada", "user")
    body = {"runner": "north", "emails": ["ada", "nobody@example.org"]}
    added = door.value("PUT", "v1/runners/members/add", json=body)
    assert (added["success"], added["failure"]) == (["ada"], ["nobody@example.org"])
    removed = door.value("PUT", "v1/runners/members/remove", json=body)
    assert (removed["success"], removed["failure"]) == ([], ["ada", "nobody@example.org"])
    assert "everybody" in removed["message"]
    bodies: list[dict[str, Any]] = [{}, {"runner": "north"}, {"runner": "north", "emails": "ada"}]
    for bad in (*bodies, {"emails": []}):
        assert door.call("PUT", "v1/runners/members/add", json=bad).status_code == 422
    ghost = {"runner": "ghost", "emails": []}
    assert door.call("PUT", "v1/runners/members/add", json=ghost).status_code == 404
