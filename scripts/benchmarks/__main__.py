"""
`scripts/bench`: runs one benchmark by name, or lists them.

A benchmark is a module in this folder with ``main(argv) -> int`` and a docstring whose first line
says what it measures. It may import `tests.support` and the other modules of this folder by name
(``import faults``). References run side by side in the same call.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def benchmarks() -> dict[str, str]:
    """Return the names of the benchmarks and what each measures."""
    found = {}
    for path in sorted(HERE.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run(argv: list[str]) -> int:
    """Run the benchmark that *argv* names; return its exit status."""
    known = benchmarks()
    if not argv or argv[0] not in known:
        print("usage: scripts/bench NAME [ARGUMENTS]\n")
        for name, what in known.items():
            print(f"  {name:<14} {what}")
        return 0 if not argv or argv[0] in ("-h", "--help") else 2
    # Python has put this folder first, where `queue` would hide the one of the standard library.
    sys.path[:] = [place for place in sys.path if place != str(HERE)]
    sys.path.insert(0, str(HERE.parent.parent))
    sys.path.append(str(HERE))  # last: a benchmark may have the name of a module of Python's
    status: int = _loaded(argv[0]).main(argv[1:])
    return status


def _loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
