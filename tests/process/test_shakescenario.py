"""ShakeScenario as the document has it: its server and its client as programs of their own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

import physicsrunner.cli.shakescenario
import physicsrunner.client.shakescenario_client
import physicsrunner.wire.frames
from physicsrunner.wire import rest
from tests.contract.rest_server import zip_of
from tests.support.processes import CliResult, Processes, Started
from tests.support.wait import wait_until

MAIN = b"""\
import json, os, pathlib, sys, time
asked = json.loads(pathlib.Path("../inputs/parameters.json").read_text())
print("magnitude", asked["mag"], flush=True)
if "rope" in asked:
    rope = pathlib.Path(asked["rope"])
    with (rope / "begun").open("a") as file:
        file.write(str(asked["mag"]) + "\\n")
    while not (rope / "go").exists():
        if pathlib.Path(os.environ["PHYSICSRUNNER_STOP_FILE"]).exists():
            sys.exit(9)
        time.sleep(0.02)
files = pathlib.Path("../outputs/files")
files.mkdir(parents=True, exist_ok=True)
(files / "impact.csv").write_text("place,loss\\nx,%s\\n" % asked["mag"])
sys.exit(3 if asked["mag"] > 9 else 0)
"""
QUAKE = ("--mag", "5.2", "--lon", "12.34", "--lat", "45.67", "--depth", "10")
_LISTENING = re.compile(r"^listening on 127\.0\.0\.1:(\d+)$", re.MULTILINE)
_NATIVE = re.compile(r"native API +(\S+)")


class Shake:
    """``shakescenario-server`` in a folder with spaces, and its client."""

    def __init__(self, processes: Processes, workers: int = 2) -> None:
        self.processes = processes
        self.folder = processes.folder / "my scenarios"
        self.folder.mkdir()
        self.rope = processes.folder / "rope"
        self.rope.mkdir()
        self.port = processes.port()
        self.workers = workers
        self.started = self.start()
        self.call("POST", f"{rest.MODELS}?name=shaky", data=zip_of({"main.py": MAIN}))

    def start(self) -> Started:
        """Start the server; the next time on the port that it had."""
        options = ("--port", self.port, "--db", "a b.db", "--workdir", "my runs")
        started = self.processes.start(
            [
                sys.executable,
                *("-m", "physicsrunner.cli.shakescenario_server"),
                *map(str, options),
                *("--workers", str(self.workers)),
            ],
            environment={"PHYSICSRUNNER_SHAKESCENARIO_MODEL": "shaky"},
            name="shakescenario",
            cwd=self.folder,
        )

        def told() -> bool:
            assert started.alive, started.story()
            return bool(_NATIVE.search(started.output()))

        wait_until(told, timeout=60, on_timeout=started.story)
        found = _LISTENING.search(started.output())
        assert found, started.story()
        self.port = int(found[1])
        return started

    def call(self, method: str, path: str, **more: Any) -> Any:
        """Make one request of the native API as the admin."""
        native = _NATIVE.search(self.started.output())
        assert native
        token = (self.folder / "a b.db-data" / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.request(method, native[1] + path, headers=headers, timeout=30, **more)
        assert answer.ok, answer.text
        return answer.json()

    def client(self, *arguments: str) -> CliResult:
        """Carry out a command of the client."""
        return client(self.processes, "--port", str(self.port), *arguments)

    def value(self, *arguments: str) -> Any:
        """Carry out a command that must succeed; return what it printed."""
        done = self.client(*arguments)
        assert done.returncode == 0, done
        return done.json

    def submit(self, mag: str = "5.2", *, held: bool = False) -> int:
        """Queue a job; one that is held goes on when the test lets it."""
        more = ("--param", f"rope={self.rope}") if held else ()
        return int(self.value("submit", *QUAKE, "--mag", mag, *more)["id"])

    def begun(self) -> list[str]:
        """Return the magnitudes of held jobs whose program was started."""
        file = self.rope / "begun"
        return file.read_text().split() if file.exists() else []

    def status(self) -> dict[int, str]:
        """Return the state of each job."""
        return {job["id"]: job["status"] for job in self.value("list", "--json")["jobs"]}


def client(
    processes: Processes, *arguments: str, program: tuple[str, ...] = (), cwd: Path | None = None
) -> CliResult:
    """Carry out one command of the client, by default ours, and return its answer."""
    done = subprocess.run(
        [sys.executable, *(program or ("-m", "physicsrunner.cli.shakescenario")), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=processes.environment(),
        cwd=cwd or processes.folder,
        timeout=120,
        check=False,
    )
    return CliResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def shake(processes: Processes) -> Shake:
    return Shake(processes)


def test_the_steps_of_the_document(shake: Shake) -> None:
    """Ping, submit, list, get and wait, as the document types them; then fetch and delete."""
    assert shake.value("ping") == {"pong": True}
    assert shake.value("submit", *QUAKE)["id"] == 1
    job = shake.value("wait", "1", "--timeout", "60")
    assert job["status"] == "completed", job
    assert job["params"] == {"mag": 5.2, "lon": 12.34, "lat": 45.67, "depth": 10.0}
    assert shake.value("get", "1") == job
    table = shake.client("list").stdout.splitlines()
    assert table[0].split() == ["id", "status", "created", "ended", "name"]
    assert table[1].split()[:2] == ["1", "completed"]

    folder = shake.folder / "my runs" / "job_000001"
    wait_until(lambda: "completed" in (folder / "meta.json").read_text())
    listed = json.loads((folder / "result_manifest.json").read_text())
    assert listed["artifacts"] == job["artifacts"]
    for item in job["artifacts"]:
        assert (folder / item["path"]).stat().st_size == item["size"]
    assert shake.client("download", "1", "--to", "fetched").returncode == 0
    fetched = shake.processes.folder / "fetched" / "job_000001"
    impact = "outputs/data_files/impact.csv"
    assert (fetched / impact).read_text() == "place,loss\nx,5.2\n" == (folder / impact).read_text()
    assert "magnitude 5.2" in (folder / "logs" / "main.log").read_text()

    assert shake.value("delete", "1") == {"id": 1, "deleted": True}
    assert shake.client("get", "1").returncode == 6
    wait_until(lambda: not folder.exists())
    assert shake.submit() == 2
    shake.value("wait", "2")
    assert shake.value("reset") == {"deleted": 1, "kept": 0}


def test_how_a_wait_ends(shake: Shake) -> None:
    """The exit code of wait says how the job is: failed 1, canceled 3, not ended 4."""
    failed, held = shake.submit("9.5"), shake.submit(held=True)
    assert shake.client("wait", str(failed)).returncode == 1
    assert shake.client("wait", str(held), "--timeout", "0").returncode == 4
    wait_until(lambda: shake.begun() == ["5.2"])
    assert shake.client("reset").returncode == 2
    shake.value("cancel", str(held))
    assert shake.client("wait", str(held)).returncode == 3


def test_as_many_at_once_as_there_are_workers(processes: Processes) -> None:
    """Three workers carry out three jobs at once, however few cores there are; a fourth waits."""
    shake = Shake(processes, workers=3)
    jobs = [shake.submit(f"{mag}", held=True) for mag in (1, 2, 3, 4)]
    wait_until(lambda: len(shake.begun()) == 3)
    assert sorted(shake.status().values()) == ["queued", "running", "running", "running"]
    (shake.rope / "go").touch()
    for job in jobs:
        assert shake.value("wait", str(job))["status"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_server_that_ends_goes_on_where_it_was(processes: Processes, number: int) -> None:
    """Killed or asked to end: after the next start the ids are the same, the program that ran is
    taken up again, and jobs that waited are carried out."""
    shake = Shake(processes, workers=1)
    jobs = [shake.submit("1", held=True), shake.submit("2"), shake.submit("3")]
    wait_until(lambda: shake.value("get", "1")["started_at"])  # the report may come a little later
    before = shake.value("list", "--json")
    shake.started.kill(number)
    code = shake.started.wait(30)
    assert code == (-9 if number == signal.SIGKILL else 0), shake.started.story()
    assert shake.client("ping").returncode == 7
    shake.started = shake.start()
    assert shake.value("list", "--json") == before
    (shake.rope / "go").touch()
    for job in jobs:
        assert shake.value("wait", str(job), "--timeout", "60")["status"] == "completed"
    assert shake.begun() == ["1.0"]  # it was started once


def test_two_servers_on_one_port(shake: Shake) -> None:
    """The second is refused by one clear line, and so is one on the same database."""
    for options in (
        ("--port", str(shake.port), "--db", "other.db"),
        ("--port", "0", "--db", str(shake.folder / "a b.db")),
    ):
        done = client(
            shake.processes, *options, program=("-m", "physicsrunner.cli.shakescenario_server")
        )
        assert done.returncode == 2, done
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ping"], 7, "no ShakeScenario server at 127.0.0.1:1"),
        (["ping", "--host", "no such host"], 7, "no ShakeScenario server at no such host:1"),
        ([], 2, "required"),
        (["explode"], 2, "invalid choice"),
        (["submit", "--mag", "5"], 2, "required"),
        (["submit", *QUAKE, "--mag", "nan"], 2, "no number that ends"),
        (["submit", *QUAKE, "--param", "x"], 2, "NAME=VALUE"),
        (["get", "one"], 2, "invalid int"),
        (["wait", "1", "--timeout", "-1"], 2, "not under 0"),
        (["ping", "--port", "70000"], 2, "no port"),
        (["ping", "--timeout", "0"], 2, "more than 0"),
    ],
)
def test_the_client_says_what_is_wrong(
    processes: Processes, arguments: list[str], code: int, words: str
) -> None:
    """A server that is away and every mistake is one clear line and an exit code of its own."""
    done = client(processes, "--port", "1", *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_client_works_when_it_is_copied_out_alone(shake: Shake, tmp_path: Path) -> None:
    """Three files in an empty folder, and an interpreter that knows no other package."""
    alone = tmp_path / "alone"
    alone.mkdir()
    for module in (
        physicsrunner.cli.shakescenario,
        physicsrunner.client.shakescenario_client,
        physicsrunner.wire.frames,
    ):
        shutil.copy(str(module.__file__), alone)
    bare = ("-S", "-E")

    def run(*arguments: str) -> CliResult:
        return client(shake.processes, *arguments, program=bare, cwd=alone)

    assert run("-c", "import physicsrunner").returncode == 1
    port = ("--port", str(shake.port))
    assert run("shakescenario.py", *port, "ping").json == {"pong": True}
    assert run("shakescenario.py", *port, "submit", *QUAKE).json["id"] == 1
    assert run("shakescenario.py", *port, "wait", "1").json["status"] == "completed"
    (alone / "shakescenario.py").unlink()  # the client and the protocol module alone
    told = f"import shakescenario_client as c; print(c.ShakeScenario(port={shake.port}).ping())"
    assert run("-c", told).stdout == "{'pong': True}\n"


@pytest.fixture
def up(processes: Processes) -> Callable[[], Started]:
    """Give what starts ``physicsrunner up`` on free ports."""

    def start() -> Started:
        started = processes.python("up", "--port", "0", "--no-login", "--data", "data", name="up")
        wait_until(
            lambda: "(TCP)" in started.output(), timeout=60, on_timeout=lambda: started.story()
        )
        return started

    return start


def test_up_opens_the_door_too(processes: Processes, up: Callable[[], Started]) -> None:
    """`physicsrunner up` says where the door is, and takes jobs of programs of this machine."""
    found = re.search(r"shakescenario +127\.0\.0\.1:(\d+) \(TCP\)", up().output())
    assert found
    assert client(processes, "--port", found[1], "ping").json == {"pong": True}
    assert client(processes, "--port", found[1], "list", "--json").json["total"] == 0
