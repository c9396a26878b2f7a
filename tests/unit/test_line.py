"""One connection of our own HTTP client (`client.line`): requests and answers, byte for byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from physicsrunner.client.body import Body, FileSlice
from physicsrunner.client.line import Answer, Line

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


def line_to(listener: socket.socket) -> tuple[Line, socket.socket]:
    """Return a connection and its other side."""
    line = Line("127.0.0.1", listener.getsockname()[1], 30.0)
    other, _ = listener.accept()
    other.settimeout(30)
    return line, other


def answered(listener: socket.socket, said: bytes, method: str = "GET") -> tuple[Answer, bytes]:
    """Return the answer that *said* is, and its body."""
    line, other = line_to(listener)
    with closing(line), other:
        line.ask(method, "/", {}, None, 30.0)
        other.sendall(said)
        other.shutdown(socket.SHUT_WR)
        answer = line.answer(method)
        return answer, answer.read()


def received(line: Line, other: socket.socket, body: object, headers: dict[str, str]) -> bytes:
    """Return what arrives of a request."""
    line.ask("POST", "/x", headers, body, 30.0)
    line.close()
    found = b""
    while data := other.recv(65536):
        found += data
    return found


def test_head_and_body_come_together(listener: socket.socket) -> None:
    """The other side need not be woken twice."""
    line, other = line_to(listener)
    with closing(line), other:
        line.ask("POST", "/x?a=b", {"Content-Length": "4", "A": "b"}, b"body", 30.0)
        port = listener.getsockname()[1]
        assert other.recv(65536) == (
            f"POST /x?a=b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
            + b"Content-Length: 4\r\nA: b\r\n\r\nbody"
        )


def test_pieces_of_all_kinds_arrive_in_order(listener: socket.socket, tmp_path: Path) -> None:
    """Small ones wait for nobody but the next; files and large ones go by themselves."""
    path = tmp_path / "file"
    path.write_bytes(b"f" * 100_000)
    pieces = [b"small", FileSlice(path, 0, 100_000), b"x" * 200_000, memoryview(b"end"), b""]
    size = 300_008
    line, other = line_to(listener)
    found: list[bytes] = []
    headers = {"Content-Length": str(size)}
    body = Body(lambda: iter(pieces), size)

    def send() -> None:
        line.ask("POST", "/", headers, body, 30.0)
        line.close()

    with other:
        sender = threading.Thread(target=send)
        sender.start()
        while data := other.recv(65536):
            found.append(data)
        sender.join(30)
    whole = b"".join(found).partition(b"\r\n\r\n")[2]
    assert whole == b"small" + b"f" * 100_000 + b"x" * 200_000 + b"end"


def test_a_body_of_unknown_length_goes_in_chunks(listener: socket.socket) -> None:
    """And ends with the empty one."""
    line, other = line_to(listener)
    with other:
        said = received(line, other, iter([b"abc", b"", b"d" * 16]), {})
    assert b"\r\nTransfer-Encoding: chunked\r\n" in said
    assert said.endswith(b"\r\n\r\n3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b"])
def test_a_header_ends_no_line(listener: socket.socket, value: str) -> None:
    """Nothing that comes from a file or a person can add a header."""
    line, other = line_to(listener)
    with closing(line), other:
        with pytest.raises(ValueError, match="end of a line"):
            line.ask("GET", "/", {"A": value}, None, 30.0)
        with pytest.raises(ValueError, match="end of a line"):
            line.ask("GET", f"/{value}", {}, None, 30.0)


@pytest.mark.parametrize(
    ("said", "body", "keeps"),
    [
        (OK + b"content-LENGTH: 3\r\n\r\nabc", b"abc", True),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (OK + b"Content-Length: 3\r\nConnection: Close\r\n\r\nabc", b"abc", False),
        (OK + b"\r\nto the end", b"to the end", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (
            CHUNKED + b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            b"abcd",
            True,
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ],
)
def test_answers(listener: socket.socket, said: bytes, body: bytes, keeps: bool) -> None:
    """Every form of a body, and whether the connection can be used again."""
    answer, found = answered(listener, said)
    assert found == body
    assert answer.ended
    assert answer.will_close is not keeps


def test_the_answer_to_head_has_no_body(listener: socket.socket) -> None:
    """Its length is that of another answer."""
    answer, body = answered(listener, OK + b"Content-Length: 7\r\n\r\n", "HEAD")
    assert (body, answer.ended) == (b"", True)
    assert answer.headers["CONTENT-length"] == "7"
    assert "Content-Length" in answer.headers
    assert answer.headers.get("nothing", "none") == "none"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        OK + b"A: b\r\n",
        OK + b"A: b\r\n" * 1000,
        OK + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        OK + b"Content-Length: 3\r\n\r\nab",
        CHUNKED + b"3\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_is_cut_or_no_answer_is_an_error(listener: socket.socket, said: bytes) -> None:
    """Nothing is taken for whole that is not."""
    with pytest.raises(OSError, match=r"."):
        answered(listener, said)
