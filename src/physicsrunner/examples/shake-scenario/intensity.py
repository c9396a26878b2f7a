"""
Macroseismic intensity from ground motion, by Worden et al. (2012).

C. B. Worden, M. C. Gerstenberger, D. A. Rhoades and D. J. Wald, "Probabilistic relationships
between ground-motion parameters and Modified Mercalli intensity in California", Bull. Seismol.
Soc. Am. 102 (2012) 204-221, table 1: MMI = a + b log10 Y in two pieces. Below intensity 2 stands
the line that ShakeMap (U.S. Geological Survey) puts there, which the paper speaks of. Intensities
end at 1 and 10, as there.

The paper's ground motion is the larger of two horizontal components; given the geometric mean,
the intensity comes out some tenth of a degree low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NAME = "Worden et al. (2012), from PGV"
LOWEST, HIGHEST = 1.0, 10.0


@dataclass(frozen=True)
class Conversion:
    """Three pieces of a line in log10 Y, and the standard deviation of the intensity."""

    faint: tuple[float, float]  #: a, b below `faint_end`
    low: tuple[float, float]
    high: tuple[float, float]
    faint_end: float  #: log10 Y
    low_end: float  #: log10 Y
    sigma: float  #: units of intensity

    def intensity(self, motion: float) -> float:
        """Return the intensity of a *motion* (> 0) in cm/s^2 or cm/s."""
        level = math.log10(motion)
        if level < self.faint_end:
            a, b = self.faint
        elif level < self.low_end:
            a, b = self.low
        else:
            a, b = self.high
        return min(HIGHEST, max(LOWEST, a + b * level))


FROM_PGA = Conversion((1.71, 2.08), (1.78, 1.55), (-1.60, 3.70), 0.14, 1.57, 0.66)  #: cm/s^2
FROM_PGV = Conversion((4.62, 2.17), (3.78, 1.47), (2.89, 3.16), -1.21, 0.53, 0.63)  #: cm/s

_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def roman(intensity: float) -> str:
    """Return the intensity's whole degree as it is written: 7.4 is VII."""
    return _ROMAN[min(9, max(0, math.floor(intensity + 0.5) - 1))]
