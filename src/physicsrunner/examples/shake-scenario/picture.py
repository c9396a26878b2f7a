"""A map of the intensities, the exposed places, and the damage states with their spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display where this runs

import numpy as np
from exposure import Asset
from grid import Point
from intensity import roman
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from realizations import Impact
from scenario import Scenario

INK, PAPER = "#1d2433", "#ffffff"
#: ShakeMap's colours of intensity I to X.
COLOURS = ("#ffffff", "#dfe6ff", "#bfccff", "#80ffff", "#7aff93",
           "#ffff00", "#ffc800", "#ff9100", "#ff0000", "#c80000")  # fmt: skip
LEVELS = [0.5, *(degree + 0.5 for degree in range(1, 11))]
_STATES = ("slight", "moderate", "extensive", "complete")


def draw(
    path: Path,
    scenario: Scenario,
    points: Sequence[Point],
    assets: Sequence[Asset],
    impact: Impact,
) -> None:
    """Draw the map, and beside it what the realizations came to."""
    style = {"text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "font.size": 10}
    with mpl.rc_context(style):
        figure = plt.figure(figsize=(12.5, 8.1), layout="constrained")
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
        cells = figure.add_gridspec(2, 2, width_ratios=(1.75, 1.0), height_ratios=(2.2, 1.0))
        _map(figure.add_subplot(cells[:, 0]), scenario, points, assets)
        _bars(figure.add_subplot(cells[0, 1]), impact)
        _numbers(figure.add_subplot(cells[1, 1]), scenario, impact)
        figure.savefig(path, dpi=130, facecolor=PAPER)
        plt.close(figure)


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):g}° {letters[value < 0]}"


def _east(scenario: Scenario, lon: float) -> float:
    """Return a longitude that does not jump at the antimeridian."""
    return scenario.lon + (lon - scenario.lon + 180.0) % 360.0 - 180.0


def _map(axis: Axes, scenario: Scenario, points: Sequence[Point], assets: Sequence[Asset]) -> None:
    side = 2 * scenario.steps + 1
    lon = np.array([_east(scenario, point.lon) for point in points]).reshape(side, side)
    lat = np.array([point.lat for point in points]).reshape(side, side)
    mmi = np.array([point.mmi for point in points]).reshape(side, side)
    pga = np.array([point.pga for point in points]).reshape(side, side)
    norm = BoundaryNorm(LEVELS, len(COLOURS))
    filled = axis.contourf(lon, lat, mmi, LEVELS, cmap=ListedColormap(COLOURS), norm=norm)
    lines = axis.contour(
        lon, lat, pga, _round_levels(pga), colors=INK, linewidths=0.9, linestyles="--"
    )
    axis.clabel(lines, fmt=lambda value: f"{value:g} g", fontsize=8)
    _assets(axis, scenario, assets, (lon[0, 0], lon[0, -1], lat[0, 0], lat[-1, 0]))
    axis.plot(scenario.lon, scenario.lat, "*", color=INK, markeredgecolor=PAPER, markersize=20,
              label="epicentre")  # fmt: skip
    axis.set_aspect(1.0 / math.cos(math.radians(scenario.lat)))
    axis.set(xlabel="longitude / °", ylabel="latitude / °")
    axis.xaxis.set_major_formatter(lambda lon, _: f"{round((lon + 180.0) % 360.0 - 180.0, 4):g}")
    axis.yaxis.set_major_formatter(lambda lat, _: f"{round(lat, 4):g}")
    axis.set_title(
        f"M {scenario.mag:g} earthquake scenario at {_degrees(scenario.lat, 'NS')}, "
        f"{_degrees(scenario.lon, 'EW')}, {scenario.depth:g} km deep",
        loc="left", fontsize=15, fontweight="bold", pad=26,
    )  # fmt: skip
    axis.text(0.0, 1.02, "Median intensity (colours) and peak ground acceleration (dashed), "
              "Bindi et al. (2014)", transform=axis.transAxes)  # fmt: skip
    axis.legend(loc="lower right", framealpha=0.9, markerscale=0.6, fontsize=9)
    _scale_bar(axis, scenario)
    bar = axis.figure.colorbar(
        filled, cax=axis.inset_axes((0.0, -0.13, 1.0, 0.03)), orientation="horizontal"
    )
    bar.set_ticks(range(1, 11), labels=[roman(degree) for degree in range(1, 11)])
    bar.ax.tick_params(length=0)
    bar.set_label("Modified Mercalli intensity, from PGV (Worden et al., 2012)")


def _round_levels(pga: np.ndarray) -> list[float]:
    steps = [mantissa * 10.0**power for power in range(-4, 2) for mantissa in (1, 2, 5)]
    inside = [step for step in steps if pga.min() < step < pga.max()]
    return inside[-5:] or [float(pga.mean())]


def _assets(
    axis: Axes,
    scenario: Scenario,
    assets: Sequence[Asset],
    box: tuple[float, float, float, float],
) -> None:
    buildings: dict[tuple[float, float], float] = {}
    for asset in assets:
        place = _east(scenario, asset.lon), asset.lat
        buildings[place] = buildings.get(place, 0.0) + asset.buildings
    west, east, south, north = box
    seen = {
        place: number
        for place, number in buildings.items()
        if west <= place[0] <= east and south <= place[1] <= north
    }
    if not seen:
        return
    largest = max(seen.values()) or 1.0
    axis.scatter(
        [lon for lon, _ in seen],
        [lat for _, lat in seen],
        s=[8.0 + 260.0 * number / largest for number in seen.values()],
        facecolor="#1d243355",
        edgecolor=INK,
        linewidth=0.8,
        label=f"exposed places (largest: {largest:,.0f} buildings)",
    )
    axis.set(xlim=(west, east), ylim=(south, north))


def _scale_bar(axis: Axes, scenario: Scenario) -> None:
    """Draw a bar of a round length, about a fifth of the map's width."""
    wanted = 0.4 * scenario.half_width_km
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    share = length / (2.0 * scenario.half_width_km)
    axis.plot([0.04, 0.04 + share], [0.04, 0.04], color=INK, linewidth=4, solid_capstyle="butt",
              transform=axis.transAxes, zorder=5)  # fmt: skip
    axis.text(0.04 + share / 2.0, 0.055, f"{length:g} km", ha="center", va="bottom", zorder=5,
              transform=axis.transAxes,
              bbox={"facecolor": PAPER, "alpha": 0.8, "edgecolor": "none", "pad": 1.5})  # fmt: skip


def _bars(axis: Axes, impact: Impact) -> None:
    totals = [impact.totals[name].summary() for name in _STATES]
    means = [total["mean"] for total in totals]
    spread = [
        [max(0.0, total["mean"] - total["p16"]) for total in totals],
        [max(0.0, total["p84"] - total["mean"]) for total in totals],
    ]
    axis.bar(_STATES, means, color=("#ffe08a", "#ffb347", "#f2711c", "#b3001b"), edgecolor=INK,
             linewidth=0.8, yerr=spread, ecolor=INK, capsize=5)  # fmt: skip
    axis.set_title("Buildings by damage state (Hazus)", loc="left", fontweight="bold")
    axis.set_ylabel("buildings: mean, 16th to 84th percentile")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_ylim(bottom=0.0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _numbers(axis: Axes, scenario: Scenario, impact: Impact) -> None:
    """Write the totals as a small table."""
    axis.set_axis_off()
    source = "synthetic" if scenario.exposure is None else "given"
    axis.set_title(
        f"{source} exposure, {scenario.realizations:,} realizations", loc="left", fontsize=10
    )
    cells = []
    for name, words in (
        ("damaged", "damage moderate or worse"),
        ("collapsed", "collapsed"),
        ("hospital", "people to hospital"),
        ("critical", "people in danger of life"),
        ("killed", "people killed"),
    ):
        total = impact.totals[name].summary()
        numbers = (total["mean"], total["p16"], total["p84"])
        cells.append([words, *(f"{number:,.0f}" for number in numbers)])
    table = axis.table(
        cells, colLabels=["", "mean", "16 %", "84 %"], colWidths=[0.52, 0.16, 0.16, 0.16],
        edges="horizontal", bbox=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(9.5)
    for (_, column), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        cell.get_text().set_horizontalalignment("left" if column == 0 else "right")
