"""The follower, killed with SIGKILL while it reads: no point is lost, none comes twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from physicsrunner.runner.workdir import WorkFolder
from tests.support.wait import wait_until

FOLLOW = """\
import sys, time
from pathlib import Path
from physicsrunner.runner.follow import Follower
from physicsrunner.runner.rules import packaged
from physicsrunner.runner.workdir import WorkFolder

folder = WorkFolder(Path(sys.argv[1]))
follower = Follower(folder, rules=packaged(), on_status=print, now=time.time)
print("ready", flush=True)
if sys.argv[2] == "finish":
    follower.finish()
while sys.argv[2] == "go on":
    follower.touch({folder.root})
"""

STEPS = 20_000


def test_killed_again_and_again(tmp_path: Path) -> None:
    """After kills at moments of chance the series are those of the whole log, point by point."""
    folder = WorkFolder(tmp_path / "work")
    folder.create()
    chance = random.Random(7)
    log = folder.outputs / "logs" / "main.log"
    table = folder.outputs / "plots" / "t.csv"
    table.write_text("x,y\n")
    argv = [sys.executable, "-c", FOLLOW, str(folder.root)]
    written = 0
    for kill in range(6):
        with subprocess.Popen([*argv, "go on"], stdout=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"ready\n"
            goal = STEPS * (kill + 1) // 6
            while written < goal:
                upto = min(goal, written + chance.randrange(1, 400))
                steps = range(written, upto)
                with log.open("a") as out, table.open("a") as rows:
                    out.write("".join(f"Time = {n}\nExecutionTime = {n / 4} s\n" for n in steps))
                    rows.write("".join(f"{n},{n * 2}\n" for n in steps))
                written = upto
            size = chance.randrange(1, 400_000)
            wait_until(
                lambda size=size: (
                    folder.series_file.exists()  # type: ignore[misc]
                    and folder.series_file.stat().st_size > size
                ),
                timeout=60,
                on_timeout="the follower writes nothing",
                interval=0.001,
            )
            follower.kill()
    assert subprocess.run([*argv, "finish"], check=False, stdout=subprocess.DEVNULL).returncode == 0

    found: dict[str, list[tuple[float, float]]] = {}
    for line in folder.series_file.read_text().splitlines():
        point = json.loads(line)
        found.setdefault(point["series"], []).append((point["x"], point["y"]))
    kept = _thinned(STEPS)
    assert found["execution time"] == [(n, n / 4) for n in kept]
    assert found["t/y"] == [(n, n * 2) for n in kept]
    assert found["time step"] == [(n + 1, 1) for n in _thinned(STEPS - 1)]


def _thinned(count: int) -> list[int]:
    """Every point up to 10,000, then every second one."""
    return [n for n in range(count) if n < 10_000 or n % 2 == 0]
