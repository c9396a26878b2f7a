"""
Lid-driven cavity by OpenFOAM: blockMesh makes the grid, icoFoam goes on to the steady flow.

The dictionaries are written here, from the parameters. icoFoam's output goes to
``outputs/logs/log.icoFoam``, where the runner reads the residuals from it while it runs. Held
against Ghia, Ghia and Shin (1982) when the Reynolds number is 100.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display where this runs

import meshio
import numpy as np
from dictionaries import write_case
from matplotlib import pyplot as plt

from physicsrunner import solver
from physicsrunner.examples import check, ghia

#: Where packages put OpenFOAM's etc/ folder, which its programs need to find.
PROJECT_FOLDERS = ("/usr/share/openfoam", "/usr/lib/openfoam", "/opt/openfoam")
INK, ACCENT, SECOND = "#1d2433", "#c2410c", "#1d4ed8"


def environment() -> dict[str, str]:
    """Return the environment for OpenFOAM's programs, or end with what is missing."""
    for program in ("blockMesh", "icoFoam"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not on PATH: install OpenFOAM (Debian: apt install openfoam)")
    found = os.environ.get("WM_PROJECT_DIR")
    if not found:
        found = next((f for f in PROJECT_FOLDERS if (Path(f) / "etc" / "controlDict").exists()), "")
    return {**os.environ, "WM_PROJECT_DIR": found} if found else dict(os.environ)


def run(program: str, case: Path, log: Path, end_time: float | None = None) -> None:
    """Run *program* in *case*, its output to *log*; stop it when the run is asked to stop."""
    with log.open("ab") as output:
        process = subprocess.Popen([program], cwd=case, env=environment(), stdout=output,
                                   stderr=subprocess.STDOUT)  # fmt: skip
        while process.poll() is None:
            if solver.stop_requested():
                process.send_signal(signal.SIGTERM)
                process.wait()
                sys.exit("stopped on request")
            if end_time and (now := last_time(log)):
                solver.progress(5.0 + 85.0 * now / end_time, f"icoFoam, t = {now:.2f}")
            time.sleep(0.2)
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-15:]
        sys.exit(f"{program} ended with {process.returncode}:\n" + "\n".join(tail))


def last_time(log: Path) -> float | None:
    """Return the time step that icoFoam is at."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        found = re.findall(rb"^Time = (\S+)\n", file.read(), re.MULTILINE)
    return float(found[-1]) if found else None


def read_velocity(case: Path, cells: int) -> tuple[float, np.ndarray]:
    """Return the last written time and its velocity, indexed [y, x, component]."""
    times = [folder for folder in case.iterdir() if re.fullmatch(r"\d+(\.\d+)?", folder.name)]
    last = max(times, key=lambda folder: float(folder.name))
    text = (last / "U").read_text()
    body = text[text.index("internalField") : text.index("boundaryField")]
    # A uniform field has no list; it means that the flow never moved.
    rows = re.findall(r"\(([-+.\deE]+) ([-+.\deE]+) ([-+.\deE]+)\)", body)
    if len(rows) != cells * cells:
        sys.exit(f"{last / 'U'} holds {len(rows)} vectors, expected {cells * cells}")
    # blockMesh numbers the cells of a block with x running fastest.
    return float(last.name), np.array(rows, dtype=float).reshape(cells, cells, 3)


def centre_lines(velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coordinate, u on x = 0.5 and v on y = 0.5, the walls' values at both ends."""
    cells = len(velocity)
    points = np.concatenate([[0.0], (np.arange(cells) + 0.5) / cells, [1.0]])
    # The lines lie on faces between two cells: their mean.
    left, right = cells // 2 - 1, cells // 2
    u = 0.5 * (velocity[:, left, 0] + velocity[:, right, 0])
    v = 0.5 * (velocity[left, :, 1] + velocity[right, :, 1])
    return points, np.concatenate([[0.0], u, [1.0]]), np.concatenate([[0.0], v, [0.0]])


def write_field(path: Path, velocity: np.ndarray) -> None:
    """Write the cells' velocity as VTU."""
    n = len(velocity)
    x, y = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1))
    nodes = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    corner = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    quads = np.column_stack([corner, corner + 1, corner + n + 2, corner + n + 1])
    mesh = meshio.Mesh(nodes, [("quad", quads)], cell_data={"velocity": [velocity.reshape(-1, 3)]})
    mesh.write(path)


def draw(path: Path, title: str, velocity: np.ndarray, rows: list[check.Compared]) -> None:
    """Draw the flow and both centre lines with the published points."""
    points, u, v = centre_lines(velocity)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "text.color": INK}):
        figure, axes = plt.subplot_mosaic(
            [["flow", "u"], ["flow", "v"]],
            figsize=(11, 5.8),
            width_ratios=[1.35, 1],
            layout="constrained",
        )
        figure.suptitle(title, fontsize=14, fontweight="bold", x=0.02, ha="left")
        flow, inner = axes["flow"], points[1:-1]
        speed = np.hypot(velocity[..., 0], velocity[..., 1])
        shown = flow.imshow(speed, origin="lower", extent=(0, 1, 0, 1), vmin=0, vmax=1)
        flow.streamplot(inner, inner, velocity[..., 0], velocity[..., 1], color="white",
                        density=1.3, linewidth=0.7, arrowsize=0.7)  # fmt: skip
        flow.set(aspect="equal", xlabel="x", ylabel="y", xlim=(0, 1), ylim=(0, 1))
        flow.set_title("lid, speed 1 →", fontsize=9.5)
        figure.colorbar(shown, ax=flow, shrink=0.85, pad=0.02, label="speed / lid speed")
        for name, values, along, label in (
            ("u", u, "y", "u at x = 0.5"),
            ("v", v, "x", "v at y = 0.5"),
        ):
            axis, table = axes[name], [row for row in rows if row.quantity.startswith(name)]
            axis.plot(points, values, color=SECOND, linewidth=1.6, label="icoFoam")
            if table:
                axis.plot([row.position for row in table], [row.reference for row in table], "o",
                          color=ACCENT, markersize=4.5, markerfacecolor="white",
                          label="Ghia et al. 1982")  # fmt: skip
            axis.axhline(0.0, color=INK, linewidth=0.6, alpha=0.4)
            axis.set(xlabel=along, ylabel=label, xlim=(0, 1))
            axis.grid(alpha=0.25)
            axis.legend(frameon=False, fontsize=8.5)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def main() -> None:
    """Write the case, run OpenFOAM, compare."""
    given = solver.inputs()
    reynolds, cells = float(given["reynolds"]), int(given["cells"])
    if cells < 4 or cells % 2:
        sys.exit(f"cells: expected an even number from 4 on, got {cells}")
    files, plots, logs = solver.files_dir(), solver.plots_dir(), solver.logs_dir()
    case = files / "openfoam"
    write_case(case, reynolds, cells, float(given["courant"]), float(given["end_time"]))
    solver.progress(2, "blockMesh")
    run("blockMesh", case, logs / "log.blockMesh")
    solver.progress(5, "icoFoam")
    run("icoFoam", case, logs / "log.icoFoam", float(given["end_time"]))

    solver.progress(92, "comparing")
    end, velocity = read_velocity(case, cells)
    points, u, v = centre_lines(velocity)
    for name, header, values in (("u_centre_line", "y,u", u), ("v_centre_line", "x,v", v)):
        table = np.column_stack([points, values])
        path = plots / f"{name}.csv"
        np.savetxt(path, table, "%.6f", ",", header=header, comments="")
    write_field(files / "cavity.vtu", velocity)
    solver.result("end_time", end, unit="widths per lid speed")
    solver.result("u_min", float(u.min()), unit="lid speeds")
    solver.result("v_min", float(v.min()), unit="lid speeds")
    solver.result("v_max", float(v.max()), unit="lid speeds")
    rows: list[check.Compared] = []
    if reynolds == ghia.REYNOLDS:
        rows = ghia.compare(lambda y: np.interp(y, points, u), lambda x: np.interp(x, points, v))
        check.write(files / "check.csv", rows)
        worst = check.largest(rows)
        outputs = str(solver.outputs_dir())
        solver.add_to_simulation_results("largest_deviation", abs(worst.deviation), outputs)
        print(f"largest deviation from the table: {worst.deviation:+.5f} ({worst.quantity})")
    title = f"Lid-driven cavity by icoFoam, Re {reynolds:g}, {cells} x {cells} cells"
    draw(solver.media_dir() / "openfoam-cavity.png", title, velocity, rows)
    solver.progress(100, f"t = {end:g}")


if __name__ == "__main__":
    main()
