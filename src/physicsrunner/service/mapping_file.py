"""
The mapping of an architech door, from the YAML that an operator wrote.

Promises: a mapping is checked whole before it is used, and what is wrong is named with its key and
its line. The file is read once; it holds no code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from physicsrunner.core.run import NewRun
from physicsrunner.errors import ConfigError, InvalidRequest
from physicsrunner.service import asked
from physicsrunner.service.design_mapping import MISSING, DesignMapping, Source, Steps

MAX_MAPPING: Final = 1024 * 1024  #: bytes
MAX_TAG: Final = 100  #: characters
#: Tags that say who asked for what: nobody else gives them to a run.
KEPT_TAGS: Final = ("user:", "design:")
_KEYS: Final = ("model", "name", "project", "parameters", "configuration", "resources", "tags")
_SOURCE: Final = ("path", "default", "required", "scale", "offset", "unit", "values")


class _Wrong(Exception):
    def __init__(self, place: Sequence[str], what: str) -> None:
        super().__init__(place, what)
        self.place = tuple(place)
        self.what = what


def read_mapping(path: Path) -> DesignMapping:
    """Return the mapping that lies at *path*; raise `ConfigError` naming key and line."""
    where = f"architech_mapping {path}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MAPPING + 1)
        if len(data) > MAX_MAPPING:
            raise ConfigError(f"{where} is over {MAX_MAPPING} bytes")
        return parse_mapping(data.decode(), where)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is not UTF-8") from None


def parse_mapping(text: str, where: str = "the mapping") -> DesignMapping:
    """Return the mapping that *text* is; raise `ConfigError` naming key and line."""
    lines: dict[Steps, int] = {}
    try:
        lines.update(_lines(yaml.compose(text, Loader=yaml.SafeLoader)))
        value = yaml.safe_load(text)
        return _mapping({} if value is None else value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise ConfigError(f"{where}{at}: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deep") from None
    except _Wrong as wrong:
        place = wrong.place
        while place and place not in lines:
            place = place[:-1]
        key = ".".join(wrong.place)
        named = f"{key}: " if key else ""
        raise ConfigError(f"{where}, line {lines.get(place, 1)}: {named}{wrong.what}") from None


def _lines(node: yaml.Node | None, place: Steps = ()) -> Iterator[tuple[Steps, int]]:
    """Yield the line of every key; a key that stands twice is an error."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = str(key.value)
        if name in seen:
            raise _Wrong((*place, name), f"stands twice, again in line {key.start_mark.line + 1}")
        seen.add(name)
        yield (*place, name), key.start_mark.line + 1
        yield from _lines(value, (*place, name))


def _mapping(value: Any) -> DesignMapping:
    value = _object(value, ())
    _known(value, _KEYS, ())
    model = value.get("model")
    name = value.get("name", DesignMapping.name)
    for key, text in (("model", model), ("name", name)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise _Wrong((key,), "is a text")
    project = value.get("project")
    if project is not None and not isinstance(project, str):
        project = _source(project, ("project",))
    parameters = value.get("parameters")
    if parameters is not None:
        parameters = {
            str(key): _source(item, ("parameters", str(key)))
            for key, item in _object(parameters, ("parameters",)).items()
        }
    return DesignMapping(
        model=model,
        name=name or DesignMapping.name,
        project=project,
        parameters=parameters,
        configuration=_checked(value, "configuration"),
        resources=_checked(value, "resources"),
        tags=_tags(value.get("tags") or []),
    )


def _source(value: Any, place: Steps) -> Source:
    if isinstance(value, str):
        return Source(_path(value, place))
    value = _object(value, place, "is a path in the design, or an object with path")
    _known(value, _SOURCE, place)
    if "path" not in value:
        raise _Wrong(place, "has no path")
    for key in ("scale", "offset"):
        number = value.get(key)
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        if key in value and not (plain and math.isfinite(number)):
            raise _Wrong((*place, key), "is a number")
    if not isinstance(value.get("required", True), bool):
        raise _Wrong((*place, "required"), "is true or false")
    unit = value.get("unit")
    if unit is not None and not isinstance(unit, str):
        raise _Wrong((*place, "unit"), "is a text")
    values = value.get("values")
    if values is not None:
        values = _object(values, (*place, "values"))
        values = {_json(key, place): _plain(item, place) for key, item in values.items()}
    return Source(
        path=_path(value["path"], (*place, "path")),
        default=_plain(value["default"], place) if "default" in value else MISSING,
        required=value.get("required", True),
        scale=value.get("scale"),
        offset=value.get("offset"),
        unit=unit,
        values=values,
    )


def _path(value: Any, place: Steps) -> Steps:
    if isinstance(value, list) and all(isinstance(step, (str, int)) for step in value):
        steps = tuple(str(step) for step in value)
    elif isinstance(value, str):
        steps = tuple(value.split("."))
    else:
        raise _Wrong(place, "is a path such as loads.0.value, or a list of its steps")
    if not steps or not all(steps):
        raise _Wrong(place, f"{value!r} is no path such as loads.0.value")
    return steps


def _checked(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an object that every run's request will hold, if a request may hold it."""
    part = _plain(_object(value.get(key) or {}, (key,)), (key,))
    is_needs = key == "resources"
    try:
        asked.read(NewRun(**{"resource_requirements" if is_needs else "configuration": part}))
    except InvalidRequest as error:
        named = next((name for name in part if name in str(error)), None)
        raise _Wrong((key,) if named is None else (key, named), str(error)) from None
    return dict(part)


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise _Wrong(("tags",), "is a list of texts")
    for tag in value:
        if not tag.isprintable() or len(tag) > MAX_TAG:
            raise _Wrong(("tags",), f"{tag[:40]!r}: a tag is 1 to {MAX_TAG} printable characters")
        if tag.startswith(KEPT_TAGS):
            raise _Wrong(("tags",), f"{tag!r}: tags with {' and '.join(KEPT_TAGS)} are the door's")
    return tuple(value)


def _object(value: Any, place: Steps, what: str = "is an object") -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Wrong(place, what if place else "a mapping is an object; see docs/architech.md")
    return value


def _known(value: Mapping[Any, Any], keys: Sequence[str], place: Steps) -> None:
    for key in value:
        if key not in keys:
            raise _Wrong((*place, str(key)), f"is none of {', '.join(keys)}")


def _plain(value: Any, place: Steps) -> Any:
    """Return *value* if JSON can say it: YAML knows dates and more."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise _Wrong(place, "holds what JSON cannot say (a date? put it in quotes)") from None


def _json(key: Any, place: Steps) -> str:
    return json.dumps(_plain(key, place))
