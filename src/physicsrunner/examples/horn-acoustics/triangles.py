"""
Triangles for a region in the meridian plane, finer where its size function says so.

Promises: every side of the outline is a chain of triangle edges with that side's tag, and the
triangles fill the region. A region that cannot be filled that way is a ValueError. Points of a
hexagonal lattice for each size, joined by Delaunay's triangulation; nothing but NumPy and SciPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from scipy.spatial import Delaunay, cKDTree

Size = Callable[[np.ndarray], np.ndarray]  #: wanted edge length at points (n, 2)

CORNER: Final = np.radians(25.0)  #: an outline that turns by more has a corner there

_CLEARANCE = 0.62  # of the local size: nearer than that to the outline, a lattice point goes
_SMOOTHINGS = 6
_ROUNDS = 12  # of halving sides that the triangulation did not keep


@dataclass(frozen=True)
class Outline:
    """A simple polygon, run through once: points (n, 2), and the tag of the side after each."""

    points: np.ndarray
    tags: np.ndarray


@dataclass(frozen=True)
class Triangles:
    """Points (n, 2), triangles (m, 3), and the outline's edges (k, 2) with their tags (k,)."""

    points: np.ndarray
    triangles: np.ndarray
    edges: np.ndarray
    edge_tags: np.ndarray


def fill(outline: Outline, size: Size) -> Triangles:
    """
    Fill *outline* with triangles of about *size*.

    Raises
    ------
    ValueError
        If a side crosses another, or the triangulation cannot keep one.
    """
    border, tags = _divided(outline, size)
    for _ in range(_ROUNDS):
        points, triangles, lost = _joined(border, _inner(border, size))
        if not len(lost):
            edges = np.column_stack([np.arange(len(border)), np.roll(np.arange(len(border)), -1)])
            return Triangles(points, triangles, edges, tags)
        border, tags = _halved(border, tags, lost)
    at = 1e3 * border[lost[0]]
    raise ValueError(
        f"the outline crosses or touches itself near r = {at[0]:.4g} mm, z = {at[1]:.4g} mm"
    )


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Tell which points are in *polygon*: a ray to the right crosses it an odd number of times."""
    result = np.zeros(len(points), dtype=bool)
    x, y = points[:, 0], points[:, 1]
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            result ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return result


def turns(points: np.ndarray) -> np.ndarray:
    """Return the angle by which a polyline turns at each of its inner points."""
    sides = np.diff(points, axis=0)
    heading = np.arctan2(sides[:, 1], sides[:, 0])
    return np.abs((np.diff(heading) + np.pi) % (2.0 * np.pi) - np.pi)


def _divided(outline: Outline, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Divide the outline anew, into pieces of about the size at their places."""
    points, tags = np.vstack([outline.points, outline.points[:1]]), outline.tags
    # Corners stay: where the tag changes or the outline turns. Between them it is one smooth line.
    corner = (turns(points) > CORNER) | (tags[1:] != tags[:-1])
    ends = [0, *(np.flatnonzero(corner) + 1), len(points) - 1]
    found = [_pieces(points[start : end + 1], size) for start, end in pairwise(ends)]
    counts = [len(part) for part in found]
    return np.vstack(found), np.repeat(tags[ends[:-1]], counts)


def _pieces(line: np.ndarray, size: Size) -> np.ndarray:
    """Return the beginnings of the pieces of a smooth *line*."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    along = np.linspace(0.0, way[-1], max(65, 2 * len(line)))
    density = 1.0 / size(_on(line, way, along))
    # How many pieces lie before each place: the integral of 1 / size along the line.
    number = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))]) * along[1]
    count = max(1, int(np.ceil(number[-1] - 1e-9)))
    return _on(line, way, np.interp(np.arange(count) * number[-1] / count, number, along))


def _on(line: np.ndarray, way: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(at, way, line[:, axis]) for axis in (0, 1)])


def _inner(border: np.ndarray, size: Size) -> np.ndarray:
    """Return lattice points inside, of every size where it is wanted, clear of the border."""
    low, high = border.min(axis=0), border.max(axis=0)
    sizes = size(border)
    smallest, layers = float(sizes.min()), []
    largest = float(size(_lattice(low, high, float(np.max(high - low)) / 60.0)).max())
    step = smallest
    while step <= max(largest, smallest) * 1.0001:
        lattice = _lattice(low, high, step)
        wanted = size(lattice)
        here = wanted >= step * 0.9999
        if step * 1.25 <= largest:
            here &= wanted < step * 1.25
        layers.append(lattice[here])
        step *= 1.25
    points = np.vstack(layers)
    points = points[inside(border, points)]
    wanted = size(points)
    distance, _ = cKDTree(border).query(points)
    points, wanted = points[distance > _CLEARANCE * wanted], wanted[distance > _CLEARANCE * wanted]
    return _spread(points, wanted)


def _spread(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Drop points that are too near to an earlier one: where two lattices meet."""
    keep = np.ones(len(points), dtype=bool)
    if not len(points):
        return points
    pairs = cKDTree(points).query_pairs(0.7 * float(wanted.max()), output_type="ndarray")
    if len(pairs):
        gap = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
        pairs = pairs[gap < 0.7 * np.minimum(wanted[pairs[:, 0]], wanted[pairs[:, 1]])]
        for first, second in pairs[np.argsort(pairs[:, 0], kind="stable")]:
            if keep[first]:
                keep[second] = False
    return points[keep]


def _lattice(low: np.ndarray, high: np.ndarray, step: float) -> np.ndarray:
    rows = np.arange(low[1], high[1], step * np.sqrt(3.0) / 2.0)
    columns = np.arange(low[0], high[0] + step, step)
    x = columns[None, :] + 0.5 * step * (np.arange(len(rows)) % 2)[:, None]
    return np.column_stack([x.ravel(), np.repeat(rows, len(columns))])


def _joined(border: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangulate; return the points, the triangles inside, and the sides that got lost."""
    points, count = np.vstack([border, inner]), len(border)
    for turn in range(_SMOOTHINGS + 1):
        triangles = Delaunay(points).simplices
        # One without a corner on the border cannot lie outside.
        asked = np.flatnonzero((triangles < count).any(axis=1))
        outside = asked[~inside(border, points[triangles[asked]].mean(axis=1))]
        triangles = np.delete(triangles, outside, axis=0)
        area = _areas(points, triangles)
        triangles = triangles[np.abs(area) > 1e-6 * np.median(np.abs(area))]
        if turn < _SMOOTHINGS:
            points = _smoothed(points, triangles, count)
    sides = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    known = np.unique(sides[:, 0].astype(np.int64) * len(points) + sides[:, 1])
    ring = np.arange(count)
    pairs = np.sort(np.column_stack([ring, np.roll(ring, -1)]), axis=1)
    lost = ring[~np.isin(pairs[:, 0].astype(np.int64) * len(points) + pairs[:, 1], known)]
    # Points that no triangle uses would leave empty rows in every matrix.
    used = np.zeros(len(points), dtype=bool)
    used[triangles] = True
    used[:count] = True
    number = np.cumsum(used) - 1
    return points[used], number[triangles], lost


def _smoothed(points: np.ndarray, triangles: np.ndarray, count: int) -> np.ndarray:
    """Move each inner point to the mean of the centres of its triangles, weighted by area."""
    weight = np.abs(_areas(points, triangles))
    centre = points[triangles].mean(axis=1) * weight[:, None]
    total, moved = np.zeros(len(points)), np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], weight)
        np.add.at(moved, triangles[:, corner], centre)
    result = points.copy()
    free = (np.arange(len(points)) >= count) & (total > 0.0)
    result[free] = moved[free] / total[free, None]
    return result


def _areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    return 0.5 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1])
                  - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))  # fmt: skip


def _halved(
    border: np.ndarray, tags: np.ndarray, lost: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    middle = 0.5 * (border[lost] + np.roll(border, -1, axis=0)[lost])
    return np.insert(border, lost + 1, middle, axis=0), np.insert(tags, lost + 1, tags[lost])
