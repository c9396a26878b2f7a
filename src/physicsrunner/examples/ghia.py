"""
The lid-driven cavity at Re 100 as published in 1982.

U. Ghia, K. N. Ghia and C. T. Shin, "High-Re solutions for incompressible flow using the
Navier-Stokes equations and a multigrid method", J. Comput. Phys. 48 (1982) 387-411. Table I: u
along the vertical line through the centre; table II: v along the horizontal one. The lid is
y = 1 and moves with speed 1 in x.

The paper's grid has 129 x 129 points. It numbers them from 1 and prints the coordinate with four
digits; here a point is its number less 1, and its coordinate is exactly that over 128.

The value of u at y = 0.0703 stands out: the difference of our solution to its neighbours in the
table is 0.0001, to it 0.0013. It is kept as it was printed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from physicsrunner.examples.check import Compared

REYNOLDS: Final = 100.0
INTERVALS: Final = 128

#: Table I: (point on the line x = 0.5, u).
TABLE_I: Final = (
    (0, 0.00000),
    (7, -0.03717),
    (8, -0.04192),
    (9, -0.04775),
    (13, -0.06434),
    (22, -0.10150),
    (36, -0.15662),
    (58, -0.21090),
    (64, -0.20581),
    (79, -0.13641),
    (94, 0.00332),
    (109, 0.23151),
    (122, 0.68717),
    (123, 0.73722),
    (124, 0.78871),
    (125, 0.84123),
    (128, 1.00000),
)

#: Table II: (point on the line y = 0.5, v).
TABLE_II: Final = (
    (0, 0.00000),
    (8, 0.09233),
    (9, 0.10091),
    (10, 0.10890),
    (12, 0.12317),
    (20, 0.16077),
    (29, 0.17507),
    (30, 0.17527),
    (64, 0.05454),
    (103, -0.24533),
    (110, -0.22445),
    (116, -0.16914),
    (121, -0.10313),
    (122, -0.08864),
    (123, -0.07391),
    (124, -0.05906),
    (128, 0.00000),
)


def compare(u: Callable[[float], float], v: Callable[[float], float]) -> list[Compared]:
    """
    Hold computed centre lines against both tables.

    Parameters
    ----------
    u
        Gives u on the line x = 0.5 at a height y; lengths in cavity widths, speeds in lid speeds.
    v
        Gives v on the line y = 0.5 at x.

    Returns
    -------
    list of Compared
        17 points of table I, then 17 of table II, by ascending coordinate.
    """
    lines = (("u at x = 0.5", TABLE_I, u), ("v at y = 0.5", TABLE_II, v))
    return [
        Compared(quantity, point / INTERVALS, published, float(value(point / INTERVALS)))
        for quantity, table, value in lines
        for point, published in table
    ]
