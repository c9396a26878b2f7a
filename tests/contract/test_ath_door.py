"""The acoustics door: every call of its document, byte for byte where that gives bytes."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.errors import NotAllowed
from physicsrunner.service.identity import Identity
from physicsrunner.service.options import DAY_S
from tests.contract.ath_door import MESH, SOLVE, Door, compact, posix, served
from tests.support.postgres import PostgresServer

#: Section 5.1 of the document, an item.
EXAMPLE: dict[str, Any] = {
    "id": "9c637d72-9fd2-4aa0-98ce-891ec9ab40cf",
    "status": "running",
    "progress": 0.42,
    "stage": "bem_solve",
    "stage_message": "Solving BEM frequencies",
    "created_at": "2026-02-22T18:20:31.305018",
    "queued_at": "2026-02-22T18:20:31.305018",
    "started_at": "2026-02-22T18:20:31.498112",
    "completed_at": None,
    "config_summary": {
        "formula_type": "R-OSSE",
        "frequency_range": [200, 20000],
        "num_frequencies": 48,
        "sim_type": "2",
    },
    "has_results": False,
    "has_mesh_artifact": True,
    "label": None,
    "error_message": None,
}
MSH = b"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Elements\n0\n$EndElements\n"
RESULTS = b'{"frequencies": [200.0, 20000.0], "spl_on_axis": {"spl": [90.5, 91]}}\n'


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Give the door of an empty server."""
    with served(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    """Give the door of an empty server with each database."""
    if request.param == "sqlite":
        with served(tmp_path) as opened:
            yield opened
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with served(tmp_path, server.fresh()) as opened:
        yield opened
    server.drop()


def running_example(door: Door) -> str:
    """Bring a job to where the document's example stands; return its id."""
    clock = door.house.clock
    clock.time = posix(EXAMPLE["created_at"])
    job = door.solve()
    clock.time = posix(EXAMPLE["started_at"])
    grant = door.started()
    clock.move(2)
    door.report(grant, stage="bem_solve", progress=42.0, label="Solving BEM frequencies")
    door.leave(grant, mesh=MSH)
    return job


# -- golden transcripts --------------------------------------------------------------------------


def test_the_list_is_the_document_s_byte_for_byte(each: Door) -> None:
    """The example of section 5.1, its keys in their order, with this job's id in place of its."""
    door = each
    job = running_example(door)
    page = {"items": [{**EXAMPLE, "id": job}], "total": 1, "limit": 50, "offset": 0}
    answer = door.call("GET", "jobs")
    assert answer.content == compact(page)
    assert answer.headers["content-type"] == "application/json"


def test_an_empty_list_is_one(door: Door) -> None:
    """A browser's first look finds nothing, in the same shape."""
    answer = door.call("GET", "jobs?limit=200&offset=0")
    assert answer.content == b'{"items":[],"total":0,"limit":200,"offset":0}'


def test_solve_answers_the_id_alone(door: Door) -> None:
    """And the id is a UUID."""
    answer = door.call("POST", "solve", json=SOLVE)
    assert answer.status_code == 200
    job = answer.json()["job_id"]
    assert answer.content == compact({"job_id": str(uuid.UUID(job))})


def test_status_is_the_document_s(door: Door) -> None:
    """Its five fields, in their order."""
    job = running_example(door)
    assert door.call("GET", f"status/{job}").content == compact(
        {
            "status": "running",
            "progress": 0.42,
            "stage": "bem_solve",
            "stage_message": "Solving BEM frequencies",
            "message": None,
        }
    )


def test_deletion_answers_as_section_5_2_says(door: Door) -> None:
    """200 once, 404 after that; 409 while the job is queued or running."""
    job, other = door.solve(), door.solve()
    assert door.call("DELETE", f"jobs/{job}").status_code == 409
    grant = door.started()
    assert door.call("DELETE", f"jobs/{job}").status_code == 409
    assert door.call("DELETE", f"jobs/{other}").status_code == 409
    door.complete(grant, results=RESULTS)
    answer = door.call("DELETE", f"jobs/{job}")
    assert answer.status_code == 200
    assert answer.content == compact({"deleted": True, "job_id": job})
    gone = door.call("DELETE", f"jobs/{job}")
    assert gone.status_code == 404
    assert isinstance(gone.json()["detail"], str)
    assert door.call("GET", f"results/{job}").status_code == 404


# -- what is asked for ---------------------------------------------------------------------------


def test_the_whole_request_reaches_main_py(door: Door) -> None:
    """All fields, known or not, are parameters; the mesh lies beside, with its tags as they are."""
    more = {"polar_config": {"distance": 2.0}, "verbose": True, "frequency_spacing": "log"}
    mesh = {**MESH, "format": "msh", "metadata": {"units": "mm"}}
    job = door.solve(mesh=mesh, label="Tritonia M", **more)
    run = door.house.services.runs.get(door.house.admin, job)
    assert run.parameters == {**SOLVE, "label": "Tritonia M", **more}
    (kept,) = run.inputs
    assert kept["path"] == "mesh.json"
    file = door.house.services.runs.input_path(door.house.admin, kept["sha256"])
    assert json.loads(file.read_bytes()) == mesh
    assert (run.name, run.door, run.on_lost_contact) == ("Tritonia M", "ath", "fail")


def test_a_mesh_is_no_part_of_the_database(door: Door) -> None:
    """Two jobs of one large mesh keep it once, as a file."""
    count = 10_000
    mesh = {
        "vertices": [0.5] * 9,
        "indices": [0, 1, 2] * count,
        "surfaceTags": [2] * count,
    }
    jobs = [door.solve(mesh=mesh), door.solve(mesh=mesh)]
    runs = [door.house.services.runs.get(door.house.admin, job) for job in jobs]
    assert runs[0].inputs == runs[1].inputs
    assert all(len(json.dumps(run.parameters)) < 1000 for run in runs)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mesh": {**MESH, "surfaceTags": [1, 1, 3, 4]}}, "no tag 2"),
        ({"mesh": {**MESH, "surfaceTags": [1, 2, 3, 5]}}, "tag 5"),
        ({"mesh": {**MESH, "surfaceTags": [1, 2, 3]}}, "3 tags for 4 triangles"),
        ({"mesh": {**MESH, "indices": [0, 1, 2, 3]}}, "come in threes"),
        ({"mesh": {**MESH, "vertices": [0, 0, 0, 1]}}, "come in threes"),
        ({"mesh": {**MESH, "indices": [0, 1, 2, 0, 1, 3, 0, 2, 3, 1, 2, 4]}}, "vertex 4"),
        ({"mesh": {"vertices": [], "indices": [], "surfaceTags": []}}, "no tag 2"),
        ({"frequency_range": [20000, 200]}, "the lower frequency comes first"),
        ({"deep": json.loads("[" * 80 + "]" * 80)}, "nested"),
    ],
)
def test_what_does_not_fit_together_is_told_in_words(
    door: Door, fields: dict[str, Any], said: str
) -> None:
    """422, with a detail that says what is wrong; nothing is queued."""
    answer = door.call("POST", "solve", json={**SOLVE, **fields})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert door.items() == []


@pytest.mark.parametrize(
    ("fields", "place", "kind"),
    [
        ({"frequency_range": None}, ["frequency_range"], "list_type"),
        ({"frequency_range": [200]}, ["frequency_range"], "too_short"),
        ({"frequency_range": [0, 200]}, ["frequency_range", 0], "greater_than"),
        ({"frequency_range": ["a", 200]}, ["frequency_range", 0], "float_type"),
        ({"num_frequencies": 0}, ["num_frequencies"], "greater_than_equal"),
        ({"num_frequencies": 1.5}, ["num_frequencies"], "int_type"),
        ({"num_frequencies": 10**9}, ["num_frequencies"], "less_than_equal"),
        ({"sim_type": 2}, ["sim_type"], "string_type"),
        ({"formula_type": ""}, ["formula_type"], "string_too_short"),
        ({"label": 5}, ["label"], "string_type"),
        ({"label": "\ud800"}, ["label"], "string_unicode"),
        ({"label": "a\0b"}, ["label"], "string_pattern_mismatch"),
        ({"formula_type": "\0"}, ["formula_type"], "string_pattern_mismatch"),
        ({"label": "x" * 256}, ["label"], "string_too_long"),
        ({"mesh": []}, ["mesh"], "model_type"),
        ({"mesh": {"vertices": []}}, ["mesh", "indices"], "missing"),
        ({"mesh": {**MESH, "indices": [-1, 0, 1]}}, ["mesh", "indices", 0], "greater_than_equal"),
    ],
)
def test_a_wrong_field_is_named_as_fastapi_does(
    door: Door, fields: dict[str, Any], place: list[Any], kind: str
) -> None:
    """422, with a list of what is wrong and where."""
    answer = door.call("POST", "solve", json={**SOLVE, **fields})
    assert answer.status_code == 422
    problem = answer.json()["detail"][0]
    assert (problem["loc"], problem["type"]) == (["body", *place], kind)
    assert set(problem) == {"type", "loc", "msg"}


@pytest.mark.parametrize("name", list(SOLVE))
def test_a_missing_field_is_named(door: Door, name: str) -> None:
    """Only the mesh and the label may be missing."""
    body = {key: value for key, value in SOLVE.items() if key != name}
    answer = door.call("POST", "solve", json=body)
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required"}]
    }


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"frequency_range": [NaN, 1]}', b'{"a": Infinity}', b"[" * 100_000]
)
def test_what_is_no_json_object_is_refused(door: Door, body: bytes) -> None:
    """422 in the same shape; NaN and Infinity are no JSON."""
    answer = door.call("POST", "solve", data=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    "fields",
    [
        '"frequency_range": [200, 1e999]',
        '"frequency_range": [1, 2], "more": 1e999',
        (
            '"frequency_range": [1, 2], "mesh": {"vertices": [1e999, 0, 0], '
            '"indices": [0, 0, 0], "surfaceTags": [2]}'
        ),
    ],
)
def test_a_number_without_end_is_refused(door: Door, fields: str) -> None:
    """JSON can say it; nothing can compute with it."""
    body = f'{{"num_frequencies": 4, "sim_type": "2", "formula_type": "OSSE", {fields}}}'
    assert door.call("POST", "solve", data=body.encode()).status_code == 422
    assert door.items() == []


def test_a_huge_request_is_refused_before_it_is_read(door: Door) -> None:
    """413, at the server's limit for messages."""
    answer = door.call("POST", "solve", data=b" " * (1024 * 1024 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("job", ["1", "x", "9c637d72-9fd2-4aa0-98ce-891ec9ab40cf", "..%2F..", "é"])
def test_an_id_that_is_none_is_a_job_that_is_not_there(door: Door, job: str) -> None:
    """404 from every call that takes one, also for numbers and what is no UUID."""
    door.solve()
    calls = [
        ("GET", f"status/{job}"),
        ("POST", f"stop/{job}"),
        ("GET", f"results/{job}"),
        ("GET", f"mesh-artifact/{job}"),
        ("GET", f"jobs/{job}"),
        ("DELETE", f"jobs/{job}"),
    ]
    for method, path in calls:
        assert door.call(method, path).status_code == 404, path
    assert door.call("PATCH", f"jobs/{job}", json={"label": "x"}).status_code == 404


# -- the queue -----------------------------------------------------------------------------------


def test_one_job_runs_at_a_time_in_their_order(each: Door) -> None:
    """The next one starts when the one before it has ended, however that was."""
    door = each
    jobs = [door.solve(label=str(place)) for place in range(3)]
    grant = door.started()
    assert grant.run == jobs[0]
    assert door.lease("other") is None
    door.complete(grant)
    second = door.started()
    assert second.run == jobs[1]
    door.fail(second)
    assert door.started().run == jobs[2]
    assert [door.status(job) for job in jobs] == ["complete", "error", "running"]


def test_more_at_a_time_where_the_operator_says_so(tmp_path: Path) -> None:
    """The setting holds from the next start on, also where it was another before."""
    with served(tmp_path, ath_max_concurrent_runs=1) as door:
        jobs = [door.solve() for _ in range(4)]
        assert door.started().run == jobs[0]
        assert door.lease() is None
    with served(tmp_path, ath_max_concurrent_runs=3) as door:
        assert [door.started().run for _ in range(2)] == jobs[1:3]
        assert door.lease() is None
    with served(tmp_path, ath_max_concurrent_runs=1) as door:
        assert door.lease() is None
        assert [door.status(job) for job in jobs] == ["running"] * 3 + ["queued"]


def test_everybody_s_jobs_are_in_one_queue(door: Door) -> None:
    """The limit is the server's, not each person's."""
    ada = door.value("POST", "solve", json=SOLVE, token=door.token_of("ada"))["job_id"]
    bob = door.value("POST", "solve", json=SOLVE, token=door.token_of("bob"))["job_id"]
    grant = door.started()
    assert grant.run == ada
    assert door.lease() is None
    door.complete(grant)
    assert door.started().run == bob


def test_many_at_once_are_all_queued(door: Door) -> None:
    """Each gets an id of its own, and they run one by one."""
    found: list[str] = []

    def ask() -> None:
        headers = {"Authorization": f"Bearer {door.token}"}
        url = f"{door.url}/ath/api/solve"
        found.append(requests.post(url, json=SOLVE, headers=headers, timeout=30).json()["job_id"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 12
    assert set(door.listed("queued")) == set(found)


# -- stopping ------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(door: Door) -> None:
    """Nobody is given it any more."""
    job = door.solve()
    answer = door.value("POST", f"stop/{job}")
    assert answer == {"message": f"Job {job} has been cancelled", "status": "cancelled"}
    assert door.status(job) == "cancelled"
    assert door.lease() is None


def test_a_running_job_reads_cancelled_as_soon_as_it_is_asked(door: Door) -> None:
    """In its status, in lists and in their filters alike; the next starts when it has ended."""
    job, other = door.solve(), door.solve()
    grant = door.started()
    assert door.value("POST", f"stop/{job}")["status"] == "cancelled"
    assert door.status(job) == "cancelled"
    assert door.listed("running") == []
    assert door.listed("cancelled") == [job]
    assert door.value("GET", "jobs?status=cancelled")["total"] == 1
    assert door.value("GET", "jobs?status=running")["total"] == 0
    assert [item["status"] for item in door.items()] == ["queued", "cancelled"]
    assert door.lease() is None, "the program still runs, and no other one runs beside it"
    assert door.report(grant, state=RunState.CANCELLED) is None
    assert door.status(job) == "cancelled"
    assert door.started().run == other


@pytest.mark.parametrize("end", [RunState.COMPLETED, RunState.FAILED])
def test_a_cancelled_job_stays_so_however_it_ends(door: Door, end: RunState) -> None:
    """What it brings when it comes back later is not shown."""
    job = door.solve()
    grant = door.started()
    door.leave(grant, results=RESULTS)
    door.value("POST", f"stop/{job}")
    assert door.report(grant, state=end, exit_code=0) is None
    assert door.house.services.runs.get(door.house.admin, job).status is end
    (item,) = door.items()
    assert (item["status"], item["has_results"]) == ("cancelled", False)
    assert door.listed("cancelled") == [job]
    assert door.listed("complete,error,running") == []
    assert door.call("GET", f"results/{job}").status_code == 400
    assert door.call("DELETE", f"jobs/{job}").status_code == 200


def test_stopping_twice_is_stopping_once_and_what_has_ended_stays(door: Door) -> None:
    """A repeat is no error; a job that is complete or failed answers 400, as clients expect."""
    job = door.solve()
    door.value("POST", f"stop/{job}")
    assert door.value("POST", f"stop/{job}")["status"] == "cancelled"
    for end in ("complete", "error"):
        ended = door.solve()
        grant = door.started()
        door.complete(grant) if end == "complete" else door.fail(grant)
        answer = door.call("POST", f"stop/{ended}")
        assert answer.status_code == 400
        assert end in answer.json()["detail"]
        assert door.status(ended) == end


def test_a_stopped_job_can_be_deleted_while_its_program_still_ends(door: Door) -> None:
    """For the client it has ended; its holder has lost the lease, and the next one may start."""
    job, other = door.solve(), door.solve()
    grant = door.started()
    door.value("POST", f"stop/{job}")
    assert door.call("DELETE", f"jobs/{job}").status_code == 200
    assert door.call("GET", f"status/{job}").status_code == 404
    assert door.report(grant, state=RunState.COMPLETED) is not None
    assert door.started().run == other


# -- what comes of it ----------------------------------------------------------------------------


def test_results_are_the_file_that_main_py_left(door: Door) -> None:
    """Byte for byte; 400 until the job is complete, 404 when there is none."""
    job = door.solve()
    assert door.call("GET", f"results/{job}").status_code == 400
    grant = door.started()
    answer = door.call("GET", f"results/{job}")
    assert answer.status_code == 400
    assert "running" in answer.json()["detail"]
    door.complete(grant, results=RESULTS)
    answer = door.call("GET", f"results/{job}")
    assert answer.content == RESULTS
    assert answer.headers["content-type"] == "application/json"
    (item,) = door.items()
    assert (item["status"], item["progress"], item["has_results"]) == ("complete", 1.0, True)

    without = door.solve()
    door.complete(door.started())
    assert door.call("GET", f"results/{without}").status_code == 404
    assert door.items()[0]["has_results"] is False


def test_the_mesh_is_text_and_is_there_while_the_job_runs(door: Door) -> None:
    """Whole, or not at all."""
    job = door.solve()
    grant = door.started()
    assert door.call("GET", f"mesh-artifact/{job}").status_code == 404
    door.leave(grant, mesh=MSH[:-20])
    assert door.call("GET", f"mesh-artifact/{job}").status_code == 404
    assert door.items()[0]["has_mesh_artifact"] is False
    ended = door.solve()
    door.complete(grant, mesh=MSH)
    answer = door.call("GET", f"mesh-artifact/{job}")
    assert (answer.status_code, answer.content) == (200, MSH)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    grant = door.started()
    door.leave(grant, mesh=MSH)
    assert door.call("GET", f"mesh-artifact/{ended}").content == MSH
    assert [item["has_mesh_artifact"] for item in door.items()] == [True, True]


def test_a_failed_job_says_why(door: Door) -> None:
    """In its status and in lists; other jobs say nothing there."""
    job = door.solve()
    door.fail(door.started(), text="singular matrix")
    (item,) = door.items()
    assert (item["status"], item["error_message"]) == ("error", "singular matrix")
    found = door.value("GET", f"status/{job}")
    assert (found["status"], found["stage"], found["message"]) == (
        "error",
        "error",
        "singular matrix",
    )


def test_a_job_whose_agent_never_came_back_ends_as_the_document_says(door: Door) -> None:
    """After lease and grace time it is an error with that message, and the next one starts."""
    clock, leases = door.house.clock, door.house.services.leases
    job, other = door.solve(), door.solve()
    grant = door.started()
    leases.expire(clock())
    for _ in range(200):  # a minute's looks would do; the clock must not jump
        clock.move(3)
        leases.expire(clock())
    (item,) = door.items("?status=error")
    assert (item["id"], item["error_message"]) == (job, "Server restarted during execution")
    assert "not heard of" in item["stage_message"]
    assert door.report(grant, state=RunState.COMPLETED) is not None, "it is over"
    assert door.status(job) == "error"
    assert door.started().run == other


def test_a_job_whose_agent_comes_back_goes_on(door: Door) -> None:
    """Contact that is lost for a while ends nothing."""
    clock, leases = door.house.clock, door.house.services.leases
    job = door.solve()
    grant = door.started()
    leases.expire(clock())
    for _ in range(40):
        clock.move(3)
        leases.expire(clock())
    assert door.status(job) == "running"
    door.complete(grant, results=RESULTS)
    assert door.status(job) == "complete"


# -- lists ---------------------------------------------------------------------------------------


def test_states_filter_a_list(each: Door) -> None:
    """Each by its word, several by a comma list; other words are refused and the words named."""
    door = each
    done, bad, stopped, runs, waits = (door.solve() for _ in range(5))
    door.complete(door.started())
    door.fail(door.started())
    door.value("POST", f"stop/{stopped}")
    door.started()
    assert door.listed("complete") == [done]
    assert door.listed("error") == [bad]
    assert door.listed("cancelled") == [stopped]
    assert door.listed("running") == [runs]
    assert door.listed("queued") == [waits]
    assert door.listed("queued, running") == [waits, runs]
    assert door.listed("complete,error,cancelled") == [stopped, bad, done]
    assert door.listed("") == [waits, runs, stopped, bad, done]
    answer = door.call("GET", "jobs?status=queued,done")
    assert answer.status_code == 422
    assert "complete" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "offset=-1", "offset=x", "limit="]
)
def test_pages_have_their_limits(door: Door, query: str) -> None:
    """422 in the shape of FastAPI."""
    answer = door.call("GET", f"jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


def test_a_list_is_leafed_through(door: Door) -> None:
    """The newest first, each job once, and the total of all."""
    jobs = [door.solve(label=str(place)) for place in range(7)]
    found = []
    for offset in range(0, 9, 3):
        page = door.value("GET", f"jobs?limit=3&offset={offset}")
        assert (page["total"], page["limit"], page["offset"]) == (7, 3, offset)
        found += [item["id"] for item in page["items"]]
    assert found == jobs[::-1]


def test_times_have_microseconds_always(door: Door) -> None:
    """Also when they are none: clients read one form."""
    door.house.clock.time = posix("2026-02-22T18:20:31")
    door.solve()
    assert door.items()[0]["created_at"] == "2026-02-22T18:20:31.000000"


def test_labels_are_given_and_changed(each: Door) -> None:
    """By the request, and later; null takes it away. The configuration stays what was sent."""
    door = each
    job, plain = door.solve(label="first"), door.solve()
    assert [item["label"] for item in door.items()] == [None, "first"]
    changed = door.value("PATCH", f"jobs/{job}", json={"label": "second"})
    assert (changed["id"], changed["label"]) == (job, "second")
    assert changed["config_summary"] == SOLVE
    door.value("PATCH", f"jobs/{plain}", json={"label": "mine"})
    assert [item["label"] for item in door.items()] == ["mine", "second"]
    assert door.value("PATCH", f"jobs/{plain}", json={"label": None})["label"] is None
    assert door.value("GET", f"jobs/{job}")["config"]["label"] == "first"
    run = door.house.services.runs.get(door.house.admin, job)
    assert run.name == "second"
    assert "simulation/renamed" in door.house.types()
    wrongs: list[Any] = [{}, {"label": 5}, {"label": "x" * 300}, {"label": "\0"}, []]
    for wrong in wrongs:
        assert door.call("PATCH", f"jobs/{job}", json=wrong).status_code == 422


def test_runs_of_other_doors_are_jobs_too(door: Door) -> None:
    """By their id always, in lists where all are asked for."""
    runs = door.house.services.runs
    model = door.house.services.models.list(door.house.admin)[0].id
    parameters = {"sim_type": "1", "num_frequencies": 3}
    run = runs.create(door.house.admin, NewRun(model, name="native", parameters=parameters))
    job = door.solve()
    assert [item["id"] for item in door.items()] == [job]
    assert [item["id"] for item in door.items("?all=true")] == [job, run.id]
    assert [item["id"] for item in door.items("?all=true&status=queued")] == [job, run.id]
    found = door.value("GET", f"jobs/{run.id}")
    assert (found["status"], found["label"]) == ("queued", "native")
    assert found["config_summary"]["num_frequencies"] == 3
    assert found["config"] == parameters
    assert door.value("POST", f"stop/{run.id}")["status"] == "cancelled"


def test_the_history_is_exported_whole(each: Door) -> None:
    """Every job with what was sent for it, mesh and all, the oldest first."""
    door = each
    first = door.solve(mesh=MESH, label="a", extra=[1, None, "ü\0"])
    second = door.solve(mesh=None)
    door.complete(door.started(), results=RESULTS)
    answer = door.call("GET", "jobs/export")
    assert answer.headers["content-type"] == "application/json"
    items = answer.json()["items"]
    assert [item["id"] for item in items] == [first, second]
    assert items[0]["config"] == {**SOLVE, "mesh": MESH, "label": "a", "extra": [1, None, "ü\0"]}
    assert items[1]["config"] == {**SOLVE, "mesh": None}
    listed = {item["id"]: item for item in door.items()}
    for item in items:
        assert {key: value for key, value in item.items() if key != "config"} == listed[item["id"]]
    again = door.solve(**items[0]["config"])
    assert door.value("GET", "jobs/export")["items"][-1]["id"] == again


def test_an_export_that_cannot_go_on_is_cut_off(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes half a history for the whole one, whatever was wrong."""
    jobs, runs = [door.solve() for _ in range(3)], door.house.services.runs
    for error in (OSError("no such disk"), NotAllowed("no more")):

        def get(who: Identity, run: str, error: Exception = error, real: Any = runs.get) -> Any:
            if run == jobs[1]:
                raise error
            return real(who, run)

        with monkeypatch.context() as patched:
            patched.setattr(runs, "get", get)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                door.call("GET", "jobs/export")
    assert len(door.value("GET", "jobs/export")["items"]) == 3


def test_a_description_can_be_read(door: Door) -> None:
    """Other doors and the page show it as it is."""
    job = door.solve(label='a "ü"\nb: 1')
    runs, admin = door.house.services.runs, door.house.admin
    assert (runs.get(admin, job).description or "").split("\n") == [
        'formula_type: "R-OSSE"',
        "frequency_range: [200, 20000]",
        "num_frequencies: 48",
        'sim_type: "2"',
        'label: "a \\"ü\\"\\nb: 1"',
    ]
    shown = door.value("GET", f"jobs/{job}")
    assert (shown["config_summary"], shown["label"]) == (SOLVE, 'a "ü"\nb: 1')
    for other in ("of my own", "note: of my own", '{"a": 1}', ""):
        runs.rename(admin, job, "run", other)
        shown = door.value("GET", f"jobs/{job}")
        assert set(shown["config_summary"].values()) == {None}


def test_jobs_are_kept_for_30_days(door: Door) -> None:
    """What ended longer ago is gone from the door; what waits or runs is not."""
    clock, retention = door.house.clock, door.house.services.retention
    old, waits = door.solve(), door.solve()
    door.complete(door.started())
    clock.move(29 * DAY_S)
    retention.step(clock())
    assert door.status(old) == "complete"
    clock.move(2 * DAY_S)
    retention.step(clock())
    assert [item["id"] for item in door.items()] == [waits]
    assert door.call("GET", f"status/{old}").status_code == 404


# -- who ---------------------------------------------------------------------------------------


def test_every_call_needs_a_token_where_nobody_is_named(door: Door) -> None:
    """401 without one, or with a wrong one."""
    job = door.solve()
    calls = [
        ("POST", "solve"),
        ("GET", f"status/{job}"),
        ("POST", f"stop/{job}"),
        ("GET", f"results/{job}"),
        ("GET", f"mesh-artifact/{job}"),
        ("GET", "jobs"),
        ("GET", "jobs/export"),
        ("GET", f"jobs/{job}"),
        ("PATCH", f"jobs/{job}"),
        ("DELETE", f"jobs/{job}"),
    ]
    for method, path in calls:
        assert door.call(method, path, token=None).status_code == 401, path
        assert door.call(method, path, token="wrong").status_code == 401, path
    assert door.status(job) == "queued"


def test_this_machine_needs_no_token_where_somebody_is_named(tmp_path: Path) -> None:
    """A browser page of this machine acts as that person; one of elsewhere does not."""
    with served(tmp_path, door_user="admin") as door:
        job = door.value("POST", "solve", json=SOLVE, token=None)["job_id"]
        assert door.house.services.runs.get(door.house.admin, job).created_by == "admin"
        own, foreign = {"Origin": "http://localhost:5173"}, {"Origin": "http://evil.example"}
        assert door.call("GET", "jobs", token=None, headers=own).status_code == 200
        assert door.call("GET", "jobs", token=None, headers=foreign).status_code == 401


def test_others_jobs_are_seen_and_not_changed(door: Door) -> None:
    """As everywhere: a viewer reads, a user changes what is theirs."""
    job = door.value("POST", "solve", json=SOLVE, token=door.token_of("ada"))["job_id"]
    bob, eve = door.token_of("bob"), door.token_of("eve", "viewer")
    assert door.call("GET", f"status/{job}", token=bob).status_code == 200
    for method, path in (("POST", f"stop/{job}"), ("DELETE", f"jobs/{job}")):
        assert door.call(method, path, token=bob).status_code == 403
        assert door.call(method, path, token=eve).status_code == 403
    label = door.call("PATCH", f"jobs/{job}", token=bob, json={"label": "x"})
    assert label.status_code == 403
    assert door.call("POST", "solve", json=SOLVE, token=eve).status_code == 403
