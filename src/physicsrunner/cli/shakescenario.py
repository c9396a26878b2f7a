"""
`shakescenario`: jobs of a ShakeScenario server, from the command line.

Promises: the standard library alone; copied out with ``shakescenario_client.py`` and ``frames.py``
into one folder it works there: ``python3 shakescenario.py ping``. What is answered is printed as
JSON (`list` as a table), a refusal is one line on standard error, and the exit code tells them
apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    from physicsrunner.client import shakescenario_client as client
except ImportError:  # copied out alone, with the client beside it
    import shakescenario_client as client  # type: ignore[import-not-found,no-redef]

TOKEN_VARIABLE = "SHAKESCENARIO_TOKEN"  # noqa: S105 - the name of a variable
_BY_STATUS = {"completed": 0, "failed": 1, "canceled": 3}
_BY_CODE = {
    "NOT_AUTHENTICATED": 5,
    "TOKEN_EXPIRED": 5,
    "NOT_ALLOWED": 5,
    "NOT_FOUND": 6,
    "UNAVAILABLE": 7,
    "STORAGE_FULL": 8,
}
_REFUSED, _NOT_ENDED, _AWAY, _NOT_WRITTEN, _INTERRUPTED = 2, 4, 7, 8, 130
_EXITS = (
    "Exit codes: 0 done; 1 the job failed; 2 refused, or a wrong command; 3 the job was canceled; "
    "4 it has not ended; 5 not allowed; 6 not found; 7 no server; 8 a file could not be written."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out one command (default: the command line of this process) and exit."""
    call = _parser().parse_args(arguments)
    token = call.token or os.environ.get(TOKEN_VARIABLE)
    try:
        with client.ShakeScenario(
            call.host, call.port, timeout=call.server_timeout, token=token
        ) as server:
            sys.exit(call.carry_out(server, call))
    except client.ShakeScenarioError as error:
        _end(str(error), _BY_CODE.get(error.code, _REFUSED))
    except client.ServerAway as error:
        _end(str(error), _AWAY)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read has gone
        sys.exit(1)
    except OSError as error:
        _end(str(error), _NOT_WRITTEN)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _end(why: str, code: int) -> None:
    print(f"shakescenario: {why}", file=sys.stderr)
    sys.exit(code)


# -- commands ------------------------------------------------------------------------------------


def _show(value: Any) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
    return 0


def _ping(server: client.ShakeScenario, _call: argparse.Namespace) -> int:
    return _show(server.ping())


def _submit(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    return _show(server.submit(call.mag, call.lon, call.lat, call.depth, **dict(call.param)))


def _list(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    wanted = {"status": call.status, "limit": call.limit, "offset": call.offset, "all": call.all}
    found = server.list(**{name: value for name, value in wanted.items() if value})
    if call.json:
        return _show(found)
    rows = [["id", "status", "created", "ended", "name"]]
    keys = ("id", "status", "created_at", "ended_at", "name")
    rows += [[str(job.get(key) or "") for key in keys] for job in found["jobs"]]
    widths = [max(len(row[place]) for row in rows) for place in range(len(keys))]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    sys.stdout.flush()
    return 0


def _get(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    return _show(server.get(call.id))


def _wait(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    job = server.wait(call.id, call.timeout)
    _show(job)
    return _BY_STATUS.get(str(job.get("status")), _NOT_ENDED)


def _cancel(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    return _show(server.cancel(call.id))


def _delete(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    return _show(server.delete(call.id))


def _reset(server: client.ShakeScenario, _call: argparse.Namespace) -> int:
    return _show(server.reset())


def _download(server: client.ShakeScenario, call: argparse.Namespace) -> int:
    if call.path is None:
        server.download_all(call.id, call.to, print)
    else:
        print(server.download(call.id, call.path, call.to))
    return 0


# -- what they take ------------------------------------------------------------------------------


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no number that ends")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: seconds are not under 0")
    return value


def _patience(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text}: it is more than 0 seconds")
    return value


def _port(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if not 0 < value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return value


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shakescenario",
        description="Jobs of a ShakeScenario server. What it answers is printed as JSON.",
        epilog=_EXITS,
    )
    _add_where(parser, first=True)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        carry_out: Callable[[client.ShakeScenario, argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        name = carry_out.__name__.removeprefix("_")
        made = commands.add_parser(name, help=words, description=f"{words}.")
        made.set_defaults(carry_out=carry_out)
        _add_where(made, first=False, timeout=carry_out is not _wait)
        return made

    command(_ping, "Ask whether the server is there")
    _add_scenario(command(_submit, "Queue a job"))
    _add_choice(command(_list, "Show jobs, the newest first"))
    _add_id(command(_get, "Show a job"))
    wait = command(_wait, "Wait for the end of a job and show it")
    _add_id(wait)
    wait.add_argument(
        "--timeout", type=_seconds, metavar="S", help="longest wait; default: until it ends"
    )
    _add_id(command(_cancel, "Ask for a job to be stopped"))
    _add_id(command(_delete, "Delete a job that has ended, with its files"))
    command(_reset, "Delete all jobs that have ended; refused while one is running")
    download = command(_download, "Fetch a file of a job, or all of them")
    _add_id(download)
    download.add_argument("path", nargs="?", help="one of its artifacts; default: all")
    download.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="default: here")
    return parser


def _add_where(parser: argparse.ArgumentParser, *, first: bool, timeout: bool = True) -> None:
    """Add the options that stand before the command or behind it."""

    def default(value: Any) -> Any:
        return value if first else argparse.SUPPRESS

    add = parser.add_argument
    add("--host", default=default("127.0.0.1"), help="default: 127.0.0.1")
    add("--port", type=_port, default=default(client.PORT), help=f"default: {client.PORT}")
    add("--token", default=default(None), help=f"default: the variable {TOKEN_VARIABLE}")
    if timeout:
        add(
            "--timeout",
            dest="server_timeout",
            type=_patience,
            default=default(client.TIMEOUT_S),
            metavar="S",
            help=f"seconds to wait for the server; default: {client.TIMEOUT_S:g}",
        )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=int, help="the job")


def _add_scenario(parser: argparse.ArgumentParser) -> None:
    for name, words in (
        ("mag", "magnitude"),
        ("lon", "longitude of the epicentre, degrees"),
        ("lat", "its latitude, degrees"),
        ("depth", "depth, km"),
    ):
        parser.add_argument(f"--{name}", type=_number, required=True, help=words)
    parser.add_argument(
        "--param",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further parameter of the model, as JSON or text; may be repeated",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--status", action="append", help="queued, running, completed, failed or canceled")
    add("--limit", type=int, help="most jobs that are shown")
    add("--offset", type=int, help="how many are passed over")
    add("--all", action="store_true", help="also runs that did not come through this door")
    add("--json", action="store_true", help="print JSON")


if __name__ == "__main__":
    main()
