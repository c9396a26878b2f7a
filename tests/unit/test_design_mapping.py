"""From a design to a request for a run, and what is said of a mapping that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from physicsrunner.errors import ConfigError, InvalidRequest
from physicsrunner.service.design_mapping import DesignMapping
from physicsrunner.service.mapping_file import MAX_MAPPING, parse_mapping, read_mapping

DESIGN: dict[str, Any] = {
    "title": "Long bridge",
    "geometry": {"span": 42.5, "a.b": 7},
    "loads": [{"value": 3}, {"value": 5}],
    "material": "wood",
    "heavy": True,
    "none": None,
    "huge": 1e308,
    "team": {"project": "thermal"},
}
FULL = """\
model: bridge
name: "Design {design_id} of {user_id}: {title}{none}{nothing}"
project: {path: team.project}
parameters:
  span_m: geometry.span
  dotted: {path: [geometry, a.b]}
  load_n: {path: loads.1.value, scale: 1000, offset: -1}
  loads: {path: loads}
  material: {path: material, values: {steel: 1, wood: 2}}
  heavy: {path: heavy, values: {true: yes, false: no}}
  length: {path: geometry.span, unit: mm, scale: 1000}
  guessed: {path: nowhere.at.all, default: [1, 2]}
  emptied: {path: none, default: null}
  left_out: {path: loads.7, required: false}
configuration: {timeout_minutes: 60, labels: [fem]}
resources: {cpu_cores: 2}
tags: [architech]
"""


def test_every_kind_of_source() -> None:
    """Paths, lists, scales, units, words, defaults: each gives what the table in the docs says."""
    wanted = parse_mapping(FULL).request(DESIGN, "bridge-7", "ada")
    assert wanted.name == "Design bridge-7 of ada: Long bridge"
    assert wanted.project_id == "thermal"
    assert wanted.parameters == {
        "span_m": 42.5,
        "dotted": 7,
        "load_n": 4999,
        "loads": [{"value": 3}, {"value": 5}],
        "material": 2,
        "heavy": True,  # YAML reads yes as true
        "length": {"value": 42500.0, "unit": "mm"},
        "guessed": [1, 2],
        "emptied": None,
    }
    assert wanted.configuration == {"timeout_minutes": 60, "labels": ["fem"]}
    assert wanted.resource_requirements == {"cpu_cores": 2}
    assert wanted.tags == ["architech"]


@pytest.mark.parametrize(
    ("design", "parameters"),
    [({"parameters": {"a": 1}, "b": 2}, {"a": 1}), ({"b": 2}, {"b": 2}), ({}, {})],
)
def test_without_a_mapping_the_design_says_it(
    design: dict[str, Any], parameters: dict[str, Any]
) -> None:
    """Its own ``parameters``, or all of it; the run is called by the design's id."""
    wanted = DesignMapping().request(design, "d", "u")
    assert (wanted.parameters, wanted.name, wanted.project_id) == (parameters, "Design d", None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("parameters: {p: nowhere}", "no 'nowhere', which the parameter 'p' needs"),
        ("parameters: {p: none}", "no 'none'"),
        ("parameters: {p: loads.9.value}", "no 'loads.9.value'"),
        ("parameters: {p: title.x}", "no 'title.x'"),
        ("parameters: {p: {path: title, scale: 2}}", "the parameter 'p' needs a number"),
        ("parameters: {p: {path: title, scale: 1000000000000}}", "needs a number"),
        ("parameters: {p: {path: heavy, scale: 2}}", "needs a number"),
        ("parameters: {p: {path: huge, scale: 1000}}", "needs a number"),
        ("parameters: {p: {path: material, values: {steel: 1}}}", 'is "wood"'),
        ("parameters: {p: {path: loads, values: {steel: 1}}}", "knows"),
        ("project: {path: nowhere}", "project needs"),
        ("project: {path: loads}", "project: the design says"),
    ],
)
def test_a_design_that_does_not_fit(line: str, said: str) -> None:
    """It is refused, with the parameter and the place in the design."""
    with pytest.raises(InvalidRequest) as refused:
        parse_mapping(line).request(DESIGN, "bridge-7", "ada")
    assert said in str(refused.value)


def test_numbers_in_lists_are_scaled() -> None:
    """Each number of a list, and of lists in it."""
    mapping = parse_mapping("parameters: {p: {path: p, scale: 2}}")
    assert mapping.request({"p": [1, [2.5]]}, "d", "u").parameters == {"p": [2, [5.0]]}


def test_a_name_is_one_that_can_be_shown() -> None:
    """What a design says of itself becomes no control character; without any, it is the id."""
    mapping = parse_mapping('name: "{a}"')
    assert mapping.request({"a": "x\n\x00y"}, "d", "u").name == "x  y"
    assert mapping.request({"a": {"b": 1}}, "d", "u").name == '{"b": 1}'
    assert mapping.request({}, "d", "u").name == "d"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("model: [1]", 1, "model: is a text"),
        ("model: m\nnmae: x", 2, "nmae: is none of model, name"),
        ("model: m\nmodel: n", 1, "stands twice, again in line 2"),
        ("model: m\nparameters:\n  a: b\n  c: 7", 4, "parameters.c: is a path"),
        ("parameters:\n  a:\n    pth: x", 3, "parameters.a.pth: is none of path"),
        ("parameters:\n  a: {default: 1}", 2, "parameters.a: has no path"),
        ("parameters:\n  a: {path: x, scale: big}", 2, "parameters.a.scale: is a number"),
        ("parameters:\n  a: {path: x, scale: .nan}", 2, "is a number"),
        ("parameters:\n  a: {path: x, scale: true}", 2, "is a number"),
        ("parameters:\n  a: {path: x..y}", 2, "is no path"),
        ("parameters:\n  a: ''", 2, "is no path"),
        ("parameters:\n  a: {path: {}}", 2, "is a path"),
        ("parameters:\n  a: {path: x, required: 3}", 2, "is true or false"),
        ("parameters:\n  a: {path: x, unit: 3}", 2, "is a text"),
        ("parameters:\n  a: {path: x, default: 2026-01-01}", 2, "what JSON cannot say"),
        ("parameters: [a]", 1, "parameters: is an object"),
        ("project: 7", 1, "project: is a path"),
        ("tags: x", 1, "tags: is a list of texts"),
        ("\ntags: ['user:ada']", 2, "the door's"),
        ('tags: ["a\\0"]', 1, "printable"),
        (f"tags: [{'x' * 101}]", 1, "printable"),
        ("configuration:\n  timeout_minutes: soon", 2, "timeout_minutes"),
        ("resources: {cpu_cores: -1}", 1, "cpu_cores"),
        ("- a", 1, "a mapping is an object"),
        ("a: {", 1, "expected"),
        ("model: !!python/object:os.system x", 1, "constructor"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_key_and_line(text: str, line: int, said: str) -> None:
    """Whoever wrote it finds the place."""
    with pytest.raises(ConfigError) as refused:
        parse_mapping(text, "map.yaml")
    assert str(refused.value).startswith(f"map.yaml, line {line}: ")
    assert said in str(refused.value)


def test_an_empty_mapping_is_none(tmp_path: Path) -> None:
    """A file that says nothing is as good as no file."""
    file = tmp_path / "map.yaml"
    file.write_text("# nothing yet\n")
    assert read_mapping(file) == DesignMapping()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, no text, too large, nested too deep: each is said, with the file."""
    bad = tmp_path / "bad.yaml"
    large = tmp_path / "large.yaml"
    deep = tmp_path / "deep.yaml"
    bad.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"#" * (MAX_MAPPING + 1))
    deep.write_text("a: " + "[" * 3000)
    for file in (tmp_path / "none.yaml", tmp_path, bad, large, deep):
        with pytest.raises(ConfigError, match=file.name):
            read_mapping(file)
