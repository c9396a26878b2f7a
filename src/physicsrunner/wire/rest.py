"""The paths of the native REST API, said once for server and client."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from physicsrunner.errors import UsageError

DEFAULT_PORT: Final = 3011
API: Final = "/api/v1"

MODELS: Final = f"{API}/models"
SIMULATIONS: Final = f"{API}/simulations"
LEASES: Final = f"{API}/leases"
REPORTS: Final = f"{API}/reports"
SYNC: Final = f"{API}/sync"
EVENTS: Final = f"{API}/events"
TOKEN_EXCHANGE: Final = f"{API}/tokens/exchange"
WHOAMI: Final = f"{API}/whoami"
UPLOADS: Final = f"{API}/uploads"
BATCH: Final = f"{SIMULATIONS}/batch"
QUEUE: Final = f"{API}/queue/status"
AGENTS: Final = f"{API}/agents"
ENROLL: Final = f"{AGENTS}/enroll"
ENROLL_TOKENS: Final = f"{AGENTS}/tokens"
LOGIN: Final = f"{API}/login"
LOGOUT: Final = f"{API}/logout"
REFRESH: Final = f"{API}/tokens/refresh"
TOKENS: Final = f"{API}/tokens"
USERS: Final = f"{API}/users"
PROJECTS: Final = f"{API}/projects"
STUDIES: Final = f"{API}/studies"
WEBHOOKS: Final = f"{API}/webhooks"
AUDIT: Final = f"{API}/audit"


def agent(name: str) -> str:
    """Return the path of one agent; `UsageError` where none is named."""
    if not name.strip():
        raise UsageError("no agent is named")
    return f"{AGENTS}/{quote(name, safe='')}"


def simulation(run: str) -> str:
    """Return the path of one run; `UsageError` where none is named."""
    if not run.strip():
        raise UsageError("no run is named; expected its number or id")
    return f"{SIMULATIONS}/{quote(run, safe='')}"


def study(name: str) -> str:
    """Return the path of one study; `UsageError` where none is named."""
    if not name.strip():
        raise UsageError("no study is named; expected its id")
    return f"{STUDIES}/{quote(name, safe='')}"


def attempt(run: str, n: int) -> str:
    """Return the path of one attempt: answered with its `LeaseGrant`."""
    return f"{simulation(run)}/attempts/{n}"


def attempt_files(run: str, n: int) -> str:
    """Return the path that lists the stored files of an attempt, with their offsets."""
    return f"{attempt(run, n)}/files"


def attempt_blocks(run: str, n: int) -> str:
    """Return the path that answers block hashes of one stored file."""
    return f"{attempt(run, n)}/blocks"


def artifact(run: str, path: str) -> str:
    """Return the path of one file of a run."""
    return f"{simulation(run)}/artifacts/{quote(path)}"


def user(name: str) -> str:
    """Return the path of a person; `UsageError` where none is named."""
    return f"{USERS}/{_named(name, 'user')}"


def token(token_id: str) -> str:
    """Return the path of a token; `UsageError` where none is named."""
    return f"{TOKENS}/{_named(token_id, 'token')}"


def project(project_id: str) -> str:
    """Return the path of a project; `UsageError` where none is named."""
    return f"{PROJECTS}/{_named(project_id, 'project')}"


def members(project_id: str) -> str:
    """Return the path of a project's members."""
    return f"{project(project_id)}/members"


def member(project_id: str, name: str) -> str:
    """Return the path of one member of a project; `UsageError` where none is named."""
    return f"{members(project_id)}/{_named(name, 'user')}"


def _named(text: str, what: str) -> str:
    if not text.strip():
        raise UsageError(f"no {what} is named")
    return quote(text, safe="")
