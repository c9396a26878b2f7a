"""The packaged earthquake scenario for real: here, on a server, and with nothing but Python."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.examples import EXAMPLES
from tests.support.processes import LISTENING, Processes
from tests.support.require import require_module
from tests.support.wait import wait_until

EXAMPLE = EXAMPLES["shake-scenario"]
ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
FILES = {
    "ground_motion.csv",
    "ground_motion.geojson",
    "ground_motion_summary.json",
    "impact.csv",
    "impact.geojson",
    "impact_summary.json",
    "check.csv",
}
EVENT = {"mag": 5.2, "lon": 12.34, "lat": 45.67, "depth": 10}


def results_of(document: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item["value"] for item in document["results"]}


def alone(folder: Path, parameters: dict[str, Any], **environment: str) -> tuple[int, str]:
    """Run main.py by an interpreter that sees the standard library and physicsrunner, no more."""
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs/parameters.json").write_text(json.dumps(parameters), "utf-8")
    known = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-S", str(EXAMPLE.folder / "main.py")],
        cwd=folder,
        env={
            **known,
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_scenario_agrees_with_published_values(processes: Processes, tmp_path: Path) -> None:
    """To the stated tolerance; with its files, its named results, its series and its log."""
    folder = tmp_path / "run"
    arguments = ("demo", "shake-scenario", "--check", "--work-dir", str(folder), "--json")
    answer = processes.cli(*arguments).json
    found = answer["check"]
    assert found["passed"]
    assert len(found["points"]) == 60
    assert 0.0 < found["largest_deviation"] <= EXAMPLE.tolerance
    results = results_of(answer["run"])
    assert results["max_pga"] == 0.41788
    assert results["damaged_p16"] < results["damaged_p50"] < results["damaged_p84"]
    assert 0.0 < results["killed_mean"] < results["damaged_mean"]
    units = {item["name"]: item.get("unit") for item in answer["run"]["results"]}
    assert (units["max_pga"], units["max_pgv"], units["killed_mean"]) == ("g", "cm/s", "people")
    assert {path.name for path in (folder / "outputs/files").iterdir()} == FILES
    lines = (folder / "metadata/series.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert (last["series"], last["x"]) == ("impact/damaged", 500)
    assert last["y"] == pytest.approx(results["damaged_mean"])
    assert "PGA 0.418 g" in (folder / "outputs/logs/main.log").read_text()


def test_with_matplotlib_there_is_a_map(processes: Processes, tmp_path: Path) -> None:
    """The only thing that the extra `examples` brings; across the antimeridian too."""
    require_module("numpy", "matplotlib")
    parameters = ("-p", "lon=179.95", "-p", "realizations=20", "-p", "half_width_km=20")
    folder = tmp_path / "run"
    processes.cli("run", str(EXAMPLE.folder), "--work-dir", str(folder), *parameters)
    assert (folder / "outputs/media/shake_map.png").read_bytes().startswith(PNG)


def test_the_standard_library_is_enough(tmp_path: Path) -> None:
    """Without NumPy and matplotlib, without any package: all files; in place of the map, a line."""
    code, said = alone(tmp_path, {**EVENT, "realizations": 20})
    assert code == 0, said
    assert "no map: matplotlib is not installed" in said
    assert {path.name for path in (tmp_path / "outputs/files").iterdir()} == FILES
    assert not (tmp_path / "outputs/media").exists()


def test_a_stop_request_is_followed(tmp_path: Path) -> None:
    """At the next row of the grid or realization; what was not computed is not there."""
    stop = tmp_path / "stop"
    stop.touch()
    code, said = alone(tmp_path / "work", EVENT, PHYSICSRUNNER_STOP_FILE=str(stop))
    assert code == 1
    assert said.rstrip().endswith("stopped on request")
    assert not (tmp_path / "work/outputs/files/impact.csv").exists()


def test_wrong_input_ends_with_one_line(processes: Processes, tmp_path: Path) -> None:
    """What is wrong, and what is expected: on the screen, as the run's error, and no traceback."""
    arguments = ("run", str(EXAMPLE.folder), "--work-dir", str(tmp_path / "run"), "-p", "mag=12")
    answer = processes.cli(*arguments, check=False)
    assert answer.returncode == 1
    assert "mag is 12; expected a number from 3 to 8.5 (moment magnitude)" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_server_runs_it_with_assets_of_the_user(processes: Processes, tmp_path: Path) -> None:
    """A copy of the case with a file of assets beside it: submitted, carried out, fetched."""
    require_module("fastapi", "sqlalchemy")
    case, data = tmp_path / "mine", tmp_path / "data"
    processes.cli("demo", "shake-scenario", "--copy", str(case))
    (case / "inputs").mkdir()
    (case / "inputs/town.csv").write_text(
        "id,lon,lat,type,code,buildings,occupants\nold town,12.3,45.7,URML,pre,400,1500\n"
    )
    started = processes.python("up", "--data", str(data), "--port", "0", "--no-login", name="up")
    found = wait_until(
        lambda: LISTENING.search(started.log.read_bytes()), timeout=60.0, on_timeout=started.story
    )
    assert found is not None
    known: dict[str, Any] = {
        "PHYSICSRUNNER_SERVER": found[1].decode(),
        "PHYSICSRUNNER_TOKEN": (data / "admin.token").read_text().strip(),
    }
    values = [f"{name}={value}" for name, value in EVENT.items()]
    values += ["exposure=town.csv", "half_width_km=20"]
    parameters = [word for value in values for word in ("-p", value)]
    processes.cli("submit", str(case), *parameters, "--follow", **known)
    processes.cli("download", "1", "--to", str(tmp_path / "got"), **known)
    files = tmp_path / "got/outputs/data_files"
    assert {path.name for path in files.iterdir()} >= FILES
    with (files / "impact.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], float(row["buildings"])) == ("old town", 400.0)
    assert 0.0 < float(row["damaged_mean"]) < 400.0
