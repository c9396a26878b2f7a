"""The packaged horn: formulas, surfaces, meshes, and the solver against what is known exactly."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.client.case import read_case
from physicsrunner.examples import EXAMPLES, check
from tests.support.beside import Modules, beside
from tests.support.require import require_module

EXAMPLE = EXAMPLES["horn-acoustics"]


@pytest.fixture(scope="module")
def horn() -> Iterator[Modules]:
    """Give the modules beside its main.py."""
    require_module("numpy", "scipy", "skfem", "matplotlib", "meshio")
    with beside(EXAMPLE) as modules:
        yield modules


def solve(horn: Modules, region: Any, k: float, source_radius: float) -> tuple[Any, Any]:
    """Return the fluid and its solution at the wave number *k*."""
    size = horn.outlines.Fineness(region, source_radius).at(2.0 * 3.141592653589793 / k)
    fluid = horn.helmholtz.Fluid(horn.triangles.fill(region.outline, size), region.sphere)
    return fluid, fluid.solve(k)


def document(surface: Any, *, flat: bool) -> dict[str, Any]:
    """Return *surface* as a payload carries it."""
    lists = {
        "vertices": surface.vertices,
        "indices": surface.triangles,
        "surfaceTags": surface.tags,
    }
    return {name: (v.ravel() if flat else v).tolist() for name, v in lists.items()}


# -- the exact values that it is held against ------------------------------------------------------


@pytest.mark.parametrize("two_ka", [0.1, 0.4, 2.0, 4.0, 10.0])
def test_the_piston_s_impedance_is_its_power_series(horn: Modules, two_ka: float) -> None:
    """R1 and X1 as they are printed beside the functions, summed here."""
    z = horn.piston.piston_impedance(two_ka / 2.0)
    assert (z.real, z.imag) == pytest.approx(piston_series(two_ka), abs=1e-12)


def piston_series(x: float) -> tuple[float, float]:
    """Return R1 and X1 by their power series (Kinsler and others, section 7.5)."""
    resistance, term, n = 0.0, -1.0, 1
    while abs(term) > 1e-18:  # x^2/(2 4) - x^4/(2 4^2 6) + ...
        term *= -(x * x) / (2 * n * (2 * n + 2))
        resistance += term
        n += 1
    reactance, term, n = 0.0, 4.0 / 3.141592653589793 * x / 3.0, 1
    while abs(term) > 1e-18:  # 4/pi (x/3 - x^3/(3^2 5) + x^5/(3^2 5^2 7) - ...)
        reactance += term
        term *= -(x * x) / ((2 * n + 1) * (2 * n + 3))
        n += 1
    return resistance, reactance


def test_the_solver_agrees_with_piston_and_sphere(
    horn: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Impedance and directivity to the stated tolerance; `demo --check` does the whole range."""
    monkeypatch.setattr(horn.piston, "KA", (0.2, 20.0))
    monkeypatch.setattr(horn.piston, "SPHERE_KA", (0.2, 20.0))
    rows = horn.piston.compare()
    assert len(rows) == 2 * 2 + 6 + 2 * 2
    worst = check.largest(rows)
    assert 0.0 < abs(worst.deviation) <= EXAMPLE.tolerance, worst


def test_the_end_corrections_of_a_tube_are_the_published_ones(horn: Modules) -> None:
    """Flanged 0.8217 radii (King 1936), unflanged 0.6133 (Levine and Schwinger 1948), at low ka."""
    import numpy as np

    ka, length = 0.02, 1.5
    tube = horn.outlines.horn(np.array([[1.0, 0.0], [1.0, length]]))
    _, flanged = solve(horn, horn.outlines.baffled(tube), ka, 1.0)
    _, thin = solve(horn, horn.outlines.free(tube, 1e-3), ka, 1.0)
    assert np.arctan(flanged.impedance.imag) / ka - length == pytest.approx(0.8217, abs=0.002)
    assert np.arctan(thin.impedance.imag) / ka - length == pytest.approx(0.6133, abs=0.007)


@pytest.mark.parametrize("sim_type", ["1", "2"])
def test_what_the_source_gives_out_arrives_far_away(horn: Modules, sim_type: str) -> None:
    """The power through a far sphere is that at the throat: nothing is lost at the boundary."""
    import numpy as np

    meridian = horn.outlines.horn(horn.horns.profile("conical", {}))
    baffled = sim_type == "1"
    region = horn.outlines.baffled(meridian) if baffled else horn.outlines.free(meridian, 0.006)
    fluid, solved = solve(horn, region, 40.0, meridian.source_radius)
    cosine, weight = np.polynomial.legendre.leggauss(80)
    if baffled:
        cosine, weight = 0.5 * (cosine + 1.0), 0.5 * weight
    far = 1e4
    sine = np.sqrt(1.0 - cosine**2)
    pressure = solved.waves.pressure(far * sine, far * cosine + region.sphere.centre)
    arrived = 2.0 * np.pi * far**2 * float(weight @ np.abs(pressure) ** 2)
    assert arrived == pytest.approx(solved.impedance.real * fluid.source_area, rel=1e-3)


# -- profiles --------------------------------------------------------------------------------------


def test_r_osse_gives_the_published_example(horn: Modules) -> None:
    """ST260 of the formula's paper: throat, rim, depth, and that it rolls back."""
    points = horn.horns.profile("R-OSSE", {})
    assert tuple(points[0]) == pytest.approx((0.0127, 0.0))
    # Quarters of the parameter, evaluated independently.
    for part, radius, z in ((40, 0.0338942, 0.0363466), (80, 0.0684024, 0.0653477),
                            (120, 0.1071680, 0.0776207), (160, 0.13, 0.0574670)):  # fmt: skip
        assert tuple(points[part]) == pytest.approx((radius, z), abs=1e-7)
    assert points[:, 1].max() == pytest.approx(0.0777, abs=1e-5)


def test_os_se_gives_the_published_example(horn: Modules) -> None:
    """Figure 5 of the formula's paper: the mouth's radius; without its end, a hyperbola."""
    import numpy as np

    figure = {"L": 120, "r0": 12.7, "a": 45, "a0": 0, "k": 1, "s": 0.8, "n": 5, "q": 0.998}
    points = horn.horns.profile("OSSE", figure)
    assert tuple(points[0]) == pytest.approx((0.0127, 0.0))
    assert tuple(points[-1]) == pytest.approx((0.1785983, 0.12), abs=1e-7)
    bare = horn.horns.profile("OSSE", {**figure, "s": 0})
    assert bare[:, 0] == pytest.approx(np.hypot(0.0127, bare[:, 1]))
    cone = horn.horns.profile("OSSE", {**figure, "s": 0, "k": 0})
    assert cone[:, 0] == pytest.approx(0.0127 + cone[:, 1])


def test_cone_and_exponential_horn_end_where_they_are_told(horn: Modules) -> None:
    """In the middle a cone has the mean radius, an exponential horn the geometric mean."""
    size = {"r0": 10, "R": 90, "L": 200}
    for name, middle in (("conical", 0.05), ("exponential", 0.03)):
        points = horn.horns.profile(name, size)
        assert tuple(points[0]) == pytest.approx((0.01, 0.0))
        assert tuple(points[-1]) == pytest.approx((0.09, 0.2))
        assert tuple(points[len(points) // 2]) == pytest.approx((middle, 0.1))


@pytest.mark.parametrize("written", ["R-OSSE", "r-osse", "ROSSE", "r_osse"])
def test_a_formula_is_known_however_it_is_written(horn: Modules, written: str) -> None:
    """Programs differ in how they spell it."""
    assert horn.horns.formula_named(written) == "R-OSSE"


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"formula_type": "tractrix"}, "there are: R-OSSE, OSSE, conical, exponential"),
        ({"sim_type": "3"}, 'sim_type: expected "1" (infinite baffle) or "2" (free), got \'3\''),
        ({"frequency_range": [2000, 200]}, "the last, 200, is below the first, 2000"),
        ({"frequency_range": [0, 200]}, "frequency_range: expected a number above 0, got 0"),
        ({"frequency_range": "loud"}, "frequency_range: expected [first, last] in Hz"),
        ({"frequency_range": [1, "x"]}, "frequency_range: expected a number above 0, got 'x'"),
        ({"num_frequencies": 0}, "num_frequencies: expected 1 to 2000, got 0"),
        ({"num_frequencies": 10**9}, "num_frequencies: expected 1 to 2000, got 1e+09"),
        ({"num_frequencies": 2.5}, "num_frequencies: expected a whole number, got 2.5"),
        ({"frequency_spacing": "random"}, "frequency_spacing: expected log or linear"),
        ({"velocity": float("nan")}, "velocity: expected a number above 0, got nan"),
        ({"mesh_unit": "inch"}, "mesh_unit: expected one of mm, cm, m"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    horn: Modules, given: dict[str, Any], words: str
) -> None:
    """Which parameter, what is expected, what was given."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the words are compared below
        horn.request.read(given, has_mesh=False)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("formula", "given", "words"),
    [
        ("R-OSSE", {"R": 10}, "R: the mouth must be wider than the throat (r0 12.7 mm), got 10"),
        ("R-OSSE", {"R": "160*abs(cos(p))"}, "changes around the axis is no body of revolution"),
        ("R-OSSE", {"r0": -1}, "r0: expected a number above 0, got -1"),
        ("R-OSSE", {"a": 90}, "a: expected a half angle below 90 degrees, got 90"),
        ("R-OSSE", {"m": []}, "m: expected a number, got []"),
        ("OSSE", {"q": 1.01}, "q: OSSE expects at most 1, got 1.01"),
        ("conical", {"L": 0}, "L: expected a number above 0, got 0"),
        ("R-OSSE", {"b": 1e9}, "these parameters give no horn"),
    ],
)
def test_what_gives_no_horn_is_named(
    horn: Modules, formula: str, given: dict[str, Any], words: str
) -> None:
    """Which parameter, what is expected, what was given."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the words are compared below
        horn.horns.profile(formula, given)
    assert words in str(raised.value)


def test_defaults_are_those_of_the_case_file(horn: Modules) -> None:
    """A payload of another program has few of the names: nothing else changes by that."""
    full = horn.request.read(read_case(EXAMPLE.folder).parameters({}), has_mesh=False)
    bare = horn.request.read({}, has_mesh=False)
    assert not full.check
    assert not bare.check
    for name in ("formula", "baffled", "distance", "velocity", "sound_speed", "density",
                 "thickness", "unit", "label", "unused"):  # fmt: skip
        assert getattr(full, name) == getattr(bare, name), name
    assert full.frequencies.tolist() == bare.frequencies.tolist()
    assert (len(bare.frequencies), bare.frequencies[0], bare.frequencies[-1]) == (48, 200, 20000)


def test_with_a_mesh_the_formula_is_only_a_name(horn: Modules) -> None:
    """And what the model does not know is told, not refused."""
    asked = horn.request.read({"formula_type": "FREEFORM", "polar_config": {}}, has_mesh=True)
    assert (asked.formula, asked.unused) == ("FREEFORM", ("polar_config",))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frequency_range": [20000, 90000]}, "Hz needs some"),
        ({"distance": 0.1}, "distance: 0.1 m is too near; it must be more than 0.1"),
    ],
)
def test_what_would_not_fit_is_refused_before_it_begins(
    horn: Modules, given: dict[str, Any], words: str
) -> None:
    """With the number that would be right."""
    meridian = horn.outlines.horn(horn.horns.profile("R-OSSE", {}))
    region = horn.outlines.free(meridian, 0.006)
    with pytest.raises(ValueError, match=words):
        horn.sweep.refuse(region, horn.request.read(given, has_mesh=False))


# -- surfaces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("around", [7, 12, 48])
@pytest.mark.parametrize("flat", [True, False])
def test_a_mesh_of_revolution_gives_its_profile(
    horn: Modules, axis: int, around: int, flat: bool
) -> None:
    """About any axis, at any place, flat or nested; the facets do not make it narrower."""
    import numpy as np

    exact = horn.outlines.horn(horn.horns.profile("R-OSSE", {})).points
    exact = np.vstack([exact[:1], exact[1::8]])
    tags = np.array([2] + [1] * (len(exact) - 2))
    meridian = horn.outlines.Meridian(exact, tags)
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=False, around=around)
    moved = np.roll(surface.vertices, axis, axis=1) + np.array([5.0, -7.0, 11.0])
    given = horn.surfaces.Surface(moved, surface.triangles, surface.tags)
    read = horn.surfaces.surface_of(document(given, flat=flat))
    found = horn.surfaces.meridian_of(read, 1e-3)
    at = found.points - found.points[0]
    assert at[:, 0].max() == pytest.approx(0.13, rel=1e-6)
    assert horn.surfaces._distance(exact, at).max() < 1e-6
    assert set(found.tags.tolist()) == {1, 2}
    assert found.source_radius == pytest.approx(0.0127, rel=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_quarter_of_a_horn_looking_any_way_gives_its_profile(horn: Modules, sign: float) -> None:
    """As programs with symmetry planes give it; its points may be repeated at seams."""
    import numpy as np

    meridian = horn.outlines.horn(horn.horns.profile("exponential", {})[::10])
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=True, around=32)
    points = surface.vertices * [1.0, 1.0, sign]
    quarter = (points[surface.triangles][..., :2] > -1e-6).all(axis=(1, 2))
    loose = points[surface.triangles[quarter]].reshape(-1, 3)
    triangles = np.arange(len(loose)).reshape(-1, 3)
    given = horn.surfaces.Surface(loose, triangles, surface.tags[quarter])
    found = horn.surfaces.meridian_of(given, 1e-3)
    assert horn.surfaces._distance(meridian.points, found.points).max() < 1e-6
    assert found.points[-1] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("cap", [0.0, 0.004])
def test_a_mesh_without_rings_gives_its_profile(horn: Modules, cap: float) -> None:
    """As mesh generators make it: points anywhere, none on the axis; a source flat or bulging."""
    import numpy as np

    delaunay = horn.triangles.Delaunay
    chance = np.random.default_rng(7)
    turn = 2.0 * np.pi * np.arange(40) / 40
    inner = chance.uniform(-0.02, 0.02, (400, 2))
    inner = inner[(np.hypot(*inner.T) < 0.018) & (np.hypot(*inner.T) > 0.001)]
    disc = np.vstack([0.02 * np.column_stack([np.cos(turn), np.sin(turn)]), inner])
    source = delaunay(disc).simplices
    bulge = cap * (1.0 - (disc**2).sum(axis=1) / 0.02**2)
    # The cone's wall, unrolled to a sector, where its two straight edges meet point by point.
    part, around = chance.uniform(0.03, 0.97, 900), chance.uniform(0.15, 6.13, 900)
    seam = np.linspace(0.0, 1.0, 30)
    edge = np.linspace(0.0, 2.0 * np.pi, 41)[1:-1]
    part = np.concatenate([part, seam, seam, np.zeros(39), np.ones(39)])
    around = np.concatenate([around, np.zeros(30), np.full(30, 2.0 * np.pi), edge, edge])
    radius = 0.02 + 0.06 * part
    wall = delaunay(np.column_stack([20.0 * part, 4.0 * around])).simplices
    cone = np.column_stack([radius * np.cos(around), radius * np.sin(around), 0.1 * part])
    given = horn.surfaces.Surface(
        np.vstack([np.column_stack([disc, bulge]), cone]),
        np.vstack([source, wall + len(disc)]),
        np.array([2] * len(source) + [1] * len(wall)),
    )
    found = horn.surfaces.meridian_of(given, 1.0)
    assert found.points[0] == pytest.approx([0.0, cap], abs=3e-4)
    assert found.points[-1] == pytest.approx([0.08, 0.1], abs=1e-6)
    ends = found.points[np.flatnonzero(found.tags == 1)]
    assert ends[:, 0] == pytest.approx(0.02 + 0.6 * ends[:, 1], abs=2e-4)
    assert found.source_radius == pytest.approx(0.02, rel=2e-3)


def test_a_closed_body_gives_its_way_all_around(horn: Modules) -> None:
    """From the source's middle to the back's: nothing is added behind."""
    import numpy as np

    meridian = horn.outlines.horn(horn.horns.profile("conical", {}))
    region = horn.outlines.free(meridian, 0.006)
    tags = np.concatenate([meridian.tags, [3, 3, 3]])
    whole = horn.outlines.Meridian(region.body, tags)
    surface = horn.surfaces.revolved(whole, 1e-3, interface=False)
    found = horn.surfaces.meridian_of(surface, 1e-3)
    assert found.closed
    assert set(found.tags.tolist()) == {1, 2, 3}
    again = horn.outlines.free(found, 0.006)
    assert again.sphere.radius == pytest.approx(region.sphere.radius, rel=1e-4)


def tetrahedron(**changes: Any) -> dict[str, Any]:
    """Return a small mesh that is no horn, with *changes*."""
    return {
        "vertices": [0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0, 10],
        "indices": [0, 1, 2, 0, 1, 3, 0, 2, 3, 1, 2, 3],
        "surfaceTags": [2, 1, 1, 1],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surfaceTags": [1, 1, 1, 1]}, "no triangle has the tag 2 (source)"),
        ({"surfaceTags": [2, 1, 1, 9]}, "surfaceTags has 9; there are: 1 wall, 2 source, 3 second"),
        ({"surfaceTags": [2, 1]}, "surfaceTags has 2 values for 4 triangles"),
        ({"surfaceTags": None}, "surfaceTags is missing"),
        ({"indices": [0, 1, 4]}, "surfaceTags has 4 values for 1 triangles"),
        ({"indices": [0, 1, 9] * 4}, "indices must be from 0 to 3, there are 0 to 9"),
        ({"indices": [0, 1, 1.5] * 4}, "indices: expected whole numbers"),
        ({"vertices": [0, 0, 0, 1]}, "vertices: expected threes, flat or nested"),
        ({"vertices": []}, "vertices: expected threes, flat or nested"),
        ({"vertices": [[0, 0], [1, 2, 3]]}, "vertices: expected numbers"),
        ({"vertices": [0, 0, None] * 4}, "vertices: there is a value that is not a finite"),
        ({}, "it is no body of revolution"),
        ({"vertices": [1, 1, 1] * 4}, "all vertices are at one place"),
    ],
)
def test_a_mesh_that_cannot_be_used_is_told_why(
    horn: Modules, changes: dict[str, Any], words: str
) -> None:
    """What is wrong, in words of the payload."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the words are compared below
        horn.surfaces.meridian_of(horn.surfaces.surface_of(tetrahedron(**changes)), 1e-3)
    assert words in str(raised.value)


def test_an_elliptic_horn_is_refused_with_how_far_it_is_off(horn: Modules) -> None:
    """A mouth that is a tenth wider than high."""
    meridian = horn.outlines.horn(horn.horns.profile("conical", {}))
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=False)
    wide = horn.surfaces.Surface(
        surface.vertices * [1.1, 1.0, 1.0], surface.triangles, surface.tags
    )
    with pytest.raises(ValueError, match=r"no body of revolution.* up to \d.* allowed are 2 %"):
        horn.surfaces.meridian_of(wide, 1e-3)


def test_the_msh_has_every_tag_as_a_named_group(horn: Modules, tmp_path: Path) -> None:
    """As meshio reads it: the points, the triangles and the tags that were given."""
    import meshio
    import numpy as np

    surface = horn.surfaces.surface_of(tetrahedron(surfaceTags=[2, 1, 3, 4]))
    horn.surfaces.write_msh(tmp_path / "horn.msh", surface)
    assert (tmp_path / "horn.msh").read_text().startswith("$MeshFormat\n2.2 0 8\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = meshio.read(tmp_path / "horn.msh")
    assert np.array_equal(found.points, surface.vertices)
    assert np.array_equal(found.cells_dict["triangle"], surface.triangles)
    assert found.cell_data_dict["gmsh:physical"]["triangle"].tolist() == [2, 1, 3, 4]
    assert {name: int(group[0]) for name, group in found.field_data.items()} == {
        "wall": 1, "source": 2, "secondary": 3, "interface": 4,
    }  # fmt: skip


def test_a_mesh_file_that_is_no_object_is_told(horn: Modules, tmp_path: Path) -> None:
    """Neither broken JSON nor a list."""
    for text, words in (("{", "mesh.json is not JSON"), ("[]", "expected an object with")):
        (tmp_path / "mesh.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            horn.surfaces.read(tmp_path / "mesh.json")


# -- meshes and the field --------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["R-OSSE", "OSSE", "conical", "exponential"])
@pytest.mark.parametrize("sim_type", ["1", "2"])
def test_every_formula_is_filled_with_good_triangles(
    horn: Modules, formula: str, sim_type: str
) -> None:
    """They have the outline's area and edges, no thin ones, and the wavelength is resolved."""
    import numpy as np

    meridian = horn.outlines.horn(horn.horns.profile(formula, {}))
    region = (
        horn.outlines.baffled(meridian) if sim_type == "1" else horn.outlines.free(meridian, 0.006)
    )
    wavelength = 0.05
    size = horn.outlines.Fineness(region, meridian.source_radius).at(wavelength)
    mesh = horn.triangles.fill(region.outline, size)
    corners = mesh.points[mesh.triangles]
    sides = np.roll(corners, -1, axis=1) - corners
    lengths = np.hypot(sides[..., 0], sides[..., 1])
    areas = np.abs(horn.triangles._areas(mesh.points, mesh.triangles))
    quality = 4.0 * np.sqrt(3.0) * areas / (lengths**2).sum(axis=1)
    assert quality.min() > 0.3
    assert lengths.max() < 2.0 * wavelength / horn.outlines.ELEMENTS
    outline, after = region.outline.points, np.roll(region.outline.points, -1, axis=0)
    whole = 0.5 * abs(np.sum(outline[:, 0] * after[:, 1] - after[:, 0] * outline[:, 1]))
    assert areas.sum() == pytest.approx(whole, rel=0.01)
    assert set(mesh.edge_tags.tolist()) == set(region.outline.tags.tolist())
    counted = np.unique(np.sort(mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)), axis=0,
                        return_counts=True)[1]  # fmt: skip
    assert int((counted == 1).sum()) == len(mesh.edges)


def test_an_outline_that_crosses_itself_is_told_where(horn: Modules) -> None:
    """A bow tie cannot be filled."""
    import numpy as np

    bow = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    outline = horn.triangles.Outline(bow, np.array([1, 1, 1, 1]))
    with pytest.raises(ValueError, match="crosses or touches itself near r = 50"):
        horn.triangles.fill(outline, lambda points: np.full(len(points), 0.07))


def test_a_mesh_gives_what_its_formula_gives(horn: Modules) -> None:
    """The same horn as triangles: the same impedance and level, to what its facets lose."""
    meridian = horn.outlines.horn(horn.horns.profile("OSSE", {}))
    surface = horn.surfaces.revolved(meridian, 1e-3, interface=True)
    again = horn.surfaces.meridian_of(surface, 1e-3)
    asked = horn.request.read(
        {"sim_type": 1, "frequency_range": [900, 2500], "num_frequencies": 2}, has_mesh=True
    )
    rows = [
        [step.point.row for step in
         horn.sweep.sweep(horn.outlines.baffled(line), asked, line.source_radius)]
        for line in (meridian, again)
    ]  # fmt: skip
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, abs=2e-3, rel=1e-3)


def test_at_low_frequencies_everything_radiates_evenly(horn: Modules) -> None:
    """Free: 0 dB of directivity; on a baffle 3 dB, and twice the resistance."""
    resistance = []
    for sim_type, index in (("1", 10 * 0.30103), ("2", 0.0)):
        asked = horn.request.read(
            {"sim_type": sim_type, "frequency_range": [2, 2], "distance": 200.0}, has_mesh=False
        )
        meridian = horn.outlines.horn(horn.horns.profile("R-OSSE", {}))
        region = (
            horn.outlines.baffled(meridian) if asked.baffled
            else horn.outlines.free(meridian, asked.thickness)
        )  # fmt: skip
        (step,) = horn.sweep.sweep(region, asked, meridian.source_radius)
        assert step.point.di == pytest.approx(index, abs=0.01)
        assert step.point.polar == pytest.approx(0.0, abs=0.05)
        resistance.append(step.point.impedance.real)
        # R = (ka)^2 / 2 of a source on a baffle, a quarter of (ka)^2 in free space.
        k = 2.0 * 3.141592653589793 * 2.0 / asked.sound_speed
        expected = (k * 0.0127) ** 2 / (2.0 if asked.baffled else 4.0)
        assert step.point.impedance.real == pytest.approx(expected, rel=1e-3)
    assert resistance[0] == pytest.approx(2.0 * resistance[1], rel=1e-3)


def test_the_document_has_everything_by_frequency(horn: Modules) -> None:
    """As many values as frequencies, finite, and whether it is whole."""
    asked = horn.request.read(
        {"formula_type": "conical", "frequency_range": [300, 900], "num_frequencies": 3,
         "frequency_spacing": "linear", "label": "mine"},
        has_mesh=False,
    )  # fmt: skip
    meridian = horn.outlines.horn(horn.horns.profile("conical", {}))
    region = horn.outlines.free(meridian, asked.thickness)
    points = [step.point for step in horn.sweep.sweep(region, asked, meridian.source_radius)]
    found = json.loads(
        json.dumps(horn.sweep.document(region, asked, points, {"note": 1}), allow_nan=False)
    )
    assert found["frequencies"] == [300.0, 600.0, 900.0]
    assert found["metadata"]["partial"] is False
    assert (found["metadata"]["label"], found["metadata"]["note"]) == ("mine", 1)
    for name, keys in (("spl_on_axis", ("spl", "phase_degrees")), ("di", ("di",)),
                       ("impedance", ("real", "imaginary"))):  # fmt: skip
        assert found[name]["frequencies"] == found["frequencies"]
        assert all(len(found[name][key]) == 3 for key in keys)
    polar = found["directivity"]["horizontal"]
    assert (len(polar), len(polar[0])) == (3, 37)
    assert polar[0][0] == [0.0, 0.0]
    part = horn.sweep.document(region, asked, points[:1], {})
    assert part["metadata"]["partial"] is True


# -- its page --------------------------------------------------------------------------------------


def test_the_page_names_all_parameters_and_the_case_has_them(horn: Modules) -> None:
    """Each formula's too; and the case file offers every one of them to the command line."""
    page = (Path(__file__).resolve().parents[2] / "docs/horn-acoustics.md").read_text("utf-8")
    table = page[page.index("## Parameters") : page.index("Other names are told")]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    shapes = {name for f in horn.horns._FORMULAS for name in horn.horns.parameters_of(f)}
    assert named == horn.request._OWN | shapes
    assert set(read_case(EXAMPLE.folder).document.parameters) == named
    formulas = dict(re.findall(r"^\| ([\w-]+) \| `([\w ]+)` \|", page, re.MULTILINE))
    assert {name: set(takes.split()) for name, takes in formulas.items()} == {
        name: set(horn.horns.parameters_of(name)) for name in horn.horns._FORMULAS
    }


def test_the_page_states_the_deviation(horn: Modules) -> None:
    """And the tolerance that `demo --check` holds it to."""
    page = (Path(__file__).resolve().parents[2] / "docs/horn-acoustics.md").read_text("utf-8")
    assert f"allowed are {EXAMPLE.tolerance:g} " in page
    piston = horn.piston
    points = 2 * (len(piston.KA) + len(piston.SPHERE_KA))
    points += len(piston.POLAR_KA) * len(piston.ANGLES)
    assert f"of the {points} deviations" in page
