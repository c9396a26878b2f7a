"""
One TCP connection of the ShakeScenario door: bytes in, answers out.

Promises:

- Requests are carried out one after the other, in the order in which they came; a ``wait`` goes on
  beside them, and a ``ping`` is answered at once. Each answer names its request.
- A frame over the limit is refused before it is read; what is no frame is answered by an error,
  after what came before it, and the connection is closed.
- Memory is bounded: nothing is read while too much waits to be carried out, or to be sent, of this
  connection or (`Room`) of all.
- Who begins a frame and does not go on, never says who they are, does not read their answers or is
  silent for long is cut off (`Line.look`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from anyio import to_thread

from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
)
from physicsrunner.server.bodies import dumps
from physicsrunner.server.doors.shakescenario.requests import read
from physicsrunner.server.doors.shakescenario.room import Room
from physicsrunner.wire import frames
from physicsrunner.wire.frames import BadRequest, FrameError, FrameStream, Request

MAX_QUEUED: Final = 64  #: requests of one connection that wait to be carried out
MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
MAX_WAITS: Final = 256  #: of one connection
PONG: Final = b'{"pong":true}'
_OF_WAIT: Final[tuple[str, ...]] = ("id", "job_id", "timeout", "token")  #: no more is kept
_SMALL: Final = 64 * 1024  # bytes of JSON that are read on the event loop
_UNSENT: Final = 1024 * 1024  # bytes of answers above which nothing more is read
_FRESH_S: Final = 5.0  # so long it is remembered that a line may ask without a token

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a connection is waited for, in seconds, and how much is taken from it."""

    frame_s: float = 60.0  #: from the beginning of a frame to its end,
    frame_rate: float = 32 * 1024  #: and one more for each so many bytes of it
    stranger_s: float = 15.0  #: until somebody has said who they are
    idle_s: float = 900.0  #: without a request
    send_s: float = 30.0  #: without a byte of an answer that they take
    linger_s: float = 2.0  #: for the other side to read an error before the line is closed
    limit: int = frames.MAX_MANIFEST  #: bytes of a frame
    stranger_limit: int = _SMALL  #: of a frame of somebody unknown, and of their requests that wait


#: Carries out one request, given the line that it came by; returns its result as JSON. What it
#: enters in the stack lasts until the answer is written.
CarryOut = Callable[["Line", Request, contextlib.AsyncExitStack], Awaitable[bytes]]


class Line(asyncio.Protocol):
    """
    One connection. All its methods are called on the event loop.

    Parameters
    ----------
    carry_out
        What carries out requests.
    ended
        Called when the connection is no more.
    is_open
        Says whether connections between these two addresses need no token.
    patience
        How long it is waited for.
    room
        What all connections may take together.
    """

    def __init__(
        self,
        carry_out: CarryOut,
        ended: Callable[[Line], None],
        is_open: Callable[[str, str], bool],
        patience: Patience,
        room: Room,
    ) -> None:
        self.peer = self.local = ""
        self.token: str | None = None  #: of the operation ``auth``
        self.gone = asyncio.Event()  #: set when there is no connection any more
        self._carry_out = carry_out
        self._ended = ended
        self._is_open = is_open
        self._patience = patience
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._frames = FrameStream(patience.stranger_limit)
        self._queue: deque[tuple[Request | bytes | FrameError, int]] = deque()
        self._queued_bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Task[None]] = set()
        self._sendable = asyncio.Event()
        self._sendable.set()
        self._turn = asyncio.Lock()
        self._ending = False  # nothing more is taken from it
        self._mute = False  # nothing more is said
        self._stranger = True
        self._known_at = -_FRESH_S
        self._made_at = self._heard_at = self._frame_at = self._sent_at = self._loop.time()
        self._unsent = 0

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport = cast("asyncio.Transport", base)  # uvloop's is none by name
        transport.set_write_buffer_limits(high=_UNSENT)
        self.peer, self.local = (
            str((transport.get_extra_info(name) or ("",))[0])[:64]
            for name in ("peername", "sockname")
        )
        _keep_alive(transport.get_extra_info("socket"))
        if self._is_open(self.peer, self.local):
            self._no_stranger()

    def data_received(self, data: bytes) -> None:
        """Take bytes; answer what can be answered at once."""
        if self._ending:
            return  # read and forgotten, so that the error reaches them
        self._heard_at = now = self._loop.time()
        if not self._frames.waiting:
            self._frame_at = now
        out: list[bytes] = []
        try:
            for body in self._frames.feed(data):
                self._frame_at = now
                self._take(body, out)
        except FrameError as error:
            self._ending = True
            self._queue.append((error, 0))
        self._write(b"".join(out))
        self.go_on()

    def eof_received(self) -> bool:
        """Answer what was asked for, then end."""
        self._ending = True
        return not self._is_done()

    def pause_writing(self) -> None:
        """Have nothing more done: they do not read."""
        self._sendable.clear()
        self._sent_at, self._unsent = self._loop.time(), self._to_send()

    def resume_writing(self) -> None:
        """Go on."""
        self._sendable.set()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget what they asked for; what was begun in a thread goes on to its end."""
        self._transport = None
        self._ending = True
        self._queue.clear()
        self._room.hold(self.go_on, 0)
        for task in (self._worker, *self._waits):
            if task is not None:
                task.cancel()
        self.gone.set()
        self._ended(self)

    # -- what the door calls ---------------------------------------------------------------------

    def known(self, *, for_all: bool) -> None:
        """Note that they were let in; *for_all*: what comes without a token would be, too."""
        self._no_stranger()
        if for_all:
            self._known_at = self._loop.time()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until answers can be sent; of all that wait for this, one at a time goes on."""
        async with self._turn:
            await self._sendable.wait()
            yield

    def look(self) -> None:
        """Cut them off if they have kept us waiting too long."""
        if self._transport is None:
            return
        now, patience = self._loop.time(), self._patience
        if self._stranger and now - self._made_at > patience.stranger_s:
            self._drop("it has not said who it is")  # whatever else it does
        elif not self._sendable.is_set() or self._transport.is_closing():
            unsent = self._to_send()
            if unsent < self._unsent:
                self._sent_at, self._unsent = now, unsent
            if now - self._sent_at > patience.send_s:
                self._drop("it does not read its answers")
        elif self._frames.waiting and not self._ending and self._transport.is_reading():
            allowed = patience.frame_s + self._frames.waiting / patience.frame_rate
            if now - self._frame_at > allowed:
                self._drop("it does not end its frame")
        elif self._is_done() and now - self._heard_at > patience.idle_s:
            self._drop("it is silent")

    async def finish(self) -> None:
        """Take nothing more, end what is under way, and close."""
        self._ending = True
        self._queue.clear()
        tasks = {task for task in (self._worker, *self._waits) if task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=self._patience.linger_s)
        self._close()
        try:
            await asyncio.wait_for(self.gone.wait(), self._patience.linger_s)
        except asyncio.TimeoutError:
            self._drop("the server ends")

    # -- requests --------------------------------------------------------------------------------

    def _take(self, body: bytes, out: list[bytes]) -> None:
        """Answer a ping, or have a request wait for its turn."""
        item: Request | bytes = body
        if len(body) <= _SMALL:
            try:
                item = read(body)
            except BadRequest as error:
                out.append(_refusal(error.req_id, error.code, error.message))
                return
            fresh = self._loop.time() - self._known_at < _FRESH_S
            if item.op == "ping" and not item.payload and fresh:
                out.append(_answer(item, PONG))
                return
        self._queue.append((item, len(body)))
        self._queued_bytes += len(body)

    def go_on(self) -> None:
        """Carry out what waits, and read or do not read, as is due."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._room.hold(self.go_on, self._queued_bytes + self._frames.waiting)
        if self._queue and self._worker is None:
            self._worker = self._loop.create_task(self._work())
        most = self._patience.stranger_limit if self._stranger else MAX_QUEUED_BYTES
        full = len(self._queue) > MAX_QUEUED or self._queued_bytes > most
        due = self._sendable.is_set() and not full
        wanted = self._ending or (due and self._room.admits(self.go_on))
        if wanted and not transport.is_reading():
            self._frame_at = self._loop.time()  # the pause was ours
            transport.resume_reading()
        elif not wanted and transport.is_reading():
            transport.pause_reading()

    async def _work(self) -> None:
        """Carry out what waits, one after the other."""
        while self._queue:
            await self._sendable.wait()
            if not self._queue:
                break  # the server ends
            item, size = self._queue.popleft()
            try:
                if isinstance(item, bytes):
                    item = await to_thread.run_sync(read, item, limiter=self._room.readers)
                if isinstance(item, FrameError):
                    raise item
                await self._begin(item)
            except BadRequest as error:
                self._write(_refusal(error.req_id, error.code, error.message))
            except FrameError as error:
                self._worker = None
                self._give_up(error)
                return
            item = b""  # kept no longer than it is counted
            self._queued_bytes -= size
            self.go_on()
        self._worker = None
        self._close_if_done()

    async def _begin(self, request: Request) -> None:
        """Carry out a request; a ``wait`` goes on by itself."""
        if request.op != "wait":
            await self._answer(request)
        elif len(self._waits) < MAX_WAITS:
            kept = {key: request.payload[key] for key in _OF_WAIT if key in request.payload}
            task = self._loop.create_task(self._answer(replace(request, payload=kept)))
            self._waits.add(task)
            task.add_done_callback(self._waited)
        else:
            why = f"{MAX_WAITS} operations wait on this connection, and more it does not take"
            self._write(_refusal(request.req_id, "TOO_MANY_WAITS", why))

    async def _answer(self, request: Request) -> None:
        async with contextlib.AsyncExitStack() as turn:  # until it is written
            self._write(await self._words_of(request, turn))

    async def _words_of(self, request: Request, turn: contextlib.AsyncExitStack) -> bytes:
        try:
            out = _answer(request, await self._carry_out(self, request, turn))
        except BadRequest as error:
            out = _refusal(request.req_id, error.code, error.message)
        except PhysicsRunnerError as error:
            out = _refusal(request.req_id, error.code.upper(), _words(error))
        except Exception:
            _LOG.exception("operation %.40r of the shakescenario door failed", request.op)
            out = _refusal(request.req_id, "INTERNAL", "a fault of the server: see its log")
        return out

    def _waited(self, task: asyncio.Task[None]) -> None:
        self._waits.discard(task)
        self._heard_at = self._loop.time()
        self._close_if_done()

    # -- the line --------------------------------------------------------------------------------

    def _no_stranger(self) -> None:
        if self._stranger:
            self._stranger = False
            self._frames.limit = self._patience.limit

    def _is_done(self) -> bool:
        return not self._queue and self._worker is None and not self._waits

    def _to_send(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if data and transport is not None and not transport.is_closing() and not self._mute:
            transport.write(data)

    def _give_up(self, error: FrameError) -> None:
        """Say why, and close when they have read it: closing at once would take it from them."""
        self._ending = True
        self._queue.clear()
        self._write(_refusal(None, frames.BAD_FRAME, str(error)))
        self._mute = True
        self.go_on()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
        self._loop.call_later(self._patience.linger_s, self._close)

    def _close_if_done(self) -> None:
        if self._ending and self._is_done():
            self._close()

    def _close(self) -> None:
        """Close when all is sent; `look` sees to it that it is taken."""
        if self._transport is not None and not self._transport.is_closing():
            self._sent_at, self._unsent = self._loop.time(), self._to_send()
            self._transport.close()

    def _drop(self, why: str) -> None:
        if self._transport is not None:
            _LOG.info("the line to %s is cut: %s", self.peer, why)
            self._transport.abort()


def _words(error: PhysicsRunnerError) -> str:
    """Say what is wrong, and what to do where that is more than to look again."""
    if type(error) in (InvalidRequest, NotFound, NotAuthenticated, NotAllowed, Conflict):
        return str(error)
    return f"{error}. {error.what_to_do}"


def _answer(request: Request, result: bytes) -> bytes:
    """Return the frame of an answer whose result is the JSON *result*."""
    req_id = json.dumps(request.req_id).encode()
    return frames.frame_of(b'{"v":1,"req_id":%b,"ok":true,"result":%b}' % (req_id, result))


def _refusal(req_id: str | None, code: str, message: str) -> bytes:
    return frames.frame_of(dumps(frames.refusal(req_id, code, message)))


def _keep_alive(sock: Any) -> None:
    """Have the system find out that the other machine is gone, also while it waits."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
