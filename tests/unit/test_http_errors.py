"""Failures of a request become our errors at one door."""

from __future__ import annotations

import http.server
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from physicsrunner import errors
from physicsrunner.client import compress
from physicsrunner.client.body import FileSlice
from physicsrunner.client.http import Http, error_of, retry_after
from physicsrunner.client.native import NativeUplink
from physicsrunner.client.plain import takes
from physicsrunner.client.uplink import Outgoing
from physicsrunner.core.state import RunState
from physicsrunner.server.decoding import decoder
from physicsrunner.wire.frames import FrameDecoder
from physicsrunner.wire.messages import Report, SyncOp
from tests.support.ports import Port

Answer = tuple[int, dict[str, str], bytes]
RUN = "3f2b8c1e-0000-4000-8000-000000000001"


class Scripted:
    """A server that answers what a test tells it to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, dict[str, str], bytes], Answer] = lambda *_: (
            200,
            {},
            b"{}",
        )
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def any(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self._body(headers)
                asked = (self.command, self.path, headers, body)
                outer.asked.append(asked)
                status, more, content = outer.answer(*asked)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                if "Content-Length" not in more:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if "Content-Length" in more:
                    self.close_connection = True

            def _body(self, headers: dict[str, str]) -> bytes:
                if headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(headers.get("content-length", 0)))
                out = b""
                while size := int(self.rfile.readline(), 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out

            do_GET = do_POST = any  # noqa: N815 (the names that http.server looks for)

            def log_message(self, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def http_of() -> Iterator[Callable[..., Http]]:
    made: list[Http] = []

    def make(*args: Any) -> Http:
        made.append(Http(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def uplink_of() -> Iterator[Callable[..., NativeUplink]]:
    made: list[NativeUplink] = []

    def make(*args: Any) -> NativeUplink:
        made.append(NativeUplink(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def problem(code: str, **more: Any) -> bytes:
    return json.dumps({"code": code, "detail": "the reason", **more}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, problem("not_found"), errors.NotFound),
        (401, problem("token_expired"), errors.TokenExpired),
        (409, problem("offset_mismatch"), errors.OffsetMismatch),
        (409, problem("illegal_transition"), errors.Conflict),
        (507, problem("storage_full"), errors.StorageFull),
        (413, b"<html>too large</html>", errors.TooLarge),
        (418, b"", errors.InvalidRequest),
        (500, problem("internal"), errors.ServerUnavailable),
        (502, b"bad gateway", errors.ServerUnavailable),
        (429, b"[1, 2]", errors.ServerUnavailable),
        (403, b"\xff\xfe", errors.NotAllowed),
        (422, problem("a_code_of_tomorrow"), errors.InvalidRequest),
    ],
)
def test_classes(status: int, body: bytes, kind: type[Exception]) -> None:
    """A problem's code names the class; where it cannot, the status does."""
    assert type(error_of(status, body, {})) is kind


def test_lease_lost() -> None:
    """A lost lease names its run and attempt when the answer does."""
    error = error_of(409, problem("lease_lost", run="r", attempt=2), {})
    assert isinstance(error, errors.LeaseLost)
    assert (error.run, error.attempt) == ("r", 2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Retry-After is understood as seconds and as a date; nonsense is nothing."""
    assert retry_after(value, now=10.0) == seconds


def test_retry_after_reaches_the_caller(scripted: Scripted, http_of: Callable[..., Http]) -> None:
    """The wait that the server asked for stands in the error."""
    scripted.answer = lambda *_: (503, {"Retry-After": "12"}, b"")
    with pytest.raises(errors.ServerUnavailable) as caught:
        http_of(scripted.url).request("GET", "/")
    assert caught.value.retry_after == 12.0


def test_nobody_there(http_of: Callable[..., Http]) -> None:
    """A refused connection means: not available, try again; the token is not in the text."""
    with closing(Port()) as port, pytest.raises(errors.ServerUnavailable) as caught:
        http_of(f"http://127.0.0.1:{port.number}", "secret-token").request("GET", "/x")
    assert caught.value.retryable
    assert "secret-token" not in str(caught.value)


def test_answer_cut(scripted: Scripted, http_of: Callable[..., Http]) -> None:
    """An answer that is cut in the middle means: the outcome is not known."""
    scripted.answer = lambda *_: (200, {"Content-Length": "100"}, b"{")
    with pytest.raises(errors.ServerUnavailable):
        http_of(scripted.url).value("GET", "/x")


def test_not_our_server(scripted: Scripted, http_of: Callable[..., Http]) -> None:
    """An answer that is not JSON is said to be one."""
    scripted.answer = lambda *_: (200, {}, b"<html>hotel wifi: please log in</html>")
    with pytest.raises(errors.ServerUnavailable, match="JSON"):
        http_of(scripted.url).value("GET", "/x")


def test_token_goes_to_our_server_alone(scripted: Scripted, http_of: Callable[..., Http]) -> None:
    """An address elsewhere is fetched without the token."""
    http = http_of(scripted.url + "/prefix", "secret")
    http.request("GET", "/inside")
    http.request("GET", scripted.url + "/prefixed/elsewhere")
    inside, outside = (headers for _, _, headers, _ in scripted.asked)
    assert inside["authorization"] == "Bearer secret"
    assert "authorization" not in outside


def test_token_exchange(scripted: Scripted, uplink_of: Callable[..., NativeUplink]) -> None:
    """An expired token is exchanged once, and the request is made again."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if path.endswith("/exchange"):
            return 200, {}, b'{"token": "fresh"}'
        if headers["authorization"] == "Bearer old":
            return 401, {}, problem("token_expired")
        return 200, {}, b'{"data": [{"path": "a", "size": 3}]}'

    scripted.answer = answer
    uplink = uplink_of(scripted.url, "old")
    assert uplink.files(RUN, 1)["a"].size == 3
    assert uplink.token == "fresh"
    assert len(scripted.asked) == 3


def test_exchange_refused(scripted: Scripted, uplink_of: Callable[..., NativeUplink]) -> None:
    """A token that cannot be exchanged is a final answer."""
    scripted.answer = lambda *_: (401, {}, problem("token_expired"))
    with pytest.raises(errors.NotAuthenticated):
        uplink_of(scripted.url, "old").files(RUN, 1)
    assert len(scripted.asked) == 2


def outgoing(path: Path, offset: int, length: int) -> Outgoing:
    op = SyncOp(RUN, 1, "logs/a", "append", offset=offset, length=length)
    return Outgoing(op, source=path)


def results(*_: Any) -> Answer:
    return 200, {}, b'{"results": [{"offset": 1}, {"offset": 2}, {"offset": 3}]}'


def test_frame(scripted: Scripted, uplink_of: Callable[..., NativeUplink], tmp_path: Path) -> None:
    """A frame is its manifest, then bytes from memory and from files in order."""
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 8192)
    scripted.answer = results
    small = SyncOp(RUN, 1, "x", "append", offset=0, length=3)
    seal = SyncOp(RUN, 1, "x", "seal", size=3, sha256="00")
    batch = [Outgoing(small, data=b"abc"), outgoing(path, 1, 1_500_000), Outgoing(seal)]
    answered = uplink_of(scripted.url, "t").send(batch)
    assert [result.offset for result in answered] == [1, 2, 3]
    _, _, headers, body = scripted.asked[0]
    assert int(headers["content-length"]) == len(body)
    frame = FrameDecoder()
    manifest = frame.feed(body)
    assert manifest is not None
    assert [op["op"] for op in manifest["ops"]] == ["append", "append", "seal"]
    assert frame.rest == b"abc" + path.read_bytes()[1:1_500_001]


@pytest.mark.parametrize("how", ["shorter", "gone", "folder"])
def test_source_that_changed(
    scripted: Scripted, uplink_of: Callable[..., NativeUplink], tmp_path: Path, how: str
) -> None:
    """A file that became shorter keeps the frame valid, and is not trusted."""
    path = tmp_path / "source"
    if how == "shorter":
        path.write_bytes(b"x" * 10)
    elif how == "folder":
        path.mkdir()
    scripted.answer = results
    small = SyncOp(RUN, 1, "x", "append", offset=0, length=3)
    batch = [outgoing(path, 0, 100_000), Outgoing(small, data=b"abc"), Outgoing(small, data=b"def")]
    answered = uplink_of(scripted.url, "t").send(batch)
    assert [result.error for result in answered] == ["source_changed", None, None]
    assert scripted.asked[0][3].endswith(b"\0abcdef")


def test_pieces_read_without_the_kernel(tmp_path: Path) -> None:
    """Through TLS a slice is read in pieces, and filled up in the same way."""
    path = tmp_path / "source"
    data = bytes(range(251)) * 12_000
    path.write_bytes(data)
    part = FileSlice(path, 5, len(data))
    assert b"".join(bytes(piece) for piece in part.pieces()) == data[5:] + bytes(5)
    assert part.short


@pytest.mark.parametrize("encoding", ["deflate", "zstd"])
def test_compressed(encoding: str) -> None:
    """What we compress, our server unpacks."""
    if encoding not in compress.encodings():
        pytest.skip("zstandard is not installed")
    data = b"Time = 1\nSolving for Ux, Initial residual = 0.5\n" * 20_000
    pieces = [data[:7], data[7:500_000], memoryview(data)[500_000:]]
    packed = b"".join(compress.compressed(pieces, encoding))
    assert len(packed) < len(data) / 10
    unpacker = decoder(encoding)
    out = b"".join(unpacker.feed(packed))
    unpacker.finish()
    assert out == data


def test_when_compression_pays() -> None:
    """Text on a slow line is compressed; noise, a fast line and an unknown one are not."""
    text = b"Solving for Ux, Initial residual = 0.5, Final residual = 1e-6\n" * 1000
    noise = bytes((index * 7919 + index // 3) * 104729 >> 5 & 255 for index in range(65536))
    assert compress.pays(text, "deflate", 1e6)
    assert not compress.pays(text, "deflate", 50e9)
    assert not compress.pays(text, "deflate", None)
    assert not compress.pays(noise[:400], "deflate", 1e6)


def test_line_is_slow(scripted: Scripted, uplink_of: Callable[..., NativeUplink]) -> None:
    """On a slow line a frame goes compressed; a server without the encoding gets it raw."""
    data = b"Time = 1\n" * 20_000
    op = SyncOp(RUN, 1, "logs/a", "append", offset=0, length=len(data))
    one = b'{"results": [{"offset": 1}]}'
    scripted.answer = lambda *_: (200, {}, one)
    uplink = uplink_of(scripted.url, "t")
    uplink._speed.rate = 1e5
    uplink.send([Outgoing(op, data=data)])
    _, _, headers, body = scripted.asked[-1]
    assert headers["content-encoding"] in ("zstd", "deflate")
    assert len(body) < len(data) / 10

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        return (415, {}, b"") if "content-encoding" in headers else (200, {}, one)

    scripted.answer = refuse
    while uplink._encodings:
        uplink._speed.rate = 1e5
        assert uplink.send([Outgoing(op, data=data)])[0].offset == 1
    assert "content-encoding" not in scripted.asked[-1][2]


def test_fetch_goes_on(scripted: Scripted, uplink_of: Callable[..., NativeUplink]) -> None:
    """A download goes on at its offset, whether the server knows ranges or not."""
    content = bytes(range(256)) * 5000

    def ranges(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        start = int(headers["range"][6:-1])
        return 206, {}, content[start:]

    answers: tuple[Any, ...] = (ranges, lambda *_: (200, {}, content))
    for answer in answers:
        scripted.answer = answer
        with uplink_of(scripted.url, "t").fetch("/file", offset=1000) as pieces:
            assert b"".join(pieces) == content[1000:]


def test_why_nobody_answers_is_short_and_human(http_of: Callable[..., Http]) -> None:
    """A warning of a run says what a person can do something about, not what a library did."""
    with closing(Port()) as port, pytest.raises(errors.ServerUnavailable) as caught:
        http_of(f"http://127.0.0.1:{port.number}").request("GET", "/x")
    assert str(caught.value) == f"http://127.0.0.1:{port.number}: no answer (connection refused)"
    with pytest.raises(errors.ServerUnavailable, match=r"no answer \(the host's name is not known"):
        http_of("http://no-such-host.invalid").request("GET", "/x")


def test_a_netrc_does_not_replace_the_token(
    scripted: Scripted,
    http_of: Callable[..., Http],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A password that the user keeps for other programs is never sent in place of our token."""
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    http_of(scripted.url, "ours").request("GET", "/x")
    assert scripted.asked[0][2]["authorization"] == "Bearer ours"


def test_files_go_through_a_proxy(
    scripted: Scripted,
    uplink_of: Callable[..., NativeUplink],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file reaches a server that lies behind an HTTP proxy."""
    monkeypatch.setenv("http_proxy", scripted.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    scripted.answer = lambda *_: (200, {}, b'{"results": [{"offset": 3}]}')
    file = tmp_path / "u.dat"
    file.write_bytes(b"abc")
    op = SyncOp(RUN, 1, "outputs/u.dat", "append", offset=0, length=3)
    assert uplink_of("http://far.example:3011", "t").send([Outgoing(op, source=file)])
    assert scripted.asked[0][1] == "http://far.example:3011/api/v1/sync"
    assert scripted.asked[0][3].endswith(b"abc")


def test_numbers_that_are_none_are_left_out_of_reports(
    scripted: Scripted, uplink_of: Callable[..., NativeUplink]
) -> None:
    """A progress that is not a number holds up no report."""
    scripted.answer = lambda *_: (200, {}, b"[]")
    report = Report(RUN, 1, RunState.RUNNING, progress=float("nan"), eta_s=float("inf"), label="a")
    uplink_of(scripted.url, "t").report([report])
    sent = json.loads(scripted.asked[0][3])["reports"][0]
    assert sent["label"] == "a"
    assert not {"progress", "eta_s"} & set(sent)


def test_what_json_cannot_say_is_final(scripted: Scripted, http_of: Callable[..., Http]) -> None:
    """A parameter that is no number is the caller's to mend, and not tried for ever."""
    itself: dict[str, object] = {}
    itself["again"] = itself
    for wrong, told in (
        ({"a": float("nan")}, "a is nan"),
        ({"resource_requirements": {"cpu_cores": math.inf}}, r"requirements\.cpu_cores is inf"),
        ({"runs": [1, {"b": -math.inf}]}, r"runs\[1\]\.b is -inf"),
        (itself, "Circular"),
    ):
        with pytest.raises(errors.InvalidRequest, match=told):
            http_of(scripted.url, "t").request("POST", "/x", json=wrong)
    assert scripted.asked == []


def test_a_connection_is_reused_and_made_anew_when_dropped(
    scripted: Scripted, http_of: Callable[..., Http]
) -> None:
    """A server that closed an idle connection is asked over a fresh one, and nobody notices."""
    http = http_of(scripted.url)
    for _ in range(3):
        scripted.answer = lambda *_: (200, {}, b'{"n": 1}')
        assert http.value("GET", "/kept") == {"n": 1}
        scripted.answer = lambda *_: (200, {"Content-Length": "2"}, b"{}")
        assert http.value("POST", "/closes", json={"a": 1}) == {}
    assert len(scripted.asked) == 6
    assert scripted.asked[1][2]["content-type"] == "application/json"


def test_a_redirection_is_followed_without_our_token(
    scripted: Scripted, http_of: Callable[..., Http]
) -> None:
    """A stored file may lie with somebody else; a POST is never sent elsewhere."""
    elsewhere = Scripted()
    elsewhere.answer = lambda *_: (200, {}, b"bytes")
    scripted.answer = lambda *_: (302, {"Location": f"{elsewhere.url}/file"}, b"")
    http = http_of(scripted.url.replace("127.0.0.1", "localhost"), "secret")
    try:
        assert http.request("GET", "/file", params={"a": "b c", "none": None}).content == b"bytes"
        assert scripted.asked[0][1] == "/file?a=b+c"
        assert "authorization" not in elsewhere.asked[0][2]
        assert http.request("POST", "/x", json={}).status_code == 302
        assert len(elsewhere.asked) == 1
    finally:
        http.close()
        elsewhere.close()


def test_plain_http_is_asked_directly_unless_a_proxy_is_set() -> None:
    """TLS and proxies are for the library that knows them."""
    assert takes("http://127.0.0.1:3011/x", {})
    assert takes("http://127.0.0.1:3011/x", {"https_proxy": "http://p", "HTTP_PROXY": ""})
    assert not takes("http://127.0.0.1:3011/x", {"HTTP_PROXY": "http://p"})
    assert not takes("https://127.0.0.1:3011/x", {})
