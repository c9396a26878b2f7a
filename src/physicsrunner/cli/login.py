"""``physicsrunner login``: keep the token of a server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from physicsrunner.cli.command import Amount, Invocation, make_command
from physicsrunner.config import forget, normal_url, remember
from physicsrunner.errors import UsageError


@make_command("login")
@click.argument("url", required=False)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Read the token from this file ('-': standard input); a server's first start makes "
    "DATA/admin.token.",
)
@click.option("--user", help="Log in as this person, with a password.")
@click.option("--days", type=Amount(0, 90, min_open=True), help="With --user: for so long.")
@click.option("--forget", "drop", is_flag=True, help="Drop the token that is kept for the server.")
@click.option("--unchecked", is_flag=True, help="Keep it without asking the server.")
def command(
    call: Invocation,
    url: str | None,
    token_file: Path | None,
    user: str | None,
    days: float | None,
    drop: bool,
    unchecked: bool,
) -> None:
    """
    Keep the token of the server URL, and make that server the default.

    With --user you are asked for the password and get a token for it; otherwise, without
    --token-file, for the token. It is kept in the settings file, which only you can read. Neither
    goes on the command line, where others could see it.
    """
    server = normal_url(url, "URL") if url else call.server
    if drop:
        dropped = forget(server)
        call.screen.document({"server": server, "dropped": dropped}) if call.as_json else (
            call.screen.text(f"{'dropped the' if dropped else 'there was no'} token of {server}")
        )
        return
    token = _token(token_file) if user is None else _by_password(server, user, days)
    who = {} if unchecked else _ask(server, token)
    path = remember(server, token)
    if call.as_json:
        call.screen.document({"server": server, "file": str(path), **who})
        return
    name = f" as {who['subject']}" if who.get("subject") else ""
    call.screen.text(f"logged in to {server}{name}; kept in {path}")


def _ask(server: str, token: str) -> dict[str, str]:
    from physicsrunner.client.client import Client

    with Client(server, token, meet_s=2.0) as client:
        return client.whoami()


def _by_password(server: str, user: str, days: float | None) -> str:
    from physicsrunner.cli.users import password
    from physicsrunner.client.client import Client

    secret = password(f"password of {user}")
    lifetime = None if days is None else days * 86_400.0
    with Client(server, None, meet_s=2.0) as client:
        return str(client.login(user, secret, lifetime_s=lifetime)["token"])


def _token(path: Path | None) -> str:
    if path is None and not sys.stdin.isatty():
        path = Path("-")
    if path is None:
        token = click.prompt("token", hide_input=True, err=True)
    else:
        token = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    token = token.strip()
    if not token or len(token.split()) != 1:
        where = "standard input" if path is None or str(path) == "-" else str(path)
        raise UsageError(f"there is no token in {where}; expected one word, as in DATA/admin.token")
    return str(token)
