"""A disk of a few megabytes, that can be filled and enlarged: a tmpfs, mounted by root."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

from tests.support.require import require, require_root


class SmallDisk:
    """A tmpfs of *megabytes* at *folder*."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        require_root("a disk that is full is a tmpfs of its own")
        require("mount", "umount")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "physicsrunner-test", str(folder))

    def fill(self) -> None:
        """Write until there is no room for another file."""
        try:
            with (self.folder / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1000))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def resize(self, megabytes: int) -> None:
        """Make it larger or smaller; what is on it stays."""
        _run("mount", "-o", f"remount,size={megabytes}m", str(self.folder))

    def close(self) -> None:
        """Unmount it, also while something still has a file open there."""
        _run("umount", "--lazy", str(self.folder))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
