"""
The buildings and people that an earthquake meets: the user's, or a small synthetic region.

Promises: `read` takes a CSV or GeoJSON file of the run's inputs folder (nothing outside of it), or
the assets themselves as a list of objects or a GeoJSON FeatureCollection of points; a wrong row is
named in a `WrongInput`. `synthetic` gives the same assets for the same earthquake and seed; it is
made up, whatever place it is put to.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fragility
from scenario import Scenario, WrongInput, number

MOST_ASSETS = 50_000
COLUMNS = ("id", "lon", "lat", "type", "code", "buildings", "occupants", "vs30")
_NEEDED = ("lon", "lat", "type", "code", "buildings")
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Asset:
    """Buildings of one kind at one place."""

    id: str
    lon: float
    lat: float
    type: str  #: of Hazus, such as URML
    code: str  #: level of seismic code: pre, low, moderate, high
    buildings: float
    occupants: float  #: people inside of all of them when it happens
    vs30: float  #: m/s


def read(scenario: Scenario, inputs: Path) -> list[Asset]:
    """Return the assets of *scenario*, or raise `WrongInput`."""
    given = scenario.exposure
    if given is None:
        return synthetic(scenario)
    if isinstance(given, str):
        rows = _rows_of_file(given, inputs)
    elif isinstance(given, Mapping):
        rows = _rows_of_features(given, "exposure")
    elif isinstance(given, list):
        rows = [(f"exposure: asset {place}", row) for place, row in enumerate(given, start=1)]
    else:
        raise WrongInput(
            f"exposure is a {type(given).__name__}; expected a file's name, a list of assets or "
            "a GeoJSON FeatureCollection"
        )
    if not rows:
        raise WrongInput(f"exposure: no assets; expected rows with {', '.join(_NEEDED)}")
    if len(rows) > MOST_ASSETS:
        raise WrongInput(f"exposure: {len(rows)} assets; at most {MOST_ASSETS} are computed")
    return [_asset(where, row, place, scenario.vs30) for place, (where, row) in enumerate(rows, 1)]


def places(assets: Iterable[Asset]) -> tuple[list[tuple[float, float, float]], list[int]]:
    """Return the different (lon, lat, vs30), and for each asset which one it is at."""
    known: dict[tuple[float, float, float], int] = {}
    at = [known.setdefault((item.lon, item.lat, item.vs30), len(known)) for item in assets]
    return list(known), at


def _rows_of_file(name: str, inputs: Path) -> list[tuple[str, Any]]:
    pure = PurePosixPath(name)
    if not name.strip() or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise WrongInput(f"exposure is {name!r}; expected the name of a file in the inputs folder")
    path = inputs / name
    try:
        inside = path.resolve().is_relative_to(inputs.resolve())
        if inside and path.stat().st_size > _MOST_BYTES:
            raise WrongInput(f"exposure: {name} has more than {_MOST_BYTES >> 20} MiB")
        text = path.read_text("utf-8-sig") if inside else None
    except (OSError, ValueError) as error:
        if isinstance(error, WrongInput):
            raise
        text = None
    if text is None:
        raise WrongInput(
            f"exposure: there is no file {name!r} that can be read as UTF-8 in the inputs folder"
        )
    if path.suffix.lower() in (".json", ".geojson"):
        try:
            return _rows_of_features(json.loads(text), name)
        except json.JSONDecodeError as error:
            raise WrongInput(f"{name} is not JSON: {error}") from None
    if path.suffix.lower() == ".csv":
        return _rows_of_csv(text, name)
    raise WrongInput(f"exposure is {name!r}; expected a file .csv, .json or .geojson")


def _rows_of_csv(text: str, name: str) -> list[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = [str(column).strip() for column in reader.fieldnames or ()]
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        raise WrongInput(
            f"{name}: its first line lacks {', '.join(missing)}; expected {','.join(COLUMNS)}"
        )
    reader.fieldnames = header
    try:
        return [(f"{name}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise WrongInput(f"{name}, line {reader.line_num}: {error}") from None


def _rows_of_features(given: Any, name: str) -> list[tuple[str, Any]]:
    features = given.get("features") if isinstance(given, Mapping) else given
    if not isinstance(features, list):
        raise WrongInput(f"{name}: expected a GeoJSON FeatureCollection of points, or a list")
    if not isinstance(given, Mapping):
        return [(f"{name}: asset {place}", row) for place, row in enumerate(features, start=1)]
    rows = []
    for place, feature in enumerate(features, start=1):
        where = f"{name}: feature {place}"
        try:
            geometry, properties = feature["geometry"], feature.get("properties") or {}
            lon, lat = geometry["coordinates"][:2]
            if geometry["type"] != "Point" or not isinstance(properties, Mapping):
                raise TypeError
        except (TypeError, KeyError, ValueError, AttributeError):
            raise WrongInput(f"{where}: expected a Feature with a Point and properties") from None
        rows.append((where, {"id": feature.get("id"), **properties, "lon": lon, "lat": lat}))
    return rows


def _asset(where: str, row: Any, place: int, vs30: float) -> Asset:
    if not isinstance(row, Mapping):
        raise WrongInput(f"{where}: expected an object with {', '.join(_NEEDED)}")
    values = {name: _stripped(row.get(name)) for name in COLUMNS}
    missing = [name for name in _NEEDED if values[name] is None]
    if missing:
        raise WrongInput(f"{where}: lacks {', '.join(missing)}")
    kind, code = str(values["type"]).upper(), str(values["code"]).lower()
    if (kind, code) not in fragility.MEDIANS:
        known = ", ".join(fragility.TYPES)
        raise WrongInput(
            f"{where}: no fragility curve for type {kind[:20]!r} and code {code[:20]!r}; types: "
            f"{known}; codes: {', '.join(fragility.CODES)} (not every type has every code)"
        )
    return Asset(
        id=str(values["id"] if values["id"] is not None else f"asset {place}")[:200],
        lon=number(values["lon"], f"{where}: lon", -180.0, 180.0, "degrees"),
        lat=number(values["lat"], f"{where}: lat", -90.0, 90.0, "degrees"),
        type=kind,
        code=code,
        buildings=number(values["buildings"], f"{where}: buildings", 0.0, 1e9, ""),
        occupants=number(values["occupants"] or 0, f"{where}: occupants", 0.0, 1e9, "people"),
        vs30=number(values["vs30"] or vs30, f"{where}: vs30", 100.0, 2500.0, "m/s"),
    )


def _stripped(value: Any) -> Any:
    text = value.strip() if isinstance(value, str) else value
    return None if text == "" else text


# -- the synthetic region -------------------------------------------------------------------------

_TOWNS, _LARGEST_TOWN, _RADIUS_KM = 60, 40_000.0, 45.0
_PEOPLE_A_BUILDING = 4.0
#: (type, code, share of the buildings): made up, in the manner of southern Europe.
_STOCK = (
    ("URML", "pre", 0.35),
    ("URMM", "pre", 0.15),
    ("C3L", "low", 0.20),
    ("C1M", "moderate", 0.20),
    ("W1", "moderate", 0.10),
)


def synthetic(scenario: Scenario) -> list[Asset]:
    """Return towns around the epicentre whose sizes fall as 1/rank; everybody is at home."""
    chance = random.Random(f"exposure {scenario.seed}")  # noqa: S311 -- repeatable, no secret
    assets = []
    for rank in range(1, _TOWNS + 1):
        away = _RADIUS_KM * math.sqrt(chance.random())
        bearing = 2.0 * math.pi * chance.random()
        lat = scenario.lat + away * math.cos(bearing) / 111.195
        lon = scenario.lon + away * math.sin(bearing) / (111.195 * math.cos(math.radians(lat)))
        people = _LARGEST_TOWN / rank
        for kind, code, share in _STOCK:
            assets.append(
                Asset(
                    id=f"town {rank} {kind}",
                    lon=round((lon + 180.0) % 360.0 - 180.0, 4),
                    lat=round(lat, 4),
                    type=kind,
                    code=code,
                    buildings=float(max(1, round(people * share / _PEOPLE_A_BUILDING))),
                    occupants=float(round(people * share)),
                    vs30=scenario.vs30,
                )
            )
    return assets
