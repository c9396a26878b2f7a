"""
What every command has in common as click sees it: ``--json``, ``--host``, ``--debug``.

Promises: a command gets one `Invocation` and never reads a setting or the environment itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

import click

from physicsrunner.cli.invocation import Invocation

__all__ = ["Amount", "Invocation", "make_command", "minutes", "time_limit"]

P = ParamSpec("P")


class Amount(click.FloatRange):
    """A number that ends, in a range: ``nan`` would pass every comparison that asks for less."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return *value* as a number, or fail with words."""
        found: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number that can be meant here.", param, ctx)
        amount: float = super().convert(value, param, ctx)
        return amount


_LONGEST: Final = 52_560_000  # minutes: a hundred years


def minutes(
    ctx: click.Context,  # noqa: ARG001 -- click's signature
    param: click.Parameter,  # noqa: ARG001
    value: float | None,
) -> float | None:
    """Check an option that is a time in minutes."""
    if value is not None and not 0.0 < value <= _LONGEST:  # false for nan, too
        raise click.BadParameter(f"{value}; expected minutes: more than 0, at most {_LONGEST}")
    return value


#: The time limit of a run, as an option.
time_limit = click.option(
    "--timeout",
    "--time-limit",
    "timeout",
    type=float,
    metavar="MINUTES",
    callback=minutes,
    help="Time limit of main.py.",
)


def make_command(
    name: str, *, server: bool = True, **attributes: Any
) -> Callable[[Callable[Concatenate[Invocation, P], Any]], click.Command]:
    """
    Make a click command of a function whose first argument is an `Invocation`.

    Parameters
    ----------
    server
        Whether the command can talk to a server (it then has ``--host``).
    attributes
        Passed to click.
    """

    def decorate(function: Callable[Concatenate[Invocation, P], Any]) -> click.Command:
        @wraps(function)
        def called(as_json: bool, debug: bool, host: str | None = None, **rest: Any) -> Any:
            call: Callable[..., Any] = function
            return call(Invocation(as_json=as_json, host=host, debug=debug), **rest)

        make: Callable[[Callable[..., Any]], click.Command] = click.command(name, **attributes)
        made = make(called)
        # The command's own options come first in its help.
        made.params += [_HOST, _JSON, _DEBUG] if server else [_JSON, _DEBUG]
        return made

    return decorate


_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Write JSON to standard output.")
_DEBUG = click.Option(["--debug"], is_flag=True, help="Show a traceback when something goes wrong.")
_HOST = click.Option(
    ["--host", "--server", "host"],
    metavar="URL",
    help="The server; default: PHYSICSRUNNER_SERVER, the settings file, http://127.0.0.1:3011.",
)
