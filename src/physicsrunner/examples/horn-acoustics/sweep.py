"""
One frequency after the other, and what is kept of each.

Promises: `sweep` yields after every frequency, in ascending order, so that a caller can tell and
stop between two. The mesh is made anew when the wavelength asks for a finer one. `document` and
`ROWS` have the same numbers; quantities are named with their units below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from helmholtz import Fluid, Solution
from outlines import ELEMENTS, Fineness, Region
from request import Request
from triangles import fill

#: Nodes that a sweep may need at its highest frequency: some 20 s and 2 GB there.
MOST_NODES: Final = 300_000
COLUMNS: Final = ("frequency", "impedance_real", "impedance_imaginary", "spl_on_axis",
                  "phase_degrees", "di")  # fmt: skip

_STEP = 5.0  # degrees
_BAND = 1.15  # a mesh serves up to this multiple of the frequency that it is made at
_FAR = 1e4  # radii: there the directivity index is that of infinity
_HEARING = 20e-6  # Pa, of 0 dB


@dataclass(frozen=True)
class Point:
    """One frequency: numbers as `COLUMNS` has them, and the directivity."""

    frequency: float  #: Hz
    impedance: complex  #: of the source, p / U, relative to rho c / S
    spl: float  #: dB re 20 uPa, on the axis at the distance asked for
    phase: float  #: degrees, there
    di: float  #: dB, of the axis over the mean of the whole sphere, far away
    polar: np.ndarray  #: dB relative to the axis, at `angles`

    @property
    def row(self) -> tuple[float, ...]:
        """The numbers in the order of `COLUMNS`."""
        z = self.impedance
        return (self.frequency, z.real, z.imag, self.spl, self.phase, self.di)


@dataclass(frozen=True)
class Step:
    """A solved frequency with its mesh and field."""

    point: Point
    fluid: Fluid
    solution: Solution


def angles(region: Region) -> np.ndarray:
    """Return the angles from the axis (degrees); behind a baffle there is nothing."""
    return np.arange(0.0, (90.0 if region.sphere.half else 180.0) + 0.1, _STEP)


def refuse(region: Region, request: Request) -> None:
    """Raise ValueError when it needs too many nodes, or is to be heard from within the horn."""
    nearest = region.sphere.radius + abs(region.mouth - region.sphere.centre)
    if request.distance <= nearest:
        raise ValueError(
            f"distance: {request.distance:g} m is too near; it must be more than {nearest:.3g} m, "
            "outside of the sphere around the horn"
        )
    corners, after = region.outline.points, np.roll(region.outline.points, -1, axis=0)
    area = 0.5 * abs(float(np.sum(corners[:, 0] * after[:, 1] - after[:, 0] * corners[:, 1])))
    edge = request.sound_speed / request.frequencies[-1] / ELEMENTS
    # A triangle of equal sides, and two nodes for each in a large mesh of quadratic ones.
    nodes = 2.0 * area / (np.sqrt(3.0) / 4.0 * edge**2)
    if nodes > MOST_NODES:
        highest = request.frequencies[-1] * np.sqrt(MOST_NODES / nodes)
        raise ValueError(
            f"frequency_range: {request.frequencies[-1]:g} Hz needs some {nodes:.2g} nodes on a "
            f"horn of {2e3 * region.mouth_radius:.4g} mm; allowed are {MOST_NODES:.2g}: give at "
            f"most {highest:.3g} Hz (and look whether mesh_unit is right)"
        )


def sweep(region: Region, request: Request, source_radius: float) -> Iterator[Step]:
    """Yield each frequency's solution; a caller that stops loses nothing."""
    fineness, fluid, limit = Fineness(region, source_radius), None, 0.0
    for frequency in request.frequencies.tolist():
        if fluid is None or frequency > limit:
            limit = min(_BAND * frequency, float(request.frequencies[-1]))
            size = fineness.at(request.sound_speed / limit)
            fluid = Fluid(fill(region.outline, size), region.sphere)
        solution = fluid.solve(2.0 * np.pi * frequency / request.sound_speed)
        yield Step(_point(region, request, frequency, fluid, solution), fluid, solution)


def _point(
    region: Region, request: Request, frequency: float, fluid: Fluid, solution: Solution
) -> Point:
    turn = np.radians(angles(region))
    r, z = request.distance * np.sin(turn), request.distance * np.cos(turn)
    pressure = solution.waves.pressure(r, z + region.mouth)
    amplitude, axis = np.abs(pressure), complex(pressure[0])
    tiny = 1e-12 * amplitude.max()
    scale = request.density * request.sound_speed * request.velocity
    # The mean intensity over a whole sphere is what the source gives out; both from far away.
    far = _FAR * region.sphere.radius
    forward = abs(solution.waves.pressure(np.zeros(1), np.array([far]))[0])
    mean = solution.impedance.real * fluid.source_area / (4.0 * np.pi * far**2)
    return Point(
        frequency=frequency,
        impedance=solution.impedance,
        spl=float(20.0 * np.log10(max(abs(axis), tiny) * scale / _HEARING)),
        phase=float(np.degrees(np.angle(axis))),
        di=float(10.0 * np.log10(max(forward, 1e-12 * np.sqrt(mean)) ** 2 / mean)),
        polar=20.0 * np.log10(np.maximum(amplitude, tiny) / max(abs(axis), tiny)),
    )


def document(
    region: Region, request: Request, points: list[Point], facts: dict[str, Any]
) -> dict[str, Any]:
    """Return the results as one JSON document."""
    frequencies = [_short(point.frequency) for point in points]
    around = angles(region).tolist()
    polar = [
        [[angle, _short(level)] for angle, level in zip(around, point.polar.tolist(), strict=True)]
        for point in points
    ]
    return {
        "frequencies": frequencies,
        # Around the axis everything is equal: the three planes that are usual have one pattern.
        "directivity": {"horizontal": polar, "vertical": polar, "diagonal": polar},
        "spl_on_axis": {
            "frequencies": frequencies,
            "spl": [_short(point.spl) for point in points],
            "phase_degrees": [_short(point.phase) for point in points],
        },
        "impedance": {
            "frequencies": frequencies,
            "real": [_short(point.impedance.real) for point in points],
            "imaginary": [_short(point.impedance.imag) for point in points],
        },
        "di": {"frequencies": frequencies, "di": [_short(point.di) for point in points]},
        "metadata": {
            "solver": "axisymmetric Helmholtz equation, quadratic finite elements",
            "formula_type": request.formula,
            "sim_type": "1" if request.baffled else "2",
            "label": request.label,
            "impedance_relative_to": "rho c / S",
            "time_dependence": "exp(+j omega t)",
            "distance_m": request.distance,
            "velocity_m_s": request.velocity,
            "sound_speed_m_s": request.sound_speed,
            "density_kg_m3": request.density,
            "partial": len(points) < len(request.frequencies),
            **facts,
        },
    }


def _short(value: float) -> float:
    """Return *value* to seven digits: more are not computed."""
    return float(f"{value:.7g}")
