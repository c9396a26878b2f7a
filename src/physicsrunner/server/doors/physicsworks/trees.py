"""
The tree of a simulation and the flat inputs that change it. Pure.

Promises: the tree is the model's parameters as they are, groups within groups; an input changes the
one value that its path names and nothing else, and keeps its unit; a path that the model has no
parameter for is refused, where its case file names any.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from physicsrunner.errors import InvalidRequest
from physicsrunner.service.cases import SavedCase

SOURCES: Final = ("simulation", "solver")
_LEAF: Final = {"value", "unit"}


def patched(case: SavedCase, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the tree that ``{inputs, source?, baseTree?}`` makes of the one that *case* has.

    Raises
    ------
    InvalidRequest
        If an input has no path or no value, or the model has no such parameter.
    """
    tree = copy.deepcopy(dict(_base(case, body)))
    inputs = body.get("inputs", [] if "source" in body or "baseTree" in body else None)
    if not isinstance(inputs, list) or not all(isinstance(item, Mapping) for item in inputs):
        raise InvalidRequest("inputs is a list of objects {fullPath, value, unit?}")
    for item in inputs:
        _put(tree, item)
    _check_known(tree, case.defaults, "")
    return tree


def _base(case: SavedCase, body: Mapping[str, Any]) -> Mapping[str, Any]:
    base, source = body.get("baseTree"), body.get("source")
    if source not in (None, *SOURCES):
        raise InvalidRequest(f"source {str(source)[:40]!r}: it is {' or '.join(SOURCES)}")
    if base is not None:
        if not isinstance(base, Mapping):
            raise InvalidRequest("baseTree is an object: the tree of a simulation")
        return base
    return case.defaults if source == "solver" else case.parameters


def _put(tree: dict[str, Any], item: Mapping[str, Any]) -> None:
    path = item.get("fullPath")
    parts = [part for part in path.split("/") if part] if isinstance(path, str) else []
    if not parts or "value" not in item:
        raise InvalidRequest(f"an input has a text fullPath and a value: {str(dict(item))[:120]}")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict) or _is_leaf(node):
            raise InvalidRequest(f"the input {path!r}: {part!r} is a value, not a group")
    name, value, unit = parts[-1], item["value"], item.get("unit") or None
    present = node.get(name)
    if isinstance(present, Mapping) and _is_leaf(present):
        node[name] = {**present, "value": value, **({} if unit is None else {"unit": unit})}
    elif name in node and unit is not None:
        raise InvalidRequest(
            f"the input {path!r} has no unit; give its value in the one that the model expects"
        )
    elif isinstance(present, Mapping) and present and not isinstance(value, Mapping):
        raise InvalidRequest(f"the input {path!r} is a group of inputs; name one of them")
    else:
        node[name] = value if unit is None else {"value": value, "unit": unit}


def _check_known(tree: Mapping[str, Any], known: Mapping[str, Any], above: str) -> None:
    if not known or _is_leaf(known):
        return  # the model does not say which there are
    for name, value in tree.items():
        path = f"{above}/{name}"
        if name not in known:
            every = list(_paths(known, above))
            near = get_close_matches(path, every, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(every[:20])}"
            raise InvalidRequest(f"the model has no input {path}; {hint}")
        if isinstance(value, Mapping) and isinstance(known[name], Mapping):
            _check_known(value, known[name], path)


def _paths(tree: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, value in tree.items():
        path = f"{above}/{name}"
        if isinstance(value, Mapping) and value and not _is_leaf(value):
            yield from _paths(value, path)
        else:
            yield path


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value and set(value) <= _LEAF
