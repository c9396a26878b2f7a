"""
What a scenario is asked for: its parameters, each checked.

Promises: `read` answers with a whole `Scenario` or raises `WrongInput`, whose text names the
parameter, what was given and what is expected. Nothing is guessed and nothing is cut to a range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import fragility
import ground_motion

MOST_POINTS = 50_000  #: of the grid
MOST_REALIZATIONS = 20_000


class WrongInput(ValueError):
    """A parameter, or the exposure, is not what is expected."""


@dataclass(frozen=True)
class Scenario:
    """One earthquake, and how it is looked at."""

    mag: float
    lon: float
    lat: float
    depth: float  #: km
    mechanism: str
    vs30: float  #: m/s
    half_width_km: float
    spacing_km: float
    realizations: int
    seed: int
    spatial_correlation: bool
    fragility_beta: float
    exposure: Any  #: as given; see exposure.py

    @property
    def steps(self) -> int:
        """Points of the grid from the epicentre to each side."""
        return max(1, round(self.half_width_km / self.spacing_km))

    @property
    def warnings(self) -> list[str]:
        """Where the scenario leaves what its ground-motion model was derived from."""
        found = []
        low, high = ground_motion.MAGNITUDES
        if not low <= self.mag <= high:
            found.append(
                f"magnitude {self.mag:g} is outside of {low:g} to {high:g}, which the "
                "ground-motion model was derived from"
            )
        if self.depth > ground_motion.LARGEST_DEPTH_KM:
            found.append(
                f"a depth of {self.depth:g} km is more than the "
                f"{ground_motion.LARGEST_DEPTH_KM:g} km of the ground-motion model's earthquakes"
            )
        if self.mag > 6.5:
            found.append(
                "the ground-motion model sees a point; near the rupture of an earthquake of "
                "this size, motion is underestimated"
            )
        return found


_DEFAULTS: dict[str, Any] = {
    "mag": None,
    "lon": None,
    "lat": None,
    "depth": None,
    "mechanism": "unspecified",
    "rake": None,
    "vs30": 600.0,
    "half_width_km": 60.0,
    "spacing_km": 2.0,
    "realizations": 500,
    "seed": 1,
    "spatial_correlation": True,
    "fragility_beta": fragility.BETA_OF_STATES,
    "exposure": None,
}


def read(given: Mapping[str, Any]) -> Scenario:
    """Return the scenario that *given* asks for, or raise `WrongInput`."""
    for name in given:
        if name not in _DEFAULTS:
            near = get_close_matches(name, _DEFAULTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_DEFAULTS)}"
            raise WrongInput(f"there is no parameter {name!r}; {hint}")
    values = {**_DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    missing = [name for name in ("mag", "lon", "lat", "depth") if values[name] is None]
    if missing:
        raise WrongInput(f"missing: {', '.join(missing)}; a scenario needs mag, lon, lat and depth")
    half_width = number(values["half_width_km"], "half_width_km", 1.0, 300.0, "km")
    spacing = number(values["spacing_km"], "spacing_km", 0.05, 50.0, "km")
    points = (2 * max(1, round(half_width / spacing)) + 1) ** 2
    if points > MOST_POINTS:
        raise WrongInput(
            f"half_width_km {half_width:g} and spacing_km {spacing:g} make {points} points; at "
            f"most {MOST_POINTS} are computed: give a larger spacing_km"
        )
    return Scenario(
        mag=number(values["mag"], "mag", 3.0, 8.5, "moment magnitude"),
        lon=number(values["lon"], "lon", -180.0, 180.0, "degrees east"),
        lat=number(values["lat"], "lat", -85.0, 85.0, "degrees north; a grid at a pole has none"),
        depth=_depth(values["depth"]),
        mechanism=_mechanism(values["mechanism"], values["rake"], "mechanism" in given),
        vs30=number(values["vs30"], "vs30", 100.0, 2500.0, "m/s"),
        half_width_km=half_width,
        spacing_km=spacing,
        realizations=_whole(values["realizations"], "realizations", 10, MOST_REALIZATIONS),
        seed=_whole(values["seed"], "seed", 0, 2**63 - 1),
        spatial_correlation=_flag(values["spatial_correlation"], "spatial_correlation"),
        fragility_beta=number(values["fragility_beta"], "fragility_beta", 0.1, 2.0, ""),
        exposure=values["exposure"],
    )


def number(value: Any, name: str, low: float, high: float, unit: str) -> float:
    """Return *value* as a number from *low* to *high*, or raise `WrongInput` naming *name*."""
    expected = f"expected a number from {low:g} to {high:g}" + (f" ({unit})" if unit else "")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise WrongInput(f"{name} is {_shown(value)}; {expected}")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise WrongInput(f"{name} is {_shown(value)}; {expected}") from None
    if not low <= found <= high:  # nan is in no range
        raise WrongInput(f"{name} is {_shown(value)}; {expected}")
    return found


def _depth(value: Any) -> float:
    depth = number(value, "depth", 0.0, 100.0, "km, more than 0")
    if depth == 0.0:
        raise WrongInput("depth is 0; expected a number more than 0, up to 100 (km)")
    return depth


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    found = number(value, name, low, high, "a whole number")
    if found != int(found):
        raise WrongInput(f"{name} is {_shown(value)}; expected a whole number")
    return int(found)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise WrongInput(f"{name} is {_shown(value)}; expected true or false")
    return value


def _mechanism(word: Any, rake: Any, chosen: bool) -> str:
    if not isinstance(word, str) or word not in ground_motion.MECHANISMS:
        expected = ", ".join(ground_motion.MECHANISMS)
        raise WrongInput(f"mechanism is {_shown(word)}; expected one of {expected}")
    if rake is None:
        return word
    from_rake = ground_motion.mechanism_of(number(rake, "rake", -180.0, 180.0, "degrees"))
    if chosen and word not in ("unspecified", from_rake):
        raise WrongInput(
            f"mechanism {word} and rake {rake:g} ({from_rake}) say different things; give one"
        )
    return from_rake


def _shown(value: Any) -> str:
    return repr(value)[:60]
