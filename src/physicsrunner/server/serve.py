"""
A server on a socket and a data folder: what `physicsrunner server` and `up` start.

Promises: one server for a data folder (a lock that its process holds and that dies with it); the
port is taken before the database is opened, so two servers never share one; the line
``listening on http://HOST:PORT`` (https with a certificate) is printed when requests are taken;
`stop` ends it within a few seconds, with requests in hand finished or cut cleanly. It installs no
signal handler: that is the command's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvicorn

from physicsrunner.errors import DataLocked, PortTaken, UsageError
from physicsrunner.server import tls
from physicsrunner.server.app import Application, create_app
from physicsrunner.server.limits import Limits
from physicsrunner.server.protocol import BodyProtocol
from physicsrunner.server.websocket_protocol import WebSocketProtocol
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import Services, build

GRACE_S: Final = 3  #: for requests in hand when the server is asked to end
KEEP_ALIVE_S: Final = 120  #: longer than a runner is silent, so that its connection is there
BACKLOG: Final = 2048
SHAKESCENARIO: Final = "shakescenario"
SHAKESCENARIO_PORT: Final = 6000  #: where nobody chose one
WS_MESSAGE: Final = 128 * 1024  #: bytes of one message of a viewer, before any door looks at it
WS_PING_S: Final = 20.0

#: Objects made between two looks for rings of garbage, and how often older ones are looked at.
GARBAGE: Final = (10_000, 20, 10)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a server keeps its data and where it listens, and what its operator decided."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 3011  #: 0: any free one, as those of doors that speak TCP then are by default
    options: ServerOptions = field(default_factory=ServerOptions)


class RunningServer(uvicorn.Server):
    """uvicorn's server, told where to announce itself and how to end our live connections."""

    def __init__(
        self, config: uvicorn.Config, application: Application, announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._application = application
        self._announce = announce

    def stop(self) -> None:
        """Ask the server to end; may be called in a signal handler and from any thread."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command that started us."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: those who wait for events first, or they would hold us up to the last second."""
        await self._application.begin_stopping()
        await super().shutdown(sockets)


class ReadyServer:
    """A server with its folder, port and services; `run` serves until `stop`."""

    def __init__(
        self,
        services: Services,
        server: RunningServer,
        sock: socket.socket,
        url: str,
        certificate: tls.Certificate | None,
        doors: Mapping[str, socket.socket],
    ) -> None:
        self.services = services
        self.url = url
        #: Where the doors are that speak TCP.
        self.doors = {name: address_of(sock) for name, sock in doors.items()}
        #: What a client has to trust beside the machine's authorities: a self-signed certificate.
        self.ca = certificate.cert if certificate and certificate.self_signed else None
        self.stop = server.stop
        self._server = server
        self._socket = sock

    def run(self) -> None:
        """Serve; returns when it was stopped and all is flushed."""
        self._server.run(sockets=[self._socket])

    @property
    def started(self) -> bool:
        """Whether it takes requests."""
        return self._server.started


def settle() -> None:
    """
    Tell the interpreter that this process serves from now on; called once, when all is loaded.

    Half a million objects of imported modules stay for ever. Looking at them again and again for
    garbage was a fifth of the time that a batch of 10,000 runs took.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


@contextlib.contextmanager
def ready(
    place: Place,
    *,
    on_listening: Callable[[str], None] = lambda _url: None,
    limits: Limits | None = None,
    now: Callable[[], float] = time.time,
) -> Iterator[ReadyServer]:
    """
    Lock the folder, take the port, open the services; close all of it at the end.

    Parameters
    ----------
    on_listening
        Called with the server's address when it takes requests.

    Raises
    ------
    DataLocked, PortTaken
        When another server is there.
    ConfigError
        When the certificate or its key cannot be used.
    """
    certificate = tls.load(place.options.tls_cert, place.options.tls_key, now=now())
    for warning in certificate.warnings if certificate else ():
        _LOG.warning("%s", warning)
    make_private(place.data)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(place.data))
        sock = stack.enter_context(contextlib.closing(_bound(place.host, place.port)))
        url = url_of(sock, certificate)
        doors = _bound_doors(place)
        for door in doors.values():
            stack.enter_context(contextlib.closing(door))
        services = build(place.data, now=now, options=place.options)
        stack.callback(services.close)
        application = create_app(services, limits=limits, sockets=doors)
        config = _config(application, place.options, certificate)
        server = RunningServer(config, application, lambda: on_listening(url))
        yield ReadyServer(services, server, sock, url, certificate, doors)


def _config(
    application: Application, options: ServerOptions, certificate: tls.Certificate | None
) -> uvicorn.Config:
    config = uvicorn.Config(
        application.asgi,
        http=BodyProtocol,
        ws=WebSocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=WS_MESSAGE,
        ws_ping_interval=WS_PING_S,  # half-open lines of /ws; socket.io has its own besides
        ws_ping_timeout=WS_PING_S,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
        # Without a proxy that we know, a header says nothing: anybody can send one.
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=list(options.trusted_proxies),
    )
    config.load()
    if certificate is not None:
        config.ssl = tls.context_of(certificate)
    return config


def make_private(folder: Path) -> None:
    """Make *folder* (mode 0700 when it is new); raise `UsageError` if that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the data folder {folder} cannot be used: {error.strerror}") from None


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    handle = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DataLocked(f"the server with pid {other} uses {data}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UsageError(f"{host}:{port} is not an address to listen on: {error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"{host}:{port} is taken") from None
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


def _bound_doors(place: Place) -> dict[str, socket.socket]:
    """
    Return the sockets of the doors that speak TCP, by the door's name.

    A port that nobody chose and that is taken is done without: who starts a server twice on one
    machine need not know of this door.
    """
    options = place.options
    if SHAKESCENARIO not in options.doors:
        return {}
    host, port = options.shakescenario_host or place.host, options.shakescenario_port
    if port is None:
        port = SHAKESCENARIO_PORT if place.port else 0
    try:
        return {SHAKESCENARIO: _bound(host, port)}
    except UsageError as error:
        why = f"the shakescenario door: {error}"
        if options.shakescenario_port is not None:
            raise type(error)(f"{why} (setting shakescenario_port)") from None
        _LOG.warning("%s; it stays closed (another port: setting shakescenario_port)", why)
        return {}


def address_of(sock: socket.socket) -> str:
    """Return the address, HOST:PORT, under which a bound socket is reached from this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(sock: socket.socket, certificate: tls.Certificate | None = None) -> str:
    """Return the address under which a bound socket is reached from this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        host = "127.0.0.1"
    if certificate is not None:
        host = certificate.host_for(host)
    scheme = "http" if certificate is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
