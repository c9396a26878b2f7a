"""
How does a horn load its driver, and where does it send the sound?

The axisymmetric Helmholtz equation by finite elements (scikit-fem), frequency by frequency, for a
horn given by a formula or by a mesh (``inputs/mesh.json``). The solver itself is held against the
piston in a baffle and the pulsating sphere where `check` is asked for.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

# One core: other runs share the machine. Before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import charts
import horns
import outlines
import piston
import request
import surfaces
from outlines import Meridian, Region
from request import Request
from sweep import COLUMNS, Point, Step, document, refuse, sweep

from physicsrunner import solver
from physicsrunner.examples import check

MESH = "mesh.json"  # beside parameters.json
STOPPED = "stopped on request"


def stage(percent: float, name: str, message: str) -> None:
    """Say how far the run is; *name* is what the acoustics door's clients know as its stage."""
    solver.progress(percent, message, step=name)


def shape(asked: Request, mesh: Path) -> tuple[Meridian, surfaces.Surface]:
    """Return the horn's meridian (m) and its surface (the mesh's unit, else mm)."""
    if mesh.exists():
        surface = surfaces.read(mesh)
        return surfaces.meridian_of(surface, asked.unit), surface
    given = solver.inputs()
    meridian = outlines.horn(horns.profile(asked.formula, given))
    return meridian, surfaces.revolved(meridian, horns.MM, interface=asked.baffled)


def air(asked: Request, meridian: Meridian) -> Region:
    """Return the region to compute."""
    return outlines.baffled(meridian) if asked.baffled else outlines.free(meridian, asked.thickness)


def hold_against_the_exact() -> None:
    """Solve the piston and the sphere; leave the comparison in check.csv."""
    stage(1, "setup", "Holding the solver against piston and sphere")
    rows = piston.compare()
    check.write(solver.files_dir() / "check.csv", rows)
    worst = check.largest(rows)
    outputs = str(solver.outputs_dir())
    solver.add_to_simulation_results("largest_deviation", abs(worst.deviation), outputs)
    print(f"largest deviation from the exact: {worst.deviation:+.5f} rho c "
          f"({worst.quantity} {worst.position:g})", flush=True)  # fmt: skip


def solve(
    asked: Request, region: Region, source_radius: float, table: Path
) -> tuple[list[Point], Step | None]:
    """Solve until done or stopped; return the points and the step to draw the field of."""
    points: list[Point] = []
    drawn, total = None, len(asked.frequencies)
    steps = sweep(region, asked, source_radius)
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for number, frequency in enumerate(asked.frequencies.tolist(), 1):
            if solver.stop_requested():
                break
            done = 5.0 + 85.0 * (number - 1) / total
            message = f"Solving frequency {number} of {total} ({frequency:.0f} Hz)"
            stage(done, "bem_solve", message)
            step = next(steps)
            points.append(step.point)
            if drawn is None or number <= 0.6 * total:
                drawn = step
            rows.writerow(f"{value:.7g}" for value in step.point.row)
            file.flush()  # what is solved stays, whatever happens to this program
            tell(step.point, len(step.solution.pressure))
    return points, drawn


def tell(point: Point, nodes: int) -> None:
    """Say what one frequency gave, in the log and as live series."""
    z = point.impedance
    print(f"{point.frequency:9.1f} Hz   Z {z.real:8.5f} {z.imag:+9.5f}j   {point.spl:7.2f} dB   "
          f"DI {point.di:6.2f} dB   {nodes} nodes", flush=True)  # fmt: skip
    for name, value, unit in (
        ("impedance/resistance", z.real, "rho c / S"),
        ("impedance/reactance", z.imag, "rho c / S"),
        ("level/on axis", point.spl, "dB"),
    ):
        solver.series(name, point.frequency, value, x_name="frequency", unit=unit)


def write(asked: Request, region: Region, points: list[Point], facts: dict[str, Any]) -> None:
    """Write the results so far as one document, whole or not at all."""
    path = solver.files_dir() / "horn_results.json"
    text = json.dumps(document(region, asked, points, facts), allow_nan=False)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def compute() -> None:
    """Read, solve, write."""
    given, mesh = solver.inputs(), solver.inputs_dir() / MESH
    asked = request.read(given, has_mesh=mesh.exists())
    if asked.unused:
        print(f"not used by this model: {', '.join(asked.unused)}")
    meridian, surface = shape(asked, mesh)
    region = air(asked, meridian)
    refuse(region, asked)
    if asked.check:
        hold_against_the_exact()
    files = solver.files_dir()
    stage(4, "mesh_prepare", "Preparing the mesh")
    surfaces.write_msh(files / "horn.msh", surface)
    print(f"{asked.formula}: throat {2e3 * meridian.source_radius:.4g} mm, mouth "
          f"{2e3 * region.mouth_radius:.4g} mm, {'in a baffle' if asked.baffled else 'free'}; "
          f"{outlines.ELEMENTS:g} quadratic elements in a wavelength", flush=True)  # fmt: skip
    table = files / "horn_results.csv"
    points, drawn = solve(asked, region, meridian.source_radius, table)
    facts = {"throat_radius_m": meridian.source_radius, "mouth_radius_m": region.mouth_radius,
             "elements_per_wavelength": outlines.ELEMENTS}  # fmt: skip
    if points:
        write(asked, region, points, facts)
    if len(points) < len(asked.frequencies):
        sys.exit(f"{STOPPED}; {len(points)} of {len(asked.frequencies)} frequencies are kept")
    stage(92, "finalizing", "Drawing")
    if len(points) > 1 and drawn is not None:
        kind = "in an infinite baffle" if asked.baffled else "free"
        title = (
            f"{asked.label or asked.formula} {kind}, {2e3 * region.body[:, 0].max():.0f} mm wide"
        )
        charts.draw(solver.media_dir() / "horn.png", title, region, points, drawn)
    solver.result("frequencies", len(points))
    solver.result("largest_resistance", max(p.impedance.real for p in points), unit="rho c / S")
    solver.result("mouth_radius", region.mouth_radius, unit="m")
    stage(100, "finalizing", f"{len(points)} frequencies solved")


def main() -> None:
    """End with a plain word when what is asked for cannot be done."""
    try:
        compute()
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
