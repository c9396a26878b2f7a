"""
What a scenario leaves: tables (CSV), maps (GeoJSON) and summaries (JSON).

Promises: the names below stay; what reads a run by them (the ShakeScenario service does) depends
on that. GeoJSON is as RFC 7946 has it: WGS 84, longitude before latitude, points alone. The same
scenario leaves the same bytes: there is no time and no folder in any file.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fragility
import ground_motion
import intensity
from exposure import Asset
from grid import Point, motion_at
from realizations import COUNTS, Impact
from scenario import Scenario

GROUND_MOTION_CSV = "ground_motion.csv"
GROUND_MOTION_GEOJSON = "ground_motion.geojson"
GROUND_MOTION_SUMMARY = "ground_motion_summary.json"
IMPACT_CSV = "impact.csv"
IMPACT_GEOJSON = "impact.geojson"
IMPACT_SUMMARY = "impact_summary.json"


def _places(value: float, digits: int) -> float:
    """Return *value* with so many digits that count."""
    return float(f"{value:.{digits}g}")


def _motion(point: Point) -> dict[str, float]:
    spread = math.exp(ground_motion.PGA.sigma_ln)
    return {
        "pga_g": _places(point.pga, 5),
        "pga_p16_g": _places(point.pga / spread, 5),
        "pga_p84_g": _places(point.pga * spread, 5),
        "pgv_cm_s": _places(point.pgv, 5),
        "mmi": round(point.mmi, 2),
    }


def write_ground_motion(folder: Path, scenario: Scenario, points: Sequence[Point]) -> None:
    """Write the grid as a table and as GeoJSON, and its summary."""
    rows = [
        {
            "lon": point.lon,
            "lat": point.lat,
            "epicentral_distance_km": round(point.epicentral_km, 3),
            "hypocentral_distance_km": round(point.hypocentral_km, 3),
            **_motion(point),
        }
        for point in points
    ]
    _write_csv(folder / GROUND_MOTION_CSV, rows)
    _write_geojson(
        folder / GROUND_MOTION_GEOJSON,
        [(point.lon, point.lat, _motion(point)) for point in points],
    )
    _write_json(folder / GROUND_MOTION_SUMMARY, _summary(scenario, points))


def _summary(scenario: Scenario, points: Sequence[Point]) -> dict[str, Any]:
    strongest = max(points, key=lambda point: point.pga)
    cell = (scenario.half_width_km / scenario.steps) ** 2
    areas: dict[str, float] = {}
    for point in sorted(points, key=lambda point: point.mmi):
        degree = intensity.roman(point.mmi)
        areas[degree] = round(areas.get(degree, 0.0) + cell, 3)
    return {
        "event": _event(scenario),
        "grid": {
            "points": len(points),
            "half_width_km": scenario.half_width_km,
            "spacing_km": scenario.half_width_km / scenario.steps,
            "vs30_m_s": scenario.vs30,
        },
        "maximum": {
            "lon": strongest.lon,
            "lat": strongest.lat,
            **_motion(strongest),
        },
        "area_km2_by_intensity": areas,
        "ground_motion_model": {
            "name": ground_motion.NAME,
            "component": "geometric mean of the horizontal components",
            "values": "medians; p16 and p84 are one total standard deviation away",
            "sigma_ln_pga": _sigmas(ground_motion.PGA),
            "sigma_ln_pgv": _sigmas(ground_motion.PGV),
        },
        "intensity_conversion": {
            "name": intensity.NAME,
            "sigma_mmi": intensity.FROM_PGV.sigma,
        },
        "warnings": scenario.warnings,
    }


def _event(scenario: Scenario) -> dict[str, Any]:
    return {
        "mag": scenario.mag,
        "lon": scenario.lon,
        "lat": scenario.lat,
        "depth_km": scenario.depth,
        "mechanism": scenario.mechanism,
    }


def _sigmas(row: ground_motion.Coefficients) -> dict[str, float]:
    return {
        "between_events": round(row.tau_ln, 6),
        "within_event": round(row.phi_ln, 6),
        "total": round(row.sigma_ln, 6),
    }


def write_impact(folder: Path, scenario: Scenario, assets: Sequence[Asset], impact: Impact) -> None:
    """Write the impact by asset as a table, by place as GeoJSON, and its totals."""
    points = [motion_at(scenario, asset.lon, asset.lat, asset.vs30) for asset in assets]
    rows = []
    for place, asset in enumerate(assets):
        means = impact.means[place]
        damaged, killed = impact.damaged[place].summary(), impact.killed[place].summary()
        rows.append(
            {
                "id": asset.id,
                "lon": asset.lon,
                "lat": asset.lat,
                "type": asset.type,
                "code": asset.code,
                "buildings": asset.buildings,
                "occupants": asset.occupants,
                "median_pga_g": _places(points[place].pga, 5),
                "median_mmi": round(points[place].mmi, 2),
                **{f"{name}_mean": round(means[name], 4) for name in COUNTS},
                **{f"damaged_{name}": damaged[name] for name in ("p16", "p50", "p84")},
                **{f"killed_{name}": killed[name] for name in ("p16", "p50", "p84")},
            }
        )
    _write_csv(folder / IMPACT_CSV, rows)
    _write_geojson(folder / IMPACT_GEOJSON, _by_place(assets, points, impact))
    _write_json(folder / IMPACT_SUMMARY, impact_summary(scenario, assets, impact))


def _by_place(
    assets: Sequence[Asset], points: Sequence[Point], impact: Impact
) -> list[tuple[float, float, dict[str, Any]]]:
    found: dict[tuple[float, float], dict[str, Any]] = {}
    for asset, point, means in zip(assets, points, impact.means, strict=True):
        motion = {"median_pga_g": _places(point.pga, 5), "median_mmi": round(point.mmi, 2)}
        properties = found.setdefault(
            (asset.lon, asset.lat),
            {
                "assets": 0,
                "buildings": 0.0,
                "occupants": 0.0,
                **motion,
                **{f"{name}_mean": 0.0 for name in COUNTS},
            },
        )
        properties["assets"] += 1
        properties["buildings"] += asset.buildings
        properties["occupants"] += asset.occupants
        for name in motion:  # of several kinds of ground the one that shakes most
            properties[name] = max(properties[name], motion[name])
        for name in COUNTS:
            properties[f"{name}_mean"] = round(properties[f"{name}_mean"] + means[name], 4)
    return [(lon, lat, properties) for (lon, lat), properties in found.items()]


def impact_summary(scenario: Scenario, assets: Sequence[Asset], impact: Impact) -> dict[str, Any]:
    """Return the totals of all assets, with what they rest on."""
    return {
        "event": _event(scenario),
        "exposure": {
            "source": "synthetic" if scenario.exposure is None else "given",
            "assets": len(assets),
            "buildings": math.fsum(asset.buildings for asset in assets),
            "occupants": math.fsum(asset.occupants for asset in assets),
        },
        "totals": {name: spread.summary() for name, spread in impact.totals.items()},
        "realizations": scenario.realizations,
        "seed": scenario.seed,
        "spatial_correlation": (
            "Jayaram and Baker (2009), PGA, case 2" if scenario.spatial_correlation else None
        ),
        "fragility": {"name": fragility.NAME, "beta": scenario.fragility_beta},
        "words": {
            "damaged": "at least moderate damage",
            "collapsed": "a part of complete",
            "light": "severity 1: first aid",
            "hospital": "severity 2",
            "critical": "severity 3: life in danger",
            "killed": "severity 4",
        },
        "warnings": scenario.warnings,
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _write_geojson(path: Path, points: Iterable[tuple[float, float, Mapping[str, Any]]]) -> None:
    """Write points, one feature a line: large files stay readable, and quick to write."""
    lines = [
        json.dumps(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [lon, lat]},
                "properties": properties,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for lon, lat, properties in points
    ]
    head = '{"type":"FeatureCollection","features":[\n'
    path.write_text(head + ",\n".join(lines) + "\n]}\n", "utf-8")
