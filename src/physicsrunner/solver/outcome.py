"""
Results and series that main.py gives: results.json, results.csv, series.jsonl, plots.

Promises:

- A file of results is replaced whole: a reader sees the old or the new one, never half of it; a
  kill at any moment leaves one of the two. Several processes may give results at once.
- Types are kept: numbers, booleans, texts, lists and objects; NumPy's scalars and arrays too.
- `series` is one write of one line: several processes may call it at once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from physicsrunner.solver import environment
from physicsrunner.solver.interface import append_line


def result(name: str, value: Any, unit: str | None = None) -> None:
    """
    Give the result *name*: a number, boolean, text, or a list or dict of such.

    The same name again replaces the value. Kept in ``outputs/results.json``.

    Raises
    ------
    TypeError
        If *value* is of a type that JSON has no words for.
    """
    entry: dict[str, Any] = {"value": _jsonable(value, name)}
    if unit is not None:
        entry["unit"] = str(unit)
    path = environment.outputs_dir() / "results.json"
    with _locked(path.parent):
        known = _known_results(path)
        known[str(name)] = entry
        _replace(path, json.dumps(known, ensure_ascii=False, indent=1).encode() + b"\n")


def add_to_simulation_results(name: str, value: Any, outputs_path: str = "") -> None:
    """
    Add a name and a value to results.csv: a line of names, a line of values, as published.

    Raises
    ------
    ValueError
        If there is no run and no *outputs_path*.
    """
    folder = outputs_path or environment.published("OUTPUTS_DIR")
    if not folder:
        raise ValueError(
            "there is no outputs folder: give outputs_path, or set PHYSICSWORKS_OUTPUTS_DIR"
        )
    path = Path(folder) / "results.csv"
    with _locked(path.parent):
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        names, values = [*lines[:2], "", ""][:2]
        names = f"{names},{_cell(name)}" if names else _cell(name)
        values = f"{values},{_cell(value)}" if values else _cell(value)
        _replace(path, f"{names}\n{values}\n".encode())


def series(
    name: str, x: float, y: float, unit: str | None = None, x_name: str = "iteration"
) -> None:
    """
    Add the point (*x*, *y*) to the live series *name*, such as ``residual/Ux``.

    *unit* is that of y; *x_name* says what x is (iteration, time, ...).
    """
    point: dict[str, Any] = {"series": str(name), "x": float(x), "y": float(y)}
    for axis in ("x", "y"):
        if not math.isfinite(point[axis]):  # JSON has no such numbers
            point[axis], point[f"{axis}_text"] = None, str(point[axis])
    point["x_name"] = x_name
    if unit is not None:
        point["unit"] = unit
    line = json.dumps(point, ensure_ascii=False, separators=(",", ":"))
    append_line(str(environment.outputs_dir() / "series.jsonl"), line)


def save_plot(name: str, figure: Any = None, *, dpi: int = 150, **options: Any) -> Path:
    """
    Save a matplotlib figure whole as ``outputs/plots/NAME`` (.png where NAME has no ending).

    Parameters
    ----------
    figure
        The figure; None: pyplot's current one.
    dpi, options
        For ``Figure.savefig``.

    Returns
    -------
    Path
        The file.
    """
    path = environment.plots_dir() / name
    if not path.suffix:
        path = path.with_suffix(".png")
    if figure is None:
        figure = _current_figure()
    data = BytesIO()
    figure.savefig(data, format=path.suffix[1:], dpi=dpi, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, data.getvalue())
    return path


def _current_figure() -> Any:
    try:
        import matplotlib.pyplot as plt  # heavy, and not in the base installation
    except ImportError:
        from physicsrunner.errors import MissingExtra

        raise MissingExtra(
            "matplotlib is not installed; `pip install physicsrunner[examples]` brings it"
        ) from None
    return plt.gcf()


def replace_placeholders_in_file(file_path: str, replacements: Mapping[str, Any]) -> None:
    """Replace every placeholder in the file at *file_path* by its value, as text."""
    path = Path(file_path)
    content = path.read_text("utf-8")
    for placeholder, value in replacements.items():
        content = content.replace(placeholder, str(value))
    path.write_text(content, "utf-8")


def _known_results(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON, so nothing can be added to it: {error}") from None
    if not isinstance(known, dict):
        raise ValueError(f"{path} must hold an object, so nothing can be added to it")
    return known


def _jsonable(value: Any, name: str) -> Any:
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, name) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return _jsonable(value.tolist(), name)
    raise TypeError(
        f"result {name!r}: expected a number, boolean, text, list or dict, "
        f"not {type(value).__name__}"
    )


def _cell(value: Any) -> str:
    text = " ".join(str(value).splitlines())
    # A comma would shift every value after it to another name.
    return '"' + text.replace('"', '""') + '"' if "," in text or text.startswith('"') else text


def _replace(path: Path, data: bytes) -> None:
    temporary = environment.scratch_dir(path.parent) / f"{path.name}.{os.getpid()}.{id(data):x}.tmp"
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes and threads that give results out, where the system can."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, PermissionError):  # Windows cannot lock a folder
        yield
        return
    try:
        with suppress(OSError):  # some network file systems have no locks; files are still whole
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
