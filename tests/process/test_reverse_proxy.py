"""Behind nginx, with the very configuration of docs/reverse-proxy.md."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from physicsrunner.client.live import Feed
from physicsrunner.client.trust import VARIABLES
from physicsrunner.wire import rest
from tests.support.cases import make_case
from tests.support.certificates import Pair, signed
from tests.support.nginx import Nginx
from tests.support.processes import Processes, ServerProcess
from tests.support.require import require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reverse-proxy.md"
MEGABYTES = 50
BIG = f"""
import random
chance = random.Random(7)
with (files / "big").open("wb") as file:
    for _ in range({MEGABYTES}):
        file.write(chance.randbytes(1_000_000))
print("written")
"""


class Behind:
    """A server behind nginx."""

    def __init__(self, server: ServerProcess, url: str, pair: Pair) -> None:
        self.server = server
        self.url = url
        self.ca = str(pair.ca)
        self.environment: dict[str, Any] = {
            **dict.fromkeys(VARIABLES, ""),
            "PHYSICSRUNNER_CA": self.ca,
            "PHYSICSRUNNER_SERVER": url,
            "PHYSICSRUNNER_TOKEN": server.token,
        }

    def get(self, path: str, **headers: str) -> requests.Response:
        """Ask through nginx."""
        known = {"Authorization": f"Bearer {self.server.token}", **headers}
        session = requests.Session()
        session.trust_env = False
        with session:
            return session.get(self.url + path, headers=known, verify=self.ca, timeout=60)


@pytest.fixture
def behind(processes: Processes, tmp_path: Path) -> Iterator[Behind]:
    """A server that trusts 127.0.0.1, behind nginx with the page's configuration."""
    require("nginx")
    server = processes.server(PHYSICSRUNNER_TRUSTED_PROXIES="127.0.0.1")
    pair = signed(tmp_path, "localhost", "127.0.0.1")
    port = processes.port()
    nginx = Nginx(tmp_path / "nginx", configuration(server.port, port, pair), port)
    yield Behind(server, f"https://127.0.0.1:{port}", pair)
    nginx.close()


def configuration(server: int, port: int, pair: Pair) -> str:
    """Take the configuration out of the page, with other ports and paths."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    text = found[1]
    for old, new in (
        ("server 127.0.0.1:3011;", f"server 127.0.0.1:{server};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/certs/flow.example.org.pem", str(pair.cert)),
        ("/etc/ssl/private/flow.example.org.key", str(pair.key)),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_a_run_goes_through_the_proxy(
    processes: Processes, tmp_path: Path, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is submitted, carried out and delivered through nginx, 50 MB of files with it."""
    for name in VARIABLES:
        monkeypatch.setenv(name, behind.ca)
    case = make_case(tmp_path / "case", BIG)
    with Feed(behind.url, behind.server.token, "all") as feed:
        done = processes.cli(
            *("run", str(case), "--host", behind.url), timeout=180, **behind.environment
        )
        assert "not delivered" not in done.stderr
        seen: list[str] = []
        run = ""
        while "simulation/completed" not in seen:
            event = feed.next(timeout=30)
            assert event is not None, seen
            seen.append(event.type)
            run = event.run or ""
    listed = behind.get(f"{rest.simulation(run)}/artifacts").json()["data"]
    (big,) = [file for file in listed if file["path"].endswith("/big")]
    assert big["size"] == MEGABYTES * 1_000_000
    path = rest.artifact(run, big["path"])
    whole = behind.get(path)
    assert hashlib.sha256(whole.content).hexdigest() == big["sha256"]
    part = behind.get(path, Range="bytes=1000000-1000099")
    assert part.status_code == 206
    assert part.content == whole.content[1_000_000:1_000_100]


def test_a_queued_run_is_told_through_the_proxy(
    processes: Processes, tmp_path: Path, behind: Behind
) -> None:
    """A submitted run is told over /ws; the counters are not shown to the world."""
    case = make_case(tmp_path / "case")
    url = behind.url.replace("https", "wss") + "/ws"
    with closing(
        websocket.create_connection(url, timeout=30, sslopt={"ca_certs": behind.ca})
    ) as line:
        line.send(json.dumps({"type": "auth", "token": behind.server.token}))
        line.send(json.dumps({"type": "subscribe", "room": "all"}))
        heard = [json.loads(line.recv())["type"] for _ in range(2)]
        assert heard == ["ready", "subscribed"]
        processes.cli("submit", str(case), **behind.environment)
        told = [json.loads(line.recv())["type"] for _ in range(2)]
        assert told == ["model/added", "simulation/requested"]
    assert behind.get(rest.SIMULATIONS).json()["data"][0]["status"] == "queued"
    assert behind.get("/metrics").status_code == 403


@pytest.mark.parametrize("trusted", [True, False])
def test_a_forwarded_address_is_believed_of_a_trusted_proxy_alone(
    processes: Processes, tmp_path: Path, trusted: bool
) -> None:
    """The address in the audit trail is the caller's; nobody forges it."""
    known = {"PHYSICSRUNNER_TRUSTED_PROXIES": "127.0.0.1"} if trusted else {}
    server = processes.server(None, **known)
    processes.cli("submit", str(make_case(tmp_path / "case")), server=server)
    listed = requests.get(
        server.url + rest.SIMULATIONS,
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=30,
    ).json()["data"]
    requests.post(
        f"{server.url}{rest.simulation(listed[0]['id'])}/cancel",
        headers={
            "Authorization": f"Bearer {server.token}",
            "X-Forwarded-For": "198.51.100.9, 203.0.113.7",
        },
        timeout=30,
    ).raise_for_status()
    with sqlite3.connect(server.data / "physicsrunner.db") as database:
        (origin,) = database.execute(
            "SELECT origin FROM events WHERE type = 'simulation/cancelled'"
        ).fetchone()
    database.close()
    assert origin == ("203.0.113.7" if trusted else "127.0.0.1")
