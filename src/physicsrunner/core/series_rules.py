"""
Rules that find series in a solver's log, as immutable data.

`core.series_format` makes a `RuleSet` of YAML or JSON text; `core.series.Reader` carries it out.
docs/series.md describes the format. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Stands for a number in the patterns of rules. Fortran's 1.0D-3 is one.
NUMBER: Final = (
    r"[-+]?(?:\d+\.?\d*(?:[eEdD][-+]?\d+)?|\.\d+(?:[eEdD][-+]?\d+)?|[nN]a[nN]|[iI]nf(?:inity)?)"
)


@dataclass(frozen=True)
class Value:
    """Where a series takes its y from."""

    name: str  #: a group or a variable; ``time.change`` is how much it changed
    unit: str | None = None


@dataclass(frozen=True)
class LineRule:
    """One pattern; its named groups become points and variables."""

    pattern: re.Pattern[str]
    contains: str = ""  #: a line without this text is not looked at
    repeat: bool = False  #: every match in the line counts, not only the first
    variables: Mapping[str, str] = field(default_factory=dict)  #: variable -> group
    texts: tuple[str, ...] = ()  #: groups kept as text, for lookups
    series: Mapping[str, Value] = field(default_factory=dict)  #: name with {group} -> value
    x: str | None = None
    keep: str = "all"  #: of several points of a series with the same x: all, first or last
    eta: str | None = None  #: the group with the seconds that remain
    stop: bool = False  #: nothing more is read after this line


@dataclass(frozen=True)
class TableRule:
    """A heading and rows of numbers below it (LAMMPS thermo, CalculiX .sta)."""

    header: re.Pattern[str]
    contains: str = ""  #: a line without this text is not looked at as a heading
    columns: tuple[str, ...] = ()  #: empty: the words of the heading
    x: str | None = None  #: a column, or ``row``: the number of the row, counted on
    x_name: str | None = None
    series: Mapping[str, Value] | None = None  #: name -> column; None: all columns
    prefix: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  #: variable -> column
    first: Mapping[str, str] = field(default_factory=dict)  #: the same, of the first row only
    end: re.Pattern[str] | None = None


@dataclass(frozen=True)
class BlockRule:
    """Names in columns of fixed width, the values below them (GROMACS energies)."""

    start: re.Pattern[str]
    width: int
    contains: str = ""  #: a line without this text is not looked at as a start
    prefix: str = ""
    unit: str | None = None  #: of values that neither name nor *units* give one
    bracketed: tuple[str, ...] = ()  #: units that stand in a name: "Pressure (bar)"
    units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairsRule:
    """``name = number`` and ``name: number``, wherever they stand."""

    x: tuple[str, ...] = ()  #: names that are taken as x, the best first


Rule = LineRule | TableRule | BlockRule | PairsRule


@dataclass(frozen=True)
class Lookup:
    """A number that stands in another file of the case (OpenFOAM: the end time)."""

    file: str  #: with {variables}; {dir} and {stem} are those of the log
    pattern: re.Pattern[str]
    add: bool = False  #: several matches are added up


@dataclass(frozen=True)
class Progress:
    """Which variables say how far the program is."""

    value: str
    start: str | None = None
    end: str | None = None
    length: str | None = None  #: instead of end: how far it is from start


@dataclass(frozen=True)
class RuleSet:
    """The rules for the logs of one program."""

    name: str
    rules: tuple[Rule, ...]
    files: tuple[str, ...] = ()  #: names of files below outputs/ besides logs, as globs
    claim: str = ""  #: from a line with this text on, a log is this program's alone
    fallback: bool = False  #: applies only to files that no other rule set knows
    x: str = "count"
    x_name: str | None = None
    max_series: int = 256
    max_points: int = 10_000  #: of a series; after that every 2nd point, every 4th, ...
    lookups: tuple[Lookup, ...] = ()
    progress: Progress | None = None

    @property
    def literals(self) -> tuple[str, ...] | None:
        """Texts of which a line must hold one to matter; None: any line may matter."""
        texts = set()
        for rule in self.rules:
            if isinstance(rule, PairsRule):
                texts |= {"=", ":"}
            elif not rule.contains:
                return None
            else:
                texts.add(rule.contains)
        return tuple(sorted(texts))
