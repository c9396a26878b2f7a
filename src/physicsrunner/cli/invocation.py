"""
One call of a command: its common options, where it writes, and what follows from them.

Promises: settings are read, and modules that need time to load are loaded, when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from physicsrunner.cli.screen import Screen
from physicsrunner.errors import NotAuthenticated

if TYPE_CHECKING:
    from physicsrunner.client.client import Client
    from physicsrunner.config import Settings

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
        from physicsrunner.config import load

        settings = load()
        if settings.ca:
            from physicsrunner.client.trust import use

            use(settings.ca)
        for warning in settings.warnings:
            self.screen.note(f"warning: {warning}")
        return settings

    @property
    def server(self) -> str:
        """The address of the server that this command talks to."""
        if not self.host:
            return self.settings.server
        from physicsrunner.config import normal_url

        return normal_url(self.host, "--host")

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
