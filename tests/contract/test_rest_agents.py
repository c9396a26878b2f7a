"""Agents over REST: they join by a one-time token, say they are there, are drained, removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from physicsrunner.wire import rest
from tests.contract.rest_server import RestServer, rest_server

BEAT = {
    "slots": 4,
    "resources": {"cpu_cores": 8, "memory_gb": 16},
    "free": {"cpu_cores": 8, "memory_gb": 16},
    "labels": ["lab"],
    "host": {"hostname": "h"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """One server for the module; each test has agents of its own."""
    with rest_server(tmp_path_factory.mktemp("data")) as running:
        yield running


def joined(server: RestServer) -> tuple[str, str]:
    """Have a new agent join; return its name and its token."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    once = server.value("POST", rest.ENROLL_TOKENS, json={"name": name}, status=201)["token"]
    answer = server.value("POST", rest.ENROLL, json={"name": name, "nonce": "n" * 16}, token=once)
    assert answer["name"] == name
    return name, answer["token"]


def beat(server: RestServer, name: str, token: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.value(
        "PUT", rest.agent(name), json={**BEAT, **more}, token=token
    )
    return found


def leased(server: RestServer, name: str, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.value(
        "POST", rest.LEASES, json={"agent": name, "free": BEAT["free"], "max": 4}, token=token
    )
    return found


def test_an_agent_joins_once_by_its_token(server: RestServer) -> None:
    """The same nonce may ask again after a lost answer; another one is refused."""
    name = "joining"
    once = server.value("POST", rest.ENROLL_TOKENS, json={}, status=201)
    assert once["expires"] > 0
    body = {"name": name, "nonce": "a" * 16}
    first = server.value("POST", rest.ENROLL, json=body, token=once["token"])
    again = server.value("POST", rest.ENROLL, json=body, token=once["token"])
    for answer in (first, again):
        who = server.value("GET", rest.WHOAMI, token=answer["token"])
        assert (who["kind"], who["subject"]) == ("agent", name)
    stolen = server.call("POST", rest.ENROLL, json={**body, "nonce": "b" * 16}, token=once["token"])
    assert stolen.status_code in (401, 403, 409)


def test_a_token_for_one_name_is_good_for_no_other(server: RestServer) -> None:
    """And a user's or an agent's token enrolls nobody."""
    once = server.value("POST", rest.ENROLL_TOKENS, json={"name": "alpha"})["token"]
    body = {"name": "beta", "nonce": "c" * 16}
    assert server.call("POST", rest.ENROLL, json=body, token=once).status_code in (403, 422)
    _, agent = joined(server)
    for token in (agent, server.admin):
        assert server.call("POST", rest.ENROLL, json=body, token=token).status_code == 403
    assert server.call("GET", rest.AGENTS, token=once).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (rest.TOKENS, {"name": "sweep", "expires_in": 3600}),
        (rest.TOKENS, {"name": "sweep", "scope": ["runs:read"]}),
        (rest.TOKENS, {"name": "sweep", "project": "thermal"}),
        (rest.ENROLL_TOKENS, {"agent": "node"}),
    ],
)
def test_a_limit_of_a_token_with_a_wrong_name_is_refused(
    server: RestServer, path: str, body: dict[str, Any]
) -> None:
    """Who meant to confine a token is not given one without that limit."""
    before = server.value("GET", rest.TOKENS)
    problem = server.value("POST", path, json=body, status=422)
    assert "is none of them" in problem["detail"]
    assert [row["id"] for row in server.value("GET", rest.TOKENS)["data"]] == [
        row["id"] for row in before["data"]
    ]


def test_a_heartbeat_keeps_leases_and_brings_commands(server: RestServer) -> None:
    """All leases of the agent in one call; it is shown with what it has."""
    name, token = joined(server)
    model = server.model()["id"]
    server.value("POST", rest.BATCH, json={"runs": [{"model_id": model}] * 2})
    beat(server, name, token)
    leases = leased(server, name, token)
    assert len(leases) == 2
    held = [{"run": lease["run"], "attempt": 1} for lease in leases]
    server.value("POST", f"{rest.simulation(leases[0]['run'])}/cancel")
    answer = beat(server, name, token, leases=[*held, {"run": str(uuid.uuid4()), "attempt": 1}])
    assert answer["state"] == "active"
    assert answer["renew_s"] > 0
    commands = [item["commands"] for item in answer["leases"]]
    assert commands[:2] == [["cancel"], []]
    assert answer["leases"][2]["error"] == "not_found"
    shown = server.value("GET", rest.agent(name))
    assert (shown["state"], shown["slots"], shown["active"]) == ("active", 4, 2)
    assert shown["resources"]["cpu_cores"] == 8
    assert name in {agent["name"] for agent in server.value("GET", rest.AGENTS)["data"]}
    assert server.call("DELETE", rest.agent(name)).status_code == 409
    removed = server.call("DELETE", rest.agent(name), params={"force": "true"})
    assert removed.status_code == 200


def test_a_drained_agent_gets_nothing_until_it_is_resumed(server: RestServer) -> None:
    """Its heartbeat says so; draining and resuming twice is as once."""
    name, token = joined(server)
    beat(server, name, token)
    for _ in range(2):
        assert server.value("POST", f"{rest.agent(name)}/drain")["state"] == "draining"
    server.value("POST", rest.BATCH, json={"runs": [{"model_id": server.model()["id"]}]})
    assert leased(server, name, token) == []
    assert beat(server, name, token)["state"] == "draining"
    for _ in range(2):
        assert server.value("POST", f"{rest.agent(name)}/resume")["state"] == "active"
    assert len(leased(server, name, token)) == 1


def test_a_removed_agent_is_out(server: RestServer) -> None:
    """Its token is refused, it is not listed, and it may join again by a new token."""
    name, token = joined(server)
    beat(server, name, token)
    server.value("DELETE", rest.agent(name))
    assert server.call("PUT", rest.agent(name), json=BEAT, token=token).status_code == 401
    assert name not in {agent["name"] for agent in server.value("GET", rest.AGENTS)["data"]}
    assert server.call("GET", rest.agent(name)).status_code == 404
    once = server.value("POST", rest.ENROLL_TOKENS, json={"name": name})["token"]
    body = {"name": name, "nonce": "d" * 16}
    token = server.value("POST", rest.ENROLL, json=body, token=once)["token"]
    assert beat(server, name, token)["state"] == "active"


def test_agents_touch_themselves_alone(server: RestServer) -> None:
    """Another's heartbeat, list and lease are refused, and people below operator see none."""
    name, token = joined(server)
    other, _ = joined(server)
    assert server.call("PUT", rest.agent(other), json=BEAT, token=token).status_code == 403
    lease = {"agent": other, "max": 1}
    assert server.call("POST", rest.LEASES, json=lease, token=token).status_code == 403
    shown = server.value("GET", rest.AGENTS, token=token)["data"]
    assert {agent["name"] for agent in shown} <= {name}
    for what in ("drain", "resume"):
        assert server.call("POST", f"{rest.agent(name)}/{what}", token=token).status_code == 403
    assert server.call("DELETE", rest.agent(name), token=token).status_code == 403
    user = server.services.access.user_token("u-agents", "user")
    assert server.call("GET", rest.AGENTS, token=user).status_code == 403
    assert server.call("POST", rest.ENROLL_TOKENS, json={}, token=user).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", rest.agent("nobody"), None, 404),
        ("POST", f"{rest.agent('nobody')}/drain", None, 404),
        ("POST", f"{rest.agent('nobody')}/resume", None, 404),
        ("DELETE", rest.agent("nobody"), None, 404),
        ("PUT", rest.agent("a"), {"leases": 3}, 422),
        ("PUT", rest.agent("a"), {"leases": [{"run": "x"}]}, 422),
        ("POST", rest.ENROLL_TOKENS, {"lifetime_s": "long"}, 422),
        ("POST", rest.ENROLL_TOKENS, {"lifetime_s": -1}, 422),
        ("POST", rest.ENROLL_TOKENS, {"name": ""}, 422),
    ],
)
def test_bad_requests_are_said_as_such(
    server: RestServer, method: str, path: str, body: Any, status: int
) -> None:
    """What is not there is 404, what is wrong 422."""
    assert server.call(method, path, json=body).status_code == status
