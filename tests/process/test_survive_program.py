"""main.py at its worst: it does not stop, forks, shouts, crashes; its token runs out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from physicsrunner.client.native import NativeUplink
from physicsrunner.core.state import RunState
from physicsrunner.runner.claim import pack_scripts
from physicsrunner.wire.tokens import Claims, issue, verify
from tests.support.cases import make_case
from tests.support.processes import Processes, ServerProcess
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

STUBBORN = """
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
"""
FAMILY = """
import subprocess
for own_session in (False, True):
    subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own_session
    )
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""
#: Goes on for ever, and says so, so that the server's answers reach the runner.
ENDLESS = """
with (outputs / "state.txt").open("a") as state, (files / "data.bin").open("ab") as data:
    step = 0
    while True:
        step += 1
        state.write(f"working: {step % 100}%\\n")
        state.flush()
        data.write(os.urandom(1000))
        data.flush()
        if step == 3:
            tell("working")
        time.sleep(0.02)
"""
GRACE = {"stop_grace_s": 0.3}


@pytest.fixture
def server(shared_server: ServerProcess) -> ServerProcess:
    """One server for all tests of this file: each looks at runs of its own alone."""
    return shared_server


def _no_process_left(processes: Processes, server: ServerProcess) -> None:
    """Everything that the run started is gone, but the server."""
    wait_until(
        lambda: set(processes.marked()) <= {server.pid},
        on_timeout=lambda: processes.marked(),
    )


def test_a_time_limit_ends_a_stubborn_family(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """main.py ignores every signal and has children everywhere: all end, all bytes are kept."""
    voyage = Voyage(
        processes,
        server,
        tmp_path / "work",
        STUBBORN + FAMILY + ENDLESS,
        limits={"time_s": 5.0, **GRACE},
    )
    runner = voyage.start()
    assert runner.wait() == 4, runner.story()
    _no_process_left(processes, server)
    voyage.whole("outputs/data_files/data.bin", status="timeout")


def test_a_cancel_reaches_a_stubborn_program(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A cancel is a request until the runner says that it is done; partial results are kept."""
    voyage = Voyage(processes, server, tmp_path / "work", STUBBORN + FAMILY + ENDLESS, limits=GRACE)
    runner = voyage.start()
    voyage.await_told(runner, "working")
    wait_until(lambda: voyage.status() == "running", timeout=30, on_timeout=runner.story)
    answer = requests.post(
        f"{server.url}/api/v1/simulations/{voyage.run}/cancel",
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=30,
    )
    assert answer.json()["cancel_requested"] is True
    assert runner.wait() == 3, runner.story()
    _no_process_left(processes, server)
    voyage.whole("outputs/data_files/data.bin", status="cancelled")


def test_the_stop_file_is_enough_for_a_polite_program(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A program that looks at the stop file ends by itself and writes its last words."""
    main = """
    stop = pathlib.Path(os.environ["PHYSICSRUNNER_STOP_FILE"])
    tell("working")
    while not stop.exists():
        time.sleep(0.01)
    (files / "checkpoint.txt").write_text("saved")
    """
    voyage = Voyage(
        processes, server, tmp_path / "work", main, limits={"time_s": 1.0, "stop_grace_s": 20.0}
    )
    runner = voyage.start()
    assert runner.wait() == 4, runner.story()
    voyage.whole("outputs/data_files/checkpoint.txt", status="timeout")


def test_no_child_outlives_a_program_that_ends(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """main.py ends with 0 and leaves children in groups of their own: they end too."""
    voyage = Voyage(processes, server, tmp_path / "work", FAMILY)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    _no_process_left(processes, server)
    voyage.whole()


@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit('a message')", 1),
        ("raise ValueError('boom')", 1),
        ("import signal; os.kill(os.getpid(), signal.SIGSEGV)", -11),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.abort()", -6),
        ("this is not Python", 1),
        ("(outputs / 'state.txt').write_text('100% complete'); sys.exit(3)", 3),
        ("sys.exit(255)", 255),
    ],
)
def test_the_exit_status_decides(
    main: str, code: int, processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """However main.py ends badly, the run fails with its status, and what it wrote is kept."""
    voyage = Voyage(
        processes, server, tmp_path / "work", f"(files / 'a.txt').write_text('a')\n{main}\n"
    )
    runner = voyage.start()
    assert runner.wait() == 1, runner.story()
    written = () if "not Python" in main else ("outputs/data_files/a.txt",)
    voyage.whole(*written, "logs/main.log", status="failed")
    assert voyage.document()["exit_code"] == code


def test_a_program_that_fills_standard_output(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """60 MB on standard output hold nothing up and arrive whole."""
    main = """
    line = b"all work and no play makes a dull boy\\n" * 1000
    for _ in range(1600):
        os.write(1, line)
    os.write(2, b"and on standard error\\n")
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait(120) == 0, runner.story()
    size = sum(p.stat().st_size for p in (voyage.work / "outputs" / "logs").iterdir())
    assert size >= 1600 * 38_000
    voyage.whole("logs/main.log")


def test_a_token_that_expires_in_mid_run(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """The attempt's token runs out while main.py works; its files and its end still arrive."""
    main = """
    (files / "early.bin").write_bytes(os.urandom(100_000))
    tell("early")
    wait_for("go")
    (files / "late.bin").write_bytes(os.urandom(100_000))
    """
    case = make_case(tmp_path / "case", main)
    bundle = tmp_path / "bundle.zip"
    pack_scripts(case, bundle)
    voyage = Voyage(processes, server, tmp_path / "work", main)
    uplink = NativeUplink(server.url, server.token)
    model = uplink.upload_bundle(bundle, "expiring")
    grant = uplink.claim(
        {
            "id": voyage.run,
            "model_id": model["id"],
            "model_version": model["version"],
            "parameters": {"inputs": {}},
            "claim": {"agent": "test"},
        }
    )
    uplink.close()
    key = (server.data / "secret.key").read_text().strip()
    now = time.time()
    claims = verify(key, grant.token, now=now)
    expires = now + 6.0
    short = issue(key, Claims(**{**vars(claims), "expires": expires}))
    expiring = Voyage(processes, server, tmp_path / "expiring", main, token=short, run=voyage.run)
    runner = expiring.start()
    expiring.await_told(runner, "early")
    wait_until(lambda: time.time() > expires + 0.5, timeout=20)
    expiring.make("go")
    assert runner.wait() == 0, runner.story()
    expiring.whole("outputs/data_files/early.bin", "outputs/data_files/late.bin")
    assert expiring.status() == RunState.COMPLETED.value
    assert short not in (expiring.work / "debug" / "runner.log").read_text()


def test_two_runners_in_one_folder(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """The second is refused with a reason, and the first goes on undisturbed."""
    main = 'tell("here")\nwait_for("go")\n(files / "a.txt").write_text("a")\n'
    voyage = Voyage(processes, server, tmp_path / "work", main)
    first = voyage.start()
    voyage.await_told(first, "here")
    second = voyage.start()
    assert second.wait() == 2, second.story()
    assert str(first.pid) in second.output()
    voyage.make("go")
    assert first.wait() == 0, first.story()
    voyage.whole("outputs/data_files/a.txt")
