"""One request of the PhysicsWorks wire: what its failure means, and where the token goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from physicsrunner.client.physicsworks_files import extension, kind_of, known_name
from physicsrunner.client.physicsworks_http import PhysicsWorksHttp, Unanswered
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    TooLarge,
)

BYTES = bytes(range(200))


class Answers(BaseHTTPRequestHandler):
    """Answers ``/STATUS`` with that status, and knows some files."""

    seen: list[tuple[str, str | None]]
    elsewhere = ""

    def do_GET(self) -> None:
        """Answer by the path."""
        self.seen.append((self.path, self.headers.get("auth-token")))
        if self.path == "/moved":
            self._answer(302, b"", Location=f"{self.elsewhere}/file")
        elif self.path == "/file":
            self._answer(200, BYTES)
        elif self.path == "/ranges" and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self._answer(206 if start < len(BYTES) else 416, BYTES[start:])
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "500")
            self.end_headers()
            self.wfile.write(BYTES)
        else:
            self._answer(int(self.path[1:]), b"said why", **{"Retry-After": "3"})

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    """Serve `Answers` on a free port; ``localhost`` is another host to the client."""
    Answers.seen = []
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    port = server.server_address[1]
    Answers.elsewhere = f"http://localhost:{port}"
    yield f"http://127.0.0.1:{port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def line(host: str) -> Iterator[PhysicsWorksHttp]:
    """A client of it."""
    client = PhysicsWorksHttp(host, "secret")
    yield client
    client.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, NotAuthenticated),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (422, InvalidRequest),
    ],
)
def test_final_answers(
    line: PhysicsWorksHttp, status: int, error: type[PhysicsRunnerError]
) -> None:
    """4xx is final; what the server said is in the message, the token is not."""
    with pytest.raises(error) as caught:
        line.call("GET", str(status))

    assert "said why" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("status", "taken"), [(429, False), (503, False), (500, True), (502, True), (504, True)]
)
def test_answers_that_mean_later(line: PhysicsWorksHttp, status: int, taken: bool) -> None:
    """Only 429 and 503 say that nothing was done."""
    with pytest.raises(Unanswered) as caught:
        line.call("GET", str(status))

    assert (caught.value.taken, caught.value.retry_after) == (taken, 3.0)


def test_a_refused_connection_has_taken_nothing() -> None:
    """Nobody listens on port 9 of this machine."""
    client = PhysicsWorksHttp("http://127.0.0.1:9/", "secret")
    with pytest.raises(Unanswered) as caught:
        client.call("GET", "x")
    client.close()

    assert caught.value.taken is False


def test_a_stored_file_elsewhere_is_fetched_without_the_token(
    line: PhysicsWorksHttp, host: str
) -> None:
    """A server may answer with the address of an object store; the token stays at home."""
    with line.stream("moved") as pieces:
        assert b"".join(pieces) == BYTES

    assert Answers.seen == [("/moved", "secret"), ("/file", None)]


@pytest.mark.parametrize("path", ["file", "ranges"])
def test_a_fetch_goes_on_from_an_offset(line: PhysicsWorksHttp, path: str) -> None:
    """With ranges or without, what comes begins at the offset."""
    for offset in (1, 150, 200):
        with line.stream(path, offset) as pieces:
            assert b"".join(pieces) == BYTES[offset:]


def test_a_fetch_that_ends_early_is_no_success(line: PhysicsWorksHttp) -> None:
    """A body shorter than its length raises, so that the fetch goes on."""
    with pytest.raises(Unanswered), line.stream("short") as pieces:
        list(pieces)


@pytest.mark.parametrize(
    ("path", "kind", "name", "ending"),
    [
        ("logs/main.log", "logs", "main.log", ".log"),
        ("outputs/plots/a/b.csv", "plots", "a/b.csv", ".csv"),
        ("outputs/media/x.y.PNG", "media", "x.y.PNG", ".PNG"),
        ("outputs/data_files/vtp.tar.gz", "downloadables", "vtp.tar.gz", ".tar.gz"),
        ("outputs/result.zip", "downloadables", "result.zip", ".zip"),
        ("outputs/media/no extension", "media", "no extension", ""),
        ("outputs/media/a. b c", "media", "a. b c", ""),
        ("metadata/series.jsonl", "downloadables", "metadata/series.jsonl", ".jsonl"),
    ],
)
def test_names(path: str, kind: str, name: str, ending: str) -> None:
    """Kind, known name and extension come from the artifact's path."""
    assert (kind_of(path), known_name(path), extension(path)) == (kind, name, ending)
