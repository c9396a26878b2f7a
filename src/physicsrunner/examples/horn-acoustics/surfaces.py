"""
The horn as a surface of triangles: read as ``inputs/mesh.json``, written as Gmsh's MSH 2.2.

Promises: the tags 1 wall, 2 source, 3 secondary and 4 interface stay as they are given; a mesh
without tag 2, with other tags, or that is no body of revolution about one of its coordinate axes
is a ValueError that says so. Lengths here are those of the file, millimetres unless it says
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from helmholtz import INTERFACE, SECONDARY, SOURCE, WALL
from outlines import Meridian, mouth_of

NAMES: Final[Mapping[int, str]] = {
    WALL: "wall",
    SOURCE: "source",
    SECONDARY: "secondary",
    INTERFACE: "interface",
}
TOLERANCE: Final = 0.02  #: largest distance from a body of revolution, in radii of the mesh
UNITS: Final[Mapping[str, float]] = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}

_AXES = "xyz"
_NEAR = np.radians(60.0)  # an edge over less than this angle follows the circle, not its chord


@dataclass(frozen=True)
class Surface:
    """Points (n, 3), triangles (m, 3) and their tags (m,)."""

    vertices: np.ndarray
    triangles: np.ndarray
    tags: np.ndarray


def read(path: Path) -> Surface:
    """Read a mesh of ``vertices``, ``indices`` and ``surfaceTags``, flat or in threes."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"mesh: {path.name} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("mesh: expected an object with vertices, indices and surfaceTags")
    return surface_of(document)


def surface_of(document: Mapping[str, Any]) -> Surface:
    """Return the surface in *document*, checked."""
    vertices = _threes(document, "vertices", float)
    triangles = _threes(document, "indices", int)
    tags = _array(document, "surfaceTags", int).ravel()
    if len(tags) != len(triangles):
        raise ValueError(f"mesh: surfaceTags has {len(tags)} values for {len(triangles)} triangles")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(
            f"mesh: indices must be from 0 to {len(vertices) - 1}, there are "
            f"{triangles.min()} to {triangles.max()}"
        )
    known = ", ".join(f"{tag} {name}" for tag, name in NAMES.items())
    if strange := sorted(set(tags.tolist()) - set(NAMES)):
        raise ValueError(f"mesh: surfaceTags has {strange[0]}; there are: {known}")
    if SOURCE not in tags:
        raise ValueError("mesh: no triangle has the tag 2 (source), so nothing would sound")
    return Surface(vertices, triangles, tags)


def meridian_of(surface: Surface, unit: float) -> Meridian:
    """
    Return the meridian of a body of revolution, in metres, opening towards +z.

    Parameters
    ----------
    unit
        Metres in the surface's unit of length.
    """
    surface = _welded(surface)
    worst, found = np.inf, None
    for axis in (2, 1, 0):
        points, where = _about(surface, axis)
        try:
            line, tags = _slice(points, surface)
        except ValueError as error:
            found = found or str(error)
            continue
        away = _distance(line, np.column_stack([np.hypot(points[:, 0], points[:, 1]),
                                                points[:, 2]]))  # fmt: skip
        used = np.unique(surface.triangles[surface.tags != INTERFACE])
        deviation = float(away[used].max()) / float(line[:, 0].max())
        if deviation <= TOLERANCE:
            return _oriented(line * unit, tags)
        if deviation < worst:
            worst = deviation
            found = (
                f"its points lie up to {100 * deviation:.3g} % of the radius away from one, about "
                f"the axis {_AXES[axis]} through ({where[0]:.4g}, {where[1]:.4g}); allowed are "
                f"{100 * TOLERANCE:g} %"
            )
    raise ValueError(f"mesh: it is no body of revolution, which is all that is computed: {found}")


def _welded(surface: Surface) -> Surface:
    """Give points at one place one number: some programs repeat them at seams."""
    step = 1e-7 * float(np.ptp(surface.vertices))
    if step <= 0.0:
        raise ValueError("mesh: all vertices are at one place")
    _, first, number = np.unique(
        np.round(surface.vertices / step), axis=0, return_index=True, return_inverse=True
    )
    return Surface(surface.vertices[first], number.reshape(-1)[surface.triangles], surface.tags)


def _about(surface: Surface, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices with *axis* as the third coordinate, and where the axis was."""
    points = np.roll(surface.vertices, 2 - axis, axis=1)
    source = np.unique(surface.triangles[surface.tags == SOURCE])
    rim = np.intersect1d(source, surface.triangles[surface.tags != SOURCE])
    if len(rim) < 3:
        edge = points[source, :2]
        centre = 0.5 * (edge.min(axis=0) + edge.max(axis=0))
    else:
        # The circle through the source's rim: right for a half or a quarter of a horn as well.
        edge = points[rim, :2]
        terms = np.column_stack([2.0 * edge, np.ones(len(edge))])
        centre = np.linalg.lstsq(terms, (edge**2).sum(axis=1), rcond=None)[0][:2]
    return points - [*centre, 0.0], centre


def _slice(points: np.ndarray, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Cut the surface by a half plane through the axis; return the line and its sides' tags."""
    radius, angle = np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 1], points[:, 0])
    on_axis = radius < 1e-6 * radius.max()
    # Between two angles that vertices have, so that none lies on the plane, and well inside.
    wide = np.unique(np.round(angle[~on_axis], 6))
    if len(wide) < 2:
        raise ValueError("it is flat")
    begin = len(wide) // 2
    gaps = np.diff(wide)[begin - 1 : begin + 9]
    place = begin - 1 + int(np.argmax(gaps))
    plane = wide[place] + 0.4871 * (wide[place + 1] - wide[place])
    turned = (angle - plane + np.pi) % (2.0 * np.pi) - np.pi
    across, along = radius * np.sin(turned), radius * np.cos(turned)
    across[on_axis] = along[on_axis] = 0.0
    pieces, tags = [], []
    sides, ahead = across[surface.triangles], along[surface.triangles]
    cut_by = (sides.min(axis=1) <= 0.0) & (sides.max(axis=1) >= 0.0) & (ahead.max(axis=1) > 0.0)
    cut_by &= surface.tags != INTERFACE  # only where two regions meet: sound passes through it
    for triangle, tag in zip(surface.triangles[cut_by], surface.tags[cut_by], strict=True):
        ends = [
            (i, j) for i, j in zip(triangle, np.roll(triangle, -1), strict=True)
            if across[i] * across[j] < 0.0
        ]  # fmt: skip
        cut = [_crossing(i, j, across, along, radius, turned, points[:, 2]) for i, j in ends]
        cut += [np.array([0.0, points[i, 2]]) for i in triangle if on_axis[i]]
        if len(cut) == 2 and (piece := _in_front(*cut)) is not None:
            pieces.append(piece)
            tags.append(tag)
    return _chained(pieces, tags, 1e-6 * float(np.ptp(points)))


def _crossing(
    i: int,
    j: int,
    across: np.ndarray,
    along: np.ndarray,
    radius: np.ndarray,
    turned: np.ndarray,
    z: np.ndarray,
) -> np.ndarray:
    """Return where the edge from *i* to *j* meets the plane, as (r, z)."""
    if abs(turned[i] - turned[j]) < _NEAR:
        # The chord lies inside of the circle that the vertices are on: follow the circle.
        part, reach = turned[i] / (turned[i] - turned[j]), radius
    else:
        part, reach = across[i] / (across[i] - across[j]), along
    return np.array([reach[i] + part * (reach[j] - reach[i]), z[i] + part * (z[j] - z[i])])


def _in_front(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """Return the part of the piece on this side of the axis."""
    if first[0] <= 0.0 and second[0] <= 0.0:
        return None
    if first[0] * second[0] < 0.0:
        part = first[0] / (first[0] - second[0])
        axis = np.array([0.0, first[1] + part * (second[1] - first[1])])
        first, second = (first, axis) if first[0] > 0.0 else (axis, second)
    return np.array([first, second])


def _chained(
    pieces: list[np.ndarray], tags: list[int], near: float
) -> tuple[np.ndarray, np.ndarray]:
    """Join the pieces to one line from the source's middle outwards."""
    pairs = [(np.round(piece / (10.0 * near)).astype(np.int64), piece, tag)
             for piece, tag in zip(pieces, tags, strict=True)
             if np.hypot(*(piece[1] - piece[0])) > near]  # fmt: skip
    at: dict[tuple[int, int], list[int]] = {}
    for number, (ends, _, _) in enumerate(pairs):
        for end in ends:
            at.setdefault((int(end[0]), int(end[1])), []).append(number)
    if crowded := [end for end, numbers in at.items() if len(numbers) > 2]:
        place = 10.0 * near * np.array(crowded[0])
        raise ValueError(f"its section branches at r = {place[0]:.4g}, z = {place[1]:.4g}")
    starts = [n for n, (ends, _, tag) in enumerate(pairs)
              if tag == SOURCE and min(e[0] for e in ends) == 0]  # fmt: skip
    if not starts:
        raise ValueError("its source (tag 2) does not reach the axis")
    number, line, found, done = starts[0], [], [], set()
    ends, piece, _ = pairs[number]
    here = 0 if ends[0][0] == 0 else 1
    line.append(piece[here])
    while number not in done:
        done.add(number)
        ends, piece, tag = pairs[number]
        line.append(piece[1 - here])
        found.append(tag)
        tip = (int(ends[1 - here][0]), int(ends[1 - here][1]))
        following = [n for n in at[tip] if n not in done]
        if not following:
            break
        number = following[0]
        first = pairs[number][0][0]
        here = 0 if (int(first[0]), int(first[1])) == tip else 1
    return np.array(line), np.array(found)


def _distance(line: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far each of *points* is from the polyline."""
    best = np.full(len(points), np.inf)
    for start, end in pairwise(line):
        side = end - start
        length = float(side @ side)
        part = np.clip((points - start) @ side / length, 0.0, 1.0) if length else 0.0
        foot = start + np.reshape(part, (-1, 1)) * side
        np.minimum(best, np.hypot(*(points - foot).T), out=best)
    return best


def _oriented(line: np.ndarray, tags: np.ndarray) -> Meridian:
    """Turn the horn so that it opens towards +z from the source's middle."""
    ahead = line[:, 1] - line[0, 1]
    closed = line[-1, 0] < 1e-9
    backwards = ahead[-1] > 0.0 if closed else abs(ahead.min()) > ahead.max()
    points = line * [1.0, -1.0] if backwards else line.copy()
    points[0, 0] = 0.0
    if closed:
        points[-1, 0] = 0.0
    return Meridian(points, tags)


def revolved(meridian: Meridian, unit: float, *, interface: bool, around: int = 48) -> Surface:
    """Return the meridian turned around its axis, with a disc across its mouth as *interface*."""
    points, tags = meridian.points / unit, list(meridian.tags)
    if interface:
        last = mouth_of(points)
        points = np.vstack([points[: last + 1], [0.0, points[last, 1]]])
        tags = [*tags[:last], INTERFACE]
    angle = 2.0 * np.pi * np.arange(around) / around
    vertices: list[np.ndarray] = []
    rings: list[np.ndarray] = []
    for r, z in points:
        count = 1 if r == 0.0 else around
        rings.append(np.arange(count) + sum(len(ring) for ring in rings))
        vertices += [np.array([r * np.cos(a), r * np.sin(a), z]) for a in angle[:count]]
    triangles, kinds = [], []
    for first, second, tag in zip(rings, rings[1:], tags, strict=False):
        for i in range(around):
            j = (i + 1) % around
            if len(first) > 1:
                triangles.append([first[i], first[j], second[i % len(second)]])
                kinds.append(tag)
            if len(second) > 1:
                triangles.append([first[j % len(first)], second[j], second[i]])
                kinds.append(tag)
    return Surface(np.array(vertices), np.array(triangles), np.array(kinds))


def write_msh(path: Path, surface: Surface) -> None:
    """Write *surface* as MSH 2.2 text; its tags are physical groups with their names."""
    names = [f'2 {tag} "{NAMES[tag]}"' for tag in sorted(set(surface.tags.tolist()))]
    nodes = [
        f"{number} {x:.9g} {y:.9g} {z:.9g}"
        for number, (x, y, z) in enumerate(surface.vertices.tolist(), 1)
    ]
    elements = [
        f"{number} 2 2 {tag} {tag} {a + 1} {b + 1} {c + 1}"
        for number, (tag, (a, b, c)) in enumerate(
            zip(surface.tags.tolist(), surface.triangles.tolist(), strict=True), 1
        )
    ]
    parts = [("MeshFormat", ["2.2 0 8"])]
    parts += [
        (name, [str(len(lines)), *lines])
        for name, lines in (("PhysicalNames", names), ("Nodes", nodes), ("Elements", elements))
    ]
    path.write_text(
        "".join(f"${name}\n" + "\n".join(lines) + f"\n$End{name}\n" for name, lines in parts),
        "ascii",
    )


def _threes(document: Mapping[str, Any], name: str, kind: type) -> np.ndarray:
    array = _array(document, name, kind)
    if array.ndim == 1 and array.size % 3 == 0:
        array = array.reshape(-1, 3)
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise ValueError(
            f"mesh: {name}: expected threes, flat or nested, got {array.size} values "
            f"of the shape {array.shape}"
        )
    return array


def _array(document: Mapping[str, Any], name: str, kind: type) -> np.ndarray:
    if document.get(name) is None:
        raise ValueError(f"mesh: {name} is missing")
    try:
        array = np.asarray(document[name], dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"mesh: {name}: expected numbers, in a flat list or in threes") from None
    if not np.isfinite(array).all():
        raise ValueError(f"mesh: {name}: there is a value that is not a finite number")
    if kind is int:
        if (array != np.round(array)).any():
            raise ValueError(f"mesh: {name}: expected whole numbers")
        return array.astype(np.int64)
    return array
