"""The published tables, and the comparison with them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from physicsrunner.client.case import read_case
from physicsrunner.examples import EXAMPLES, check, ghia

# As printed: coordinate, value; from the lid down and from the right wall to the left.
PRINTED_I = """
1.0000 1.00000  0.9766 0.84123  0.9688 0.78871  0.9609 0.73722  0.9531 0.68717  0.8516 0.23151
0.7344 0.00332  0.6172 -0.13641 0.5000 -0.20581 0.4531 -0.21090 0.2813 -0.15662 0.1719 -0.10150
0.1016 -0.06434 0.0703 -0.04775 0.0625 -0.04192 0.0547 -0.03717 0.0000 0.00000
"""
PRINTED_II = """
1.0000 0.00000  0.9688 -0.05906 0.9609 -0.07391 0.9531 -0.08864 0.9453 -0.10313 0.9063 -0.16914
0.8594 -0.22445 0.8047 -0.24533 0.5000 0.05454  0.2344 0.17527  0.2266 0.17507  0.1563 0.16077
0.0938 0.12317  0.0781 0.10890  0.0703 0.10091  0.0625 0.09233  0.0000 0.00000
"""


@pytest.mark.parametrize(
    ("table", "printed"), [(ghia.TABLE_I, PRINTED_I), (ghia.TABLE_II, PRINTED_II)]
)
def test_the_tables_are_those_of_the_paper(
    table: tuple[tuple[int, float], ...], printed: str
) -> None:
    """17 points each; the paper's four digits are the grid's points, rounded."""
    numbers = [float(word) for word in printed.split()]
    pairs = sorted(zip(numbers[::2], numbers[1::2], strict=True))
    assert len(table) == len(pairs) == 17
    for (point, value), (coordinate, published) in zip(table, pairs, strict=True):
        assert point / 128 == pytest.approx(coordinate, abs=5.1e-5)
        assert value == published


def test_comparing_asks_both_lines_at_the_points_of_the_grid() -> None:
    """A flow that is the table has no deviation; another has what it differs by."""
    u = {point / 128: value for point, value in ghia.TABLE_I}
    v = {point / 128: value for point, value in ghia.TABLE_II}
    rows = ghia.compare(u.__getitem__, lambda x: v[x] - 0.25)
    assert len(rows) == 34
    assert {row.deviation for row in rows[:17]} == {0.0}
    assert all(row.deviation == pytest.approx(-0.25) for row in rows[17:])
    assert check.largest(rows).quantity == "v at y = 0.5"


def test_a_list_of_compared_values_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Digit for digit; the deviation is computed anew."""
    rows = [check.Compared("u, at x", 0.1, 1 / 3, 0.3333), check.Compared("v", 1e-9, -2.0, 2e300)]
    check.write(tmp_path / "check.csv", rows)
    assert check.read(tmp_path / "check.csv") == rows


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_packaged_case_is_a_good_case(name: str) -> None:
    """Its folder has a main.py and a case file, and its name is the folder's."""
    example = EXAMPLES[name]
    case = read_case(example.folder)
    assert case.name == name == example.folder.name
    assert case.document.parameters
    assert {"main.py", "case.yaml"} <= {file.name for file in case.model}
    assert all(importlib.util.find_spec(module) for module in example.modules)
