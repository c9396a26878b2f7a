"""Kill -9 of runner, server or main.py in every stage, and start again: nothing is lost."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from physicsrunner.client.native import NativeUplink
from physicsrunner.engines.base import Phase
from physicsrunner.runner.claim import pack_scripts
from tests.support.cases import make_case
from tests.support.processes import Processes, ServerProcess
from tests.support.programs import program_status
from tests.support.proxy import FaultProxy
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

Proxies = Callable[[int], FaultProxy]

#: Writes steadily, says that it began (once a start), and ends when it is told to.
STEADY = """
with (files / "starts.txt").open("a") as starts:
    starts.write("started\\n")
with (files / "growing.bin").open("ab") as growing:
    for step in range(20):
        growing.write(os.urandom(20_000))
        growing.flush()
        (files / f"step {step}.txt").write_text(f"{step}\\n")
        print("step", step, flush=True)
    tell("half")
    wait_for("go")
    growing.write(os.urandom(50_000))
(outputs / "results.csv").write_text("answer\\n42\\n")
print("the end")
"""
EXPECTED = ("outputs/data_files/growing.bin", "outputs/data_files/step 19.txt", "logs/main.log")

MOMENTS = [
    ("begun", {}),
    ("stage_done", {"stage": "init"}),
    ("named", {}),
    ("stage_done", {"stage": "download"}),
    ("stage_done", {"stage": "watch"}),
    ("program", {}),
    ("outcome", {}),
    ("stage_done", {"stage": "execute"}),
]


def _once(voyage: Voyage) -> None:
    starts = voyage.work / "outputs" / "files" / "starts.txt"
    assert starts.read_text() == "started\n", "main.py was started more than once"


@pytest.mark.parametrize(("event", "fields"), MOMENTS, ids=lambda v: "-".join(v) or "x")
def test_a_runner_killed_at_any_moment_goes_on(
    event: str,
    fields: dict[str, str],
    processes: Processes,
    server: ServerProcess,
    tmp_path: Path,
) -> None:
    """Killed at a moment of its journal and started again, it delivers all; main.py runs once."""
    voyage = Voyage(processes, server, tmp_path / "work", STEADY)
    voyage.make("go")
    first = voyage.start()
    wait_until(
        lambda: voyage.noted(event, **fields), interval=0.001, timeout=60, on_timeout=first.story
    )
    first.kill(signal.SIGKILL)

    second = voyage.start()
    assert second.wait() == 0, second.story()
    _once(voyage)
    voyage.whole(*EXPECTED)


def test_main_goes_on_while_its_runner_is_dead(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """main.py outlives its runner; what it writes meanwhile and its exit status are not lost."""
    voyage = Voyage(processes, server, tmp_path / "work", STEADY)
    first = voyage.start()
    voyage.await_told(first, "half")
    first.kill(signal.SIGKILL)
    voyage.make("go")
    wait_until(
        lambda: program_status(voyage.work).phase is Phase.ENDED,
        timeout=30,
        on_timeout="main.py did not end by itself",
    )
    assert not voyage.noted("outcome")

    second = voyage.start()
    assert second.wait() == 0, second.story()
    _once(voyage)
    voyage.whole(*EXPECTED)
    assert voyage.document()["exit_code"] == 0


def test_a_runner_killed_again_and_again_arrives(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """Five kills in the middle of the last upload, and the sixth runner completes it."""
    proxy = proxy_for(server.port)
    voyage = Voyage(
        processes,
        server,
        tmp_path / "work",
        '(files / "big.bin").write_bytes(os.urandom(12_000_000))',
        url=proxy.url,
    )
    proxy.rate = 8e6
    for _ in range(5):
        runner = voyage.start()
        voyage.await_noted(runner, "outcome")
        target = proxy.forwarded + 1_000_000
        wait_until(
            lambda target=target, runner=runner: proxy.forwarded >= target or not runner.alive,  # type: ignore[misc]
            timeout=60,
            on_timeout=runner.story,
        )
        runner.kill(signal.SIGKILL)
    proxy.rate = None
    last = voyage.start()
    assert last.wait() == 0, last.story()
    voyage.whole("outputs/data_files/big.bin")


def test_a_runner_killed_in_its_download_fetches_the_rest(
    processes: Processes, server: ServerProcess, proxy_for: Proxies, tmp_path: Path
) -> None:
    """A bundle that was half fetched is fetched whole and verified after the restart."""
    proxy = proxy_for(server.port)
    case = make_case(tmp_path / "case", "(files / 'ran.txt').write_text('ran')\n")
    (case / "mesh.bin").write_bytes(os.urandom(6_000_000))
    bundle = tmp_path / "bundle.zip"
    pack_scripts(case, bundle)
    voyage = Voyage(processes, server, tmp_path / "work", "", url=proxy.url)
    for path in (voyage.work / "scripts").iterdir():
        path.unlink()
    uplink = NativeUplink(server.url, server.token)
    model = uplink.upload_bundle(bundle, "mesh")
    uplink.claim(
        {
            "id": voyage.run,
            "model_id": model["id"],
            "model_version": model["version"],
            "parameters": {"inputs": {}},
            "claim": {"agent": "test"},
        }
    )
    uplink.close()
    proxy.rate = 4e5  # a quarter of a minute: it is killed in the midst also where that takes long
    first = voyage.start()
    wait_until(
        lambda: any("bundle" in request for request in proxy.requests),
        timeout=30,
        on_timeout=first.story,
    )
    first.kill(signal.SIGKILL)
    assert not voyage.noted("stage_done", stage="download")
    proxy.rate = None
    second = voyage.start()
    assert second.wait() == 0, second.story()
    mesh = (voyage.work / "scripts" / "mesh.bin").read_bytes()
    assert mesh == (case / "mesh.bin").read_bytes()
    voyage.whole("outputs/data_files/ran.txt")


@pytest.mark.parametrize("stage", ["execute", "postprocess"])
def test_a_server_killed_while_files_arrive(
    stage: str,
    processes: Processes,
    server: ServerProcess,
    proxy_for: Proxies,
    tmp_path: Path,
) -> None:
    """Killed in mid-upload and started again, the server has every byte in the end."""
    proxy = proxy_for(server.port)
    proxy.rate = 10e6
    main = """
    for part in range(20):
        (files / f"part{part}.bin").write_bytes(os.urandom(1_000_000))
        tell("writing")
    """
    ending = 'wait_for("go")\n' if stage == "execute" else ""
    voyage = Voyage(
        processes, server, tmp_path / "work", textwrap.dedent(main) + ending, url=proxy.url
    )
    runner = voyage.start()
    voyage.await_told(runner, "writing")
    wait_until(lambda: proxy.forwarded > 4_000_000, timeout=60, on_timeout=runner.story)
    server.kill()
    if stage == "postprocess":
        voyage.await_noted(runner, "outcome")
    server.restart()
    voyage.make("go")
    proxy.rate = None
    assert runner.wait(120) == 0, runner.story()
    voyage.whole(*(f"outputs/data_files/part{n}.bin" for n in range(20)))


def test_a_server_killed_before_the_run_is_known_to_it(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """The run begins offline, and its last act is to deliver itself to the server that is back."""
    voyage = Voyage(processes, server, tmp_path / "work", STEADY)
    server.kill()
    runner = voyage.start()
    voyage.await_told(runner, "half")
    server.restart()
    voyage.make("go")
    assert runner.wait(120) == 0, runner.story()
    voyage.whole(*EXPECTED)


def test_both_killed_at_once(processes: Processes, server: ServerProcess, tmp_path: Path) -> None:
    """A power cut takes server and runner together; both come back, and nothing is missing."""
    voyage = Voyage(processes, server, tmp_path / "work", STEADY)
    first = voyage.start()
    voyage.await_told(first, "half")
    server.kill()
    first.kill(signal.SIGKILL)
    server.restart()
    second = voyage.start()
    voyage.make("go")
    assert second.wait(120) == 0, second.story()
    _once(voyage)
    voyage.whole(*EXPECTED)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_main_killed(
    number: signal.Signals, processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A main.py that is killed fails its run, names the signal, and what it wrote is kept."""
    voyage = Voyage(processes, server, tmp_path / "work", 'tell("pid", os.getpid())\n' + STEADY)
    runner = voyage.start()
    pid = int(voyage.await_told(runner, "pid"))
    voyage.await_told(runner, "half")
    os.kill(pid, number)
    assert runner.wait() == 1, runner.story()
    voyage.whole(*EXPECTED, status="failed")
    assert voyage.document()["exit_code"] == -number
