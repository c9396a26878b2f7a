"""Fixtures of all tests, and the checks that nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres_server as a_postgres_server
from tests.support.processes import Processes, ServerProcess
from tests.support.proxy import FaultProxy
from tests.support.require import require
from tests.support.wait import wait_until

# How fast this machine is just now says nothing about the code.
settings.register_profile(
    "physicsrunner", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("physicsrunner")

# Threads that libraries keep for the life of the process, each with its reason.
KEPT_THREADS = (
    "AnyIO worker thread",  # anyio ends idle workers with their event loop, a little later
    "asyncio_",  # the loop's default executor, shut down with the loop
    "execnet",  # pytest-xdist's line to its master
)

# Warnings of libraries that are no errors, each with its reason.
KEPT_WARNINGS = (
    # watchdog, where a folder appears while it sets up: it watches it twice and says so
    "ignore:Callback with id:RuntimeWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Except the warnings above from the rule that warnings are errors."""
    for line in KEPT_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with the tests of minutes, one each: begun last, all wait for them."""
    workers = getattr(config, "workerinput", {}).get("workercount", 0)
    if not workers:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    share = (len(items) + len(slow)) // workers  # each worker is given as many in turn
    for place, item in enumerate(slow):
        items.insert(place % workers * share + place // workers, item)


def _leaked(before: set[int | None]) -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.ident not in before and not thread.name.startswith(KEPT_THREADS)
    ]


@pytest.fixture(autouse=True)
def no_thread_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = {thread.ident for thread in threading.enumerate()}
    yield
    if _leaked(before):
        wait_until(
            lambda: not _leaked(before),
            timeout=20.0,
            on_timeout=lambda: f"{request.node.nodeid} leaves threads: {_leaked(before)}",
        )


@pytest.fixture
def processes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Start real processes; all of them end with the test."""
    if "postgres" in request.fixturenames:
        request.getfixturevalue("postgres")  # it is there until their databases were checked
    folder = tmp_path / "processes"
    folder.mkdir()
    owner = Processes(folder)
    yield owner
    owner.close()


@pytest.fixture
def server(processes: Processes) -> ServerProcess:
    """A running ``physicsrunner server`` of this test alone."""
    return processes.server()


@pytest.fixture(scope="module")
def standing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for those tests of one file that leave each other alone."""
    owner = Processes(tmp_path_factory.mktemp("server"))
    yield owner.server()
    owner.close()


@pytest.fixture
def shared_server(standing_server: ServerProcess) -> ServerProcess:
    """The running server of this file: a start costs more than most tests."""
    if not standing_server.alive:  # a test killed it and failed
        standing_server.restart()
    return standing_server


@pytest.fixture
def proxy_for() -> Iterator[Callable[[int], FaultProxy]]:
    """Give proxies in front of ports of 127.0.0.1; they are closed with the test."""
    proxies: list[FaultProxy] = []

    def make(port: int) -> FaultProxy:
        proxy = FaultProxy(port)
        proxies.append(proxy)
        return proxy

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process; started when first used."""
    with a_postgres_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test alone."""
    yield postgres_server.fresh()
    postgres_server.drop()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with JetStream of this test alone; it can be killed and restarted."""
    require("nats-server")
    server = NatsServer(tmp_path / "nats")
    yield server
    server.close()
