"""
What a request for a run says, read and checked. Pure.

Promises: what is returned can be stored, shown and carried out; whatever could not raises
`InvalidRequest` here, before anything is kept. A run that got into the queue and then failed when
it is leased would keep its agent from all others.
"""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass
from typing import Any, Final

from physicsrunner.core.lease import ON_LOST_CONTACT, WAIT
from physicsrunner.core.retry import RetryPolicy
from physicsrunner.core.run import NewRun, priority_of
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.codec import check_depth, decode
from physicsrunner.wire.messages import Resources

LONGEST_MIN: Final = 1e8  # two centuries: what a clock can wait for
SHOWN: Final = "***"  # in place of a secret
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_LABELS: Final = 100
_MOST_LABEL: Final = 255  # characters


def check_texts(request: NewRun) -> None:
    """Raise for half a Unicode pair, which JSON can say and nobody can store, and for depth."""
    for text in (request.project_id, *request.tags):
        _check_text(text or "")
    check_own(request)


def check_own(request: NewRun) -> None:
    """Do what `check_texts` does for what each run of a batch has of its own."""
    _check_text(request.name or "")
    _check_text(request.description or "")
    check_depth(request.parameters, "parameters")


def _check_text(text: str, shown: str | None = None) -> None:
    """Raise unless *text* is Unicode; *shown* stands for it in the error, where it is secret."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{shown or repr(text)} is not valid Unicode") from None


def run_id(text: str) -> str:
    """Return a run's id as it is stored, or raise: it becomes the name of a folder."""
    if isinstance(text, str) and _UUID.fullmatch(text):
        return text  # as nearly all are: ten times as fast as reading it
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
    for name, amount in vars(wanted).items():
        if not 0 <= amount < math.inf:  # false for nan, too
            raise InvalidRequest(
                f"resource_requirements.{name} {amount}: it is a number that ends, not under 0"
            )
    return needs, wanted


def minutes_of(configuration: dict[str, Any], name: str) -> float | None:
    """Return a time that is said in minutes, in seconds; None: it is not said."""
    minutes = configuration.get(name)
    if minutes is None:
        return None
    number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    if not number or not 0 < minutes <= LONGEST_MIN:
        raise InvalidRequest(f"{name} {str(minutes)[:40]!r}: it is a number of minutes over 0")
    return float(minutes) * 60


def flag(configuration: dict[str, Any], name: str) -> bool:
    """Return whether something is asked for; it is not where it is not named."""
    found = configuration.get(name)
    if found is not None and not isinstance(found, bool):
        raise InvalidRequest(f"{name} {str(found)[:40]!r}: it is true or false")
    return bool(found)


def policy(configuration: dict[str, Any]) -> str:
    """Return what follows when contact is lost for long."""
    found = configuration.get("on_lost_contact", WAIT)
    if found not in ON_LOST_CONTACT:
        raise InvalidRequest(f"on_lost_contact {found!r}: it is {', '.join(ON_LOST_CONTACT)}")
    return str(found)


def retries(configuration: dict[str, Any]) -> dict[str, Any] | None:
    """Return the retry policy as it is stored; None: there is none."""
    found = configuration.get("retry_policy")
    return None if found is None else RetryPolicy.from_json(found).to_json()


def labels(configuration: dict[str, Any]) -> list[str]:
    """Return the labels that an agent must have."""
    found = configuration.get("labels") or []
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise InvalidRequest(f"labels {str(found)[:80]!r}: it is a list of texts")
    if len(found) > _MOST_LABELS or any(not 0 < len(label) <= _MOST_LABEL for label in found):
        raise InvalidRequest(f"labels: at most {_MOST_LABELS} of 1 to {_MOST_LABEL} characters")
    for label in found:
        _check_text(label)
    return list(dict.fromkeys(found))


def environment(configuration: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of main.py."""
    found = configuration.get("environment_variables") or {}
    if not isinstance(found, dict):
        raise InvalidRequest("environment_variables is an object of texts, by name")
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InvalidRequest(f"environment_variables: {name!r} is not a text")
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise InvalidRequest(f"environment_variables: {name!r} cannot be one")
        _check_text(f"{name}{value}", f"environment_variables: the value of {name!r}")
    return {name: str(value) for name, value in found.items()}


def secret_names(configuration: dict[str, Any]) -> list[str]:
    """Return the names of the environment variables that must not be shown."""
    found = configuration.get("secret_variables") or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InvalidRequest("secret_variables is a list of names of environment_variables")
    return found


def without_secrets(
    configuration: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Return *configuration* as it may be stored and shown, and the secrets that were in it.

    A variable is secret when its value is ``{"secret": TEXT}`` or `secret_variables` names it.
    """
    given = configuration.get("environment_variables")
    names = set(secret_names(configuration))
    if not isinstance(given, dict):
        if names:
            raise InvalidRequest("secret_variables names what environment_variables has not")
        return configuration, {}
    plain = dict(given)
    for name, value in given.items():
        if isinstance(value, dict):
            if list(value) != ["secret"]:
                raise InvalidRequest(f"environment_variables: {name!r} is a text or {{secret}}")
            names.add(name)
            plain[name] = value["secret"]
    unknown = sorted(names - set(plain))
    if unknown:
        raise InvalidRequest(f"secret_variables: environment_variables has no {unknown[0]!r}")
    if not names:
        return configuration, {}
    texts = environment({"environment_variables": plain})
    hidden = {**plain, **dict.fromkeys(names, SHOWN)}
    stored = {**configuration, "environment_variables": hidden, "secret_variables": sorted(names)}
    return stored, {name: texts[name] for name in sorted(names)}


@dataclass(frozen=True)
class Asked:
    """What the configuration and the resources of a request come to."""

    fields: dict[str, Any]  #: of `RunRecord`
    secrets: dict[str, str]  #: values of environment variables that must not be shown


def read(request: NewRun) -> Asked:
    """Return what *request* asks for besides its own texts, or raise `InvalidRequest`."""
    check_depth(request.configuration, "configuration")
    check_depth(request.resource_requirements, "resource_requirements")
    needs, room = resources(request)
    configuration, secrets = without_secrets(request.configuration)
    environment(configuration)  # read when the run is leased
    fields = {
        "priority": priority_of(configuration.get("priority")),
        "cpu_cores": room.cpu_cores,
        "memory_gb": room.memory_gb,
        "gpu_count": room.gpu_count,
        "storage_gb": room.storage_gb,
        "labels": labels(configuration),
        "time_limit_s": minutes_of(configuration, "timeout_minutes"),
        "queue_limit_s": minutes_of(configuration, "queue_timeout_minutes"),
        "silence_limit_s": minutes_of(configuration, "silence_minutes"),
        "stop_when_silent": flag(configuration, "stop_when_silent"),
        "on_lost_contact": policy(configuration),
        "retry_policy": retries(configuration),
        "configuration": configuration,
        "resource_requirements": needs,
    }
    if fields["stop_when_silent"] and fields["silence_limit_s"] is None:
        raise InvalidRequest("stop_when_silent needs silence_minutes: silent for how long?")
    return Asked(fields, secrets)
