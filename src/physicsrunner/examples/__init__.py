"""
Packaged cases, each checked against a published or an analytical result.

Promises: `EXAMPLES` names every case; its folder is a case like any other (main.py and case.yaml)
and can be copied, changed, run and submitted. This package imports nothing of physicsrunner and
no extra; the cases themselves need what their `needs` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Example:
    """One packaged case and what its result is held against."""

    name: str
    title: str
    reference: str  #: where the values that it is checked against come from
    unit: str  #: of the compared values
    tolerance: float  #: largest deviation that `demo --check` accepts, in `unit`
    note: str  #: what a reader of the deviations should know
    modules: tuple[str, ...] = ()  #: Python modules that main.py imports
    programs: tuple[str, ...] = ()  #: programs that must be on PATH

    @property
    def folder(self) -> Path:
        """The case's folder."""
        return Path(__file__).parent / self.name


_GHIA: Final = "Ghia, Ghia and Shin, J. Comput. Phys. 48 (1982) 387-411, tables I and II, Re = 100"

EXAMPLES: Final[Mapping[str, Example]] = MappingProxyType(
    {
        example.name: example
        for example in (
            Example(
                name="cavity",
                title="Lid-driven cavity at Re 100: a flow solver in NumPy, 15 s",
                reference=_GHIA,
                unit="lid speeds",
                tolerance=0.01,
                note="Most of the deviation is the table's own: grids of 65 and 129 points, "
                "extrapolated, give a minimum of v of -0.2538, the table -0.2453.",
                modules=("numpy", "matplotlib", "meshio"),
            ),
            Example(
                name="heat",
                title="A hot steel plate quenched on both faces: heat conduction, 2 s",
                reference="the Fourier series of the slab (Carslaw and Jaeger, "
                "Conduction of Heat in Solids, 1959, section 3.3)",
                unit="K",
                tolerance=0.02,
                note="What is left is the error of a grid of 201 points.",
                modules=("numpy", "matplotlib", "meshio"),
            ),
            Example(
                name="horn-acoustics",
                title="A horn's impedance and directivity by finite elements, 12 s",
                reference="the piston in an infinite baffle (Rayleigh, The Theory of Sound, "
                "section 302: R1 = 1 - J1(2ka)/ka, X1 = H1(2ka)/ka) and the pulsating sphere",
                unit="rho c",
                tolerance=0.001,
                note="Held against them by the solver that then computes the horn; what is left "
                "is the error of the mesh, 8 quadratic elements in a wavelength.",
                modules=("numpy", "scipy", "skfem", "matplotlib"),
            ),
            Example(
                name="openfoam-cavity",
                title="The same cavity by OpenFOAM's icoFoam, with its residuals live, 10 s",
                reference=_GHIA,
                unit="lid speeds",
                tolerance=0.012,
                note="On 40 x 40 cells the grid's error and the table's are of one size.",
                modules=("numpy", "matplotlib", "meshio"),
                programs=("blockMesh", "icoFoam"),
            ),
            Example(
                name="shake-scenario",
                title="An earthquake: ground motion, damage and casualties on a map, 3 s",
                reference="OpenQuake's verification tables of Bindi et al. (2014), ShakeMap's "
                "test values of Worden et al. (2012), medians of Hazus-MH 2.1",
                unit="in ln, MMI or probability",
                tolerance=2e-4,
                note="The deviations of PGA, 0.01 % at most, are the table's: it was made with one "
                "coefficient rounded (c3 = 9.6e-5).",
            ),
        )
    }
)
