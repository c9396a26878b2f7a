"""
A run that must arrive: a work folder, a server, whatever befalls the two, and the comparison.

`Voyage.whole` is the promise of the project as an assertion: every file below ``outputs/`` and
``metadata/`` is on the server, sealed, byte for byte, as it is told and given over HTTP.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import uuid
import zipfile
from pathlib import Path
from typing import Any

import requests

from physicsrunner.core.paths import artifact_path
from physicsrunner.wire import rest
from tests.support.cases import make_work_folder
from tests.support.processes import CliResult, Processes, ServerProcess, Started
from tests.support.wait import wait_until

MANY = 100  # files; more are fetched as one zip


class Voyage:
    """One run from a work folder of its own to *server*, over *url* (a proxy's, perhaps)."""

    def __init__(
        self,
        processes: Processes,
        server: ServerProcess,
        folder: Path,
        main: str,
        *,
        url: str | None = None,
        token: str | None = None,
        run: str | None = None,
        **config: Any,
    ) -> None:
        self.processes = processes
        self.server = server
        self.work = folder
        self.run = run or str(uuid.uuid4())
        self.config = make_work_folder(
            folder,
            main,
            server=url or server.url,
            run=self.run,
            attempt=1,
            token=token or server.token,
            **config,
        )

    # -- its processes -------------------------------------------------------------------------

    def start(self, *arguments: str, **environment: str) -> Started:
        """Start the runner (again)."""
        return self.processes.runner(self.config, *arguments, **environment)

    def sync(self, *more: str, check: bool = True, timeout: float = 120.0) -> CliResult:
        """Deliver what is left: ``physicsrunner sync WORKDIR``."""
        return self.processes.cli(
            "sync", str(self.work), *more, server=self.server, check=check, timeout=timeout
        )

    def journal(self) -> list[dict[str, Any]]:
        """Return the events of the journal."""
        path = self.work / ".physicsrunner" / "journal.jsonl"
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def noted(self, event: str, **fields: Any) -> bool:
        """Tell whether the journal has an event with these fields."""
        return any(
            record.get("event") == event and fields.items() <= record.items()
            for record in self.journal()
        )

    def await_noted(
        self, runner: Started, event: str, timeout: float = 60.0, **fields: Any
    ) -> None:
        """Wait until the journal has an event with these fields."""
        wait_until(
            lambda: self.noted(event, **fields),
            timeout=timeout,
            on_timeout=lambda: f"{self.journal()}\n{runner.story()}",
        )

    def make(self, name: str) -> None:
        """Make the file that main.py waits for (`wait_for` in its preamble)."""
        (self.work / name).write_text("")

    def await_told(self, runner: Started, name: str, timeout: float = 60.0) -> str:
        """Wait for what main.py tells (`tell` in its preamble)."""
        path = self.work / name
        wait_until(path.exists, timeout=timeout, on_timeout=runner.story)
        return path.read_text()

    # -- what the server says ------------------------------------------------------------------

    def get(self, path: str, **parameters: Any) -> requests.Response:
        """Ask the server, past any proxy."""
        return requests.get(
            self.server.url + path,
            params=parameters,
            headers={"Authorization": f"Bearer {self.server.token}"},
            timeout=60,
        )

    def document(self) -> dict[str, Any]:
        """Return the run as the server shows it; an empty one when it does not know it."""
        answer = self.get(rest.simulation(self.run))
        return {} if answer.status_code == 404 else dict(answer.json())

    def status(self) -> str | None:
        """Return the run's state on the server."""
        status: str | None = self.document().get("status")
        return status

    def stored(self) -> dict[str, dict[str, Any]]:
        """Return the stored files by path."""
        answer = self.get(f"{rest.simulation(self.run)}/artifacts")
        answer.raise_for_status()
        return {file["path"]: file for file in answer.json()["data"]}

    def digests(self, paths: list[str]) -> dict[str, str]:
        """Fetch files over HTTP; return the SHA-256 of each."""
        if len(paths) <= MANY:
            return {path: _digest(self.get(rest.artifact(self.run, path))) for path in paths}
        answer = self.get(f"{rest.simulation(self.run)}/archive")
        answer.raise_for_status()
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            names = set(archive.namelist())
            return {
                path: hashlib.sha256(archive.read(path)).hexdigest()
                for path in paths
                if path in names
            }

    # -- the comparison ------------------------------------------------------------------------

    def local(self) -> dict[str, str]:
        """Return the files that main.py and the runner left: artifact path -> SHA-256."""
        found = {}
        for top in ("outputs", "metadata"):
            for folder, _, names in os.walk(self.work / top):
                for name in names:
                    path = Path(folder) / name
                    if self._is_sent(path):
                        relative = path.relative_to(self.work).as_posix()
                        found[artifact_path(relative)] = _file_digest(path)
        return found

    def _is_sent(self, path: Path) -> bool:
        """A file, or a link to a file of outputs/."""
        if not path.is_symlink():
            return stat.S_ISREG(path.lstat().st_mode)
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # it leads nowhere, or round in a circle
            return False
        return target.is_file() and target.is_relative_to(self.work / "outputs")

    def missing(self) -> list[str]:
        """Say what of the local files is not on the server, sealed and equal."""
        local, stored = self.local(), self.stored()
        problems = []
        for path in sorted(local):
            file = stored.get(path)
            if file is None:
                problems.append(f"{path}: not there")
            elif not file["sealed"]:
                problems.append(f"{path}: not sealed")
            elif file["sha256"] != local[path]:
                problems.append(f"{path}: sealed with another SHA-256")
        fetched = self.digests([path for path in local if path in stored])
        problems += [
            f"{path}: other bytes come back"
            for path, digest in fetched.items()
            if digest != local[path]
        ]
        return problems

    def whole(self, *paths: str, status: str | None = "completed") -> None:
        """Fail unless everything is on the server, *paths* among it, and the run is *status*."""
        problems = self.missing()
        assert not problems, "\n".join(problems[:20])
        more = {path for path in self.stored() if not path.startswith("metadata/")}
        more -= set(self.local())
        assert not more, f"the server has files that are not here: {sorted(more)[:20]}"
        absent = set(paths) - set(self.local())
        assert not absent, f"main.py's files are gone: {absent}"
        if status is not None:
            assert self.status() == status, self.document()


def _digest(answer: requests.Response) -> str:
    answer.raise_for_status()
    return hashlib.sha256(answer.content).hexdigest()


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
