"""The tests' own tools: waiting and the faulty line."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.support.proxy import Fault, FaultProxy
from tests.support.wait import wait_until


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        """Answer with the length of the body."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        answer = str(len(body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def bodies(proxy_for: Callable[[int], FaultProxy]) -> Iterator[tuple[FaultProxy, list[bytes]]]:
    """A proxy in front of a server that keeps the bodies it got."""
    got: list[bytes] = []
    handler = type("Echo", (_Echo,), {"bodies": got})
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    upstream.daemon_threads = False
    thread = threading.Thread(target=upstream.serve_forever, args=(0.02,))
    thread.start()
    proxy = proxy_for(upstream.server_address[1])
    yield proxy, got
    proxy.close()
    upstream.shutdown()
    thread.join()
    upstream.server_close()


def _post(session: requests.Session, proxy: FaultProxy, data: object) -> requests.Response:
    return session.post(f"{proxy.url}/sync", data=data, timeout=10)  # type: ignore[arg-type]


def test_the_proxy_passes_what_it_is_not_told_to_break(
    bodies: tuple[FaultProxy, list[bytes]],
) -> None:
    """Requests of both framings pass unchanged, several on one connection."""
    proxy, got = bodies
    pieces = [b"a" * 70000, b"\r\n0\r\n\r\n", b"z"]
    with requests.Session() as session:
        for _ in range(2):
            assert _post(session, proxy, b"x" * 200_000).text == "200000"
            assert _post(session, proxy, iter(pieces)).text == str(len(b"".join(pieces)))
    assert got == [b"x" * 200_000, b"".join(pieces)] * 2
    assert proxy.requests == ["POST /sync"] * 4


def test_faults_happen_once_each_and_are_counted(bodies: tuple[FaultProxy, list[bytes]]) -> None:
    """503, reset, cut and a lost answer hit the chosen requests, and the next one passes."""
    proxy, got = bodies
    data = b"y" * 300_000
    proxy.inject(Fault("unavailable", retry_after=3), match="POST /sync")
    with requests.Session() as session:
        answer = _post(session, proxy, data)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
        assert got == []
        for kind in ("reset", "cut", "stall", "lost_answer"):
            proxy.inject(Fault(kind, after=100_000, seconds=0.05))
            with pytest.raises(requests.ConnectionError):
                _post(session, proxy, data)
        wait_until(lambda: len(got) >= 1, on_timeout="the lost answer's request did not arrive")
        assert _post(session, proxy, data).text == "300000"
    assert proxy.injected == dict.fromkeys(
        ("unavailable", "reset", "cut", "stall", "lost_answer"), 1
    )
    assert got[-1] == data


def test_refusing_and_silence_are_global(bodies: tuple[FaultProxy, list[bytes]]) -> None:
    """While it refuses nobody gets through; while it is silent clients run into their timeout."""
    proxy, _ = bodies
    proxy.refusing = True
    with requests.Session() as session, pytest.raises(requests.ConnectionError):
        _post(session, proxy, b"1")
    proxy.refusing = False
    proxy.silent = True
    with (
        requests.Session() as session,
        contextlib.suppress(requests.ConnectionError),
        pytest.raises(requests.Timeout),
    ):
        session.post(f"{proxy.url}/sync", data=b"1", timeout=0.2)
    proxy.silent = False
    with requests.Session() as session:
        assert _post(session, proxy, b"12").text == "2"


def test_waiting_tells_the_last_state() -> None:
    """A wait that runs out fails with the story it was given."""
    with pytest.raises(AssertionError, match="the reason"):
        wait_until(lambda: 0, timeout=0.01, on_timeout=lambda: "the reason")
