"""The packaged earthquake scenario: its models, its realizations, and what it leaves."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.examples import EXAMPLES, check
from tests.support.beside import Modules, beside

EXAMPLE = EXAMPLES["shake-scenario"]
EVENT = {"mag": 6.1, "lon": 13.4, "lat": 42.3, "depth": 9.0}
ASSET = {"lon": 13.5, "lat": 42.3, "type": "URML", "code": "pre", "buildings": 10, "occupants": 40}


@pytest.fixture(scope="module")
def shake() -> Iterator[Modules]:
    """Give the modules beside its main.py."""
    with beside(EXAMPLE) as modules:
        yield modules


# -- models ---------------------------------------------------------------------------------------


def test_the_models_give_the_published_values(shake: Modules) -> None:
    """Medians and sigmas, intensities and curves, to the stated tolerance and mostly far closer."""
    rows = shake.published.compare()
    assert len(rows) == 60
    worst = check.largest(rows)
    assert abs(worst.deviation) <= EXAMPLE.tolerance, worst
    others = [row for row in rows if not row.quantity.startswith("ln PGA")]
    assert abs(check.largest(others).deviation) < 1e-5


def test_the_deviations_of_pga_are_the_tables(shake: Modules) -> None:
    """With the coefficient that the published table was made with, all of them vanish."""
    from dataclasses import replace

    motion, published = shake.ground_motion, shake.published
    rounded = replace(motion.PGA, c3=9.6e-5)
    for magnitude, mechanism, distance, vs30, _, pga in published.MEDIANS:
        computed = motion.Motion(rounded, magnitude, mechanism).median(distance, vs30)
        assert computed / motion.GRAVITY_CM_S2 == pytest.approx(pga, rel=1e-5)


@pytest.mark.parametrize("magnitude", [4.0, 5.5, 6.75, 7.6])
def test_motion_falls_with_distance_and_grows_with_magnitude(
    shake: Modules, magnitude: float
) -> None:
    """Everywhere in the model's range; on softer ground it is stronger."""
    shaking = shake.ground_motion.Shaking(magnitude, "normal")
    distances = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0]
    for kind in (shaking.pga, shaking.pgv):
        values = [kind(distance, 600.0) for distance in distances]
        assert values == sorted(values, reverse=True)
        assert all(value > 0.0 for value in values)
        assert kind(20.0, 300.0) > kind(20.0, 800.0)
    less = shake.ground_motion.Shaking(magnitude - 0.3, "normal")
    assert less.pgv(30.0, 600.0) < shaking.pgv(30.0, 600.0)


def test_the_mechanism_terms_add_up_to_nothing(shake: Modules) -> None:
    """So an unspecified mechanism is the mean of the three; and a rake names one."""
    motion = shake.ground_motion
    for row in (motion.PGA, motion.PGV):
        assert row.normal + row.reverse + row.strike_slip == pytest.approx(0.0, abs=1e-6)
        assert math.hypot(row.tau, row.phi) == pytest.approx(row.sigma, abs=2e-6)
    names = [motion.mechanism_of(rake) for rake in (0, 30, 31, 90, 149, 150, 180, -170, -90, -31)]
    slip, up, down = "strike-slip", "reverse", "normal"
    assert names == [slip, slip, up, up, up, slip, slip, slip, down, down]


def test_distances_are_great_circles(shake: Modules) -> None:
    """A degree of the equator, a quarter of the meridian, and across the antimeridian."""
    away, radius = shake.ground_motion.epicentral_distance, 6371.0
    assert away(0, 0, 1, 0) == pytest.approx(math.radians(1) * radius)
    assert away(10, 0, 10, 90) == pytest.approx(math.pi / 2 * radius)
    assert away(179.5, 10, -179.5, 10) == pytest.approx(away(0, 10, 1, 10))
    assert away(13.4, 42.3, 13.4, 42.3) == 0.0


def test_intensity_never_falls_and_stays_on_its_scale(shake: Modules) -> None:
    """From nothing felt to the scale's end, past each of the line's bends."""
    for conversion in (shake.intensity.FROM_PGA, shake.intensity.FROM_PGV):
        values = [conversion.intensity(10.0 ** (tenth / 10.0)) for tenth in range(-40, 41)]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (1.0, 10.0)
        # The pieces meet, to the two digits that the paper gives.
        for bend in (conversion.faint_end, conversion.low_end):
            step = conversion.intensity(10 ** (bend + 1e-9)) - conversion.intensity(
                10 ** (bend - 1e-9)
            )
            assert abs(step) < 0.03
    assert [shake.intensity.roman(value) for value in (1.0, 6.49, 6.5, 10.0)] == [
        "I", "VI", "VII", "X",
    ]  # fmt: skip


def test_curves_are_probabilities_in_order(shake: Modules) -> None:
    """For each building type and code: from 0 to 1, and no state before the one below it."""
    fragility = shake.fragility
    assert len(fragility.MEDIANS) == 128
    assert len(fragility.TYPES) == 36
    for kind, code in fragility.MEDIANS:
        medians = fragility.log_medians(kind, code)
        assert list(medians) == sorted(medians)
        before = [0.0] * 4
        for pga in (1e-6, 0.05, 0.2, 0.5, 1.0, 3.0, 100.0):
            reached = fragility.reached(medians, math.log(pga))
            assert reached == sorted(reached, reverse=True)
            assert all(0.0 <= low <= high <= 1.0 for low, high in zip(before, reached, strict=True))
            assert math.fsum(fragility.states(reached)) == pytest.approx(1.0)
            assert min(fragility.states(reached)) >= 0.0
            before = reached
        assert before == pytest.approx([1.0] * 4, abs=1e-3)


def test_a_higher_code_stands_more(shake: Modules) -> None:
    """Of each type, no median falls when the level of code rises."""
    medians, codes = shake.fragility.MEDIANS, shake.fragility.CODES
    for kind in shake.fragility.TYPES:
        rows = [medians[kind, code] for code in codes if (kind, code) in medians]
        for weaker, stronger in itertools.pairwise(rows):
            assert all(low <= high for low, high in zip(weaker, stronger, strict=True)), kind


def test_casualties_are_those_of_the_tables(shake: Modules) -> None:
    """Completely damaged low-rise masonry: 85 % stand (10, 2, 0.02, 0.02 %), 15 % collapse."""
    fragility = shake.fragility
    light, hospital, critical, killed = fragility.casualty_weights("URML")
    assert killed[4] == pytest.approx(0.85 * 0.0002 + 0.15 * 0.10)
    assert critical[4] == pytest.approx(0.85 * 0.0002 + 0.15 * 0.05)
    assert hospital[4] == pytest.approx(0.85 * 0.02 + 0.15 * 0.20)
    assert light == pytest.approx((0.0, 0.0005, 0.0035, 0.02, 0.85 * 0.1 + 0.15 * 0.4))
    assert set(fragility.COLLAPSE) == set(fragility.TYPES)
    assert fragility.casualty_rates("W1")[4] == (40.0, 20.0, 3.0, 5.0)
    assert fragility.casualty_rates("C1M")[1] == (0.25, 0.03, 0.0, 0.0)
    assert fragility.casualty_rates("C3M")[1] == (0.2, 0.025, 0.0, 0.0)


# -- realizations ---------------------------------------------------------------------------------


def run(shake: Modules, folder: Path, **given: Any) -> tuple[Any, Any, Any]:
    asked = shake.scenario.read({**EVENT, **given})
    found = shake.exposure.read(asked, folder)
    return asked, found, shake.realizations.run(asked, found, lambda *_: None)


def test_what_is_counted_adds_up(shake: Modules, tmp_path: Path) -> None:
    """No state has more buildings than there are; parts are parts; percentiles are in order."""
    _, found, impact = run(shake, tmp_path, realizations=40)
    for asset, means in zip(found, impact.means, strict=True):
        states = [means[name] for name in ("slight", "moderate", "extensive", "complete")]
        assert 0.0 <= sum(states) <= asset.buildings
        assert means["damaged"] == pytest.approx(sum(states[1:]))
        assert means["collapsed"] <= means["complete"]
        assert 0.0 <= means["killed"] <= asset.occupants
    for name, spread in impact.totals.items():
        summary = spread.summary()
        assert len(spread.values) == 40
        assert summary["p16"] <= summary["p50"] <= summary["p84"]
        assert summary["mean"] == pytest.approx(sum(m[name] for m in impact.means), abs=1e-3)


def test_percentiles_lie_between_the_values(shake: Modules) -> None:
    """The median of four is half way; ends are ends; one value is all of them."""
    percentile = shake.realizations.percentile
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert (percentile([1.0, 9.0], 0), percentile([1.0, 9.0], 100)) == (1.0, 9.0)
    assert percentile([5.0], 84) == 5.0


def test_residuals_have_the_spread_and_the_correlation_of_the_models(
    shake: Modules, tmp_path: Path
) -> None:
    """Of 4,000 draws at two places 10 km apart: sigma, and tau and Jayaram and Baker between."""
    motion, realizations = shake.ground_motion, shake.realizations
    places = [(13.4, 42.3, 600.0), (13.4, 42.3 + 10.0 / 111.195, 600.0)]
    for correlated in (True, False):
        asked = shake.scenario.read(
            {**EVENT, "realizations": 4000, "spatial_correlation": correlated}
        )
        draws = list(realizations._levels(asked, places))
        means = [math.fsum(draw[i] for draw in draws) / 4000 for i in (0, 1)]
        assert means[0] == pytest.approx(
            math.log(realizations.median_pga(asked, *places[0])), abs=0.05
        )
        products = [
            math.fsum((draw[i] - means[i]) * (draw[j] - means[j]) for draw in draws) / 4000
            for i, j in ((0, 0), (1, 1), (0, 1))
        ]
        total = motion.PGA.sigma_ln**2
        within = math.exp(-30.0 / 40.7) if correlated else 0.0
        shared = motion.PGA.tau_ln**2 + within * motion.PGA.phi_ln**2
        assert products == pytest.approx([total, total, shared], rel=0.12)


def test_two_kinds_of_ground_at_one_place_shake_alike(shake: Modules, tmp_path: Path) -> None:
    """The factor of a correlation of 1 is no division by nothing."""
    two = [ASSET, {**ASSET, "vs30": 300}, {**ASSET, "lon": 13.6}]
    _, _, impact = run(shake, tmp_path, exposure=two, realizations=10)
    rock, soil = (list(impact.damaged[place].values) for place in (0, 1))
    assert all(less < more for less, more in zip(rock, soil, strict=True))


def test_too_much_to_draw_is_refused(
    shake: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is drawn, with what to do about it."""
    monkeypatch.setattr(shake.realizations, "MOST_CORRELATED", 5)
    with pytest.raises(shake.scenario.WrongInput, match=r"60 places.*spatial_correlation to false"):
        run(shake, tmp_path)
    monkeypatch.setattr(shake.realizations, "MOST_DRAWS", 1000)
    with pytest.raises(shake.scenario.WrongInput, match="give fewer realizations"):
        run(shake, tmp_path)


# -- what it leaves -------------------------------------------------------------------------------


def leave(shake: Modules, folder: Path, **given: Any) -> Path:
    folder.mkdir()
    small = {"half_width_km": 10, "spacing_km": 5, "realizations": 20}
    asked, found, impact = run(shake, folder, **{**small, **given})
    points = shake.grid.compute(asked, lambda _: None)
    shake.files.write_ground_motion(folder, asked, points)
    shake.files.write_impact(folder, asked, found, impact)
    return folder


def positions(path: Path) -> list[tuple[float, float]]:
    """Return the points of a GeoJSON file, which is held against RFC 7946."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    document = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert document["type"] == "FeatureCollection"
    assert "crs" not in document
    found = []
    for item in document["features"]:
        assert set(item) == {"type", "geometry", "properties"}
        assert (item["type"], item["geometry"]["type"]) == ("Feature", "Point")
        lon, lat = item["geometry"]["coordinates"]
        assert -180.0 <= lon <= 180.0
        assert -90.0 <= lat <= 90.0
        assert all(isinstance(value, (int, float)) for value in item["properties"].values())
        found.append((lon, lat))
    return found


def test_files_are_there_and_right(shake: Modules, tmp_path: Path) -> None:
    """Tables, GeoJSON and summaries tell the same, across the antimeridian too."""
    folder = leave(shake, tmp_path / "run", lon=179.99)
    points = positions(folder / "ground_motion.geojson")
    assert len(points) == len(set(points)) == 25
    assert points[12] == (179.99, 42.3)
    assert len(positions(folder / "impact.geojson")) == 60
    with (folder / "ground_motion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["lon"]), float(row["lat"])) for row in rows] == points
    nearest = min(rows, key=lambda row: float(row["hypocentral_distance_km"]))
    summary = json.loads((folder / "ground_motion_summary.json").read_text("utf-8"))
    assert summary["maximum"]["pga_g"] == float(nearest["pga_g"]) == 0.41788
    assert float(nearest["pga_p16_g"]) < 0.41788 < float(nearest["pga_p84_g"])
    assert sum(summary["area_km2_by_intensity"].values()) == pytest.approx(25 * 25.0)
    with (folder / "impact.csv").open(newline="") as file:
        impacts = list(csv.DictReader(file))
    totals = json.loads((folder / "impact_summary.json").read_text("utf-8"))["totals"]
    assert len(impacts) == 300
    for name in ("damaged", "killed"):
        mean = sum(float(row[f"{name}_mean"]) for row in impacts)
        assert totals[name]["mean"] == pytest.approx(mean, rel=1e-3)
        features = json.loads((folder / "impact.geojson").read_text("utf-8"))["features"]
        mapped = sum(item["properties"][f"{name}_mean"] for item in features)
        assert mapped == pytest.approx(mean, rel=1e-3)


def test_the_same_seed_leaves_the_same_bytes(shake: Modules, tmp_path: Path) -> None:
    """In every file; another seed draws others."""
    first, second, other = (
        leave(shake, tmp_path / name, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == 6
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert (first / "impact.csv").read_bytes() != (other / "impact.csv").read_bytes()
