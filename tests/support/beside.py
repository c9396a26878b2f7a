"""The modules that lie beside the main.py of a packaged case, for tests of their functions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from physicsrunner.examples import Example


class Modules:
    """Modules by their names, loaded when first asked for."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@contextmanager
def beside(example: Example) -> Iterator[Modules]:
    """Let the case's folder be where modules are found, as for its main.py; nothing stays."""
    names = {path.stem for path in example.folder.glob("*.py")}
    before = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, str(example.folder))
    try:
        yield Modules()
    finally:
        sys.path.remove(str(example.folder))
        for name in names & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(before)
