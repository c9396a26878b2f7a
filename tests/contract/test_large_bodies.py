"""Large messages are read beside the event loop, and small ones on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import rest
from physicsrunner.wire.reading import LARGE
from tests.contract.architech_house import API
from tests.contract.rest_server import RestServer, rest_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server with all doors that speak HTTP."""
    options = ServerOptions(doors=("physicsworks", "ath", "architech"))
    with rest_server(tmp_path / "data", options=options) as running:
        yield running


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that have read a body with the word polite in it."""
    found: list[str] = []
    loads = json.loads

    def noted(text: Any, **options: Any) -> Any:
        if isinstance(text, bytes) and b"polite" in text:
            found.append(threading.current_thread().name)
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", noted)
    return found


def test_only_a_large_message_costs_a_thread(server: RestServer, readers: list[str]) -> None:
    """For a small one the thread would cost more than the reading."""
    run, _ = server.claim()
    calls: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("POST", f"{rest.simulation(run)}/cancel", {}),
        ("PATCH", f"/ath/api/jobs/{run}", {"label": "a"}),
        ("POST", f"{API}/messages", {"message": "a"}),
        ("PUT", f"/physicsworks/api/simulation/run/patch/{run}", {}),
        ("POST", rest.USERS, {"name": "ada"}),
    )
    for method, path, body in calls:
        readers.clear()
        for size in (10, 10, LARGE):
            more = {"polite": [1, 2.5, "x" * size]}
            answer = server.call(
                method, path, json={**body, **more}, headers={"auth-token": server.admin}
            )
            assert answer.status_code < 500, answer.text
        first, second, large = readers
        assert first == second != large, path


def test_a_large_message_is_what_was_sent(server: RestServer) -> None:
    """Numbers and words come through as those of a small one do; what is no JSON is refused."""
    values = [1, -7, 2.5, -3e9, 0.1, 10**30, True, None, "x"] * 20_000
    body = {"name": "numbers", "claim": {"agent": "here"}, "parameters": {"a": values}}
    made = server.value("POST", rest.SIMULATIONS, json=body)
    found = server.value("GET", rest.simulation(made["run"]["id"]))
    assert found["parameters"]["a"] == values
    wrong = server.call("POST", rest.SIMULATIONS, data=b'["a"' + b" " * 70_000)
    assert wrong.status_code == 422
    assert "not JSON" in wrong.json()["detail"]
