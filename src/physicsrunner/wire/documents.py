"""
The documents that people and other programs write for us: config.json and case.yaml, from text.

Promises:

- JSON and YAML are both accepted, whatever the file is called.
- A key that is unknown, missing or of the wrong type raises `ConfigError`, which names the key, the
  file and what is expected, and the nearest known key where there is one.
- `RunnerConfig` says which wire its runner speaks; that is decided by the keys, never by probing.
- A token never appears in an error or in a ``repr``.

Nothing here opens a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from physicsrunner.errors import ConfigError, InvalidRequest
from physicsrunner.wire.codec import decode
from physicsrunner.wire.messages import Limits

NATIVE: Final = "native"
PHYSICSWORKS: Final = "physicsworks"
OFFLINE: Final = "offline"
WIRES: Final = (NATIVE, PHYSICSWORKS, OFFLINE)


@dataclass(frozen=True)
class RunnerConfig:
    """config.json: one attempt of one run, and where its server is. See docs/configuration.md."""

    work_dir: str  #: made when it is not there; relative to this file
    wire: str = OFFLINE  #: native, physicsworks or offline
    # native wire
    server: str | None = None  #: the native wire
    run: str | None = None  #: its id at the server
    attempt: int = 1  #: which try of the run this is
    token: str | None = field(default=None, repr=False)  #: shown to the server
    # PhysicsWorks wire
    host: str | None = None  #: ends with ``/``
    project: str | None = None  #: the PhysicsWorks wire
    simulation: str | None = None  #: the PhysicsWorks wire
    job: str | None = None  #: the PhysicsWorks wire
    owner: str | None = None  #: the PhysicsWorks wire
    resource: Mapping[str, Any] | None = None  #: ``{id, name}`` of the run, once it is known
    abort: bool = False  #: asks the runner to stop the run
    # what is run
    scripts_archive: str | None = None  #: in the work folder or beside this file; for `scripts/`
    inputs_archive: str | None = None  #: the same, for `inputs/`
    main_script: str | None = None  #: what is run instead of main.py
    name: str | None = None  #: what people call the run
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: what `solver.input` returns
    environment: Mapping[str, str] = field(default_factory=dict)  #: more variables for main.py
    limits: Limits | None = None  #: `time_s` of main.py; `stop_grace_s`: see runner.md
    deliver_timeout_s: float | None = None  #: longest wait for the last upload without contact
    path: str | None = None  #: the file that this was read from


@dataclass(frozen=True)
class Case:
    """case.yaml: what a case folder says of itself. Every key is optional."""

    name: str | None = None  #: default: the folder's name
    description: str | None = None  #: for people
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: default values
    inputs: tuple[str, ...] = ()  #: files to send along, relative to the case folder
    series: tuple[Any, ...] = ()  #: rules for live series: series.md
    limits: Limits | None = None  #: `time_s` of main.py; `stop_grace_s`: see runner.md
    downloadable: Any = None  #: what goes into the zip for people
    render: tuple[Mapping[str, Any], ...] = ()  #: pictures to make of .vtu and .vtp files
    environment: Mapping[str, str] = field(default_factory=dict)  #: more variables for main.py


@dataclass(frozen=True)
class _Key:
    field: str
    read: Callable[[Any], Any]
    expected: str


def parse_config(text: str, where: str = "config.json") -> RunnerConfig:
    """
    Read a runner's configuration.

    Parameters
    ----------
    text
        JSON or YAML.
    where
        The file's name, for messages.

    Raises
    ------
    ConfigError
        Naming the key, the file and what is expected.
    """
    values = _read(parse_mapping(text, where), _CONFIG_KEYS, where)
    if not values.get("work_dir"):
        raise ConfigError(
            f"{where}: the key 'workDir' is missing; expected the path of the run's work folder"
        )
    wire = values.pop("wire", None) or _wire_of(values, where)
    config = RunnerConfig(**values, wire=wire, path=where)
    _check_wire(config, where)
    return config


def parse_case(text: str, where: str = "case.yaml") -> Case:
    """Read a case file (JSON or YAML), or raise `ConfigError`. An empty file is a good one."""
    if not text.strip():
        return Case()
    return Case(**_read(parse_mapping(text, where), _CASE_KEYS, where))


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """Return the object that *text* (JSON or YAML) holds, or raise `ConfigError`."""
    if not text.strip():
        raise ConfigError(f"{where} is empty; expected a JSON or YAML object")
    try:
        value = json.loads(text)
    except ValueError as error:
        value = _parse_yaml(text, where, error)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, got {type(value).__name__}")
    return {str(key): item for key, item in value.items()}


def _parse_yaml(text: str, where: str, json_error: ValueError) -> Any:
    # What begins like JSON is meant as JSON, and then its own message helps most.
    if text.lstrip().startswith(("{", "[")) and where.endswith(".json"):
        raise ConfigError(f"{where} is not valid JSON: {json_error}") from None
    import yaml  # loaded only here: it costs a tenth of a small run

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the whole message: it quotes the line, and the line may hold a token.
        mark, said = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}," if mark else ""
        if "'\\t'" in (said or ""):
            said = "a tab where YAML takes spaces alone"
        raise ConfigError(f"{where}{line} is neither JSON nor YAML: {said or 'no text'}") from None


def _read(data: Mapping[str, Any], keys: Mapping[str, _Key], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in data.items():
        key = keys.get(name)
        if key is None:
            raise ConfigError(_unknown(name, keys, where))
        if value is None:  # written by programs that fill in every key
            continue
        try:
            values[key.field] = key.read(value)
        except (TypeError, ValueError):
            shown = "the value" if name == "token" else repr(value)[:80]
            raise ConfigError(
                f"{where}: the key {name!r} has {shown}; expected {key.expected}"
            ) from None
        except InvalidRequest as error:
            raise ConfigError(f"{where}: the key {name!r}: {error}") from None
    return values


def _unknown(name: str, keys: Iterable[str], where: str) -> str:
    from difflib import get_close_matches

    known = sorted(keys)
    near = {known_name.lower().replace("_", ""): known_name for known_name in known}
    found = get_close_matches(name.lower().replace("_", ""), list(near), n=1)
    hint = f"did you mean {near[found[0]]!r}?" if found else f"known keys: {', '.join(known)}"
    return f"{where}: the key {name!r} is unknown; {hint}"


def _wire_of(values: Mapping[str, Any], where: str) -> str:
    if values.get("server") and values.get("run"):
        if "attempt" not in values:
            raise ConfigError(
                f"{where}: the key 'attempt' is missing; expected the number of the attempt, "
                "from 1, because 'server' and 'run' are there"
            )
        return NATIVE
    if values.get("host") and values.get("project") and values.get("simulation"):
        return PHYSICSWORKS
    return OFFLINE


def _check_wire(config: RunnerConfig, where: str) -> None:
    needed = {
        NATIVE: {"server": config.server, "run": config.run, "token": config.token},
        PHYSICSWORKS: {
            "host": config.host,
            "project": config.project,
            "simulation": config.simulation,
            "token": config.token,
        },
    }.get(config.wire, {})
    for key, value in needed.items():
        if not value:
            raise ConfigError(
                f"{where}: the key {key!r} is missing; the {config.wire} wire needs it "
                "(without any server key a run is carried out offline)"
            )


# -- readers of single values; each raises ValueError or TypeError for a wrong one -----------


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    return str(value)


def _folder(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value.strip() and value


def _url(value: Any) -> str:
    text = _text(value).strip()
    if text and not text.startswith(("http://", "https://")):
        raise ValueError
    return text


def _host(value: Any) -> str:
    text = _url(value)
    return text if not text or text.endswith("/") else f"{text}/"


def _attempt(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _wire(value: Any) -> str:
    if value not in WIRES:
        raise ValueError
    return str(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(key): item for key, item in value.items()}


def _strings(value: Any) -> dict[str, str]:
    return {key: _text(item) for key, item in _mapping(value).items()}


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError
    return float(value)


def _limits(value: Any) -> Limits:
    data = _mapping(value)
    unknown = sorted(set(data) - set(Limits.__dataclass_fields__))
    if unknown:
        raise InvalidRequest(_unknown(unknown[0], Limits.__dataclass_fields__, "limits"))
    limits = decode(Limits, data)
    if (limits.time_s is not None and limits.time_s <= 0) or limits.stop_grace_s < 0:
        raise ValueError
    return limits


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _list(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _mappings(value: Any) -> tuple[dict[str, Any], ...]:
    return tuple(_mapping(item) for item in _list(value))


_A_TEXT: Final = "a text"
_AN_OBJECT: Final = "an object"
_LIMITS: Final = "an object with time_s and stop_grace_s, in seconds"
_ENVIRONMENT: Final = "an object of texts, by variable name"

_CONFIG_KEYS: Final[Mapping[str, _Key]] = {
    "workDir": _Key("work_dir", _folder, "the path of the run's work folder"),
    "wire": _Key("wire", _wire, "one of " + ", ".join(WIRES)),
    "server": _Key("server", _url, "the server's address, http://... or https://..."),
    "run": _Key("run", _text, "the run's id"),
    "attempt": _Key("attempt", _attempt, "the number of the attempt, from 1"),
    "token": _Key("token", _text, _A_TEXT),
    "host": _Key("host", _host, "the address of a PhysicsWorks server, http://.../"),
    "project": _Key("project", _text, "the project's id"),
    "simulation": _Key("simulation", _text, "the simulation's id"),
    "job": _Key("job", _text, "the job's id"),
    "owner": _Key("owner", _text, "the owner's id"),
    "resource": _Key("resource", _mapping, "an object with id and name"),
    "abort": _Key("abort", bool, "true or false"),
    "scriptsArchive": _Key("scripts_archive", _text, "a file name"),
    "inputsArchive": _Key("inputs_archive", _text, "a file name"),
    "mainScript": _Key("main_script", _text, "a file name"),
    "name": _Key("name", _text, _A_TEXT),
    "parameters": _Key("parameters", _mapping, _AN_OBJECT),
    "environment": _Key("environment", _strings, _ENVIRONMENT),
    "limits": _Key("limits", _limits, _LIMITS),
    "deliverTimeout": _Key("deliver_timeout_s", _seconds, "seconds, 0 or more"),
}

_CASE_KEYS: Final[Mapping[str, _Key]] = {
    "name": _Key("name", _text, _A_TEXT),
    "description": _Key("description", _text, _A_TEXT),
    "parameters": _Key("parameters", _mapping, "an object of default values"),
    "inputs": _Key("inputs", _names, "a list of file names"),
    "series": _Key("series", _list, "a list of rules, or names of packaged ones"),
    "limits": _Key("limits", _limits, _LIMITS),
    "downloadable": _Key("downloadable", lambda value: value, "a list of patterns"),
    "render": _Key("render", _mappings, "a list of objects, each with file"),
    "environment": _Key("environment", _strings, _ENVIRONMENT),
}
