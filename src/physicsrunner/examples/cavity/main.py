"""
Lid-driven cavity: the steady flow in a square box whose lid slides.

Streamfunction and vorticity on a uniform grid, second-order central differences, explicit steps in
time until the flow is steady. The Poisson equation of each step is solved exactly by the sine
transform, which on grids of this size is fastest as a product of matrices.

Held against Ghia, Ghia and Shin (1982) when the Reynolds number is 100.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

# One core: the matrices are small, and other runs share the machine. Before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pictures

from physicsrunner import solver
from physicsrunner.examples import check, ghia


class Cavity:
    """The flow in the unit square; arrays are indexed [y, x], the lid is y = 1 and has speed 1."""

    def __init__(self, reynolds: float, grid: int) -> None:
        self.points = np.linspace(0.0, 1.0, grid)
        self.h = 1.0 / (grid - 1)
        self.nu = 1.0 / reynolds
        # Limits of the explicit step: diffusion h^2 / (4 nu), convection 2 nu / speed^2.
        self.dt = min(0.24 * self.h**2 / self.nu, self.nu)
        mode = np.arange(1, grid - 1)
        angle = np.pi / (grid - 1)
        self.sine = np.sqrt(2.0 / (grid - 1)) * np.sin(angle * np.outer(mode, mode))
        eigenvalue = (2.0 - 2.0 * np.cos(angle * mode)) / self.h**2
        self.inverse = 1.0 / (eigenvalue[:, None] + eigenvalue[None, :])
        self.psi = np.zeros((grid, grid))
        self.omega = np.zeros((grid, grid))

    def step(self) -> np.ndarray:
        """Go on by dt; return d(vorticity)/dt at the inner points."""
        h, psi, omega, sine = self.h, self.psi, self.omega, self.sine
        psi[1:-1, 1:-1] = sine @ ((sine @ omega[1:-1, 1:-1] @ sine) * self.inverse) @ sine
        # Walls: Thom's formula, from the wall's speed and the streamfunction beside it.
        omega[0] = -2.0 * psi[1] / h**2
        omega[-1] = -2.0 * psi[-2] / h**2 - 2.0 / h
        omega[:, 0] = -2.0 * psi[:, 1] / h**2
        omega[:, -1] = -2.0 * psi[:, -2] / h**2
        north, south, east, west = (
            omega[2:, 1:-1],
            omega[:-2, 1:-1],
            omega[1:-1, 2:],
            omega[1:-1, :-2],
        )
        inner = omega[1:-1, 1:-1]
        u = (psi[2:, 1:-1] - psi[:-2, 1:-1]) / (2.0 * h)
        v = (psi[1:-1, :-2] - psi[1:-1, 2:]) / (2.0 * h)
        rate = self.nu * (north + south + east + west - 4.0 * inner) / h**2
        rate -= (u * (east - west) + v * (north - south)) / (2.0 * h)
        inner += self.dt * rate
        return rate

    def velocity(self) -> tuple[np.ndarray, np.ndarray]:
        """Return u and v at all points."""
        u, v = np.zeros_like(self.psi), np.zeros_like(self.psi)
        u[1:-1, 1:-1] = (self.psi[2:, 1:-1] - self.psi[:-2, 1:-1]) / (2.0 * self.h)
        v[1:-1, 1:-1] = (self.psi[1:-1, :-2] - self.psi[1:-1, 2:]) / (2.0 * self.h)
        u[-1] = 1.0
        return u, v


@dataclass
class History:
    """The residual by step."""

    steps: list[int]
    residuals: list[float]


def march(flow: Cavity, tolerance: float, report_every: int) -> History:
    """Step until the flow is steady; tell the log, the series and the progress on the way."""
    history, done = History([], []), 0.0
    while not solver.stop_requested():
        for _ in range(report_every):
            rate = flow.step()
        residual = float(np.sqrt(np.mean(rate**2)))
        if not np.isfinite(residual):
            sys.exit(f"the flow diverged after {len(history.steps) * report_every} steps")
        history.steps.append((len(history.steps) + 1) * report_every)
        history.residuals.append(residual)
        step = history.steps[-1]
        print(f"step {step:6d}   t {step * flow.dt:7.3f}   residual {residual:.3e}", flush=True)
        solver.series("residual/vorticity", step, residual, x_name="iteration")
        # The residual falls exponentially: its logarithm tells how far the way is.
        way = np.log(history.residuals[0] / residual) / np.log(history.residuals[0] / tolerance)
        done = max(done, min(1.0, float(way)))
        solver.progress(5.0 + 85.0 * done, f"step {step}, t = {step * flow.dt:.1f}")
        if residual <= tolerance:
            return history
    sys.exit("stopped on request")


def write_lines(plots: Path, points: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
    """Write both centre lines as CSV."""
    for name, header, values in (("u_centre_line", "y,u", u), ("v_centre_line", "x,v", v)):
        table = np.column_stack([points, values])
        np.savetxt(plots / f"{name}.csv", table, "%.6f", ",", header=header, comments="")


def main() -> None:
    """Solve, compare, write."""
    given = solver.inputs()
    reynolds, grid = float(given["reynolds"]), int(given["grid"])
    if grid < 9 or grid % 2 == 0:
        sys.exit(f"grid: expected an odd number of points from 9 on, got {grid}")
    files, plots = solver.files_dir(), solver.plots_dir()
    solver.progress(1, f"Re {reynolds:g} on {grid} x {grid} points")
    flow = Cavity(reynolds, grid)
    history = march(flow, float(given["tolerance"]), int(given["report_every"]))

    solver.progress(92, "writing fields and pictures")
    u, v = flow.velocity()
    middle = grid // 2
    u_line, v_line = u[:, middle], v[middle]
    write_lines(plots, flow.points, u_line, v_line)
    pictures.field(files / "cavity.vtu", flow.points, u, v, flow.psi, flow.omega)
    solver.result("steps", history.steps[-1])
    solver.result("residual", history.residuals[-1])
    solver.result("u_min", float(u_line.min()), unit="lid speeds")
    solver.result("v_min", float(v_line.min()), unit="lid speeds")
    solver.result("v_max", float(v_line.max()), unit="lid speeds")
    rows = []
    if reynolds == ghia.REYNOLDS:
        rows = ghia.compare(
            lambda y: np.interp(y, flow.points, u_line), lambda x: np.interp(x, flow.points, v_line)
        )
        check.write(files / "check.csv", rows)
        worst = check.largest(rows)
        outputs = str(solver.outputs_dir())
        solver.add_to_simulation_results("largest_deviation", abs(worst.deviation), outputs)
        print(f"largest deviation from the table: {worst.deviation:+.5f} ({worst.quantity})")
    title = f"Lid-driven cavity, Re {reynolds:g}, {grid} x {grid} points"
    picture = pictures.Picture(title, flow.points, u, v, flow.psi, rows)
    pictures.draw(solver.media_dir() / "cavity.png", picture, history.steps, history.residuals)
    solver.progress(100, "steady flow found")


if __name__ == "__main__":
    main()
