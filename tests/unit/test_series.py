"""Series from lines: the rules' format, what readers find, and that they never flood."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.core.points import Limiter, Point, number
from physicsrunner.core.series import Reader
from physicsrunner.core.series_format import (
    nests_repeats,
    rule_set,
    rule_set_from_text,
    rule_sets,
)
from physicsrunner.core.series_tables import CsvReader, PointsReader
from physicsrunner.errors import ConfigError
from physicsrunner.runner.rules import NAMES, packaged, rules_for

RULES = {rules.name: rules for rules in packaged()}

FOAM = """\
Case   : /w/outputs/case
Time = 0.005

Courant Number mean: 0 max: 0
smoothSolver:  Solving for Ux, Initial residual = 1, Final residual = 8.9e-06, No Iterations 19
DICPCG:  Solving for p, Initial residual = 0.9, Final residual = 0.04, No Iterations 12
time step continuity errors : sum local = 4e-4, global = -1e-19, cumulative = -1e-19
DICPCG:  Solving for p, Initial residual = 0.5, Final residual = 2e-07, No Iterations 35
time step continuity errors : sum local = 2e-9, global = -2e-19, cumulative = -3e-19
ExecutionTime = 0.01 s  ClockTime = 0 s

Time = 0.01
smoothSolver:  Solving for Ux, Initial residual = nan, Final residual = nan, No Iterations 1
"""

THERMO = """\
LAMMPS (29 Sep 2021 - Update 2)
run             100
Step Temp E_pair
       0         1.44   -6.77
WARNING: something (src/x.cpp:1)
      50         0.70   -5.67
     100         0.75   -5.75
Loop time of 0.1 on 1 procs for 100 steps with 500 atoms
 1 2 3
------------ Step              150 ----- CPU =            0 (sec) -------------
TotEng   =        -4.6 KinEng   =         2.15
"""

GROMACS = """\
   nsteps                         = 100
   init-step                      = 0
           Step           Time
              0        0.00000

   Energies (kJ/mol)
        LJ (SR)   Coulomb (SR)      Potential
    1.14924e+04   -1.49794e+04   -2.82070e+03
    Temperature Pressure (bar)
    9.32282e+02    6.82602e+04

           Step           Time
             50        0.10000

   Energies (kJ/mol)
        LJ (SR)   Coulomb (SR)      Potential
    1.00000e+00    2.00000e+00    3.00000e+00

	<====  A V E R A G E S  ====>
   Energies (kJ/mol)
        LJ (SR)   Coulomb (SR)      Potential
    7.00000e+00    8.00000e+00    9.00000e+00
"""


def read(reader: Reader | CsvReader | PointsReader, lines: str) -> list[Point]:
    """Feed all *lines*; return all points."""
    points = [point for line in lines.splitlines() for point in reader.feed(line)]
    return points + reader.finish()


def by_name(points: Iterable[Point]) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each series."""
    found = defaultdict(list)
    for point in points:
        found[point.series].append((point.x, point.y))
    return dict(found)


def test_openfoam() -> None:
    """First residual and last continuity error of a time step; the step; a case to look up."""
    reader = Reader(RULES["openfoam"])
    points = read(reader, FOAM)
    found = by_name(points)
    assert found["residual/p"] == [(0.005, 0.9)]
    assert found["solver iterations/p"] == [(0.005, 12)]
    assert found["continuity/local"] == [(0.005, 2e-9)]
    assert found["courant/max"] == [(0.005, 0)]
    assert found["time step"] == [(0.01, 0.005)]
    assert found["execution time"] == [(0.005, 0.01)]
    assert found["residual/Ux"][0] == (0.005, 1)
    assert math.isnan(found["residual/Ux"][1][1])
    assert {point.x_name for point in points} == {"time"}
    assert reader.fraction is None
    for index, path in reader.lookups():
        assert path == "/w/outputs/case/system/controlDict"
        reader.looked_up(index, "startTime 0; stopAt endTime;\nendTime  0.02;")
    assert reader.fraction == 0.5
    assert reader.progress_point == (0.01, "time")
    assert reader.lookups() == []


def test_lammps() -> None:
    """Rows of the thermo table between heading and loop time, and thermo_style multi."""
    reader = Reader(RULES["lammps"])
    points = read(reader, THERMO)
    found = by_name(points)
    assert found["thermo/Temp"] == [(0, 1.44), (50, 0.70), (100, 0.75)]
    assert found["thermo/E_pair"][-1] == (100, -5.75)
    assert found["thermo/TotEng"] == [(150, -4.6)]
    assert "thermo/Step" not in found
    assert reader.fraction == 1.0


def test_calculix() -> None:
    """Increments from .sta over the time, residuals from .cvg over all iterations."""
    sta = Reader(RULES["calculix"], {"dir": "outputs/files", "stem": "beam"})
    found = by_name(
        read(
            sta,
            "SUMMARY OF JOB INFORMATION\n"
            "  STEP      INC     ATT  ITRS     TOT TIME     STEP TIME      INC TIME\n"
            "     1          1     1     3  0.100000E+00  0.100000E+00  0.100000E+00\n"
            "     1          2    1U     9  0.300000E+00  0.300000E+00  0.200000E+00\n"
            "     1          2     2     4  0.200000E+00  0.200000E+00  0.100000E+00\n",
        )
    )
    assert found == {"iterations": [(0.1, 3), (0.2, 4)], "time step": [(0.1, 0.1), (0.2, 0.1)]}
    assert sta.lookups() == [(0, "outputs/files/beam.inp")]
    sta.looked_up(0, "*STEP\n*STATIC\n0.1, 1.\n*END STEP\n*STEP\n*Dynamic, DIRECT\n 0.1 , 3.\n")
    assert sta.fraction == pytest.approx(0.05)
    cvg = by_name(
        read(
            Reader(RULES["calculix"]),
            "  STEP   INC  ATT   ITER     CONT.   RESID.        CORR.      RESID.      CORR.\n"
            "                              EL.    FORCE         DISP       FLUX        TEMP.\n"
            "     1     1    1     1        0  0.1331E+04  0.1000E+03  0.0000E+00  0.0000E+00\n"
            "     1     2    1     1        0  0.1803E+03  0.7948E+01  0.0000E+00  0.0000E+00\n",
        )
    )
    assert cvg["residual/force"] == [(1, 1331), (2, 180.3)]
    assert cvg["correction/displacement"] == [(1, 100), (2, 7.948)]


def test_gromacs() -> None:
    """The energy blocks over the step, with units; not the averages at the end."""
    reader = Reader(RULES["gromacs"])
    points = read(reader, GROMACS)
    found = by_name(points)
    assert found["energy/LJ (SR)"] == [(0, 11492.4), (50, 1)]
    assert found["energy/Pressure"] == [(0, 68260.2)]
    units = {point.series: point.unit for point in points}
    assert units["energy/Pressure"] == "bar"
    assert units["energy/Temperature"] == "K"
    assert units["energy/Potential"] == "kJ/mol"
    assert reader.fraction == 0.5


def test_gromacs_on_standard_error() -> None:
    """The line that mdrun -v rewrites tells the time that remains."""
    reader = Reader(RULES["gromacs"])
    assert read(reader, "step 100, remaining wall clock time:     7 s          ") == []
    assert reader.eta_s == 7


@pytest.mark.parametrize(
    ("lines", "series"),
    [
        ("iter 1: res = 0.5\niter 2: res = 0.25", {"res": [(1, 0.5), (2, 0.25)]}),
        ("a: 1\na: 2", {"a": [(1, 1), (2, 2)]}),
        ("step=3 a=1 b=2\nstep=4 a=3 b=4", {"a": [(3, 1), (4, 3)], "b": [(3, 2), (4, 4)]}),
        ("Epoch 1, val loss: 1.0D-3\nEpoch 2, val loss: 2", {"val loss": [(1, 1e-3), (2, 2)]}),
        ("T [K] = 3\nT [K] = 4", {"T": [(1, 3), (2, 4)]}),
        (
            "{'loss': 1, 'x': 3}\n{'loss': 2, 'x': 4}",
            {"loss": [(1, 1), (2, 2)], "x": [(1, 3), (2, 4)]},
        ),
        ("once = 5\nport: 8080", {}),
        ("at 12:30:45 up\nat 12:30:46 up", {}),
        ("version: 1.2.3\nversion: 1.2.3", {}),
        ("nothing\n= 3\n: 4\n3 = 4\n3 = 4", {}),
    ],
)
def test_name_and_number(lines: str, series: dict[str, list[tuple[float, float]]]) -> None:
    """``name = number`` and ``name: number`` over the step that the line names, or counted."""
    assert by_name(read(Reader(RULES["generic"]), lines)) == series


def test_the_generic_form_does_not_flood() -> None:
    """At most 64 names, however many a log has; each thinned as it grows."""
    reader = Reader(RULES["generic"])
    lines = "\n".join(f"value{n % 3000} = {n}" for n in range(20_000))
    assert len(by_name(read(reader, lines))) == 64
    reader = Reader(RULES["generic"])
    points = read(reader, "\n".join(f"value = {n}" for n in range(40_000)))
    assert 5_000 < len(points) < 20_000
    assert points[0].y == 0
    assert points[-1].y > 39_900


def test_thinning_is_even() -> None:
    """Beyond the limit every 2nd point is kept, then every 4th."""
    limiter = Limiter(2, 4)
    kept = [n for n in range(20) if limiter.admit("a")]
    assert kept == [0, 1, 2, 3, 4, 6, 8, 10, 12, 16]
    assert limiter.admit("b")
    assert not limiter.admit("c")


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(RULES)))
def test_a_restart_changes_nothing(data: st.DataObject, name: str) -> None:
    """A reader that is stopped anywhere, kept as JSON and restored gives the same points."""
    text = {"lammps": THERMO, "gromacs": GROMACS}.get(name, FOAM)
    lines = (text + text.replace("0.005", "0.015")).splitlines()
    cuts = data.draw(st.sets(st.integers(0, len(lines)), max_size=4))
    whole = [point for point in read(Reader(RULES[name]), "\n".join(lines)) if point.y == point.y]
    reader, found = Reader(RULES[name]), []
    for n, line in enumerate(lines):
        if n in cuts:
            kept = json.loads(json.dumps(reader.state()))
            reader = Reader(RULES[name])
            reader.restore(kept)
        found += reader.feed(line)
    assert [point for point in found + reader.finish() if point.y == point.y] == whole


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(RULES)), st.lists(st.text(max_size=60), max_size=12))
def test_nothing_breaks_a_reader(name: str, lines: list[str]) -> None:
    """Any line is taken, and every point can be written."""
    for point in read(Reader(RULES[name]), "\n".join(lines)):
        json.loads(point.to_json(0.0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("line", ["a " * 100_000, "=" * 100_000, "a = " * 50_000, " Step 1" * 9999])
def test_no_line_takes_long(name: str, line: str) -> None:
    """Lines made to be slow are cut and are not."""
    reader = Reader(RULES[name])
    start = time.process_time()
    for _ in range(20):
        reader.feed(line)
    assert time.process_time() - start < 1.0


def test_points_are_json() -> None:
    """NaN and the infinities stand as text beside null."""
    line = Point("a", 1.0, math.nan, "time", "K").to_json(12.3456)
    assert json.loads(line) == {
        "series": "a", "x": 1.0, "y": None, "y_text": "nan", "x_name": "time", "unit": "K",
        "t": 12.346,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 1.5), ("1.0D-03", 1e-3), ("2d1", 20), ("-inf", -math.inf), ("x", None), ("1-3", None)],
)
def test_numbers(text: str, value: float | None) -> None:
    """Fortran's exponents are numbers too."""
    assert number(text) == value


def test_csv() -> None:
    """The first column is x; headings give names and units; cells that are no numbers are left."""
    points = read(
        CsvReader("run/r"), "\ufeff# t [s];T [K];note\r\n0;1;a\n1;nan?;b\n2;3;4\n\nx;5;6\n"
    )
    assert [(p.series, p.x, p.y, p.x_name, p.unit) for p in points] == [
        ("run/r/T", 0, 1, "t", "K"),
        ("run/r/T", 2, 3, "t", "K"),
        ("run/r/note", 2, 4, "t", None),
    ]
    assert by_name(read(CsvReader("a"), "0,1,2\n1,3,4\n")) == {
        "a/1": [(0, 1), (1, 3)],
        "a/2": [(0, 2), (1, 4)],
    }
    assert by_name(read(CsvReader("a"), 't,"b, c"\n0,1\n')) == {"a/b, c": [(0, 1)]}


def test_points_of_a_program() -> None:
    """Lines of solver.series pass; others are left out."""
    lines = (
        '{"series":"a","x":1,"y":2,"unit":"K","x_name":"time"}\n'
        '{"series":"a","x":2,"y":null,"y_text":"inf"}\n'
        'half a li\n[1]\n{"series":3,"x":1,"y":1}\n{"series":"b","x":"1e","y":1}\n{}\n'
    )
    assert read(PointsReader(), lines) == [
        Point("a", 1, 2, "time", "K"),
        Point("a", 2, math.inf, "iteration"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "my.yaml: not YAML"),
        ("3", "my.yaml: expected an object, got int"),
        ("rules: []", "my.yaml: the key 'rules' must be a list"),
        ("rules: [{match: 'a('}]", "my.yaml: rule 1: 'match' is not a regular expression"),
        ("rules: [{mach: a}]", "my.yaml: rule 1: expected 'match'"),
        ("rules: [{match: a, seires: {}}]", "unknown key 'seires'; expected some of: match"),
        ("rules: [{match: a}, {match: '(a+)+'}]", "rule 2: 'match': a repeat without limit"),
        ("rules: [{match: '(?P<v>.)', series: {'r/{f}': v}}]", "no group 'f'; it has: v"),
        ("rules: [{match: a, series: {a: 3}}]", "series 'a': expected an object, got int"),
        ("rules: [{match: a, series: {a: {unit: K}}}]", "series 'a': expected 'value'"),
        ("rules: [{match: a, keep: some}]", "'keep' must be all, first or last"),
        ("rules: [{match: 3}]", "'match' must be of type str, not 3"),
        ("rules: [{table: {}}]", "rule 1 (table): expected 'header'"),
        (
            "rules: [{block: {start: a}}]",
            "rule 1 (block): expected 'start' (a pattern) and 'width'",
        ),
        ("{rules: [{match: a}], lookup: [{file: a}]}", "lookup 1: expected 'file' and 'match'"),
        ("{rules: [{match: a}], progress: {value: a}}", "progress: expected 'value', and either"),
        ("{rules: [{match: a}], max_series: 0}", "must be at least 1"),
        ("{rules: [{match: a}], colour: red}", "unknown key 'colour'"),
    ],
)
def test_errors_of_rules(text: str, says: str) -> None:
    """A wrong rule is refused with the file, the rule and what is expected."""
    with pytest.raises(ConfigError) as caught:
        rule_set_from_text(text, "my.yaml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("my.yaml")


@pytest.mark.parametrize(
    ("pattern", "nests"),
    [
        ("(a+)+", True),
        (r"(?:\w+\s*)*x", True),
        ("((a|b*)c)+", True),
        ("(a{2,})*", True),
        (r"(a+)?b+", False),
        (r"(?:ab)+[*+]+", False),
        (r"(\+a)+", False),
        (r"([^)*]a)+", False),
        (r"(?P<x>a+)b", False),
        (r"(?:a+){0,9}", False),
    ],
)
def test_repeats_in_repeats(pattern: str, nests: bool) -> None:
    """Patterns that can take for ever are told from those that cannot."""
    assert nests_repeats(pattern) is nests


def test_rules_of_a_case() -> None:
    """A case adds rules, whole sets, or names the packaged ones it wants."""
    own = [{"match": r"at (?P<t><num>) s: q=(?P<q><num>)", "set": {"t": "t"}, "x": "t",
            "series": {"flow": {"value": "q", "unit": "m3/s"}}}]  # fmt: skip
    made = rules_for(own, "case.yaml")
    assert [rules.name for rules in made] == ["case", *NAMES]
    points = read(Reader(made[0]), "at 1.5 s: q=3\nat 2 s: q=4")
    assert points[1] == Point("flow", 2, 4, "t", "m3/s")
    assert [rules.name for rules in rules_for(["lammps", *own], "c")] == ["case", "lammps"]
    assert [rules.name for rules in rule_sets([{"name": "n", "rules": own}], "c")] == ["n"]
    with pytest.raises(ConfigError, match="no packaged rules 'fluent'"):
        rules_for(["fluent"], "case.yaml")
    with pytest.raises(ConfigError, match=r"case\.yaml: series: rule 1"):
        rules_for([{"match": "("}], "case.yaml")
    with pytest.raises(ConfigError, match="expected a list"):
        rule_sets({"match": "a"}, "case.yaml")


def test_eta_and_stop() -> None:
    """A rule can name the seconds that remain, and end the reading."""
    rules = rule_set(
        {
            "rules": [
                {"match": r"left (?P<s><num>)", "eta": "s"},
                {"match": "THE END", "stop": True},
                {"match": r"v (?P<v><num>)", "series": {"v": "v"}},
            ]
        },
        "x",
    )
    reader = Reader(rules)
    found = by_name(read(reader, "v 1\nleft 12.5\nTHE END\nv 2"))
    assert found == {"v": [(1, 1)]}
    assert reader.eta_s == 12.5
    assert not reader.wants("v 3")
