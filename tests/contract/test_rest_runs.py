"""What people ask of runs over REST: pause, retry, pin, delete; lists, documents, batches."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.store.base import Change
from physicsrunner.wire import rest
from tests.contract.rest_server import RestServer, rest_server

ACTIONS = ("cancel", "pause", "resume", "retry", "pin", "unpin")
STAND = {
    "id",
    "number",
    "status",
    "cancel_requested",
    "pause_requested",
    "held",
    "pinned",
    "unreachable",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """One server for the module; each test makes runs of its own."""
    with rest_server(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def model(server: RestServer) -> str:
    """The id of a model on it."""
    return str(server.model()["id"])


def person(server: RestServer, role: str) -> str:
    """Return a fresh person's token."""
    return server.services.access.user_token(f"{role}-{uuid.uuid4().hex[:8]}", role)


def queued(server: RestServer, model: str, **more: Any) -> dict[str, Any]:
    """Queue a run and return its document."""
    found: dict[str, Any] = server.value(
        "POST", rest.SIMULATIONS, json={"model_id": model, **more}, status=201
    )
    return found


def ask(server: RestServer, run: str | int, what: str, **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.value("POST", f"{rest.simulation(str(run))}/{what}", **kwargs)
    return found


def code_of(server: RestServer, method: str, path: str, status: int, **kwargs: Any) -> str:
    """Make a request that must be refused; return the problem's code."""
    return str(server.value(method, path, status=status, **kwargs)["code"])


def test_a_waiting_run_is_held_and_let_go(server: RestServer, model: str) -> None:
    """Pause holds it, resume lets it go; each twice is the same as once."""
    run = queued(server, model)["id"]
    for _ in range(2):
        answer = ask(server, run, "pause")
        assert set(answer) == STAND
        assert (answer["status"], answer["held"]) == ("queued", True)
    assert "held" in server.value("GET", rest.simulation(run))["reason"]
    for _ in range(2):
        assert ask(server, run, "resume")["held"] is False


def test_a_running_program_is_asked_to_pause(server: RestServer) -> None:
    """It is a request until the runner reports it, which hears of it as a command."""
    run, lease = server.claim()
    server.report(run, state="running", token=lease["token"])
    answer = ask(server, run, "pause")
    assert (answer["status"], answer["pause_requested"]) == ("running", True)
    commands = server.report(run, progress=1.0, token=lease["token"])["commands"]
    assert commands == ["pause"]
    assert server.report(run, state="paused", token=lease["token"])["state"] == "paused"
    answer = ask(server, run, "resume")
    assert (answer["status"], answer["pause_requested"]) == ("paused", False)
    assert server.report(run, state="running", token=lease["token"])["state"] == "running"


def test_an_ended_run_is_not_paused(server: RestServer, model: str) -> None:
    """What has ended cannot be held: 409 says so, and nothing changes."""
    run = queued(server, model)["id"]
    assert ask(server, run, "cancel")["status"] == "cancelled"
    for what in ("pause", "resume"):
        assert server.call("POST", f"{rest.simulation(run)}/{what}").status_code == 409
    assert server.value("GET", rest.simulation(run))["status"] == "cancelled"


def test_retry_makes_a_new_run_of_the_same(server: RestServer, model: str) -> None:
    """It has the parameters, the configuration and the tags, and says what it repeats."""
    first = queued(
        server,
        model,
        name="sweep",
        tags=["a"],
        parameters={"inputs": {"re": 400}},
        configuration={"timeout_minutes": 5, "priority": "high"},
    )
    path = f"{rest.simulation(first['id'])}/retry"
    assert server.call("POST", path).status_code == 409
    ask(server, first["id"], "cancel")
    again = server.value("POST", path, status=201)
    assert again["id"] != first["id"]
    assert (again["status"], again["retry_of"], again["name"]) == ("queued", first["id"], "sweep")
    for name in ("parameters", "configuration", "tags", "priority", "time_limit_s"):
        assert again[name] == first[name], name


def test_a_repeated_retry_makes_one_run(server: RestServer, model: str) -> None:
    """The id in the body is the new run's: asked for twice it is one."""
    run = queued(server, model)["id"]
    ask(server, run, "cancel")
    body = {"id": str(uuid.uuid4())}
    made = [ask(server, run, "retry", json=body)["id"] for _ in range(2)]
    assert made == [body["id"]] * 2


def test_only_an_ended_run_that_is_not_pinned_is_deleted(server: RestServer, model: str) -> None:
    """409 says why; afterwards the run is not there, and neither are its files."""
    document = queued(server, model)
    run, path = document["id"], rest.simulation(document["id"])
    assert code_of(server, "DELETE", path, 409) == "not_terminal"
    ask(server, run, "cancel")
    assert ask(server, run, "pin")["pinned"] is True
    assert code_of(server, "DELETE", path, 409) == "pinned"
    assert ask(server, run, "unpin")["pinned"] is False
    assert server.value("DELETE", rest.simulation(str(document["number"]))) == {
        "id": run,
        "deleted": True,
    }
    assert code_of(server, "GET", path, 404) == "not_found"
    assert code_of(server, "DELETE", path, 404) == "not_found"
    assert not (server.services.data / "simulations" / run).exists()


def test_cancel_by_force_ends_what_cannot_be_reached(server: RestServer) -> None:
    """Without force it waits for its runner; with it the run has ended, and is fenced."""
    run, lease = server.claim()
    assert ask(server, run, "cancel")["status"] == "preparing"
    assert code_of(server, "POST", f"{rest.simulation(run)}/cancel", 422, json={"force": 7})
    store = server.services._store
    store.change([(run, lambda _: Change({"unreachable": True}))])  # as the clock would
    assert server.value("GET", rest.simulation(run))["unreachable"] is True
    assert ask(server, run, "cancel", json={"force": True})["status"] == "cancelled"
    late = server.report(run, state="running", token=lease["token"])
    assert late["error"] == "lease_lost"


def test_the_document_shows_all_that_was_asked(server: RestServer, model: str) -> None:
    """Every option that a request has is in the answer, under the names of the seed."""
    document = queued(
        server,
        model,
        pinned=True,
        description="why",
        resource_requirements={"cpu_cores": 3, "memory_gb": 2, "gpu_count": 1, "storage_gb": 5},
        configuration={
            "priority": 3,
            "timeout_minutes": 2,
            "queue_timeout_minutes": 30,
            "silence_minutes": 1,
            "stop_when_silent": True,
            "labels": ["gpu"],
            "on_lost_contact": "retry",
            "retry_policy": {
                "max_retries": 2,
                "retry_delay_seconds": 7,
                "exponential_backoff": True,
                "retry_on_failure_types": ["exit_code", "lost"],
            },
        },
    )
    shown = server.value("GET", rest.simulation(document["id"]))
    expected = {
        "pinned": True,
        "description": "why",
        "cpu_cores": 3,
        "memory_gb": 2,
        "gpu_count": 1,
        "storage_gb": 5,
        "priority": 3,
        "time_limit_s": 120,
        "queue_limit_s": 1800,
        "silence_limit_s": 60,
        "stop_when_silent": True,
        "labels": ["gpu"],
        "on_lost_contact": "retry",
        "retry_count": 0,
        "lost_count": 0,
        "held": False,
        "pause_requested": False,
        "silent": False,
    }
    assert {name: shown[name] for name in expected} == expected
    policy = shown["retry_policy"]
    assert (policy["max_retries"], policy["retry_delay_seconds"]) == (2, 7)
    assert shown["reason"].startswith("waiting: ")
    status = server.value("GET", f"{rest.simulation(document['id'])}/status")
    assert status["reason"] == shown["reason"]


def test_secrets_are_never_shown(server: RestServer, model: str) -> None:
    """Neither by the answer that takes them nor by any that shows the run, and not in the list."""
    word = f"swordfish-{uuid.uuid4().hex}"
    run = queued(
        server,
        model,
        configuration={"environment_variables": {"KEY": {"secret": word}, "PLAIN": "seen"}},
    )
    variables = run["configuration"]["environment_variables"]
    assert variables == {"KEY": "***", "PLAIN": "seen"}
    path = rest.simulation(run["id"])
    for where in (path, f"{path}/status", f"{path}/events", rest.SIMULATIONS, rest.QUEUE):
        assert word not in server.call("GET", where).text, where
    assert word not in (server.services.data / "physicsrunner.db").read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"configuration": {"priority": 4}},
        {"configuration": {"priority": "urgent"}},
        {"configuration": {"queue_timeout_minutes": 0}},
        {"configuration": {"silence_minutes": "long"}},
        {"configuration": {"retry_policy": {"max_retries": -1}}},
        {"configuration": {"retry_policy": {"retry_on_failure_types": ["bad luck"]}}},
        {"configuration": {"retry_policy": {"max_retires": 3}}},
        {"configuration": {"retry_policy": 3}},
        {"configuration": {"on_lost_contact": "panic"}},
        {"configuration": {"labels": "gpu"}},
        {"configuration": {"environment_variables": {"A": {"hidden": "x"}}}},
        {"resource_requirements": {"cpu_cores": -1}},
        {"study_id": "not there"},
        {"pinned": "yes"},
    ],
)
def test_a_wrong_option_is_refused(server: RestServer, model: str, wrong: dict[str, Any]) -> None:
    """422 (or 404 for what is not there) names it, and no run is made."""
    before = server.value("GET", rest.SIMULATIONS)["total"]
    answer = server.call("POST", rest.SIMULATIONS, json={"model_id": model, **wrong})
    assert answer.status_code in (404, 422), answer.text
    assert server.value("GET", rest.SIMULATIONS)["total"] == before


def test_what_a_door_alone_may_say_is_not_taken(server: RestServer, model: str) -> None:
    """A client cannot pretend that its run came by another door or repeats another."""
    run = queued(server, model, door="ath", retry_of=str(uuid.uuid4()))
    assert "door" not in run
    assert "retry_of" not in run


def test_lists_are_filtered_by_all_that_runs_have(server: RestServer, model: str) -> None:
    """Study, model, creator, tag, name and states; the total counts what fits."""
    mine = person(server, "user")
    study = server.value("POST", rest.STUDIES, json={"name": "s"}, token=mine)["id"]
    made = server.value(
        "POST",
        rest.BATCH,
        json={
            "runs": [
                {
                    "model_id": model,
                    "name": f"case {i}",
                    "tags": ["odd"] * (i % 2),
                    "study_id": study,
                }
                for i in range(4)
            ]
        },
        token=mine,
    )
    assert made["count"] == 4
    who = server.value("GET", rest.WHOAMI, token=mine)["subject"]

    def total(**params: Any) -> int:
        page = server.value("GET", rest.SIMULATIONS, params=params)
        assert page["total_is_exact"] is True
        assert len(page["data"]) == page["total"]
        return int(page["total"])

    assert total(study_id=study) == 4
    assert total(created_by=who) == 4
    assert total(created_by=who, tag="odd") == 2
    assert total(created_by=who, name="case 3") == 1
    assert total(created_by=who, status="queued,running") == 4
    assert total(created_by=who, status=["failed", "running"]) == 0
    assert total(study_id=str(uuid.uuid4())) == 0
    assert total(model_id=model, study_id=study, created_by=who) == 4
    page = server.value("GET", rest.SIMULATIONS, params={"study_id": study, "limit": 3})
    assert (len(page["data"]), page["total"]) == (3, 4)
    assert "configuration" not in page["data"][0]


def test_the_attempts_of_a_run_are_listed(server: RestServer) -> None:
    """Who had it, since when, and how it ended."""
    run, lease = server.claim()
    server.report(run, state="running", token=lease["token"])
    failure = {"code": "program_failed", "message": "main.py ended with exit code 3"}
    server.report(run, state="failed", exit_code=3, error=failure, token=lease["token"])
    (attempt,) = server.value("GET", f"{rest.simulation(run)}/attempts")["data"]
    assert (attempt["attempt"], attempt["agent"], attempt["state"]) == (1, "here", "failed")
    assert (attempt["exit_code"], attempt["error_message"]) == (3, failure["message"])
    assert attempt["leased_at"] <= attempt["ended_at"]
    assert code_of(server, "GET", f"{rest.simulation('4711')}/attempts", 404) == "not_found"


def test_who_may_not_change_a_run_is_refused(server: RestServer, model: str) -> None:
    """A viewer reads and changes nothing; another user may not change it; an operator may."""
    run = queued(server, model)["id"]
    viewer, user, operator = (person(server, role) for role in ("viewer", "user", "operator"))
    for token in (viewer, user):
        assert server.call("GET", rest.simulation(run), token=token).status_code == 200
        for what in ACTIONS:
            path = f"{rest.simulation(run)}/{what}"
            assert code_of(server, "POST", path, 403, token=token) == "not_allowed", what
        assert code_of(server, "DELETE", rest.simulation(run), 403, token=token) == "not_allowed"
    assert ask(server, run, "pause", token=operator)["held"] is True
    assert server.call("POST", rest.BATCH, json={"runs": []}, token=viewer).status_code == 403


@pytest.mark.parametrize("what", ACTIONS)
def test_a_run_that_is_not_there_is_not_found(server: RestServer, what: str) -> None:
    """By number and by id."""
    for run in ("99999", str(uuid.uuid4())):
        assert code_of(server, "POST", f"{rest.simulation(run)}/{what}", 404) == "not_found"


def test_the_queue_says_what_waits_and_why(tmp_path: Path) -> None:
    """Counts by state, the next runs with their reasons; a viewer may look."""
    with rest_server(tmp_path) as server:
        model = str(server.model()["id"])
        queued(server, model, configuration={"priority": "low"}, name="later")
        queued(server, model, configuration={"priority": "critical"}, name="first")
        status = server.value("GET", rest.QUEUE, token=person(server, "viewer"))
        assert (status["counts"]["queued"], status["waiting"]) == (2, 2)
        assert [one["name"] for one in status["next"]] == ["first", "later"]
        assert status["next"][0]["reason"] == "waiting: no agent is connected"
        assert status["max_concurrent_runs"] is None


@pytest.mark.parametrize("name", ["cpu_cores", "memory_gb", "storage_gb"])
@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_an_amount_without_end_is_refused_by_its_name(
    server: RestServer, model: str, name: str, amount: str
) -> None:
    """Of a run, and of what an agent offers: it would fit nowhere, or everywhere."""
    room = f'{{"{name}": {amount}}}'
    bodies = {
        rest.SIMULATIONS: f'{{"resource_requirements": {room}, "model_id": "{model}"}}',
        rest.LEASES: f'{{"agent": "a", "free": {room}, "max": 1}}',
    }
    for path, body in bodies.items():
        problem = server.value("POST", path, data=body, status=422)
        assert f"{name} " in problem["detail"], problem
        assert "a number that ends" in problem["detail"]
