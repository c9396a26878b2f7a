"""What the packaged earthquake scenario is asked for: parameters and exposure, right and wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.client.case import read_case
from physicsrunner.examples import EXAMPLES
from tests.support.beside import Modules, beside

EXAMPLE = EXAMPLES["shake-scenario"]
EVENT = {"mag": 6.1, "lon": 13.4, "lat": 42.3, "depth": 9.0}
ASSET = {"lon": 13.5, "lat": 42.3, "type": "URML", "code": "pre", "buildings": 10, "occupants": 40}


@pytest.fixture(scope="module")
def shake() -> Iterator[Modules]:
    """Give the modules beside its main.py."""
    with beside(EXAMPLE) as modules:
        yield modules


# -- what is asked for ----------------------------------------------------------------------------


def test_the_case_file_and_the_program_have_the_same_defaults(shake: Modules) -> None:
    """So a client that gives four numbers gets what `physicsrunner run` gives."""
    case = dict(read_case(EXAMPLE.folder).document.parameters)
    assert set(case) == set(shake.scenario._DEFAULTS)
    bare = {name: case[name] for name in ("mag", "lon", "lat", "depth")}
    assert shake.scenario.read(case) == shake.scenario.read(bare)


def test_the_page_names_all_parameters(shake: Modules, tmp_path: Path) -> None:
    """And its example of an exposure is one."""
    page = (Path(__file__).resolve().parents[2] / "docs/shake-scenario.md").read_text("utf-8")
    table = page[page.index("## Parameters") : page.index("## Exposure")]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    assert named == set(shake.scenario._DEFAULTS)
    example = re.search(r"```csv\n(.*?)```", page, re.DOTALL)
    assert example is not None
    (tmp_path / "example.csv").write_text(example[1], "utf-8")
    first, second = assets(shake, "example.csv", tmp_path)
    assert (first.buildings, first.vs30, second.code, second.vs30) == (400, 600, "moderate", 350)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mag": None}, "missing: mag"),
        ({"mag": "big"}, "mag is 'big'; expected a number from 3 to 8.5"),
        ({"mag": 12}, "mag is 12; expected a number from 3 to 8.5"),
        ({"mag": float("nan")}, "mag is nan"),
        ({"mag": float("inf")}, "mag is inf"),
        ({"mag": 10**400}, "mag is 1000"),
        ({"mag": True}, "mag is True"),
        ({"mag": [6]}, r"mag is \[6\]"),
        ({"lon": 181}, "lon is 181; expected a number from -180 to 180"),
        ({"lat": -90}, "lat is -90; expected a number from -85 to 85"),
        ({"lat": "nan"}, "lat is 'nan'"),
        ({"depth": 0}, "depth is 0; expected a number more than 0"),
        ({"depth": -3}, "depth is -3"),
        ({"depth": 800}, "depth is 800"),
        ({"mechanism": "sideways"}, "mechanism is 'sideways'; expected one of unspecified, normal"),
        ({"rake": 200}, "rake is 200; expected a number from -180 to 180"),
        ({"mechanism": "normal", "rake": 90}, "normal and rake 90 .reverse. say different things"),
        ({"vs30": 0}, "vs30 is 0; expected a number from 100 to 2500"),
        ({"half_width_km": 1000}, "half_width_km is 1000"),
        ({"spacing_km": 0.1}, "make 1442401 points; at most 50000"),
        ({"realizations": 3}, "realizations is 3"),
        ({"realizations": 100.5}, "realizations is 100.5; expected a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"spatial_correlation": "yes"}, "spatial_correlation is 'yes'; expected true or false"),
        ({"fragility_beta": 0}, "fragility_beta is 0"),
        ({"magnitude": 6}, "no parameter 'magnitude'; did you mean 'mag'|there are: mag"),
        ({"dept": 6}, "no parameter 'dept'; did you mean 'depth'"),
    ],
)
def test_a_wrong_parameter_is_named(shake: Modules, given: dict[str, Any], words: str) -> None:
    """With what was given and what is expected."""
    with pytest.raises(shake.scenario.WrongInput, match=words):
        shake.scenario.read({**EVENT, **given})


def test_numbers_may_come_as_text(shake: Modules) -> None:
    """As some clients send them; a rake becomes a mechanism."""
    asked = shake.scenario.read({**EVENT, "mag": "5.2", "seed": "7", "rake": "-90"})
    assert (asked.mag, asked.seed, asked.mechanism) == (5.2, 7, "normal")


def test_leaving_the_model_s_range_is_a_warning(shake: Modules) -> None:
    """The run is carried out; its summary says what is beyond what the model knows."""
    assert shake.scenario.read(EVENT).warnings == []
    far = shake.scenario.read({**EVENT, "mag": 8.0, "depth": 50.0}).warnings
    assert len(far) == 3
    assert "magnitude 8 is outside of 4 to 7.6" in far[0]


# -- exposure -------------------------------------------------------------------------------------

CSV = "id,lon,lat,type,code,buildings,occupants,vs30\n"


def feature(**changes: Any) -> dict[str, Any]:
    properties = {name: ASSET[name] for name in ("type", "code", "buildings", "occupants")}
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [13.5, 42.3]},
        "properties": {**properties, **changes},
    }


def assets(shake: Modules, given: Any, folder: Path) -> Any:
    return shake.exposure.read(shake.scenario.read({**EVENT, "exposure": given}), folder)


def test_exposure_reads_the_same_from_every_form(shake: Modules, tmp_path: Path) -> None:
    """CSV (with the mark that spreadsheets put before it), GeoJSON, and the parameters."""
    (tmp_path / "town.csv").write_text(CSV + "a, 13.5,42.3,urml,Pre,10,40,\n", "utf-8-sig")
    collection = {"type": "FeatureCollection", "features": [feature(id="a")]}
    (tmp_path / "town.geojson").write_text(json.dumps(collection), "utf-8")
    inline = [{"id": "a", **ASSET}]
    found = [
        assets(shake, given, tmp_path) for given in ("town.csv", "town.geojson", inline, collection)
    ]
    assert all(one == found[0] for one in found)
    (one,) = found[0]
    assert (one.id, one.type, one.code, one.occupants, one.vs30) == ("a", "URML", "pre", 40.0, 600)
    (other,) = assets(shake, [{**ASSET, "vs30": 300, "occupants": None}], tmp_path)
    assert (other.id, other.vs30, other.occupants) == ("asset 1", 300.0, 0.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none.csv", "there is no file 'none.csv'"),
        ("", "expected the name of a file"),
        ("../town.csv", "expected the name of a file in the inputs folder"),
        ("/etc/passwd", "expected the name of a file in the inputs folder"),
        ("link.csv", "there is no file 'link.csv'"),
        ("folder", "there is no file 'folder'"),
        ("town.txt", "expected a file .csv, .json or .geojson"),
        ("broken.json", "broken.json is not JSON"),
        ("latin.csv", "read as UTF-8"),
        ("nul\0.csv", "there is no file"),
        ("header.csv", "its first line lacks lat, buildings"),
        ("empty.csv", "its first line lacks lon"),
        ("bare.csv", "no assets"),
        ("rows.csv", "rows.csv, line 3: buildings is 'many'"),
        ([], "no assets"),
        ({}, "expected a GeoJSON FeatureCollection"),
        (7, "exposure is a int"),
        ([3], "asset 1: expected an object"),
        ([{**ASSET, "lat": None}], "asset 1: lacks lat"),
        ([ASSET, {**ASSET, "lon": 200}], "asset 2: lon is 200"),
        ([{**ASSET, "buildings": -1}], "asset 1: buildings is -1"),
        ([{**ASSET, "buildings": float("nan")}], "asset 1: buildings is nan"),
        ([{**ASSET, "occupants": "inf"}], "asset 1: occupants is 'inf'"),
        ([{**ASSET, "type": "CASTLE"}], "no fragility curve for type 'CASTLE' and code 'pre'"),
        ([{**ASSET, "code": "high"}], "no fragility curve for type 'URML' and code 'high'"),
        ({"features": [{"geometry": None}]}, "feature 1: expected a Feature with a Point"),
        ({"features": [{**feature(), "geometry": {"type": "Point", "coordinates": 3}}]}, "Point"),
        ({"features": [3]}, "feature 1: expected a Feature"),
    ],
)
def test_a_wrong_exposure_is_named(shake: Modules, tmp_path: Path, given: Any, words: str) -> None:
    """With its file and line, or its number; a file outside of the inputs is not read."""
    inputs = tmp_path / "inputs"
    (inputs / "folder").mkdir(parents=True)
    (tmp_path / "town.csv").write_text(CSV)
    (inputs / "link.csv").symlink_to(tmp_path / "town.csv")
    (inputs / "town.txt").write_text(CSV)
    (inputs / "broken.json").write_text("{")
    (inputs / "latin.csv").write_bytes(b"id,lon\n\xe9")
    (inputs / "header.csv").write_text("id,lon,type,code\n")
    (inputs / "empty.csv").write_text("")
    (inputs / "bare.csv").write_text(CSV)
    (inputs / "rows.csv").write_text(CSV + "a,1,2,W1,pre,3,4,\nb,1,2,W1,pre,many,4,\n")
    with pytest.raises(shake.scenario.WrongInput, match=words):
        assets(shake, given, inputs)


def test_the_synthetic_region_is_around_the_epicentre(shake: Modules, tmp_path: Path) -> None:
    """Its seed decides where its towns are; the antimeridian is no border."""
    found = assets(shake, None, tmp_path)
    assert len(found) == 300
    assert found == assets(shake, None, tmp_path)
    moved = shake.scenario.read({**EVENT, "lon": 179.95, "seed": 2})
    others = shake.exposure.read(moved, tmp_path)
    assert {asset.lon > 0 for asset in others} == {True, False}
    for asset in others:
        assert -180.0 <= asset.lon <= 180.0
        away = shake.ground_motion.epicentral_distance(179.95, 42.3, asset.lon, asset.lat)
        assert away < 50.0
        assert asset.buildings >= 1.0
