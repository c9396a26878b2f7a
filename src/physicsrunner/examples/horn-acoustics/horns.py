"""
Profiles of horns by published formulas: from the throat outwards, as points (r, z) in metres.

Promises: the parameters have the names, and the lengths the unit (mm), of the ATH design tool;
angles are half angles in degrees. An unknown formula or a value out of its range is a ValueError
that names it. A profile begins on the throat's rim at z = 0.

Sources: M. Batik, OS-SE Waveguide (2020) and R-OSSE Waveguide, revision 7 (2022), both at
at-horns.eu. The defaults of R-OSSE are the worked example ST260 of the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

MM: Final = 1e-3
POINTS: Final = 161  #: of a profile

Values = Mapping[str, float]


def _osse(p: Values) -> np.ndarray:
    """Return OS-SE: an oblate spheroid's hyperbola, ended by a superellipse at a flat baffle."""
    z = np.linspace(0.0, 1.0, POINTS) ** 0.8 * p["L"]
    # Closer towards the mouth, where the superellipse is steep.
    z = p["L"] * (1.0 - (1.0 - z / p["L"]) ** 1.6)
    a, a0, r0, k = np.radians(p["a"]), np.radians(p["a0"]), p["r0"], p["k"]
    body = np.sqrt((k * r0) ** 2 + 2.0 * k * r0 * z * np.tan(a0) + (z * np.tan(a)) ** 2)
    ended = 1.0 - np.clip(p["q"] * z / p["L"], 0.0, 1.0) ** p["n"]
    end = p["s"] * p["L"] / p["q"] * (1.0 - ended ** (1.0 / p["n"]))
    return np.column_stack([body + r0 * (1.0 - k) + end, z])


def _rosse(p: Values) -> np.ndarray:
    """Return R-OSSE, which rolls back behind its mouth."""
    t = np.linspace(0.0, 1.0, POINTS)
    r0, k, rim, m, r, q = (p[name] for name in ("r0", "k", "R", "m", "r", "q"))
    c1 = (k * r0) ** 2
    c2 = 2.0 * k * r0 * np.tan(np.radians(p["a0"]))
    c3 = np.tan(np.radians(p["a"])) ** 2
    length = (np.sqrt(c2**2 - 4.0 * c3 * (c1 - (rim + r0 * (k - 1.0)) ** 2)) - c2) / (2.0 * c3)
    z = length * (np.hypot(r, m) - np.hypot(r, t - m))
    z += p["b"] * length * (np.hypot(r, 1.0 - m) - np.hypot(r, m)) * t**2
    throat = np.sqrt(c1 + c2 * length * t + c3 * (length * t) ** 2) + r0 * (1.0 - k)
    mouth = rim + length * (1.0 - np.sqrt(1.0 + c3 * (t - 1.0) ** 2))
    return np.column_stack([(1.0 - t**q) * throat + t**q * mouth, z])


def _conical(p: Values) -> np.ndarray:
    """Return a straight cone."""
    t = np.linspace(0.0, 1.0, 33)
    return np.column_stack([p["r0"] + t * (p["R"] - p["r0"]), t * p["L"]])


def _exponential(p: Values) -> np.ndarray:
    """Return a horn whose cross-section grows by the same factor on every length (Webster 1919)."""
    t = np.linspace(0.0, 1.0, POINTS)
    return np.column_stack([p["r0"] * (p["R"] / p["r0"]) ** t, t * p["L"]])


_FORMULAS: Final[Mapping[str, tuple[Callable[[Values], np.ndarray], Values]]] = {
    "R-OSSE": (_rosse, {"R": 130.0, "r0": 12.7, "a": 39.0, "a0": 7.5, "k": 1.8, "r": 0.3,
                        "b": 0.3, "m": 0.8, "q": 3.7}),
    "OSSE": (_osse, {"L": 100.0, "r0": 12.7, "a": 42.0, "a0": 7.5, "k": 1.0, "s": 0.6, "n": 4.0,
                     "q": 0.995}),
    "conical": (_conical, {"r0": 12.7, "R": 100.0, "L": 120.0}),
    "exponential": (_exponential, {"r0": 12.7, "R": 100.0, "L": 200.0}),
}  # fmt: skip
_LENGTHS: Final = ("R", "r0", "L")
_MAY_BE_ZERO: Final = ("a0", "b", "s", "k")


def formula_named(name: Any) -> str:
    """Return *name* as the formulas spell it, or raise ValueError with those that there are."""
    wanted = str(name).replace("-", "").replace("_", "").lower()
    for known in _FORMULAS:
        if known.replace("-", "").lower() == wanted:
            return known
    raise ValueError(f"formula_type: {name!r} is not known; there are: {', '.join(_FORMULAS)}")


def parameters_of(formula: str) -> tuple[str, ...]:
    """Return the names of the parameters of *formula*."""
    return tuple(_FORMULAS[formula][1])


def profile(formula: str, given: Mapping[str, Any]) -> np.ndarray:
    """
    Return the profile of *formula* with the parameters in *given*, defaults for the others.

    Raises
    ------
    ValueError
        If one is no number or out of range, or if they give no horn together.
    """
    build, defaults = _FORMULAS[formula]
    values = {name: _number(name, given.get(name), value) for name, value in defaults.items()}
    _check(formula, values)
    in_metres = {name: v * MM if name in _LENGTHS else v for name, v in values.items()}
    with np.errstate(invalid="ignore"):
        points = build(in_metres)
    if not np.isfinite(points).all() or points[:, 0].min() <= 0.0 or points[:, 1].max() <= 0.0:
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise ValueError(f"{formula}: these parameters give no horn: {shown}")
    return points


def _number(name: str, value: Any, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(
                f"{name}: expected a number, got {value!r}; an expression that changes around the "
                "axis is no body of revolution, which is all that this model computes"
            ) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def _check(formula: str, values: Values) -> None:
    for name, value in values.items():
        if value < 0.0 or (value == 0.0 and name not in _MAY_BE_ZERO):
            raise ValueError(f"{name}: expected a number above 0, got {value:g}")
        if name in ("a", "a0") and value >= 90.0:
            raise ValueError(f"{name}: expected a half angle below 90 degrees, got {value:g}")
    if "R" in values and values["R"] <= values["r0"]:
        raise ValueError(
            f"R: the mouth must be wider than the throat (r0 {values['r0']:g} mm), "
            f"got {values['R']:g}"
        )
    if formula == "OSSE" and values["q"] > 1.0:
        raise ValueError(f"q: OSSE expects at most 1, got {values['q']:g}")
