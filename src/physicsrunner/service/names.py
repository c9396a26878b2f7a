"""What users, projects and agents may be called. Pure."""

from __future__ import annotations

import re
from typing import Final

from physicsrunner.errors import InvalidRequest

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_PROJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def user_name(text: str) -> str:
    """Return *text* if a person can be called so: one word, safe in an address and a log."""
    if not _USER.fullmatch(text):
        raise InvalidRequest(
            f"user {text[:80]!r}: a name is 1 to 64 letters, digits and . _ @ + -, and begins with "
            "a letter or a digit"
        )
    return text


def project_id(text: str) -> str:
    """Return *text* if a project can be called so."""
    if not _PROJECT.fullmatch(text):
        raise InvalidRequest(
            f"project {text[:80]!r}: an id is 1 to 64 letters, digits and . _ -, and begins with a "
            "letter or a digit"
        )
    return text


def agent_name(text: str) -> str:
    """Return *text* if an agent can be called so."""
    name = text.strip()
    if not name or len(name) > 255 or not name.isprintable():
        raise InvalidRequest(f"agent {text[:80]!r}: a name is 1 to 255 printable characters")
    if "|" in name:  # it stands between the names of the agents that a run is confined to
        raise InvalidRequest(f"agent {text[:80]!r}: a name has no |; choose one without")
    return name


def title_of(text: str) -> str:
    """Return *text* without spaces around it, if it can stand in a list."""
    title = text.strip()
    if not title or len(title) > 255 or not title.isprintable():
        raise InvalidRequest("name is 1 to 255 printable characters")
    return title
