"""
Sound around and in a body of revolution: the Helmholtz equation by finite elements.

Promises: the pressure is complex, of the time dependence exp(+j omega t), and relative to rho c v,
where v is the normal velocity of the source; lengths are metres. The fluid ends at a sphere around
everything, where the field goes over exactly into outgoing spherical waves (the Dirichlet-to-
Neumann map of Keller and Givoli, J. Comput. Phys. 82 (1989) 172-192), so that the field at any
distance comes with it. In a baffle the sphere is a half sphere on it, and the waves are even.
Quadratic triangles; on the sphere their sides are curved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import skfem
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu
from scipy.special import eval_legendre
from skfem.helpers import dot, grad
from triangles import Triangles

WALL, SOURCE, SECONDARY, INTERFACE = 1, 2, 3, 4  #: the tags of surfaces
AXIS, SPHERE, BAFFLE = 10, 11, 12  #: further tags of the outline's sides

_FADED = np.log(1e4)  # modes are kept until what they bring from the body has fallen by this


@skfem.BilinearForm
def _stiffness(u, v, w):
    return dot(grad(u), grad(v)) * w.x[0]


@skfem.BilinearForm
def _mass(u, v, w):
    return u * v * w.x[0]


@skfem.LinearForm
def _surface(v, w):
    return v * w.x[0]


@dataclass(frozen=True)
class Sphere:
    """Where the fluid's mesh ends: its centre on the axis, its radius, and half or whole."""

    centre: float
    radius: float
    body: float  #: radius of the sphere of the same centre around all that is in it
    half: bool  #: on a baffle


def ratios(x: float | np.ndarray, count: int) -> np.ndarray:
    """
    Return x h'_n(x) / h_n(x) of the outgoing spherical Hankel function, n = 0 .. count - 1.

    By recurrence upwards, which is the stable direction, without the functions themselves: those
    of high order overflow.
    """
    found = np.empty((count, *np.shape(x)), dtype=complex)
    found[0] = -1.0 - 1j * x
    for n in range(1, count):
        found[n] = x * x / (n - 1 - found[n - 1]) - (n + 1)
    return found


@dataclass(frozen=True)
class Waves:
    """The field beyond the sphere, as outgoing spherical waves."""

    k: float
    sphere: Sphere
    orders: np.ndarray
    amplitudes: np.ndarray  #: of P_n(cos theta) on the sphere

    def pressure(self, r: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the pressure at points (n,) beyond the sphere: distance from the axis, height."""
        height = np.asarray(z) - self.sphere.centre
        distance = np.hypot(r, height)
        near, n = self.k * self.sphere.radius, np.arange(int(self.orders[-1]))[:, None]
        far = self.k * distance
        # h_n(far) / h_n(near) from h_0 upwards, by the ratios of neighbours on both sides.
        steps = (n - ratios(far, len(n))) / far * near / (n - ratios(np.array([near]), len(n)))
        growth = np.cumprod(np.vstack([np.ones_like(far, dtype=complex)[None, :], steps]), axis=0)
        growth *= near / far * np.exp(-1j * (far - near))
        modes = eval_legendre(self.orders[:, None], height / distance)
        return self.amplitudes @ (growth[self.orders] * modes)


@dataclass(frozen=True)
class Solution:
    """What one frequency gave."""

    k: float
    pressure: np.ndarray  #: at all nodes of the quadratic mesh
    impedance: complex  #: mean pressure on the source, relative to rho c v
    waves: Waves


class Fluid:
    """The fluid's mesh and what does not depend on the frequency."""

    def __init__(self, mesh: Triangles, sphere: Sphere) -> None:
        self.sphere = sphere
        self.mesh = _curved(mesh, sphere)
        self.basis = skfem.Basis(self.mesh, skfem.ElementTriP2(), intorder=5)
        numbers = _facet_numbers(self.mesh, mesh.edges)
        self.tagged = {
            int(tag): numbers[mesh.edge_tags == tag] for tag in np.unique(mesh.edge_tags)
        }
        self.stiffness = _stiffness.assemble(self.basis)
        self.mass = _mass.assemble(self.basis)
        source = skfem.FacetBasis(self.mesh, skfem.ElementTriP2(), facets=self.tagged[SOURCE])
        self.source = _surface.assemble(source)

    @property
    def source_area(self) -> float:
        """The area of the source (m2)."""
        return float(2.0 * np.pi * self.source.sum())

    @cached_property
    def outer(self) -> skfem.FacetBasis:
        """The basis on the sphere."""
        return skfem.FacetBasis(
            self.mesh, skfem.ElementTriP2(), facets=self.tagged[SPHERE], intorder=8
        )

    @cached_property
    def outer_nodes(self) -> np.ndarray:
        """The nodes on the sphere."""
        return self.basis.get_dofs(self.tagged[SPHERE]).all()

    def modes(self, orders: np.ndarray) -> np.ndarray:
        """Return the integrals of shape function times P_n times r over the sphere: nodes x n."""
        r, z = np.asarray(self.outer.global_coordinates())
        cosine = (z - self.sphere.centre) / np.hypot(r, z - self.sphere.centre)
        place = np.full(self.basis.N, -1)
        place[self.outer_nodes] = np.arange(len(self.outer_nodes))
        found = np.zeros((len(self.outer_nodes), len(orders)))
        weight = r * self.outer.dx
        legendre = eval_legendre(orders[:, None, None], cosine)
        for i in range(self.outer.Nbfun):
            value = np.asarray(self.outer.basis[i][0])
            nodes = place[self.outer.element_dofs[i]]
            on = nodes >= 0
            part = np.einsum("fq,nfq->fn", value * weight, legendre)
            np.add.at(found, nodes[on], part[on])
        return found

    def orders(self, k: float) -> np.ndarray:
        """Return the orders of the spherical waves that matter at wave number *k*."""
        sphere = self.sphere
        last = k * sphere.radius + _FADED / np.log(sphere.radius / sphere.body)
        return np.arange(0, int(np.ceil(last)) + 1, 2 if sphere.half else 1)

    def solve(self, k: float) -> Solution:
        """Return the field at wave number *k* (1/m, > 0)."""
        orders, radius = self.orders(k), self.sphere.radius
        modes = self.modes(orders)
        # The norm of P_n over the sphere, or over its half.
        norm = (2 * orders + 1) * (1.0 if self.sphere.half else 0.5)
        map_ = (modes * ratios(k * radius, int(orders[-1]) + 1)[orders] * norm) @ modes.T
        nodes = self.outer_nodes
        rows, columns = np.repeat(nodes, len(nodes)), np.tile(nodes, len(nodes))
        boundary = coo_matrix((map_.ravel() / radius**3, (rows, columns)), self.mass.shape)
        system = csc_matrix(self.stiffness - k**2 * self.mass - boundary)
        pressure = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01,
                        options={"SymmetricMode": True}).solve(1j * k * self.source)  # fmt: skip
        amplitudes = norm / radius**2 * (modes.T @ pressure[nodes])
        impedance = complex(self.source @ pressure / self.source.sum())
        return Solution(k, pressure, impedance, Waves(k, self.sphere, orders, amplitudes))


def _facet_numbers(mesh: skfem.Mesh, edges: np.ndarray) -> np.ndarray:
    """Return the numbers that scikit-fem gave to *edges*."""
    count = int(mesh.t.max()) + 1
    known = np.sort(mesh.facets, axis=0)
    key = known[0].astype(np.int64) * count + known[1]
    order = np.argsort(key)
    wanted = np.sort(edges, axis=1)
    return order[np.searchsorted(key[order], wanted[:, 0].astype(np.int64) * count + wanted[:, 1])]


def _curved(mesh: Triangles, sphere: Sphere) -> skfem.MeshTri2:
    """Return the mesh of six-node triangles, the sides on the sphere bent onto it."""
    straight = skfem.MeshTri(mesh.points.T.copy(), mesh.triangles.T.copy())
    bent = skfem.MeshTri2.from_mesh(straight)
    places = bent.doflocs.copy()
    ends = mesh.edges[mesh.edge_tags == SPHERE]
    middle = bent.dofs.facet_dofs[0][_facet_numbers(straight, ends)]
    nodes = np.unique(np.concatenate([ends.ravel(), middle]))
    centre = np.array([[0.0], [sphere.centre]])
    from_centre = places[:, nodes] - centre
    places[:, nodes] = centre + from_centre * sphere.radius / np.hypot(*from_centre)
    return skfem.MeshTri2(places, bent.t)
