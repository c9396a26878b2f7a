"""What the cavity leaves to look at: a field file for ParaView and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display where this runs

import meshio
import numpy as np
from matplotlib import pyplot as plt

from physicsrunner.examples.check import Compared

INK, ACCENT, SECOND = "#1d2433", "#c2410c", "#1d4ed8"


@dataclass
class Picture:
    """The flow to draw; arrays are indexed [y, x]."""

    title: str
    points: np.ndarray
    u: np.ndarray
    v: np.ndarray
    psi: np.ndarray
    published: Sequence[Compared]


def field(
    path: Path,
    points: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    psi: np.ndarray,
    omega: np.ndarray,
) -> None:
    """Write velocity, streamfunction and vorticity at the grid's points as VTU."""
    n = len(points)
    x, y = np.meshgrid(points, points)
    nodes = np.column_stack([x.ravel(), y.ravel(), np.zeros(n * n)])
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    quads = np.column_stack([corner, corner + 1, corner + n + 1, corner + n])
    velocity = np.column_stack([u.ravel(), v.ravel(), np.zeros(n * n)])
    data = {"velocity": velocity, "streamfunction": psi.ravel(), "vorticity": omega.ravel()}
    meshio.Mesh(nodes, [("quad", quads)], point_data=data).write(path)


def draw(path: Path, flow: Picture, steps: Sequence[int], residuals: Sequence[float]) -> None:
    """Draw the flow, both centre lines with the published points, and the residual."""
    style = {
        "font.size": 10,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure, axes = plt.subplot_mosaic(
            [["flow", "u"], ["flow", "v"], ["flow", "residual"]],
            figsize=(11.5, 6.6),
            width_ratios=[1.55, 1.0],
            layout="constrained",
        )
        figure.suptitle(flow.title, fontsize=14, fontweight="bold", x=0.02, ha="left")
        _draw_flow(figure, axes["flow"], flow)
        middle = len(flow.points) // 2
        table = [row for row in flow.published if row.quantity.startswith("u")]
        _draw_line(axes["u"], flow.points, flow.u[:, middle], table, ("y", "u at x = 0.5"))
        table = [row for row in flow.published if row.quantity.startswith("v")]
        _draw_line(axes["v"], flow.points, flow.v[middle], table, ("x", "v at y = 0.5"))
        axes["residual"].semilogy(steps, residuals, color=SECOND, linewidth=1.6)
        axes["residual"].set(xlabel="step", ylabel="residual")
        axes["residual"].locator_params(axis="x", nbins=5)
        axes["residual"].grid(alpha=0.25)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw_flow(figure: plt.Figure, axis: plt.Axes, flow: Picture) -> None:
    speed = np.hypot(flow.u, flow.v)
    shown = axis.pcolormesh(
        flow.points, flow.points, speed, cmap="viridis", shading="gouraud", vmin=0.0, vmax=1.0
    )
    # Lines of constant streamfunction; the corner eddies are thousands of times weaker.
    levels = np.concatenate(
        [np.linspace(flow.psi.min(), 0.0, 14)[1:-1], flow.psi.max() * np.array([0.1, 0.4, 0.8])]
    )
    axis.contour(
        flow.points,
        flow.points,
        flow.psi,
        levels=np.unique(levels),
        colors="white",
        linewidths=0.8,
        linestyles="solid",
        alpha=0.85,
    )
    axis.set(aspect="equal", xlabel="x", ylabel="y", xlim=(0, 1), ylim=(0, 1))
    axis.set_title("lid, speed 1 →", fontsize=9.5)
    figure.colorbar(shown, ax=axis, shrink=0.8, pad=0.02, label="speed / lid speed")


def _draw_line(
    axis: plt.Axes,
    points: np.ndarray,
    values: np.ndarray,
    table: Sequence[Compared],
    labels: tuple[str, str],
) -> None:
    axis.plot(points, values, color=SECOND, linewidth=1.6, label="computed")
    if table:
        axis.plot(
            [row.position for row in table],
            [row.reference for row in table],
            "o",
            color=ACCENT,
            markersize=4.5,
            markerfacecolor="white",
            markeredgewidth=1.3,
            label="Ghia et al. 1982",
        )
    axis.axhline(0.0, color=INK, linewidth=0.6, alpha=0.4)
    axis.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1))
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8.5, loc="best")
