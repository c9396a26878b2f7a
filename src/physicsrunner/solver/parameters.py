"""
The inputs of a run, by name.

Promises: `inputs` reads ``inputs/parameters.json``, else the flat list ``inputs/runInputs.json``;
an input that is not there is an error that lists those that are. The helpers with the published
names read ``runInputs.json`` alone and answer as the published ones do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from physicsrunner.solver import environment

_MISSING: Any = object()


class UnknownInput(KeyError):
    """A run has no input of this name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def inputs() -> dict[str, Any]:
    """
    Return the inputs of this run, name -> value.

    Outside a run without an inputs folder: an empty dict. A value given with its unit
    (``{"value": 1.5, "unit": "m"}``) is returned as the value.

    Raises
    ------
    ValueError
        If a file of inputs is there and cannot be read.
    """
    folder = environment.inputs_dir()
    given = _read(folder / "parameters.json")
    if isinstance(given, dict):
        if set(given) == {"inputs"} and isinstance(given["inputs"], dict):
            given = given["inputs"]
        return {name: _plain(value) for name, value in given.items()}
    listed = _read(folder / "runInputs.json")
    if isinstance(listed, list):
        found: dict[str, Any] = {}
        for item in listed:
            if isinstance(item, dict) and item.get("slug"):
                found.setdefault(str(item["slug"]), item.get("value"))
        return found
    return {}


def input(name: str, default: Any = _MISSING) -> Any:
    """
    Return the input *name*.

    Parameters
    ----------
    name
        Its name, or its path in the tree of inputs (``/solver/time/end``).
    default
        What is returned when there is no such input.

    Raises
    ------
    UnknownInput
        If there is no such input and no *default*; it lists the inputs that there are.
    """
    known = inputs()
    if name in known:
        return known[name]
    if "/" in name:
        listed = _read(environment.inputs_dir() / "runInputs.json")
        for item in listed if isinstance(listed, list) else []:
            if isinstance(item, dict) and str(item.get("fullPath", "")).strip("/") == name.strip(
                "/"
            ):
                return item.get("value")
    if default is not _MISSING:
        return default
    raise UnknownInput(_unknown(name, sorted(known)))


def _unknown(name: str, known: list[str]) -> str:
    import difflib  # only when something is wrong: it costs a start 5 ms

    close = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    have = ", ".join(known) if known else f"no inputs (looked in {environment.inputs_dir()})"
    return f"there is no input {name!r}{meant}; this run has: {have}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "value" in value and value.keys() <= {"value", "unit"}:
        return value["value"]
    return value


def _read(path: Path) -> Any:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


# -- the published names -------------------------------------------------------------------------


def load_run_inputs(inputs_path: str = "") -> list[dict[str, Any]]:
    """
    Return the list in runInputs.json of *inputs_path*, else of this run's inputs.

    Raises
    ------
    ValueError
        If there is no run and no *inputs_path*.
    FileNotFoundError
        If there is no runInputs.json.
    """
    folder = inputs_path or environment.published("INPUTS_DIR")
    if not folder:
        raise ValueError(
            "there is no inputs folder: give inputs_path, or set PHYSICSWORKS_INPUTS_DIR"
        )
    listed: list[dict[str, Any]] = json.loads(Path(folder, "runInputs.json").read_text("utf-8"))
    return listed


def reconstruct_tree_from_run_inputs(inputs_path: str = "") -> dict[str, Any]:
    """Return the inputs as nested dicts by the slugs in their ``fullPath``."""
    tree: dict[str, Any] = {}
    for item in load_run_inputs(inputs_path):
        slugs = [slug for slug in item.get("fullPath", "").split("/") if slug]
        if not slugs:
            continue
        branch = tree
        for slug in slugs[:-1]:
            branch = branch.setdefault(slug, {})
        branch[slugs[-1]] = item.get("value")
    return tree


def get_input_value_by_slug(slug: str, inputs_path: str = "") -> Any:
    """Return the value of the first input with this *slug*, or None."""
    for item in load_run_inputs(inputs_path):
        if item.get("slug") == slug:
            return item.get("value")
    return None


def get_input_values_by_slug(slug: str, inputs_path: str = "") -> list[dict[str, Any]]:
    """Return ``{value, fullPath}`` of every input with this *slug*."""
    return [_placed(item) for item in load_run_inputs(inputs_path) if item.get("slug") == slug]


def get_input_value_by_slugs(slugs: list[str], inputs_path: str = "") -> dict[str, Any]:
    """Return slug -> value of the first input with each of *slugs*."""
    return _first_of(slugs, load_run_inputs(inputs_path), lambda item: item.get("value"))


def get_input_values_by_slugs(slugs: list[str], inputs_path: str = "") -> dict[str, dict[str, Any]]:
    """Return slug -> ``{value, fullPath}`` of the first input with each of *slugs*."""
    return _first_of(slugs, load_run_inputs(inputs_path), _placed)


def _placed(item: dict[str, Any]) -> dict[str, Any]:
    return {"value": item.get("value"), "fullPath": item.get("fullPath")}


def _first_of(
    slugs: Iterable[str], items: list[dict[str, Any]], take: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    wanted, found = set(slugs), {}
    for item in items:
        slug = item.get("slug")
        if slug in wanted and slug not in found:
            found[slug] = take(item)
    return found
