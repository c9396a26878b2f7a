"""`physicsrunner up`: a server and an agent on this machine."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from physicsrunner.agent.enroll import KEPT
from physicsrunner.cli.agent import CORES, SLOTS
from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.server import (
    DATA,
    LISTEN,
    PORT,
    TLS_CERT,
    TLS_KEY,
    greet,
    log_to_stderr,
    place_of,
    serving,
    stopped_by_signals,
)
from physicsrunner.client.client import Client
from physicsrunner.client.trust import add
from physicsrunner.config import remember
from physicsrunner.errors import AgentRefused, PhysicsRunnerError

if TYPE_CHECKING:
    from physicsrunner.server.serve import Place, ReadyServer

_ADMIN = "admin"  # the person whose token the server makes at its first start
_POLL_S = 2.0  # the server is next door
_END_S = 10.0
_PAUSE_S = 1.0  # until an agent that ended unasked is started again
_LONG_S = 60.0


@make_command("up", server=False)
@DATA
@LISTEN
@PORT
@TLS_CERT
@TLS_KEY
@click.option(
    "--work",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent's work folders; default: DATA/work.",
)
@SLOTS
@CORES
@click.option("--no-login", is_flag=True, help="Do not keep the admin's token in your settings.")
def command(
    call: Invocation,
    data: Path | None,
    listen: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    work: Path | None,
    slots: int | None,
    cores: float | None,
    no_login: bool,
) -> None:
    """
    Start a server and an agent that carries out runs on this machine.

    Every door of other systems' clients is open (docs/doors.md); programs of this machine need no
    token there and act as the admin, unless the settings doors and door_user say otherwise.

    Ctrl-C or SIGTERM ends both. A program that runs is not killed by that: it writes on, and the
    next `physicsrunner up` takes it up again. `physicsrunner cancel` stops a run.
    """
    serve = serving()
    log_to_stderr(debug=call.debug)
    place = _with_doors(call, place_of(call, data, listen, port, tls_cert, tls_key))
    settings: dict[str, Any] = {
        "slots": slots,
        "cores": cores,
        "work": str((work or place.data / "work").expanduser().absolute()),
        "cache": str(call.settings.cache),
        "poll_s": _POLL_S,
    }

    def listening(server: ReadyServer) -> None:
        if not no_login:
            remember(server.url, _admin(place.data))
        greet(call, server, place)

    both(serve, place, settings, listening)
    call.screen.note("server and agent have ended")


def both(
    serve: ModuleType,
    place: Place,
    settings: dict[str, Any],
    listening: Callable[[ReadyServer], None],
) -> None:
    """
    Serve at *place*, with an agent beside it, until a signal ends both.

    Parameters
    ----------
    settings
        Of the agent, but for the server.
    listening
        Called when the server takes requests.
    """
    begin = threading.Event()

    def announced(url: str) -> None:
        settings.update(server=url)
        listening(server)
        begin.set()

    with (
        serve.ready(place, on_listening=announced) as server,
        _agent(settings, place.data, begin),
        stopped_by_signals(server.stop),
    ):
        if server.ca:  # the agent is our child: it trusts our own certificate
            add(server.ca, place.data / "trusted.pem")
        serve.settle()
        server.run()


def _with_doors(call: Invocation, place: Place) -> Place:
    """Return *place* with every door open to programs of this machine, unless settings say."""
    from physicsrunner.core.run import DOORS

    wanted: dict[str, Any] = {}
    if call.settings.doors is None:
        wanted["doors"] = DOORS
    if call.settings.door_user is None:
        wanted["door_user"] = _ADMIN
    return replace(place, options=replace(place.options, **wanted))


@contextmanager
def _agent(settings: dict[str, Any], data: Path, begin: threading.Event) -> Iterator[None]:
    """Keep an agent process running from *begin* on; end it with the block."""
    ending = threading.Event()
    children: list[subprocess.Popen[str]] = []

    def keep() -> None:
        begin.wait()
        pause = _PAUSE_S
        known = (Path(settings["work"]) / KEPT).exists()
        while not ending.is_set():
            # Whom the server does not know, or knows no more (its data are new), is enrolled.
            child = _start(settings if known else {**settings, **_one_time(settings, data)})
            children[:] = [child]
            if ending.is_set():
                _end(child)
            began = time.monotonic()
            known = child.wait() != AgentRefused.exit_code
            # One that ends unasked is started again, not in a tight loop.
            pause = _PAUSE_S if time.monotonic() - began > _LONG_S else min(2 * pause, _LONG_S)
            ending.wait(pause)

    keeper = threading.Thread(target=keep, name="agent", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ending.set()
        begin.set()
        for child in children:
            _end(child)
        keeper.join(_END_S)


def _admin(data: Path) -> str:
    return (data / "admin.token").read_text(encoding="utf-8").strip()


def _one_time(settings: dict[str, Any], data: Path) -> dict[str, str]:
    """Return a token by which the agent enrolls; from then on it has one of its own."""
    name = settings.get("name") or socket.gethostname()
    try:
        with Client(settings["server"], _admin(data)) as client:
            return {"name": name, "enroll_token": str(client.enroll_token(name)["token"])}
    except (PhysicsRunnerError, OSError) as error:
        logging.getLogger(__name__).error("the agent cannot be enrolled: %s", error)
        return {}


def _start(settings: dict[str, Any]) -> subprocess.Popen[str]:
    """
    Start the agent in a process of its own.

    Its standard input carries its settings (nobody sees the token) and stays open as long as we
    live: its end, however we end, is the agent's end. Ctrl-C reaches us alone: it is in a session
    of its own.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "physicsrunner.agent"],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        child.stdin.write(json.dumps(settings) + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended already; whoever waits for it sees that
    return child


def _end(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        try:
            child.stdin.close()
        except BrokenPipeError:
            return
