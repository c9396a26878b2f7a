"""
The list of compared values that every packaged case leaves in ``outputs/files/check.csv``.

Promises: `read` gives back what `write` was given, digit for digit. Standard library only, so
that the command line can read a list without NumPy.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Where a case leaves its list, relative to its work folder.
CHECK_FILE = "outputs/files/check.csv"
#: The same file as the server lists it.
CHECK_ARTIFACT = "outputs/data_files/check.csv"

_COLUMNS = ("quantity", "position", "reference", "computed", "deviation")


@dataclass(frozen=True)
class Compared:
    """One computed value beside its reference, both in the unit of the case."""

    quantity: str  #: such as "u at x = 0.5"
    position: float  #: the coordinate along the line
    reference: float
    computed: float

    @property
    def deviation(self) -> float:
        """Computed minus reference."""
        return self.computed - self.reference


def largest(rows: Iterable[Compared]) -> Compared:
    """Return the row with the largest deviation, or raise ValueError when there is none."""
    return max(rows, key=lambda row: abs(row.deviation))


def write(path: Path, rows: Iterable[Compared]) -> None:
    """Write *rows* to *path* as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(
            (row.quantity, row.position, row.reference, row.computed, row.deviation) for row in rows
        )


def read(path: Path) -> list[Compared]:
    """Read what `write` wrote; the deviations are computed anew, not believed."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Compared(
                quantity=line["quantity"],
                position=float(line["position"]),
                reference=float(line["reference"]),
                computed=float(line["computed"]),
            )
            for line in csv.DictReader(file)
        ]
