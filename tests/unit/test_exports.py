"""The public names: what `__all__` says is there, and importing is light."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import physicsrunner

PACKAGE = Path(physicsrunner.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "physicsrunner.")
    # Programs, not modules: cases, the command, and what Alembic alone can run.
    if not any(part in module.name for part in (".examples", "__main__", ".migrations."))
)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    """Each module begins with a docstring, and its `__all__`, where it has one, is true."""
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), name
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize("name", ["physicsrunner", "physicsrunner.solver"])
def test_the_public_packages_list_their_names(name: str) -> None:
    """`__all__` is sorted, has no doubles, and every name of it can be got."""
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert names == sorted(set(names))
    for public in names:
        assert getattr(module, public) is not None


def test_names_of_the_public_face() -> None:
    """What the documents promise at the top of the package is there."""
    from physicsrunner import solver

    assert {"run_solver", "Client"} <= set(physicsrunner.__all__)
    assert callable(physicsrunner.run_solver)
    assert callable(solver.run_solver)


def test_no_module_is_too_long() -> None:
    """A module of more than 400 lines is more than one idea."""
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_no_function_is_too_long() -> None:
    """A function of more than 60 lines is more than one step."""
    long = []
    for path in PACKAGE.rglob("*.py"):
        if "versions" in path.parts:  # a migration is one list of tables
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno
                if lines > 60:
                    long.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name} {lines}")
    assert not long


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("physicsrunner", {"requests", "fastapi", "sqlalchemy", "socketio"}),
        ("physicsrunner.solver", {"requests", "fastapi", "sqlalchemy", "socketio", "watchdog"}),
        ("physicsrunner.cli.main", {"fastapi", "sqlalchemy", "socketio", "requests"}),
        ("physicsrunner.runner.api", {"fastapi", "sqlalchemy", "uvicorn"}),
    ],
)
def test_importing_stays_light(module: str, unwanted: set[str]) -> None:
    """What a main.py or a command does not need is not imported for it."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not unwanted & set(done.stdout.split())
