"""
Soak: all is killed, stopped and cut off at random; every run ends as it must.

Agents, server, solvers and PostgreSQL are. Afterwards every run is terminal, completed once by the
record, its files are byte for byte what its main.py noted, no process is left over, and no file or
thread has leaked. The seed is printed: the same seed draws the same faults again (when they happen
depends on the machine).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import soak_judge
from soak_field import GRACE_S, LEASE_S, Field

from physicsrunner.wire import rest

AGENTS: Final = 4
SLOTS: Final = 5
RUNS: Final = 500  # in ten minutes
FAULTS: Final = 200
MINUTES: Final = 10.0
WARM: Final = 8  #: runs before the first fault, after which open files and threads are counted
HOME_S: Final = 420.0  #: for all runs to end when nothing happens any more

Say = Callable[[str], None]


class Soak:
    """One soak: runs that come, faults that happen, and the end of both."""

    def __init__(self, field: Field, seed: int, runs: int, say: Say) -> None:
        self.field = field
        self.kinds: dict[str, str] = {}  # id -> what becomes of it
        self._chance = random.Random(seed + 1)
        self._model = field.model()
        self._seed = seed
        self._left = runs
        self._say = say

    def submit(self, count: int, *, calm: bool = False) -> None:
        """Queue *count* more runs; with *calm* short ones that go well."""
        requests = []
        for _ in range(min(count, self._left)):
            run = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
            kind = "writes" if calm else self._chance.choice(["writes"] * 8 + ["again", "fails"])
            self.kinds[run] = kind
            requests.append(self._request(run, kind, calm=calm))
        self._left -= len(requests)
        if requests:
            self.field.call("POST", rest.BATCH, json={"runs": requests})

    def _request(self, run: str, kind: str, *, calm: bool) -> dict[str, Any]:
        chance = self._chance
        seconds = 0.5 if calm else chance.choice([0.3, 1.0, 2.0, 4.0, 8.0, 16.0])
        inputs = {
            "seed": chance.getrandbits(30),
            "kind": kind,
            "seconds": seconds,
            "files": chance.randint(1, 6),
            "fails": chance.randint(1, 2) if kind == "again" else 0,
        }
        # A program that fails by itself is tried again once; all else until it works.
        policy = {
            "max_retries": 1 if kind == "fails" else 100,
            "retry_delay_seconds": 0.5,
            "retry_on_failure_types": ["exit_code", "signal", "lost", "timeout", "download"],
            "max_lost": 100,
        }
        return {
            "id": run,
            "model_id": self._model,
            "name": kind,
            "priority": chance.choice(["low", "normal", "normal", "high"]),
            "parameters": {"inputs": inputs},
            "configuration": {
                "retry_policy": policy,
                "on_lost_contact": chance.choice(["retry", "retry", "wait"]),
                "environment_variables": {"TRUTH": str(self.field.truth)},
            },
        }

    def unfinished(self) -> Counter[str]:
        """Return the states of the runs that have not ended."""
        queue: Counter[str] = Counter()
        for state in ("queued", "preparing", "running", "paused", "retrying"):
            page = self.field.call("GET", f"{rest.SIMULATIONS}?status={state}&limit=1")
            queue[state] = int(page["total"])
        return +queue

    def come_home(self, timeout: float) -> bool:
        """Wait until all runs have ended; say whether they have."""
        deadline = time.monotonic() + timeout
        while left := self.unfinished():
            if time.monotonic() > deadline:
                self._say(f"not ended: {dict(left)}")
                return False
            self.field.go_on(0.5)
        return True

    def weather(self, seconds: float, wanted: int) -> None:
        """Let faults happen and runs come, for so long and until there were *wanted* faults."""
        began = time.monotonic()
        wave = max(1, round(self._left / max(1.0, seconds * 0.85 / 10)))
        coming = told = began
        while (passed := time.monotonic() - began) < seconds or (
            self.field.happened().total() < wanted and passed < 2 * seconds
        ):
            if time.monotonic() >= coming:
                self.submit(wave)
                coming += 10.0
            due = wanted * passed / (0.85 * seconds)
            if self.field.happened().total() <= due:
                self.field.hit()
            self.field.go_on(self._chance.uniform(0.1, 0.8))
            if time.monotonic() >= told + 30.0:
                told = time.monotonic()
                faults = self.field.happened().total()
                self._say(f"{passed:4.0f} s: {faults} faults, {len(self.kinds)} runs")
        self.submit(self._left)


def soak(options: argparse.Namespace, seed: int, place: Path, say: Say) -> dict[str, Any]:
    """Carry out one soak; return what it found."""
    field = Field(place, seed, store=options.store, agents=AGENTS, slots=SLOTS)
    began = time.monotonic()
    wanted = round(FAULTS * options.minutes / MINUTES)
    problems: list[str] = []
    told: Counter[str] = Counter()
    before: dict[str, tuple[int, int]] = {}
    after: dict[str, tuple[int, int]] = {}
    try:
        runs = Soak(field, seed, options.runs or round(RUNS * options.minutes / MINUTES), say)
        runs.submit(WARM, calm=True)
        if not runs.come_home(120.0):
            problems.append("the first runs did not end, before any fault")
        before = field.footprint()
        runs.weather(60.0 * options.minutes, wanted)
        say(f"{field.happened().total()} faults; now calm")
        field.calm()
        if not runs.come_home(HOME_S):
            problems.append(f"runs that did not end: {dict(runs.unfinished())}")
        field.go_on(LEASE_S + GRACE_S)  # late senders, and connections that a pool gives up
        after = field.footprint()
        # While the agents live: at their end they take with them what they should have ended.
        problems += [f"left over: {text}" for text in field.left_over()]
        problems += soak_judge.connections(field.connections())
        problems += soak_judge.held(field.open_files(), runs.kinds)
        wrong, told = soak_judge.judge(field, runs.kinds)
        problems += wrong
        problems += soak_judge.leaks(before, after)
        for agent in field.agents:
            agent.stop()
        problems += soak_judge.ends(field.agents)
        problems += soak_judge.database(field, time.time())
        problems += soak_judge.tracebacks(field.processes.started)
    except Exception:
        # What was found until then is told as well.
        problems.append(f"the soak itself: {traceback.format_exc()}")
    finally:
        try:
            field.close()
        except AssertionError as error:
            problems.append(str(error))
    return {
        "seed": seed,
        "store": options.store,
        "minutes": options.minutes,
        "runs": len(runs.kinds),
        "faults": field.happened().total(),
        "by_kind": dict(sorted(field.happened().items())),
        "ended": dict(sorted(told.items())),
        "files_and_threads": {"before": before, "after": after},
        "problems": problems,
        "enough": field.happened().total() >= wanted,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(argv: list[str]) -> int:
    """Soak, judge, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance, and printed")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of faults")
    parser.add_argument("--runs", type=int, default=None, help="default: 50 a minute")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and print it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    say(f"seed {seed}")
    if options.keep:
        place = Path(tempfile.mkdtemp(prefix="physicsrunner-soak-"))
        say(f"in {place}")
        found = soak(options, seed, place, say)
    else:
        with tempfile.TemporaryDirectory(prefix="physicsrunner-soak-") as folder:
            found = soak(options, seed, Path(folder), say)
    report(found, as_json=options.json)
    return 0 if not found["problems"] and found["enough"] else 1


def report(found: dict[str, Any], *, as_json: bool) -> None:
    """Print what happened."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for kind, number in found["by_kind"].items():
        print(f"  {number:6}  {kind}")
    for state, number in found["ended"].items():
        print(f"  {number:6}  {state}")
    print(
        f"{found['faults']} faults, {found['runs']} runs on {found['store']} "
        f"in {found['seconds']:.0f} s; problems: {len(found['problems'])}"
    )
    for line in found["problems"][:40]:
        print(f"  {line}")
