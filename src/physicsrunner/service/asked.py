"""
What a request for a run says, read and checked. Pure.

Promises: what is returned can be stored, shown and carried out; whatever could not raises
`InvalidRequest` here, before anything is kept. A run that got into the queue and then failed when
it is leased would keep its agent from all others.
"""

from __future__ import annotations

import math
import uuid
from typing import Any, Final

from physicsrunner.core.run import NewRun
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.codec import check_depth, decode
from physicsrunner.wire.messages import Resources

LONGEST_MIN: Final = 1e8  # two centuries: what a clock can wait for
POLICIES: Final = ("wait", "retry", "fail")


def check_texts(request: NewRun) -> None:
    """Raise for half a Unicode pair, which JSON can say and nobody can store, and for depth."""
    for text in (request.name, request.description, request.project_id, *request.tags):
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{text!r} is not valid Unicode") from None
    for name in ("parameters", "configuration", "resource_requirements"):
        check_depth(getattr(request, name), name)


def run_id(text: str) -> str:
    """Return a run's id as it is stored, or raise: it becomes the name of a folder."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError):
        raise InvalidRequest(f"id {str(text)[:60]!r}: a run's id is a UUID") from None


def sha256_of(text: str) -> str:
    """Return a SHA-256 in small hexadecimal digits, or raise."""
    key = text.lower()
    if len(key) != 64 or any(char not in "0123456789abcdef" for char in key):
        raise InvalidRequest(f"{text[:80]!r} is not a SHA-256 in hex")
    return key


def resources(request: NewRun) -> tuple[dict[str, Any], Resources]:
    """Return what the run needs: as it was said, and as it is stored."""
    needs = request.resource_requirements or request.configuration.get("resources") or {}
    if not isinstance(needs, dict):
        raise InvalidRequest(f"resources {needs!r}: it is an object")
    wanted = decode(Resources, {key: value for key, value in needs.items() if value is not None})
    for amount in (wanted.cpu_cores, wanted.memory_gb, wanted.gpu_count, wanted.storage_gb):
        if not 0 <= amount < math.inf:
            raise InvalidRequest("resource_requirements are numbers, not under 0")
    return needs, wanted


def time_limit_s(configuration: dict[str, Any]) -> float | None:
    """Return the time limit of main.py in seconds; None: no limit."""
    minutes = configuration.get("timeout_minutes")
    if minutes is None:
        return None
    number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    if not number or not 0 < minutes <= LONGEST_MIN:
        raise InvalidRequest(f"timeout_minutes {minutes!r}: it is a number over 0")
    return float(minutes) * 60


def policy(configuration: dict[str, Any]) -> str:
    """Return what follows when contact is lost for long."""
    found = configuration.get("on_lost_contact", "wait")
    if found not in POLICIES:
        raise InvalidRequest(f"on_lost_contact {found!r}: it is {', '.join(POLICIES)}")
    return str(found)


def labels(configuration: dict[str, Any]) -> list[str]:
    """Return the labels that an agent must have."""
    found = configuration.get("labels") or []
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise InvalidRequest(f"labels {found!r}: it is a list of texts")
    return found


def environment(configuration: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of main.py."""
    found = configuration.get("environment_variables") or {}
    if not isinstance(found, dict):
        raise InvalidRequest("environment_variables is an object of texts, by name")
    for name, value in found.items():
        if not isinstance(value, (str, int, float)):
            raise InvalidRequest(f"environment_variables: {name!r} is not a text")
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise InvalidRequest(f"environment_variables: {name!r} cannot be one")
    return {name: str(value) for name, value in found.items()}
