"""The short way of large bodies: whatever the pieces, the application sees the bytes that came."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest
import uvicorn

from physicsrunner.server.protocol import LARGE, BodyProtocol
from tests.support.wait import wait_until

SIZES = (0, 1, 100, 65_536, LARGE - 1, LARGE, LARGE + 1, 3_000_001)
SENT = (1, 50, 1000, 65_536, 300_000, 5_000_000)


class Echo:
    """Answers each request with the length and SHA-256 of its body; keeps those that were cut."""

    def __init__(self) -> None:
        self.cut: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        digest, size, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut.append(size)
                return
            body = message.get("body", b"")
            digest.update(body)
            size += len(body)
            more = message.get("more_body", False)
        text = f"{size} {digest.hexdigest()}\n".encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@contextmanager
def served(app: Echo, loop: str) -> Iterator[int]:
    """Serve *app* on a port while the block lasts."""
    config = uvicorn.Config(app, http=BodyProtocol, log_config=None, lifespan="off", loop=loop)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def request(chance: random.Random) -> tuple[bytes, str]:
    """Return a request as it goes over the line, and its answer."""
    size = chance.choice(SIZES)
    body = chance.randbytes(size)
    answer = f"{size} {hashlib.sha256(body).hexdigest()}"
    if chance.random() < 0.2:
        chunk = b"%x\r\n%s\r\n" % (size, body) if size else b""
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + chunk + b"0\r\n\r\n", answer
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body, answer


def answer_of(file: BinaryIO) -> str:
    """Read one answer's body."""
    while file.readline() not in (b"\r\n", b""):
        pass
    return file.readline().decode().strip()


def send_in_pieces(line: socket.socket, data: bytes, chance: random.Random) -> None:
    """Send *data* cut at random."""
    at = 0
    while at < len(data):
        length = chance.choice(SENT)
        line.sendall(data[at : at + length])
        at += length


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("seed", [1, 2])
def test_bodies_arrive_whole_whatever_their_pieces(loop: str, seed: int) -> None:
    """Sizes around the limit, random cuts, chunked ones between, several requests on the way."""
    chance = random.Random(seed)
    with (
        served(Echo(), loop) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as line,
        line.makefile("rb") as file,
    ):
        for _ in range(12):
            requests = [request(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
            wire = b"".join(sent for sent, _ in requests)
            sender = threading.Thread(
                target=send_in_pieces, args=(line, wire, random.Random(chance.random()))
            )
            sender.start()
            assert [answer_of(file) for _ in requests] == [answer for _, answer in requests]
            sender.join(30)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("sent", [1000, LARGE // 2, 3 * LARGE + 17])
def test_a_body_that_is_cut_is_delivered_as_far_as_it_came(loop: str, sent: int) -> None:
    """Every byte that arrived is seen before the news that the connection was lost."""
    app = Echo()
    with served(app, loop) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (4 * LARGE)
            line.sendall(head + bytes(sent))
        wait_until(lambda: app.cut)
    assert app.cut == [sent]
