"""
Pictures of .vtu and .vtp files, where the case asks for them and ``[viz]`` is installed.

Rendering runs in a process of its own: without a graphics library VTK does not raise, it dies. What
cannot be rendered is a warning and never the end of a run.

In case.yaml::

    render:
      - file: outputs/files/flow.vtu    # a pattern, relative to the work folder
        field: speed                    # colours by it; the first one where none is named
        to: flow.png                    # below outputs/media; the file's name where none is named
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from physicsrunner.core.paths import check_path
from physicsrunner.errors import UnsafePath
from physicsrunner.runner.context import Attempt

_LONGEST_S: Final = 300.0
_KINDS: Final = frozenset({".vtu", ".vtp", ".vtk", ".vts", ".vtr", ".vti"})

# Runs in the other process; standard input is a list of {source, target, field}.
_PROGRAM: Final = """
import json, sys
import pyvista
pyvista.OFF_SCREEN = True
def picture(item):
    mesh = pyvista.read(item["source"])
    field = item["field"] or next(iter(mesh.array_names), None)
    plotter = pyvista.Plotter(off_screen=True, window_size=(1024, 768))
    plotter.add_mesh(mesh, scalars=field)
    lengths = [mesh.bounds[1] - mesh.bounds[0], mesh.bounds[3] - mesh.bounds[2],
               mesh.bounds[5] - mesh.bounds[4]]
    if min(lengths) == lengths[2] == 0:
        plotter.view_xy()
    plotter.screenshot(item["target"])
    plotter.close()
failed = []
for item in json.load(sys.stdin):
    try:
        picture(item)
    except Exception as error:  # the others are still made
        failed.append(f"{item['target']}: {type(error).__name__}: {error}")
sys.exit("; ".join(failed) or 0)
"""


def render(attempt: Attempt) -> list[Path]:
    """Make the pictures that the case asks for; return those that were made."""
    wanted = list(_wanted(attempt))
    if not wanted:
        return []
    if find_spec("pyvista") is None:
        attempt.warn(
            "the case asks for pictures, and pyvista is not installed: "
            "pip install 'physicsrunner[viz]'"
        )
        return []
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps(wanted).encode(),
            capture_output=True,
            timeout=_LONGEST_S,
            env={**os.environ, "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"},
            cwd=attempt.folder.root,
            check=False,
        )
    except subprocess.TimeoutExpired:
        attempt.warn(f"rendering took more than {_LONGEST_S:g} s and was given up")
        return []
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        attempt.warn(f"rendering failed ({done.returncode}): {said[-1] if said else 'no message'}")
    return [Path(item["target"]) for item in wanted if Path(item["target"]).is_file()]


def _wanted(attempt: Attempt) -> Iterator[dict[str, Any]]:
    root = attempt.folder.root
    for rule in attempt.case.render:
        try:
            pattern = check_path(str(rule.get("file", "")).strip("/"))
            target = check_path(str(rule["to"])) if rule.get("to") else None
        except UnsafePath as error:
            attempt.warn(f"render: {error}")
            continue
        for path in sorted(root.glob(pattern)):
            if path.is_file() and path.suffix.lower() in _KINDS:
                yield _item(attempt, rule, path, target)


def _item(
    attempt: Attempt, rule: Mapping[str, Any], path: Path, target: str | None
) -> dict[str, Any]:
    picture = attempt.folder.outputs / "media" / (target or f"{path.stem}.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    return {"source": str(path), "target": str(picture), "field": rule.get("field")}
