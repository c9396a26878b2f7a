"""What a main.py imports: its own names, and the published ones, on the same inputs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import physicsrunner
from physicsrunner import solver
from physicsrunner.core.points import Point
from physicsrunner.core.progress import Status, parse_line
from physicsrunner.core.results import Result, read_results
from physicsrunner.core.series_tables import PointsReader
from physicsrunner.runner import api
from physicsrunner.solver import environment
from tests.support.require import require_module

INPUTS = [
    {"slug": "n", "fullPath": "/solver/grid/n", "value": 5},
    {"slug": "nu", "fullPath": "/fluid/nu", "value": 1e-3, "unit": "m2/s"},
    {"slug": "n", "fullPath": "/solver/time/n", "value": 7},
    {"slug": "root", "fullPath": "/", "value": 1},
    {"slug": "novalue", "fullPath": "a//b"},
    {"fullPath": "/x", "value": [1, {"a": None}]},
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The work folder of a run, as the environment of main.py names it."""
    for name in ("inputs", "outputs", "raw"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"PHYSICSRUNNER_{name.upper()}_DIR", str(tmp_path / name))
        monkeypatch.setenv(f"PHYSICSWORKS_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("PHYSICSRUNNER_WORK_DIR", str(tmp_path))
    monkeypatch.delenv("PHYSICSRUNNER_STOP_FILE", raising=False)
    return tmp_path


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a main.py is started by hand."""
    for name in list(os.environ):
        if name.startswith(("PHYSICSRUNNER_", "PHYSICSWORKS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    environment._note.cache_clear()
    return tmp_path


def results(run: Path) -> list[Result]:
    """Read results.json as the runner does."""
    return read_results(None, (run / "outputs" / "results.json").read_text("utf-8"))


# -- inputs --------------------------------------------------------------------------------------


def test_inputs_by_name(run: Path) -> None:
    """Parameters come by name; a value with its unit is the value."""
    (run / "inputs" / "parameters.json").write_text(
        json.dumps(
            {"viscosity": 1e-3, "size": {"value": 2, "unit": "m"}, "map": {"value": 1, "k": 2}}
        )
    )
    assert solver.inputs() == {"viscosity": 1e-3, "size": 2, "map": {"value": 1, "k": 2}}
    assert solver.input("size") == 2
    assert solver.input("nothing", default=None) is None
    with pytest.raises(solver.UnknownInput) as caught:
        solver.input("viscosty")
    assert str(caught.value) == (
        "there is no input 'viscosty' (did you mean 'viscosity'?); "
        "this run has: map, size, viscosity"
    )
    (run / "inputs" / "parameters.json").write_text('{"inputs": {"a": 1}}')
    assert solver.inputs() == {"a": 1}


def test_inputs_of_the_platform(run: Path) -> None:
    """The flat list serves too: by slug (the first), or by the path in the tree."""
    (run / "inputs" / "runInputs.json").write_text(json.dumps(INPUTS))
    assert solver.inputs() == {"n": 5, "nu": 1e-3, "root": 1, "novalue": None}
    assert solver.input("n") == 5
    assert solver.input("/solver/time/n") == 7
    assert solver.input("solver/time/m", 3) == 3


def test_inputs_that_cannot_be_read(run: Path) -> None:
    """A broken file is named."""
    (run / "inputs" / "parameters.json").write_text("{")
    with pytest.raises(ValueError, match=r"parameters\.json is not JSON"):
        solver.inputs()


# -- progress, results, series -------------------------------------------------------------------


def test_progress_is_written_as_it_is(run: Path) -> None:
    """The runner reads back what was said; nothing is scaled, a line break is none."""
    solver.progress(50, "half, way\nthere")
    solver.progress(12.5)
    solver.progress(170, "far", step="post", status=solver.StepStatus.FINISHED)
    lines = (run / "outputs" / "state.txt").read_text().splitlines()
    assert [parse_line(line) for line in lines] == [
        Status(50, "half, way there", "running", "solver"),
        Status(12.5, "", "running", "solver"),
        Status(100, "far", "finished", "post"),
    ]
    with pytest.raises(ValueError, match="not nan"):
        solver.progress(float("nan"))


def test_results_keep_their_types(run: Path) -> None:
    """Numbers, booleans, texts, lists and dicts come back; the same name again replaces."""
    solver.result("t_max", 1.0)
    solver.result("t_max", 273.15, unit="K")
    solver.result("n", 3)
    solver.result("ok", True)
    solver.result("name", "Größe")
    solver.result("table", {"a": [1, 2.5, None], "p": Path("x")})
    solver.result("diverged", float("nan"))
    assert results(run) == [
        Result("t_max", 273.15, "scalar", "K"),
        Result("n", 3),
        Result("ok", True, "boolean"),
        Result("name", "Größe", "ascii"),
        Result("table", {"a": [1, 2.5, None], "p": "x"}, "json"),
        Result("diverged", "nan", "ascii"),
    ]
    with pytest.raises(TypeError, match="result 'odd': expected a number"):
        solver.result("odd", object())
    assert [path.name for path in (run / "outputs").iterdir()] == ["results.json"]


def test_results_of_numpy(run: Path) -> None:
    """Scalars and arrays of NumPy are plain values in the file."""
    require_module("numpy")
    import numpy as np

    solver.result("a", np.float64(1.5))
    solver.result("b", np.int32(2))
    solver.result("c", np.bool_(True))
    solver.result("d", np.arange(3))
    assert results(run) == [
        Result("a", 1.5),
        Result("b", 2),
        Result("c", True, "boolean"),
        Result("d", [0, 1, 2], "json"),
    ]


def test_a_results_file_of_somebody_else(run: Path) -> None:
    """A results.json that cannot be added to is not overwritten."""
    path = run / "outputs" / "results.json"
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"results\.json"):
            solver.result("a", 1)
        assert path.read_text() == text


def test_series_are_points(run: Path) -> None:
    """What series writes, the follower reads."""
    solver.series("residual/Ux", 3, 1e-5)
    solver.series("T", 0.5, float("inf"), unit="K", x_name="time")
    lines = (run / "outputs" / "series.jsonl").read_text().splitlines()
    reader = PointsReader()
    assert [point for line in lines for point in reader.feed(line)] == [
        Point("residual/Ux", 3, 1e-5),
        Point("T", 0.5, float("inf"), "time", "K"),
    ]


def test_many_at_once(run: Path) -> None:
    """Results and series of several processes and threads are all there."""
    script = (
        "import sys, threading\n"
        "from physicsrunner import solver\n"
        "def work(k):\n"
        "    for n in range(10):\n"
        "        solver.result(f'{sys.argv[1]}-{k}-{n}', n)\n"
        "        solver.add_to_simulation_results(f'{sys.argv[1]}-{k}-{n}', n)\n"
        "        solver.series('s', n, k)\n"
        "threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(n)]) for n in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(results(run)) == 60
    table = read_results((run / "outputs" / "results.csv").read_text(), None)
    assert len({result.name for result in table}) == 60
    lines = (run / "outputs" / "series.jsonl").read_text().splitlines()
    assert sum(len(PointsReader().feed(line)) for line in lines) == 60


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text("ab,\"'\n [K]", min_size=1, max_size=6), st.text("1x,\"'\n.", max_size=4)
    )
)
def test_results_csv_stays_two_lines(values: dict[str, str]) -> None:
    """Whatever names and values hold, each value stays under its name."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, value in values.items():
            solver.add_to_simulation_results(f"n{name}", f"v{value}", outputs_path=folder)
        path = Path(folder, "results.csv")
        if not values:
            assert not path.exists()
            return
        lines = path.read_text("utf-8").split("\n")
        assert len(lines) == 3
        import csv

        names, found = list(csv.reader(lines[:2]))
        assert names == [" ".join(f"n{name}".splitlines()) for name in values]
        assert found == [" ".join(f"v{value}".splitlines()) for value in values.values()]


def test_plots_are_saved_whole(run: Path) -> None:
    """A figure lands in outputs/plots; the current one where none is given."""
    require_module("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    assert solver.save_plot("a b", figure) == run / "outputs" / "plots" / "a b.png"
    assert solver.save_plot("deep/c.svg", figure, dpi=30).read_bytes().startswith(b"<?xml")
    assert (run / "outputs" / "plots" / "a b.png").read_bytes().startswith(b"\x89PNG")


def test_a_request_to_stop(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop file asks, in the work folder or where the runner says."""
    assert not solver.stop_requested()
    (run / "stop.request").touch()
    assert solver.stop_requested()
    monkeypatch.setenv("PHYSICSRUNNER_STOP_FILE", str(run / "other"))
    assert not solver.stop_requested()


# -- by hand -------------------------------------------------------------------------------------


def test_by_hand(by_hand: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a runner everything works in the current folder, and one line says so."""
    assert solver.inputs() == {}
    assert solver.input("n", 4) == 4
    with pytest.raises(solver.UnknownInput, match="this run has: no inputs"):
        solver.input("n")
    solver.progress(10, "a")
    solver.progress(20, "b")
    solver.result("a", 1)
    solver.series("s", 1, 2)
    assert not solver.stop_requested()
    assert not solver.in_run()
    assert solver.plots_dir() == by_hand / "outputs" / "plots"
    assert {path.name for path in (by_hand / "outputs").iterdir()} == {
        "plots", "results.json", "series.jsonl", "state.txt",
    }  # fmt: skip
    assert capsys.readouterr().err.count(f"outputs are in {by_hand / 'outputs'}") == 1


def test_by_hand_with_arguments(by_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments that every main.py takes name the folders."""
    monkeypatch.setattr(
        sys, "argv", ["main.py", "--inputsPath=i", "--outputsPath", "o/p", "--rawPath="]
    )
    assert solver.inputs_path() == Path("i")
    assert solver.outputs_path() == Path("o/p")
    assert (by_hand / "o" / "p").is_dir()
    assert solver.raw_path() == by_hand / "raw"
    assert solver.work_dir() == by_hand / "o"


def test_the_published_helpers_by_hand(by_hand: Path) -> None:
    """As published: progress is silent, results and inputs say what is missing."""
    solver.update_solver_progress(50)
    assert list(by_hand.iterdir()) == []
    with pytest.raises(ValueError, match="give outputs_path"):
        solver.add_to_simulation_results("a", 1)
    with pytest.raises(ValueError, match="give inputs_path"):
        solver.load_run_inputs()


# -- run_solver ----------------------------------------------------------------------------------


def test_run_solver_has_two_forms(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Callbacks are the phases (0 or 1); keywords, or a path, are a whole run."""
    calls: list[Any] = []

    def whole_run(**keywords: Any) -> str:
        calls.append(keywords)
        return "result"

    monkeypatch.setattr(api, "run_solver", whole_run)
    assert solver.run_solver(config_path="c.json", debug_mode=True) == "result"
    assert solver.run_solver("d.json", skip_stages="upload") == "result"
    assert calls == [
        {"config_path": "c.json", "debug_mode": True},
        {"config_path": "d.json", "skip_stages": "upload"},
    ]
    assert solver.run_solver(remote_fn=lambda: calls.append("remote"), pre_remote_fn=print,
                             post_remote_fn=print) == 0  # fmt: skip
    assert calls[2:] == ["remote"]
    with pytest.raises(TypeError, match="not both"):
        solver.run_solver(print, config_path="c.json")
    assert "All phases completed" in capsys.readouterr().out


def test_run_solver_without_arguments(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inside a run it is the phases, elsewhere the command line."""
    monkeypatch.setattr(api, "run_solver", lambda **keywords: ("command line", keywords))
    monkeypatch.setattr("physicsrunner.solver.phases._PAUSE_S", 0.0)
    assert solver.run_solver() == 0
    assert "No custom remote code provided" in capsys.readouterr().out
    for name in ("PHYSICSRUNNER_OUTPUTS_DIR", "PHYSICSWORKS_OUTPUTS_DIR"):
        monkeypatch.delenv(name)
    assert solver.run_solver() == ("command line", {})


def test_a_phase_that_raises(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is 1, and state.txt says failed."""

    def fail() -> None:
        raise RuntimeError("no mesh\nat all")

    assert solver.run_solver(fail) == 1
    last = parse_line((run / "outputs" / "state.txt").read_text().splitlines()[-1])
    assert last == Status(10, "Error: no mesh at all", "failed", "solver")
    assert "Error in solver execution: no mesh" in capsys.readouterr().out


# -- cost ----------------------------------------------------------------------------------------

HEAVY = {
    "requests",
    "yaml",
    "numpy",
    "matplotlib",
    "asyncio",
    "socketio",
    "jwt",
    "click",
    "inspect",
}


def test_importing_loads_nothing_heavy() -> None:
    """A main.py pays for what it calls: importing the module loads none of these."""
    program = "import sys, physicsrunner.solver; print(sorted(sys.modules))"
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert not HEAVY & set(ast.literal_eval(said))


def test_names_are_found_late() -> None:
    """A name that there is not is an AttributeError, as everywhere; dir() shows those there are."""
    with pytest.raises(AttributeError, match="has no attribute 'proggress'"):
        solver.proggress  # noqa: B018 - asking is the test
    assert set(solver.__all__) <= set(dir(solver))


def test_every_name_is_there() -> None:
    """All names of the wire contract are public."""
    assert {
        "load_run_inputs", "reconstruct_tree_from_run_inputs", "get_input_value_by_slug",
        "get_input_values_by_slug", "get_input_value_by_slugs", "get_input_values_by_slugs",
        "update_solver_progress", "add_to_simulation_results", "replace_placeholders_in_file",
        "pre_remote", "remote", "post_remote", "run_solver", "input", "inputs", "progress",
        "result", "series",
    } <= set(solver.__all__)  # fmt: skip
    assert physicsrunner.solver is solver
