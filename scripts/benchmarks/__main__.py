"""
`scripts/bench`: runs one benchmark by name, or lists them.

A benchmark is a module in this folder with ``main(argv) -> int`` and a docstring whose first line
says what it measures. It may import `tests.support` and the other modules of this folder by name
(``import faults``). References run side by side in the same call. A name that is also one of the
standard library's has an underscore behind it, which `scripts/bench` leaves out: ``queue_.py``.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def benchmarks() -> dict[str, tuple[str, str]]:
    """Return the names of the benchmarks, the module of each, and what it measures."""
    found = {}
    for path in sorted(HERE.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            what = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[path.stem.rstrip("_")] = (path.stem, what)
    return found


def run(argv: list[str]) -> int:
    """Run the benchmark that *argv* names; return its exit status."""
    known = benchmarks()
    if not argv or argv[0] not in known:
        print("usage: scripts/bench NAME [ARGUMENTS]\n")
        for name, (_, what) in known.items():
            print(f"  {name:<14} {what}")
        return 0 if not argv or argv[0] in ("-h", "--help") else 2
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    module = importlib.import_module(known[argv[0]][0])
    status: int = module.main(argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
