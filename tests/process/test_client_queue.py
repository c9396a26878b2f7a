"""The client's calls for the queue against a real server, over a line that loses answers too."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from physicsrunner import Client
from physicsrunner.client.options import RunOptions
from physicsrunner.errors import Conflict, InvalidRequest, NotFound, NotTerminal, Pinned
from physicsrunner.wire import batch, rest
from tests.support.cases import make_case
from tests.support.processes import ServerProcess
from tests.support.proxy import Fault, FaultProxy


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A case with a parameter."""
    return make_case(tmp_path / "case", name="rod", parameters={"re": 1})


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of a running server, with the administrator's token."""
    with Client(server.url, server.token) as found:
        yield found


def test_a_run_is_steered_from_submit_to_delete(client: Client, case: Path) -> None:
    """Held, let go, cancelled, repeated, pinned, deleted; what is refused says why by its class."""
    run = client.submit(case, options=RunOptions(priority="low", retries=1))
    assert (run["priority"], run["retry_policy"]["max_retries"]) == (0, 1)
    assert client.pause(run["id"])["held"] is True
    assert client.resume(run["number"])["held"] is False
    with pytest.raises(NotTerminal):
        client.delete(run["id"])
    with pytest.raises(Conflict):
        client.retry(run["id"])
    assert client.cancel(run["id"], force=True)["status"] == "cancelled"
    again = client.retry(run["id"])
    assert (again["retry_of"], again["status"]) == (run["id"], "queued")
    assert client.pin(run["id"])["pinned"] is True
    with pytest.raises(Pinned):
        client.delete(run["id"])
    client.unpin(run["id"])
    assert client.delete(run["id"])["deleted"] is True
    with pytest.raises(NotFound):
        client.get(run["id"])
    assert client.attempts(again["id"]) == []
    queue = client.queue()
    assert [one["number"] for one in queue["next"]] == [again["number"]]
    assert queue["next"][0]["reason"] == "waiting: no agent is connected"


def test_many_runs_and_their_study(client: Client, case: Path) -> None:
    """One study by its name, however often it is asked for; ids are in the order of the sets."""
    study = client.study("sweep", max_concurrent_runs=2)
    assert client.study("sweep")["id"] == client.study(study["id"])["id"] == study["id"]
    made = client.submit_many(
        case, [{"re": n} for n in range(5)], options=RunOptions(study=study["id"]), tags=["x"]
    )
    assert (made["count"], made["first"], made["last"]) == (5, 1, 5)
    assert client.get(made["ids"][3])["parameters"]["inputs"] == {"re": 3}
    page = client.list(study_id=study["id"], tag="x", status=["queued", "running"])
    assert (page["total"], page["total_is_exact"]) == (5, True)
    assert client.studies()[0]["counts"] == {"queued": 5}
    assert client.submit_many(case, []) == {"count": 0, "ids": []}


def test_more_runs_than_one_request_takes(
    client: Client, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go in several, and the answer is that of all."""
    monkeypatch.setattr("physicsrunner.client.client.MAX_RUNS", 4)
    assert batch.MAX_RUNS > 4
    made = client.submit_many(case, [{"re": n} for n in range(10)])
    assert (made["count"], made["first"], made["last"]) == (10, 1, 10)
    inputs = [client.get(run)["parameters"] for run in made["ids"]]
    assert [(one["inputs"]["re"], one["set_id"]) for one in inputs] == [
        (n, str(n + 1)) for n in range(10)
    ]


def test_lost_answers_make_nothing_twice(
    server: ServerProcess, case: Path, proxy_for: Callable[[int], FaultProxy]
) -> None:
    """A batch and a retry whose answers are cut off are asked for again, and are there once."""
    proxy = proxy_for(server.port)
    with Client(proxy.url, server.token) as client:
        first = client.submit(case)["id"]
        client.cancel(first)
        proxy.inject(Fault("lost_answer"), match="/retry")
        proxy.inject(Fault("lost_answer"), match="/batch")
        again = client.retry(first)
        assert again["retry_of"] == first
        client.submit_many(case, [{}, {}])
        assert proxy.pending() == 0
        assert client.list()["total"] == 4


def test_agents_are_enrolled_and_steered(client: Client, server: ServerProcess) -> None:
    """By a one-time token; drained, resumed, removed."""
    once = client.enroll_token("node", lifetime_s=60)["token"]
    body = {"name": "node", "nonce": uuid.uuid4().hex}
    with Client(server.url, once) as joining:
        assert joining.http.value("POST", rest.ENROLL, json=body)["name"] == "node"
    assert client.agent("node")["state"] == "active"
    assert client.drain_agent("node")["state"] == "draining"
    assert client.resume_agent("node")["state"] == "active"
    client.remove_agent("node")
    assert client.agents() == []
    with pytest.raises(NotFound):
        client.drain_agent("node")
    with pytest.raises(InvalidRequest):
        client.enroll_token(" ")
