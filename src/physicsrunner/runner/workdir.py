"""
The work folder of one attempt: which file lies where.

Promises: every path of the work folder that the code uses is named here, and only here. It makes
folders when told to (`create`) and never deletes anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from physicsrunner.core.paths import WORK_FOLDERS

_LAST: Final = "metadata"  #: of the folders that are made: where it is, the others are


def ensure(folder: Path | str) -> None:
    """Make *folder*, and those above it, where it is not there: mostly it is."""
    if not os.path.isdir(folder):  # noqa: PTH112 (asking costs less than a Path, or than failing)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103


def write_whole(path: str, text: str) -> None:
    """Replace the file *path* by *text*, whole or not at all. Its folder is made if need be."""
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.part"
    left = memoryview(text.encode())
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        file = os.open(temporary, flags, 0o644)
    except FileNotFoundError:
        ensure(folder)
        file = os.open(temporary, flags, 0o644)
    try:
        while left:
            left = left[os.write(file, left) :]
    finally:
        os.close(file)
    os.replace(temporary, path)  # noqa: PTH105 (a Path would be made of its answer)


def files_below(
    folder: str, enters: Callable[[str], bool] | None = None
) -> Iterator[os.DirEntry[str]]:
    """
    Yield what lies in *folder* and below it and is no folder, in the order of its names.

    Links are not followed; what cannot be read is passed over. *enters* says into which folders to
    go, by their names; None: into all.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    below = []
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif enters is None or enters(entry.name):
            below.append(entry.path)
    for path in below:
        yield from files_below(path, enters)


@dataclass(frozen=True)
class WorkFolder:
    """The work folder at *root* (absolute)."""

    root: Path

    @cached_property
    def inputs(self) -> Path:
        """Parameters, archives and JSON files for main.py."""
        return self.root / "inputs"

    @cached_property
    def outputs(self) -> Path:
        """What main.py writes. All of it is followed and sent."""
        return self.root / "outputs"

    @cached_property
    def raw(self) -> Path:
        """Meshes and other raw inputs."""
        return self.root / "raw"

    @cached_property
    def scripts(self) -> Path:
        """main.py and what it imports; its working directory."""
        return self.root / "scripts"

    @cached_property
    def debug(self) -> Path:
        """The runner's own logs (sent as ``metadata/debug/``)."""
        return self.root / "debug"

    @cached_property
    def metadata(self) -> Path:
        """What the runner writes about the run: series, provenance, metrics."""
        return self.root / "metadata"

    @cached_property
    def control(self) -> Path:
        """Journal, lock, pid and exit status files. Never sent."""
        return self.root / ".physicsrunner"

    @cached_property
    def journal(self) -> Path:
        """What is done, one JSON object a line."""
        return self.control / "journal.jsonl"

    @cached_property
    def lease(self) -> Path:
        """The attempt's lease, with its token (mode 0600)."""
        return self.control / "lease.json"

    @cached_property
    def lock(self) -> Path:
        """Held while a runner works here; names its pid."""
        return self.control / "lock"

    @cached_property
    def state_file(self) -> Path:
        """main.py's status lines."""
        return self.outputs / "state.txt"

    @cached_property
    def stop_file(self) -> Path:
        """Its presence asks main.py to stop (``PHYSICSRUNNER_STOP_FILE``)."""
        return self.root / "stop.request"

    @cached_property
    def series_file(self) -> Path:
        """All live series of the run, one JSON point a line."""
        return self.metadata / "series.jsonl"

    @cached_property
    def main_log(self) -> Path:
        """main.py's standard output and standard error."""
        return self.outputs / "logs" / "main.log"

    @cached_property
    def followed(self) -> tuple[Path, ...]:
        """The folders whose files are sent to the server."""
        return (self.outputs, self.metadata, self.debug)

    def create(self) -> None:
        """Make all folders that are not there; see to it that the control folder is private."""
        root = str(self.root)
        ensure(root)
        try:
            os.mkdir(f"{root}/.physicsrunner", 0o700)  # noqa: PTH102 (a Path costs more than it)
        except FileExistsError:
            os.chmod(f"{root}/.physicsrunner", 0o700)  # noqa: PTH101
        for name in (*WORK_FOLDERS, _LAST):
            with suppress(FileExistsError):  # parents come before what lies in them
                os.mkdir(f"{root}/{name}")  # noqa: PTH102

    def is_made(self) -> bool:
        """Say whether `create` has made all folders. One may have been removed since."""
        return os.path.isdir(f"{self.root}/{_LAST}")  # noqa: PTH112

    def lies_there(self, config: str) -> bool:
        """Say whether *config* is what whoever started many attempts put into the work folder."""
        return config == f"{self.root}/config.json"

    def kept_config(self) -> Path | None:
        """Return where the configuration of the latest start is; None: nowhere."""
        kept = (self.control / "config.json", self.root / "config.json")
        return next((path for path in kept if path.is_file()), None)

    def relative(self, path: Path) -> str:
        """Return *path* as a POSIX path relative to the work folder."""
        return path.relative_to(self.root).as_posix()
