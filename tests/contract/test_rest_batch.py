"""Many runs by one request: all of them or none, and once however often it is sent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from physicsrunner import Client
from physicsrunner.core.run import NewStudy
from physicsrunner.wire import rest
from physicsrunner.wire.batch import MAX_RUNS
from tests.contract.rest_server import RestServer, rest_server, zip_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """One server for the module."""
    with rest_server(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def model(server: RestServer) -> str:
    """The id of a model on it."""
    return str(server.model()["id"])


def batch(server: RestServer, **body: Any) -> dict[str, Any]:
    """Send a batch that must be taken."""
    found: dict[str, Any] = server.value("POST", rest.BATCH, json=body, status=201)
    return found


def total(server: RestServer) -> int:
    return int(server.value("GET", rest.SIMULATIONS)["total"])


def test_ten_thousand_runs_by_one_request(server: RestServer, model: str) -> None:
    """They are there when it is answered, in the order of the request, with counted totals."""
    sets = [{"parameters": {"re": number}} for number in range(MAX_RUNS)]
    base = {"model_id": model, "name": "sweep", "parameters": {"inputs": {"dt": 0.1, "re": 0}}}
    study = {"name": "re-sweep", "max_concurrent_runs": 8}
    made = batch(server, base_request=base, parameter_variations=sets, study=study)
    assert made["count"] == len(set(made["ids"])) == MAX_RUNS
    assert made["last"] - made["first"] + 1 == MAX_RUNS
    third = server.value("GET", rest.simulation(made["ids"][2]))
    assert third["parameters"]["inputs"] == {"dt": 0.1, "re": 2}
    assert (third["number"], third["name"]) == (made["first"] + 2, "sweep 3")
    assert third["study_id"] == made["study"]
    page = server.value("GET", rest.SIMULATIONS, params={"study_id": made["study"]})
    assert (page["total"], page["total_is_exact"]) == (MAX_RUNS, True)
    shown = server.value("GET", rest.study(made["study"]))
    assert (shown["counts"], shown["max_concurrent_runs"]) == ({"queued": MAX_RUNS}, 8)


def test_a_repeat_makes_no_second_runs(server: RestServer, model: str) -> None:
    """Neither of runs with ids of their own nor of variations of a base with one."""
    runs = [{"id": str(uuid.uuid4()), "model_id": model} for _ in range(3)]
    sets = [{"set_id": "a"}, {"set_id": "b"}]
    base = {"id": str(uuid.uuid4()), "model_id": model}
    for body in (
        {"runs": runs},
        {"base_request": base, "parameter_variations": sets, "max_concurrent_runs": 2},
    ):
        first = batch(server, **body)
        before = total(server)
        assert batch(server, **body) == first
        assert total(server) == before
    assert batch(server, runs=runs)["ids"] == [run["id"] for run in runs]


def test_one_wrong_run_keeps_all_out(server: RestServer, model: str) -> None:
    """All of them or none."""
    before = total(server)
    good = {"model_id": model}
    for wrong, status in (
        ({"model_id": str(uuid.uuid4())}, 404),
        ({}, 422),
        ({**good, "configuration": {"priority": 9}}, 422),
        ({**good, "name": 7}, 422),
        ({**good, "study_id": str(uuid.uuid4())}, 404),
    ):
        answer = server.call("POST", rest.BATCH, json={"runs": [good, wrong, good]})
        assert answer.status_code == status, answer.text
    assert total(server) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"runs": []},
        {"runs": {}},
        {"runs": [3]},
        {"base_request": {}, "parameter_variations": []},
        {"base_request": {}, "parameter_variations": [7]},
        {"base_request": {}, "runs": [{}], "parameter_variations": [{}]},
        {"base_request": {"id": "seven"}, "parameter_variations": [{}]},
        {"base_request": {"parameters": {"inputs": 3}}, "parameter_variations": [{}]},
        {"base_request": {}, "parameter_variations": [{}], "execution_mode": "adaptive"},
        {"base_request": {}, "parameter_variations": [{}], "max_concurrent_runs": 0},
        {"base_request": {}, "parameter_variations": [{}], "study": {}},
        {"base_request": {}, "parameter_variations": [{}], "study": {"name": " "}},
    ],
)
def test_a_wrong_batch_is_refused(server: RestServer, model: str, body: Any) -> None:
    """422 says what is wrong, and nothing is made, no study either."""
    if isinstance(body, dict) and isinstance(body.get("base_request"), dict):
        body = {**body, "base_request": {"model_id": model, **body["base_request"]}}
    before = total(server), len(server.value("GET", rest.STUDIES)["data"])
    problem = server.value("POST", rest.BATCH, json=body, status=422)
    assert problem["code"] == "invalid_request"
    assert (total(server), len(server.value("GET", rest.STUDIES)["data"])) == before


def test_more_than_a_batch_holds_is_refused(server: RestServer, model: str) -> None:
    """It says how many are too many."""
    sets: list[dict[str, Any]] = [{}] * (MAX_RUNS + 1)
    body = {"base_request": {"model_id": model}, "parameter_variations": sets}
    problem = server.value("POST", rest.BATCH, json=body, status=422)
    assert str(MAX_RUNS) in problem["detail"]


def test_a_batch_that_runs_one_after_the_other(server: RestServer, model: str) -> None:
    """Sequential is a study of at most one run at once."""
    made = batch(
        server,
        base_request={"model_id": model, "name": "one by one"},
        parameter_variations=[{}, {}, {}],
        execution_mode="sequential",
    )
    study = server.value("GET", rest.study(made["study"]))
    assert (study["name"], study["max_concurrent_runs"]) == ("one by one", 1)


def test_studies_are_made_once_and_shown(server: RestServer, model: str) -> None:
    """The id is the idempotency key; what is not there is not found."""
    wanted: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "name": "doe",
        "max_concurrent_runs": 3,
    }
    made = [server.value("POST", rest.STUDIES, json=wanted, status=201) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0]["name"] == "doe"
    assert server.value("GET", rest.study(wanted["id"])) == made[0]
    assert wanted["id"] in {one["id"] for one in server.value("GET", rest.STUDIES)["data"]}
    assert server.call("GET", rest.study(str(uuid.uuid4()))).status_code == 404
    for wrong in ({"name": ""}, {"name": "x", "max_concurrent_runs": 0}, {"id": "x", "name": "x"}):
        assert server.call("POST", rest.STUDIES, json=wrong).status_code == 422, wrong
    batch(server, runs=[{"model_id": model, "study_id": wanted["id"]}])
    assert server.value("GET", rest.study(wanted["id"]))["counts"] == {"queued": 1}


def test_who_may_read_few_studies_finds_them_behind_many(server: RestServer) -> None:
    """Rights and names are asked for in the list itself, and its pages hold all there are."""
    eve = person(server, "eve", sweeps="user")
    mine = {"name": "sweep", "project_id": "sweeps"}
    own = server.value("POST", rest.STUDIES, json=mine, token=eve, status=201)
    admin = server.services.access.authenticate(server.admin)
    for n in range(1001):  # the largest page, and one more
        server.services.studies.create(admin, NewStudy(f"other {n}"))

    def listed(query: str = "", token: str = server.admin) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.value("GET", rest.STUDIES + query, token=token)["data"]
        return found

    assert listed(token=eve) == listed("?name=sweep") == listed("?project_id=sweeps") == [own]
    assert listed("?name=other 7", eve) == listed("?offset=1&project_id=sweeps") == []
    assert len(listed("?name=other 7")) == 1
    first, last = listed(), listed("?offset=1000")
    assert len(first) == 1000
    assert own in last
    assert len({one["id"] for one in first + last}) == 1000 + len(last)
    for wrong in ("limit=0", "limit=1001", "offset=-1", "name="):
        assert server.call("GET", f"{rest.STUDIES}?{wrong}").status_code == 422, wrong
    with Client(server.url, token=server.admin) as client:
        assert client.study("sweep")["id"] == own["id"]  # and no second one of that name


def person(server: RestServer, name: str, **projects: str) -> str:
    """Make a person with no role but in *projects*, which are made too; return a token."""
    server.value("POST", rest.USERS, json={"name": name, "role": None})
    for project, role in projects.items():
        server.value("POST", rest.PROJECTS, json={"id": project, "name": project})
        server.value("PUT", rest.member(project, name), json={"role": role})
    made = server.value("POST", rest.TOKENS, json={"name": "t", "user": name})
    return str(made["token"])


def test_a_study_of_another_is_not_joined(server: RestServer, model: str) -> None:
    """Another user may not put runs into it, and a viewer may make none."""
    study = server.value("POST", rest.STUDIES, json={"name": "mine"})["id"]
    user, viewer = (server.services.access.user_token(f"b-{r}", r) for r in ("user", "viewer"))
    body = {"runs": [{"model_id": model, "study_id": study}]}
    assert server.call("POST", rest.BATCH, json=body, token=user).status_code == 403
    assert server.call("POST", rest.STUDIES, json={"name": "x"}, token=viewer).status_code == 403
    assert server.value("GET", rest.study(study))["counts"] == {}


@pytest.mark.parametrize("project", ["nowhere", "no where", "\u0000", "\ud800", "x" * 70, ""])
def test_nothing_is_made_in_a_project_that_is_not_there(
    server: RestServer, model: str, project: str
) -> None:
    """Not by those either who may do everything everywhere: 404, and 422 for what is no id."""
    before = total(server), len(server.value("GET", rest.STUDIES)["data"])
    status = 404 if project == "nowhere" else 422
    run = {"model_id": model, "project_id": project}
    for path, body in (
        (rest.SIMULATIONS, run),
        (rest.SIMULATIONS, {"project_id": project, "claim": {"agent": "here"}}),
        (rest.BATCH, {"runs": [{"model_id": model}, run]}),
        (rest.BATCH, {"base_request": run, "parameter_variations": [{}], "study": {"name": "s"}}),
        (rest.STUDIES, {"name": "s", "project_id": project}),
    ):
        problem = server.value("POST", path, data=json.dumps(body), status=status)
        assert "project" in problem["detail"] or "Unicode" in problem["detail"], path
    place = {"project_id": project.encode(errors="replace")}
    bundle = zip_of({"main.py": b""})
    answer = server.call("POST", rest.MODELS, params=place, data=bundle)
    assert answer.status_code == (404 if project == "nowhere" else 422)
    assert (total(server), len(server.value("GET", rest.STUDIES)["data"])) == before


def test_whether_there_is_a_project_is_not_told_to_strangers(
    server: RestServer, model: str
) -> None:
    """Who has no role is refused in the same words, whether there is such a project or not."""
    server.value("POST", rest.PROJECTS, json={"id": "thermal"}, status=201)
    server.value("POST", rest.USERS, json={"name": "nobody"}, status=201)
    body = {"name": "t", "user": "nobody"}
    token = server.value("POST", rest.TOKENS, json=body, status=201)["token"]
    told = []
    for project in ("thermal", "nowhere"):
        body = {"model_id": model, "project_id": project}
        problem = server.value("POST", rest.SIMULATIONS, json=body, token=token, status=403)
        told.append(problem["detail"].replace(project, "P"))
    assert told[0] == told[1]
