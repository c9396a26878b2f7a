"""
The secret variables of a run: taken out of its configuration before anything is stored.

Promises: what is stored and shown has ``***`` in their place; their values lie encrypted beside the
run and go to its runner alone. No error names a value.

Pure, but for the `Safe` that is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from physicsrunner.errors import InvalidRequest
from physicsrunner.service.secrets import Safe

MASK: Final = "***"
SHORTEST: Final = 4  # characters: to hide every "1" of a log would hide the log
VARIABLES: Final = "environment_variables"
NAMES: Final = "secret_variables"


def taken_out(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Return the configuration with ``***`` for its secret variables, and their values by name.

    Secret is a variable whose value is ``{"secret": VALUE}``, or that `secret_variables` names.
    """
    variables, names = configuration.get(VARIABLES), configuration.get(NAMES, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"{NAMES} is a list of names")
    if not isinstance(variables, Mapping):
        if names:
            raise InvalidRequest(f"{NAMES} names variables that {VARIABLES} does not have")
        return dict(configuration), {}
    secrets: dict[str, str] = {}
    for name, value in variables.items():
        if isinstance(value, Mapping):
            if set(value) != {"secret"}:
                raise InvalidRequest(f"{VARIABLES}: {name!r} is a text, or {{secret: TEXT}}")
            secrets[name] = _value(name, value["secret"])
        elif name in names:
            secrets[name] = _value(name, value)
    missing = sorted(set(names) - set(secrets))
    if missing:
        raise InvalidRequest(f"{NAMES} names variables without a value: {', '.join(missing)[:200]}")
    if not secrets:
        return dict(configuration), {}
    shown = {name: MASK if name in secrets else value for name, value in variables.items()}
    return {**configuration, VARIABLES: shown, NAMES: sorted(secrets)}, secrets


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidRequest(f"{VARIABLES}: the secret {name!r} is not a text")
    text = str(value)
    if text == MASK:
        raise InvalidRequest(f"{VARIABLES}: the value of the secret {name!r} is missing")
    if "\0" in text:
        raise InvalidRequest(f"{VARIABLES}: the secret {name!r} cannot be one")
    return text


def sealed(safe: Safe, secrets: Mapping[str, str]) -> str | None:
    """Return *secrets* encrypted, as the store keeps them; None: there are none."""
    return safe.seal(json.dumps(dict(secrets))) if secrets else None


def opened(safe: Safe, kept: str | None) -> dict[str, str]:
    """Return the secrets that the store keeps as *kept*."""
    if kept is None:
        return {}
    found: dict[str, str] = json.loads(safe.open(kept))
    return found


def masked(text: str, values: Sequence[str]) -> str:
    """Return *text* with ``***`` for every one of *values* in it."""
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, MASK)
    return text
