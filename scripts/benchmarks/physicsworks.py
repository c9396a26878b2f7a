"""The published PhysicsWorks runner and ours: the same files at our door, and one large file."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import transfer
from tests.support.physicsworks_published import RUNNER, install, write_config
from tests.support.physicsworks_standin import TOKEN, StandIn
from tests.support.processes import ServerProcess

from physicsrunner.client.native import NativeUplink
from physicsrunner.client.physicsworks import PhysicsWorksTarget, PhysicsWorksUplink
from physicsrunner.runner.sync import Followed, Sync

AT_LEAST = 30.0

#: Leaves the same bytes each time, and waits until the published runner has looked.
MAIN = """
import argparse, random, time
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("--inputsPath", "--outputsPath", "--rawPath"):
    parser.add_argument(name)
outputs = Path(parser.parse_args().outputsPath)
chance = random.Random(7)
(outputs / "files" / "field.vtp").write_bytes(chance.randbytes(6 * 1024 * 1024))
(outputs / "files" / "table.csv").write_text("x,u\\n0,1\\n")
for number in range(20):
    (outputs / "media" / f"frame{number:02}.png").write_bytes(chance.randbytes(20_000))
with open(outputs / "logs" / "solver.log", "w") as log:
    for number in range(200):
        log.write(f"Time = {number}, residual {1 / (number + 1):.6f}\\n")
        log.flush()
        time.sleep(0.01)
(outputs / "plots" / "residual.csv").write_text("iteration,residual\\n1,0.5\\n2,0.25\\n")
(outputs / "results.csv").write_text("t_max,converged\\n273.15,true\\n")
time.sleep(3)
"""

#: The published runner's own upload of one file, timed alone: no archive is made before.
PUBLISHED_UPLOAD = """
import json, sys, time
from types import SimpleNamespace
from physicsworks.solver.utils import FileUploader
from physicsworks.solver.logger import DebugLogger
path, host, token, run = sys.argv[1:]
config = SimpleNamespace(config={"host": host, "token": token})
uploader = FileUploader(config, None, SimpleNamespace(geometries={}), DebugLogger())
metadata = {"project": "p", "owner": "o", "originalname": "large.bin", "resource": run,
            "resourceKind": "Run", "simulation": "s"}
start = time.perf_counter()
uploader.upload_file(path, metadata)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Speeds:
    """Seconds of one round, for the same file."""

    published: float
    native: float
    standin: float


def main(argv: Sequence[str]) -> int:
    """Compare the files that both leave, then the time that one file takes."""
    parser = argparse.ArgumentParser(prog="scripts/bench physicsworks")
    parser.add_argument("--mib", type=int, default=256, help="size of the large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--deliver", nargs=3, metavar=("HOST", "RUN", "FOLDER"), help=argparse.SUPPRESS
    )
    options = parser.parse_args(argv)
    if options.deliver:
        host, run, folder = options.deliver
        print(deliver_to_standin(host, run, Path(folder)))
        return 0
    python = install()
    with transfer.workplace() as place, transfer.server(place / "server") as server:
        theirs, ours = same_files(server, python, place, quiet=options.json)
        rounds = [
            one_file(server, python, place / f"round{number}", options.mib * transfer.MIB)
            for number in range(options.rounds)
        ]
    different = [name for name, digest in theirs.items() if ours.get(name) != digest]
    native = transfer.median([item.published / item.native for item in rounds])
    standin = transfer.median([item.published / item.standin for item in rounds])
    if options.json:
        print(
            json.dumps(
                {
                    "files": len(theirs),
                    "different": different,
                    "mib": options.mib,
                    "seconds": [vars(item) for item in rounds],
                    "native_ratio": native,
                    "standin_ratio": standin,
                }
            )
        )
    else:
        report(rounds, options.mib, native, standin)
        print(f"files that differ: {len(different)} of {len(theirs)} {different or ''}")
    return 0 if not different and native >= AT_LEAST else 1


def report(rounds: Sequence[Speeds], mib: int, native: float, standin: float) -> None:
    """Print the times of the large file."""
    print(f"\none file of {mib} MiB                        seconds by round       MB/s   ratio")
    rows = (
        ("published runner -> stand-in", [item.published for item in rounds], 1.0),
        ("ours, this wire  -> stand-in", [item.standin for item in rounds], standin),
        ("ours, native     -> our server, sealed", [item.native for item in rounds], native),
    )
    for name, seconds, ratio in rows:
        speed = mib * transfer.MIB / 1e6 / transfer.median(seconds)
        listed = " ".join(f"{value:6.2f}" for value in seconds)
        print(f"{name:<40} {listed:<22} {speed:6.1f} {ratio:6.1f}x")
    print(f"native, median ratio {native:.1f} (at least {AT_LEAST:.0f})")


# -- the same files ------------------------------------------------------------------------------


def same_files(
    server: ServerProcess, python: Path, place: Path, *, quiet: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Run both runners on the same model at our door; return what each left there."""
    model = upload_model(server)
    host = f"{server.url}/physicsworks/"
    left = []
    for name, argv in (
        ("published", [str(python), *RUNNER]),
        ("ours", [sys.executable, "-m", "physicsrunner"]),
    ):
        config = write_config(place / name, host, server.token, model)
        done = subprocess.run(
            [*argv, f"--configPath={config}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        run = json.loads(config.read_text())["resource"]["id"]
        left.append(contents(server.attempt_folder(run)))
    theirs, ours = left
    if not quiet:
        print(f"{'file at our door':<52} {'published':<14} {'ours':<14}")
        for name in sorted({*theirs, *ours}):
            pair = [side.get(name, "-")[:12] for side in (theirs, ours)]
            print(f"{name:<52} {pair[0]:<14} {pair[1]:<14}")
    return theirs, ours


def upload_model(server: ServerProcess) -> str:
    """Upload the model; return its id."""
    bundle = server.data / "physicsworks-bench.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("main.py", MAIN)
    uplink = NativeUplink(server.url, server.token)
    try:
        return str(uplink.upload_bundle(bundle, "physicsworks-bench")["id"])
    finally:
        uplink.close()


def contents(folder: Path) -> dict[str, str]:
    """
    Return the SHA-256 of what an attempt left, by name.

    Archives carry times and random names, so their members count. What only one side can have
    (its own log and records, and state.txt, which says when) is left out.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("metadata/") or name == "outputs/state.txt":
            continue
        if "/metadata/" in name or name == "logs/main.log":
            continue
        found.update(members(name, path.read_bytes()))
    return found


def members(name: str, data: bytes) -> Mapping[str, str]:
    """Return name and SHA-256 of a file, or of an archive's members."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return {
                f"{name}: {inner}": digest
                for item in packed.namelist()
                for inner, digest in members(item, packed.read(item)).items()
            }
    if name.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {
                f"geometry: {Path(item.name).name}": sha256(file.read())
                for item in tar.getmembers()
                if (file := tar.extractfile(item)) is not None
            }
    return {name: sha256(data)}


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


# -- one large file ------------------------------------------------------------------------------


def one_file(server: ServerProcess, python: Path, place: Path, size: int) -> Speeds:
    """Send one file three ways; every one of them is compared with its source afterwards."""
    folder = transfer.work_folder(place / "work")
    source = folder.outputs / "files" / "large.bin"
    transfer.make_file(source, size, seed=time.time_ns() % 1000)
    wanted = sha256(source.read_bytes())
    with StandIn(place / "standin") as standin:
        _, created = standin.answer("PUT", "/simulation/run/update/s", {}, b"")
        run = str(created["_id"])
        transfer.flush_disks()
        argv = [str(python), "-c", PUBLISHED_UPLOAD, str(source), standin.host, TOKEN, run]
        published = float(subprocess.check_output(argv, text=True).split()[-1])
        check("published", standin.stored("large.bin"), wanted)
        transfer.flush_disks()
        here = [sys.executable, str(Path(__file__).parent), "physicsworks"]
        argv = [*here, "--deliver", standin.host, run, str(folder.root)]
        ours = float(subprocess.check_output(argv, text=True).split()[-1])
        (entry,) = (e for e in standin.run()["downloadables"] if e["name"] == "large.bin")
        check("ours", standin.stored(entry["file"]), wanted)
    claimed = transfer.claim(server)
    transfer.flush_disks()
    native, _ = transfer.deliver(server.url, claimed, folder)
    stored = server.attempt_folder(claimed.run) / "outputs" / "data_files" / "large.bin"
    check("native", stored.read_bytes(), wanted)
    return Speeds(published, native, ours)


def check(name: str, data: bytes, wanted: str) -> None:
    """End the benchmark when a transfer was not exact: a fast wrong one is worth nothing."""
    if sha256(data) != wanted:
        raise SystemExit(f"{name}: the stored file differs from its source")


def deliver_to_standin(host: str, run: str, root: Path) -> float:
    """Send a work folder over this wire with our sync; return the seconds."""
    folder = transfer.work_folder(root)
    target = PhysicsWorksTarget("p", "s", owner="o", run=run)
    uplink = PhysicsWorksUplink(host, TOKEN, target, now=time.time)
    sync = Sync(uplink)
    start = time.perf_counter()
    sync.add(Followed(run, 1, folder))
    sync.start()
    try:
        delivery = sync.finish(run, 1, timeout=600.0)
        took = time.perf_counter() - start
    finally:
        sync.close()
        uplink.close()
    if not delivery.delivered:
        raise SystemExit(f"not delivered: {delivery}")
    return took
