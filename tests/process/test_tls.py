"""The server over https, with real certificates: everybody verifies, nobody speaks plainly."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from physicsrunner.client.client import Client
from physicsrunner.client.live import Feed
from physicsrunner.client.trust import VARIABLES
from physicsrunner.errors import ServerUnavailable
from tests.support.cases import make_case
from tests.support.certificates import Pair, self_signed, signed
from tests.support.processes import Processes, Started
from tests.support.wait import wait_until

LISTENING = re.compile(r"listening on (https?://\S+)")
BIG = 9 * 1024 * 1024 + 17  # several frames, and no power of two


def serve(processes: Processes, data: Path, pair: Pair, command: str = "server") -> str:
    """Start a server with *pair*; return its address."""
    more = ["--no-login"] if command == "up" else []
    started = processes.python(
        *(command, "--data", str(data), "--port", "0", *more),
        *("--tls-cert", str(pair.cert), "--tls-key", str(pair.key)),
        name=command,
    )
    return listening(started)


def listening(started: Started) -> str:
    """Wait until a server takes requests; return its address."""

    def line() -> str | None:
        assert started.alive, started.story()
        found = LISTENING.search(started.output())
        return found[1] if found else None

    found = wait_until(line, timeout=60.0, on_timeout=started.story)
    assert found
    return found


def everything(sock: socket.socket) -> bytes:
    """Read until the other side closes, or resets."""
    found = b""
    try:
        while data := sock.recv(4096):
            found += data
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A server's certificate, signed by an authority that nobody knows."""
    return signed(tmp_path, "127.0.0.1", "localhost")


@pytest.mark.parametrize("variable", ["PHYSICSRUNNER_CA", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_run_arrives_over_tls(
    processes: Processes, tmp_path: Path, pair: Pair, variable: str
) -> None:
    """A run with a large file, carried out here and delivered to an https server, is whole."""
    data = tmp_path / "data"
    url = serve(processes, data, pair)
    assert url.startswith("https://127.0.0.1:")
    token = (data / "admin.token").read_text().strip()
    main = f"(files / 'big').write_bytes(bytes(range(251)) * {BIG // 251})"
    case = make_case(tmp_path / "case", main)
    nobody = dict.fromkeys(VARIABLES, "")
    known: dict[str, Any] = {**nobody, variable: str(pair.ca), "PHYSICSRUNNER_TOKEN": token}
    done = processes.cli("run", str(case), "--host", url, "--json", timeout=120, **known)
    assert done.returncode == 0
    runs = processes.cli("list", "--host", url, "--json", **known).json["data"]
    assert [run["status"] for run in runs] == ["completed"]
    target = tmp_path / "back"
    processes.cli("download", str(runs[0]["id"]), "--to", str(target), "--host", url, **known)
    big = next(target.rglob("big"))
    expected = hashlib.sha256(bytes(range(251)) * (BIG // 251)).hexdigest()
    assert hashlib.sha256(big.read_bytes()).hexdigest() == expected


def test_who_is_not_trusted_is_not_talked_to(
    processes: Processes, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its authority a client sends nothing, and says what to set."""
    data = tmp_path / "data"
    url = serve(processes, data, pair)
    token = (data / "admin.token").read_text().strip()
    refused = processes.cli("list", "--host", url, check=False, PHYSICSRUNNER_TOKEN=token)
    assert refused.returncode != 0
    assert "certificate" in refused.stderr
    assert "setting ca" in refused.stderr
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServerUnavailable):
        Feed(url, token, "all")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pair.ca))
    with Feed(url, token, "all") as feed:
        assert feed.next(timeout=0.1) is None


def test_plain_http_is_refused(processes: Processes, tmp_path: Path, pair: Pair) -> None:
    """On the https port no request in plain text is answered; TLS goes on being spoken."""
    url = serve(processes, tmp_path / "data", pair)
    port = urlsplit(url).port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in everything(sock)
    plain = processes.cli("list", "--host", f"http://127.0.0.1:{port}", check=False)
    assert plain.returncode != 0
    answer = requests.get(f"{url}/health", verify=str(pair.ca), timeout=30)
    assert answer.json()["status"] == "ok"


def test_old_tls_is_refused(processes: Processes, tmp_path: Path, pair: Pair) -> None:
    """TLS 1.1 and older are not spoken."""
    url = serve(processes, tmp_path / "data", pair)
    context = ssl.create_default_context(cafile=str(pair.ca))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is why we refuse it
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=20) as sock,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        context.wrap_socket(sock, server_hostname="127.0.0.1")


def test_up_trusts_its_own_certificate(processes: Processes, tmp_path: Path) -> None:
    """`up` with a self-signed certificate carries out a run without a setting."""
    pair = self_signed(tmp_path, "localhost")
    data = tmp_path / "data"
    url = serve(processes, data, pair, "up")
    assert url.startswith("https://localhost:")
    token = (data / "admin.token").read_text().strip()
    case = make_case(tmp_path / "case")
    known: dict[str, Any] = {"PHYSICSRUNNER_CA": str(pair.ca), "PHYSICSRUNNER_TOKEN": token}
    processes.cli("submit", str(case), "--follow", "--host", url, timeout=120, **known)
    shown = processes.cli("show", "1", "--host", url, "--json", **known).json
    assert shown["status"] == "completed"


def test_a_wrong_certificate_ends_the_start(processes: Processes, tmp_path: Path) -> None:
    """Nothing listens; the error names the file; the exit status is that of a wrong setting."""
    started = processes.python(
        *("server", "--data", str(tmp_path / "data"), "--port", "0"),
        *("--tls-cert", str(tmp_path / "absent.pem"), "--tls-key", str(tmp_path / "absent.key")),
    )
    assert started.wait() != 0
    assert "absent.pem cannot be read" in started.output()
    assert "Traceback" not in started.output()


def test_our_python_client_speaks_tls(
    processes: Processes, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`physicsrunner.Client` verifies, and lists runs."""
    data = tmp_path / "data"
    url = serve(processes, data, pair)
    token = (data / "admin.token").read_text().strip()
    for name in VARIABLES:
        monkeypatch.setenv(name, str(pair.ca))
    with Client(url, token) as client:
        assert client.list()["data"] == []
