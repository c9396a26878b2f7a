"""The small parts of an agent: what the machine has, systemd, tokens, signals."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import click
import pytest

from physicsrunner.agent import notify, resources
from physicsrunner.agent.drain import ended_by_signals
from physicsrunner.agent.enroll import Asked, Credentials, credentials, kind_of, read, subject_of
from physicsrunner.agent.notify import Notifier, forget, from_environment
from physicsrunner.agent.systemd import agent_unit, server_unit
from physicsrunner.cli.agent import duration, words
from physicsrunner.errors import AgentRefused
from physicsrunner.wire import tokens
from tests.support.require import require
from tests.support.wait import wait_until

LOG = logging.getLogger("test agent")


def test_what_a_container_leaves_counts(tmp_path: Path) -> None:
    """A quota of one and a half cores and a gigabyte wins over what the hardware has."""
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert resources.usable_cores(tmp_path) == min(1.5, len(os.sched_getaffinity(0)))
    assert resources.usable_memory_gb(tmp_path) == 1.0
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert resources.usable_memory_gb(tmp_path) > 0


def test_gpus_are_those_of_the_driver(tmp_path: Path) -> None:
    """One line is one GPU; no driver, or one that fails, is none."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA A100'\necho 'NVIDIA A100'\n")
    program.chmod(0o755)
    assert resources.gpu_names(str(program)) == ["NVIDIA A100", "NVIDIA A100"]
    program.write_text("#!/bin/sh\necho 'no devices were found'\nexit 6\n")
    assert resources.gpu_names(str(program)) == []
    assert resources.gpu_names(str(tmp_path / "none")) == []


def test_options_win_over_what_is_found(tmp_path: Path) -> None:
    """Slots are as many as cores, unless they are named."""
    found = resources.look(
        tmp_path / "not" / "yet", cores=3.5, memory_gb=2.0, gpus=4, labels=["b", "a", "b"]
    )
    assert (found.resources.cpu_cores, found.resources.gpu_count, found.slots) == (3.5, 4, 3)
    assert found.labels == ["a", "b"]
    assert found.resources.storage_gb > 0
    assert resources.look(tmp_path, slots=40, cores=0.5).slots == 40


# -- systemd -------------------------------------------------------------------------------------


def test_systemd_is_told(tmp_path: Path) -> None:
    """READY, WATCHDOG and STOPPING go to its socket; without one nothing happens."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(10)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}
        notifier = from_environment(environ, 7)
        assert notifier == Notifier(address, 3.0)
        notifier.ready("here\nthere")
        assert line.recv(1000) == b"READY=1\nSTATUS=here there"
        notifier.alive()
        assert line.recv(1000) == b"WATCHDOG=1"
        notifier.stopping("bye")
        assert line.recv(1000) == b"STOPPING=1\nSTATUS=bye"
    notifier.alive()  # nobody listens any more
    assert from_environment(environ, 8).watchdog_s is None, "another process is watched"
    forget(environ)
    assert environ == {}
    from_environment(environ, 7).ready("nobody hears")


def test_a_service_manager_that_does_not_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is full after a few messages; the rest are let be, the last after a moment."""
    monkeypatch.setattr(notify, "PATIENCE_S", 0.01)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        notifier = Notifier(address, 3.0)
        for _ in range(2000):  # more than any machine's queue takes
            notifier.alive()
        notifier.stopping("bye")
        line.setblocking(False)
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(line.recv(1000))
    assert set(heard) == {b"WATCHDOG=1"}
    assert len(heard) < 2000, "the queue was never full"


@pytest.mark.parametrize("make", [agent_unit, server_unit])
def test_systemd_accepts_the_units(tmp_path: Path, make: object) -> None:
    """`systemd-analyze verify` says nothing against them, whatever is in the arguments."""
    require("systemd-analyze")
    assert callable(make)
    path = tmp_path / "physicsrunner-made.service"
    path.write_text(make(["--work", "/var/lib/my runs/100%", "--labels", 'a,"b"'], "root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "physicsrunner-made" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


# -- tokens --------------------------------------------------------------------------------------


def token(kind: str, subject: str) -> str:
    """Return a token of some server."""
    return tokens.issue("k" * 32, tokens.Claims(kind, subject, 0.0))


def test_a_token_names_its_agent() -> None:
    """Only an agent's own does."""
    assert subject_of(token("agent", "node7")) == "node7"
    assert subject_of(token("user", "ada")) is None
    assert subject_of("no token") is None
    assert kind_of(token("user", "ada")) == "user"
    assert kind_of("no token") is None


def asked_for(work: Path, asked: Asked) -> Credentials | None:
    """Return who the agent is."""
    return credentials(work, asked, {}, stopped=lambda _seconds: True, random=lambda: 0.5, log=LOG)


def test_what_was_kept_needs_no_server(tmp_path: Path) -> None:
    """The address of nobody, and the agent knows who it is."""
    url = "http://127.0.0.1:9"
    kept = {"server": url, "name": "node7", "token": "t", "nonce": None}
    (tmp_path / "agent.json").write_text(json.dumps(kept))
    assert asked_for(tmp_path, Asked(url)) == Credentials(url, "node7", "t")
    moved = asked_for(tmp_path, Asked("http://127.0.0.1:10"))
    assert moved == Credentials("http://127.0.0.1:10", "node7", "t"), "nobody can say otherwise"
    with pytest.raises(AgentRefused, match="belongs to agent node7, not other"):
        asked_for(tmp_path, Asked(url, name="other"))


def test_without_a_token_it_says_how_to_get_one(tmp_path: Path) -> None:
    """Also where the file of the token is broken."""
    with pytest.raises(AgentRefused, match="agents enroll"):
        asked_for(tmp_path, Asked("http://127.0.0.1:9"))
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(AgentRefused, match=r"agent\.json cannot be read"):
        read(tmp_path)


def test_the_nonce_outlives_an_answer_that_was_lost(tmp_path: Path) -> None:
    """Ended while it waits for the server, it asks again with the same one."""
    asked = Asked("http://127.0.0.1:9", name="node7", enroll_token="once")
    assert asked_for(tmp_path, asked) is None
    first = read(tmp_path)
    assert first is not None
    assert first.token is None
    assert stat.S_IMODE((tmp_path / "agent.json").stat().st_mode) == 0o600
    assert asked_for(tmp_path, asked) is None
    assert read(tmp_path) == first
    assert "once" not in repr(asked)
    assert str(first.nonce) not in repr(first)


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0), ("1D", 86400)],
)
def test_times_have_units(text: str, seconds: float) -> None:
    """As people write them."""
    assert duration(None, None, text) == seconds


@pytest.mark.parametrize("text", ["", "5 apples", "-1m", "m"])
def test_wrong_times_are_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(click.BadParameter, match="such as"):
        duration(None, None, text)


def test_labels_are_a_list_with_commas() -> None:
    """Spaces and empty ones are nothing."""
    assert words(None, None, " gpu, site:north ,,") == ("gpu", "site:north")
    assert words(None, None, None) == ()


def test_the_first_signal_asks_and_the_second_leaves() -> None:
    """And the handlers are as they were afterwards."""
    heard: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with ended_by_signals(
        lambda number: heard.append(f"first {number}"),
        lambda number: heard.append(f"second {number}"),
    ):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            count = len(heard)
            os.kill(os.getpid(), number)
            wait_until(lambda count=count: len(heard) > count)  # type: ignore[misc]
    assert heard == ["first 15", "second 2", "second 15"]
    assert signal.getsignal(signal.SIGTERM) == before
