"""
From a horn's meridian to the region of air that is computed, and how fine its mesh must be.

Promises: sim_type "1" puts the mouth into an infinite baffle, "2" lets the horn stand free; a
meridian that is open behind gets a closed back there. Lengths are metres, z points out of the horn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from helmholtz import AXIS, BAFFLE, SOURCE, SPHERE, WALL, Sphere
from scipy.ndimage import map_coordinates
from triangles import CORNER, Outline, Size, turns

BAFFLED, FREE = "1", "2"  #: values of sim_type, as in the ATH design tool
ELEMENTS: Final = 8.0  #: quadratic elements in a wavelength

_ROOM = 1.2  # radius of the sphere, in radii of what is in it
_ARC = 720  # straight pieces of the half circle that outlines it
_GRADING = 0.25  # growth of the elements with the distance from what they resolve
_EDGE = 1 / 60  # elements at edges, in radii of the body: the field is singular there
_COARSEST = 10.0  # elements in the radius of the body, everywhere
_ACROSS = 6.0  # elements across the radius of the horn


@dataclass(frozen=True)
class Meridian:
    """A polyline that begins on the axis at the source; tags (n - 1,) are those of its sides."""

    points: np.ndarray
    tags: np.ndarray

    @property
    def source_radius(self) -> float:
        """The radius of the source's rim."""
        return float(self.points[np.flatnonzero(self.tags == SOURCE)[-1] + 1, 0])

    @property
    def closed(self) -> bool:
        """Whether it ends on the axis: then it goes all around a body."""
        return bool(self.points[-1, 0] < 1e-9)


@dataclass(frozen=True)
class Region:
    """The air that is computed."""

    outline: Outline
    sphere: Sphere
    mouth: float  #: z of the mouth's plane, which distances are measured from
    mouth_radius: float
    body: np.ndarray  #: outline of the horn alone, for pictures and for the finest elements


def horn(profile: np.ndarray) -> Meridian:
    """Return the meridian of *profile* with a flat source across its throat."""
    points = np.vstack([[0.0, profile[0, 1]], profile])
    return Meridian(points, np.array([SOURCE] + [WALL] * (len(profile) - 1)))


def mouth_of(points: np.ndarray) -> int:
    """Return the index of the foremost point; of several, the last."""
    front = points[:, 1].max()
    return int(np.flatnonzero(points[:, 1] >= front - 1e-6 * np.ptp(points))[-1])


def baffled(meridian: Meridian) -> Region:
    """Return the air in the horn and in a half sphere before an infinite baffle at its mouth."""
    last = mouth_of(meridian.points)  # what rolls back behind the mouth is behind the baffle
    body = meridian.points[: last + 1] - [0.0, meridian.points[last, 1]]
    tags = meridian.tags[:last]
    radius = float(body[-1, 0])
    if SOURCE not in tags or radius <= 0.0:
        raise ValueError("the foremost part of the horn is on its axis: nothing opens to the front")
    sphere = Sphere(0.0, _ROOM * radius, radius, half=True)
    angle = np.linspace(0.5 * np.pi, 0.0, _ARC // 2 + 1)
    arc = sphere.radius * np.column_stack([np.sin(angle), np.cos(angle)])
    arc[0, 1] = arc[-1, 0] = 0.0
    outline = Outline(
        np.vstack([body, arc]),
        np.concatenate([tags, [BAFFLE], np.full(len(arc) - 1, SPHERE), [AXIS]]),
    )
    return Region(outline, sphere, 0.0, radius, body)


def free(meridian: Meridian, thickness: float) -> Region:
    """Return the air in and around the horn; an open one gets a back of *thickness* or more."""
    body, tags = meridian.points, meridian.tags
    mouth = mouth_of(body)
    if not meridian.closed:
        body, tags = _with_back(meridian, thickness)
    if body[0, 1] <= body[-1, 1]:
        raise ValueError("the source looks backwards: its middle lies behind the body's back")
    centres = np.linspace(body[:, 1].min(), body[:, 1].max(), 201)
    reach = np.hypot(body[:, 0], body[:, 1] - centres[:, None]).max(axis=1)
    best = int(np.argmin(reach))
    sphere = Sphere(
        float(centres[best]), _ROOM * float(reach[best]), float(reach[best]), half=False
    )
    angle = np.linspace(np.pi, 0.0, _ARC + 1)
    arc = sphere.radius * np.column_stack([np.sin(angle), np.cos(angle)])
    arc[[0, -1], 0] = 0.0
    arc[:, 1] += sphere.centre
    outline = Outline(
        np.vstack([body, arc]),
        np.concatenate([tags, [AXIS], np.full(len(arc) - 1, SPHERE), [AXIS]]),
    )
    return Region(outline, sphere, float(body[mouth, 1]), float(body[mouth, 0]), body)


def _with_back(meridian: Meridian, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Close the body behind: a lip at the rim, a straight cone to a plate behind the source."""
    points, rear = meridian.points, float(meridian.points[:, 1].min()) - thickness
    rim, before = points[-1], points[-2]
    back = [[meridian.source_radius + thickness, rear], [0.0, rear]]
    if rim[1] >= before[1]:  # one that rolls back has its lip already
        back.insert(0, [rim[0] + thickness, rim[1]])
    return np.vstack([points, back]), np.concatenate([meridian.tags, np.full(len(back), WALL)])


class Fineness:
    """How long the edges of the mesh may be: by the geometry once, by the wavelength on request."""

    def __init__(self, region: Region, source_radius: float) -> None:
        size = region.sphere.body
        points = _dense(region.body, size / 60.0)
        wanted = np.maximum(points[:, 0], source_radius) / _ACROSS
        corners = region.body[1:-1][turns(region.body) > CORNER]
        if region.sphere.half:
            corners = np.vstack([corners, region.body[-1:]])
        points = np.vstack([points, corners])
        wanted = np.concatenate([wanted, np.full(len(corners), size * _EDGE)])
        low, high = region.outline.points.min(axis=0), region.outline.points.max(axis=0)
        self._low, self._step = low, float(np.max(high - low)) / 300.0
        shape = np.ceil((high - low) / self._step).astype(int) + 2
        r = low[0] + self._step * np.arange(shape[0])
        z = low[1] + self._step * np.arange(shape[1])
        self._grid = np.full(shape, size / _COARSEST)
        for place, edge in zip(points, wanted, strict=True):
            away = np.hypot(r[:, None] - place[0], z[None, :] - place[1])
            np.minimum(self._grid, edge + _GRADING * away, out=self._grid)

    def at(self, wavelength: float) -> Size:
        """Return the size function for *wavelength*."""

        def size(points: np.ndarray) -> np.ndarray:
            places = (points - self._low).T / self._step
            found = map_coordinates(self._grid, places, order=1, mode="nearest")
            return np.minimum(found, wavelength / ELEMENTS)

        return size


def _dense(points: np.ndarray, step: float) -> np.ndarray:
    """Return points along the polyline, at most *step* apart; fewer where it has very many."""
    gaps = np.hypot(*np.diff(points, axis=0).T)
    way = np.concatenate([[0.0], np.cumsum(gaps)])
    at = np.linspace(0.0, way[-1], int(np.ceil(way[-1] / step)) + 1)
    return np.column_stack([np.interp(at, way, points[:, i]) for i in (0, 1)])
