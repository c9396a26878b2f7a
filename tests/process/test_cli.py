"""The commands, as a person and as a program call them: real processes, a real server."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.client.client import Client
from tests.support.cases import make_case
from tests.support.processes import LISTENING, CliResult, Processes, Started
from tests.support.wait import wait_until

MAIN = """
    from physicsrunner import solver
    for step in range(1, 21):
        print("step", step, flush=True)
        solver.series("residual/u", step, 1.0 / step)
        solver.progress(5 * step, f"step {step}")
    solver.result("t_max", 273.15, unit="K")
    (files / "field.txt").write_text("x" * 1000)
"""
ENDLESS = """
    import json
    (outputs / "pid").write_text(str(os.getpid()))
    print("started", flush=True)
    while True:
        time.sleep(0.05)
"""
STUBBORN = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


@dataclass
class Up:
    """A server with its agent."""

    url: str
    token: str
    data: Path
    started: Started

    @property
    def login(self) -> dict[str, Any]:
        return {"PHYSICSRUNNER_SERVER": self.url, "PHYSICSRUNNER_TOKEN": self.token}


@pytest.fixture
def up(processes: Processes, tmp_path: Path) -> Iterator[Up]:
    """``physicsrunner up`` on a free port."""
    data = tmp_path / "data"
    started = processes.python("up", "--data", str(data), "--port", "0", "--no-login", name="up")
    found = wait_until(
        lambda: LISTENING.search(started.log.read_bytes()), timeout=60.0, on_timeout=started.story
    )
    assert found is not None
    token = (data / "admin.token").read_text().strip()
    yield Up(found[1].decode(), token, data, started)
    started.stop()


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A quick case with a parameter."""
    return make_case(tmp_path / "case", MAIN, name="plate", parameters={"width": 1.0})


@contextmanager
def terminal(processes: Processes, *arguments: str, **environment: str) -> Iterator[int]:
    """Run a command on a pseudo-terminal of 60 columns; give the side that a person sees."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", _ON_TERMINAL, os.ttyname(theirs), *arguments]
    os.set_blocking(ours, False)
    started = processes.start(argv, environment={"COLUMNS": "60", "TERM": "xterm", **environment})
    try:
        yield ours
        started.wait()
    finally:
        os.close(ours)
        os.close(theirs)


# Its standard streams are the terminal; only the harness's log file is not.
_ON_TERMINAL = """
import os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(handle, number)
from physicsrunner.cli.main import main
main(sys.argv[2:])
"""


def seen(ours: int, wanted: str) -> str:
    """Wait until *wanted* was written to the terminal; return all of it."""
    text = bytearray()

    def look() -> bool:
        with suppress(BlockingIOError):
            text.extend(os.read(ours, 65536))
        return wanted in text.decode(errors="replace")

    wait_until(look, timeout=60.0, on_timeout=lambda: text.decode(errors="replace"))
    return text.decode(errors="replace")


def wrote(path: Path) -> bool:
    """Say whether *path* is there with something in it."""
    return path.exists() and path.stat().st_size > 0


def json_lines(answer: CliResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_up_offers_what_it_is_told_to(processes: Processes, tmp_path: Path) -> None:
    """Slots and cores are those of the options, whatever the machine has."""
    data = tmp_path / "data"
    offer = ("--slots", "3", "--cores", "5.5")
    ports = ("--data", str(data), "--port", "0", "--no-login")
    started = processes.python("up", *ports, *offer, name="up")
    found = wait_until(
        lambda: LISTENING.search(started.log.read_bytes()), timeout=60.0, on_timeout=started.story
    )
    assert found is not None
    with Client(found[1].decode(), (data / "admin.token").read_text().strip()) as client:
        wait_until(
            lambda: any(agent["resources"] for agent in client.agents()),
            timeout=60.0,
            on_timeout=started.story,
        )
        (agent,) = client.agents()
    assert (agent["slots"], agent["resources"]["cpu_cores"]) == (3, 5.5)
    started.stop()


def test_a_case_from_submit_to_download(
    processes: Processes, up: Up, case: Path, tmp_path: Path
) -> None:
    """Every command that looks, each with words and with --json."""

    def cli(*arguments: str) -> CliResult:
        return processes.cli(*arguments, **up.login)

    run = cli("submit", str(case), "-p", "width=2.5", "--tag", "a", "--follow", "--json").json
    assert (run["status"], run["number"], run["tags"]) == ("completed", 1, ["a"])
    assert run["parameters"]["inputs"] == {"width": 2.5}

    listed = cli("list", "--json").json
    assert (listed["total"], listed["data"][0]["id"]) == (1, run["id"])
    assert re.search(r"^ +1  completed  100 %  plate", cli("list").stdout, re.MULTILINE)
    assert cli("list", "--status", "failed", "--json").json["total"] == 0
    shown = cli("show", "1").stdout
    for words in ("run 1: plate", "completed, 100 %", "width", "2.5", "t_max", "273.15", "K"):
        assert words in shown
    assert cli("show", run["id"], "--json").json["results"][0]["value"] == 273.15
    assert "t_max   273.15  K" in cli("results", "1").stdout
    assert cli("results", "1", "--json").json["data"][0]["value"] == 273.15
    log = "".join(f"step {step}\n" for step in range(1, 21))
    assert cli("logs", "1").stdout == log
    assert "".join(str(line["text"]) for line in json_lines(cli("logs", "1", "--json"))) == log
    wrong = processes.cli("logs", "1", "solver.log", check=False, **up.login)
    assert (wrong.returncode, "it has: main.log" in wrong.stderr) == (6, True)
    files = cli("files", "1", "--json").json["data"]
    assert "outputs/data_files/field.txt" in {file["path"] for file in files}
    assert all(file["sealed"] for file in files)
    assert "sealed  outputs/data_files/field.txt" in cli("files", "1").stdout
    target = tmp_path / "results"
    assert f"{len(files)} files" in cli("download", "1", "--to", str(target)).stdout
    again = cli("download", "1", "--to", str(target), "fie*.txt", "--json").json["files"]
    assert [(file["path"], file["fetched"]) for file in again] == [
        ("outputs/data_files/field.txt", False)
    ]
    assert (target / "outputs/data_files/field.txt").stat().st_size == 1000


def test_a_run_is_shown_live_and_stopped(processes: Processes, up: Up, tmp_path: Path) -> None:
    """Its log is followed, a request to stop is heeded, and all who follow learn of the end."""
    endless = make_case(tmp_path / "endless", ENDLESS, limits={"stop_grace_s": 0.2})
    processes.cli("submit", str(endless), **up.login)
    log = processes.python("logs", "1", "-f", environment=up.login)
    show = processes.python("show", "1", "-f", environment=up.login)
    wait_until(lambda: "started" in log.output(), timeout=60.0, on_timeout=log.story)
    answer = processes.cli("cancel", "1", "--json", **up.login).json["data"][0]
    assert (answer["cancel_requested"], answer["status"]) == (True, "running")
    assert show.wait() == 3, show.story()
    assert log.wait() == 0, log.story()
    assert "cancelled" in show.output()
    again = processes.cli("cancel", "1", "--wait", **up.login)
    assert "cancelled" in again.stdout


def test_run_without_a_server_then_sync(processes: Processes, up: Up, case: Path) -> None:
    """Offline is normal: the run is whole here, and delivered later; a repeat is harmless."""
    offline = processes.cli("run", str(case), "-p", "width=3", "--json").json
    assert (offline["state"], offline["exit_code"], offline["delivered"]) == ("completed", 0, False)
    work = Path(offline["work_dir"])
    assert json.loads((work / "inputs/parameters.json").read_text()) == {"width": 3}
    assert stat.S_IMODE((work / "config.json").stat().st_mode) == 0o600
    assert [item["name"] for item in offline["results"]] == ["t_max"]

    away: dict[str, Any] = {
        "PHYSICSRUNNER_SERVER": "http://127.0.0.1:9",
        "PHYSICSRUNNER_TOKEN": "t",
    }
    nowhere = processes.cli("sync", str(work), "--json", check=False, **away)
    assert (nowhere.returncode, nowhere.json["data"][0]["delivered"]) == (7, False)
    synced = processes.cli("sync", "runs", "--json", "--host", up.url, **up.login).json["data"]
    assert [(item["run"], item["delivered"]) for item in synced] == [(offline["run"], True)]
    processes.cli("sync", str(work), **up.login)
    stored = processes.cli("show", offline["run"], "--json", **up.login).json
    assert (stored["status"], stored["results"][0]["value"]) == ("completed", 273.15)
    assert processes.cli("list", "--json", **up.login).json["total"] == 1


def test_run_with_a_server_is_kept_there(
    processes: Processes, up: Up, case: Path, tmp_path: Path
) -> None:
    """--host: the run is on the server while it goes on; without an answer it goes on here."""
    there = processes.cli("run", str(case), "--host", up.url, "--json", **up.login).json
    assert there["delivered"]
    assert processes.cli("show", there["run"], "--json", **up.login).json["status"] == "completed"
    up.started.stop()
    work = tmp_path / "work"
    away = processes.cli(
        "run", str(case), "--host", up.url, "--work-dir", str(work), "--json", **up.login
    )
    assert (away.json["state"], away.json["delivered"]) == ("completed", False)
    assert "physicsrunner sync" in away.stderr


def test_the_exit_code_is_the_run_s(processes: Processes, tmp_path: Path) -> None:
    """Completed 0, failed 1 with the end of the log, time limit 4."""
    broken = make_case(tmp_path / "broken", "print('so far'); sys.exit('diverged')")
    failed = processes.cli("run", str(broken), check=False)
    assert failed.returncode == 1
    assert failed.stdout.startswith("failed after")
    assert "diverged" in failed.stderr
    endless = make_case(tmp_path / "endless", ENDLESS, limits={"stop_grace_s": 0.1})
    late = processes.cli("run", str(endless), "--timeout", "0.01", "--json", check=False)
    assert (late.returncode, late.json["state"], late.json["exit"]) == (4, "timeout", 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run(
    processes: Processes, tmp_path: Path, number: signal.Signals
) -> None:
    """The program is asked to stop; the run ends as cancelled; nothing is left running."""
    endless = make_case(tmp_path / "endless", ENDLESS, limits={"stop_grace_s": 0.2})
    work = tmp_path / "work"
    started = processes.python("run", str(endless), "--work-dir", str(work))
    wait_until((work / "outputs/pid").exists, timeout=60.0, on_timeout=started.story)
    started.kill(number)
    assert started.wait() == 3, started.story()
    assert "cancelled after" in started.output()


def test_a_second_signal_ends_it_at_once(processes: Processes, tmp_path: Path) -> None:
    """A program that ignores SIGTERM and has a long grace does not hold the person up."""
    stubborn = make_case(tmp_path / "stubborn", STUBBORN + ENDLESS, limits={"stop_grace_s": 600.0})
    work = tmp_path / "work"
    started = processes.python("run", str(stubborn), "--work-dir", str(work))
    wait_until((work / "outputs/pid").exists, timeout=60.0, on_timeout=started.story)
    started.kill(signal.SIGINT)
    wait_until(lambda: "once more" in started.output(), timeout=30.0, on_timeout=started.story)
    started.kill(signal.SIGINT)
    assert started.wait() == 130, started.story()
    assert "ended at once" in started.output()


def test_a_work_folder_is_gone_on_with_or_left_alone(
    processes: Processes, case: Path, tmp_path: Path
) -> None:
    """A cut run goes on under its id; a finished one and a stranger's folder are refused."""
    work = tmp_path / "work"
    endless = make_case(tmp_path / "endless", ENDLESS, limits={"stop_grace_s": 0.1})
    started = processes.python("run", str(endless), "--work-dir", str(work))
    wait_until(lambda: wrote(work / "outputs/pid"), timeout=60.0, on_timeout=started.story)
    run = json.loads((work / "config.json").read_text())["run"]
    pid = (work / "outputs/pid").read_text()
    started.kill()
    again = processes.python("run", str(endless), "--work-dir", str(work), "--json")
    wait_until(
        lambda: (work / "debug/runner.log").read_text().count("stage watch") == 2,
        timeout=60.0,
        on_timeout=again.story,
    )
    again.kill(signal.SIGTERM)
    assert again.wait() == 3, again.story()
    assert f'"run": "{run}"' in again.output()
    assert (work / "outputs/pid").read_text() == pid, "the program was adopted, not started twice"

    refused = processes.cli("run", str(case), "--work-dir", str(work), check=False)
    assert refused.returncode == 2
    assert "has ended" in refused.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    other = processes.cli("run", str(case), "--work-dir", str(tmp_path / "mine"), check=False)
    assert other.returncode == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_the_config_form_is_the_same_run(processes: Processes, case: Path, tmp_path: Path) -> None:
    """``run --configPath`` and ``--configPath`` alone carry out a configuration file."""
    for number, form in enumerate((["run"], [])):
        work = tmp_path / str(number)
        make_case(work / "scripts", MAIN)
        config = work / "config.yaml"
        config.write_text(f"workDir: {work}\n")
        answer = processes.cli(*form, f"--configPath={config}", "--json")
        assert answer.json["state"] == "completed"
    mixed = processes.cli("run", str(case), f"--configPath={config}", check=False)
    assert mixed.returncode == 2


def test_login_keeps_the_token_and_the_server(
    processes: Processes, up: Up, case: Path, tmp_path: Path
) -> None:
    """Asked once, kept with mode 0600, used from then on; a wrong token is not kept."""
    wrong = tmp_path / "wrong.token"
    wrong.write_text("not.a.token\n")
    refused = processes.cli("login", up.url, "--token-file", str(wrong), check=False)
    assert refused.returncode == 5
    assert processes.cli("list", "--host", up.url, check=False).returncode == 5
    token_file = str(up.data / "admin.token")
    told = processes.cli("login", up.url, "--token-file", token_file, "--json").json
    assert told["server"] == up.url
    assert stat.S_IMODE(Path(told["file"]).stat().st_mode) == 0o600
    assert processes.cli("list", "--json").json["data"] == []
    assert processes.cli("login", "--forget", "--json").json["dropped"]
    assert processes.cli("list", check=False).returncode == 5


def test_errors_have_their_exit_codes(processes: Processes, up: Up, tmp_path: Path) -> None:
    """One line for what is wrong and one for what to do; no traceback."""
    (tmp_path / "empty").mkdir()
    free = "http://127.0.0.1:9"
    for code, arguments in (
        (2, ("submit", str(tmp_path / "empty"))),
        (2, ("submit", str(tmp_path / "nowhere"))),
        (2, ("list", "--status", "broken")),
        (2, ("list", "--sort", "colour")),
        (2, ("sync", str(tmp_path / "empty"))),
        (2, ("list", "--host", "ftp://a")),
        (6, ("show", "99")),
        (6, ("logs", "99", "-f")),
        (7, ("list", "--host", free)),
        (7, ("show", "1", "-f", "--host", free)),
    ):
        answer = processes.cli(*arguments, check=False, **up.login)
        assert answer.returncode == code, (arguments, answer)
        lines = answer.stderr.splitlines()
        assert lines[0].startswith("error: "), answer.stderr
        assert len(lines) == 2
        assert "Traceback" not in answer.stderr


def test_a_terminal_sees_a_bar_and_tables_that_fit(processes: Processes, tmp_path: Path) -> None:
    """Progress is redrawn in place, and no line is wider than the terminal."""
    name = "a-name-that-is-much-longer-than-what-a-narrow-terminal-can-show-in-one-line"
    main = MAIN.replace("flush=True)", "flush=True); time.sleep(0.03)")
    case = make_case(tmp_path / "case", main, name=name)
    with terminal(processes, "run", str(case)) as ours:
        text = seen(ours, "t_max")
    assert "█" in text
    assert "residual/u" in text
    for line in re.sub(r"\x1b\[[0-9]*[mK]", "", text).replace("\r", "\n").splitlines():
        assert len(line) <= 60 or line.startswith("completed after")


def test_a_pipe_that_is_closed_early_is_no_error(processes: Processes, case: Path) -> None:
    """``| head`` has what it wants: no traceback."""
    work = processes.folder / "work"
    processes.cli("run", str(case), "--work-dir", str(work))
    command = f"{sys.executable} -m physicsrunner --help | head -n 1"
    started = processes.start(["/bin/sh", "-c", command])
    assert started.wait() == 0
    assert "Traceback" not in started.output()
    assert "Exception" not in started.output()
