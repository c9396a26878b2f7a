"""The server and the database that its operator chose: found, gone, and back."""

from __future__ import annotations

import requests

from physicsrunner.wire import rest
from tests.support.cases import make_case
from tests.support.postgres import PostgresServer
from tests.support.processes import Processes
from tests.support.wait import wait_until


def test_a_password_is_never_printed(processes: Processes, postgres: str) -> None:
    """Neither by a server that runs, nor by one whose database does not answer."""
    known = postgres.replace("postgres@/", "postgres:SECRET@/")
    server = processes.server(None, "--debug", PHYSICSRUNNER_DATABASE=known)
    assert "database     postgresql://" in server.started.output()
    away = processes.python(
        *("server", "--port", "0", "--debug", "--data", str(processes.folder / "other")),
        environment={"PHYSICSRUNNER_DATABASE": "postgresql://ada:SECRET@127.0.0.1:1/runs"},
    )
    assert away.wait() == 7, away.story()
    assert "the database does not answer" in away.output()
    for output in (server.started.output(), away.output()):
        assert "SECRET" not in output


def test_a_database_that_was_killed_is_used_again(
    processes: Processes, postgres: str, postgres_server: PostgresServer
) -> None:
    """While it is away requests are answered 503; then all that was told is there."""
    server = processes.server(None, PHYSICSRUNNER_DATABASE=postgres)
    case = make_case(processes.folder / "case")
    processes.cli("submit", str(case), server=server)
    postgres_server.kill()

    def listed() -> requests.Response:
        headers = {"Authorization": f"Bearer {server.token}"}
        return requests.get(server.url + rest.SIMULATIONS, headers=headers, timeout=60)

    assert listed().status_code == 503
    assert listed().json()["retryable"] is True
    postgres_server.start()
    wait_until(lambda: listed().ok, timeout=30.0, on_timeout=server.started.story)
    assert [run["status"] for run in listed().json()["data"]] == ["queued"]
    processes.cli("submit", str(case), server=server)
    assert len(listed().json()["data"]) == 2
