"""
The ground motion on a regular grid of longitudes and latitudes around the epicentre.

Promises: the epicentre is the grid's middle point; rows go from south to north, points of a row
from west to east. Longitudes are from -180 to 180: a grid across the antimeridian has a jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import ground_motion
import intensity
from scenario import Scenario

_KM_A_DEGREE = 2.0 * math.pi * ground_motion.EARTH_RADIUS_KM / 360.0


@dataclass(frozen=True)
class Point:
    """The median ground motion at one place."""

    lon: float
    lat: float
    epicentral_km: float
    hypocentral_km: float
    pga: float  #: g
    pgv: float  #: cm/s
    mmi: float


def compute(scenario: Scenario, tell: Callable[[float], None]) -> list[Point]:
    """Return the points of the grid; *tell* hears of the share that is done after each row."""
    steps = scenario.steps
    north = scenario.half_width_km / steps / _KM_A_DEGREE
    east = north / math.cos(math.radians(scenario.lat))
    points = []
    for row in range(-steps, steps + 1):
        lat = round(scenario.lat + row * north, 6)
        for column in range(-steps, steps + 1):
            lon = scenario.lon + column * east
            points.append(motion_at(scenario, round((lon + 180.0) % 360.0 - 180.0, 6), lat))
        tell((row + steps + 1) / (2 * steps + 1))
    return points


def motion_at(scenario: Scenario, lon: float, lat: float, vs30: float | None = None) -> Point:
    """Return the median ground motion at a place; *vs30*: the scenario's when None."""
    shaking = ground_motion.Shaking(scenario.mag, scenario.mechanism)
    epicentral = ground_motion.epicentral_distance(scenario.lon, scenario.lat, lon, lat)
    hypocentral = math.hypot(epicentral, scenario.depth)
    ground = scenario.vs30 if vs30 is None else vs30
    pgv = shaking.pgv(hypocentral, ground)
    return Point(
        lon=lon,
        lat=lat,
        epicentral_km=epicentral,
        hypocentral_km=hypocentral,
        pga=shaking.pga(hypocentral, ground),
        pgv=pgv,
        mmi=intensity.FROM_PGV.intensity(pgv),
    )
