"""
Damage and casualties of buildings by Hazus, from peak ground acceleration.

Federal Emergency Management Agency, "Hazus-MH 2.1, Multi-hazard Loss Estimation Methodology,
Earthquake Model, Technical Manual", Washington, D.C.:

- Section 5.4.4, tables 5.16a to d: lognormal equivalent-PGA curves of 36 building types and four
  levels of seismic code; the medians, in g, are in ``hazus_equivalent_pga.csv``. Its lognormal
  standard deviation of 0.64 is made of 0.4 for the damage states' thresholds and 0.5 for ground
  motion; where ground motion is drawn itself, 0.4 is what is left.
  The curves are made for ground of class D (soft to stiff soil), magnitude 7, beyond 15 km.
- Section 13.2, tables 13.3 to 13.8: casualty rates indoors by damage state, and the share of
  completely damaged buildings that collapse. Printed as it is, though it looks like a slip of the
  pen: severity 2 in moderately damaged unreinforced masonry, 0.4 %, is above the one in extensively
  damaged (0.2 %).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

NAME = "Hazus-MH 2.1, equivalent PGA, tables 5.16a to d; casualties: tables 13.3 to 13.8"
STATES = ("none", "slight", "moderate", "extensive", "complete")
CODES = ("pre", "low", "moderate", "high")
BETA = 0.64  #: of the tables
BETA_OF_STATES = 0.4  #: without ground motion

_TABLE = Path(__file__).with_name("hazus_equivalent_pga.csv")


def _read() -> dict[tuple[str, str], tuple[float, ...]]:
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return {
            (row["type"], row["code"]): tuple(float(row[state]) for state in STATES[1:])
            for row in csv.DictReader(file)
        }


#: (building type, code level) -> medians of the four states in g.
MEDIANS = _read()
TYPES = tuple(dict.fromkeys(kind for kind, _ in MEDIANS))


def log_medians(kind: str, code: str) -> tuple[float, ...]:
    """Return the natural logarithms of the four medians, in g."""
    return tuple(map(math.log, MEDIANS[kind, code]))


def reached(medians: Sequence[float], level: float, beta: float = BETA) -> list[float]:
    """Return the probabilities that each state is reached or passed; both are logarithms of g."""
    scale = 1.0 / (beta * math.sqrt(2.0))
    return [0.5 * math.erfc((median - level) * scale) for median in medians]


def states(at_least: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Return the probability of each of `STATES`, given those of reaching the last four."""
    slight, moderate, extensive, complete = at_least
    return (1.0 - slight, slight - moderate, moderate - extensive, extensive - complete, complete)


#: Table 13.8: the share of completely damaged buildings that collapse.
_COLLAPSE = {
    0.03: "W1 W2 S1H S2H S3 S4H S5H MH",
    0.05: "S1M S2M S4M S5M C1H C2H RM2H",
    0.08: "S1L S2L S4L S5L",
    0.10: "C1M C2M C3H PC2H RM1M RM2M",
    0.13: "C1L C2L C3M PC2M RM1L RM2L",
    0.15: "C3L PC1 PC2L URML URMM",
}
COLLAPSE = {kind: share for share, kinds in _COLLAPSE.items() for kind in kinds.split()}

#: Severity 1: first aid. 2: hospital. 3: life in danger. 4: killed.
SEVERITIES = ("light", "hospital", "critical", "killed")
Rates = tuple[float, float, float, float]

#: Of these, fewer people are hurt by moderate damage (table 13.4).
_MODERATE_LESS = ("W2", "S1", "S2", "S3", "S5", "C3", "RM1", "RM2")


def casualty_rates(kind: str) -> tuple[Rates, Rates, Rates, Rates, Rates]:
    """Return percent of the people inside, for slight, ..., complete, and collapsed buildings."""
    slight = (0.05, 0.0, 0.0, 0.0)
    if kind in ("URML", "URMM"):
        moderate: Rates = (0.35, 0.4, 0.001, 0.001)
        extensive: Rates = (2.0, 0.2, 0.002, 0.002)
        complete: Rates = (10.0, 2.0, 0.02, 0.02)
    else:
        moderate = (
            (0.2, 0.025, 0.0, 0.0) if kind.startswith(_MODERATE_LESS) else (0.25, 0.03, 0.0, 0.0)
        )
        extensive, complete = (1.0, 0.1, 0.001, 0.001), (5.0, 1.0, 0.01, 0.01)
    light_weight = kind in ("W1", "S3", "MH")
    collapsed = (40.0, 20.0, 3.0, 5.0) if light_weight else (40.0, 20.0, 5.0, 10.0)
    return slight, moderate, extensive, complete, collapsed


def casualty_weights(kind: str) -> tuple[tuple[float, ...], ...]:
    """Return, by severity, the share of the people inside for each of `STATES`."""
    *standing, collapsed = casualty_rates(kind)
    share = COLLAPSE[kind]
    weights = []
    for severity in range(len(SEVERITIES)):
        slight, moderate, extensive, complete = (rates[severity] / 100.0 for rates in standing)
        mixed = (1.0 - share) * complete + share * collapsed[severity] / 100.0
        weights.append((0.0, slight, moderate, extensive, mixed))
    return tuple(weights)
