"""
Values that others published for the models used here, and ours beside them.

- Ground motion: the verification tables of the OpenQuake engine for Bindi et al. (2014) with
  hypocentral distance and Vs30 (Global Earthquake Model Foundation, files
  ``BINDI2014/B14_Rhypo_Vs30_{MEAN,INTER_STD,INTRA_STD,TOTAL_STD}.csv``), PGA in g, PGV in cm/s.
  They were made with c3 of PGA rounded to 9.6e-5, the supplement has 9.63923e-5: at 100 km that
  is 9e-5 of the value.
- Intensity: the test values of ShakeMap for Worden et al. (2012) (U.S. Geological Survey,
  ``wgrw12_test.py``), with 981 cm/s^2 for g as there.
- Fragility: medians of Hazus-MH 2.1, tables 5.16b and d, with its standard deviation of 0.64.

Ground motions are compared by their natural logarithms: a deviation of 0.0001 is 0.01 %.
"""

from __future__ import annotations

import math

import fragility
import ground_motion
import intensity

from physicsrunner.examples.check import Compared

#: (magnitude, mechanism, hypocentral distance in km, Vs30 in m/s, PGV in cm/s, PGA in g)
MEDIANS = (
    (4.5, "strike-slip", 0.0, 850.0, 4.78853759e00, 1.67285427e-01),
    (4.5, "reverse", 20.0, 570.0, 6.14852630e-01, 2.43101407e-02),
    (4.5, "normal", 100.0, 300.0, 5.04780866e-02, 1.38938117e-03),
    (5.5, "strike-slip", 50.0, 150.0, 1.49070580e00, 2.31493127e-02),
    (5.5, "reverse", 100.0, 850.0, 2.78485761e-01, 6.93231731e-03),
    (5.5, "normal", 20.0, 570.0, 3.40279998e00, 6.69459040e-02),
    (6.5, "strike-slip", 20.0, 300.0, 2.08355437e01, 2.25183109e-01),
    (6.5, "reverse", 50.0, 570.0, 5.26425894e00, 7.46164140e-02),
    (6.5, "normal", 0.0, 150.0, 3.25684325e02, 2.42322184e00),
    (7.5, "strike-slip", 100.0, 570.0, 5.68122023e00, 6.20548159e-02),
    (7.5, "reverse", 20.0, 850.0, 5.88694182e01, 7.24514240e-01),
    (7.5, "normal", 50.0, 300.0, 2.29656163e01, 2.01249615e-01),
)

#: In natural logarithms: (between earthquakes, within, total) of PGV and of PGA.
SIGMA_PGV = (4.448733e-01, 6.795527e-01, 8.122231e-01)
SIGMA_PGA = (3.356778e-01, 6.713555e-01, 7.505990e-01)

#: (PGA in g, MMI) and (PGV in cm/s, MMI)
FROM_PGA = ((0.01, 3.31708696), (0.03, 4.05662491), (0.1, 5.76917533), (0.2, 6.88298631),
            (0.3, 7.53452397), (0.4, 7.9967973), (0.5, 8.35536434))  # fmt: skip
FROM_PGV = ((1.0, 3.78), (3.0, 4.48136824), (10.0, 6.05), (20.0, 7.00125479),
            (30.0, 7.55770316), (40.0, 7.95250957), (50.0, 8.25874521))  # fmt: skip
_SHAKEMAP_G = 981.0

#: (type, code level, medians in g of slight, moderate, extensive and complete damage)
CURVES = (
    ("URML", "pre", 0.13, 0.17, 0.26, 0.37),
    ("C1M", "moderate", 0.13, 0.21, 0.49, 0.89),
)


def compare() -> list[Compared]:
    """Return all of them with what this model computes; every run does, it takes no time."""
    return [*_medians(), *_sigmas(), *_intensities(), *_curves()]


def _medians() -> list[Compared]:
    rows = []
    for magnitude, mechanism, distance, vs30, pgv, pga in MEDIANS:
        shaking = ground_motion.Shaking(magnitude, mechanism)
        case = f"M {magnitude} {mechanism}, Vs30 {vs30:.0f}"
        for name, published, computed in (
            ("ln PGA", pga, shaking.pga(distance, vs30)),
            ("ln PGV", pgv, shaking.pgv(distance, vs30)),
        ):
            values = math.log(published), math.log(computed)
            rows.append(Compared(f"{name}, {case}, distance in km", distance, *values))
    return rows


def _sigmas() -> list[Compared]:
    return [
        Compared(f"sigma of ln {name}, {part}", 0.0, reference, value)
        for name, row, published in (
            ("PGA", ground_motion.PGA, SIGMA_PGA),
            ("PGV", ground_motion.PGV, SIGMA_PGV),
        )
        for part, reference, value in zip(
            ("between", "within", "total"),
            published,
            (row.tau_ln, row.phi_ln, row.sigma_ln),
            strict=True,
        )
    ]


def _intensities() -> list[Compared]:
    from_pga = [
        Compared("MMI of PGA in g", pga, mmi, intensity.FROM_PGA.intensity(pga * _SHAKEMAP_G))
        for pga, mmi in FROM_PGA
    ]
    from_pgv = [
        Compared("MMI of PGV in cm/s", pgv, mmi, intensity.FROM_PGV.intensity(pgv))
        for pgv, mmi in FROM_PGV
    ]
    return from_pga + from_pgv


def _curves() -> list[Compared]:
    """At its median a curve is one half; a deviation above, what the normal distribution has."""
    rows = []
    for kind, code, *medians in CURVES:
        curves = fragility.log_medians(kind, code)
        for place, median in enumerate(medians):
            name = f"P of {fragility.STATES[place + 1]}, {kind} {code}, PGA in g"
            for deviations, reference in ((0.0, 0.5), (1.0, 0.8413447)):
                pga = median * math.exp(deviations * 0.64)
                value = fragility.reached(curves, math.log(pga))[place]
                rows.append(Compared(name, pga, reference, value))
    return rows
