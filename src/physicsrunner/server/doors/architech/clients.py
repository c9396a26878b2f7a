"""
Who is connected to the architech door, by the id that each connection gave itself.

Promises: a client's id belongs to the person who came with it first, for as long as a connection of
theirs has it; they may have several (a page in two tabs), and all of them hear what is sent to it.
A message is put into words once. Nothing here waits. On the event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from starlette.websockets import WebSocket

from physicsrunner.errors import Conflict, PhysicsRunnerError
from physicsrunner.server.bodies import StrictJson
from physicsrunner.server.doors.architech.documents import told
from physicsrunner.server.members import Told, Why
from physicsrunner.server.problems import problem
from physicsrunner.server.rooms import MAX_WAITING
from physicsrunner.server.ws import Listener
from physicsrunner.service.identity import Identity
from physicsrunner.wire import live

_WORDS: Final = "architech"


class Client(Listener):
    """One connection of a client."""

    def __init__(self, identity: Identity, socket: WebSocket, name: str) -> None:
        super().__init__(identity, socket)
        self.name = name

    def tell(self, found: Told) -> None:
        """Queue the event, in words that are made once for all clients."""
        text = found.words.get(_WORDS)
        if text is None:
            text = found.words[_WORDS] = in_words(told(found.event))
        self.put(text)

    def left(self, room: str, error: PhysicsRunnerError) -> None:
        """Queue that the client hears no more of a run, and why."""
        run = room.partition(":")[2]
        self.say({"type": "unsubscribed", "simulation_id": run, "error": problem(error)})


class Clients:
    """All clients of one server."""

    def __init__(self) -> None:
        self._clients: dict[str, set[Client]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def add(self, client: Client) -> None:
        """Take up a connection; raise `Conflict` if another person has its id."""
        there = self._clients.setdefault(client.name, set())
        if any(_person(other) != _person(client) for other in there):
            raise Conflict(f"the client id {client.name!r} is another person's; choose another")
        there.add(client)

    def remove(self, client: Client) -> None:
        """Forget a connection; again is nothing."""
        there = self._clients.get(client.name, set())
        there.discard(client)
        if not there:
            self._clients.pop(client.name, None)

    async def send_to(self, name: str, text: str, may: Callable[[Identity], bool]) -> int:
        """Send *text* to the connections of one client that *may* hear; return to how many."""
        there = self._clients.get(name, ())
        return await _send([client for client in there if may(client.identity)], text)

    async def send_about(self, run: str, text: str) -> int:
        """Send *text* to all who hear of a run; return to how many."""
        room = live.run_room(run)
        return await _send([client for client in self._all() if room in client.rooms], text)

    async def send_to_all(self, text: str) -> int:
        """Send *text* to everybody who is connected; return to how many."""
        return await _send(list(self._all()), text)

    def _all(self) -> Iterable[Client]:
        for there in self._clients.values():
            yield from there


def in_words(message: dict[str, Any]) -> str:
    """Return the JSON text of a message."""
    return StrictJson.dumps(message, separators=(",", ":"))


async def _send(clients: list[Client], text: str) -> int:
    for client in clients:
        client.put(text)
        if client.waiting() > MAX_WAITING:
            await client.send_away(Why.SLOW)  # which waits for nobody
    return len(clients)


def _person(client: Client) -> tuple[str, str]:
    return client.identity.kind, client.identity.subject
