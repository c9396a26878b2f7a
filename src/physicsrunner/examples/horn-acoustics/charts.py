"""The picture of a horn: impedance, level, directivity, and the field at one frequency."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display where this runs

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter, NullFormatter
from outlines import Region
from sweep import Point, Step, angles

INK, ACCENT, SECOND, SOLID = "#1d2433", "#c2410c", "#1d4ed8", "#9aa3b2"


def draw(path: Path, title: str, region: Region, points: list[Point], step: Step) -> None:
    """Draw *points*, two or more, and the field of *step*."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "text.color": INK}):
        figure, axes = plt.subplot_mosaic(
            [["impedance", "field"], ["level", "polar"]], figsize=(12, 8), layout="constrained"
        )
        figure.suptitle(title, fontsize=14, fontweight="bold", x=0.02, ha="left")
        frequency = np.array([point.frequency for point in points])
        _impedance(axes["impedance"], frequency, points)
        _level(axes["level"], frequency, points)
        _polar(axes["polar"], frequency, points, region)
        _field(axes["field"], region, step)
        for name in ("impedance", "level", "polar"):
            _hertz(axes[name], frequency)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _hertz(axis: Axes, frequency: np.ndarray) -> None:
    axis.set(xscale="log", xlabel="frequency / Hz", xlim=(frequency[0], frequency[-1]))
    ticks = [b * 10**e for e in range(7) for b in (1, 2, 5)]
    axis.set_xticks([t for t in ticks if frequency[0] <= t <= frequency[-1]])
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    )
    axis.xaxis.set_minor_formatter(NullFormatter())


def _impedance(axis: Axes, frequency: np.ndarray, points: list[Point]) -> None:
    z = np.array([point.impedance for point in points])
    axis.plot(frequency, z.real, color=ACCENT, linewidth=1.8, label="resistance")
    axis.plot(frequency, z.imag, color=SECOND, linewidth=1.8, label="reactance")
    axis.axhline(0.0, color=INK, linewidth=0.6, alpha=0.4)
    axis.set(ylabel="throat impedance / ($\\rho$c/S)")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=9)


def _level(axis: Axes, frequency: np.ndarray, points: list[Point]) -> None:
    axis.plot(frequency, [point.spl for point in points], color=ACCENT, linewidth=1.8)
    axis.set_ylabel("level on the axis / dB", color=ACCENT)
    axis.grid(alpha=0.25)
    other = axis.twinx()
    other.plot(frequency, [point.di for point in points], color=SECOND, linewidth=1.8)
    other.set_ylabel("directivity index / dB", color=SECOND)
    other.spines["right"].set_visible(True)


def _polar(axis: Axes, frequency: np.ndarray, points: list[Point], region: Region) -> None:
    levels = np.array([point.polar for point in points]).T
    shown = axis.contourf(frequency, angles(region), np.clip(levels, -30.0, 3.0),
                          levels=np.arange(-30.0, 3.1, 3.0), cmap="inferno")  # fmt: skip
    axis.contour(frequency, angles(region), levels, levels=[-6.0], colors="white", linewidths=1.2)
    axis.set(ylabel="angle from the axis / °")
    axis.set_title("level relative to the axis; white: -6 dB", fontsize=9.5, loc="left")
    axis.figure.colorbar(shown, ax=axis, pad=0.02, label="dB")


def _field(axis: Axes, region: Region, step: Step) -> None:
    mesh = step.fluid.mesh
    count = mesh.nvertices
    level = 20.0 * np.log10(np.maximum(np.abs(step.solution.pressure[:count]), 1e-9))
    r, z = 1e3 * mesh.doflocs[:, :count]
    top = 3.0 * np.ceil(float(level.max()) / 3.0)
    low = 3.0 * np.floor(max(float(level.min()), top - 42.0) / 3.0)
    steps = np.linspace(low, top, 43)
    for side in (1.0, -1.0):
        shown = axis.tricontourf(z, side * r, mesh.t[:3].T, np.clip(level, steps[0], steps[-1]),
                                 levels=steps, cmap="viridis")  # fmt: skip
        body = 1e3 * region.body[:, ::-1] * [1.0, side]
        if region.sphere.half:
            axis.plot(*body.T, color=INK, linewidth=1.2)
            edge = [side * 1e3 * region.mouth_radius, side * 1e3 * region.sphere.radius]
            axis.plot([0.0, 0.0], edge, color=INK, linewidth=1.2)
        else:
            axis.add_patch(Polygon(body, closed=True, facecolor=SOLID))
            axis.plot(*body.T, color=INK, linewidth=0.8)
    axis.set(aspect="equal", xlabel="along the axis / mm", ylabel="mm")
    axis.set_title(f"level of the field at {step.point.frequency:.0f} Hz", fontsize=9.5, loc="left")
    ticks = np.arange(low, top + 0.1, 6.0 if top - low > 24.0 else 3.0)
    label = "dB re $\\rho$cv"
    axis.figure.colorbar(shown, ax=axis, pad=0.02, label=label, shrink=0.9, ticks=ticks)
