"""What docs/doors.md says of the doors is what the server has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.core.run import DOORS
from physicsrunner.core.state import RunState
from physicsrunner.server.app import create_app
from physicsrunner.server.doors.shakescenario.operations import Operations
from physicsrunner.server.doors.words import WORDS
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import Services, build
from tests.support.routes import declared

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doors.md"
TCP = "shakescenario"


def table(first: str) -> list[dict[str, str]]:
    """Return the rows of the table whose first column is called *first*, by column."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    head, _, *body = rows
    return [dict(zip(head, row, strict=True)) for row in body]


def cells() -> Iterator[tuple[str, str]]:
    """Yield (column's head, what a cell of it names), for every name in the table of uses."""
    for row in table("to"):
        for head, cell in list(row.items())[1:]:
            named = re.findall(r"`([^`]+)`", cell)
            assert cell == "-" or named, row
            for name in named:
                yield head, name


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Give the services of a server with all doors."""
    options = ServerOptions(doors=DOORS)
    folder = tmp_path_factory.mktemp("doors")
    services = build(folder, url="memory:", now=lambda: 0.0, options=options)
    yield services
    services.close()


@pytest.fixture(scope="module")
def routes(services: Services) -> set[str]:
    """Give ``METHOD /path`` of every route."""
    return {str(route) for route in declared(create_app(services).api.routes)}


def named_routes() -> set[str]:
    found = set()
    for head, name in cells():
        if head == TCP:
            continue
        prefix = re.findall(r"`([^`]+)`", head)[0]
        method, path = name.split(" ", 1)
        found.add(f"{method} {path if path.startswith('/') else prefix + path}")
    return found


def test_every_route_that_the_page_names_is_there(routes: set[str]) -> None:
    """Of the doors and of the native API beside them."""
    assert named_routes() <= routes


def test_the_page_names_every_route_of_every_door(routes: set[str]) -> None:
    """A route that nobody is told of is not used; what the page leaves out is an error."""
    # The PhysicsWorks routes are there with /api and without; files by HEAD as by GET.
    of_doors = {
        re.sub("^HEAD ", "GET ", route).replace("/physicsworks/api/", "/physicsworks/")
        for route in routes
        if route.split(" /")[1].split("/")[0] in DOORS
    }
    assert len(of_doors) > 40
    assert of_doors <= {r.replace("/physicsworks/api/", "/physicsworks/") for r in named_routes()}


def test_the_page_names_every_operation_of_the_tcp_line(services: Services) -> None:
    """No more and no less; three are the line's own."""
    every = {*Operations(services)._table, "auth", "ping", "wait"}
    assert {name for head, name in cells() if head == TCP} == every


def test_the_page_has_each_doors_words() -> None:
    """Every state, in the words that the code has for it."""
    rows = {row["run"]: row for row in table("run")}
    assert set(rows) == {state.value for state in RunState}
    for door, words in WORDS.items():
        assert {state.value: rows[state.value][door] for state in RunState} == {
            state.value: word for state, word in words.items()
        }


def test_every_door_has_a_page_of_its_own() -> None:
    """The table of doors is that of the setting, and its links lead somewhere."""
    rows = table("door")
    assert [row["door"].strip("`") for row in rows] == list(DOORS)
    for row in rows:
        link = re.search(r"\(([^)]+)\)", row["its own page"])
        assert link is not None
        assert (PAGE.parent / link[1]).is_file()
