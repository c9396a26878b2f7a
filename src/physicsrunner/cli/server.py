"""`physicsrunner server`: the server alone."""

from __future__ import annotations

import getpass
import logging
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.errors import MissingExtra

if TYPE_CHECKING:
    from physicsrunner.config import Settings
    from physicsrunner.server.serve import Place, ReadyServer
    from physicsrunner.service.options import ServerOptions

#: Options of every command that starts a server.
DATA = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of runs, files and database.",
)
# Called "listen" inside: "host" is the server that a command talks to.
LISTEN = click.option(
    "--host", "listen", metavar="ADDRESS", help="Address to listen on; default: 127.0.0.1."
)
PORT = click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; default: 3011; 0: any free one."
)
_FILE = click.Path(path_type=Path, dir_okay=False)
TLS_CERT = click.option(
    "--tls-cert", metavar="FILE", type=_FILE, help="Certificate (PEM): speak https."
)
TLS_KEY = click.option(
    "--tls-key", metavar="FILE", type=_FILE, help="Its private key (PEM), without a password."
)


@make_command("server", server=False)
@DATA
@LISTEN
@PORT
@TLS_CERT
@TLS_KEY
@click.option("--systemd-unit", is_flag=True, help="Print a systemd unit for this, and end.")
def command(
    call: Invocation,
    data: Path | None,
    listen: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    systemd_unit: bool,
) -> None:
    """
    Start the server alone; Ctrl-C or SIGTERM ends it.

    The first start makes a signing key and an admin token in the data folder and says where.
    """
    serve = serving()
    place = place_of(call, data, listen, port, tls_cert, tls_key)
    if systemd_unit:
        _print_unit(place)
        return
    log_to_stderr(debug=call.debug)

    def listening(_url: str) -> None:
        greet(call, server, place)

    with (
        serve.ready(place, on_listening=listening) as server,
        stopped_by_signals(server.stop),
    ):
        serve.settle()
        server.run()
    call.screen.note("the server has ended")


def _print_unit(place: Place) -> None:
    from physicsrunner.agent.systemd import server_unit

    options = ["--data", str(place.data), "--host", place.host, "--port", str(place.port)]
    for name, path in (("cert", place.options.tls_cert), ("key", place.options.tls_key)):
        if path is not None:
            options += [f"--tls-{name}", str(path.absolute())]
    click.echo(server_unit(options, getpass.getuser()), nl=False)


def serving() -> ModuleType:
    """Return the module that serves, or say which extra is missing."""
    with server_extra():
        from physicsrunner.server import serve
    return serve


@contextmanager
def server_extra() -> Iterator[None]:
    """Say which extra is missing when what the block imports is not installed."""
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.startswith("physicsrunner"):
            raise
        raise MissingExtra(
            f"the server needs {error.name}: pip install 'physicsrunner[server]'"
        ) from None


def place_of(
    call: Invocation,
    data: Path | None,
    listen: str | None = None,
    port: int | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> Place:
    """Return folder, address and the operator's decisions: of the options, else of the settings."""
    from physicsrunner.server.serve import Place

    settings = call.settings
    return Place(
        data=(data or settings.data).expanduser().absolute(),
        host=listen or settings.host,
        port=settings.port if port is None else port,
        options=options_of(settings, tls_cert, tls_key),
    )


def options_of(
    settings: Settings, tls_cert: Path | None = None, tls_key: Path | None = None
) -> ServerOptions:
    """Return what the operator decided, in the words of the services."""
    from physicsrunner.config import NOTHING
    from physicsrunner.service.options import DEFAULT_DOORS, Keep, ServerOptions

    return ServerOptions(
        database=settings.database,
        max_concurrent_runs=settings.max_concurrent_runs,
        keep=Keep(settings.retention_days, settings.retention_runs),
        inputs_days=settings.retention_inputs_days,
        audit_days=settings.audit_days,
        lease_s=settings.lease_s,
        grace_s=settings.grace_s,
        nats=settings.nats,
        webhook_private=settings.webhook_private,
        trusted_proxies=settings.trusted_proxies,
        doors=DEFAULT_DOORS if settings.doors is None else settings.doors,
        door_user=None if settings.door_user == NOTHING else settings.door_user,
        shakescenario_port=settings.shakescenario_port,
        shakescenario_model=settings.shakescenario_model,
        shakescenario_folder=_absolute(settings.shakescenario_folder),
        ath_model=settings.ath_model,
        ath_max_concurrent_runs=settings.ath_max_concurrent_runs,
        architech_model=settings.architech_model,
        architech_design_url=settings.architech_design_url,
        architech_mapping=settings.architech_mapping,
        cors_origins=settings.cors_origins,
        tls_cert=tls_cert or settings.tls_cert,
        tls_key=tls_key or settings.tls_key,
    )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def greet(call: Invocation, server: ReadyServer, place: Place) -> None:
    """Say where the server is and how to log in. The first line is what programs wait for."""
    from physicsrunner.server.doors.local import is_loopback

    screen, url = call.screen, server.url
    secret, token = place.data / "secret.key", place.data / "admin.token"
    if screen.as_json:
        known = {"listening": url, "data": place.data, "secret": secret, "admin_token": token}
        tcp = {f"{name}_address": address for name, address in server.doors.items()}
        screen.line({**known, "database": database_of(place), **tcp})
        return
    screen.text(f"listening on {url}")
    screen.text(f"  data         {place.data}")
    screen.text(f"  database     {database_of(place)}")
    screen.text(f"  signing key  {secret} (mode 0600)")
    screen.text(f"  admin token  {token} (mode 0600)")
    quoted = shlex.quote(str(token))
    screen.text(f"  log in       physicsrunner login {url} --token-file {quoted}")
    screen.text(f"  description  {url}/docs")
    for name, address in server.doors.items():
        screen.text(f"  {name}  {address} (TCP)")
    if not is_loopback(place.host):
        screen.text(f"  open to      other machines, at every address that {place.host} stands for")
        if place.options.tls_cert is None:
            screen.text("               NOT encrypted: --tls-cert, or docs/reverse-proxy.md")


def database_of(place: Place) -> str:
    """Return which database it is, without its user, password and parameters."""
    if not place.options.database:
        return "SQLite in the data folder"
    parts = urlsplit(place.options.database)
    where = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme.partition('+')[0]}://{where}{parts.path}"


def log_to_stderr(*, debug: bool) -> None:
    """Have this process's log on standard error: warnings, with --debug all."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("physicsrunner")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    handler.addFilter(_without_queries)
    web = logging.getLogger("uvicorn")
    web.addHandler(handler)
    web.setLevel(logging.INFO if debug else logging.WARNING)


def _without_queries(record: logging.LogRecord) -> bool:
    """Cut what stands behind the ? of addresses that were asked for: it may be a token."""
    if record.name.startswith("uvicorn"):
        record.msg, record.args = re.sub(r"\?[^\s\"]*", "?...", record.getMessage()), ()
    return True


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call *stop* at SIGTERM and SIGINT; restore the handlers afterwards."""

    def heed(_number: int, _frame: object) -> None:
        stop()

    before = {number: signal.signal(number, heed) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
