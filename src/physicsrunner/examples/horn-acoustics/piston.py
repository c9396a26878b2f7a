"""
What the solver is held against: two radiators whose field is known exactly.

The rigid piston in an infinite baffle: R1 = 1 - J1(2ka) / ka, X1 = H1(2ka) / ka with the Struve
function H1, and the directivity 2 J1(ka sin t) / (ka sin t) (Rayleigh, The Theory of Sound, 1896,
section 302; Kinsler and others, Fundamentals of Acoustics, 4th edition, sections 7.4 and 7.5). The
pulsating sphere in free space: Z = jka / (1 + jka) (section 7.1 there). All relative to rho c.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from helmholtz import SOURCE, Fluid, Solution
from outlines import Fineness, Meridian, Region, baffled, free
from scipy.special import j1, struve
from triangles import fill

from physicsrunner.examples.check import Compared

# Up to 5 the mesh follows the shape, above it the wavelength: both are held.
KA: Final = (0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 8.0, 12.0, 20.0)
SPHERE_KA: Final = (0.2, 1.0, 2.0, 5.0, 12.0, 20.0)
POLAR_KA: Final = (5.0, 20.0)  #: of the directivity
ANGLES: Final = (15.0, 30.0, 45.0, 60.0, 75.0, 90.0)  #: degrees, of the directivity
_FAR = 1e4  # distance of the far field, in radii


def piston_impedance(ka: float) -> complex:
    """Return the piston's radiation impedance relative to rho c, of exp(+j omega t)."""
    return complex(1.0 - j1(2.0 * ka) / ka, struve(1, 2.0 * ka) / ka)


def piston_directivity(ka: float, angle: float) -> float:
    """Return the far pressure at *angle* (degrees) from the axis, relative to that on it."""
    x = ka * float(np.sin(np.radians(angle)))
    return float(2.0 * j1(x) / x) if x else 1.0


def sphere_impedance(ka: float) -> complex:
    """Return the pulsating sphere's impedance relative to rho c."""
    return 1j * ka / (1.0 + 1j * ka)


def compare() -> list[Compared]:
    """Solve both radiators, of radius 1, and return the computed values beside the exact ones."""
    rows = []
    disc = Meridian(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([SOURCE]))
    for ka in KA:
        solved = _solved(baffled(disc), ka)
        rows += _parts("piston in a baffle", ka, piston_impedance(ka), solved.impedance)
        if ka in POLAR_KA:
            rows += _polar(ka, solved)
    turn = np.linspace(0.0, np.pi, 361)
    circle = np.column_stack([np.sin(turn), np.cos(turn)])
    circle[[0, -1], 0] = 0.0
    ball = Meridian(circle, np.full(360, SOURCE))
    for ka in SPHERE_KA:
        solved = _solved(free(ball, 0.0), ka)
        rows += _parts("pulsating sphere", ka, sphere_impedance(ka), solved.impedance)
    return rows


def _solved(region: Region, ka: float) -> Solution:
    size = Fineness(region, 1.0).at(2.0 * np.pi / ka)
    return Fluid(fill(region.outline, size), region.sphere).solve(ka)


def _polar(ka: float, solved: Solution) -> list[Compared]:
    angles = np.radians([0.0, *ANGLES])
    far = np.abs(solved.waves.pressure(_FAR * np.sin(angles), _FAR * np.cos(angles)))
    return [
        Compared(f"directivity at ka {ka:g}, degrees", angle, exact, float(computed))
        for angle, computed in zip(ANGLES, far[1:] / far[0], strict=True)
        for exact in (abs(piston_directivity(ka, angle)),)
    ]


def _parts(name: str, ka: float, exact: complex, computed: complex) -> list[Compared]:
    return [
        Compared(f"R, {name}, ka", ka, exact.real, computed.real),
        Compared(f"X, {name}, ka", ka, exact.imag, computed.imag),
    ]
