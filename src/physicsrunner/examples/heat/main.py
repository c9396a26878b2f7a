"""
A hot steel plate is quenched on both faces: how does it cool?

Heat conduction across the thickness, by the scheme of Crank and Nicolson on a uniform grid. The
jump at the faces is damped by a few implicit steps of half the length before (Rannacher, 1984).
Held against the Fourier series of the slab.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib as mpl

mpl.use("Agg")  # no display where this runs

import meshio
import numpy as np
from matplotlib import pyplot as plt

from physicsrunner import solver
from physicsrunner.examples import check

INK, ACCENT = "#1d2433", "#c2410c"
SNAPSHOTS = 6  # profiles that are kept, compared and drawn


@dataclass
class Plate:
    """The plate and its cooling; SI units, temperatures in degrees Celsius."""

    thickness: float
    diffusivity: float
    initial: float
    surface: float

    def series(self, x: np.ndarray, time: float) -> np.ndarray:
        """Return the exact temperature at *x* and *time* (> 0): the Fourier series."""
        odd = np.arange(1, 400, 2)[:, None] * np.pi
        decay = np.exp(-(odd**2) * self.diffusivity * time / self.thickness**2)
        terms = 4.0 / odd * np.sin(odd * x / self.thickness) * decay
        return self.surface + (self.initial - self.surface) * terms.sum(axis=0)


class Conduction:
    """The inner points of the grid, stepped in time."""

    def __init__(self, plate: Plate, points: int, dt: float) -> None:
        self.plate = plate
        self.x = np.linspace(0.0, plate.thickness, points)
        self.temperature = np.full(points, plate.initial)
        self.temperature[[0, -1]] = plate.surface
        inner = points - 2
        second = np.diag(np.full(inner - 1, 1.0), 1) + np.diag(np.full(inner - 1, 1.0), -1)
        second -= 2.0 * np.eye(inner)
        number = plate.diffusivity * dt / self.x[1] ** 2
        # Both schemes once, as matrices: temperatures relative to the faces make them homogeneous.
        self.implicit_half = np.linalg.inv(np.eye(inner) - 0.5 * number * second)
        self.step_matrix = self.implicit_half @ (np.eye(inner) + 0.5 * number * second)

    def step(self, *, damped: bool) -> None:
        """Go on by dt: two implicit half steps when *damped*, else Crank and Nicolson."""
        excess = self.temperature[1:-1] - self.plate.surface
        if damped:
            excess = self.implicit_half @ (self.implicit_half @ excess)
        else:
            excess = self.step_matrix @ excess
        self.temperature[1:-1] = self.plate.surface + excess


def cool(
    state: Conduction, steps: int, dt: float
) -> tuple[list[tuple[float, np.ndarray]], np.ndarray]:
    """Step to the end; return the kept profiles and the centre's temperature by time."""
    kept, centre = [], np.empty((steps, 2))
    middle, every = len(state.x) // 2, max(1, steps // 100)
    for step in range(1, steps + 1):
        state.step(damped=step <= 4)
        time = step * dt
        centre[step - 1] = time, state.temperature[middle]
        if step * SNAPSHOTS // steps > (step - 1) * SNAPSHOTS // steps:
            kept.append((time, state.temperature.copy()))
        if step % every == 0 or step == steps:
            if solver.stop_requested():
                sys.exit("stopped on request")
            centre_now = float(state.temperature[middle])
            print(f"t {time:7.2f} s   centre {centre_now:7.2f} C", flush=True)
            solver.series("temperature/centre", time, centre_now, x_name="time", unit="C")
            solver.progress(
                5.0 + 85.0 * step / steps, f"t = {time:.0f} s, centre {centre_now:.0f} C"
            )
    return kept, centre


def compare(
    plate: Plate, x: np.ndarray, kept: list[tuple[float, np.ndarray]]
) -> list[check.Compared]:
    """Hold nine points of every kept profile against the series."""
    return [
        check.Compared(f"T at t = {time:g} s", float(x[i]), float(exact[i]), float(profile[i]))
        for time, profile in kept
        for exact in (plate.series(x, time),)
        for i in np.linspace(0, len(x) - 1, 9).astype(int)
    ]


def draw(path: Path, plate: Plate, x: np.ndarray, kept: list[tuple[float, np.ndarray]]) -> None:
    """Draw the kept profiles as lines and the series as circles."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "text.color": INK}):
        figure, axis = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
        colours = mpl.colormaps["inferno"](np.linspace(0.8, 0.2, len(kept)))
        sparse = np.linspace(0.0, plate.thickness, 21)
        for (time, profile), colour in zip(kept, colours, strict=True):
            axis.plot(1e3 * x, profile, color=colour, linewidth=1.8, label=f"{time:.0f} s")
            axis.plot(1e3 * sparse, plate.series(sparse, time), "o", color=colour, markersize=4,
                      markerfacecolor="white")  # fmt: skip
        axis.plot([], [], "o", color=INK, markersize=4, markerfacecolor="white", label="exact")
        axis.set(xlabel="depth / mm", ylabel="temperature / °C", xlim=(0, 1e3 * plate.thickness))
        axis.set_title("A quenched steel plate: temperature across its thickness", loc="left",
                       fontweight="bold")  # fmt: skip
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, title="time", loc="upper right")
        figure.savefig(path, dpi=130)
        plt.close(figure)


def main() -> None:
    """Solve, compare, write."""
    given = solver.inputs()
    names = ("thickness", "diffusivity", "initial", "surface")
    plate = Plate(*(float(given[name]) for name in names))
    steps, points = int(given["steps"]), int(given["points"])
    if steps < SNAPSHOTS or points < 9:
        sys.exit(f"expected steps >= {SNAPSHOTS} and points >= 9, got {steps} and {points}")
    dt = float(given["duration"]) / steps
    state = Conduction(plate, points, dt)
    kept, centre = cool(state, steps, dt)

    files, plots = solver.files_dir(), solver.plots_dir()
    solver.progress(92, "writing profiles and pictures")
    table = np.column_stack([state.x, *(profile for _, profile in kept)])
    header = ",".join(["x", *(f"T {time:g} s" for time, _ in kept)])
    np.savetxt(plots / "profiles.csv", table, "%.6g", ",", header=header, comments="")
    thinned = centre[:: max(1, steps // 400)]
    np.savetxt(plots / "centre.csv", thinned, "%.6g", ",", header="time,T", comments="")
    nodes = np.column_stack([state.x, np.zeros((points, 2))])
    lines = np.column_stack([np.arange(points - 1), np.arange(1, points)])
    mesh = meshio.Mesh(nodes, [("line", lines)], point_data={"temperature": state.temperature})
    mesh.write(files / "plate.vtu")
    rows = compare(plate, state.x, kept)
    check.write(files / "check.csv", rows)
    worst = check.largest(rows)
    print(f"largest deviation from the series: {worst.deviation:+.5f} K ({worst.quantity})")
    solver.result("largest_deviation", abs(worst.deviation), unit="K")
    solver.result("centre_temperature", float(centre[-1, 1]), unit="C")
    draw(solver.media_dir() / "heat.png", plate, state.x, kept)
    solver.progress(100, "the plate is cold")


if __name__ == "__main__":
    main()
