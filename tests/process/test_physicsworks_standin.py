"""Our runner at a server that speaks only the PhysicsWorks wire: retried, in order, complete."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cases import PREAMBLE
from tests.support.physicsworks_standin import CHUNK, TOKEN, Fault, StandIn
from tests.support.processes import Processes
from tests.support.wait import wait_until

FILES = """
(files / "exact.bin").write_bytes(os.urandom(2 * 5242880))
(files / "large.bin").write_bytes(os.urandom(5242880 + 7))
(files / "empty.bin").write_bytes(b"")
(files / "deep").mkdir()
(files / "deep" / "with space é.txt").write_text("deep")
"""
LOG = """
with open(outputs / "logs" / "solver.log", "w") as log:
    for number in range(200):
        log.write(f"line {number}: residual é\\n")
        log.flush()
        time.sleep(0.01)
"""
PLOT = """
(outputs / "plots" / "residual.csv").write_text("iteration,residual\\n1,0.5\\n2,0.25\\n")
(outputs / "results.csv").write_text("t_max,converged,name\\n3.5,true,steel\\n")
"""
BURST = """
for number in range(500):
    (outputs / "media" / f"frame{number}.png").write_bytes(os.urandom(1500))
"""


def scripts(main: str) -> bytes:
    """Pack a main.py as a server hands it out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", PREAMBLE + main)
    return packed.getvalue()


def configuration(work: Path, server: StandIn, **more: object) -> Path:
    """Write the config.json that a PhysicsWorks host gives its runner."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "config.json"
    document = {
        "workDir": str(work),
        "host": server.host,
        "token": TOKEN,
        "project": "project-1",
        "simulation": "simulation-1",
        "job": "job-1",
        "owner": "owner-1",
        **more,
    }
    path.write_text(json.dumps(document))
    return path


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below *folder*, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_whole(server: StandIn, work: Path) -> None:
    """Every file of outputs/ is on the server under its name, with the same bytes."""
    outputs = work / "outputs"
    for kind in ("logs", "plots", "media"):
        assert server.listed(kind) == digests(outputs / kind)
    listed = server.listed("downloadables")
    results: Mapping[str, str] = digests(outputs / "files")
    assert {name: listed.get(name) for name in results} == dict(results)
    assert server.problems == []


def test_a_run_completes_and_every_file_is_there(processes: Processes, tmp_path: Path) -> None:
    """Logs, plots, media and results of every size reach a server that speaks only this wire."""
    with StandIn(tmp_path / "server", scripts=scripts(FILES + LOG + PLOT + BURST)) as server:
        work = tmp_path / "work"
        runner = processes.runner(configuration(work, server))

        assert runner.wait() == 0, runner.story()

        run = server.run()
        assert (run["status"], run["progress"]) == ("finished", 100)
        assert run["results"] == [
            {"name": "t_max", "type": "scalar", "value": 3.5},
            {"name": "converged", "type": "boolean", "value": True},
            {"name": "name", "type": "ascii", "value": "steel"},
        ]
        assert len(run["media"]) == 500
        assert_whole(server, work)
        written = json.loads((work / "config.json").read_text())
        assert written["resource"] == {"id": run["_id"], "name": "Run 1"}


def test_chunks_come_in_order_and_an_exact_multiple_ends_with_an_empty_one(
    processes: Processes, tmp_path: Path
) -> None:
    """A file of 10 MiB is two full chunks and an empty one; an empty file is one empty chunk."""
    with StandIn(tmp_path / "server", scripts=scripts(FILES)) as server:
        runner = processes.runner(configuration(tmp_path / "work", server))

        assert runner.wait() == 0, runner.story()

        chunks: dict[str, list[tuple[int, int]]] = {}
        for seen in server.requests("POST /storage/chunks"):
            name = seen.fields["metadata"]["originalname"]
            chunks.setdefault(name, []).append((seen.fields["chunkIndex"], seen.size))
        assert chunks["exact.bin"] == [(0, CHUNK), (1, CHUNK), (2, 0)]
        assert chunks["large.bin"] == [(0, CHUNK), (1, 7)]
        assert chunks["empty.bin"] == [(0, 0)]


@pytest.mark.parametrize("kind", ["busy", "broken", "reset", "lost", "slow"])
def test_faults_leave_no_hole_and_no_double(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    """Whatever goes wrong with some of every kind of request, the files are whole in the end."""
    faults = [
        Fault("GET /simulation", kind, 1),
        Fault("GET /storage/runner", kind, 1),
        Fault("POST /storage/append", kind, 1),
        Fault("POST /storage/append", kind, 3, skip=4),
        Fault("POST /storage/chunks", kind, 1, skip=1),
        Fault("POST /storage/chunks", kind, 2, skip=2),
        Fault("PUT /simulation/run/patch", kind, 4, skip=2),
    ]
    with StandIn(tmp_path / "server", scripts=scripts(FILES + LOG + PLOT), faults=faults) as server:
        work = tmp_path / "work"
        runner = processes.runner(configuration(work, server))

        assert runner.wait(120.0) == 0, runner.story()

        assert server.run()["status"] == "finished"
        assert_whole(server, work)
        assert [fault for fault in server.faults if fault.times] == []


def test_a_killed_runner_goes_on_without_doubling_its_log(
    processes: Processes, tmp_path: Path
) -> None:
    """After kill -9 the log is sent anew under another stored name, and the run is the same one."""
    waiting = 'while not (inputs / "go").exists():\n    time.sleep(0.02)\n'
    main = LOG + waiting + '(files / "end.txt").write_text("end")\n'
    with StandIn(tmp_path / "server", scripts=scripts(main)) as server:
        work = tmp_path / "work"
        config = configuration(work, server)
        first = processes.runner(config)
        wait_until(
            lambda: server.requests("POST /storage/append"), timeout=30, on_timeout=first.story
        )
        first.kill()
        second = processes.runner(config)
        (work / "inputs" / "go").touch()

        assert second.wait() == 0, second.story()

        assert len(server.runs) == 1
        assert server.run()["status"] == "finished"
        assert_whole(server, work)


def test_abort_in_the_configuration_stops_the_run(processes: Processes, tmp_path: Path) -> None:
    """A truthy ``abort`` that appears in config.json ends main.py and is reported as such."""
    main = '(files / "partial.txt").write_text("partial")\ntime.sleep(120)\n'
    with StandIn(tmp_path / "server", scripts=scripts(main)) as server:
        work = tmp_path / "work"
        config = configuration(work, server)
        runner = processes.runner(config)
        wait_until(
            (work / "outputs" / "files" / "partial.txt").exists,
            timeout=30,
            on_timeout=runner.story,
        )
        document = json.loads(config.read_text())
        config.write_text(json.dumps({**document, "abort": True}))

        assert runner.wait(90.0) == 3, runner.story()

        run = server.run()
        assert (run["status"], run["statusLabel"]) == ("error", "Aborted by user")
        assert_whole(server, work)


def test_inputs_arrive_as_the_published_runner_leaves_them(
    processes: Processes, tmp_path: Path
) -> None:
    """The JSON files, meshes and archives of the wire lie in inputs/ before main.py starts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("table.csv", "1,2\n")
    flow = {"slug": "nu", "fullPath": "/flow/nu", "value": 0.1, "unit": "m2/s"}
    steel = {
        "id": "m1",
        "name": "steel",
        "composition": {"Fe": 1},
        "properties": [
            {"name": "rho", "type": "SingleValue", "values": [{"x": 0, "y": 7800}]},
            {"name": "mu", "type": "Table", "values": [{"x": 0, "y": 1}, {"x": 1, "y": 2}]},
        ],
    }
    with StandIn(
        tmp_path / "server",
        simulation={"tree": {"a": 1}, "meshes": [{"id": "mesh-1", "rawMeshFile": "0123.msh"}]},
        scripts=scripts('assert (raw / "mesh-1.msh").read_bytes() == b"mesh"\n'),
        inputs_zip=archive.getvalue(),
        inputs=[flow],
        materials=[steel],
        config={"solver": "own"},
        provided={"0123.msh": b"mesh"},
    ) as server:
        work = tmp_path / "work"
        runner = processes.runner(configuration(work, server, inputsArchive="inputs.zip"))

        assert runner.wait() == 0, runner.story()

    inputs = work / "inputs"
    read = {
        name: json.loads((inputs / f"{name}.json").read_text())
        for name in ("variants", "workbench", "runInputs", "config", "solverConfig")
    }
    assert read["workbench"] == {"a": 1}
    assert read["runInputs"] == [flow]
    assert read["config"] == {"withCompression": False}
    assert read["solverConfig"] == {"solver": "own"}
    density, viscosity = read["variants"]["m1"]["variant"]["properties"]
    assert read["variants"]["m1"]["composition"] == {"Fe": 1}
    assert (density["value"], density["variantId"]) == (7800, "m1")
    assert viscosity["values"][1] == {"x": 1, "y": 2}
    assert (inputs / "table.csv").read_text() == "1,2\n"
    assert (inputs / "mesh-1.msh").read_bytes() == b"mesh"
