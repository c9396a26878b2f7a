"""
An earthquake scenario: ground motion, intensity, damage and casualties, with their uncertainty.

From magnitude, epicentre and depth:

1. the median PGA and PGV on a grid, by Bindi et al. (2014): ground_motion.py, grid.py
2. intensities from PGV, by Worden et al. (2012): intensity.py
3. realizations of PGA at the exposed buildings (Jayaram and Baker, 2009): realizations.py
4. damage states and casualties in each, by Hazus: fragility.py

Standard library alone; with matplotlib there is a map too. Every run holds the models against
values that others published, and leaves the deviations in check.csv: published.py.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import exposure
import files
import grid
import published
import realizations
import scenario

from physicsrunner import solver
from physicsrunner.examples import check


def ask_to_go_on() -> None:
    """End the program when somebody asked for that."""
    if solver.stop_requested():
        sys.exit("stopped on request")


def shake(asked: scenario.Scenario, folder: Path) -> list[grid.Point]:
    """Compute and write the ground motion on the grid."""

    def tell(done: float) -> None:
        ask_to_go_on()
        solver.progress(5.0 + 20.0 * done, "ground motion")

    points = grid.compute(asked, tell)
    files.write_ground_motion(folder, asked, points)
    strongest = max(points, key=lambda point: point.pga)
    print(
        f"{len(points)} points; at the strongest PGA {strongest.pga:.3f} g, PGV "
        f"{strongest.pgv:.1f} cm/s, MMI {strongest.mmi:.1f} (medians)"
    )
    solver.result("max_pga", round(strongest.pga, 5), unit="g")
    solver.result("max_pgv", round(strongest.pgv, 4), unit="cm/s")
    solver.result("max_mmi", round(strongest.mmi, 2), unit="MMI")
    return points


def suffer(
    asked: scenario.Scenario, assets: Sequence[exposure.Asset], folder: Path
) -> realizations.Impact:
    """Compute and write the impact on *assets*."""
    every = max(1, asked.realizations // 40)

    def tell(done: int, mean: float) -> None:
        if done % every == 0 or done == asked.realizations:
            ask_to_go_on()
            share = done / asked.realizations
            solver.series("impact/damaged", done, mean, unit="buildings", x_name="realization")
            solver.progress(25.0 + 60.0 * share, f"realization {done} of {asked.realizations}")

    impact = realizations.run(asked, assets, tell)
    files.write_impact(folder, asked, assets, impact)
    summary = files.impact_summary(asked, assets, impact)
    for name, unit in (
        ("damaged", "buildings"),
        ("complete", "buildings"),
        ("collapsed", "buildings"),
        ("hospital", "people"),
        ("killed", "people"),
    ):
        total = summary["totals"][name]
        print(f"{name:10} mean {total['mean']:10.1f}   p16 {total['p16']:10.1f}   "
              f"p84 {total['p84']:10.1f} {unit}")  # fmt: skip
        for part, value in total.items():
            solver.result(f"{name}_{part}", value, unit=unit)
    return impact


def compare(folder: Path) -> None:
    """Hold the models against published values."""
    rows = published.compare()
    check.write(folder / "check.csv", rows)
    worst = check.largest(rows)
    solver.result("largest_deviation", abs(worst.deviation))
    print(f"largest deviation from {len(rows)} published values: {worst.deviation:+.6f} "
          f"({worst.quantity}: {worst.position:g})")  # fmt: skip


def main() -> None:
    """Read, compute, write."""
    try:
        asked = scenario.read(solver.inputs())
        assets = exposure.read(asked, solver.inputs_dir())
        solver.progress(2, f"M {asked.mag:g} at {asked.lat:g} N, {asked.lon:g} E")
        print(f"M {asked.mag:g} at {asked.lat:g} N {asked.lon:g} E, {asked.depth:g} km deep, "
              f"{asked.mechanism}; {len(assets)} assets", flush=True)  # fmt: skip
        for warning in asked.warnings:
            print(f"warning: {warning}")
        folder = solver.files_dir()
        compare(folder)
        points = shake(asked, folder)
        impact = suffer(asked, assets, folder)
    except scenario.WrongInput as error:
        sys.exit(str(error))
    if importlib.util.find_spec("matplotlib") is None:
        print("no map: matplotlib is not installed; pip install 'physicsrunner[examples]'")
    else:
        solver.progress(90, "drawing the map")
        import picture

        picture.draw(solver.media_dir() / "shake_map.png", asked, points, assets, impact)
    solver.progress(100, "done")


if __name__ == "__main__":
    main()
