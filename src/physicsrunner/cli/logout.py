"""``physicsrunner logout``: revoke the token of a server and drop it."""

from __future__ import annotations

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.config import forget
from physicsrunner.errors import NotAuthenticated


@make_command("logout")
@click.option("--keep", is_flag=True, help="Drop it here alone; the server goes on taking it.")
def command(call: Invocation, keep: bool) -> None:
    """Revoke the token that is kept for the server, and drop it."""
    revoked = False
    if not keep:
        call.needed_token()
        try:
            with call.client() as client:
                client.logout()
            revoked = True
        except NotAuthenticated:
            revoked = True  # it was refused already
    dropped = forget(call.server)
    if call.as_json:
        call.screen.document({"server": call.server, "revoked": revoked, "dropped": dropped})
        return
    call.screen.text(f"logged out of {call.server}")
