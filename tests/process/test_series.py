"""
Live series of real solvers: what the follower finds is what the solvers' own files say.

Each solver runs under the real follower and the real folder watch; afterwards its files are read
again here, by other means than the rules, and compared number by number.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from physicsrunner.core.points import Point
from physicsrunner.core.progress import Status
from physicsrunner.runner.follow import Follower
from physicsrunner.runner.rules import packaged
from physicsrunner.runner.watch import FolderWatch
from physicsrunner.runner.workdir import WorkFolder
from tests.support.require import require

DECKS = Path(__file__).parent / "decks"

Series = dict[str, list[tuple[float, float]]]


class Bench:
    """A followed work folder in which solvers are run, as a main.py would."""

    def __init__(self, root: Path) -> None:
        self.folder = WorkFolder(root)
        self.folder.create()
        self.case = self.folder.outputs / "files"
        self.points: list[Point] = []
        self.statuses: list[Status] = []
        self.first = threading.Event()  # a point came
        self.follower = Follower(
            self.folder,
            rules=packaged(),
            on_status=self.statuses.append,
            on_points=self._take,
            now=time.time,
        )
        self.watch = FolderWatch(root, self.follower.touch)
        self.watch.start()

    def _take(self, points: Sequence[Point]) -> None:
        self.points.extend(points)
        self.first.set()

    def run(self, *argv: str, log: str, stdin: str | None = None, **environment: str) -> None:
        """Run one program in the case's folder; its output goes to outputs/logs/*log*."""
        with (self.folder.outputs / "logs" / log).open("ab") as out:
            ran = subprocess.run(
                argv,
                cwd=self.case,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                input=None if stdin is None else stdin.encode(),
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
        text = (self.folder.outputs / "logs" / log).read_text(errors="replace")
        assert ran.returncode == 0, text[-3000:]

    def series(self) -> Series:
        """End the following; return all points of series.jsonl."""
        self.watch.close()
        self.follower.finish()
        found: Series = defaultdict(list)
        for line in self.folder.series_file.read_text("utf-8").splitlines():
            point = json.loads(line)
            found[point["series"]].append((point["x"], point["y"]))
        assert sum(map(len, found.values())) == len(self.points)
        return dict(found)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A work folder that is followed until the test ends."""
    made = Bench(tmp_path / "work")
    yield made
    made.watch.close()
    made.follower.finish()


def test_openfoam(bench: Bench) -> None:
    """icoFoam: every first residual of every time step, and the time it ended at."""
    require("icoFoam", "blockMesh")
    shutil.copytree(DECKS / "openfoam", bench.case, dirs_exist_ok=True)
    foam = {"WM_PROJECT_DIR": os.environ.get("WM_PROJECT_DIR", "/usr/share/openfoam")}
    bench.run("blockMesh", log="log.blockMesh", **foam)
    bench.run("icoFoam", log="log.icoFoam", **foam)
    found = bench.series()

    log = (bench.folder.outputs / "logs" / "log.icoFoam").read_text()
    _, *steps = log.split("\nTime = ")
    times = [float(step.split()[0]) for step in steps]
    assert len(times) == 100
    for field in ("Ux", "Uy", "p"):
        first = [step.split(f"Solving for {field}, Initial residual = ")[1] for step in steps]
        residuals = [float(text.split(",")[0]) for text in first]
        assert found[f"residual/{field}"] == list(zip(times, residuals, strict=True))
    last = [step.rpartition("sum local = ")[2].split(",")[0] for step in steps]
    assert found["continuity/local"] == list(zip(times, map(float, last), strict=True))
    courant = [step.split(" max: ")[1].split()[0] for step in steps]
    assert found["courant/max"] == list(zip(times, map(float, courant), strict=True))
    assert [y for _, y in found["time step"]] == pytest.approx([0.005] * 99)
    folders = [path.name for path in bench.case.iterdir() if re.fullmatch(r"[\d.]+", path.name)]
    assert found["residual/p"][-1][0] == max(map(float, folders)) == 0.5
    assert found["progress"][-1] == (0.5, 100)
    assert bench.statuses[-1].eta_s == 0


def test_lammps(bench: Bench) -> None:
    """lmp: the thermo table, and the same numbers as LAMMPS writes them to another file."""
    require("lmp")
    shutil.copytree(DECKS / "lammps", bench.case, dirs_exist_ok=True)
    bench.run("lmp", "-in", "in.melt", "-log", "log.lammps", log="main.log")
    found = bench.series()

    rows = []
    inside = False
    for line in (bench.case / "log.lammps").read_text().splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            inside, names = True, words
        elif words[:2] == ["Loop", "time"]:
            inside = False
        elif inside:
            rows.append(dict(zip(names, map(float, words), strict=True)))
    assert len(rows) == 11 + 7
    # Standard output has the same table: whichever file was seen first has the plain names.
    tables = [
        {name.rpartition("thermo/")[2]: points for name, points in found.items() if mine(name)}
        for mine in (
            lambda name: name.startswith("thermo/"),
            lambda name: re.match(r"(main|log)/thermo/", name) is not None,
        )
    ]
    for table in tables:
        assert set(table) == {name for row in rows for name in row} - {"Step"}
        for name, points in table.items():
            assert points == [(row["Step"], row[name]) for row in rows if name in row]
    other = [line.split() for line in (bench.case / "temperature.txt").read_text().split("\n")]
    temperature = {float(step): float(value) for step, value, _ in filter(None, other)}
    assert len(temperature) == 17
    for step, value in tables[0]["Temp"]:
        assert value == pytest.approx(temperature[step], rel=1e-6)
    assert found["progress"][-1] == (800, 100)


def beam() -> str:
    """Return the input of a cantilever of 10 x 2 x 2 elements, bent far, in 10 increments."""
    nx, ny, nz = 10, 2, 2

    def node(i: int, j: int, k: int) -> int:
        return 1 + i + (nx + 1) * (j + (ny + 1) * k)

    corners = [
        (0, 0, 0),
        (1, 0, 0),
        (1, 1, 0),
        (0, 1, 0),
        (0, 0, 1),
        (1, 0, 1),
        (1, 1, 1),
        (0, 1, 1),
    ]
    grid = list(itertools.product(range(nx + 1), range(ny + 1), range(nz + 1)))
    cells = itertools.product(range(nx), range(ny), range(nz))
    lines = ["*NODE, NSET=ALL"]
    lines += [f"{node(i, j, k)}, {i}, {j / ny}, {k / nz}" for i, j, k in grid]
    lines += ["*ELEMENT, TYPE=C3D8I, ELSET=BEAM"]
    for number, (i, j, k) in enumerate(cells, 1):
        lines.append(
            ", ".join(map(str, [number, *(node(i + a, j + b, k + c) for a, b, c in corners)]))
        )
    lines += ["*NSET, NSET=FIXED", *(f"{node(*at)}," for at in grid if at[0] == 0)]
    lines += ["*NSET, NSET=TIP", *(f"{node(*at)}," for at in grid if at[0] == nx)]
    lines += ["*MATERIAL, NAME=STEEL", "*ELASTIC", "210000., 0.3"]
    lines += ["*SOLID SECTION, ELSET=BEAM, MATERIAL=STEEL", "*BOUNDARY", "FIXED, 1, 3"]
    lines += ["*STEP, NLGEOM, INC=100", "*STATIC, DIRECT", "0.1, 1.", "*CLOAD", "TIP, 3, -40."]
    lines += ["*NODE FILE", "U", "*END STEP", ""]
    return "\n".join(lines)


def test_calculix(bench: Bench) -> None:
    """ccx: increments of beam.sta, residuals of beam.cvg, and what it prints."""
    require("ccx")
    (bench.case / "beam.inp").write_text(beam())
    bench.run("ccx", "-i", "beam", log="main.log")
    found = bench.series()

    sta = [line.split() for line in (bench.case / "beam.sta").read_text().splitlines()[2:]]
    assert len(sta) == 10
    assert found["iterations"] == [(float(row[4]), float(row[3])) for row in sta]
    assert found["time step"] == [(float(row[4]), float(row[6])) for row in sta]
    cvg = [line.split() for line in (bench.case / "beam.cvg").read_text().splitlines()[4:]]
    assert len(cvg) == sum(int(row[3]) for row in sta)
    for column, name in ((5, "residual/force"), (6, "correction/displacement")):
        assert found[name] == [(n, float(row[column])) for n, row in enumerate(cvg, 1)]
    printed = re.findall(r"largest residual force= ([\d.]+)", (bench.folder.main_log).read_text())
    assert [y for _, y in found["largest residual force"]] == [float(text) for text in printed]
    assert len(printed) == len(cvg)
    assert found["progress"][-1] == (1, 100)


def test_gromacs(bench: Bench) -> None:
    """gmx mdrun: the energies of md.log are those that gmx energy reads from md.edr."""
    require("gmx")
    shutil.copytree(DECKS / "gromacs", bench.case, dirs_exist_ok=True)
    box = ["-cs", "spc216", "-box", "2", "2", "2", "-p", "topol.top", "-o", "water.gro"]
    bench.run("gmx", "solvate", *box, log="prepare.log")
    deck = ["-f", "md.mdp", "-c", "water.gro", "-p", "topol.top", "-o", "md.tpr"]
    bench.run("gmx", "grompp", *deck, "-maxwarn", "2", log="prepare.log")
    bench.run("gmx", "mdrun", "-deffnm", "md", "-nt", "1", "-v", log="main.log")
    wanted = {"energy/Potential": "Potential", "energy/Temperature": "Temperature",
              "energy/Pressure": "Pressure", "energy/Total Energy": "Total-Energy"}  # fmt: skip
    for name in wanted.values():
        argv = ["gmx", "energy", "-f", "md.edr", "-o", f"{name}.xvg", "-xvg", "none"]
        bench.run(*argv, log="energy.log", stdin=f"{name}\n\n")
    found = bench.series()

    for series, name in wanted.items():
        rows = [line.split() for line in (bench.case / f"{name}.xvg").read_text().splitlines()]
        assert len(rows) == 11
        assert [x for x, _ in found[series]] == pytest.approx([float(t) / 0.002 for t, _ in rows])
        own = [float(y) for _, y in rows]
        assert [y for _, y in found[series]] == pytest.approx(own, rel=1e-5, abs=1e-2)
    assert found["progress"][-1] == (500, 100)
    assert {point.unit for point in bench.points if point.series == "energy/Pressure"} == {"bar"}


def test_points_come_while_the_solver_runs(bench: Bench) -> None:
    """A residual that is printed is a point long before the solver ends."""
    require("sh")
    log = bench.folder.outputs / "logs" / "log.icoFoam"
    with log.open("wb") as out:
        program = 'printf "Time = 1\\nTime = 2\\n"; read end'
        solver = subprocess.Popen(["sh", "-c", program], stdin=subprocess.PIPE, stdout=out)
    try:
        assert bench.first.wait(30), "no point came"
        assert solver.poll() is None
    finally:
        solver.communicate(b"\n", timeout=30)
    assert bench.series() == {"time step": [(2, 1)]}
