"""
Every error that physicsrunner raises itself, and what a person can do about each.

Promises:

- One tree under `PhysicsRunnerError`. Each class has a stable ``code`` (it stands on the wire and
  in docs/errors.md), a ``status_hint`` (the HTTP status of a server that must answer with it), an
  ``exit_code`` for the command line, ``retryable``, and ``what_to_do`` in words.
- An instance pickles: its arguments go to ``Exception.__init__`` unchanged.

This module imports nothing of ours. It never formats a secret.

The tree::

    PhysicsRunnerError
      UsageError              the command or the call is wrong
        ConfigError           config.json or a settings file is wrong
        PortTaken             something else listens on the server's address
      InvalidRequest          a request that can never succeed as it is
        UnsafePath            a path that would leave its folder
        UnsafeArchive         an archive that must not be extracted
        BadFrame              a sync frame that cannot be read
        TooLarge              over a limit
        UnsupportedEncoding   a body with a Content-Encoding that is not read here
      NotAuthenticated        no token, or a wrong one
        TokenExpired          it was right once
        AgentRefused          the server does not know this agent, or knows it no more
      NotAllowed              the token does not give this right
      TooManyTries            asked too often, or locked out for a while
      NotFound
        NoSuchDesign          the design service does not know it
      Conflict
        IllegalTransition     the state table has no such entry
        LeaseLost             the caller's lease is not the current one
        AlreadyPublished      a sealed file of a completed run would change
        OffsetMismatch        the server has stored another number of bytes
        NotSealed             a run cannot complete: files are not sealed
        DigestMismatch        both sides' SHA-256 differ
        PathConflict          a file where a folder is needed, or the reverse
        WorkDirLocked         another runner uses this work folder
        DataLocked            another server uses this data folder
        NotTerminal           a run that has not ended cannot be deleted
        Pinned                a pinned run cannot be deleted
      ServerUnavailable       nobody answered, or answered that it cannot now (retryable)
        DesignServiceAway     the service that keeps the designs does not answer
      StorageFull             no space left
      ProgramFailed           main.py ended with an exit code other than 0
      NotTaken                a webhook's address did not take what it was sent
      BadDesign               the design service answered something that is no design
      NotSetUp                a setting that this needs is not given
      MissingExtra            an optional dependency is not installed
"""

from __future__ import annotations

from typing import ClassVar


class PhysicsRunnerError(Exception):
    """Base class. Catch this to catch everything the package raises itself."""

    code: ClassVar[str] = "internal"
    status_hint: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    what_to_do: ClassVar[str] = "This is a fault of physicsrunner: please report it with the log."


class UsageError(PhysicsRunnerError):
    """The command line or a call was used in a way that cannot work."""

    code = "usage"
    status_hint = 400
    exit_code = 2
    what_to_do = "Correct the command; `physicsrunner COMMAND --help` shows what it takes."


class ConfigError(UsageError):
    """A configuration file is missing, unreadable, or has a wrong or missing key."""

    code = "config"
    what_to_do = "Correct the named key in the named file."


class PortTaken(UsageError):
    """Something else listens on the address that a server was given."""

    code = "port_taken"
    what_to_do = "End what listens there, or choose another port: --port N (0: any free one)."


class InvalidRequest(PhysicsRunnerError):
    """The request can never succeed as it is."""

    code = "invalid_request"
    status_hint = 422
    exit_code = 2
    what_to_do = "Correct the request; sending it again unchanged gives the same answer."


class UnsafePath(InvalidRequest):
    """A path is absolute, has ``..`` or would otherwise leave its folder."""

    code = "unsafe_path"
    what_to_do = "Use a relative path inside the run's folder."


class UnsafeArchive(InvalidRequest):
    """An archive holds a path, link, device or size that must not be extracted."""

    code = "unsafe_archive"
    what_to_do = "Make the archive again from plain files and folders only."


class BadFrame(InvalidRequest):
    """A sync frame cannot be decoded."""

    code = "bad_frame"
    status_hint = 400
    what_to_do = "Send a frame as docs/protocol.md describes it."


class TooLarge(InvalidRequest):
    """Something is over a limit of the server."""

    code = "too_large"
    status_hint = 413
    what_to_do = "Send less in one request, or ask the administrator to raise the limit."


class UnsupportedEncoding(InvalidRequest):
    """The body has a Content-Encoding that this server does not read."""

    code = "unsupported_encoding"
    status_hint = 415
    what_to_do = "Send the body with Content-Encoding deflate, gzip or identity."


class NotAuthenticated(PhysicsRunnerError):
    """No token, or one that is wrong or expired."""

    code = "not_authenticated"
    status_hint = 401
    exit_code = 5
    what_to_do = "Log in with `physicsrunner login`, or set PHYSICSRUNNER_TOKEN."


class TokenExpired(NotAuthenticated):
    """The token was right once and has expired."""

    code = "token_expired"
    what_to_do = "Exchange the token (an attempt's token: POST /api/v1/tokens/exchange) or log in."


class AgentRefused(NotAuthenticated):
    """An agent has no token, or the server does not take it: it never was, or was removed."""

    code = "agent_refused"
    what_to_do = (
        "Make a one-time token with `physicsrunner agents enroll` and start the agent with "
        "--enroll-token; what is unfinished in its work folder is then taken up again."
    )


class NotAllowed(PhysicsRunnerError):
    """The token is good and does not give this right."""

    code = "not_allowed"
    status_hint = 403
    exit_code = 5
    what_to_do = "Ask a project administrator for the right, or use another token."


class TooManyTries(PhysicsRunnerError):
    """Somebody asked too often, or is locked out for a while."""

    code = "too_many_tries"
    status_hint = 429
    exit_code = 5
    retryable = True
    what_to_do = "Wait as long as the answer says, then try again."
    retry_after: float | None = None  #: seconds


class NotFound(PhysicsRunnerError):
    """There is no such thing, or it is not visible to the caller."""

    code = "not_found"
    status_hint = 404
    exit_code = 6
    what_to_do = (
        "Check the id or name; `physicsrunner list` shows runs, `physicsrunner agents` agents."
    )


class NoSuchDesign(NotFound):
    """The design service has no design of that id."""

    code = "no_such_design"
    what_to_do = "Check design_id: the design service answered that it has no such design."


class Conflict(PhysicsRunnerError):
    """The request does not fit the present state."""

    code = "conflict"
    status_hint = 409
    what_to_do = "Look at the present state and decide anew."


class IllegalTransition(Conflict):
    """The state table has no entry for this state and event."""

    code = "illegal_transition"

    def __init__(self, state: str, event: str) -> None:
        super().__init__(state, event)
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"a run that is {self.state} cannot take the event {self.event}"


class LeaseLost(Conflict):
    """
    The lease named by the caller is no longer the current one.

    Stop the program, report nothing more, still deliver its files. Never retry the report:
    another agent may own the run already.
    """

    code = "lease_lost"
    what_to_do = "Stop the program of this attempt and report nothing more; its files are taken."

    def __init__(self, run: str, attempt: int) -> None:
        super().__init__(run, attempt)
        self.run = run
        self.attempt = attempt

    def __str__(self) -> str:
        return f"run {self.run}: attempt {self.attempt} is not the leased attempt"


class AlreadyPublished(Conflict):
    """The run has completed and its files are published: what was sealed stays as it is."""

    code = "already_published"
    what_to_do = "Run it again: a new run has files of its own; this one keeps what it published."


class OffsetMismatch(Conflict):
    """The server has stored another number of bytes than the sender thinks."""

    code = "offset_mismatch"
    what_to_do = "Continue at the offset that the answer names."


class NotSealed(Conflict):
    """A run cannot be completed while files of its attempt are not sealed."""

    code = "not_sealed"
    what_to_do = "Seal the named files, then report again."


class DigestMismatch(Conflict):
    """The SHA-256 of the stored bytes is not the one that the sender named."""

    code = "digest_mismatch"
    what_to_do = "Compare block hashes and send the blocks that differ, then seal again."


class PathConflict(Conflict):
    """A file lies where a folder is needed, or a folder where a file is needed."""

    code = "path_conflict"
    what_to_do = "Remove or rename the one that is in the way, then send the other again."


class WorkDirLocked(Conflict):
    """Another runner works in this folder."""

    code = "workdir_locked"
    exit_code = 2
    what_to_do = "Wait for the other runner, or give this run a workDir of its own."


class DataLocked(Conflict):
    """Another server uses this data folder."""

    code = "data_locked"
    exit_code = 2
    what_to_do = "End the other server, or give this one another place (--data DIR, --db FILE)."


class NotTerminal(Conflict):
    """A run that has not ended was to be deleted."""

    code = "not_terminal"
    what_to_do = "Cancel the run and wait for its end, then delete it."


class Pinned(Conflict):
    """A pinned run was to be deleted."""

    code = "pinned"
    what_to_do = "Unpin the run first, if it may really go."


class ServerUnavailable(PhysicsRunnerError):
    """Nobody answered, or the answer was that it cannot be done just now."""

    code = "unavailable"
    status_hint = 503
    exit_code = 7
    retryable = True
    what_to_do = "Nothing is lost: try again later, or run `physicsrunner sync WORKDIR`."
    retry_after: float | None = None  #: seconds that the server asked to wait


class DesignServiceAway(ServerUnavailable):
    """The service that keeps the designs does not answer, or cannot now."""

    code = "design_service_away"
    what_to_do = (
        "No run was made: ask again after the time that Retry-After names. The operator looks at "
        "the design service and at the setting architech_design_url."
    )


class StorageFull(PhysicsRunnerError):
    """There is no space left where something had to be stored."""

    code = "storage_full"
    status_hint = 507
    exit_code = 8
    retryable = True
    what_to_do = "Make room on the disk; what was not stored is still with its sender."


class ProgramFailed(PhysicsRunnerError):
    """main.py ended with an exit code other than 0, or by a signal."""

    code = "program_failed"
    what_to_do = "Read the end of the log; the exit code is main.py's own."


class NotTaken(PhysicsRunnerError):
    """A webhook's address did not take what it was sent."""

    code = "not_taken"
    status_hint = 502
    what_to_do = "Look at the receiver; `physicsrunner webhooks dead ID` lists what it missed."


class BadDesign(PhysicsRunnerError):
    """The design service answered something that is no design."""

    code = "bad_design"
    status_hint = 502
    what_to_do = "Look at the design service: a design is a JSON object, answered with 200."


class NotSetUp(PhysicsRunnerError):
    """A setting that this needs is not given."""

    code = "not_set_up"
    status_hint = 501
    exit_code = 2
    what_to_do = "The operator gives the named setting; docs/configuration.md lists all of them."


class MissingExtra(PhysicsRunnerError):
    """An optional dependency is needed for this and is not installed."""

    code = "missing_extra"
    exit_code = 2
    status_hint = 501
    what_to_do = "Install the extra that the message names."
