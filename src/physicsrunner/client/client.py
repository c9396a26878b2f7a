"""
A server for people and their scripts: submit, look, wait, fetch.

Promises:

- Requests are tried again while the server does not answer (`client.asking`): a run is created
  under an id that is made on this side, so that asking twice makes one.
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

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from physicsrunner.client.accounts import AccountCalls
from physicsrunner.client.asking import Asking as Asking
from physicsrunner.client.asking import OnBytes as OnBytes
from physicsrunner.client.case import CaseFile, CaseFolder, digest, pack, read_case
from physicsrunner.client.options import RunOptions as RunOptions
from physicsrunner.client.queue import QueueCalls
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import NotFound, ServerUnavailable
from physicsrunner.wire import rest
from physicsrunner.wire.batch import MAX_RUNS

if TYPE_CHECKING:
    from physicsrunner.client.download import Downloaded, OnFile
    from physicsrunner.client.live import Feed
    from physicsrunner.client.logs import LogPiece

LOOK_S: Final = 0.5  #: between two looks at a run that is waited for


class Client(QueueCalls, AccountCalls):
    """One server, as one person sees it: `client.asking.Asking` says how it is made."""

    def __enter__(self) -> Client:  # noqa: PYI034 -- Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        options: RunOptions | None = None,
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
        options
            Priority, resources, limits, retries, environment, project, study: `RunOptions`.
        configuration
            More of ExecutionConfig in the words of the API, in place of what *options* say.
        run
            The run's id (UUIDv4); made here when left out.
        """
        found = case if isinstance(case, CaseFolder) else read_case(Path(case))
        values = found.parameters(parameters or {})
        request = self._request(found, name, tags, options, configuration, on_bytes)
        request |= {"id": run or str(uuid.uuid4()), "parameters": {"inputs": values}}
        return dict(self._value("POST", rest.SIMULATIONS, json=request))

    def submit_many(
        self,
        case: CaseFolder | Path | str,
        sets: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        options: RunOptions | None = None,
        configuration: Mapping[str, Any] | None = None,
        on_bytes: OnBytes | None = None,
    ) -> dict[str, Any]:
        """
        Queue one run of *case* for each set of parameters in *sets*, however many there are.

        Returns ``{count, ids, first, last, study?}``: *ids* in the order of *sets*, the lowest and
        the highest number. At most 10,000 are queued by one request, all of them or none.
        """
        found = case if isinstance(case, CaseFolder) else read_case(Path(case))
        values = [found.parameters(one) for one in sets]  # a wrong name: before anything is sent
        request = self._request(found, name, tags, options, configuration, on_bytes)
        answers = []
        for start in range(0, len(values), MAX_RUNS):
            part = [
                {"set_id": str(start + number), "parameters": one}
                for number, one in enumerate(values[start : start + MAX_RUNS], 1)
            ]
            base = {**request, "id": str(uuid.uuid4())}
            body = {"base_request": base, "parameter_variations": part}
            answers.append(self._value("POST", rest.BATCH, json=body))
        if not answers:
            return {"count": 0, "ids": []}
        return {
            **answers[0],
            "count": sum(answer["count"] for answer in answers),
            "first": min(answer["first"] for answer in answers),
            "last": max(answer["last"] for answer in answers),
            "ids": [run for answer in answers for run in answer["ids"]],
        }

    def _request(
        self,
        case: CaseFolder,
        name: str | None,
        tags: Sequence[str],
        options: RunOptions | None,
        configuration: Mapping[str, Any] | None,
        on_bytes: OnBytes | None,
    ) -> dict[str, Any]:
        """Send what a run of *case* needs; return the request without id and parameters."""
        options = options or RunOptions()
        model = self.upload_model(case, on_bytes)
        said = options.configuration()
        own = _configuration(case)
        variables = {
            **own.get("environment_variables", {}),
            **said.get("environment_variables", {}),
        }
        environment = {"environment_variables": variables} if variables else {}
        return {
            "model_id": model["id"],
            "model_version": model["version"],
            "name": name or case.name,
            "configuration": {**own, **said, **environment, **(configuration or {})},
            "tags": list(tags),
            "inputs": [self.upload_input(item, on_bytes) for item in case.inputs],
            **options.request(),
        }

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
            self.answered(lambda: self.http.request("HEAD", path))
        except NotFound:
            self._upload("PUT", path, file.path, on_bytes, {})
        return {"path": file.name, "sha256": sha256, "size": size}

    def list(self, **wanted: Any) -> dict[str, Any]:
        """
        Return ``{data: [summary], total, total_is_exact}``, the newest run first.

        Keywords are those of the API: ``status`` (a state or several), ``name`` (a part of it),
        ``tag``, ``project_id``, ``study_id``, ``model_id``, ``created_by``, ``agent``, ``limit``,
        ``offset``, ``sort``. Where ``total_is_exact`` is false there are at least so many.
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
