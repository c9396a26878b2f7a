"""The runner with our server: what it fetches, what it obeys, and contact that comes late."""

from __future__ import annotations

import hashlib
import io
import json
import textwrap
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner import run_solver
from physicsrunner.core.state import RunState
from physicsrunner.runner.api import deliver_folder
from tests.support.cases import PREAMBLE, make_work_folder
from tests.support.processes import Processes, ServerProcess
from tests.support.voyage import Voyage
from tests.support.wait import wait_until


@pytest.fixture
def server(shared_server: ServerProcess) -> ServerProcess:
    """One server for all tests of this file: each looks at runs of its own alone."""
    return shared_server


class Desk:
    """A person who makes runs at *server*."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = requests.request(
            method,
            f"{self.server.url}/api/v1{path}",
            headers={"Authorization": f"Bearer {self.server.token}"},
            timeout=60,
            **kwargs,
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def model(self, main: str, **more: str) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as bundle:
            bundle.writestr("main.py", PREAMBLE + main)
            for name, text in more.items():
                bundle.writestr(name.replace("__", "."), text)
        model: str = self.call("POST", "/models?name=test", data=packed.getvalue())["id"]
        return model

    def input(self, path: str, data: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.call("PUT", f"/uploads/{digest}", data=data)
        return {"path": path, "sha256": digest, "size": len(data), **more}

    def claim(self, folder: Path, model: str, **request: Any) -> Path:
        """Create a run that is leased to us; return the path of its config.json."""
        run = str(uuid.uuid4())
        body = {"id": run, "model_id": model, "claim": {"agent": "test"}, "parameters": {}}
        lease = self.call("POST", "/simulations", json={**body, **request})["lease"]
        folder.mkdir(parents=True)
        config = folder / "config.json"
        keys = {"server": self.server.url, "run": run, "attempt": 1, "token": lease["token"]}
        config.write_text(json.dumps({"workDir": str(folder / "w"), **keys}))
        return config


def test_what_the_run_was_given_reaches_main_py(tmp_path: Path, server: ServerProcess) -> None:
    """Bundle, inputs, archives, meshes in raw/, parameters and defaults are where they belong."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sub/a.txt", "from the zip")
    desk = Desk(server)
    main = """
import json
import other
print(other.WORD, (inputs / "data file.txt").read_text(), (inputs / "sub/a.txt").read_text())
print((raw / "mesh.msh").read_text())
print(json.loads((inputs / "parameters.json").read_text()))
"""
    case = "parameters: {re: 1, scheme: upwind}\n"
    model = desk.model(main, other__py="WORD = 'imported'\n", case__yaml=case)
    inputs = [
        desk.input("data file.txt", b"plain"),
        desk.input("packed.zip", packed.getvalue(), extract=True),
        desk.input("raw/mesh.msh", b"a mesh"),
    ]
    config = desk.claim(tmp_path / "a", model, inputs=inputs, parameters={"inputs": {"re": 100}})
    result = run_solver(config)
    assert result.delivered
    assert (result.state, result.warnings) == (RunState.COMPLETED, ())
    log = (tmp_path / "a/w/outputs/logs/main.log").read_text().splitlines()
    assert log == ["imported plain from the zip", "a mesh", "{'re': 100, 'scheme': 'upwind'}"]


def test_inputs_are_fetched_once(
    tmp_path: Path, server: ServerProcess, processes: Processes
) -> None:
    """The second run with the same mesh takes it from the cache of this machine."""
    desk = Desk(server)
    model = desk.model("print((inputs / 'mesh').stat().st_size)")
    mesh = desk.input("mesh", b"m" * 100_000)
    for name in ("a", "b"):
        config = desk.claim(tmp_path / name, model, inputs=[mesh])
        runner = processes.runner(config)
        assert runner.wait() == 0, runner.story()
    first, second = ((tmp_path / n / "w/debug/runner.log").read_text() for n in ("a", "b"))
    assert "fetching mesh" in first
    assert "mesh: from the cache" in second


def test_a_cancel_at_the_server_stops_main_py(tmp_path: Path, server: ServerProcess) -> None:
    """The request reaches the runner with its lease; the run ends cancelled, its files arrive."""
    desk = Desk(server)
    main = """
(files / "part.txt").write_text("half")
print("begun", flush=True)
while not os.path.exists(os.environ["PHYSICSRUNNER_STOP_FILE"]):
    time.sleep(0.02)
"""
    config = desk.claim(tmp_path / "a", desk.model(main))
    run = json.loads(config.read_text())["run"]
    asked: list[bool] = []

    def cancel(progress: Any) -> None:
        if progress.state is RunState.RUNNING and not asked:
            asked.append(True)
            desk.call("POST", f"/simulations/{run}/cancel")

    result = run_solver(config, on_progress=cancel)
    assert (result.state, result.delivered) == (RunState.CANCELLED, True)
    document = desk.call("GET", f"/simulations/{run}")
    assert document["status"] == "cancelled"
    stored = desk.call("GET", f"/simulations/{run}/artifacts")["data"]
    part = next(file for file in stored if file["path"] == "outputs/data_files/part.txt")
    assert part["sealed"]


def test_a_time_limit_of_the_server_holds(tmp_path: Path, server: ServerProcess) -> None:
    """A run that takes longer than its configuration allows ends as timeout, there too."""
    desk = Desk(server)
    config = desk.claim(
        tmp_path / "a",
        desk.model("import signal; signal.signal(15, signal.SIG_DFL); time.sleep(600)"),
        configuration={"timeout_minutes": 0.01},
    )
    (tmp_path / "a/w/scripts").mkdir(parents=True)
    result = run_solver(config)
    assert (result.state, result.delivered) == (RunState.TIMEOUT, True)
    run = json.loads(config.read_text())["run"]
    assert desk.call("GET", f"/simulations/{run}")["status"] == "timeout"


def test_a_server_that_comes_late_gets_the_whole_run(
    tmp_path: Path, server: ServerProcess, processes: Processes
) -> None:
    """Away when the run began and there when it ends: it is delivered without being asked to."""
    main = """
        print("begun", flush=True)
        while not (outputs.parent / "go").exists():
            time.sleep(0.02)
    """
    voyage = Voyage(processes, server, tmp_path / "w", main)
    server.stop()
    runner = voyage.start()
    log = tmp_path / "w/outputs/logs/main.log"
    wait_until(lambda: log.exists() and "begun" in log.read_text(), timeout=60.0)
    server.restart()
    voyage.make("go")
    assert runner.wait() == 0, runner.story()
    voyage.whole("logs/main.log")


def test_an_archive_that_had_come_before_a_kill_is_unpacked(
    tmp_path: Path, server: ServerProcess
) -> None:
    """An input that lies there whole is not fetched again, and still unpacked."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "from the zip")
    desk = Desk(server)
    model = desk.model("print((inputs / 'a.txt').read_text())")
    inputs = [desk.input("packed.zip", packed.getvalue(), extract=True)]
    config = desk.claim(tmp_path / "a", model, inputs=inputs)
    (tmp_path / "a/w/inputs").mkdir(parents=True)
    (tmp_path / "a/w/inputs/packed.zip").write_bytes(packed.getvalue())
    assert run_solver(config)
    assert "fetching packed.zip" not in (tmp_path / "a/w/debug/runner.log").read_text()


def test_an_offline_run_is_delivered_with_what_it_was_given(
    tmp_path: Path, server: ServerProcess
) -> None:
    """Model and inputs are on the server: the run can be made again from there."""
    main = """
        (outputs.parent / "inputs" / "made.txt").write_text("by main.py")
    """
    root = tmp_path / "w"
    config = make_work_folder(root, main, parameters={"re": 100})
    for name in ("inputs/sub folder/table.csv", "raw/mesh.msh", "scripts/__pycache__/x.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    assert run_solver(config)
    result = deliver_folder(root, server=server.url, token=server.token)
    assert result.delivered
    desk = Desk(server)
    run = desk.call("GET", f"/simulations/{result.run}")
    assert {item["path"]: item["size"] for item in run["inputs"]} == {
        "sub folder/table.csv": 27,
        "raw/mesh.msh": 12,
    }
    again = desk.claim(tmp_path / "again", run["model_id"], inputs=run["inputs"])
    assert run_solver(again)
    assert (tmp_path / "again/w/raw/mesh.msh").read_text() == "raw/mesh.msh"
    assert sorted(path.name for path in (tmp_path / "again/w/scripts").iterdir()) == [
        "config.json",
        "main.py",
    ]


def test_what_main_py_reported_is_not_taken_away(tmp_path: Path, server: ServerProcess) -> None:
    """A run without results.csv and results.json keeps the results that it sent by itself."""
    main = """
        import json, urllib.request
        base, token = os.environ["PHYSICSRUNNER_HOST"], os.environ["PHYSICSRUNNER_TOKEN"]
        run = os.environ["PHYSICSRUNNER_RUN_ID"]
        report = {"run": run, "attempt": 1, "results": [{"name": "t", "value": 1.5}]}
        request = urllib.request.Request(
            base.rstrip("/") + "/api/v1/reports",
            json.dumps({"reports": [report]}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).read()
    """
    desk = Desk(server)
    config = desk.claim(tmp_path / "a", desk.model(textwrap.dedent(main)))
    assert run_solver(config)
    run = json.loads(config.read_text())["run"]
    assert desk.call("GET", f"/simulations/{run}/results")["data"][0]["value"] == 1.5
