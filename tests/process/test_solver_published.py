"""
The published package's solver module, and ours in its place.

The published package lies in an environment of its own, made once (`tests.support`); where it
cannot be installed, the test is skipped and says why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.physicsworks_published import published_python

INPUTS = [
    {"slug": "n", "fullPath": "/solver/grid/n", "value": 5},
    {"slug": "nu", "fullPath": "/fluid/nu", "value": 1e-3, "unit": "m2/s"},
    {"slug": "n", "fullPath": "/solver/time/n", "value": 7},
    {"slug": "root", "fullPath": "/", "value": 1},
    {"slug": "novalue", "fullPath": "a//b"},
    {"fullPath": "/x", "value": [1, {"a": None}]},
]


SCRIPT = """
import json, os, sys
import {module} as pw
from {module}.interface import StepStatus, append_status

out = {{}}
out["inputs"] = pw.load_run_inputs()
out["tree"] = pw.reconstruct_tree_from_run_inputs()
out["n"] = [pw.get_input_value_by_slug("n"), pw.get_input_value_by_slug("none")]
out["ns"] = [pw.get_input_values_by_slug("n"), pw.get_input_values_by_slug("none")]
out["one"] = pw.get_input_value_by_slugs(["nu", "n", "none"])
out["many"] = pw.get_input_values_by_slugs(["nu", "n", "novalue"])
out["other"] = pw.load_run_inputs(os.environ["OTHER"])
for value in (0, 33, 50.5, 100):
    pw.update_solver_progress(value, "at %s, so" % value, step="s")
pw.update_solver_progress(7)
pw.update_solver_progress(8, status=StepStatus.FAILED, outputs_path=os.environ["OTHER"])
append_status(os.environ["OTHER"], 42, "as it is", "step", StepStatus.PENDING)
for name, value in (("a", 1), ("b", 2.5), ("c", True), ("d", "text"), ("e", None), ("f", 1e-30)):
    pw.add_to_simulation_results(name, value)
pw.add_to_simulation_results("x", 1, outputs_path=os.environ["OTHER"])
path = os.path.join(os.environ["OTHER"], "deck.txt")
open(path, "w").write("n = {{{{N}}}}; m = {{{{N}}}} {{{{M}}}}")
pw.replace_placeholders_in_file(path, {{"{{{{N}}}}": 3, "{{{{M}}}}": "x"}})
out["errors"] = []
for call in (
    lambda: pw.load_run_inputs("/nowhere"),
    lambda: pw.replace_placeholders_in_file("/no", {{}}),
):
    try:
        call()
    except Exception as error:
        out["errors"].append(type(error).__name__)
seen = []
out["codes"] = [
    pw.run_solver(lambda: seen.append(1), lambda: seen.append(2), lambda: seen.append(3)),
    pw.run_solver(pre_remote_fn=lambda: 1 / 0),
    pw.run_solver(lambda: None, remote_fn=lambda: [][1], post_remote_fn=lambda: seen.append(4)),
]
out["seen"] = seen
pw.pre_remote(lambda: seen.append(5)); pw.remote(lambda: None); pw.post_remote(lambda: None)
if len(sys.argv) > 1:
    out["whole"] = pw.run_solver()
print("OUT", json.dumps(out))
"""


def carry_out(python: Path, module: str, work: Path, *arguments: str) -> dict[str, Any]:
    """Run SCRIPT with *module* in *work*; return all that can be seen of it."""
    for name in ("inputs", "outputs", "other"):
        (work / name).mkdir(parents=True)
    for name in ("inputs", "other"):
        (work / name / "runInputs.json").write_text(json.dumps(INPUTS))
    script = work / "main.py"
    script.write_text(SCRIPT.format(module=module))
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PHYSICSWORKS_INPUTS_DIR": str(work / "inputs"),
        "PHYSICSWORKS_OUTPUTS_DIR": str(work / "outputs"),
        "OTHER": str(work / "other"),
    }
    ran = subprocess.run(
        [str(python), str(script), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    *printed, out = ran.stdout.splitlines()
    moment = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
    files = {
        str(path.relative_to(work)): moment.sub("TIME", path.read_text())
        for path in sorted(work.rglob("*"))
        if path.is_file() and path.name != "main.py"
    }
    return {"printed": printed, "out": json.loads(out.removeprefix("OUT ")), "files": files}


def test_the_published_names_behave_the_same(tmp_path: Path) -> None:
    """The same script, with our module in place of the published one, does the same."""
    theirs = carry_out(published_python(), "physicsworks.solver", tmp_path / "theirs", "whole")
    ours = carry_out(Path(sys.executable), "physicsrunner.solver", tmp_path / "ours", "whole")
    assert ours["out"] == theirs["out"]
    assert ours["files"] == theirs["files"]
    assert ours["printed"] == theirs["printed"]
    assert len(ours["files"]["outputs/state.txt"].splitlines()) > 15
