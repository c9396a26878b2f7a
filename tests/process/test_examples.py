"""The packaged cases, carried out by the runner and held against their references."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.examples import EXAMPLES, check
from tests.support.processes import CliResult, Processes
from tests.support.require import require, require_module

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def extras() -> None:
    """These cases need the extra `examples`."""
    require_module("numpy", "matplotlib", "meshio")


def demo(processes: Processes, folder: Path, name: str, *more: str, ok: bool = True) -> CliResult:
    arguments = ("demo", name, "--check", "--work-dir", str(folder), "--json", *more)
    return processes.cli(*arguments, check=ok, timeout=280.0)


def series_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "metadata/series.jsonl").read_text().splitlines():
        point = json.loads(line)
        found.setdefault(point["series"], []).append(point)
    return found


def point_count(path: Path) -> int:
    piece = ET.parse(path).getroot().find("UnstructuredGrid/Piece")  # noqa: S314 -- our own file
    assert piece is not None
    return int(piece.attrib["NumberOfPoints"])


def test_cavity_agrees_with_the_published_table(processes: Processes, tmp_path: Path) -> None:
    """On the paper's grid, to the stated tolerance, with everything that it promises to leave."""
    folder = tmp_path / "run"
    answer = demo(processes, folder, "cavity").json
    found = answer["check"]
    assert found["passed"]
    assert len(found["points"]) == 34
    # On the wall and the lid exactly; near the floor closely; nowhere over what is stated.
    assert found["points"][0]["deviation"] == found["points"][16]["deviation"] == 0.0
    assert 0.005 < found["largest_deviation"] <= EXAMPLES["cavity"].tolerance
    results = {item["name"]: item["value"] for item in answer["run"]["results"]}
    assert results["largest_deviation"] == pytest.approx(found["largest_deviation"])
    assert results["residual"] <= 1e-5
    names, values = (folder / "outputs/results.csv").read_text().splitlines()
    assert (names, float(values)) == ("largest_deviation", results["largest_deviation"])

    residuals = series_of(folder)["residual/vorticity"]
    assert len(residuals) == results["steps"] / 100
    assert residuals[-1]["y"] == pytest.approx(results["residual"])
    assert [p["x"] for p in residuals] == sorted(p["x"] for p in residuals)
    assert point_count(folder / "outputs/files/cavity.vtu") == 129 * 129
    assert (folder / "outputs/media/cavity.png").read_bytes().startswith(PNG)
    for name, header in (("u_centre_line", "y,u"), ("v_centre_line", "x,v")):
        lines = (folder / f"outputs/plots/{name}.csv").read_text().splitlines()
        assert (lines[0], len(lines)) == (header, 130)
    assert "residual" in (folder / "outputs/logs/main.log").read_text()


def test_cavity_converges_with_the_grid(processes: Processes, tmp_path: Path) -> None:
    """The error falls with the square of the spacing, towards what finer grids give."""
    minima = {}
    for grid in (17, 33, 65):
        answer = demo(
            processes, tmp_path / str(grid), "cavity", "-p", f"grid={grid}", ok=False
        ).json
        results = {item["name"]: item["value"] for item in answer["run"]["results"]}
        minima[grid] = results["v_min"]
    order = (minima[17] - minima[33]) / (minima[33] - minima[65])
    assert 3.0 < order < 6.0
    assert minima[65] + (minima[65] - minima[33]) / 3.0 == pytest.approx(-0.2538, abs=3e-4)


def test_a_deviation_over_the_tolerance_fails_the_check(
    processes: Processes, tmp_path: Path
) -> None:
    """A coarse grid misses the table: exit code 1, and the table says where."""
    answer = processes.cli(
        *("demo", "cavity", "--check", "--work-dir", str(tmp_path / "run"), "-p", "grid=17"),
        check=False,
    )
    assert answer.returncode == 1
    assert "CHECK FAILED" in answer.stdout
    assert answer.stdout.count("v at y = 0.5") >= 17


def test_another_reynolds_number_has_no_reference(processes: Processes, tmp_path: Path) -> None:
    """The run is good; there is nothing to hold it against, and that is no pass."""
    arguments = ("-p", "grid=17", "-p", "reynolds=50")
    answer = demo(processes, tmp_path / "run", "cavity", *arguments, ok=False)
    assert answer.returncode == 1
    assert answer.json["run"]["state"] == "completed"
    assert answer.json["check"]["passed"] is False
    assert not (tmp_path / "run" / check.CHECK_FILE).exists()


def test_wrong_parameters_end_with_a_word(processes: Processes, tmp_path: Path) -> None:
    """An even grid has no centre line: the case says so, in its log and on the screen."""
    answer = processes.cli(
        *("demo", "cavity", "--work-dir", str(tmp_path / "run"), "-p", "grid=16"), check=False
    )
    assert answer.returncode == 1
    assert "grid: expected an odd number" in answer.stderr


def test_heat_agrees_with_the_series(processes: Processes, tmp_path: Path) -> None:
    """At six times and nine depths; the centre's temperature is live."""
    folder = tmp_path / "run"
    found = demo(processes, folder, "heat").json["check"]
    assert found["passed"]
    assert len(found["points"]) == 54
    assert 0.0 < found["largest_deviation"] <= EXAMPLES["heat"].tolerance
    centre = series_of(folder)["temperature/centre"]
    assert len(centre) == 100
    assert (centre[0]["x_name"], centre[0]["unit"]) == ("time", "C")
    assert point_count(folder / "outputs/files/plate.vtu") == 201
    assert (folder / "outputs/media/heat.png").read_bytes().startswith(PNG)


def test_openfoam_cavity_agrees_with_the_published_table(
    processes: Processes, tmp_path: Path
) -> None:
    """icoFoam for real: its residuals are live, and the flow is the table's."""
    require("blockMesh", "icoFoam")
    folder = tmp_path / "run"
    answer = demo(processes, folder, "openfoam-cavity").json
    assert answer["check"]["passed"]
    assert len(answer["check"]["points"]) == 34
    log = (folder / "outputs/logs/log.icoFoam").read_text()
    series = series_of(folder)
    for field in ("Ux", "Uy", "p"):
        printed = log.count(f"Solving for {field}, ")
        assert printed // 2 <= len(series[f"residual/{field}"]) <= printed
        assert series[f"residual/{field}"][-1]["y"] < 1e-4
    assert series["residual/Ux"][-1]["x"] == pytest.approx(20.0)
    assert (folder / "outputs/media/openfoam-cavity.png").read_bytes().startswith(PNG)


def test_openfoam_that_is_not_there_is_named(processes: Processes, tmp_path: Path) -> None:
    """Before anything runs: what is missing, and how to get it."""
    empty = tmp_path / "bin"
    empty.mkdir()
    answer = processes.cli("demo", "openfoam-cavity", check=False, PATH=str(empty))
    assert answer.returncode == 2
    assert "blockMesh, icoFoam on PATH" in answer.stderr
    assert not (processes.folder / "runs").exists()


def test_a_case_can_be_copied_and_run_as_one_s_own(processes: Processes, tmp_path: Path) -> None:
    """The copy is a case like any other; a folder with something in it is left alone."""
    mine = tmp_path / "mine"
    processes.cli("demo", "heat", "--copy", str(mine))
    arguments = ("run", str(mine), "-p", "steps=60", "-p", "points=21", "--json")
    assert processes.cli(*arguments).json["state"] == "completed"
    assert processes.cli("demo", "heat", "--copy", str(mine), check=False).returncode == 2


def test_the_list_says_what_is_ready(processes: Processes) -> None:
    """Every case with its reference and its tolerance."""
    listed = processes.cli("demo", "--json").json["data"]
    assert [item["name"] for item in listed] == list(EXAMPLES)
    assert all(item["tolerance"] > 0 and item["reference"] for item in listed)
    assert "cavity" in processes.cli("demo").stdout
