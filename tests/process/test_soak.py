"""One minute of the soak, on SQLite and on PostgreSQL: `scripts/bench soak` has ten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import require_postgres

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"
SEED = int(os.environ.get("PHYSICSRUNNER_SOAK_SEED", "20261"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_every_run_ends_as_it_must_whatever_is_killed(store: str) -> None:
    """Runs are terminal, completed once, byte for byte; nothing is left over and nothing leaks."""
    if store == "postgres":
        require_postgres()
    argv = [str(BENCHMARKS), "soak", "--seed", str(SEED), "--minutes", "1", "--runs", "40"]
    done = subprocess.run(
        [sys.executable, *argv, "--store", store, "--json"],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.stdout, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["problems"] == [], "\n".join(found["problems"])
    assert found["enough"], found["by_kind"]
    assert done.returncode == 0
