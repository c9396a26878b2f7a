"""config.json and case.yaml: every wrong key is named, with the file and what is expected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from physicsrunner.errors import ConfigError
from physicsrunner.wire.documents import (
    NATIVE,
    OFFLINE,
    PHYSICSWORKS,
    Case,
    parse_case,
    parse_config,
)
from physicsrunner.wire.messages import Limits

SEED: dict[str, Any] = {
    "workDir": "/w",
    "host": "https://api.example.org",
    "token": "secret-token",
    "project": "p",
    "simulation": "s",
    "job": "j",
    "owner": "o",
    "scriptsArchive": "scripts.zip",
    "inputsArchive": "inputs.zip",
    "mainScript": "main.py",
}


def test_the_configuration_of_the_seed_is_read() -> None:
    """All its keys have a place, and the host ends with a slash."""
    config = parse_config(json.dumps(SEED))
    assert config.wire == PHYSICSWORKS
    assert config.host == "https://api.example.org/"
    assert (config.scripts_archive, config.main_script) == ("scripts.zip", "main.py")


@pytest.mark.parametrize(
    ("keys", "wire"),
    [
        ({}, OFFLINE),
        ({"host": "http://h/", "project": "p"}, OFFLINE),
        ({"host": "http://h/", "project": "p", "simulation": "s"}, PHYSICSWORKS),
        ({"server": "http://s", "run": "r", "attempt": 2}, NATIVE),
        (
            {"server": "http://s", "run": "r", "attempt": 1, "host": "http://h/", "project": "p"}
            | {"simulation": "s"},
            NATIVE,
        ),
        ({"server": "http://s", "run": "r", "attempt": 1, "wire": "offline"}, OFFLINE),
    ],
)
def test_the_keys_decide_the_wire(keys: dict[str, Any], wire: str) -> None:
    """``server`` + ``run`` + ``attempt`` is native, and ``wire`` overrides."""
    assert parse_config(json.dumps({"workDir": "/w", "token": "t", **keys})).wire == wire


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{", "not valid JSON"),
        ("[1]", "expected an object, got list"),
        ("{}", "the key 'workDir' is missing"),
        ('{"workDir": 3.5}', "the key 'workDir' has 3.5; expected the path"),
        ('{"workDir": 5}', "the key 'workDir' has 5; expected the path"),
        ('{"workDir": " "}', "the key 'workDir' is missing"),
        ('{"workDir": ""}', "the key 'workDir' is missing"),
        ('{"workDir": "w", "scriptArchive": "x"}', "unknown; did you mean 'scriptsArchive'"),
        ('{"workDir": "w", "work_dir": "x"}', "'work_dir' is unknown; did you mean 'workDir'"),
        ('{"workDir": "w", "zzz": 1}', "'zzz' is unknown; known keys: abort"),
        ('{"workDir": "w", "server": "localhost:1"}', "'server' has 'localhost:1'; expected the"),
        ('{"workDir": "w", "attempt": 0}', "'attempt' has 0; expected the number"),
        ('{"workDir": "w", "wire": "tin"}', "'wire' has 'tin'; expected one of native"),
        ('{"workDir": "w", "limits": {"times": 3}}', "'limits': limits: the key 'times' is unk"),
        ('{"workDir": "w", "limits": {"time_s": 0}}', "'limits' has"),
        ('{"workDir": "w", "limits": {"time_s": "long"}}', "time_s: expected float"),
        ('{"workDir": "w", "environment": {"A": [1]}}', "'environment' has"),
        ('{"workDir": "w", "server": "http://s", "run": "r"}', "the key 'attempt' is missing"),
        (
            '{"workDir": "w", "server": "http://s", "run": "r", "attempt": 1}',
            "the key 'token' is missing; the native wire needs it",
        ),
        ('{"workDir": "w", "wire": "physicsworks"}', "the key 'host' is missing"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    """The message has the file, the key and what is expected."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "config.json")
    assert "config.json" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workDir: w\n\ttoken: secret\n", "line 2, column 1, is neither JSON nor YAML: a tab"),
        ("workDir: w\ntoken: {secret: [\n", "is neither JSON nor YAML: "),
        ("token: 'secret", "is neither JSON nor YAML: "),
    ],
)
def test_what_is_no_yaml_is_placed_and_not_quoted(text: str, words: str) -> None:
    """The line that is wrong may hold a token."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "config.yaml")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_token_is_never_shown() -> None:
    """Neither an error nor a repr holds it."""
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"workDir": "w", "token": ["hidden"]}))
    assert "hidden" not in str(caught.value)
    assert "secret-token" not in repr(parse_config(json.dumps(SEED)))


def test_yaml_and_nulls_are_taken() -> None:
    """A YAML file is as good, and a key that is null is as if it were not there."""
    config = parse_config("workDir: w\nhost: null\nlimits: {time_s: 60}\nproject: 7\n", "c.yaml")
    assert (config.wire, config.host, config.project) == (OFFLINE, None, "7")
    assert config.limits == Limits(time_s=60.0)
    with pytest.raises(ConfigError, match="neither JSON nor YAML"):
        parse_config("a: [", "c.yaml")


def test_a_case_is_read() -> None:
    """Every key of a case has a place; an empty file is a case."""
    text = """
        name: wing
        parameters: {re: 100}
        inputs: mesh.msh
        series: [openfoam]
        limits: {time_s: 10}
        downloadable: [outputs/files]
        render: {file: outputs/files/u.vtu}
        environment: {OMP_NUM_THREADS: 1}
    """
    case = parse_case(text)
    assert case.inputs == ("mesh.msh",)
    assert case.environment == {"OMP_NUM_THREADS": "1"}
    assert case.render == ({"file": "outputs/files/u.vtu"},)
    assert parse_case("") == Case()
    with pytest.raises(ConfigError, match=r"my/case\.yaml: the key 'parameter' is unknown; did"):
        parse_case("parameter: {}", "my/case.yaml")
