"""
Damage and casualties with their uncertainty: many realizations of one earthquake's ground motion.

Each realization draws one residual of the earthquake (standard deviation tau) and one for each
place (phi). Those of the places are correlated over the distance h by N. Jayaram and J. W. Baker,
"Correlation model for spatially distributed ground-motion intensities", Earthquake Engng Struct.
Dyn. 38 (2009) 1687-1708, equations 18 and 20: exp(-3 h / 40.7 km) for PGA where ground is of one
kind in a region (their case 2).

Given the ground motion, numbers of buildings and people are expected values: the luck of the
single building, small for many, is left out. Nothing is drawn for intensities: damage comes from
PGA. The same scenario and seed give the same numbers.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import mul

import exposure
import fragility
import ground_motion
from scenario import Scenario, WrongInput

MOST_CORRELATED = 1_000  #: places; the work grows with their square and cube
MOST_DRAWS = 10_000_000  #: assets times realizations: a minute, and 160 MB
_RANGE_KM = 40.7
#: What is counted for each asset and for all together.
COUNTS = (*fragility.STATES[1:], "damaged", "collapsed", *fragility.SEVERITIES)


@dataclass
class Spread:
    """One quantity over the realizations."""

    values: array[float] = field(default_factory=lambda: array("d"))

    def summary(self) -> dict[str, float]:
        """Return mean, 16th, 50th and 84th percentile, rounded to 4 digits behind the point."""
        ordered = sorted(self.values)
        found = {"mean": round(math.fsum(ordered) / len(ordered), 4)}
        for percent in (16, 50, 84):
            found[f"p{percent}"] = round(percentile(ordered, percent), 4)
        return found


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of ascending values, linear between two of them."""
    place = percent / 100.0 * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass
class Impact:
    """What the realizations came to."""

    totals: dict[str, Spread]
    damaged: list[Spread]  #: by asset: buildings with at least moderate damage
    killed: list[Spread]  #: by asset
    means: list[dict[str, float]]  #: by asset: the mean of each of `COUNTS`


@dataclass(frozen=True)
class _Kind:
    """What one asset needs in the loop."""

    place: int
    log_medians: tuple[float, ...]
    buildings: float
    occupants: float
    collapse: float
    weights: tuple[tuple[float, ...], ...]


def run(
    scenario: Scenario,
    assets: Sequence[exposure.Asset],
    tell: Callable[[int, float], None],
) -> Impact:
    """
    Draw *scenario*'s realizations and count what *assets* suffer.

    Parameters
    ----------
    tell
        Hears the number of realizations done and the mean of damaged buildings so far; it may
        end the program.

    Raises
    ------
    WrongInput
        If residuals are to be correlated at more than `MOST_CORRELATED` places, or there are
        more than `MOST_DRAWS` numbers to draw.
    """
    places, at = exposure.places(assets)
    _check(scenario, len(assets), len(places))
    kinds = [_kind(asset, place) for asset, place in zip(assets, at, strict=True)]
    impact = Impact(
        totals={name: Spread() for name in COUNTS},
        damaged=[Spread() for _ in kinds],
        killed=[Spread() for _ in kinds],
        means=[dict.fromkeys(COUNTS, 0.0) for _ in kinds],
    )
    running = 0.0
    for done, levels in enumerate(_levels(scenario, places), start=1):
        totals = dict.fromkeys(COUNTS, 0.0)
        for place, kind in enumerate(kinds):
            counts = _counts(kind, levels[kind.place], scenario.fragility_beta)
            impact.damaged[place].values.append(counts["damaged"])
            impact.killed[place].values.append(counts["killed"])
            means = impact.means[place]
            for name, value in counts.items():
                means[name] += value / scenario.realizations
                totals[name] += value
        for name, total in totals.items():
            impact.totals[name].values.append(total)
        running += totals["damaged"]
        tell(done, running / done)
    return impact


def _check(scenario: Scenario, assets: int, places: int) -> None:
    if assets * scenario.realizations > MOST_DRAWS:
        raise WrongInput(
            f"{assets} assets and {scenario.realizations} realizations are more than "
            f"{MOST_DRAWS} draws: give fewer realizations"
        )
    if scenario.spatial_correlation and places > MOST_CORRELATED:
        raise WrongInput(
            f"the exposure has {places} places; residuals are correlated at no more than "
            f"{MOST_CORRELATED}: set spatial_correlation to false, or join places"
        )


def _levels(
    scenario: Scenario, places: Sequence[tuple[float, float, float]]
) -> Iterator[list[float]]:
    """Give the logarithm of PGA in g at each place, once for each realization."""
    chance = random.Random(f"realizations {scenario.seed}")  # noqa: S311 -- repeatable
    medians = [math.log(median_pga(scenario, *place)) for place in places]
    factor = _factor(places) if scenario.spatial_correlation else None
    tau, phi = ground_motion.PGA.tau_ln, ground_motion.PGA.phi_ln
    for _ in range(scenario.realizations):
        between = tau * chance.gauss(0.0, 1.0)
        draws = [chance.gauss(0.0, 1.0) for _ in places]
        if factor is not None:
            draws = [sum(map(mul, row, draws)) for row in factor]  # row i is i + 1 long
        yield [median + between + phi * draw for median, draw in zip(medians, draws, strict=True)]


def median_pga(scenario: Scenario, lon: float, lat: float, vs30: float) -> float:
    """Return the median PGA in g at a place."""
    away = ground_motion.epicentral_distance(scenario.lon, scenario.lat, lon, lat)
    shaking = ground_motion.Shaking(scenario.mag, scenario.mechanism)
    return shaking.pga(math.hypot(away, scenario.depth), vs30)


def _kind(asset: exposure.Asset, place: int) -> _Kind:
    return _Kind(
        place=place,
        log_medians=fragility.log_medians(asset.type, asset.code),
        buildings=asset.buildings,
        occupants=asset.occupants,
        collapse=fragility.COLLAPSE[asset.type],
        weights=fragility.casualty_weights(asset.type),
    )


def _counts(kind: _Kind, level: float, beta: float) -> dict[str, float]:
    """Return `COUNTS` of one asset at the logarithm of a PGA in g."""
    reached = fragility.reached(kind.log_medians, level, beta)
    shares = fragility.states(reached)
    buildings = kind.buildings
    values = (
        *(buildings * share for share in shares[1:]),
        buildings * reached[1],
        buildings * shares[4] * kind.collapse,
        *(kind.occupants * sum(map(mul, weights, shares)) for weights in kind.weights),
    )
    return dict(zip(COUNTS, values, strict=True))


def correlation(distance_km: float) -> float:
    """Return the correlation of two places' residuals within the earthquake (equation 20)."""
    return math.exp(-3.0 * distance_km / _RANGE_KM)


def _factor(places: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Return the lower triangle L of the correlations = L L^T (Cholesky), row by row."""
    factor: list[list[float]] = []
    for i, (lon, lat, _) in enumerate(places):
        row: list[float] = []
        for j in range(i):
            away = ground_motion.epicentral_distance(lon, lat, *places[j][:2])
            rest = correlation(away) - sum(map(mul, row, factor[j]))
            pivot = factor[j][j]
            row.append(rest / pivot if pivot > 1e-9 else 0.0)
        # Two kinds of ground at one place: the second follows the first, its own part is 0.
        row.append(math.sqrt(max(0.0, 1.0 - math.fsum(value * value for value in row))))
        factor.append(row)
    return factor
