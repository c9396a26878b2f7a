"""`physicsrunner agent`: carry out runs of a server on this machine."""

from __future__ import annotations

import getpass
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Amount, Invocation, make_command
from physicsrunner.cli.tables import count
from physicsrunner.errors import ConfigError

if TYPE_CHECKING:
    from physicsrunner.agent.start import Process

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LEFT: Final = 130  # as a shell says: ended by Ctrl-C


def duration(_ctx: object, _param: object, text: str | None) -> float | None:
    """Read ``90``, ``90s``, ``5m``, ``2h`` or ``1d`` as seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text.lower())
    if found is None:
        raise click.BadParameter(f"{text!r}; expected a time such as 90s, 5m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def words(_ctx: object, _param: object, text: str | None) -> tuple[str, ...]:
    """Read a list with commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


SLOTS = click.option(
    "--slots", type=click.IntRange(1, 10_000), help="Programs at once; default: as many as cores."
)
CORES = click.option(
    "--cores",
    type=Amount(0, min_open=True),
    help="Cores to offer, of which a run takes one unless it says; default: what is found.",
)


@make_command("agent")
@click.option("--token", metavar="T", help="An agent's token; --token-file keeps it unseen.")
@click.option("--enroll-token", metavar="T", help="A one-time token of `agents enroll`.")
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a token of either kind.",
)
@click.option("--name", help="The agent's name; default: the host's.")
@SLOTS
@CORES
@click.option("--memory", "memory_gb", type=Amount(0), help="Memory to offer, in GB.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs to offer; default: what is found.")
@click.option("--labels", metavar="A,B", callback=words, help="What runs may ask for by name.")
@click.option(
    "--work",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the work folders; default: agent/ in the data folder.",
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of inputs that were fetched before.",
)
@click.option(
    "--exit-when-idle", metavar="TIME", callback=duration, help="End when idle for so long: 5m."
)
@click.option(
    "--on-term",
    type=click.Choice(["finish", "hand-back"]),
    default="finish",
    show_default=True,
    help="At SIGTERM: let runs finish, or stop them and give them to other agents.",
)
@click.option("--systemd-unit", is_flag=True, help="Print a systemd unit for this, and end.")
def command(call: Invocation, /, systemd_unit: bool, on_term: str, **given: Any) -> None:
    """
    Carry out runs of a server on this machine, many at once.

    The first start needs a one-time token (`physicsrunner agents enroll`); the agent keeps its own
    in its work folder. SIGTERM or Ctrl-C drains: no new work, then the end. A second one ends it
    at once; programs run on, and the next start takes them up again.
    """
    given["work"] = (given["work"] or call.settings.data / "agent").expanduser().absolute()
    if systemd_unit:
        _print_unit(call, on_term, given)
        return
    given["cache"] = given["cache"] or call.settings.cache
    given.update(_tokens(call, given))
    _serve(call, on_term, given)


def _serve(call: Invocation, on_term: str, given: dict[str, Any]) -> None:
    from physicsrunner.agent.__main__ import speaking
    from physicsrunner.agent.drain import OnTerm, ended_by_signals
    from physicsrunner.agent.notify import forget, from_environment
    from physicsrunner.agent.start import Process, Settings

    notifier = from_environment(os.environ, os.getpid())
    forget(os.environ)
    given["idle_s"] = given.pop("exit_when_idle")
    log = speaking(debug=call.debug)
    process = Process(Settings(server=call.server, **given), log=log, notifier=notifier)
    how = OnTerm(on_term)

    def say(text: str) -> None:
        # Ctrl-C ends the `tee` that reads us, too: then nobody hears it.
        with suppress(OSError):
            call.screen.note(text)

    def first(_number: int) -> None:
        text = _ending(process, how)
        process.end(how)
        say(text)

    def second(_number: int) -> None:
        say(_leaving(process, given["work"]))
        os._exit(_LEFT)

    with ended_by_signals(first, second):
        process.run()
    say("the agent has ended")


def _ending(process: Process, how: Any) -> str:
    running = process.running
    if not running:
        return "ending"
    verb = "waiting for" if how.value == "finish" else "stopping and giving back"
    left = "it running by itself" if running == 1 else "them running by themselves"
    return f"{verb} {count(running, 'run')}; once more (Ctrl-C or SIGTERM) leaves {left}"


def _leaving(process: Process, work: Path) -> str:
    left = count(process.running, "program")
    return f"leaving; {left} left running, which the next agent on {work} takes up again"


def _tokens(call: Invocation, given: dict[str, Any]) -> dict[str, str | None]:
    """Return the tokens that were given, each in its place whatever option it came by."""
    from physicsrunner.agent.enroll import kind_of

    path = given.pop("token_file")
    token, enroll = given["token"], given["enroll_token"]
    token = token or (_read_token(path) if path else None)
    found = call.settings.token
    if not token and not enroll and found and kind_of(found) in ("agent", "enroll"):
        token = found  # a person's token is not an agent's: it would have all that person's rights
    if token and not enroll and kind_of(token) == "enroll":
        token, enroll = None, token
    return {"token": token, "enroll_token": enroll}


def _read_token(path: Path) -> str:
    try:
        token = path.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}") from None
    if not token:
        raise ConfigError(f"the token file {path} is empty")
    return token


def _print_unit(call: Invocation, on_term: str, given: dict[str, Any]) -> None:
    from physicsrunner.agent.systemd import agent_unit

    options = ["--server", call.server, "--work", str(given["work"]), "--on-term", on_term]
    for name in ("name", "slots", "cores", "memory_gb", "gpus", "token_file", "cache"):
        if given[name] is not None:
            option = "memory" if name == "memory_gb" else name.replace("_", "-")
            options += [f"--{option}", f"{given[name]}"]
    if given["labels"]:
        options += ["--labels", ",".join(given["labels"])]
    click.echo(agent_unit(options, getpass.getuser()), nl=False)
