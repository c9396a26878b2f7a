"""
From a design to a request for a run: the mapping that an operator writes in YAML.

Promises: a design that does not fit is refused with the parameter and the place in the design.
Nothing of a design is ever carried out: it gives values, no code and no names of files. Pure;
`service.mapping_file` reads a mapping.

A mapping::

    model: bridge                      # a model's name or id; else the setting architech_model
    name: "Design {design_id}: {title}"
    project: {path: team.project, default: thermal}
    parameters:
      span_m: geometry.span            # a path in the design; numbers count list entries from 0
      load_n: {path: loads.0.value, scale: 1000}
      material: {path: material, values: {steel: 1, wood: 2}, default: 1}
    configuration: {timeout_minutes: 60, labels: [fem]}    # as in POST /api/v1/simulations
    resources: {cpu_cores: 2}
    tags: [architech]
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from physicsrunner.core.run import NewRun
from physicsrunner.errors import InvalidRequest

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_SHOWN: Final = 60  # characters of a design's value in an error

Steps = tuple[str, ...]  # from a design to one of its values


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = _Missing()


@dataclass(frozen=True)
class Source:
    """Where one value comes from, and what is made of it."""

    path: Steps
    default: Any = MISSING
    required: bool = True  #: False: without a value and a default the parameter is left out
    scale: float | None = None  #: value * scale + offset
    offset: float | None = None
    unit: str | None = None  #: the parameter is {value, unit}
    values: Mapping[str, Any] | None = None  #: by the value's JSON

    def of(self, design: Mapping[str, Any], what: str) -> Any:
        """Return the value of *what* in *design*; `MISSING` if it is to be left out."""
        value = found(design, self.path)
        if value is MISSING or value is None:
            if self.default is MISSING and self.required:
                place = ".".join(self.path)
                raise InvalidRequest(f"the design has no {place!r}, which {what} needs")
            return self.default
        if self.values is not None:
            value = self._translated(value, what)
        if self.scale is not None or self.offset is not None:
            value = self._scaled(value, what)
        return value if self.unit is None else {"value": value, "unit": self.unit}

    def _translated(self, value: Any, what: str) -> Any:
        assert self.values is not None  # noqa: S101 - looked at by the caller
        key = json.dumps(value)
        if key not in self.values:
            raise InvalidRequest(
                f"the design's {'.'.join(self.path)!r} is {key[:_SHOWN]}; {what} knows "
                f"{', '.join(self.values)}"
            )
        return self.values[key]

    def _scaled(self, value: Any, what: str) -> Any:
        if isinstance(value, list):
            return [self._scaled(item, what) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                made = value * (1 if self.scale is None else self.scale) + (self.offset or 0)
                if math.isfinite(made):
                    return made
        raise InvalidRequest(
            f"the design's {'.'.join(self.path)!r} is {json.dumps(value)[:_SHOWN]}; {what} needs "
            "a number"
        )


@dataclass(frozen=True)
class DesignMapping:
    """What is made of every design."""

    model: str | None = None
    name: str = "Design {design_id}"
    project: Source | str | None = None  #: a text is the project itself
    #: None: the design's own ``parameters``, or all of it where it has none.
    parameters: Mapping[str, Source] | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    def request(self, design: Mapping[str, Any], design_id: str, user_id: str) -> NewRun:
        """
        Return the request for the run of *design*; its model, its id and its tags are not said.

        Raises
        ------
        InvalidRequest
            If the design does not fit.
        """
        known = {"design_id": design_id, "user_id": user_id}
        return NewRun(
            name=_filled(self.name, {**design, **known}) or design_id,
            project_id=self._project(design),
            parameters=self._parameters(design),
            configuration=dict(self.configuration),
            resource_requirements=dict(self.resources),
            tags=list(self.tags),
        )

    def _project(self, design: Mapping[str, Any]) -> str | None:
        if not isinstance(self.project, Source):
            return self.project
        said = self.project.of(design, "project")
        if said is MISSING:
            return None
        if not isinstance(said, str):
            raise InvalidRequest(f"project: the design says {json.dumps(said)[:_SHOWN]}")
        return said

    def _parameters(self, design: Mapping[str, Any]) -> dict[str, Any]:
        if self.parameters is None:
            own = design.get("parameters", design)
            if not isinstance(own, dict):
                raise InvalidRequest("the design's 'parameters' is no object")
            return dict(own)
        made = {
            name: source.of(design, f"the parameter {name!r}")
            for name, source in self.parameters.items()
        }
        return {name: value for name, value in made.items() if value is not MISSING}


def found(design: Any, path: Steps) -> Any:
    """Return what lies at *path* in *design*; `MISSING` if nothing does."""
    value = design
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10:
            value = value[int(step)] if int(step) < len(value) else MISSING
        else:
            return MISSING
    return value


def _filled(template: str, known: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        item = found(known, tuple(match[1].split(".")))
        if item is MISSING or item is None:
            return ""
        return item if isinstance(item, str) else json.dumps(item)

    text = _PLACE.sub(value, template)[: 4 * 255]
    return "".join(char if char.isprintable() else " " for char in text).strip()
