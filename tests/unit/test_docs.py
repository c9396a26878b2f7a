"""What the docs say and what the code has are the same names."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from physicsrunner import config, errors
from physicsrunner.cli.main import COMMANDS
from physicsrunner.core.permissions import ROLES
from physicsrunner.core.series import Reader
from physicsrunner.core.stages import STAGE_NAMES, Stage
from physicsrunner.core.state import RunEvent, RunState
from physicsrunner.runner.rules import rules_for
from physicsrunner.wire import live, messages
from physicsrunner.wire.documents import _CASE_KEYS, _CONFIG_KEYS, parse_case
from physicsrunner.wire.tokens import KINDS
from tests.support.require import require_module

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _codes(text: str) -> set[str]:
    """Return the words of a page that stand in `backticks`."""
    return set(re.findall(r"`([^`\n]+)`", text))


def test_the_generated_pages_are_up_to_date() -> None:
    """`scripts/generate` would change nothing."""
    script = ROOT / "scripts" / "generated_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_message_and_field_is_in_the_protocol() -> None:
    """Each message has its heading, and below it each of its fields."""
    page = _page("protocol.md")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", page, re.MULTILINE | re.DOTALL))
    classes = [v for v in vars(messages).values() if isinstance(v, type) and is_dataclass(v)]
    assert len(classes) > 15
    for cls in classes:
        assert {field.name for field in fields(cls)} <= _codes(sections[cls.__name__]), cls


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("protocol.md", messages.OPERATIONS),
        ("protocol.md", KINDS),
        ("protocol.md", (live.SOCKETIO_PATH, live.EVENT)),
        (
            "protocol.md",
            [
                value
                for name, value in vars(live).items()
                if name.isupper() and isinstance(value, str) and value.startswith("simulation/")
            ],
        ),
        ("states.md", [state.value for state in RunState]),
        ("states.md", [event.value for event in RunEvent]),
        ("runner.md", list(STAGE_NAMES)),
        (
            "errors.md",
            [
                value.code
                for value in vars(errors).values()
                if isinstance(value, type) and issubclass(value, errors.PhysicsRunnerError)
            ],
        ),
        ("configuration.md", list(config.SETTINGS)),
        ("configuration.md", [setting.variable for setting in config.SETTINGS.values()]),
        ("configuration.md", [config.TOKEN_VARIABLE]),
        ("configuration.md", list(_CONFIG_KEYS)),
        ("configuration.md", list(_CASE_KEYS)),
    ],
)
def test_every_name_stands_on_its_page(page: str, words: list[str]) -> None:
    """No operation, event, state, code, setting or key is left out."""
    assert words
    assert set(words) <= _codes(_page(page))


def test_subscribing_is_described_with_its_words() -> None:
    """The protocol names what viewers and agents send and get, and the roles."""
    page = _page("protocol.md")
    for word in (live.SUBSCRIBE, live.UNSUBSCRIBE, live.COMMAND, "run:ID", *ROLES):
        assert re.search(rf"\b{re.escape(word)}\b", page), word
    for stage in Stage:
        assert re.search(rf"^\| {stage} \|", _page("runner.md"), re.MULTILINE), stage


def _documented_routes() -> set[tuple[str, str]]:
    found = set()
    for code in _codes(_page("protocol.md")):
        match = re.fullmatch(r"(GET|HEAD|PUT|POST|DELETE|PATCH) (/[^ ?]*)(\?.*)?", code)
        if match:
            found.add((match[1], re.sub(r"\{\w+\}", "{}", match[2])))
    return found


def _built_routes() -> set[tuple[str, str]]:
    from fastapi import APIRouter

    import physicsrunner.server.rest as rest

    found = set()
    for module in pkgutil.iter_modules(rest.__path__, f"{rest.__name__}."):
        router = getattr(importlib.import_module(module.name), "router", None)
        if isinstance(router, APIRouter):
            for route in router.routes:
                path = re.sub(r"\{\w+(:\w+)?\}", "{}", getattr(route, "path", ""))
                if path == "/docs/{}":  # what the page of the API is made of
                    continue
                found |= {(method, path) for method in getattr(route, "methods", None) or ()}
    return found


def test_every_route_is_in_the_protocol() -> None:
    """The routes of the native API and those of the page are the same."""
    require_module("fastapi", "sqlalchemy")
    built, documented = _built_routes(), _documented_routes()
    assert built
    assert not {route for route in built if route[0] != "HEAD" and route not in documented}
    # The framework's own.
    assert not documented - built - {("GET", "/openapi.json")}


def test_every_command_is_described() -> None:
    """The README's table and the page of commands have every command."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = _page("commands.md")
    for command in (name for group in COMMANDS.values() for name in group):
        assert re.search(rf"^\| .*`{command}`.* \|", readme, re.MULTILINE), command
        assert f"## {command}\n" in page, command


def test_every_script_has_its_line() -> None:
    """scripts/README.md has a line for each script."""
    text = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    for script in (ROOT / "scripts").iterdir():
        if script.is_file() and not script.suffix:
            assert f"`scripts/{script.name}`" in text, script.name


def test_links_lead_somewhere() -> None:
    """Every relative link between the pages has its file."""
    for page in (*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "scripts" / "README.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_decision_is_listed_and_whole() -> None:
    """Each page of docs/adr is in its README and has the four parts."""
    listed = _page("adr/README.md")
    for page in sorted((DOCS / "adr").glob("0*.md")):
        assert f"({page.name})" in listed
        text = page.read_text(encoding="utf-8")
        for part in ("Status:", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{page.name}: {part}"


def test_the_main_py_of_the_page_runs(tmp_path: Path) -> None:
    """What the page of the solver shows works as it stands, outside a run too."""
    script = re.search(r"```python\n(.*?)```", _page("solver.md"), re.DOTALL)
    assert script
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True)
    assert "273.15" in (tmp_path / "outputs" / "results.json").read_text()
    assert "step 10" in (tmp_path / "outputs" / "state.txt").read_text()


def test_the_rules_of_the_page_do_what_it_says() -> None:
    """The case.yaml on the page of series is one, and its line makes the points it names."""
    page = _page("series.md")
    text = re.search(r"```yaml\n(series:.*?)```", page, re.DOTALL)
    line = re.search(r"From `(.*?)` this makes a point of `(\w+)` at iteration (\d+)", page)
    assert text
    assert line
    own, *named = rules_for(parse_case(text[1]).series, "case.yaml")
    assert [rules.name for rules in named] == ["openfoam"]
    reader = Reader(own)
    first = reader.feed(line[1].replace(line[3], "6"))
    assert [(point.series, point.x) for point in first] == [(line[2], 6.0)]
    second = reader.feed(line[1])
    at = float(line[3])
    assert [(point.series, point.x, point.unit) for point in second] == [
        (line[2], at, None),
        ("drag change", at, "1"),
    ]


def test_every_key_of_series_rules_is_described() -> None:
    """What a rule set may hold stands on the page of series."""
    source = (ROOT / "src/physicsrunner/core/series_format.py").read_text(encoding="utf-8")
    keys = set(re.findall(r"\.(?:take|names|mapping|pattern)\(\"(\w+)\"", source))
    assert len(keys) > 20
    page = _page("series.md")
    assert {key for key in keys if f"`{key}`" not in page and f"`{key}:`" not in page} == set()
