"""A server process: how it starts, how it ends, and what is there afterwards."""

from __future__ import annotations

import json
import shlex
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.wire import rest
from physicsrunner.wire.frames import encode_frame
from tests.support.processes import Processes, ServerProcess, Started
from tests.support.wait import wait_until

BIG = 8_000_000


def call(server: ServerProcess, method: str, path: str, **kwargs: Any) -> requests.Response:
    """Make one request as the administrator."""
    headers = {"Authorization": f"Bearer {server.token}"}
    return requests.request(method, server.url + path, headers=headers, timeout=30, **kwargs)


def claimed(server: ServerProcess) -> str:
    """Create a run that this test carries out."""
    body = {"name": "mine", "claim": {"agent": "here"}}
    return str(call(server, "POST", rest.SIMULATIONS, json=body).json()["run"]["id"])


def append(run: str, path: str, length: int) -> bytes:
    """Return the beginning of a frame: its manifest."""
    op = {"run": run, "attempt": 1, "path": path, "op": "append", "offset": 0, "length": length}
    return encode_frame({"v": 1, "ops": [op]})


def half_sent(server: ServerProcess, run: str, path: str) -> socket.socket:
    """Begin a frame of `BIG` bytes and send half of it."""
    head = append(run, path, BIG)
    line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    line.sendall(
        f"POST {rest.SYNC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Length: {len(head) + BIG}\r\n\r\n".encode()
        + head
    )
    line.sendall(b"h" * (BIG // 2))
    return line


def stored(server: ServerProcess, run: str, path: str) -> int:
    """Return how many bytes of a file lie at the server."""
    file = server.attempt_folder(run) / path
    return file.stat().st_size if file.exists() else 0


def test_what_the_first_start_makes_is_private_and_it_says_where(server: ServerProcess) -> None:
    """The signing key and the admin's token have mode 0600 and stand in the greeting."""
    said = server.started.output()
    for name in ("secret.key", "admin.token"):
        path = server.data / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(path) in said
    assert server.token not in said
    assert "physicsrunner login" in said
    assert call(server, "GET", rest.WHOAMI).json()["role"] == "admin"


def test_commands_that_are_printed_can_be_copied(processes: Processes, tmp_path: Path) -> None:
    """Also where the data folder or the name of an agent has spaces: they go through a shell."""
    server = processes.server(tmp_path / "my data")
    line = next(line for line in server.started.output().splitlines() if "log in" in line)
    assert shlex.split(line)[-1] == str(server.data / "admin.token")
    told = processes.cli("agents", "enroll", "node a", server=server).stderr
    assert shlex.split(told)[-4:-1] == ["--name", "node a", "--enroll-token"]


def test_a_restart_keeps_the_tokens_and_the_runs(server: ServerProcess) -> None:
    """SIGTERM ends it with 0; the next one knows the same token and the same run."""
    token, run = server.token, claimed(server)
    server.stop()
    assert server.started.returncode == 0, server.started.story()
    server.restart()
    assert server.token == token
    assert call(server, "GET", rest.simulation(run)).json()["name"] == "mine"


def test_nobody_who_waits_holds_up_the_end(server: ServerProcess) -> None:
    """Followers, viewers and a half-sent body: SIGTERM ends the server within seconds all the same.

    What had come of the body is there afterwards.
    """
    run = claimed(server)
    line = half_sent(server, run, "outputs/half")
    wait_until(lambda: stored(server, run, "outputs/half") > 0)
    follower = threading.Thread(
        target=lambda: call(server, "GET", f"{rest.simulation(run)}/logs?follow=true").content
    )
    follower.start()
    polling = requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=30).text
    assert json.loads(polling[1:])["sid"]
    server.kill(15)
    assert server.started.wait(timeout=10) == 0, server.started.story()
    follower.join(10)
    assert not follower.is_alive()
    line.close()
    server.restart()
    (file,) = call(server, "GET", f"{rest.attempt(run, 1)}/files").json()["data"]
    assert 0 < file["size"] <= BIG // 2
    assert file["sealed"] is False


def test_a_client_that_is_cut_leaves_what_it_sent(server: ServerProcess) -> None:
    """When the line breaks in mid-body, all bytes that arrived stay, and the sender can go on."""
    run = claimed(server)
    line = half_sent(server, run, "outputs/cut")
    line.shutdown(socket.SHUT_WR)
    line.close()
    half = BIG // 2
    wait_until(lambda: stored(server, run, "outputs/cut") == half)
    op = {"run": run, "attempt": 1, "path": "outputs/cut", "op": "append"}
    manifest = encode_frame({"v": 1, "ops": [{**op, "offset": half, "length": half}]})
    answer = call(server, "POST", rest.SYNC, data=manifest + b"r" * half)
    assert answer.json()["results"][0]["offset"] == BIG


def test_kill_9_keeps_what_was_answered(server: ServerProcess) -> None:
    """Every answered byte, seal and run is there after kill -9, whatever was under way."""
    run = claimed(server)
    data = b"x" * 100_000
    answer = call(server, "POST", rest.SYNC, data=append(run, "logs/a", len(data)) + data)
    assert answer.json()["results"][0]["offset"] == len(data)
    line = half_sent(server, run, "outputs/b")
    wait_until(lambda: stored(server, run, "outputs/b") > 0)
    server.kill()
    line.close()
    server.restart()
    files = call(server, "GET", f"{rest.attempt(run, 1)}/files").json()["data"]
    sizes = {file["path"]: file["size"] for file in files}
    assert sizes["logs/a"] == len(data)
    assert sizes["outputs/b"] == stored(server, run, "outputs/b") > 0


def ended(started: Started) -> str:
    """Wait for a process that must refuse; return what it said."""
    assert started.wait() == 2, started.story()
    return started.output()


def test_a_port_that_is_taken_is_said_politely(processes: Processes, tmp_path: Path) -> None:
    """The second server on a port ends with 2, names the port, and touches no data."""
    first = processes.server()
    port = str(first.port)
    data = tmp_path / "other"
    said = ended(processes.python("server", "--data", str(data), "--port", port))
    assert port in said
    assert "taken" in said
    assert "Traceback" not in said
    assert not (data / "physicsrunner.db").exists()


def test_one_server_for_a_data_folder(processes: Processes) -> None:
    """The second server on a data folder ends with 2 and names the first one's pid."""
    first = processes.server()
    said = ended(processes.python("server", "--data", str(first.data), "--port", "0"))
    assert str(first.pid) in said
    assert "Traceback" not in said
    assert call(first, "GET", "/health").json()["status"] == "ok"


@pytest.mark.parametrize("host", ["256.1.2.3", "no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_cannot_be_listened_on(processes: Processes, host: str) -> None:
    """A wrong address is the user's error, in a sentence."""
    data = str(processes.folder / "data")
    said = ended(processes.python("server", "--data", data, "--host", host, "--port", "0"))
    assert host in said
    assert "Traceback" not in said


def test_a_data_folder_that_cannot_be_one(processes: Processes, tmp_path: Path) -> None:
    """A file in the place of the data folder is said, and left alone."""
    file = tmp_path / "file"
    file.write_text("mine")
    said = ended(processes.python("server", "--data", str(file / "x"), "--port", "0"))
    assert str(file) in said
    assert "Traceback" not in said
    assert file.read_text() == "mine"
