"""
A server for people and their scripts: submit, look, wait, fetch.

Promises:

- Requests that may be sent twice are tried again while the server does not answer, for
  `patience_s` in all, with growing waits and no sooner than the server asks for. All requests
  here are such ones: a run is created under an id that is made on this side.
- `download` leaves whole files or none: a file is written beside its place, checked against its
  SHA-256 and then moved there. A cut download goes on where it was.
- Nothing is printed, and no setting is read.

Examples
--------
>>> client = Client("http://127.0.0.1:3011", token)                      # doctest: +SKIP
>>> run = client.submit("./case", {"viscosity": 0.01})                   # doctest: +SKIP
>>> client.wait(run["id"])["status"]                                     # doctest: +SKIP
'completed'
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

from physicsrunner.client.body import Body, FileSlice
from physicsrunner.client.case import CaseFile, CaseFolder, digest, pack, read_case
from physicsrunner.client.http import READ_S, Http
from physicsrunner.core.retry import Backoff
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import NotFound, ServerUnavailable
from physicsrunner.wire import rest

if TYPE_CHECKING:
    from physicsrunner.client.download import Downloaded, OnFile
    from physicsrunner.client.live import Feed
    from physicsrunner.client.logs import LogPiece

T = TypeVar("T")
#: Told of a transfer: bytes done, bytes in all, what is going on.
OnBytes = Callable[[int, int, str], None]

_SLOWEST_LINE: Final = 1e6  # bytes a second that an answer is waited for while a body goes up
LOOK_S: Final = 0.5  #: between two looks at a run that is waited for


class Client:
    """
    One server, as one person sees it. Calls may come from several threads.

    Parameters
    ----------
    url
        The server's address.
    token
        A user's token (``physicsrunner login`` keeps one; the server's first start makes one).
    patience_s
        Seconds for which a request is tried again while nobody answers.
    meet_s
        The same until the server has answered for the first time; None: `patience_s`.
    """

    def __init__(
        self,
        url: str = f"http://127.0.0.1:{rest.DEFAULT_PORT}",
        token: str | None = None,
        *,
        patience_s: float = 20.0,
        meet_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.http = Http(url, token)
        self.patience_s = patience_s
        self._meet_s = patience_s if meet_s is None else meet_s
        self._met = False
        self.now = now
        self.sleep = sleep
        self._backoff = Backoff(cap=5.0)

    @property
    def url(self) -> str:
        """The server's base address."""
        return self.http.base

    @property
    def token(self) -> str | None:
        """The token that requests carry."""
        return self.http.token

    def __enter__(self) -> Client:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release connections."""
        self.http.close()

    # -- the server --------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Return what the server says of itself: ``{status, version}``."""
        return dict(self._value("GET", "/health"))

    def whoami(self) -> dict[str, Any]:
        """Return whose token this is."""
        return dict(self._value("GET", rest.WHOAMI))

    def models(self) -> list[dict[str, Any]]:
        """Return the models that the server keeps."""
        return list(self._value("GET", rest.MODELS)["data"])

    # -- runs --------------------------------------------------------------------------------

    def submit(
        self,
        case: CaseFolder | Path | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        configuration: Mapping[str, Any] | None = None,
        on_bytes: OnBytes | None = None,
        run: str | None = None,
    ) -> dict[str, Any]:
        """
        Queue *case* and return its run document.

        Parameters
        ----------
        case
            A folder with a main.py, a zip of one, or what `read_case` returned.
        parameters
            Values in place of the case's defaults.
        configuration
            ExecutionConfig: ``timeout_minutes``, ``environment_variables``, ``priority``.
        run
            The run's id (UUIDv4); made here when left out.
        """
        found = case if isinstance(case, CaseFolder) else read_case(Path(case))
        values = found.parameters(parameters or {})
        model = self.upload_model(found, on_bytes)
        inputs = [self.upload_input(item, on_bytes) for item in found.inputs]
        request = {
            "id": run or str(uuid.uuid4()),
            "model_id": model["id"],
            "model_version": model["version"],
            "name": name or found.name,
            "parameters": {"inputs": values},
            "configuration": {**_configuration(found), **(configuration or {})},
            "tags": list(tags),
            "inputs": inputs,
        }
        return dict(self._value("POST", rest.SIMULATIONS, json=request))

    def upload_model(self, case: CaseFolder, on_bytes: OnBytes | None = None) -> dict[str, Any]:
        """Store the case's main.py and what belongs to it; return ``{id, version, ...}``."""
        with TemporaryDirectory(prefix="physicsrunner-") as folder:
            path = case.archive or Path(folder) / "model.zip"
            if case.archive is None:
                total, done = sum(file.path.stat().st_size for file in case.model), 0

                def packed(count: int) -> None:
                    nonlocal done
                    done += count
                    if on_bytes:
                        on_bytes(done, total, f"packing {case.name}")

                pack(case.model, path, packed)
            return dict(self._upload("POST", rest.MODELS, path, on_bytes, {"name": case.name}))

    def upload_input(self, file: CaseFile, on_bytes: OnBytes | None = None) -> dict[str, Any]:
        """Store one input, once for all runs; return it as a run names it."""
        sha256, size = digest(file.path), file.path.stat().st_size
        path = f"{rest.UPLOADS}/{sha256}"
        try:
            self.retry(lambda: self.http.request("HEAD", path))
        except NotFound:
            self._upload("PUT", path, file.path, on_bytes, {})
        return {"path": file.name, "sha256": sha256, "size": size}

    def list(self, **wanted: Any) -> dict[str, Any]:
        """
        Return ``{data: [summary], total}``, the newest run first.

        Keywords are those of the API: ``status`` (a state or several), ``name`` (a part of it),
        ``tag``, ``project_id``, ``limit``, ``offset``, ``sort``.
        """
        params = {key: value for key, value in wanted.items() if value is not None}
        return dict(self._value("GET", rest.SIMULATIONS, params=params))

    def get(self, run: str | int) -> dict[str, Any]:
        """Return the document of a run, by its id or number."""
        return dict(self._value("GET", rest.simulation(str(run))))

    def results(self, run: str | int) -> list_[dict[str, Any]]:
        """Return the results: ``[{name, value, type, unit?}]``."""
        return list(self._value("GET", f"{rest.simulation(str(run))}/results")["data"])

    def series(self, run: str | int, after_line: int = 0) -> tuple[list_[dict[str, Any]], int]:
        """Return points of the live series from line *after_line* on, and where to go on."""
        answer = self._value(
            "GET", f"{rest.simulation(str(run))}/series", params={"after_line": after_line}
        )
        return list(answer["data"]), int(answer["next_line"])

    def cancel(self, run: str | int) -> dict[str, Any]:
        """Ask a run to stop; return ``{id, status, cancel_requested}``."""
        return dict(self._value("POST", f"{rest.simulation(str(run))}/cancel"))

    def wait(
        self,
        run: str | int,
        timeout: float | None = None,
        on_status: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """
        Wait until a run has ended and return its document.

        A server that is away is waited for, as long as *timeout* (seconds) allows. Raises
        TimeoutError when the run has not ended by then; the run goes on.
        """
        deadline = None if timeout is None else self.now() + timeout
        while True:
            try:
                status = self._value("GET", f"{rest.simulation(str(run))}/status")
            except ServerUnavailable:
                if deadline is None or self.now() >= deadline:
                    raise
                status = {}
            if on_status and status:
                on_status(dict(status))
            if status and ended(status):
                return self.get(run)
            if deadline is not None and self.now() >= deadline:
                raise TimeoutError(f"run {run} has not ended within {timeout} s")
            self.sleep(LOOK_S)

    # -- what a run writes -------------------------------------------------------------------

    def logs(
        self,
        run: str | int,
        path: str = "logs/main.log",
        *,
        offset: int = 0,
        follow: bool = False,
    ) -> Iterator[LogPiece]:
        """
        Iterate over a log from byte *offset* on; with *follow* until the run has ended.

        A line that is cut is picked up again where it was.
        """
        from physicsrunner.client.logs import follow as follow_log
        from physicsrunner.client.logs import read

        return (follow_log if follow else read)(self, str(run), path, offset)

    def files(self, run: str | int, attempt: int | None = None) -> list_[dict[str, Any]]:
        """Return the files of a run: ``[{path, size, sealed, sha256}]``."""
        params = {} if attempt is None else {"attempt": attempt}
        answer = self._value("GET", f"{rest.simulation(str(run))}/artifacts", params=params)
        return list(answer["data"])

    def download(
        self,
        run: str | int,
        target: Path | str = ".",
        paths: Sequence[str] = (),
        *,
        jobs: int = 4,
        on_file: OnFile | None = None,
    ) -> list_[Downloaded]:
        """
        Fetch files of a run into the folder *target*.

        Parameters
        ----------
        paths
            Files, folders, or patterns such as ``*.vtu``; empty: all files.
        jobs
            How many files at once.
        on_file
            Told of progress: (bytes done, bytes in all, path).

        Raises
        ------
        NotFound
            If the run has no such file.
        DigestMismatch
            If what came twice is not what the server has sealed.
        """
        from physicsrunner.client.download import download

        return download(self, str(run), Path(target), paths, jobs=jobs, on_file=on_file)

    def feed(self, run: str, *, after: int | None = None) -> Feed:
        """Subscribe to the live events of the run with this id; see `client.live.Feed`."""
        from physicsrunner.client.live import Feed
        from physicsrunner.wire.live import run_room

        return Feed(self.url, self.token, run_room(run), after=after)

    # -- requests ----------------------------------------------------------------------------

    def _value(self, method: str, path: str, **kwargs: Any) -> Any:
        return self.retry(lambda: self.http.value(method, path, **kwargs))

    def _upload(
        self, method: str, url: str, path: Path, on_bytes: OnBytes | None, params: dict[str, str]
    ) -> Any:
        size = path.stat().st_size

        def pieces() -> Iterator[Any]:
            at = 0
            while at < size:
                count = min(4 << 20, size - at)
                yield FileSlice(path, at, count)
                at += count
                if on_bytes:
                    on_bytes(at, size, f"sending {path.name}")

        return self._value(
            method,
            url,
            params=params,
            body=Body(pieces, size),
            headers={"Content-Type": "application/octet-stream"},
            read_s=READ_S + size / _SLOWEST_LINE,
        )

    def retry(self, call: Callable[[], T]) -> T:
        """Make *call* until it is answered, for `patience_s` at most. It must be repeatable."""
        start, tries = self.now(), 0
        while True:
            try:
                answer = call()
                self._met = True
                return answer
            except ServerUnavailable as error:
                tries += 1
                patience = self.patience_s if self._met else self._meet_s
                asked = getattr(error, "retry_after", None)
                wait = self._backoff.wait(tries, random=random.random, retry_after=asked)
                if self.now() - start + wait > patience:
                    raise
                self.sleep(wait)


# The method `Client.list` hides the type inside the class.
list_ = list


def ended(run: Mapping[str, Any]) -> bool:
    """Say whether a run document (or its status) tells of an end."""
    return RunState(run["status"]) in TERMINAL


def _configuration(case: CaseFolder) -> dict[str, Any]:
    """Return what a case file says of how it is run, in the words of the API."""
    found: dict[str, Any] = {}
    limits = case.document.limits
    if limits is not None and limits.time_s is not None:
        found["timeout_minutes"] = limits.time_s / 60.0
    if case.document.environment:
        found["environment_variables"] = dict(case.document.environment)
    return found
