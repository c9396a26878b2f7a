"""
Joining an attempt in the work folder to its run on the server.

Promises:

- `attach` is answered with the attempt's lease; a run that the server does not know yet (it was
  begun offline) is created there under its own id (`runner.claim`).
- The lease is kept in the control folder (mode 0600), so that a runner that was killed goes on
  without asking anybody.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from physicsrunner.errors import (
    InvalidRequest,
    NotFound,
    ServerUnavailable,
    StorageFull,
)
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import write_private
from physicsrunner.runner.fetch import Patience
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.documents import NATIVE
from physicsrunner.wire.messages import LeaseGrant

#: What a server answers, or does not answer, that cannot do it just now.
NO_ANSWER_NOW: Final = (ServerUnavailable, StorageFull)


def patience(attempt: Attempt, seconds: float) -> Patience:
    """Return how tries are repeated for this attempt: *seconds* without any progress at most."""
    clock = attempt.clock
    return Patience(
        now=clock.now,
        sleep=clock.sleep,
        random=clock.random,
        # Whoever stops the program still wants its files delivered.
        stopped=lambda: attempt.outcome is None and attempt.stop.asked(),
        patience_s=seconds,
        on_wait=lambda error: _waiting(attempt, error),
    )


def _waiting(attempt: Attempt, error: Exception) -> None:
    attempt.log.info("waiting for the server: %s", error)
    if attempt.outcome is None:
        attempt.reporter.status(None, "waiting for the server")


def server_patience(attempt: Attempt, seconds: float) -> Patience:
    """Return the same for requests that write nothing here: a full disk is the server's then."""
    return replace(patience(attempt, seconds), passing=NO_ANSWER_NOW)


def attach(attempt: Attempt, seconds: float) -> LeaseGrant:
    """
    Ask the server for this attempt, or create the run there; keep and return its lease.

    Raises
    ------
    ServerUnavailable, StorageFull
        Nobody answered within *seconds*, or only that it has no room.
    NotFound
        The server does not know the run, and there is nothing here to create it from.
    """
    uplink = attempt.uplink
    if uplink is None:
        raise InvalidRequest("there is no server to attach to")
    try:
        grant = server_patience(attempt, seconds).repeat(
            lambda: uplink.attempt(attempt.run, attempt.number)
        )
    except NotFound:
        if attempt.config.wire != NATIVE or not attempt.main_script.is_file():
            raise
        attempt.log.info("the server does not know the run: creating it there")
        from physicsrunner.runner.claim import claim

        grant = server_patience(attempt, seconds).repeat(lambda: claim(attempt, uplink))
        # Its model and its inputs are what lies here: there is nothing to fetch.
        grant = replace(grant, bundle=None, inputs=[])
    take_grant(attempt, grant)
    return attempt.grant or grant


def take_grant(attempt: Attempt, grant: LeaseGrant) -> None:
    """Make *grant* the attempt's lease, and keep it for a restart."""
    if not grant.token:
        grant = replace(grant, token=attempt.config.token or "")
    known, attempt.grant = attempt.grant, grant
    attempts = attempt.station.attempts
    attempts.pop((attempt.run, attempt.number), None)
    # On the PhysicsWorks wire the server names the run.
    attempt.run, attempt.number = grant.run, grant.attempt
    attempts[attempt.run, attempt.number] = attempt
    attempt.reporter.rename(attempt.run, attempt.number)
    hide_secrets(attempt, grant)
    # Where the server made the id, forgetting it would make a second run there.
    theirs = attempt.config.wire != NATIVE
    attempt.journal.note("named", later=not theirs, run=grant.run, name=grant.name)
    if grant == known:
        use_token(attempt, grant.token)  # it is kept already
    else:
        set_token(attempt, grant.token)


def set_token(attempt: Attempt, token: str) -> None:
    """Use *token* from now on, here and in main.py's configuration at the next start."""
    use_token(attempt, token)
    if attempt.grant is not None:
        attempt.grant = replace(attempt.grant, token=token or attempt.grant.token)
        write_private(attempt.folder.lease, json.dumps(encode(attempt.grant)))


def use_token(attempt: Attempt, token: str) -> None:
    """Speak to the server with *token*, unless all attempts speak with another's."""
    if not token:
        return
    attempt.log_file.hide(token, "[token]")
    setter = getattr(attempt.uplink, "set_token", None)
    if setter is not None and attempt.station.alone:
        setter(token)


def hide_secrets(attempt: Attempt, grant: LeaseGrant) -> None:
    """See to it that neither token nor secret values of *grant* are shown."""
    attempt.log_file.hide(grant.token, "[token]")
    for name in grant.secrets:
        attempt.log_file.hide(grant.environment.get(name), "***")


def kept_grant(folder: WorkFolder, run: str) -> LeaseGrant | None:
    """Return the lease that an earlier runner kept, if it is of *run*."""
    try:
        grant = decode(LeaseGrant, json.loads(folder.lease.read_text("utf-8")))
    except (OSError, ValueError, InvalidRequest):
        return None
    return grant if grant.run == run else None
