"""The PhysicsWorks door: every call of the wire contract, against the real services."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI

from physicsrunner.core.run import InputFile, NewRun
from physicsrunner.core.state import RunState
from physicsrunner.server import problems
from physicsrunner.server.doors import physicsworks
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services, build
from physicsrunner.wire.messages import LeaseRequest, Report, Resources, SyncOp
from tests.support.wait import wait_until

CHUNK = 5 * 1024 * 1024


class Clock:
    """A clock that a test can set forward."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Door:
    """The door on a port, and a client of the wire."""

    services: Services
    clock: Clock
    host: str
    token: str
    admin: Identity
    session: requests.Session

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        """Make one JSON call."""
        headers = {"auth-token": more.pop("token", self.token)}
        return self.session.request(
            method, self.host + path, json=body, headers=headers, timeout=30, **more
        )

    def form(self, path: str, fields: Mapping[str, Any], **more: Any) -> requests.Response:
        """Post a form field ``json``, as the published client does."""
        headers = {"auth-token": more.pop("token", self.token)}
        return self.session.post(
            self.host + path, data={"json": json.dumps(fields)}, headers=headers, timeout=30
        )

    def append(
        self, run: str, stored: str, name: str, data: bytes, **more: Any
    ) -> requests.Response:
        """Add to a log, plot or medium."""
        fields = {
            "filename": stored,
            "chunk": base64.b64encode(data).decode(),
            "isNew": more.pop("new", False),
            "isAscii": more.pop("text", True),
            "metadata": metadata(run, name),
        }
        return self.form("storage/append", fields, **more)

    def chunk(
        self, run: str, name: str, whole: bytes, index: int, **more: Any
    ) -> requests.Response:
        """Send chunk *index* of a file of these bytes."""
        piece = whole[index * CHUNK : (index + 1) * CHUNK]
        fields = {
            "filename": more.pop("stored", name),
            "fileSize": len(whole),
            "chunkIndex": index,
            "chunk": base64.b64encode(piece).decode(),
            "metadata": metadata(run, name),
        }
        return self.form("storage/chunks", fields, **more)

    def files(self, run: str) -> dict[str, bool]:
        """Return the run's files: path -> sealed."""
        return {file.path: file.sealed for file in self.services.files.list(self.admin, run)}

    def read(self, run: str, path: str) -> bytes:
        """Return the bytes of a run's file."""
        return self.services.files.path(self.admin, run, path).read_bytes()

    def state(self, run: str) -> RunState:
        """Return the state of a run."""
        return self.services.runs.get(self.admin, run).status


def metadata(run: str, name: str) -> dict[str, str]:
    """Return what goes with every file on this wire."""
    return {
        "project": "project-1",
        "owner": "owner-1",
        "originalname": name,
        "resource": run,
        "resourceKind": "Run",
        "simulation": "simulation-1",
    }


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Serve the door on a free port of this machine."""
    clock = Clock()
    services = build(tmp_path / "data", url="memory:", now=clock)
    app = FastAPI()
    app.include_router(physicsworks.router(services), prefix="/physicsworks")
    problems.install(app)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    token = services.admin_token_file.read_text().strip()
    session = requests.Session()
    host = f"http://127.0.0.1:{listener.getsockname()[1]}/physicsworks/"
    admin = services.access.authenticate(token)
    yield Door(services, clock, host, token, admin, session)
    session.close()
    server.should_exit = True
    thread.join()
    listener.close()
    services.close()


@pytest.fixture
def model(door: Door, tmp_path: Path) -> str:
    """Upload a model; return its id."""
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("main.py", "print('hello')\n")
    return door.services.models.add(door.admin, bundle, "cavity").id


@pytest.fixture
def run(door: Door, model: str) -> str:
    """Create a run over the wire; return its id."""
    return str(door.call("PUT", f"simulation/run/update/{model}", {}).json()["id"])


def leased(door: Door, model: str, **request: Any) -> tuple[str, str]:
    """Queue a run and lease it to an agent; return its id and the attempt's token."""
    record = door.services.runs.create(door.admin, NewRun(model_id=model, **request))
    wanted = LeaseRequest(agent="agent-1", free=Resources(cpu_cores=4.0))
    (grant,) = door.services.leases.acquire(door.admin, wanted)
    assert grant.run == record.id
    return grant.run, grant.token


# -- reading and creating ------------------------------------------------------------------------


def test_every_call_needs_a_good_token(door: Door) -> None:
    """Without the header auth-token, or with a wrong one, every call answers 401."""
    calls = [
        ("GET", "simulation/run_data/read/p/s"),
        ("PUT", "simulation/run/update/s"),
        ("PUT", "simulation/run/update/s/r"),
        ("PUT", "simulation/run/patch/r"),
        ("GET", "storage/runner/f"),
        ("POST", "storage/append"),
        ("POST", "storage/chunks"),
    ]
    for method, path in calls:
        assert door.call(method, path, {}, token="wrong").status_code == 401
        answer = door.session.request(method, door.host + path, timeout=30)
        assert answer.status_code == 401
        assert answer.json()["code"] == "not_authenticated"


def test_run_data_of_a_model(door: Door, model: str) -> None:
    """A model's id or name is a simulation: its bundle is the scripts archive."""
    for simulation in (model, "cavity"):
        data = door.call("GET", f"simulation/run_data/read/p/{simulation}").json()

        assert data["simulation"] == {"id": simulation, "name": "cavity", "tree": {}, "meshes": []}
        assert (data["materials"], data["inputs"]) == ([], [])
        assert data["physicsFeature"]["inputs"] is None
        answer = door.call("GET", f"storage/runner/{data['physicsFeature']['scripts']}")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.namelist() == ["main.py"]


def test_run_data_of_a_run_has_its_parameters_meshes_and_inputs(
    door: Door, model: str, tmp_path: Path
) -> None:
    """A run's id is a simulation: parameters are flat inputs, raw/ files meshes, others a zip."""
    files = []
    for path, data in (("raw/wing.msh", b"mesh"), ("tables/t.csv", b"1,2")):
        source = tmp_path / "upload"
        source.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        door.services.runs.store_input(door.admin, sha256, source)
        files.append(InputFile(path, sha256))
    wanted = NewRun(
        model_id=model,
        name="Wing",
        parameters={"inputs": {"flow": {"nu": {"value": 0.1, "unit": "m2/s"}}, "steps": 3}},
        configuration={"physicsworks": {"tree": {"a": 1}, "materials": [{"id": "m"}]}},
        inputs=files,
    )
    run = door.services.runs.create(door.admin, wanted).id

    data = door.call("GET", f"simulation/run_data/read/p/{run}").json()

    assert data["simulation"]["name"] == "Wing"
    assert data["simulation"]["tree"] == {"a": 1}
    assert data["materials"] == [{"id": "m"}]
    assert data["inputs"] == [
        {"slug": "nu", "fullPath": "/flow/nu", "value": 0.1, "unit": "m2/s"},
        {"slug": "steps", "fullPath": "/steps", "value": 3},
    ]
    (mesh,) = data["simulation"]["meshes"]
    assert mesh["id"] == "wing"
    assert mesh["rawMeshFile"].endswith(".msh")
    assert door.call("GET", f"storage/runner/{mesh['rawMeshFile']}").content == b"mesh"
    packed = door.call("GET", f"storage/runner/{data['physicsFeature']['inputs']}").content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("tables/t.csv") == b"1,2"
        assert archive.namelist() == ["tables/t.csv"]


def test_what_is_not_there_is_404(door: Door) -> None:
    """Unknown simulations, runs and files are answered with a problem that says so."""
    for path in ("simulation/run_data/read/p/nothing", "storage/runner/nothing.zip"):
        answer = door.call("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert door.call("PUT", "simulation/run/patch/nothing", {"progress": 1}).status_code == 404


def test_a_user_creates_a_run_that_he_holds(door: Door, model: str) -> None:
    """With a user's token each creation is a new run, preparing, leased to the caller."""
    first = door.call("PUT", f"simulation/run/update/{model}", {}).json()
    second = door.call("PUT", f"simulation/run/update/{model}", {}).json()

    assert first["id"] != second["id"]
    assert (first["_id"], first["name"]) == (first["id"], "cavity")
    record = door.services.runs.get(door.admin, first["id"])
    assert (record.status, record.attempt) == (RunState.PREPARING, 1)


def test_an_attempts_token_gets_its_own_run(door: Door, model: str) -> None:
    """With an attempt's token the run of that attempt is returned, and no other is made."""
    run, token = leased(door, model, parameters={"inputs": {"nu": 0.5}})

    created = door.call("PUT", f"simulation/run/update/{model}", {}, token=token).json()
    data = door.call("GET", f"simulation/run_data/read/p/{model}", token=token).json()

    assert created["id"] == run
    assert [item["value"] for item in data["inputs"]] == [0.5]
    scripts = data["physicsFeature"]["scripts"]
    assert door.call("GET", f"storage/runner/{scripts}", token=token).status_code == 200


def test_an_expired_attempts_token_still_delivers(door: Door, model: str) -> None:
    """This wire cannot hand out fresh tokens, so a long run's old one goes on working."""
    run, token = leased(door, model)
    door.clock.time += 5 * 3600

    answer = door.append(run, "l.log", "solver.log", b"late\n", new=True, token=token)

    assert answer.status_code == 200
    assert door.read(run, "logs/solver.log") == b"late\n"


# -- the run document ----------------------------------------------------------------------------


def test_status_and_progress(door: Door, run: str) -> None:
    """running makes the run run; progress and label are the run's."""
    body = {"status": "running", "progress": 40, "statusLabel": "solving"}

    document = door.call("PUT", f"simulation/run/patch/{run}", body).json()

    assert {key: document[key] for key in body} == body
    record = door.services.runs.get(door.admin, run)
    assert (record.status, record.progress_percent) == (RunState.RUNNING, 40.0)


def test_finished_seals_what_is_there_and_completes(door: Door, run: str) -> None:
    """At 100 percent finished completes the run, with every file sealed."""
    door.append(run, "1.log", "solver.log", b"line\n", new=True)
    body = {"status": "finished", "progress": 100, "statusLabel": "finished"}

    document = door.call("PUT", f"simulation/run/patch/{run}", body).json()

    assert (document["status"], document["progress"]) == ("finished", 100)
    assert door.state(run) is RunState.COMPLETED
    assert set(door.files(run).values()) == {True}
    assert door.call("PUT", f"simulation/run/patch/{run}", body).status_code == 200


def test_finished_below_100_percent_ends_nothing(door: Door, run: str) -> None:
    """The published runner sends finished for each finished step of state.txt."""
    body = {"status": "finished", "progress": 90, "statusLabel": "Solver execution complete"}

    assert door.call("PUT", f"simulation/run/patch/{run}", body).json()["status"] == "running"

    assert door.state(run) is RunState.RUNNING


@pytest.mark.parametrize(
    ("label", "state"),
    [("Failed at script execution", RunState.FAILED), ("Aborted by user", RunState.CANCELLED)],
)
def test_error_ends_the_run(door: Door, run: str, label: str, state: RunState) -> None:
    """error is failed, or cancelled when a person aborted it; partial files are kept."""
    door.append(run, "1.log", "solver.log", b"line\n", new=True)
    body = {"status": "error", "progress": 0, "statusLabel": label}

    document = door.call("PUT", f"simulation/run/patch/{run}", body).json()

    assert (document["status"], document["statusLabel"]) == ("error", label)
    assert door.state(run) is state
    assert door.read(run, "logs/solver.log") == b"line\n"


def test_a_scripts_node_never_ends_the_run(door: Door, run: str, model: str) -> None:
    """What a main.py says of itself is progress; the runner says how the run ended."""
    path = f"simulation/run/update/{model}/{run}"
    node = {"status": "finished", "progress": 100, "statusLabel": "mine is done"}

    assert door.call("PUT", path, {"node": node}).status_code == 200
    assert door.call("PUT", path, {"node": {**node, "status": "error"}}).status_code == 200

    record = door.services.runs.get(door.admin, run)
    assert (record.status, record.label) == (RunState.PREPARING, "mine is done")


def test_heartbeat_renews_the_lease(door: Door, run: str) -> None:
    """A heartbeat moves the deadline and changes nothing else."""
    before = door.services.runs.get(door.admin, run).deadline
    door.clock.time += 30

    assert door.call("PUT", f"simulation/run/patch/{run}", {"heartbeat": True}).status_code == 200

    after = door.services.runs.get(door.admin, run).deadline
    assert before is not None
    assert after == before + 30


def test_results_become_the_runs_results(door: Door, run: str) -> None:
    """Results keep name, type and value."""
    results: list[dict[str, Any]] = [
        {"name": "t_max", "type": "scalar", "value": 273.15},
        {"name": "converged", "type": "boolean", "value": True},
        {"name": "material", "type": "ascii", "value": "steel"},
    ]

    door.call("PUT", f"simulation/run/patch/{run}", {"results": results})

    found = door.services.runs.results(door.admin, run)
    assert [(r.name, r.type, r.value) for r in found] == [
        (r["name"], r["type"], r["value"]) for r in results
    ]


def test_parts_without_a_word_of_ours_are_kept(door: Door, run: str) -> None:
    """extras, columns, layout, graphics and downloadables come back as they were sent."""
    parts = {
        "extras": {"gltf": "id-1"},
        "plots": [{"name": "p", "file": "p.csv", "columns": ["a"], "layout": {"x": 1}}],
        "graphics": [{"name": "VTP", "type": "vtp", "file": "v.tar.gz", "value": {"id": "1"}}],
        "downloadables": [{"name": "Result.zip", "file": "r.zip", "size": 3}],
    }
    for part, value in parts.items():
        door.call("PUT", f"simulation/run/patch/{run}", {part: value})

    document = door.call("PUT", f"simulation/run/patch/{run}", {"progress": 5}).json()

    assert {part: document[part] for part in parts} == parts


@pytest.mark.parametrize(
    "body",
    [
        {"status": "sleeping"},
        {"progress": "much"},
        {"logs": "all"},
        {"results": {"name": 1}},
        {"results": [{"value": 1}]},
    ],
)
def test_a_wrong_patch_changes_nothing(door: Door, run: str, body: dict[str, Any]) -> None:
    """What is not of the wire is refused with 422."""
    answer = door.call("PUT", f"simulation/run/patch/{run}", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert door.state(run) is RunState.PREPARING


# -- files ---------------------------------------------------------------------------------------


def test_appends_grow_a_file_with_the_name_that_people_know(door: Door, run: str) -> None:
    """Logs, plots and media lie under their kind's folder and original name."""
    for piece, new in ((b"one\n", True), (b"two\n", False)):
        assert door.append(run, "u1.log", "solver.log", piece, new=new).status_code == 200
    door.append(run, "u2.csv", "residual.csv", b"a,b\n", new=True)
    door.append(run, "u3.png", "frame.png", b"\x89PNG\xff", new=True, text=False)

    assert door.read(run, "logs/solver.log") == b"one\ntwo\n"
    assert door.read(run, "outputs/plots/residual.csv") == b"a,b\n"
    assert door.read(run, "outputs/media/frame.png") == b"\x89PNG\xff"


def test_is_new_begins_the_file_anew(door: Door, run: str) -> None:
    """A sender that had no answer to its first append sends it again as new."""
    for _ in range(2):
        door.append(run, "u1.log", "solver.log", b"one\n", new=True)

    assert door.read(run, "logs/solver.log") == b"one\n"


def test_the_patch_tells_the_kind(door: Door, run: str) -> None:
    """Bytes may come before the array that names them: the file moves where it belongs."""
    door.append(run, "u1.dat", "solver.dat", b"one\n", new=True)
    door.call(
        "PUT", f"simulation/run/patch/{run}", {"logs": [{"name": "solver", "file": "u1.dat"}]}
    )
    door.append(run, "u1.dat", "solver.dat", b"two\n")

    assert door.read(run, "logs/solver.dat") == b"one\ntwo\n"
    assert "outputs/plots/solver.dat" not in door.files(run)


def test_a_file_begun_anew_under_another_stored_name_takes_the_old_ones_place(
    door: Door, run: str
) -> None:
    """That is how a sender mends an append whose answer was lost."""
    door.append(run, "u1.log", "solver.log", b"half", new=True)
    door.call(
        "PUT", f"simulation/run/patch/{run}", {"logs": [{"name": "solver", "file": "u1.log"}]}
    )
    door.append(run, "u2.log", "solver.log", b"whole\n", new=True)
    door.call(
        "PUT", f"simulation/run/patch/{run}", {"logs": [{"name": "solver", "file": "u2.log"}]}
    )

    logs = [path for path in door.files(run) if path.startswith("logs/")]
    assert logs == ["logs/solver.log"]
    assert door.read(run, "logs/solver.log") == b"whole\n"


def test_two_files_of_one_name_stay_two(door: Door, run: str) -> None:
    """The published runner names a/x.png and b/x.png alike; neither overwrites the other."""
    door.append(run, "u1.png", "x.png", b"first", new=True, text=False)
    door.append(run, "u2.png", "x.png", b"second", new=True, text=False)

    contents = {
        door.read(run, path) for path in door.files(run) if path.startswith("outputs/media/")
    }
    assert contents == {b"first", b"second"}


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_chunks_make_a_whole_sealed_file(door: Door, run: str, size: int) -> None:
    """A file of any size arrives byte for byte and is sealed with its last chunk."""
    whole = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    for index in range(size // CHUNK + 1):
        assert door.chunk(run, "field.vtu", whole, index).status_code == 200

    assert door.read(run, "outputs/data_files/field.vtu") == whole
    assert door.files(run)["outputs/data_files/field.vtu"] is True


def test_chunks_may_be_repeated_and_never_leave_a_hole(door: Door, run: str) -> None:
    """A chunk before its turn is answered 'later'; a repeated one changes nothing."""
    whole = b"a" * CHUNK + b"b" * CHUNK + b"c"

    early = door.chunk(run, "field.vtu", whole, 2)
    order = [door.chunk(run, "field.vtu", whole, index) for index in (0, 0, 1, 0, 2, 2)]

    assert (early.status_code, early.json()["code"]) == (503, "offset_mismatch")
    assert early.json()["retryable"] is True
    assert "Retry-After" in early.headers
    assert [answer.status_code for answer in order] == [200] * 6
    assert door.read(run, "outputs/data_files/field.vtu") == whole


def test_a_shorter_file_of_the_same_name_replaces_the_longer(door: Door, run: str) -> None:
    """The size that the chunks name is the file's size in the end."""
    door.chunk(run, "field.vtu", b"longer than the next", 0)
    door.chunk(run, "field.vtu", b"short", 0)

    assert door.read(run, "outputs/data_files/field.vtu") == b"short"


def test_a_file_with_a_missing_part_is_not_passed_off_as_whole(door: Door, run: str) -> None:
    """The published runner finishes although a chunk was lost: the file is named incomplete."""
    whole = b"a" * CHUNK + b"b"
    door.chunk(run, "field.vtu", whole, 0)

    door.call("PUT", f"simulation/run/patch/{run}", {"status": "finished", "progress": 100})

    files = door.files(run)
    assert "outputs/data_files/field.vtu" not in files
    assert files["outputs/data_files/field.vtu.incomplete"] is True
    assert door.state(run) is RunState.COMPLETED
    label = door.services.runs.get(door.admin, run).label
    assert label is not None
    assert "field.vtu" in label


def test_files_that_come_after_the_end_are_taken(door: Door, run: str) -> None:
    """The published runner's last log lines arrive after its final status."""
    door.append(run, "u1.log", "solver.log", b"one\n", new=True)
    door.call("PUT", f"simulation/run/patch/{run}", {"status": "finished", "progress": 100})

    assert door.append(run, "u1.log", "solver.log", b"two\n").status_code == 200
    logs = {"logs": [{"name": "solver", "file": "u1.log"}]}
    assert door.call("PUT", f"simulation/run/patch/{run}", logs).status_code == 200

    assert door.read(run, "logs/solver.log") == b"one\ntwo\n"
    assert set(door.files(run).values()) == {True}


def test_files_of_a_main_py_do_not_hinder_its_own_runner(door: Door, model: str) -> None:
    """A script's uploads in a run that our own runner carries out are sealed at once."""
    run, token = leased(door, model)
    door.append(run, "u1.log", "script.log", b"one\n", new=True, token=token)
    door.chunk(run, "part.bin", b"p" * CHUNK + b"q", 0, token=token)

    assert set(door.files(run).values()) == {True}


def test_names_survive_a_restart_of_the_server(door: Door, run: str) -> None:
    """A stored name stays the same artifact when the door has forgotten everything."""
    door.append(run, "u1.log", "solver.log", b"one\n", new=True)
    door.append(run, "u2.log", "solver.log", b"other\n", new=True)
    again = physicsworks.router(door.services)
    app = FastAPI()
    app.include_router(again)
    kept = door.read(run, "metadata/physicsworks.jsonl").decode()

    stored = [json.loads(line) for line in kept.splitlines() if "stored" in line]

    assert {fact["stored"]: fact["path"] for fact in stored} == {
        "u1.log": "logs/solver.log",
        "u2.log": "logs/solver-2.log",
    }


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a\0b"])
def test_a_name_cannot_leave_its_folder(door: Door, run: str, name: str) -> None:
    """Original names are paths below their kind's folder or refused."""
    answer = door.append(run, "u1.log", name, b"x", new=True)

    if answer.status_code == 200:
        assert door.read(run, "logs/etc/passwd") == b"x"
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "unsafe_path")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"chunk": "****"},
        {"chunk": "YWJj"},
        {"chunk": "YWJj", "filename": "f"},
        {"chunk": "YW", "filename": "f", "metadata": {"resource": "r"}},
    ],
)
def test_a_wrong_form_is_refused(door: Door, fields: dict[str, Any]) -> None:
    """What cannot be read exactly is never stored."""
    for path in ("storage/append", "storage/chunks"):
        assert door.form(path, fields).status_code in (404, 422)


def test_a_form_over_the_limit_is_refused_before_it_is_read(door: Door) -> None:
    """A body that declares more than the limit gets 413."""
    headers = {"auth-token": door.token, "Content-Length": str(1 << 40)}

    answer = door.session.post(door.host + "storage/chunks", data=b"", headers=headers, timeout=30)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_attempts_token_reaches_no_other_run(door: Door, run: str, model: str) -> None:
    """Whatever run a form names, an attempt's token writes to its own alone."""
    own, token = leased(door, model)

    door.append(run, "u1.log", "solver.log", b"mine\n", new=True, token=token)
    door.call("PUT", f"simulation/run/patch/{run}", {"status": "error"}, token=token)

    assert door.read(own, "logs/solver.log") == b"mine\n"
    assert "logs/solver.log" not in door.files(run)
    assert door.state(run) is RunState.PREPARING
    assert door.state(own) is RunState.FAILED


def test_a_native_file_of_the_same_name_is_not_touched(door: Door, model: str) -> None:
    """What our own runner has stored under a path keeps it; the script's file gets another."""
    run, token = leased(door, model)
    identity = door.services.access.authenticate(token)
    op = SyncOp(run, 1, "logs/main.log", "append", offset=0, length=6)
    writer = door.services.files.open_frame(identity, [op])
    writer.feed(b"native")
    writer.finish()

    door.append(run, "u1.log", "main.log", b"script", new=True, token=token)

    assert door.read(run, "logs/main.log") == b"native"
    assert door.read(run, "logs/main-2.log") == b"script"


def test_a_large_append_arrives_whole(door: Door, run: str) -> None:
    """The published runner sends all that a file has grown by in one request."""
    data = bytes(range(256)) * (20 * 4096)

    assert door.append(run, "u1.mp4", "film.mp4", data, new=True, text=False).status_code == 200
    assert door.append(run, "u1.mp4", "film.mp4", data, text=False).status_code == 200

    assert door.read(run, "outputs/media/film.mp4") == data + data


def test_a_main_py_cannot_end_the_run_that_our_runner_carries_out(door: Door, model: str) -> None:
    """How such a run ends, the exit code says; what the script patches is how far it is."""
    run, token = leased(door, model)
    identity = door.services.access.authenticate(token)
    door.services.leases.report(identity, [Report(run, 1, state=RunState.RUNNING, stage="execute")])
    door.call("PUT", f"simulation/run/update/{model}", {}, token=token)

    for status in ("finished", "error"):
        body = {"status": status, "progress": 100, "statusLabel": "says main.py"}
        assert door.call("PUT", f"simulation/run/patch/{run}", body, token=token).ok
    door.append(run, "u1.log", "script.log", b"one\n", new=True, token=token)

    record = door.services.runs.get(door.admin, run)
    assert (record.status, record.label) == (RunState.RUNNING, "says main.py")
    assert set(door.files(run).values()) == {True}


def test_growing_arrays_are_kept_without_writing_them_again(door: Door, run: str) -> None:
    """The published runner sends an array whole for each new entry; only what is new is kept."""
    media: list[dict[str, str]] = []
    for number in range(40):
        media = [*media, {"name": f"{number}.png", "type": "png", "file": f"u{number}.png"}]
        document = door.call("PUT", f"simulation/run/patch/{run}", {"media": media}).json()
    shorter = [media[0], *media[20:]]

    assert document["media"] == media
    assert len(door.read(run, "metadata/physicsworks.jsonl")) < 40 * 200
    answer = door.call("PUT", f"simulation/run/patch/{run}", {"media": shorter})
    assert answer.json()["media"] == shorter


def test_results_after_the_end_are_kept(door: Door, run: str) -> None:
    """A run that was called finished too early still shows its results."""
    door.call("PUT", f"simulation/run/patch/{run}", {"status": "finished", "progress": 100})
    results = [{"name": "t_max", "type": "scalar", "value": 1.5}]

    answer = door.call("PUT", f"simulation/run/patch/{run}", {"results": results})

    assert answer.status_code == 200
    assert answer.json()["results"] == results
