"""
Peak ground acceleration and velocity by Bindi et al. (2014), from the hypocentral distance.

D. Bindi, M. Massa, L. Luzi, G. Ameri, F. Pacor, R. Puglia and P. Augliera, "Pan-European
ground-motion prediction equations for the average horizontal component of PGA, PGV, and
5 %-damped PSA at spectral periods up to 3.0 s using the RESORCE dataset", Bulletin of Earthquake
Engineering 12 (2014) 391-430, with the coefficients of its electronic supplement, which the
erratum (431-448) says are the right ones. Here: table 4, hypocentral distance and Vs30.

    log10 Y = e1 + F_D(R, M) + F_M(M) + F_S + F_sof                                  (1)
    F_D = [c1 + c2 (M - 5.5)] log10(r / 1 km) - c3 (r - 1 km),  r = sqrt(R^2 + h^2)  (2)
    F_M = b1 (M - 6.75) + b2 (M - 6.75)^2 for M <= 6.75, else b3 (M - 6.75)          (3)
    F_S = gamma log10(Vs30 / 800 m/s)                                                (5)

Y is in cm/s^2 for PGA and cm/s for PGV: the geometric mean of the two horizontal components.
Derived from earthquakes of magnitude 4 to 7.6, to 300 km, no deeper than 35 km. A hypocentral
distance sees a point: where a great earthquake's rupture lies is not known to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NAME = "Bindi et al. (2014), hypocentral distance, Vs30"
MAGNITUDES = (4.0, 7.6)  #: derived from
LARGEST_DISTANCE_KM = 300.0
LARGEST_DEPTH_KM = 35.0
GRAVITY_CM_S2 = 980.665
EARTH_RADIUS_KM = 6371.0

_REFERENCE_MAGNITUDE, _HINGE_MAGNITUDE, _REFERENCE_VS30 = 5.5, 6.75, 800.0
_LN10 = math.log(10.0)


@dataclass(frozen=True)
class Coefficients:
    """One row of table 4; sigmas in log10 units."""

    e1: float
    c1: float
    c2: float
    h: float  #: km
    c3: float
    b1: float
    b2: float
    b3: float
    gamma: float
    normal: float
    reverse: float
    strike_slip: float
    tau: float  #: between earthquakes
    phi: float  #: within one
    sigma: float  #: total

    @property
    def tau_ln(self) -> float:
        """Standard deviation between earthquakes, in natural logarithms."""
        return self.tau * _LN10

    @property
    def phi_ln(self) -> float:
        """Standard deviation within an earthquake, in natural logarithms."""
        return self.phi * _LN10

    @property
    def sigma_ln(self) -> float:
        """Total standard deviation, in natural logarithms."""
        return self.sigma * _LN10


PGA = Coefficients(
    e1=4.27391, c1=-1.57821, c2=0.108218, h=4.82743, c3=9.63923e-5,
    b1=0.217109, b2=-0.0682563, b3=0.352976, gamma=-0.293242,
    normal=-0.0472145, reverse=0.110979, strike_slip=-0.0637639,
    tau=0.145783, phi=0.291566, sigma=0.325981,
)  # fmt: skip
PGV = Coefficients(
    e1=3.24249, c1=-1.57556, c2=0.0791774, h=4.38918, c3=0.0,
    b1=0.472433, b2=-0.0725484, b3=0.436952, gamma=-0.508833,
    normal=-0.0157195, reverse=0.0713859, strike_slip=-0.055666,
    tau=0.193206, phi=0.295126, sigma=0.352744,
)  # fmt: skip

#: The three terms add up to nothing: without one stands the mean of all mechanisms.
MECHANISMS = ("unspecified", "normal", "reverse", "strike-slip")


def mechanism_of(rake: float) -> str:
    """Return the mechanism of a *rake* in degrees: within 30 of horizontal it is strike-slip."""
    if abs(rake) <= 30.0 or abs(rake) >= 150.0:
        return "strike-slip"
    return "reverse" if rake > 0.0 else "normal"


class Motion:
    """The medians of one earthquake: what does not depend on the place is worked out once."""

    def __init__(self, row: Coefficients, magnitude: float, mechanism: str) -> None:
        self._row = row
        above = magnitude - _HINGE_MAGNITUDE
        scaling = (row.b1 + row.b2 * above) * above if above <= 0.0 else row.b3 * above
        style = {
            "unspecified": 0.0,
            "normal": row.normal,
            "reverse": row.reverse,
            "strike-slip": row.strike_slip,
        }[mechanism]
        self._source = row.e1 + scaling + style
        self._slope = row.c1 + row.c2 * (magnitude - _REFERENCE_MAGNITUDE)

    def median(self, distance_km: float, vs30: float) -> float:
        """Return the median in the units of the paper (cm/s^2 or cm/s)."""
        row = self._row
        r = math.hypot(distance_km, row.h)
        path = self._slope * math.log10(r) - row.c3 * (r - 1.0)
        site = row.gamma * math.log10(vs30 / _REFERENCE_VS30)
        return float(10.0 ** (self._source + path + site))


class Shaking:
    """PGA in g and PGV in cm/s of one earthquake, at a hypocentral distance."""

    def __init__(self, magnitude: float, mechanism: str) -> None:
        self._pga = Motion(PGA, magnitude, mechanism)
        self._pgv = Motion(PGV, magnitude, mechanism)

    def pga(self, distance_km: float, vs30: float) -> float:
        """Return the median peak ground acceleration in g."""
        return self._pga.median(distance_km, vs30) / GRAVITY_CM_S2

    def pgv(self, distance_km: float, vs30: float) -> float:
        """Return the median peak ground velocity in cm/s."""
        return self._pgv.median(distance_km, vs30)


def epicentral_distance(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """Return the great-circle distance in km of two places in degrees (haversine)."""
    phi, other_phi = math.radians(lat), math.radians(other_lat)
    across = math.sin(math.radians(other_lon - lon) / 2.0)
    along = math.sin((other_phi - phi) / 2.0)
    squared = along * along + math.cos(phi) * math.cos(other_phi) * across * across
    return 2.0 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(squared)))
