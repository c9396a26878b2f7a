"""The log on NATS JetStream, and our publishers and listeners, with a real nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from nats.aio.client import Client

from physicsrunner.errors import UsageError
from physicsrunner.events import (
    JobCreatedListener,
    JobCreatedPublisher,
    JobUpdatedListener,
    SimulationStartedListener,
    SimulationStartedPublisher,
)
from physicsrunner.events import base as events_base
from physicsrunner.server import jetstream
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.outbox import OutboxService
from physicsrunner.wire import live
from tests.contract.rest_server import rest_server
from tests.process.test_webhooks import ask, happen
from tests.support.nats import NatsServer
from tests.support.processes import Processes, ServerProcess
from tests.support.wait import wait_until

T = TypeVar("T")


def run(work: Callable[[Client], Awaitable[T]], server: NatsServer) -> T:
    """Carry out *work* with a connected client."""

    async def quiet(_error: Exception) -> None:
        return

    async def all_of_it() -> T:
        client = await nats.connect(
            server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet
        )
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(all_of_it())


async def until(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    """Wait on the event loop until *condition* holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not condition():
        assert loop.time() < end, "it did not come to be"
        await asyncio.sleep(0.02)


def stored(server: NatsServer) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """Return all messages of the stream: subject, payload, headers."""

    async def read(client: Client) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        streams = client.jetstream()
        try:
            state = (await streams.stream_info(live.STREAM)).state
        except nats.js.errors.NotFoundError:
            return []
        found = []
        # A stream that was just made and holds nothing says 0 for both; messages count from 1.
        for number in range(max(1, state.first_seq), state.last_seq + 1):
            message = await streams.get_msg(live.STREAM, number)
            payload = json.loads(message.data or b"null")
            found.append((message.subject or "", payload, dict(message.headers or {})))
        return found

    return run(read, server)


def log_of(server: ServerProcess) -> list[dict[str, Any]]:
    """Return all logged events of a server."""
    found: list[dict[str, Any]] = ask(server, "GET", f"{rest_events()}?limit=1000")["data"]
    return found


def rest_events() -> str:
    return "/api/v1/events"


def agree(nats_server: NatsServer, server: ServerProcess) -> bool:
    """Say whether the stream holds every event of the log once, in order."""
    return [payload for _, payload, _ in stored(nats_server)] == log_of(server)


class Heard(JobUpdatedListener):
    """Keeps what it hears."""

    def __init__(self, client: Client, durable: str | None = None) -> None:
        super().__init__(client, durable=durable)
        self.data: list[Any] = []
        self.fail = 0

    async def on_message(self, data: Any, _msg: Any) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("not yet")
        self.data.append(data)


def test_every_logged_event_is_on_the_stream(processes: Processes, nats_server: NatsServer) -> None:
    """Subject from the type, message id from the event's id, the envelope as payload, in order."""
    server = processes.server(PHYSICSRUNNER_NATS=nats_server.url)
    happen(server, 3)
    wait_until(lambda: agree(nats_server, server), timeout=30)
    for subject, payload, headers in stored(nats_server):
        assert subject == payload["type"].replace("/", ".")
        assert headers[live.MESSAGE_ID] == str(payload["id"])
    assert "simulation.resource.allocated" in {subject for subject, _, _ in stored(nats_server)}


def test_a_server_without_nats_goes_on_and_delivers_later(
    processes: Processes, nats_server: NatsServer
) -> None:
    """NATS is away at the start, is killed -9 and restarted: nothing is lost, nothing twice."""
    nats_server.kill()
    server = processes.server(PHYSICSRUNNER_NATS=nats_server.url)
    happen(server, 3)
    nats_server.start()
    wait_until(lambda: agree(nats_server, server), timeout=60)
    nats_server.kill()
    happen(server, 3)
    server.kill()
    server.restart()
    happen(server, 1)
    nats_server.start()
    happen(server, 3)
    wait_until(lambda: agree(nats_server, server), timeout=60)
    nats_server.restart()
    happen(server, 1)
    wait_until(lambda: agree(nats_server, server), timeout=60)


def test_what_was_published_and_not_noted_is_there_once(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that dies between publishing and writing its cursor publishes again, in vain."""
    monkeypatch.setattr(OutboxService, "passed", lambda *_: None)
    options = ServerOptions(nats=nats_server.url)
    with rest_server(tmp_path / "data", options=options) as server:
        happen(server, 3)
        newest = server.services.events.newest()
        wait_until(lambda: len(stored(nats_server)) == newest, timeout=30)
    monkeypatch.undo()
    with rest_server(tmp_path / "data", options=options) as server:
        assert server.services.outbox.cursor(jetstream.CONSUMER) == 0
        happen(server, 1)
        newest = server.services.events.newest()
        wait_until(lambda: server.services.outbox.cursor(jetstream.CONSUMER) == newest, timeout=30)
    ids = [payload["id"] for _, payload, _ in stored(nats_server)]
    assert ids == list(range(1, newest + 1))


def test_a_listener_that_was_away_gets_all_it_missed_once(
    processes: Processes, nats_server: NatsServer
) -> None:
    """A durable listener hears the server's events, goes, and comes back to what it missed."""
    server = processes.server(PHYSICSRUNNER_NATS=nats_server.url)
    happen(server, 2)

    async def listen(client: Client, expected: int) -> list[Any]:
        heard = Heard(client)
        await heard.listen()
        try:
            await until(lambda: len(heard.data) >= expected)
        finally:
            await heard.close()
        return heard.data

    def runs() -> list[dict[str, Any]]:
        return [event for event in log_of(server) if event["run"] is not None]

    first = run(lambda client: listen(client, len(runs())), nats_server)
    assert first == runs()
    # NATS writes down a moment later what was acknowledged (at its end: all), and what it had not
    # written down when it was killed comes again.
    nats_server.stop()
    nats_server.start()
    happen(server, 3)
    nats_server.restart()
    happen(server, 1)
    missed = run(lambda client: listen(client, len(runs()) - len(first)), nats_server)
    assert first + missed == runs()


def test_a_message_comes_again_when_its_handler_raised(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_message that raised is called again; what was handled is not handled twice."""

    async def work(client: Client) -> list[Any]:
        heard = Heard(client)
        heard.fail = 1
        await heard.listen()
        await heard.listen()  # again is nothing
        publisher = SimulationStartedPublisher(client)
        await publisher.publish({"n": 1}, message_id="one")
        await publisher.publish({"n": 1}, message_id="one")
        await publisher.publish({"n": 2})
        await until(lambda: len(heard.data) == 2)
        await heard.close()
        again = Heard(client)
        await again.listen()
        await publisher.publish({"n": 3})
        await until(lambda: bool(again.data))
        await again.close()
        return heard.data + again.data

    found = run(work, nats_server)
    assert sorted(item["n"] for item in found) == [1, 2, 3]


def test_what_comes_after_a_close_is_given_to_the_next(nats_server: NatsServer) -> None:
    """A listener that is closed while it waits takes no message with it."""

    class Patient(Heard):
        ack_wait = 3600.0  # so late a message would come again

    async def work(client: Client) -> list[Any]:
        heard = Patient(client, "durable")
        await heard.listen()
        streams = client.jetstream()
        while not (await streams.consumer_info(live.STREAM, heard.durable)).num_waiting:
            await asyncio.sleep(0.02)
        await heard.close()
        again = Patient(client, "durable")
        await again.listen()
        await SimulationStartedPublisher(client).publish({"n": 1})
        await until(lambda: bool(again.data))
        await again.close()
        return again.data

    assert run(work, nats_server) == [{"n": 1}]


def test_listener_and_publisher_as_the_published_package_shows(nats_server: NatsServer) -> None:
    """The lines of the package's page: publish a dictionary, hear it under its own kind alone."""

    async def work(client: Client) -> None:
        heard: list[Any] = []

        class MyJobListener(JobCreatedListener):
            async def on_message(self, data: Any, msg: Any) -> None:
                heard.append((data, msg.subject))

        class Other(SimulationStartedListener):
            queue_group_name = "MyJobListener"

            async def on_message(self, _data: Any, _msg: Any) -> None:
                heard.append("wrong")

        publisher = JobCreatedPublisher(client)
        await publisher.publish({"id": "job_123", "status": "created"})
        listener = MyJobListener(client)
        await listener.listen()
        await SimulationStartedPublisher(client).publish({"id": "another"})
        await publisher.publish({"id": "job_124"})
        await until(lambda: len(heard) == 2)
        with pytest.raises(UsageError):
            await Other(client).listen()
        with pytest.raises(UsageError):
            MyJobListener(client, durable="a.b")
        await listener.close()
        assert [data["id"] for data, _ in heard] == ["job_123", "job_124"]
        assert {subject for _, subject in heard} == {"simulation.requested"}

    run(work, nats_server)


def test_a_listener_goes_on_when_nats_was_killed(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 and restart of NATS under a listener: it hears what comes afterwards."""
    monkeypatch.setattr(events_base, "FETCH_S", 1.0)

    async def work(client: Client) -> list[Any]:
        heard = Heard(client)
        await heard.listen()
        publisher = SimulationStartedPublisher(client)
        await publisher.publish({"n": 1})
        await until(lambda: len(heard.data) == 1)
        await asyncio.to_thread(nats_server.restart)
        await until(lambda: client.is_connected)
        await publisher.publish({"n": 2})
        await until(lambda: len(heard.data) == 2)
        await heard.close()
        return heard.data

    assert run(work, nats_server) == [{"n": 1}, {"n": 2}]
