"""
What every command has in common: ``--json``, ``--host``, ``--debug``, and where it writes.

Promises: a command gets one `Invocation` and never reads a setting or the environment itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

import click

from physicsrunner.cli.screen import Screen
from physicsrunner.config import Settings, load, normal_url
from physicsrunner.errors import NotAuthenticated

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

P = ParamSpec("P")
_MEET_S: Final = 2.0


@dataclass
class Invocation:
    """One call of a command: its common options, and what follows from them."""

    as_json: bool
    host: str | None
    debug: bool
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.screen = Screen(as_json=self.as_json)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force; what is wrong with their file is said once."""
        settings = load()
        for warning in settings.warnings:
            self.screen.note(f"warning: {warning}")
        return settings

    @property
    def server(self) -> str:
        """The address of the server that this command talks to."""
        return normal_url(self.host, "--host") if self.host else self.settings.server

    @property
    def token(self) -> str | None:
        """The token for that server, where there is one."""
        return self.settings.token_for(self.server)

    def needed_token(self) -> str:
        """Return the token for that server; `NotAuthenticated` where there is none."""
        if not self.token:
            raise NotAuthenticated(f"there is no token for {self.server}")
        return self.token

    def client(self) -> Client:
        """Return a client of that server."""
        from physicsrunner.client.client import Client

        # A person who named a server that is not there wants to know soon.
        return Client(self.server, self.token, meet_s=_MEET_S)


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
