"""
Parameters of a run as the flat inputs of the PhysicsWorks wire. Pure.

Promises: every leaf of the parameters is one input ``{slug, fullPath, value, unit?}``, in their
order; ``{value, unit}`` is one leaf with its unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def run_inputs(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return *parameters* (``{inputs: {...}}``, or the inputs themselves) as a flat list."""
    given = parameters.get("inputs")
    return list(_leaves(given if isinstance(given, Mapping) else parameters, ""))


def _leaves(node: Mapping[str, Any], above: str) -> Iterator[dict[str, Any]]:
    for slug, value in node.items():
        path = f"{above}/{slug}"
        if isinstance(value, Mapping) and set(value) <= {"value", "unit"} and "value" in value:
            unit = {"unit": value["unit"]} if value.get("unit") is not None else {}
            yield {"slug": slug, "fullPath": path, "value": value["value"], **unit}
        elif isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield {"slug": slug, "fullPath": path, "value": value}
