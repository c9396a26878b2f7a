"""The follower: new bytes become status and points, once, whatever happens in between."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from physicsrunner.core.points import Point
from physicsrunner.core.progress import Status
from physicsrunner.runner.follow import Follower
from physicsrunner.runner.follow_pump import Pump
from physicsrunner.runner.follow_tail import LONGEST_LINE, PIECE, Tail
from physicsrunner.runner.rules import packaged
from physicsrunner.runner.workdir import WorkFolder
from tests.support.wait import wait_until


class Watched:
    """A work folder and its follower, which can be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.folder = WorkFolder(root)
        self.folder.create()
        self.time = 1000.0
        self.statuses: list[Status] = []
        self.points: list[Point] = []
        self.start()

    def start(self) -> None:
        """Start a follower; one that was there is as if killed."""
        self.follower = Follower(
            self.folder,
            rules=packaged(),
            on_status=self.statuses.append,
            on_points=self.points.extend,
            now=lambda: self.time,
        )

    def write(self, path: str, text: str | bytes, *, anew: bool = False) -> None:
        """Append to a file of outputs (or write it anew), and touch it."""
        file = self.folder.outputs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        with file.open("wb" if anew else "ab") as out:
            out.write(data)
        self.follower.touch({file})

    def series(self) -> dict[str, list[tuple[float, float]]]:
        """Return what series.jsonl holds, and check that each line is a point."""
        found: dict[str, list[tuple[float, float]]] = {}
        if not self.folder.series_file.exists():
            return found
        for line in self.folder.series_file.read_text("utf-8").splitlines():
            point: dict[str, Any] = json.loads(line)
            assert {"series", "x", "y", "x_name", "t"} <= point.keys()
            found.setdefault(point["series"], []).append((point["x"], point["y"]))
        return found


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """A followed, empty work folder."""
    return Watched(tmp_path / "work")


def test_status_lines(watched: Watched) -> None:
    """Each change of state.txt is told once; half a line waits."""
    watched.write("state.txt", "10%\n")
    watched.write("state.txt", "2026-01-02 03:04:05,20,a, b,solver,running\n5")
    watched.write("state.txt", "0%")
    watched.follower.touch({watched.folder.root})
    watched.follower.finish()
    assert watched.statuses == [
        Status(10, "10%"),
        Status(20, "a, b", "running", "solver"),
        Status(50, "50%"),
    ]


def test_a_state_file_that_is_written_anew(watched: Watched) -> None:
    """A program that keeps one line in state.txt is followed too, with and without line end."""
    for percent in (10, 20, 30):
        watched.write("state.txt", f"{percent}%\n", anew=True)
    watched.write("state.txt", "40%", anew=True)
    watched.time += 2
    watched.follower.touch(set())
    assert [status.progress for status in watched.statuses] == [10, 20, 30, 40]


def test_a_log_in_small_pieces(watched: Watched) -> None:
    """Points come once each, however the lines arrive."""
    text = "".join(f"step {n}: residual = {n / 10}\r\n" for n in range(1, 40))
    for n in range(0, len(text), 7):
        watched.write("logs/main.log", text[n : n + 7])
    assert watched.series() == {"residual": [(n, n / 10) for n in range(1, 40)]}
    assert len(watched.points) == 39


def test_the_last_line_without_end(watched: Watched) -> None:
    """At the end nothing is held back, and a repeated end adds nothing."""
    watched.write("logs/main.log", "a = 1\na = 2\na = 3")
    assert watched.series() == {"a": [(1, 1), (2, 2)]}
    watched.follower.finish()
    watched.follower.finish()
    assert watched.series() == {"a": [(1, 1), (2, 2), (3, 3)]}


def test_which_files_are_followed(watched: Watched) -> None:
    """Logs anywhere below outputs, text under logs, CSV under plots, and what rules name."""
    for path in ("x.log", "files/log.run", "logs/a.txt", "logs/b", "logs/deep/c.out"):
        stem = path.replace("/", "-")
        watched.write(path, f"{stem}a = 1\n{stem}a = 2\n")
    for path in ("notes.txt", "files/data.csv", "logs/x.bin", "media/a.png", "plots/p.png"):
        watched.write(path, "no = 1\nno = 2\n")
    watched.write("plots/deep/r.csv", "t,T [K]\n0,1\n")
    watched.write("series.jsonl", '{"series":"mine","x":1,"y":2}\n')
    watched.write(
        "files/b.sta", "  STEP INC ATT ITRS TOT STEP INC\n 1 1 1 3 0.1 0.1 0.1\nz = 1\nz = 2\n"
    )
    assert set(watched.series()) == {
        "x.loga", "files-log.runa", "logs-a.txta", "logs-ba", "logs-deep-c.outa",
        "deep/r/T", "mine", "iterations", "time step",
    }  # fmt: skip


def test_the_same_series_in_two_files(watched: Watched) -> None:
    """A second file does not mix its points into the first one's series."""
    watched.write("logs/a.log", "v = 1\nv = 2\n")
    watched.write("logs/b.log", "v = 5\nv = 6\n")
    watched.write("files/b.log", "v = 8\nv = 9\n")
    assert watched.series() == {
        "v": [(1, 1), (2, 2)],
        "b/v": [(1, 5), (2, 6)],
        "outputs/files/b.log/v": [(1, 8), (2, 9)],
    }


def test_one_log_of_two_programs(watched: Watched) -> None:
    """The program that claimed the log last has it; a claimed log is not read generically."""
    watched.write(
        "logs/main.log",
        "before = 1\nbefore = 2\n"
        "LAMMPS (1 Jan)\nStep Temp\n 0 1.5\nother = 1\nother = 2\nLoop time of 1\n"
        "| \\\\ / F ield | OpenFOAM: The Open Source CFD Toolbox |\n"
        "Time = 1\nStep Temp\n 5 2.5\nTime = 2\n",
    )
    assert set(watched.series()) == {"before", "thermo/Temp", "time step"}
    assert watched.series()["thermo/Temp"] == [(0, 1.5)]


def test_a_log_that_begins_anew(watched: Watched) -> None:
    """A log that is cut, or replaced, is read from its start."""
    watched.write("logs/a.log", "v = 1\nv = 2\nv = 3\n")
    watched.write("logs/a.log", "v = 7\n", anew=True)
    watched.write("logs/a.log", "v = 8\n")
    assert watched.series()["v"] == [(1, 1), (2, 2), (3, 3), (1, 7), (2, 8)]


def test_a_file_replaced_by_a_longer_copy(watched: Watched) -> None:
    """A table that is written whole each time gives each row once."""
    rows = "t,v\n"
    for n in range(5):
        rows += f"{n},{n * n}\n"
        temporary = watched.folder.outputs / "plots" / "tmp"
        temporary.write_text(rows)
        temporary.replace(watched.folder.outputs / "plots" / "r.csv")
        watched.follower.touch({watched.folder.outputs / "plots" / "r.csv"})
    assert watched.series() == {"r/v": [(n, n * n) for n in range(5)]}


def test_what_is_no_file(watched: Watched, tmp_path: Path) -> None:
    """Pipes, folders, dead links and links out of the folder are left alone; deletions too."""
    logs = watched.folder.outputs / "logs"
    os.mkfifo(logs / "pipe.log")
    (logs / "folder.log").mkdir()
    (logs / "dead.log").symlink_to("nowhere")
    (tmp_path / "secret.log").write_text("s = 1\ns = 2\n")
    (logs / "out.log").symlink_to(tmp_path / "secret.log")
    watched.write("logs/gone.log", "g = 1\n")
    (logs / "gone.log").unlink()
    watched.follower.touch({watched.folder.root, tmp_path / "elsewhere"})
    watched.follower.finish()
    assert watched.series() == {}


def test_names_of_any_bytes(watched: Watched) -> None:
    """File names that are not UTF-8, and names with lone surrogates, still give valid lines."""
    watched.write("plots/a\udcff \n'.csv", "x,y\n1,2\n")
    watched.write("series.jsonl", '{"series":"q\\ud800","x":1,"y":2}\n')
    watched.start()
    watched.follower.touch({watched.folder.root})
    watched.follower.finish()
    assert list(watched.series().values()) == [[(1, 2)], [(1, 2)]]


def test_no_more_than_500_logs(watched: Watched) -> None:
    """A program with thousands of logs costs no more than 500 readers."""
    for n in range(520):
        (watched.folder.outputs / "logs" / f"{n:03}.log").write_text("v = 1\nv = 2\n")
    watched.follower.touch({watched.folder.root})
    watched.follower.finish()
    assert len(watched.series()) == 500


def test_an_endless_line(watched: Watched) -> None:
    """A line of a megabyte is cut; what follows is read."""
    watched.write("logs/a.log", b"x" * 1_000_000)
    watched.write("logs/a.log", b"x" * 1_000_000 + b"\nv = 1\nv = 2\n")
    assert watched.series() == {"v": [(1, 1), (2, 2)]}


def test_a_long_log_is_read_in_pieces(tmp_path: Path) -> None:
    """Pieces are whole lines, bounded, and together the file."""
    path = tmp_path / "a.log"
    data = b"".join(b"line %d\n" % n for n in range(200_000))
    path.write_bytes(data)
    tail, pieces = Tail(path), []
    while (piece := tail.read()) is not None:
        assert len(piece.data) <= PIECE
        assert piece.data.endswith(b"\n")
        pieces.append(piece.data)
    assert b"".join(pieces) == data
    assert LONGEST_LINE < PIECE


def test_a_log_of_anything_is_given_up(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log in which no solver was recognised is not read on; another one is."""
    monkeypatch.setattr("physicsrunner.runner.follow._HOPELESS_BYTES", 1000)
    watched.write("logs/a.log", "words\n" * 1000)
    watched.write("logs/a.log", "Time = 1\nTime = 2\n")
    watched.write("logs/b.log", "Time = 1\nTime = 2\n" + "words\n" * 1000)
    watched.write("logs/b.log", "Time = 3\n")
    assert watched.series() == {"time step": [(2, 1), (3, 1)]}


def test_openfoam_tells_progress_and_eta(watched: Watched) -> None:
    """The end time of the case gives progress and remaining time; state.txt's word wins."""
    case = watched.folder.outputs / "case"
    (case / "system").mkdir(parents=True)
    (case / "system" / "controlDict").write_text("startTime 0; endTime 10;")
    watched.write("logs/log.icoFoam", f"Case   : {case}\nTime = 1\n")
    watched.time += 10
    watched.write("logs/log.icoFoam", "Time = 5\n")
    assert watched.statuses[-1] == Status(50, "time 5", eta_s=12.5)
    watched.time += 10
    watched.write("state.txt", "10% of all\n")
    assert watched.statuses[-1] == Status(10, "10% of all", eta_s=12.5)
    found = watched.series()
    assert found["progress"] == [(1, 10), (5, 50)]
    assert found["eta"] == [(5, 12.5)]


def test_a_lookup_stays_in_the_folder(watched: Watched, tmp_path: Path) -> None:
    """A log cannot make the follower read files of others."""
    (tmp_path / "other" / "system").mkdir(parents=True)
    (tmp_path / "other" / "system" / "controlDict").write_text("endTime 10;")
    watched.write("logs/log.icoFoam", f"Case   : {tmp_path / 'other'}\nTime = 1\nTime = 5\n")
    assert "progress" not in watched.series()


def test_a_full_disk_loses_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points wait while series.jsonl cannot be written, and follow when it can."""
    watched.write("logs/a.log", "v = 1\nv = 2\n")
    watched.folder.series_file.rename(watched.folder.metadata / "kept")
    watched.folder.series_file.mkdir()
    watched.write("logs/a.log", "v = 3\n")
    watched.write("logs/a.log", "v = 4\n")
    watched.folder.series_file.rmdir()
    (watched.folder.metadata / "kept").rename(watched.folder.series_file)
    watched.follower.touch({watched.folder.root})
    watched.follower.finish()
    assert watched.series() == {"v": [(n, n) for n in range(1, 5)]}


def test_a_lost_book(watched: Watched) -> None:
    """Without its book, or with a broken one, a follower reads everything anew."""
    watched.write("logs/a.log", "v = 1\nv = 2\n")
    watched.follower.finish()
    for damage in (b"", b"{", b'{"version": 9}', b'{"version": 1, "series_size": 1e99}'):
        (watched.folder.control / "follow.json").write_bytes(damage)
        watched.start()
        watched.follower.touch({watched.folder.root})
        watched.follower.finish()
        assert watched.series() == {"v": [(1, 1), (2, 2)]}


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_kills_lose_and_repeat_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """However often the follower is killed, each point is there once."""
    watched = Watched(tmp_path_factory.mktemp("killed"))
    for n in range(1, data.draw(st.integers(3, 15))):
        half = data.draw(st.booleans())
        watched.write("logs/a.log", f"step {n}: v = {n}, w = {-n}" if half else "")
        watched.write("logs/a.log", "\n" if half else f"step {n}: v = {n}, w = {-n}\n")
        watched.write("plots/t.csv", ("x,y\n" if n == 1 else "") + f"{n},{n}\n")
        watched.time += data.draw(st.sampled_from([0.0, 0.1, 0.6]))
        action = data.draw(st.sampled_from(["", "", "kill", "torn", "older"]))
        if action == "torn" and watched.folder.series_file.exists():
            with watched.folder.series_file.open("ab") as out:  # killed in the write
                out.write(b'{"series": "v", "x"')
        if action:
            watched.start()
    watched.follower.touch({watched.folder.root})
    watched.follower.finish()
    expected = [(float(k), float(k)) for k in range(1, n + 1)]
    found = watched.series()
    assert found["t/y"] == expected
    if n > 1:
        assert found["v"] == expected
        assert found["w"] == [(x, -y) for x, y in expected]


def test_in_the_background(watched: Watched) -> None:
    """The pump does the work, also of a line that never gets its end; then it ends."""
    pump = Pump()
    state, log = watched.folder.state_file, watched.folder.outputs / "logs" / "a.log"
    state.write_text("10%\n")
    pump.touch(watched.follower, {state})
    wait_until(lambda: watched.statuses, on_timeout="no status came")
    log.write_text("v = 1\nv = 2\n")
    pump.touch(watched.follower, {log})
    wait_until(lambda: watched.points, on_timeout="no points came")
    with state.open("a") as file:
        file.write("20%")
    pump.touch(watched.follower, {state})
    watched.time += 2.0
    wait_until(lambda: len(watched.statuses) == 2, on_timeout="the line without end is unheard")
    pump.forget(watched.follower)
    watched.follower.finish()
    pump.close()
    watched.follower.touch({watched.folder.root})
    assert [status.progress for status in watched.statuses] == [10, 20]


def test_a_callback_that_fails(watched: Watched) -> None:
    """A fault in a caller's callback does not end the following."""
    calls: list[Status] = []

    def fail(status: Status) -> None:
        calls.append(status)
        raise RuntimeError("the caller's fault")

    follower = Follower(watched.folder, rules=packaged(), on_status=fail, now=lambda: 0.0)
    pump, state = Pump(), watched.folder.state_file
    state.write_text("10%\n")
    pump.touch(follower, {state})
    wait_until(lambda: calls, on_timeout="no status came")
    with state.open("a") as file:
        file.write("20%\n")
    pump.touch(follower, {state})
    wait_until(lambda: len(calls) == 2, on_timeout="the follower stopped")
    pump.forget(follower)
    follower.finish()
    pump.close()
