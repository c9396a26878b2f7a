"""Bodies with more in them than can be read without holding up everybody are refused, unread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from physicsrunner.server.doors.ath import payload
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import rest
from physicsrunner.wire.batch import BATCH_MARKS
from physicsrunner.wire.frames import LENGTH
from physicsrunner.wire.physicsworks import FORM_TYPE
from physicsrunner.wire.reading import MOST_MARKS
from tests.contract.architech_house import API
from tests.contract.rest_server import RestServer, rest_server

_SOLVE = "/ath/api/solve"
_PATCH = "/physicsworks/api/simulation/run/patch/{run}"
_BATCH_OF_ONE = '{"runs": [{"name": "a", "parameters": {"a": %s}}]}'
#: For each kind of door: what is asked of it, and where a value may stand in that.
_DOORS: dict[str, tuple[str, str, str]] = {
    "native": ("POST", rest.SIMULATIONS, '{"name": "a", "more": %s}'),
    "claimed": ("POST", rest.SIMULATIONS, '{"claim": {"agent": "a"}, "parameters": {"a": %s}}'),
    "agents": ("POST", rest.REPORTS, '{"reports": [], "more": %s}'),
    "ath": ("POST", _SOLVE, '{"sim_type": "a", "more": %s}'),
    "architech": ("POST", f"{API}/messages", '{"message": "a", "more": %s}'),
    "physicsworks": ("PUT", _PATCH, '{"media": [], "more": %s}'),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server with all doors that speak HTTP."""
    options = ServerOptions(doors=("physicsworks", "ath", "architech"))
    with rest_server(tmp_path / "data", options=options) as running:
        yield running


def _send(server: RestServer, door: str, value: str) -> Any:
    method, path, body = _DOORS[door]
    headers = {"auth-token": server.admin}
    if "{run}" in path:
        path = path.replace("{run}", server.claim()[0])
    return server.call(method, path, data=body % value, headers=headers)


@pytest.mark.parametrize("door", sorted(_DOORS))
@pytest.mark.parametrize(
    ("once", "count"),
    [
        pytest.param("[],", 2, id="lists"),
        pytest.param("0.5,", 2, id="fractions"),
        pytest.param("[", 1, id="cut off"),
    ],
)
def test_dense_json_is_refused(server: RestServer, door: str, once: str, count: int) -> None:
    """What is too much says so, and what to do, at every door; it is not even read."""
    most = payload.MOST_MARKS if door == "ath" else MOST_MARKS
    value = once * (most // count + 1)
    answer = _send(server, door, f"[{value}0]")
    assert answer.status_code == 413, answer.text
    said = answer.json()
    assert said["code"] == "too_large"
    assert "send it in several parts" in said["detail"]
    assert server.call("GET", "/health").ok


@pytest.mark.parametrize("door", sorted(_DOORS))
@pytest.mark.parametrize("size", [0, 70_000], ids=["small", "large"])
def test_deep_json_is_refused(server: RestServer, door: str, size: int) -> None:
    """Lists in lists without end are the sender's fault, said in words."""
    deep = "[" * 5_000 + "]" * 5_000 + " " * size
    answer = _send(server, door, deep)
    assert answer.status_code == 422, answer.text
    assert "nested" in answer.text


def test_a_long_text_is_no_dense_body(server: RestServer) -> None:
    """Megabytes in one text, as of a file in base64, are taken."""
    text = "QUJD" * 2_000_000
    body = {"name": "a", "claim": {"agent": "here"}, "parameters": {"a": text}}
    made = server.value("POST", rest.SIMULATIONS, json=body)
    found = server.value("GET", rest.simulation(made["run"]["id"]))
    assert found["parameters"]["a"] == text


def test_a_batch_may_have_more_and_no_run_of_it(server: RestServer) -> None:
    """Many runs are much JSON; one of them has no more than if it came alone."""
    model = server.model()["id"]
    each = {"model_id": model, "parameters": {"a": [1] * 1_000}}
    many = {"runs": [{**each, "name": f"run {n}"} for n in range(MOST_MARKS // 900)]}
    assert server.value("POST", rest.BATCH, json=many)["count"] == MOST_MARKS // 900

    one = server.call("POST", rest.BATCH, data=_BATCH_OF_ONE % ([1] * (MOST_MARKS + 1)))
    assert (one.status_code, one.json()["code"]) == (413, "too_large")
    assert "a run of the batch" in one.json()["detail"]

    dense = server.call("POST", rest.BATCH, data=_BATCH_OF_ONE % ("[" + "0," * BATCH_MARKS + "0]"))
    assert (dense.status_code, dense.json()["code"]) == (413, "too_large")


def test_a_dense_form_is_refused(server: RestServer) -> None:
    """The JSON of a form is JSON, too."""
    run, _ = server.claim()
    dense = json.dumps({"metadata": {"resource": run}, "chunk": ""})[:-1]
    dense += ', "more": [' + "0," * MOST_MARKS + "0]}"
    answer = server.call(
        "POST",
        "/physicsworks/storage/append",
        data="json=" + quote(dense),
        headers={"auth-token": server.admin, "Content-Type": FORM_TYPE},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_dense_manifest_is_refused(server: RestServer) -> None:
    """A frame's manifest may name many files, and nothing but lists it may not be."""
    body = b'{"v": 1, "ops": [], "more": [' + b"[]," * 1_000_000 + b"0]}"
    answer = server.call("POST", rest.SYNC, data=LENGTH.pack(len(body)) + body)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
