"""The wheel: built from what is committed here, it has all files and runs without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import physicsrunner

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "src")
LEFT_OUT = ("*.egg-info", "__pycache__")


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy(ROOT / name, source / name)
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", f"-w{folder}", str(source))
    (built,) = folder.glob("physicsrunner-*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Modules, rules, migrations, examples and the marker of types: nothing is left out."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(("__pycache__", ".")) or part.endswith(".egg-info")
            for part in path.relative_to(source).parts
        )
    }
    assert wanted
    assert not wanted - inside
    assert not any(name.startswith("tests/") for name in inside)


def test_an_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, each way to call it gives the version."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    # What it needs of other projects is taken from the environment of the tests.
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    calls = (
        [str(folder / "bin" / "physicsrunner"), "--version"],
        [str(python), "-m", "physicsrunner", "--version"],
        [str(python), "-m", "runner", "--version"],
    )
    for argv in calls:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout.split()[-1:]) == (0, [physicsrunner.__version__]), (
            argv,
            done.stderr,
        )
    for name in ("shakescenario", "shakescenario-server"):
        told = subprocess.run(
            [str(folder / "bin" / name), "--help"], capture_output=True, text=True, check=True
        )
        assert told.stdout.lower().startswith(f"usage: {name} ")
    code = "import physicsrunner; print(physicsrunner.__file__)"
    where = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    assert str(folder) in where.stdout
