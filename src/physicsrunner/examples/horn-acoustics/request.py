"""
What is asked for: the parameters of a run, read and checked.

Promises: everything that is wrong is a ValueError that names the parameter, what was expected and
what was given. What this model does not know is listed, not an error: other programs' payloads
carry more than it needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import horns
import numpy as np
from outlines import BAFFLED, FREE
from surfaces import UNITS

MOST_FREQUENCIES: Final = 2000

_OWN: Final = frozenset(
    {"formula_type", "sim_type", "frequency_range", "num_frequencies", "frequency_spacing", "label",
     "distance", "velocity", "check", "sound_speed", "density", "wall_thickness", "mesh_unit"}
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A checked request; SI units."""

    formula: str
    baffled: bool
    frequencies: np.ndarray
    distance: float
    velocity: float
    sound_speed: float
    density: float
    thickness: float  #: of the wall at the rim and behind the throat, where a horn is open behind
    unit: float  #: metres in the mesh's unit of length
    check: bool
    label: str | None
    unused: tuple[str, ...]  #: names that this model does not know


def read(given: Mapping[str, Any], *, has_mesh: bool) -> Request:
    """Return the request in *given*; with a mesh, the formula is a name and nothing more."""
    formula = str(given.get("formula_type") or "R-OSSE")
    own = set(_OWN)
    if not has_mesh:
        formula = horns.formula_named(formula)
        own |= set(horns.parameters_of(formula))
    sim_type = str(given.get("sim_type") or FREE)
    if sim_type not in (BAFFLED, FREE):
        raise ValueError(
            f'sim_type: expected "{BAFFLED}" (infinite baffle) or "{FREE}" (free), got {sim_type!r}'
        )
    unit = str(given.get("mesh_unit") or "mm")
    if unit not in UNITS:
        raise ValueError(f"mesh_unit: expected one of {', '.join(UNITS)}, got {unit!r}")
    label = given.get("label")
    return Request(
        formula=formula,
        baffled=sim_type == BAFFLED,
        frequencies=_frequencies(given),
        distance=_positive(given, "distance", 2.0),
        velocity=_positive(given, "velocity", 0.01),
        sound_speed=_positive(given, "sound_speed", 343.2),
        density=_positive(given, "density", 1.204),
        thickness=horns.MM * _positive(given, "wall_thickness", 6.0),
        unit=UNITS[unit],
        check=given.get("check") in (True, "true", "1", 1),
        label=str(label) if label is not None else None,
        unused=tuple(sorted(name for name in set(given) - own if given[name] is not None)),
    )


def _frequencies(given: Mapping[str, Any]) -> np.ndarray:
    bounds = given.get("frequency_range") or [200.0, 20000.0]
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        raise ValueError(f"frequency_range: expected [first, last] in Hz, got {bounds!r}")
    first, last = (_positive({"frequency_range": bound}, "frequency_range") for bound in bounds)
    if last < first:
        raise ValueError(f"frequency_range: the last, {last:g}, is below the first, {first:g}")
    count = given.get("num_frequencies")
    count = 48 if count is None else count
    if isinstance(count, bool) or not isinstance(count, (int, float)) or count != int(count):
        raise ValueError(f"num_frequencies: expected a whole number, got {count!r}")
    if not 1 <= count <= MOST_FREQUENCIES:
        raise ValueError(f"num_frequencies: expected 1 to {MOST_FREQUENCIES}, got {count:g}")
    spacing = str(given.get("frequency_spacing") or "log")
    if spacing not in ("log", "linear"):
        raise ValueError(f"frequency_spacing: expected log or linear, got {spacing!r}")
    space = np.geomspace if spacing == "log" else np.linspace
    return np.unique(space(first, last, int(count)))


def _positive(given: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = given.get(name)
    value = default if value is None else value
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return number
