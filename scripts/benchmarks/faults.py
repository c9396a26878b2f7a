"""At least 200 faults of all kinds from a printed seed, then every file compared by sha256sum."""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import writers
from tests.support.disk import SmallDisk
from tests.support.processes import Processes, Started, end_process
from tests.support.proxy import Fault, FaultProxy
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

from physicsrunner.client.native import NativeUplink
from physicsrunner.core.paths import artifact_path
from physicsrunner.runner.claim import pack_scripts
from physicsrunner.wire.tokens import Claims, issue, verify

AT_ONCE = 4  # runs under way at a time
DISK_MB = 8000
TOKEN_S = 8.0  # life of the tokens that are to expire

#: Chance of each kind while faults are injected. Kinds of the line come several at a time.
WEIGHTS = {
    "line": 18,
    "runner killed": 12,
    "server killed": 6,
    "main.py killed": 4,
    "server away": 4,
    "line slow": 2,
    "line silent": 2,
    "server's disk full": 2,
    "run ends": 8,
}


class Passage:
    """One run with its runner, which is started again as often as it is killed."""

    def __init__(self, voyage: Voyage, ending: str) -> None:
        self.voyage = voyage
        self.ending = ending
        self.runner: Started = voyage.start()

    def again(self) -> None:
        """Start the runner again."""
        self.runner = self.voyage.start()


class Storm:
    """The faults, their counts, and the runs that go through them."""

    def __init__(self, place: Path, seed: int, say: Callable[[str], None]) -> None:
        self.chance = random.Random(seed)
        self.say = say
        self.faults: collections.Counter[str] = collections.Counter()
        self.files: collections.Counter[str] = collections.Counter()
        self.place = place
        self.processes = Processes(place)
        self.disk = SmallDisk(place / "disk", DISK_MB) if os.geteuid() == 0 else None
        data = (self.disk.folder if self.disk else place) / "data"
        self.server = self.processes.server(data)
        self.proxy = FaultProxy(self.server.port)
        self.under_way: list[Passage] = []
        self.arrived: list[Passage] = []
        self.number = 0
        self.endings = list(writers.ENDINGS)

    @property
    def total(self) -> int:
        """Faults that have happened: of processes, line and disk; files are counted apart."""
        return self.faults.total() + self.proxy.injected.total() - self.proxy.injected["refused"]

    # -- runs ----------------------------------------------------------------------------------

    def depart(self) -> None:
        """Start one more run; every third has a token that expires soon."""
        self.number += 1
        ending = self.endings[self.number % len(self.endings)]
        text = f"SEED = {self.number}\n{writers.RESTLESS}{writers.ENDINGS[ending][0]}"
        voyage = self._voyage(text, short_token=self.number % 3 == 0)
        self.under_way.append(Passage(voyage, ending))

    def _voyage(self, text: str, *, short_token: bool = False, **config: Any) -> Voyage:
        folder = self.place / f"work{self.number}"
        voyage = Voyage(self.processes, self.server, folder, text, url=self.proxy.url, **config)
        if short_token:
            self._shorten(voyage)
        return voyage

    def _shorten(self, voyage: Voyage) -> None:
        """Claim the run, and give it a token that expires in `TOKEN_S`."""
        bundle = self.place / "bundle.zip"
        pack_scripts(voyage.work / "scripts", bundle)
        uplink = NativeUplink(self.server.url, self.server.token)
        model = uplink.upload_bundle(bundle, "restless")
        claim = {"agent": "faults"}
        grant = uplink.claim(
            {
                "id": voyage.run,
                "model_id": model["id"],
                "model_version": model["version"],
                "parameters": {"inputs": {}},
                "claim": claim,
            }
        )
        uplink.close()
        key = (self.server.data / "secret.key").read_text().strip()
        claims = vars(verify(key, grant.token, now=time.time()))
        short = issue(key, Claims(**{**claims, "expires": time.time() + TOKEN_S}))
        document = json.loads(voyage.config.read_text())
        voyage.config.write_text(json.dumps({**document, "token": short}))
        self.faults["token expires"] += 1

    def tend(self) -> None:
        """Start runners that have ended without their run having arrived; keep the number up."""
        for passage in list(self.under_way):
            if not passage.runner.alive:
                passage.runner.wait()
                if passage.voyage.noted("delivered"):
                    self.under_way.remove(passage)
                    self.arrived.append(passage)
                else:
                    passage.again()

    def land(self, passage: Passage, timeout: float) -> None:
        """Let a run end, and stay with it until it has been delivered."""
        passage.voyage.make("go")
        deadline = time.monotonic() + timeout
        while not passage.voyage.noted("delivered"):
            code = passage.runner.wait(max(1.0, deadline - time.monotonic()))
            if not passage.voyage.noted("delivered"):
                if time.monotonic() > deadline or code == 2:
                    raise AssertionError(f"not delivered: {passage.runner.story()}")
                passage.again()
        passage.runner.wait(max(1.0, deadline - time.monotonic()))
        if passage in self.under_way:
            self.under_way.remove(passage)
            self.arrived.append(passage)

    # -- faults --------------------------------------------------------------------------------

    def one(self) -> None:
        """Let one fault, or a handful of faults of the line, happen."""
        kind = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        getattr(self, "_" + "".join(c if c.isalnum() else "_" for c in kind))()

    def _line(self) -> None:
        for _ in range(self.chance.randint(2, 5)):
            kind = self.chance.choice(
                ["unavailable", "reset", "cut", "lost_answer", "stall", "reset", "lost_answer"]
            )
            after = self.chance.choice([0, 1, 1000, 30_000, 200_000])
            retry_after = self.chance.choice([None, None, 1])
            fault = Fault(kind, after=after, seconds=0.3, retry_after=retry_after)
            self.proxy.inject(fault, match=self.chance.choice(["", "", "sync", "POST|PUT|GET"]))
        self._pass(1.5, lambda: self.proxy.pending() == 0)

    def _runner_killed(self) -> None:
        passage = self.chance.choice(self.under_way)
        if passage.runner.alive:
            passage.runner.kill(signal.SIGKILL)
            self.faults["runner killed"] += 1
            self._pass(self.chance.choice([0.0, 0.5]))
            passage.again()

    def _server_killed(self) -> None:
        self.server.kill()
        self.faults["server killed"] += 1
        self._pass(self.chance.choice([0.0, 1.0]))
        self.server.restart()

    def _main_py_killed(self) -> None:
        passage = self.chance.choice(self.under_way)
        try:
            pid = int((passage.voyage.work / "pid").read_text())
        except FileNotFoundError:
            return
        if pid in self.processes.marked():
            end_process(pid)
            self.faults["main.py killed"] += 1

    def _server_away(self, seconds: float | None = None) -> None:
        self.proxy.refusing = True
        self.proxy.reset_all()
        self._pass(seconds or self.chance.uniform(0.3, 2.0))
        self.proxy.refusing = False
        self.faults["server away"] += 1

    def _line_slow(self) -> None:
        self.proxy.rate = self.chance.choice([20e3, 300e3])
        self._pass(2.0)
        self.proxy.rate = None
        self.faults["line slow"] += 1

    def _line_silent(self) -> None:
        self.proxy.silent = True
        self._pass(2.0)
        self.proxy.silent = False
        self.proxy.reset_all()
        self.faults["line silent"] += 1

    def _server_s_disk_full(self) -> None:
        if self.disk is None:
            return
        used = shutil.disk_usage(self.disk.folder).used
        self.disk.resize(used // 1_048_576 + 1)
        self._pass(2.0)
        self.disk.resize(DISK_MB)
        self.faults["server's disk full"] += 1

    def _run_ends(self) -> None:
        self.chance.choice(self.under_way).voyage.make("go")

    def _pass(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        wait_until(lambda: until() or time.monotonic() >= end, timeout=seconds + 5)

    # -- special runs --------------------------------------------------------------------------

    def flood(self) -> None:
        """1 GiB on standard output."""
        self.number += 1
        voyage = self._voyage(f"SEED = {self.number}\n{writers.FLOOD}")
        self.under_way.append(Passage(voyage, "1 GiB on standard output"))

    def stubborn(self) -> None:
        """A main.py that ignores SIGTERM, with a child of its own session."""
        self.number += 1
        limits = {"time_s": 3.0, "stop_grace_s": 0.3}
        voyage = self._voyage(writers.STUBBORN, limits=limits)
        self.under_way.append(Passage(voyage, "main.py ignores SIGTERM"))

    # -- the end -------------------------------------------------------------------------------

    def calm(self) -> None:
        """Heal the line; bring everybody home."""
        self.proxy.choose = None
        self.proxy.refusing = self.proxy.silent = False
        self.proxy.rate = None
        for passage in list(self.under_way):
            self.land(passage, 180)
        for passage in self.arrived:
            if passage.ending:
                self.faults[passage.ending] += 1
            told = passage.voyage.work / "file-faults"
            if told.exists():
                self.files.update(json.loads(told.read_text()))

    def compare(self) -> tuple[int, int, list[str]]:
        """Compare all runs; return files, bytes, and what is missing or differs."""
        files = size = 0
        missing = []
        for passage in self.arrived:
            voyage = passage.voyage
            here = sha256sums(voyage.work, ("outputs", "metadata"))
            here = {artifact_path(path): digest for path, digest in here.items()}
            there = sha256sums(self.server.attempt_folder(voyage.run), (".",))
            listed = {path for path, file in voyage.stored().items() if file["sealed"]}
            for path, digest in here.items():
                files += 1
                if there.get(path) != digest or path not in listed:
                    missing.append(f"{voyage.run} {path!r}")
            more = {path for path in listed if not path.startswith("metadata/")} - set(here)
            missing += [f"{voyage.run} {path!r} is on the server alone" for path in sorted(more)]
            size += sum(file["size"] for path, file in voyage.stored().items() if path in here)
            wanted = expected_state(passage)
            if voyage.status() not in wanted:
                missing.append(f"{voyage.run} is {voyage.status()}, not {wanted}")
        return files, size, missing

    def close(self) -> None:
        """End all that was started."""
        self.proxy.close()
        try:
            self.processes.close()
        finally:
            if self.disk is not None:
                self.disk.close()


def expected_state(passage: Passage) -> set[str]:
    """Return what may have become of the run: killed programs fail, the rest as they end."""
    if passage.ending == "main.py ignores SIGTERM":
        return {"timeout"}
    completes = writers.ENDINGS.get(passage.ending, ("", True))[1]
    # A main.py that was killed has failed, however it would have ended.
    return {"completed", "failed"} if completes else {"failed"}


def sha256sums(folder: Path, tops: tuple[str, ...]) -> dict[str, str]:
    """Return the digests of the files below *folder*, computed by sha256sum."""
    names = [
        os.path.relpath(os.path.join(where, name), folder)  # noqa: PTH118 - names as they are
        for top in tops
        for where, _, found in os.walk(folder / top)
        for name in found
    ]
    digests: dict[str, str] = {}
    for start in range(0, len(names), 500):
        part = names[start : start + 500]
        done = subprocess.run(
            ["sha256sum", "--zero", "--", *part], cwd=folder, capture_output=True, check=True
        )
        for line in done.stdout.split(b"\0"):
            if line:
                digests[os.fsdecode(line[66:])] = line[:64].decode()
    return digests


def main(argv: list[str]) -> int:
    """Inject faults, bring everything home, compare, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance, and printed")
    parser.add_argument("--faults", type=int, default=200, help="at least so many")
    parser.add_argument("--away", type=float, default=60.0, help="seconds of the long absence")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    say(f"seed {seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="physicsrunner-faults-") as place:
        storm = Storm(Path(place), seed, say)
        try:
            weather(storm, options.faults, options.away)
            say(f"{storm.total} faults; now calm, {len(storm.under_way)} runs to come home")
            storm.calm()
            files, size, missing = storm.compare()
        finally:
            storm.close()
    by_kind = {**storm.faults, **{f"line: {k}": n for k, n in storm.proxy.injected.items()}}
    result = {
        "seed": seed,
        "faults": sum(n for kind, n in by_kind.items() if kind != "line: refused"),
        "by_kind": dict(sorted(by_kind.items())),
        "file_changes": dict(sorted(storm.files.items())),
        "runs": len(storm.arrived),
        "files_compared": files,
        "bytes_compared": size,
        "missing": len(missing),
        "seconds": round(time.monotonic() - began, 1),
    }
    report(result, missing, as_json=options.json)
    return 0 if not missing and storm.total >= options.faults else 1


def weather(storm: Storm, wanted: int, away: float) -> None:
    """Let faults happen until there were *wanted*, with the special ones at their times."""
    specials = [
        (wanted * 1 // 5, storm.stubborn),
        (wanted * 2 // 5, lambda: storm._server_away(away)),  # noqa: SLF001 - one program
        (wanted * 3 // 5, storm.flood),
    ]
    told = 0
    while storm.total < wanted or specials:
        storm.tend()
        while len(storm.under_way) < AT_ONCE:
            storm.depart()
        if specials and storm.total >= specials[0][0]:
            specials.pop(0)[1]()
        storm.one()
        if storm.total >= told + 25:
            told = storm.total
            storm.say(f"{told:4} faults, {storm.number} runs begun, {len(storm.arrived)} arrived")


def report(result: dict[str, Any], missing: list[str], *, as_json: bool) -> None:
    """Print what happened."""
    if as_json:
        print(json.dumps({**result, "missing_files": missing[:100]}, indent=2))
        return
    for kind, number in result["by_kind"].items():
        print(f"  {number:6}  {kind}")
    for kind, number in result["file_changes"].items():
        print(f"  {number:6}  {kind} (by main.py)")
    print(
        f"{result['faults']} faults in {result['seconds']:.0f} s, {result['runs']} runs; "
        f"{result['files_compared']} files, {result['bytes_compared'] / 1e6:.0f} MB compared by "
        f"sha256sum; missing: {result['missing']}"
    )
    for line in missing[:20]:
        print(f"  {line}")
