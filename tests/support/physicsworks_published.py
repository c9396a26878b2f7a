"""
The published package in an environment of its own, for tests and benchmarks.

It is installed once into ``.venv-physicsworks/`` of the checkout (git-ignored) and used again.
Where it cannot be installed, a test is skipped with the reason, and fails when everything is
required.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import require

VERSION = "1.1.2"
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-physicsworks"
INSTALL_S = 600
TRIES = 4
#: Its runner, as its documentation starts it.
RUNNER = ("-m", "physicsworks.solver.core")


class NotInstalled(RuntimeError):
    """The published package could not be installed."""


def install() -> Path:
    """Return the Python of an environment that has the published package; make it if needed."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / f"ready-{VERSION}"
    ENVIRONMENT.mkdir(exist_ok=True)
    with (ENVIRONMENT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes at once: one installs
        if ready.exists() and python.exists():
            return python
        _carry_out([sys.executable, "-m", "venv", str(ENVIRONMENT)])
        _carry_out([str(python), "-m", "pip", "install", "-q", f"physicsworks=={VERSION}"], TRIES)
        ready.touch()
    return python


def _carry_out(argv: list[str], tries: int = 1) -> None:
    """Carry out a command; again when it failed and there are tries left (a network may)."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{argv[0]}: {error}") from None
    if done.returncode:
        if tries <= 1:
            raise NotInstalled(done.stderr.strip()[-500:])
        _carry_out(argv, tries - 1)


def published_python() -> Path:
    """Return the Python of the published package; a test that cannot have it is skipped."""
    try:
        return install()
    except NotInstalled as error:
        require.unavailable(f"physicsworks=={VERSION} could not be installed from PyPI: {error}")
        raise


def write_config(work: Path, host: str, token: str, simulation: str, **more: object) -> Path:
    """Make a work folder with the config.json that the published runner reads."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "config.json"
    document: Mapping[str, object] = {
        "workDir": str(work),
        "host": host,
        "token": token,
        "project": "project-1",
        "simulation": simulation,
        "job": "job-1",
        "owner": "owner-1",
        **more,
    }
    path.write_text(json.dumps(document))
    return path
