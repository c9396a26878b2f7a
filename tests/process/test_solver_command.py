"""``python -m physicsrunner.solver``: a whole run whose main.py imports the same package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MAIN = """\
import sys
import physicsrunner.solver as pw

def compute():
    for step in range(1, 4):
        pw.series("residual", step, 10.0 ** -step)
        pw.update_solver_progress(30 * step, "computing, still")
    print("energy = 1.5")
    print("energy = 2.5")
    pw.result("t_max", 273.15, unit="K")
    pw.add_to_simulation_results("steps", 3)

sys.exit(pw.run_solver(lambda: None, compute, lambda: None))
"""


def carry_out(work: Path, main: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run *main* in the work folder *work* by the command."""
    (work / "scripts").mkdir(parents=True)
    (work / "scripts" / "main.py").write_text(main)
    config = work.parent / "config.json"
    config.write_text(json.dumps({"workDir": str(work)}))
    argv = [sys.executable, "-m", "physicsrunner.solver", f"--configPath={config}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_run(tmp_path: Path) -> None:
    """The run completes; status, results and series are where the runner keeps them."""
    ran = carry_out(tmp_path / "a b", MAIN)
    assert ran.returncode == 0, ran.stderr
    work = tmp_path / "a b"
    results = json.loads((work / "outputs" / "results.json").read_text())
    assert results["t_max"] == {"value": 273.15, "unit": "K"}
    assert (work / "outputs" / "results.csv").read_text() == "steps\n3\n"
    lines = (work / "metadata" / "series.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    found = [(point["series"], point["x"], point["y"]) for point in points]
    assert sorted(found) == [
        ("energy", 1, 1.5), ("energy", 2, 2.5),
        ("residual", 1, 0.1), ("residual", 2, 0.01), ("residual", 3, 0.001),
    ]  # fmt: skip


def test_what_goes_wrong(tmp_path: Path) -> None:
    """A failing program is exit code 1; a wrong command or configuration is 2, and says why."""
    failed = carry_out(tmp_path / "failed", "raise SystemExit(3)")
    assert failed.returncode == 1
    wrong = carry_out(tmp_path / "wrong", MAIN, "--skipStages=lunch")
    assert wrong.returncode == 2
    assert "lunch" in wrong.stderr
    argv = [sys.executable, "-m", "physicsrunner.solver", "--configPath=/no/such/config.json"]
    missing = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert missing.returncode == 2
    assert "/no/such/config.json" in missing.stderr
