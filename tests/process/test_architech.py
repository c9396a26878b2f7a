"""The architech door with real processes: a design service and a server that are killed."""

from __future__ import annotations

import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.wire import rest
from tests.contract.architech_house import BRIDGE, MAPPING, SIMULATIONS, Line
from tests.support.design_service import keep_design
from tests.support.processes import LISTENING, Processes, ServerProcess, Started
from tests.support.wait import wait_until

MAIN = """\
import json, pathlib
parameters = json.loads(pathlib.Path("../inputs/parameters.json").read_text())
print("span", parameters["span_m"], flush=True)
"""


class DesignProcess:
    """The design service, which can be killed and started again on its port."""

    def __init__(self, processes: Processes) -> None:
        self.folder = processes.folder / "designs"
        self.port = processes.port()
        self._processes = processes
        keep_design(self.folder, "bridge-7", BRIDGE)
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had."""
        argv = [sys.executable, "-m", "tests.support.design_service"]
        argv += [str(self.port), str(self.folder)]
        root = Path(__file__).parents[2]
        self.started: Started = self._processes.start(argv, name="designs", cwd=root)
        wait_until(
            lambda: LISTENING.search(self.started.log.read_bytes()), on_timeout=self.started.story
        )

    def kill(self) -> None:
        """End it as a power cut would."""
        self.started.kill()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


class House:
    """A server with the door, and a design service."""

    def __init__(self, processes: Processes) -> None:
        self.designs = DesignProcess(processes)
        mapping = processes.folder / "mapping.yaml"
        mapping.write_text(MAPPING)
        self.server: ServerProcess = processes.server(
            None,
            PHYSICSRUNNER_DOORS="architech",
            PHYSICSRUNNER_ARCHITECH_DESIGN_URL=self.designs.url,
            PHYSICSRUNNER_ARCHITECH_MAPPING=str(mapping),
        )
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self.server.token}"
        bundle = processes.folder / "model.zip"
        with zipfile.ZipFile(bundle, "w") as archive:
            archive.writestr("main.py", MAIN)
        path = f"{rest.MODELS}?name=demo"
        self.call("POST", path, data=bundle.read_bytes()).raise_for_status()

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Make one request."""
        return self.session.request(method, self.server.url + path, timeout=60, **kwargs)

    def start(self, **more: Any) -> requests.Response:
        """Ask for a simulation."""
        body = {"design_id": "bridge-7", "user_id": "ada", **more}
        return self.call("POST", f"{SIMULATIONS}/start", json=body)

    def show(self, run: str) -> Any:
        """Return a run as the door shows it."""
        return self.call("GET", f"{SIMULATIONS}/{run}").json()


@pytest.fixture
def house(processes: Processes) -> Iterator[House]:
    made = House(processes)
    yield made
    made.session.close()


def test_a_design_service_that_is_killed_and_comes_back(house: House) -> None:
    """A clear 503 while it is away, at once when that is known, and all is well again after it."""
    assert house.start().status_code == 200
    house.designs.kill()
    for _ in range(3):
        answer = house.start()
        assert (answer.status_code, answer.json()["code"]) == (503, "design_service_away")
        assert "cannot be reached" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
    answer = house.start()
    assert answer.status_code == 503
    assert "left alone for" in answer.json()["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    house.designs.start()
    asked = house.designs.folder / "asked"
    before = asked.read_text()
    assert house.start().status_code == 503  # it is not asked before its time
    assert asked.read_text() == before
    wait_until(lambda: house.start().status_code == 200, interval=0.5)
    assert len(house.call("GET", f"{SIMULATIONS}?user_id=ada").json()) == 2


def test_the_others_are_served_while_the_design_service_hangs(house: House) -> None:
    """Starts that wait for it take nobody else's thread."""
    (house.designs.folder / "mode").write_text("hang")
    codes: list[int] = []

    def one() -> None:
        with requests.Session() as session:
            session.headers.update(house.session.headers)
            body = {"design_id": "bridge-7", "user_id": "ada"}
            path = f"{house.server.url}{SIMULATIONS}/start"
            codes.append(session.post(path, json=body, timeout=120).status_code)

    threads = [threading.Thread(target=one) for _ in range(60)]
    for thread in threads:
        thread.start()
    asked = house.designs.folder / "asked"
    wait_until(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 30)
    assert house.call("GET", SIMULATIONS).status_code == 200
    assert codes == []  # all of them still wait
    (house.designs.folder / "mode").write_text("503")
    house.designs.kill()  # all that hang are let go
    for thread in threads:
        thread.join(60)
    assert codes == [503] * 60


def test_the_state_survives_a_server_that_is_killed(house: House) -> None:
    """Runs, their words, their designs and users, and what a key stood for."""
    key = {"Idempotency-Key": "one click"}
    body = {"design_id": "bridge-7", "user_id": "ada"}
    first = house.call("POST", f"{SIMULATIONS}/start", json=body, headers=key).json()
    held = house.start().json()
    stopped = house.start(user_id="bob").json()
    assert house.call("POST", f"{SIMULATIONS}/{held['id']}/pause").json() is True
    assert house.call("POST", f"{SIMULATIONS}/{stopped['id']}/stop").json() is True
    before = house.call("GET", SIMULATIONS).json()
    house.server.kill()
    house.designs.kill()
    house.server.restart()
    assert house.call("GET", SIMULATIONS).json() == before
    assert house.show(stopped["id"])["status"] == "FAILED"
    again = house.call("POST", f"{SIMULATIONS}/start", json=body, headers=key)
    assert (again.status_code, again.json()) == (200, first)
    assert [run["user_id"] for run in house.call("GET", f"{SIMULATIONS}?user_id=bob").json()] == [
        "bob"
    ]


def test_a_simulation_from_start_to_end(house: House, processes: Processes) -> None:
    """A client starts it, hears its states, its progress and its log, and reads how it ended."""
    run = house.start().json()["id"]
    line = Line(house.server.url, "page", f"?token={house.server.token}")
    try:
        line.subscribe(run)
        processes.python(
            "agent",
            *("--host", house.server.url, "--token", house.server.token),
            *("--work", str(processes.folder / "work"), "--slots", "1"),
            name="agent",
        )
        wait_until(
            lambda: [m for m in line.of("status") if m["status"] == "COMPLETED"],
            timeout=60,
            on_timeout=lambda: line.messages,
        )
        text = "".join(message["data"]["text"] for message in line.of("log"))
        assert "span 42.5" in text
        words = [message["status"] for message in line.of("status")]
        assert words[0] == "RUNNING"
        found = house.show(run)
        assert (found["status"], found["end_time"] is not None) == ("COMPLETED", True)
    finally:
        line.close()


def test_a_wrong_mapping_keeps_the_server_from_starting(processes: Processes) -> None:
    """With an exit status, and the file, the line and the key that are wrong."""
    mapping = processes.folder / "mapping.yaml"
    mapping.write_text("model: demo\nparameters:\n  span_m: {path: a, scale: big}\n")
    told = processes.cli(
        "server",
        *("--data", str(processes.folder / "data"), "--port", "0"),
        check=False,
        PHYSICSRUNNER_DOORS="architech",
        PHYSICSRUNNER_ARCHITECH_MAPPING=str(mapping),
    )
    assert told.returncode == 2
    assert "mapping.yaml, line 3: parameters.span_m.scale: is a number" in told.stderr
