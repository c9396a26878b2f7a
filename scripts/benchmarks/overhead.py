"""A trivial main.py by the whole runner, ours and the published, against bare python."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path

import transfer
from tests.support.physicsworks_published import RUNNER, NotInstalled, install, write_config
from tests.support.processes import ServerProcess

from physicsrunner.client.native import NativeUplink

AT_MOST_S = 0.4
MAIN = 'print("hello")\n'


def main(argv: Sequence[str]) -> int:
    """Time interleaved rounds; the server runs already."""
    parser = argparse.ArgumentParser(prog="scripts/bench overhead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        published = install()
    except NotInstalled as error:
        print(f"without the published runner: {error}", file=sys.stderr)
        published = None
    times: dict[str, list[float]] = {"bare": [], "ours": [], "published": []}
    with transfer.workplace() as place, transfer.server(place / "server") as server:
        script = place / "main.py"
        script.write_text(MAIN)
        model = upload_model(server)
        for number in range(options.rounds + 1):
            round_ = {"bare": timed([sys.executable, str(script)])}
            round_["ours"] = ours(server, model, place / f"ours{number}")
            if published is not None:
                config = write_config(
                    place / f"published{number}", f"{server.url}/physicsworks/", server.token, model
                )
                round_["published"] = timed([str(published), *RUNNER, f"--configPath={config}"])
            if number:  # the first round fills the caches
                for name, seconds in round_.items():
                    times[name].append(seconds)
    return report(times, as_json=options.json)


def report(times: dict[str, list[float]], *, as_json: bool) -> int:
    """Print medians and what each runner adds."""
    bare = transfer.median(times["bare"])
    added = {
        name: transfer.median(seconds) - bare
        for name, seconds in times.items()
        if name != "bare" and seconds
    }
    if as_json:
        print(json.dumps({"seconds": times, "added": added}))
    else:
        print(f"bare python main.py        {bare:6.3f} s")
        for name, seconds in added.items():
            print(f"{name + ' runner':<26} {bare + seconds:6.3f} s   + {seconds:.3f} s")
        print(f"ours adds at most {AT_MOST_S} s")
    return 0 if added["ours"] <= AT_MOST_S else 1


def upload_model(server: ServerProcess) -> str:
    """Upload the trivial model; return its id."""
    bundle = server.data / "overhead.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("main.py", MAIN)
    uplink = NativeUplink(server.url, server.token)
    try:
        return str(uplink.upload_bundle(bundle, "overhead")["id"])
    finally:
        uplink.close()


def ours(server: ServerProcess, model: str, work: Path) -> float:
    """Time our runner: fetch the bundle, run it, deliver and seal everything."""
    run = str(uuid.uuid4())
    uplink = NativeUplink(server.url, server.token)
    try:
        grant = uplink.claim(
            {"id": run, "model_id": model, "name": "overhead", "claim": {"agent": "bench"}}
        )
    finally:
        uplink.close()
    work.mkdir()
    config = work / "config.json"
    document = {"workDir": str(work), "server": server.url, "run": run, "attempt": 1}
    config.write_text(json.dumps({**document, "token": grant.token}))
    return timed([sys.executable, "-m", "physicsrunner", f"--configPath={config}"])


def timed(argv: Sequence[str]) -> float:
    """Return the seconds that a command takes; a failure ends the benchmark."""
    # What pip installs has its byte code. Without it a third of a second goes into compiling us,
    # and nothing into the published runner, which lies compiled in an environment of its own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout}{done.stderr}")
    return took
