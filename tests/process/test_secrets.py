"""A run's secrets: with its runner, and nowhere else, on a real server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner import run_solver
from physicsrunner.wire import rest
from tests.process.test_rights import bundle
from tests.process.test_runner_online import Desk
from tests.support.processes import Processes, ServerProcess

SECRETS = {"TOKEN": "s3cr3t-of-the-licence-server", "KEY": 'quote" and \\ and ümlaut-9f27c1'}
WORDS = [b"s3cr3t-of-the-licence-server", b"mlaut-9f27c1", b"s3cr3t-in-a-bad-request"]


class Caller:
    """Makes requests and keeps all that was answered."""

    def __init__(self, server: ServerProcess) -> None:
        self.url, self.token = server.url, server.token
        self.session = requests.Session()
        self.answers: list[bytes] = []

    def __call__(self, method: str, path: str, token: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        answer = self.session.request(method, self.url + path, headers=headers, timeout=60, **more)
        if path != rest.LEASES:  # the one place where they belong
            self.answers.append(answer.content)
        try:
            return answer.json()
        except ValueError:
            return answer.content


@pytest.fixture
def call(server: ServerProcess) -> Iterator[Caller]:
    """A caller with the admin's token."""
    made = Caller(server)
    yield made
    made.session.close()


def found_in(folder: Path) -> list[str]:
    """Return the files of *folder* in which a secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [str(path) for path in files if any(word in path.read_bytes() for word in WORDS)]


def test_a_secret_is_with_its_runner_and_nowhere_else(
    call: Caller, server: ServerProcess, processes: Processes
) -> None:
    """No file of the data folder, no answer and no line of the log holds a secret's value."""
    model = call("POST", f"{rest.MODELS}?name=m", data=bundle("x"))["id"]
    variables = {"TOKEN": {"secret": SECRETS["TOKEN"]}, "KEY": SECRETS["KEY"], "PLAIN": "shown"}
    configuration = {"environment_variables": variables, "secret_variables": ["KEY"]}
    wanted = {"model_id": model, "configuration": configuration}
    run = call("POST", rest.SIMULATIONS, json=wanted)["id"]
    call("POST", rest.BATCH, json={"runs": [wanted, wanted]})
    claimed = call("POST", rest.SIMULATIONS, json={**wanted, "name": "no claim", "id": run})
    assert claimed["id"] == run
    shown = call("GET", rest.simulation(run))["configuration"]
    assert shown["environment_variables"] == {"TOKEN": "***", "KEY": "***", "PLAIN": "shown"}
    assert shown["secret_variables"] == ["KEY", "TOKEN"]
    for path in ("status", "progress", "events", "results", "attempts"):
        call("GET", f"{rest.simulation(run)}/{path}")
    grants = call("POST", rest.LEASES, json={"agent": "node", "free": {"cpu_cores": 1}})
    assert [grant["run"] for grant in grants] == [run]
    assert grants[0]["environment"] == {**SECRETS, "PLAIN": "shown"}
    assert grants[0]["secrets"] == ["KEY", "TOKEN"]
    call("POST", f"{rest.simulation(run)}/cancel", json={"force": True})
    report = {"run": run, "attempt": 1, "state": "cancelled"}
    call("POST", rest.REPORTS, json={"reports": [report]}, token=grants[0]["token"])
    again = call("POST", f"{rest.simulation(run)}/retry", json={})
    assert again["configuration"]["environment_variables"]["TOKEN"] == "***"
    for path in (rest.SIMULATIONS, rest.EVENTS, rest.AUDIT, rest.QUEUE, f"{rest.AUDIT}?format=csv"):
        call("GET", path)
    _bad_requests(call, model)
    assert [item for item in call.answers if any(word in item for word in WORDS)] == []
    answers = b"".join(call.answers)
    assert json.dumps(SECRETS["KEY"])[1:-1].encode() not in answers
    assert found_in(server.data) == []
    server.stop()
    assert found_in(server.data) == []
    assert not any(word in server.started.output().encode() for word in WORDS)
    with sqlite3.connect(server.data / "physicsrunner.db") as database:
        kept = database.execute("SELECT secrets FROM run_bodies WHERE secrets IS NOT NULL")
        assert len(kept.fetchall()) == 4
    database.close()
    assert (server.data / "encryption.key").stat().st_mode & 0o777 == 0o600


def test_what_the_runner_tells_of_a_program_that_says_its_secret(
    tmp_path: Path, call: Caller, server: ServerProcess
) -> None:
    """Names and values of results and series, labels: the server hears no secret in them."""
    word = SECRETS["TOKEN"]
    main = """
import json, os
from physicsrunner import solver
word = os.environ["TOKEN"]
solver.progress(50, "going " + word, word)
solver.series("drag " + word, 1, 2.0, unit=word)
(outputs / "results.csv").write_text(f"in the table {word}\\n7\\n")
solver.result("plain", 1)
found = json.loads((outputs / "results.json").read_text())
found.update({"key": word, word: 3, "deep": {"a": [word, {word: word}]}})
found["unit"] = {"value": 1, "unit": word}
(outputs / "results.json").write_text(json.dumps(found))
"""
    desk = Desk(server)
    configuration = {"environment_variables": {"TOKEN": {"secret": word}}}
    config = desk.claim(tmp_path / "a", desk.model(main), configuration=configuration)
    result = run_solver(config)
    assert result.delivered
    told = {one.name: one.value for one in result.results}
    expected = {"key": "***", "***": 3, "deep": {"a": ["***", {"***": "***"}]}, "plain": 1}
    assert told == {**expected, "in the table ***": 7, "unit": 1}
    for path in ("", "/results", "/progress", "/series"):
        call("GET", f"{rest.simulation(result.run)}{path}")
    assert "drag ***" in str(call.answers[-1])
    assert [item for item in call.answers if word.encode() in item] == []
    assert word not in (tmp_path / "a/w/metadata/series.jsonl").read_text()
    server.stop()
    assert word.encode() not in (server.data / "physicsrunner.db").read_bytes()


def _bad_requests(call: Caller, model: str) -> None:
    """Requests that cannot be carried out, with a secret in them: the answer must not say it."""
    word = "s3cr3t-in-a-bad-request"
    for variables, names in (
        ({"A": {"secret": word, "more": 1}}, []),
        ({"A": {"secret": [word]}}, []),
        ({"A": {"secret": {"x": word}}}, []),
        ({"A": {"secret": word + "\0"}}, []),
        ({"A": {"secret": word + "\ud800"}}, []),
        ({"A=B": {"secret": word}}, []),
        ({"A": word + "\ud800"}, ["A"]),
        ({"A": word}, ["A", "B"]),
        ([word], ["A"]),
        (word, []),
    ):
        configuration = {"environment_variables": variables, "secret_variables": names}
        for path, body in (
            (rest.SIMULATIONS, {"model_id": model, "configuration": configuration}),
            (rest.SIMULATIONS, {"model_id": 7, "configuration": configuration}),
            (rest.BATCH, {"runs": [{"model_id": model, "configuration": configuration}]}),
        ):
            answer = call("POST", path, data=json.dumps(body).encode())
            assert answer["status"] == 422, (answer, variables)


def test_runs_whose_key_is_gone_say_so(call: Caller, server: ServerProcess) -> None:
    """With another encryption.key a run's secrets cannot be read: it is not run without them."""
    model = call("POST", f"{rest.MODELS}?name=m", data=bundle("x"))["id"]
    configuration = {"environment_variables": {"TOKEN": {"secret": SECRETS["TOKEN"]}}}
    wanted = {"model_id": model, "configuration": configuration}
    run = call("POST", rest.SIMULATIONS, json=wanted)["id"]
    server.stop()
    (server.data / "encryption.key").unlink()
    server.restart()
    grants = call("POST", rest.LEASES, json={"agent": "node", "free": {"cpu_cores": 1}})
    assert grants == [] or "TOKEN" not in str(grants)
    found = call("GET", rest.simulation(run))
    assert found["status"] == "failed"
    assert "encryption.key" in found["error_message"]
