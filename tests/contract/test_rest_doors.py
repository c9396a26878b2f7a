"""What holds at every door: who may enter, what an error looks like, what is refused unread."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.core.permissions import Scope, scope_of
from physicsrunner.server.app import create_app
from physicsrunner.server.limits import Limits
from physicsrunner.wire import rest
from tests.contract.rest_server import RestServer, frame, rest_server
from tests.support.routes import declared

OPEN_OF_THE_API = {rest.LOGIN}  # who logs in has no token yet
OPEN = {
    "/health",
    "/docs",
    "/docs/{name}",
    "/openapi.json",
    "/metrics",
}
PROBLEM = {"type", "title", "status", "detail", "code", "retryable", "what_to_do"}
SMALL = Limits(json=2000, bundle=10_000, upload=10_000, frame=100_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """One server for the whole module: its doors keep nothing."""
    with rest_server(tmp_path_factory.mktemp("data"), limits=SMALL) as running:
        run, _ = running.claim()
        for number in range(8):  # the server's own threads start when they are first needed
            running.put_file(run, f"logs/{number}", b"x")
        yield running


def routes(server: RestServer) -> list[tuple[str, str]]:
    """All operations that the server describes."""
    paths = server.value("GET", "/openapi.json", token=None)["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


def filled(path: str, run: str, attempt: int = 1) -> str:
    """Put values into the parameters of a route's path."""
    known = {
        "run": run,
        "attempt": str(attempt),
        "path": "logs/main.log",
        "sha256": "0" * 64,
        "model": str(uuid.uuid4()),
        "version": "0" * 64,
    }
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:artifact}}", value)
    return path


def is_problem(response: requests.Response) -> dict[str, Any]:
    """Return the problem that an answer is; fail when it is none."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document: dict[str, Any] = response.json()
    assert set(document) == PROBLEM
    assert document["status"] == response.status_code
    assert document["what_to_do"]
    return document


def test_no_route_answers_without_a_token_but_the_open_ones(server: RestServer) -> None:
    """Every route of the native API refuses a request without a token with 401."""
    native = [
        (method, path)
        for method, path in routes(server)
        if path.startswith(rest.API) and path not in OPEN_OF_THE_API
    ]
    assert len(native) >= 60
    for method, path in native:
        response = server.call(method, filled(path, str(uuid.uuid4())), token=None, data=b"{}")
        assert response.status_code == 401, f"{method} {path}: {response.status_code}"
        assert response.headers["www-authenticate"] == "Bearer"
        assert method == "HEAD" or is_problem(response)["code"] == "not_authenticated"


def test_the_open_routes_answer_without_a_token(server: RestServer) -> None:
    """Health, metrics and the description are open, and nothing else outside the API is."""
    for path in sorted(OPEN - {"/docs/{name}"}):
        assert server.call("GET", path, token=None).status_code == 200, path
    outside = {path for _, path in routes(server) if not path.startswith(rest.API)}
    assert {path for path in outside if not path.startswith("/physicsworks")} <= OPEN


@pytest.mark.parametrize(
    "token", ["", "nonsense", "a.b.c.d", "eyJhbGciOiJub25lIn0.eyJraW5kIjoidXNlciJ9."]
)
def test_a_token_that_is_not_ours_is_refused(server: RestServer, token: str) -> None:
    """Nothing of a token is believed that our key did not sign, and it is never repeated."""
    response = server.call("GET", rest.WHOAMI, token=token)
    assert response.status_code == 401
    assert not token or token not in response.text


def test_an_attempt_token_touches_its_own_run_alone(server: RestServer) -> None:
    """To the token of run A's attempt there is no run B; on run A it does what the table grants."""
    mine, lease = server.claim()
    other, _ = server.claim()
    server.put_file(mine, "logs/main.log", b"mine\n")
    server.put_file(other, "logs/main.log", b"other\n")
    of_a_run = [
        item
        for item in declared(create_app(server.services).api.routes)
        if item.path.startswith(f"{rest.SIMULATIONS}/{{run}}")
    ]
    assert len(of_a_run) >= 13
    query = {"path": "logs/main.log"}
    for route in of_a_run:
        method, path = route.method, route.path
        granted = scope_of("attempt", None, route.permission or "") is Scope.OWN
        foreign = server.call(method, filled(path, other), token=lease["token"], params=query)
        expected = (404, "not_found") if granted else (403, "not_allowed")
        of_an_attempt = granted and "{attempt}" in path
        allowed = {expected, (403, "not_allowed")} if of_an_attempt else {expected}
        if method == "HEAD":
            assert foreign.status_code in {status for status, _ in allowed}
        else:
            assert (foreign.status_code, is_problem(foreign)["code"]) in allowed, str(route)
        if granted:
            own = server.call(method, filled(path, mine), token=lease["token"], params=query)
            assert own.status_code == 200, f"{method} {path}: {own.status_code} {own.text}"


def test_an_attempt_token_reports_and_syncs_its_own_attempt_alone(server: RestServer) -> None:
    """Reports, renewals and frames for another run are answered with its error each."""
    mine, lease = server.claim()
    other, _ = server.claim()
    token = lease["token"]
    reports = {"reports": [{"run": run, "attempt": 1, "progress": 1.0} for run in (mine, other)]}
    answers = server.value("POST", rest.REPORTS, json=reports, token=token)
    assert [item.get("error") for item in answers] == [None, "not_allowed"]
    leases = {"leases": [{"run": run, "attempt": 1} for run in (mine, other)]}
    answers = server.value("PUT", rest.LEASES, json=leases, token=token)
    assert [item.get("error") for item in answers] == [None, "not_allowed"]
    ops = [
        (
            {"run": run, "attempt": 1, "path": "logs/a", "op": "append", "offset": 0, "length": 1},
            b"x",
        )
        for run in (mine, other)
    ]
    results = server.sync(ops, token=token)
    assert [item.get("error") for item in results] == [None, "not_allowed"]
    refused = server.call("POST", rest.LEASES, json={"agent": "x"}, token=token)
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing/here", None, 404, "not_found"),
        ("GET", f"{rest.API}/nothing", None, 404, "not_found"),
        ("DELETE", rest.SIMULATIONS, None, 405, "invalid_request"),
        ("GET", f"{rest.SIMULATIONS}?limit=many", None, 422, "invalid_request"),
        ("GET", f"{rest.SIMULATIONS}?limit=0", None, 422, "invalid_request"),
        ("GET", f"{rest.SIMULATIONS}?status=done", None, 422, "invalid_request"),
        ("GET", f"{rest.SIMULATIONS}/4711", None, 404, "not_found"),
        ("POST", rest.LEASES, b"{not json", 422, "invalid_request"),
        ("POST", rest.LEASES, b"[" * 1500, 422, "invalid_request"),
        ("POST", rest.LEASES, b'{"max": 1}', 422, "invalid_request"),
        ("POST", rest.REPORTS, b'{"reports": [{"run": 7, "attempt": 1}]}', 422, "invalid_request"),
        ("POST", rest.SIMULATIONS, b'{"claim": {"agent": 3}}', 422, "invalid_request"),
        ("POST", rest.SIMULATIONS, b"[1, 2]", 422, "invalid_request"),
        ("PUT", f"{rest.UPLOADS}/zz", b"x", 422, "invalid_request"),
        ("PUT", f"{rest.UPLOADS}/{'0' * 64}", b"x", 409, "digest_mismatch"),
        ("POST", rest.MODELS, b"this is no zip", 422, None),
        ("POST", rest.SYNC, b"", 400, "bad_frame"),
        ("POST", rest.SYNC, b"\xff" * 8, 400, "bad_frame"),
        ("POST", rest.SYNC, b"\0" * 7 + b"\x02{}", 400, "bad_frame"),
    ],
)
def test_every_error_is_a_problem(
    server: RestServer, method: str, path: str, body: bytes | None, status: int, code: str | None
) -> None:
    """Wrong addresses, methods, values and bodies are answered as problems with a stable code."""
    response = server.call(method, path, data=body)
    assert response.status_code == status, response.text
    document = is_problem(response)
    assert code is None or document["code"] == code


def test_an_unexpected_error_tells_nothing_of_its_inside(
    server: RestServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the server is 500, names the line of its log, and shows no text of the fault."""

    def broken(*_: object) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(server.services.runs, "list", broken)
    response = server.call("GET", rest.SIMULATIONS)
    assert response.status_code == 500
    document = is_problem(response)
    assert document["code"] == "internal"
    assert "swordfish" not in response.text
    assert document["detail"].split()[-1] in caplog.text


def test_a_full_disk_is_said_as_such(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left is 507, retryable, with Retry-After."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server.services.runs, "store_input", full)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    response = server.call("PUT", f"{rest.UPLOADS}/{empty}", data=b"")
    assert response.status_code == 507
    assert is_problem(response)["retryable"] is True
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", rest.LEASES),
        ("POST", rest.MODELS),
        ("PUT", f"{rest.UPLOADS}/{'0' * 64}"),
        ("POST", rest.SYNC),
    ],
)
def test_a_body_over_its_limit_is_refused_before_it_is_read(
    server: RestServer, method: str, path: str
) -> None:
    """A Content-Length over the limit is answered with 413 although no byte of the body came."""
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.admin}\r\n"
        "Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(head.encode())
        answer = line.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code": "too_large"' in answer


@pytest.mark.parametrize(
    "path",
    [
        rest.LOGIN,
        "/physicsworks/api/auth/login",
        "/physicsworks/auth/login",
        "/physicsworks/api/auth/v1/refresh_token",
        "/physicsworks/auth/v1/refresh_token",
    ],
)
def test_who_needs_no_token_may_send_little(server: RestServer, path: str) -> None:
    """Anybody may call these: 16 KiB are more than a name and a password need."""
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 16385\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert line.makefile("rb").read().startswith(b"HTTP/1.1 413 ")
    pieces = (b" " * 1000 for _ in range(20))
    assert server.call("POST", path, token=None, data=pieces).status_code == 413
    small = server.call("POST", path, token=None, data=b"{}" + b" " * 16_000)
    assert small.status_code in (401, 422)


def test_a_sender_that_does_not_wait_still_reads_why(server: RestServer) -> None:
    """A client that sends its whole body at once gets the 413 and not a reset connection."""
    response = server.call("POST", rest.MODELS, data=b"x" * 3_000_000)
    assert response.status_code == 413
    assert is_problem(response)["code"] == "too_large"


def test_a_body_without_length_is_cut_at_the_limit(server: RestServer) -> None:
    """A chunked body is counted while it comes."""
    pieces = (b"x" * 1000 for _ in range(20))
    response = server.call("POST", rest.MODELS, data=pieces)
    assert response.status_code == 413


def test_a_frame_is_limited_by_its_raw_bytes(server: RestServer) -> None:
    """A manifest that announces more than the limit is refused, however small the body."""
    op = {"run": "r", "attempt": 1, "path": "a", "op": "append", "offset": 0, "length": 100_001}
    response = server.call("POST", rest.SYNC, data=frame([(op, b"")]))
    assert response.status_code == 413


def test_the_description_has_an_example_and_a_summary_for_every_route(server: RestServer) -> None:
    """Every operation has a tag, a summary, examples of what it takes and gives as JSON."""
    document = server.value("GET", "/openapi.json", token=None)
    for path, item in document["paths"].items():
        if path.startswith("/physicsworks"):
            continue
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation.get("tags"), where
            assert operation.get("summary"), where
            assert "default" in operation["responses"], where
            for answer in operation["responses"].values():
                content = answer.get("content", {}).get("application/json")
                assert content is None or "example" in content, where
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            assert body is None or "example" in body, where
    schemas = document["components"]["schemas"]
    assert {"LeaseGrant", "SyncResult", "Report", "RunRecord", "Problem"} <= set(schemas)
    for reference in _references(document):
        assert reference.rpartition("/")[2] in schemas, reference


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_the_page_of_the_description_loads_nothing_from_elsewhere(server: RestServer) -> None:
    """Swagger UI comes from this server alone."""
    page = server.call("GET", "/docs", token=None).text
    assert "swagger-ui-bundle.js" in page
    assert "http://" not in page
    assert "https://" not in page
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert server.call("GET", f"/docs/{name}", token=None).status_code == 200
    assert server.call("GET", "/docs/..%2f__init__.py", token=None).status_code == 404


def test_metrics_count_by_route(server: RestServer, tmp_path: Path) -> None:
    """Counters name routes with their doors, not ids."""
    del tmp_path
    run, _ = server.claim()
    server.call("GET", rest.simulation(run))
    server.call("GET", f"/physicsworks/api/v1/jobs/{run}")
    text = server.call("GET", "/metrics", token=None).text
    assert 'route="/api/v1/simulations/{run}"' in text
    assert 'route="/physicsworks/api/v1/jobs/{run}"' in text
    assert 'route="/api/v1/jobs/{run}"' not in text
    assert run not in text
