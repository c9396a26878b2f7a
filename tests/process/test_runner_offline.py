"""The runner without a server: five stages, real processes, every kind of end."""

from __future__ import annotations

import importlib.util
import json
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from physicsrunner import run_solver
from physicsrunner.core.state import RunState
from physicsrunner.errors import ConfigError, UsageError, WorkDirLocked
from tests.support.cases import make_case, make_work_folder
from tests.support.processes import Processes
from tests.support.runners import start_runner
from tests.support.wait import wait_until

STAGES = ["init", "download", "watch", "execute", "postprocess"]


def test_a_run_goes_through_five_stages_and_says_what_happened(tmp_path: Path) -> None:
    """The result is true and names state, exit code, stages, files, bytes and results."""
    main = """
        (outputs / "state.txt").write_text("Processing - 50% complete\\n")
        (files / "u.bin").write_bytes(b"x" * 1000)
        (outputs / "results.csv").write_text("t_max [K],converged,note\\n273.15,true,warm\\n")
        print("hello from main")
        print("and from stderr", file=sys.stderr)
    """
    config = make_work_folder(tmp_path / "a folder", main)
    seen: list[str | None] = []
    result = run_solver(config, on_progress=lambda progress: seen.append(progress.stage))
    assert result
    assert (result.state, result.exit_code, result.delivered) == (RunState.COMPLETED, 0, False)
    assert [stage.stage for stage in result.stages] == STAGES
    assert all(stage.seconds > 0 for stage in result.stages)
    assert [(r.name, r.value, r.unit) for r in result.results] == [
        ("t_max", 273.15, "K"),
        ("converged", True, None),
        ("note", "warm", None),
    ]
    assert result.bytes > 1000
    assert result.files >= 5
    assert result.warnings == ()
    assert list(dict.fromkeys(seen)) == STAGES
    root = tmp_path / "a folder"
    log = (root / "outputs/logs/main.log").read_text()
    assert "hello from main" in log
    assert "and from stderr" in log
    assert json.loads((root / "outputs/results.json").read_text())["t_max"] == {
        "value": 273.15,
        "unit": "K",
    }
    provenance = json.loads((root / "metadata/provenance.json").read_text())
    assert provenance["scripts"]["main.py"]["sha256"]
    assert "config.json" not in provenance["scripts"]
    assert json.loads((root / "metadata/run_metadata.json").read_text())["state"] == "completed"
    assert "main.py ended" in (root / "debug/runner.log").read_text()


def test_main_py_finds_both_names_of_its_environment(tmp_path: Path) -> None:
    """Paths, ids and the configuration are there as PHYSICSRUNNER_* and PHYSICSWORKS_*."""
    main = """
        import json
        known = {k: v for k, v in os.environ.items() if k.startswith("PHYSICS")}
        known["cwd"], known["config"] = os.getcwd(), json.load(open("config.json"))
        known["unbuffered"] = os.environ["PYTHONUNBUFFERED"]
        known["mode"] = oct(os.stat("config.json").st_mode)[-3:]
        (outputs / "seen.json").write_text(json.dumps(known))
    """
    config = make_work_folder(tmp_path, main, name="wing", parameters={"re": 100})
    result = run_solver(config)
    assert result
    seen = json.loads((tmp_path / "outputs/seen.json").read_text())
    for name, value in {
        "INPUTS_DIR": str(tmp_path / "inputs"),
        "OUTPUTS_DIR": str(tmp_path / "outputs"),
        "RAW_DIR": str(tmp_path / "raw"),
        "WORK_DIR": str(tmp_path),
        "RUN_ID": result.run,
        "ATTEMPT": "1",
        "CONFIG_PATH": str(tmp_path / "scripts/config.json"),
        "STOP_FILE": str(tmp_path / "stop.request"),
        "HOST": "",
        "TOKEN": "",
    }.items():
        assert seen[f"PHYSICSRUNNER_{name}"] == value
        assert seen[f"PHYSICSWORKS_{name}"] == value
    assert (seen["cwd"], seen["mode"], seen["unbuffered"]) == (
        str(tmp_path / "scripts"),
        "600",
        "1",
    )
    assert seen["config"]["resource"] == {"id": result.run, "name": "wing"}
    assert json.loads((tmp_path / "inputs/parameters.json").read_text()) == {"re": 100}
    assert json.loads((tmp_path / "inputs/runInputs.json").read_text()) == [
        {"slug": "re", "fullPath": "re", "value": 100}
    ]


@pytest.mark.parametrize(
    ("main", "code", "words"),
    [
        ("raise SystemExit(3)", 3, "exit code 3"),
        ("import nowhere_to_be_found", 1, "ModuleNotFoundError"),
        ("this is no python", 1, "SyntaxError"),
        ("import signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, "SIGSEGV"),
        ("os.abort()", -6, "SIGABRT"),
    ],
)
def test_a_program_that_fails_is_a_failed_run_with_its_files(
    tmp_path: Path, main: str, code: int, words: str
) -> None:
    """The exit code is main.py's own, the error says how it ended, the log is kept."""
    result = run_solver(make_work_folder(tmp_path, main))
    assert not result
    assert (result.state, result.exit_code) == (RunState.FAILED, code)
    assert result.error is not None
    assert result.error.code == "program_failed"
    assert words in result.error.message
    assert (tmp_path / "outputs/logs/main.log").exists()


def test_a_wrong_rule_for_series_is_refused_before_main_py(tmp_path: Path) -> None:
    """The file, the rule and what is expected are named; nothing runs unfollowed."""
    config = make_work_folder(tmp_path, "(outputs / 'ran').touch()")
    (tmp_path / "scripts/case.yaml").write_text("series:\n  - {nonsense: 1}\n")
    result = run_solver(config)
    assert (result.state, result.exit_code) == (RunState.FAILED, None)
    assert result.error is not None
    assert result.error.code == ConfigError.code
    assert "case.yaml: series: rule 1" in result.error.message
    assert not (tmp_path / "outputs/ran").exists()


def test_a_missing_main_py_is_said_clearly(tmp_path: Path) -> None:
    """The run fails, and the message names the file and the key that helps."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"workDir": "w"}))
    result = run_solver(config)
    assert (result.state, result.exit_code) == (RunState.FAILED, None)
    assert result.error is not None
    assert "scripts/main.py" in result.error.message
    assert "scriptsArchive" in result.error.message


def test_archives_beside_the_configuration_are_used(tmp_path: Path) -> None:
    """scriptsArchive and inputsArchive that are local files are unpacked."""
    case = make_case(tmp_path / "case", "print((inputs / 'mesh.txt').read_text())")
    with zipfile.ZipFile(tmp_path / "scripts.zip", "w") as archive:
        archive.write(case / "main.py", "main.py")
    (tmp_path / "mesh.txt").write_text("a mesh")
    with tarfile.open(tmp_path / "inputs.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "mesh.txt", "mesh.txt")
    config = tmp_path / "config.yaml"
    config.write_text("workDir: work\nscriptsArchive: scripts.zip\ninputsArchive: inputs.tar.gz\n")
    assert run_solver(config)
    assert "a mesh" in (tmp_path / "work/outputs/logs/main.log").read_text()


def test_geometry_is_archived_and_the_case_chooses_the_zip(tmp_path: Path) -> None:
    """vtp.tar.gz, gltf.tar.gz and result.zip hold what was named, the same bytes every time."""
    main = """
        (outputs / "graphics" / "b.vtp").write_text("<b/>")
        (outputs / "graphics" / "a.vtp").write_text("<a/>")
        (outputs / "scene.gltf").write_text("{}")
        (files / "u.csv").write_text("1,2")
    """
    config = make_work_folder(tmp_path, main)
    (tmp_path / "scripts/case.yaml").write_text("downloadable: [outputs/files/*.csv]\n")
    assert run_solver(config)
    archive = tmp_path / "outputs/files/vtp.tar.gz"
    with tarfile.open(archive) as opened:
        assert opened.getnames() == ["graphics/a.vtp", "graphics/b.vtp"]
    assert (tmp_path / "outputs/files/gltf.tar.gz").exists()
    with zipfile.ZipFile(tmp_path / "outputs/result.zip") as opened_zip:
        assert opened_zip.namelist() == ["outputs/files/u.csv"]
    before = archive.read_bytes()
    assert run_solver(config, starting_stage="postprocess")
    assert archive.read_bytes() == before


def test_stages_can_be_left_out(tmp_path: Path) -> None:
    """A skipped execute runs nothing; its stage is marked."""
    config = make_work_folder(tmp_path, "(outputs / 'ran').touch()")
    result = run_solver(config, skip_stages="watch,execute")
    assert result
    assert [stage.stage for stage in result.stages if stage.skipped] == ["watch", "execute"]
    assert not (tmp_path / "outputs/ran").exists()
    with pytest.raises(UsageError, match="unknown stage 'exekute'"):
        run_solver(config, skip_stages=["exekute"])


def test_a_second_start_is_a_run_of_its_own(tmp_path: Path) -> None:
    """Without a run id each start runs main.py again, under a new id."""
    config = make_work_folder(tmp_path, "open(outputs / 'count', 'a').write('x')")
    first, second = run_solver(config), run_solver(config)
    assert first.run != second.run
    assert (tmp_path / "outputs/count").read_text() == "xx"


def test_a_second_start_of_a_named_run_runs_nothing(tmp_path: Path) -> None:
    """A run that is finished stays finished: the second start tells the same outcome."""
    config = make_work_folder(tmp_path, "open(outputs / 'count', 'a').write('x')", run="r-1")
    first, second = run_solver(config), run_solver(config)
    assert (first.run, second.run) == ("r-1", "r-1")
    assert (second.state, second.exit_code) == (first.state, first.exit_code)
    assert (tmp_path / "outputs/count").read_text() == "x"


def test_two_runners_on_one_folder(tmp_path: Path, processes: Processes) -> None:
    """The second is refused with the pid of the first, and disturbs nothing."""
    main = """
        (outputs / "started").touch()
        while not (inputs / "go").exists():
            time.sleep(0.02)
    """
    config = make_work_folder(tmp_path / "w", main)
    first = start_runner(processes, config)
    wait_until(lambda: (tmp_path / "w/outputs/started").exists(), timeout=30.0)
    with pytest.raises(WorkDirLocked, match=f"pid {first.pid} "):
        run_solver(config)
    second = start_runner(processes, config)
    assert second.wait() == 2
    assert "error:" in second.output()
    (tmp_path / "w/inputs/go").touch()
    assert first.wait() == 0


def test_many_attempts_share_one_process(tmp_path: Path) -> None:
    """Runs in threads of one process do not know of each other."""
    main = "(files / 'name').write_text(outputs.parent.name)"
    configs = [make_work_folder(tmp_path / f"w{n}", main) for n in range(6)]
    results: dict[Path, bool] = {}
    threads = [
        threading.Thread(target=lambda c=config: results.update({c: bool(run_solver(c))}))
        for config in configs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()) == [True] * 6
    for config in configs:
        assert (config.parent / "outputs/files/name").read_text() == config.parent.name


def test_a_configuration_that_is_wrong_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The key, the file and the nearest key are named; no work folder appears."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"workDir": "w", "scriptArchive": "x.zip"}))
    with pytest.raises(ConfigError, match=r"config\.json: the key 'scriptArchive' is unknown; did"):
        run_solver(config)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_pictures_without_the_extra_are_a_warning(tmp_path: Path) -> None:
    """A case may ask for pictures; where pyvista is missing the warning names the extra."""
    if importlib.util.find_spec("pyvista") is not None:
        pytest.skip("pyvista is installed here")
    config = make_work_folder(tmp_path, "(files / 'u.vtu').write_text('<VTKFile/>')")
    (tmp_path / "scripts/case.yaml").write_text("render: {file: outputs/files/*.vtu}\n")
    result = run_solver(config)
    assert result
    assert "physicsrunner[viz]" in result.warnings[0]


def test_a_fault_after_the_program_is_a_warning(tmp_path: Path) -> None:
    """Results that cannot be read change nothing of the outcome."""
    result = run_solver(make_work_folder(tmp_path, "(outputs / 'results.json').write_text('{')"))
    assert result.state is RunState.COMPLETED
    assert "results.json" in result.warnings[0]
