"""
The options of ``submit`` that say how a run is to be carried out, and what is made of them.

Promises: a value that nobody could mean is refused before anything is sent; the value of a secret
is never shown, and need not stand on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from physicsrunner.cli.command import Amount, minutes, time_limit
from physicsrunner.core.retry import FAILURES
from physicsrunner.core.run import PRIORITIES
from physicsrunner.errors import UsageError

if TYPE_CHECKING:
    from physicsrunner.client.options import RunOptions

F = TypeVar("F", bound=Callable[..., Any])

_AMOUNT: Final = Amount(0, 1e9)
_OPTIONS: Final = (
    click.option(
        "--priority", type=click.Choice(list(PRIORITIES)), help="Higher ones are handed out first."
    ),
    click.option("--label", "labels", multiple=True, help="An agent must have this label."),
    click.option("--cores", type=_AMOUNT, help="Cores it needs; default: 1."),
    click.option("--memory", type=_AMOUNT, metavar="GB", help="Memory it needs."),
    click.option("--gpus", type=click.IntRange(0, 1_000_000), help="GPUs it needs."),
    click.option("--storage", type=_AMOUNT, metavar="GB", help="Room on the disk it needs."),
    time_limit,
    click.option(
        "--queue-limit",
        type=float,
        metavar="MINUTES",
        callback=minutes,
        help="It times out when it waits for longer.",
    ),
    click.option(
        "--silence-limit",
        type=float,
        metavar="MINUTES",
        callback=minutes,
        help="Say so when it writes nothing for so long.",
    ),
    click.option("--stop-when-silent", is_flag=True, help="And stop it then."),
    click.option(
        "--retries", type=click.IntRange(0, 100), help="Try it so often again when it fails."
    ),
    click.option(
        "--retry-delay",
        type=Amount(0, 604_800),
        metavar="SECONDS",
        help="Wait before a retry; default: 30, 300, then 1200 s.",
    ),
    click.option("--exponential", is_flag=True, help="Make each wait twice the one before."),
    click.option(
        "--retry-on",
        multiple=True,
        type=click.Choice(list(FAILURES)),
        help="Only after such a failure; may be given more than once.",
    ),
    click.option(
        "--on-lost-contact",
        type=click.Choice(["wait", "retry", "fail"]),
        help="When its agent stays away: wait for it (default), give the run to another, fail.",
    ),
    click.option(
        "--env",
        "environment",
        metavar="NAME=VALUE",
        multiple=True,
        help="An environment variable of main.py.",
    ),
    click.option(
        "--secret-env",
        "secrets",
        metavar="NAME[=@FILE]",
        multiple=True,
        help="One that is kept encrypted and never shown: read from FILE, or asked for.",
    ),
    click.option("--project", help="The project that it belongs to."),
    click.option("--pin", "pinned", is_flag=True, help="Never delete it."),
)


def run_options(function: F) -> F:
    """Give a command the options above; they reach it as keywords, for `options_of`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def options_of(given: Mapping[str, Any]) -> RunOptions:
    """Return what the options of the command line say."""
    from physicsrunner.client.options import RunOptions

    if given["stop_when_silent"] and given["silence_limit"] is None:
        raise UsageError("--stop-when-silent needs --silence-limit MINUTES")
    _check_retries(given)
    return RunOptions(
        priority=given["priority"],
        labels=given["labels"],
        cores=given["cores"],
        memory_gb=given["memory"],
        gpus=given["gpus"],
        storage_gb=given["storage"],
        time_limit_min=given["timeout"],
        queue_limit_min=given["queue_limit"],
        silence_min=given["silence_limit"],
        stop_when_silent=given["stop_when_silent"],
        retries=given["retries"],
        retry_delay_s=given["retry_delay"],
        exponential=given["exponential"],
        retry_on=given["retry_on"],
        on_lost_contact=given["on_lost_contact"],
        environment=_variables(given["environment"]),
        secrets=_secrets(given["secrets"]),
        project=given["project"],
        pinned=given["pinned"],
    )


def _check_retries(given: Mapping[str, Any]) -> None:
    """Raise where it is said how a run is tried again that never is."""
    if given["retries"]:
        return
    if given["retry_on"]:
        raise UsageError("--retry-on needs --retries N")
    delayed = given["retry_delay"] is not None or given["exponential"]
    # A run whose machine is lost is tried again without any; they are counted apart.
    if delayed and given["on_lost_contact"] != "retry":
        raise UsageError(
            "--retry-delay and --exponential need --retries N, or --on-lost-contact retry"
        )


def _variables(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--env {text!r} is not NAME=VALUE")
        found[name.strip()] = value
    return found


def _secrets(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not name:
            raise UsageError("--secret-env needs the name of a variable")
        if equals and not value.startswith("@"):
            # Not repeated here: it is a secret, and now also in the list of processes.
            raise UsageError(
                f"--secret-env {name}: expected {name}=@FILE, or {name} alone to be asked for it"
            )
        found[name] = _read(Path(value[1:]), name) if equals else _asked(name)
    return found


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"--secret-env {name}: {path} is not UTF-8") from None


def _asked(name: str) -> str:
    value: str = click.prompt(name, hide_input=True, err=True)
    return value
