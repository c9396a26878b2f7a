"""The packaged horn, carried out by the runner: its files, its mesh input, how it is stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.examples import EXAMPLES
from tests.support.agents import Fleet
from tests.support.beside import Modules, beside
from tests.support.processes import CliResult, Processes
from tests.support.require import require_module
from tests.support.wait import wait_until

EXAMPLE = EXAMPLES["horn-acoustics"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def extras() -> None:
    """This case needs the extra `examples`."""
    require_module("numpy", "scipy", "skfem", "matplotlib", "meshio")


@pytest.fixture
def horn() -> Iterator[Modules]:
    """Give the modules beside its main.py."""
    with beside(EXAMPLE) as modules:
        yield modules


def given(**parameters: Any) -> list[str]:
    return [
        word for name, value in parameters.items() for word in ("-p", f"{name}={json.dumps(value)}")
    ]


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs/files/horn_results.json").read_text())
    return found


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "outputs/files/horn_results.csv").open(newline="") as file:
        return [{name: float(v) for name, v in row.items()} for row in csv.DictReader(file)]


def run_own(
    processes: Processes, folder: Path, mesh: Any, *, ok: bool = True, **parameters: Any
) -> CliResult:
    """Run a copy of the case in *folder* whose input is *mesh*."""
    processes.cli("demo", "horn-acoustics", "--copy", str(folder / "mine"))
    (folder / "mine/inputs").mkdir()
    (folder / "mine/inputs/mesh.json").write_text(json.dumps(mesh))
    arguments = ("run", str(folder / "mine"), "--work-dir", str(folder / "run"), "--json")
    return processes.cli(*arguments, *given(check=False, **parameters), check=ok)


def test_the_solver_agrees_and_everything_is_left(processes: Processes, tmp_path: Path) -> None:
    """The whole range of ka to the tolerance; results as JSON and CSV, mesh, picture, progress."""
    import meshio

    folder = tmp_path / "run"
    few = given(num_frequencies=7, frequency_range=[300, 6000], sim_type="1")
    answer = processes.cli(
        "demo", "horn-acoustics", "--check", "--work-dir", str(folder), "--json", *few
    ).json
    found = answer["check"]
    assert found["passed"]
    assert len(found["points"]) == 52
    assert 0.0 < found["largest_deviation"] <= EXAMPLE.tolerance
    names, values = (folder / "outputs/results.csv").read_text().splitlines()
    assert (names, float(values)) == ("largest_deviation", found["largest_deviation"])

    document = results(folder)
    assert len(document["frequencies"]) == 7
    assert document["metadata"]["partial"] is False
    assert [row["frequency"] for row in rows(folder)] == document["frequencies"]
    assert [row["impedance_real"] for row in rows(folder)] == document["impedance"]["real"]
    assert [row["di"] for row in rows(folder)] == document["di"]["di"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mesh = meshio.read(folder / "outputs/files/horn.msh")
    assert set(mesh.cell_data_dict["gmsh:physical"]["triangle"].tolist()) == {1, 2, 4}
    assert (folder / "outputs/media/horn.png").read_bytes().startswith(PNG)
    told = (folder / "outputs/state.txt").read_text()
    for number, frequency in ((1, 300), (7, 6000)):
        message = f"Solving frequency {number} of 7 ({frequency} Hz),bem_solve,running"
        assert message in told
    series = [json.loads(s) for s in (folder / "metadata/series.jsonl").read_text().splitlines()]
    live = [point for point in series if point["series"] == "impedance/resistance"]
    assert [point["x"] for point in live] == pytest.approx(document["frequencies"])


def test_a_mesh_beside_the_parameters_is_the_horn(
    processes: Processes, tmp_path: Path, horn: Modules
) -> None:
    """Its tags come back as they are; the numbers are those of the formula that made it."""
    import meshio

    meridian = horn.outlines.horn(horn.horns.profile("conical", {}))
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=False)
    surface.tags[-1] = 3
    mesh = {
        "vertices": surface.vertices.ravel().tolist(),
        "indices": surface.triangles.ravel().tolist(),
        "surfaceTags": surface.tags.tolist(),
        "format": "msh",
    }
    asked: dict[str, Any] = {"frequency_range": [1000, 2000], "num_frequencies": 2}
    run_own(processes, tmp_path, mesh, formula_type="FREEFORM", **asked)
    mine = results(tmp_path / "run")
    assert mine["metadata"]["formula_type"] == "FREEFORM"
    processes.cli(
        "demo", "horn-acoustics", "--work-dir", str(tmp_path / "formula"), "--json",
        *given(check=False, formula_type="conical", **asked),
    )  # fmt: skip
    formula = results(tmp_path / "formula")
    for part in ("real", "imaginary"):
        assert mine["impedance"][part] == pytest.approx(formula["impedance"][part], abs=2e-3)
    assert mine["spl_on_axis"]["spl"] == pytest.approx(formula["spl_on_axis"]["spl"], abs=0.02)
    written = meshio.read(tmp_path / "run/outputs/files/horn.msh")
    assert written.cell_data_dict["gmsh:physical"]["triangle"].tolist() == mesh["surfaceTags"]


def test_a_mesh_without_a_source_ends_with_a_word(processes: Processes, tmp_path: Path) -> None:
    """Nothing is computed, and the last line of the log says why."""
    mesh = {"vertices": [0, 0, 0, 1, 0, 0, 0, 1, 0], "indices": [0, 1, 2], "surfaceTags": [1]}
    answer = run_own(processes, tmp_path, mesh, ok=False)
    assert answer.returncode == 1
    assert "no triangle has the tag 2 (source)" in (
        tmp_path / "run/outputs/logs/main.log"
    ).read_text().splitlines()[-1]  # fmt: skip
    assert not (tmp_path / "run/outputs/files").exists() or not any(
        (tmp_path / "run/outputs/files").iterdir()
    )


def test_a_stop_is_heeded_between_frequencies(processes: Processes, tmp_path: Path) -> None:
    """What is solved stays, as a document that says that it is a part."""
    folder = tmp_path / "run"
    many = given(num_frequencies=2000, frequency_range=[200, 4000], check=False)
    started = processes.python("demo", "horn-acoustics", "--work-dir", str(folder), *many)
    table = folder / "outputs/files/horn_results.csv"
    wait_until(
        lambda: table.exists() and len(table.read_text().splitlines()) > 3,
        timeout=120.0,
        on_timeout=started.story,
    )
    started.kill(signal.SIGINT)
    assert started.wait() != 0
    document = results(folder)
    count = len(document["frequencies"])
    assert 3 <= count < 2000
    assert document["metadata"]["partial"] is True
    assert len(rows(folder)) == count
    log = (folder / "outputs/logs/main.log").read_text()
    assert f"stopped on request; {count} of 2000 frequencies are kept" in log
    assert started.returncode != -signal.SIGKILL


def test_what_a_kill_leaves_is_whole(processes: Processes, tmp_path: Path) -> None:
    """Every line of the table but the last is complete; there is no half document."""
    folder = tmp_path / "run"
    many = given(num_frequencies=2000, frequency_range=[200, 4000], check=False)
    started = processes.python("demo", "horn-acoustics", "--work-dir", str(folder), *many)
    table = folder / "outputs/files/horn_results.csv"
    wait_until(
        lambda: table.exists() and len(table.read_text().splitlines()) > 3,
        timeout=120.0,
        on_timeout=started.story,
    )
    (program,) = (pid for pid, line in processes.marked().items() if "main.py" in line.split()[1])
    os.kill(program, signal.SIGKILL)
    assert started.wait() == 1
    lines = table.read_text().splitlines()
    assert len(lines) > 3
    assert all(line.count(",") == 5 for line in lines[:-1])
    assert not (folder / "outputs/files/horn_results.json").exists()


def test_a_job_of_the_acoustics_door_is_a_horn(processes: Processes, horn: Modules) -> None:
    """From the document's payload, with a mesh, to results and a mesh, without a token."""
    fleet = Fleet(processes, PHYSICSRUNNER_DOORS="ath", PHYSICSRUNNER_DOOR_USER="admin")
    fleet.agent("here", "--slots", "1", "--cores", "1")
    url = f"{fleet.server.url}/ath/api"
    meridian = horn.outlines.horn(horn.horns.profile("R-OSSE", {})[::4])
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=False, around=24)
    payload = {
        "mesh": {
            "vertices": surface.vertices.ravel().tolist(),
            "indices": surface.triangles.ravel().tolist(),
            "surfaceTags": surface.tags.tolist(),
        },
        "frequency_range": [500, 4000],
        "num_frequencies": 3,
        "sim_type": "2",
        "formula_type": "R-OSSE",
    }
    job = requests.post(f"{url}/solve", json=payload, timeout=30).json()["job_id"]
    said: set[tuple[str, str]] = set()

    def look() -> bool:
        status = requests.get(f"{url}/status/{job}", timeout=30).json()
        said.add((status["stage"], status["stage_message"]))
        return status["status"] in ("complete", "error")

    wait_until(look, timeout=120.0, interval=0.05, on_timeout=fleet.story)
    assert ("complete", "Simulation complete") in said, said
    found = requests.get(f"{url}/results/{job}", timeout=30).json()
    assert found["frequencies"] == pytest.approx([500.0, 1414.214, 4000.0], abs=1e-3)
    # A quarter of the formula's points: a little off what the formula gives.
    assert found["impedance"]["real"] == pytest.approx([0.0072, 0.287, 1.136], abs=0.01)
    mesh = requests.get(f"{url}/mesh-artifact/{job}", timeout=30).text
    assert mesh.startswith("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n2\n")
    assert f"$Elements\n{len(surface.tags)}\n" in mesh
    (item,) = requests.get(f"{url}/jobs", timeout=30).json()["items"]
    assert (item["has_results"], item["has_mesh_artifact"]) == (True, True)
