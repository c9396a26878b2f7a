"""Accounts as a person meets them: the commands, a login over HTTP, a lock-out that survives."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests

from physicsrunner.wire import rest
from tests.support.processes import CliResult, Processes, ServerProcess, login

PASSWORD = "correct horse battery"


def typed(processes: Processes, text: str, *arguments: str, **environment: str) -> CliResult:
    """Carry out a command that reads a password from standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "physicsrunner", *arguments],
        input=text.encode(),
        capture_output=True,
        env=processes.environment(environment),
        cwd=processes.folder,
        timeout=120,
        check=False,
    )
    return CliResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_from_admin_token_to_somebody_elses_login(
    processes: Processes, server: ServerProcess
) -> None:
    """The first admin makes a person and a project; that person logs in, works, and logs out."""
    made = typed(processes, f"{PASSWORD}\n", "users", "add", "ada", **login(server))
    assert made.returncode == 0, made.stderr
    processes.cli("projects", "add", "thermal", "--max-concurrent-runs", "4", server=server)
    processes.cli("projects", "join", "thermal", "ada", "--role", "admin", server=server)
    entered = typed(processes, f"{PASSWORD}\n", "login", server.url, "--user", "ada")
    assert entered.returncode == 0, entered.stderr
    assert "as ada" in entered.stdout
    assert PASSWORD not in entered.stdout + entered.stderr + made.stdout + made.stderr
    projects = processes.cli("projects", "--json").json["data"]
    assert [(item["id"], item["role"]) for item in projects] == [("thermal", "admin")]
    token = processes.cli("tokens", "make", "sweep", "--project", "thermal").stdout.strip()
    listed = processes.cli("tokens", "--json").json["data"]
    assert {item["name"] for item in listed} == {"sweep", "login"}
    assert token not in str(listed)
    revoked = next(item["id"] for item in listed if item["name"] == "sweep")
    processes.cli("tokens", "revoke", revoked)
    who = requests.get(
        server.url + rest.WHOAMI, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert who.status_code == 401
    refused = processes.cli("users", "add", "eve", "--no-password", check=False)
    assert refused.returncode == 5
    assert processes.cli("logout").returncode == 0
    assert processes.cli("projects", check=False).returncode == 5
    audit = processes.cli("audit", "--actor", "ada", "--type", "token/*", server=server)
    assert "token/revoked" in audit.stdout
    assert "127.0.0.1" in audit.stdout


def test_a_lock_out_survives_a_restart(processes: Processes, server: ServerProcess) -> None:
    """Five wrong passwords are 401 and then 429 with Retry-After, also after kill -9."""
    typed(processes, f"{PASSWORD}\n", "users", "add", "ada", **login(server))
    url = server.url + rest.LOGIN
    for _ in range(5):
        answer = requests.post(url, json={"user": "ada", "password": "wrong"}, timeout=30)
    assert answer.status_code == 429
    server.kill()
    server.restart()
    answer = requests.post(url, json={"user": "ada", "password": PASSWORD}, timeout=30)
    assert answer.status_code == 429
    assert 800 < int(answer.headers["Retry-After"]) <= 900
    processes.cli("users", "unlock", "ada", server=server)
    answer = requests.post(url, json={"user": "ada", "password": PASSWORD}, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert PASSWORD not in server.started.output()
    for _ in range(30):
        answer = requests.post(url, json={"user": "nobody", "password": "x"}, timeout=30)
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_tries"


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"user": 7}', '{"user": "ada"}', "\x00", "{"])
def test_a_login_that_is_none(shared_server: ServerProcess, body: str) -> None:
    """A body that is no login is refused in words, and without the words of it."""
    answer = requests.post(shared_server.url + rest.LOGIN, data=body, timeout=30)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["what_to_do"]
