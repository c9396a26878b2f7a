"""The tutorial does what it says: its files are written, its commands executed in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.processes import START_S, Processes
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
_PART = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """A command and the output that the page shows for it."""

    command: str
    expected: str = ""


def _read(page: str) -> tuple[dict[str, str], list[Step]]:
    """Return the files and the steps of a page."""
    files: dict[str, str] = {}
    steps: list[Step] = []
    for name, language, text in _PART.findall(page):
        if name:
            files[name] = text
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ "):
                    steps.append(Step(line[2:]))
                else:
                    steps[-1].expected += line + "\n"
    return files, steps


def _matches(expected: str, output: str) -> bool:
    """Compare as doctest does: ``...`` stands for anything, spaces count once."""
    parts = (re.escape(" ".join(part.split())) for part in expected.split("..."))
    return re.fullmatch(".*".join(parts), " ".join(output.split())) is not None


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.mark.parametrize("page", ["tutorial.md"])
def test_every_command_of_the_tutorial_works(
    page: str, processes: Processes, tmp_path: Path
) -> None:
    """A reader who types what the page says sees what the page shows."""
    files, steps = _read((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert len(steps) > 10
    place = tmp_path / "reader"
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    port = processes.port()  # the page's server is on the default port; tests may run side by side
    url = f"http://127.0.0.1:{port}"
    environment = processes.environment(
        {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PHYSICSRUNNER_PORT": str(port),
            "PHYSICSRUNNER_SERVER": url,
        }
    )
    for step in steps:
        if step.command.endswith("&"):
            argv = ["bash", "-c", f"exec {step.command.rstrip(' &')}"]
            started = processes.start(argv, environment=environment, name="up", cwd=place)
            wait_until(lambda: _answers(url), timeout=START_S, on_timeout=started.story)
            continue
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"$ {step.command}\n{done.stdout}"
        if step.expected:
            assert _matches(step.expected, done.stdout), f"$ {step.command}\n{done.stdout}"


def test_the_first_case_of_the_readme_runs(processes: Processes, tmp_path: Path) -> None:
    """The case in the README is carried out as its first command says."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(
        r"^```python\n# (plate/main\.py)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL
    )
    command = re.search(r"^physicsrunner (run \./plate [^#\n]*)", readme, re.MULTILINE)
    assert found
    assert command
    path = tmp_path / found[1]
    path.parent.mkdir()
    path.write_text(found[2])
    done = processes.cli(*command[1].split(), cwd=tmp_path)
    assert "completed" in done.stdout + done.stderr
    (written,) = (tmp_path / "runs").glob("*/outputs/files/width.txt")
    assert written.read_text() == "2.5\n"
