"""
Runs in the words of the PhysicsWorks wire.

Promises:

- ``{simulation}`` names what is run: a run (its model, parameters and inputs), a model's id, or a
  model's name. With an attempt's token it is that token's run, whatever the path says.
- With a user's token each creation is a new run, attempt 1 of which is leased to the caller.
- ``finished`` ends a run only at 100 percent: the published runner also sends it for each step of
  main.py's own status file. What a main.py says never ends its run; its runner does.

It holds no rule of its own: what may follow what, and who may say so, the services decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from physicsrunner.core.run import InputFile, NewRun, RunRecord
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import Conflict, InvalidRequest, LeaseLost, NotFound, PhysicsRunnerError
from physicsrunner.server.doors.physicsworks import book as books
from physicsrunner.server.doors.physicsworks.files import DoorFiles, Place
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.codec import check_depth
from physicsrunner.wire.messages import Failure, HeldLease, Renewals, Report, Result
from physicsrunner.wire.physicsworks import ABORTED_LABEL, STATUS_OF, STATUSES

#: As whom a user's run is leased; the wire does not say which machine it is.
AGENT: Final = "physicsworks"
DOOR: Final = "physicsworks"
#: What the zip for people holds where the run's configuration does not say: all that main.py left
#: and that this wire would not send by itself.
DOWNLOADABLE: Final = {"basic": {"outputs": {"files": True, "graphics": True, "results.csv": True}}}


@dataclass(frozen=True)
class Template:
    """What a simulation of this wire is with us."""

    id: str
    name: str
    model: str | None
    version: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    project: str | None = None


class DoorRuns:
    """Creates, reads and changes runs for callers of this wire."""

    def __init__(
        self, services: Services, files: DoorFiles, *, flatten: Callable[[Any], list[Any]]
    ) -> None:
        self._services = services
        self._files = files
        self._flatten = flatten

    # -- what to run -----------------------------------------------------------------------------

    def template(self, identity: Identity, simulation: str) -> Template:
        """Return what *simulation* means to this caller."""
        if identity.kind == "attempt":
            return _of_run(self._services.runs.get(identity, identity.run or ""))
        try:
            return _of_run(self._services.runs.get(identity, simulation))
        except (NotFound, InvalidRequest):
            pass
        for model in self._services.models.list(identity):
            if simulation in (model.id, model.name):
                return Template(model.id, model.name, model.id, model.version)
        raise NotFound(f"there is no run and no model {simulation!r}")

    def run_data(self, identity: Identity, simulation: str) -> dict[str, Any]:
        """Return what a runner needs to begin."""
        found = self.template(identity, simulation)
        given = found.configuration.get("physicsworks")
        given = given if isinstance(given, Mapping) else {}
        meshes, others = _split(found.inputs)
        scripts = f"scripts-{found.model}-{found.version}.zip" if found.model else None
        return {
            "simulation": {
                "id": simulation,
                "name": found.name,
                "tree": given.get("tree") or {},
                "meshes": [
                    {"id": _stem(item.path), "rawMeshFile": f"{item.sha256}.{_ending(item.path)}"}
                    for item in meshes
                ],
            },
            "materials": given.get("materials") or [],
            "inputs": self._flatten(found.parameters),
            "physicsFeature": {
                "config": {"downloadable": DOWNLOADABLE, **(given.get("config") or {})},
                "inputs": f"inputs-{simulation}.zip" if others else None,
                "scripts": scripts,
            },
        }

    def archive(self, identity: Identity, simulation: str) -> list[InputFile]:
        """Return the files that the inputs archive of *simulation* holds."""
        return _split(self.template(identity, simulation).inputs)[1]

    def create(self, identity: Identity, simulation: str) -> dict[str, Any]:
        """Return the run of the caller's attempt, or make a new one that the caller carries out."""
        if identity.kind == "attempt":
            run = self._services.runs.get(identity, identity.run or "")
        else:
            wanted = _request(self.template(identity, simulation))
            run = self._services.runs.claim(identity, wanted, AGENT)[0]
        if not _is_ours(run):
            self._files.note(self.place(identity, run.id), {"runner": True})
        return self.document(identity, run.id)

    # -- one run ---------------------------------------------------------------------------------

    def place(self, identity: Identity, run: str) -> Place:
        """Return the attempt that this caller means by *run*."""
        if identity.kind == "attempt":
            # A script may name its job where the run belongs; the token knows better.
            return Place(identity, identity.run or "", identity.attempt or 0)
        record = self._services.runs.get(identity, run)
        return Place(identity, record.id, record.attempt)

    def document(self, identity: Identity, run: str) -> dict[str, Any]:
        """Return the run document."""
        place = self.place(identity, run)
        record = self._services.runs.get(identity, place.run)
        kept = self._files.fields(place) if record.attempt else {}
        label = ABORTED_LABEL if record.status is RunState.CANCELLED else record.label
        return {
            **{kind: [] for kind in (*books.LISTED, "graphics", books.RESULT)},
            **kept,
            "id": record.id,
            "_id": record.id,
            "name": record.name,
            "status": STATUS_OF[record.status],
            "progress": record.progress_percent,
            "statusLabel": label or record.error_message or "",
            "results": record.results or kept.get("results", []),
            "simulation": record.model_id,
            "project": record.project_id,
            "abort": record.cancel_requested,
            "createdAt": record.created_at,
            "updatedAt": record.updated_at,
        }

    def node(self, identity: Identity, run: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take how far a main.py says it is; the run's end is its runner's to say."""
        node = body.get("node")
        if not isinstance(node, Mapping):
            raise InvalidRequest("the body has no object 'node'")
        said = _Status.of(node)
        place = self.place(identity, run)
        self._report(place, progress=said.progress, label=said.label)
        return self.document(identity, run)

    def patch(self, identity: Identity, run: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change the parts of the run document that *body* names, and only these."""
        check_depth(body, "the body")
        place, said = self.place(identity, run), _Status.of(body)
        kept = {key: body[key] for key in books.KEPT if key in body and key != "results"}
        for kind in (*books.LISTED, "graphics", books.RESULT):
            if kind in kept:
                books.file_names(kept[kind])
        results = _results(body["results"]) if "results" in body else None
        if kept:
            self._files.keep(place, kept)
        if results is not None:
            run_now = self._services.runs.get(identity, place.run)
            if run_now.status not in TERMINAL:
                self._report(place, results=results)
            if run_now.status in TERMINAL or _is_ours(run_now):
                # Too late for the record, or our runner's own results may take their place.
                self._files.keep(place, {"results": body["results"]})
        if body.get("heartbeat"):
            held = Renewals([HeldLease(place.run, place.attempt)])
            self._services.leases.renew(identity, held)
        if said.said:
            self._status(place, said)
        return self.document(identity, run)

    # -- states ----------------------------------------------------------------------------------

    def _status(self, place: Place, said: _Status) -> None:
        state = said.state
        run = self._services.runs.get(place.identity, place.run)
        if _is_ours(run):
            state = None  # a main.py speaks here; how the run ends, its exit code says
        if state in TERMINAL:
            self._end(place, state, said)
            return
        running = state if run.status is RunState.PREPARING else None
        self._report(place, state=running, progress=said.progress, label=said.label)

    def _end(self, place: Place, state: RunState, said: _Status) -> None:
        """Seal what is there and end the run. What comes later is still taken."""
        if state is RunState.COMPLETED and self._state(place) is RunState.PREPARING:
            self._report(place, state=RunState.RUNNING)
        torn = self._files.seal_all(place)
        label = said.label
        if torn:
            label = f"{label or ''} (incomplete: {', '.join(torn)})".strip()
        error = None
        if state is not RunState.COMPLETED:
            code = "cancelled" if state is RunState.CANCELLED else "program_failed"
            error = Failure(code, said.label or "the runner reported an error")
        progress = said.progress if state is RunState.COMPLETED else None
        self._report(place, state=state, progress=progress, label=label, error=error)

    def _state(self, place: Place) -> RunState:
        return self._services.runs.get(place.identity, place.run).status

    def _ended(self, place: Place) -> bool:
        return self._state(place) in TERMINAL

    def _report(self, place: Place, **said: Any) -> None:
        """Report; a run that has ended hears no more, and that is no error."""
        answer = self._services.leases.report(
            place.identity, [Report(place.run, place.attempt, **said)]
        )[0]
        if answer.error is None or (answer.error != LeaseLost.code and self._ended(place)):
            return
        raise _refusal(answer.error, answer.detail, place)


@dataclass(frozen=True)
class _Status:
    """The status that a part of a run document says."""

    state: RunState | None = None
    progress: float | None = None
    label: str | None = None

    @property
    def said(self) -> bool:
        """Whether it says anything."""
        return not (self.state is None and self.progress is None and self.label is None)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> _Status:
        """Read status, progress and statusLabel."""
        status, progress, label = (body.get(k) for k in ("status", "progress", "statusLabel"))
        if status is not None and status not in STATUSES:
            raise InvalidRequest(f"status {status!r} is none of {', '.join(STATUSES)}")
        if progress is not None:
            if isinstance(progress, bool) or not isinstance(progress, (int, float)):
                raise InvalidRequest(f"progress {progress!r} is not a number")
            progress = float(min(100, max(0, progress)))
        if label is not None:
            label = str(label)
        return cls(_state_of(status, progress, label), progress, label)


def _state_of(status: str | None, progress: float | None, label: str | None) -> RunState | None:
    if status == "error":
        return RunState.CANCELLED if label == ABORTED_LABEL else RunState.FAILED
    if status == "finished" and (progress is None or progress >= 100.0):
        return RunState.COMPLETED
    return RunState.RUNNING if status in ("running", "finished") else None


def _is_ours(run: RunRecord) -> bool:
    """Say whether one of our own runners carries the run out: it alone names stages."""
    return run.stage is not None


def _refusal(code: str, detail: str | None, place: Place) -> PhysicsRunnerError:
    if code == LeaseLost.code:
        return LeaseLost(place.run, place.attempt)
    return Conflict(f"run {place.run}: {detail or code}")


def _results(entries: Any) -> list[Result]:
    if not isinstance(entries, list):
        raise InvalidRequest("results is a list of objects")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise InvalidRequest("each of results is an object with a name")
        kind = entry.get("type")
        found.append(
            Result(
                name=entry["name"],
                value=entry.get("value"),
                type=kind if isinstance(kind, str) else "scalar",
                unit=entry["unit"] if isinstance(entry.get("unit"), str) else None,
            )
        )
    return found


def request_like(run: RunRecord) -> NewRun:
    """Return a request for a run of what *run* was made of."""
    return _request(_of_run(run))


def _request(found: Template) -> NewRun:
    return NewRun(
        model_id=found.model,
        model_version=found.version,
        name=found.name,
        parameters=dict(found.parameters),
        configuration=dict(found.configuration),
        project_id=found.project,
        inputs=list(found.inputs),
        door=DOOR,
    )


def _of_run(run: RunRecord) -> Template:
    return Template(
        id=run.id,
        name=run.name,
        model=run.model_id,
        version=run.model_version,
        parameters=run.parameters,
        configuration=run.configuration,
        inputs=tuple(_inputs(run)),
        project=run.project_id,
    )


def _inputs(run: RunRecord) -> Iterator[InputFile]:
    for item in run.inputs:
        yield InputFile(
            item["path"], item["sha256"], item.get("size", 0), item.get("extract", False)
        )


def _split(inputs: tuple[InputFile, ...]) -> tuple[list[InputFile], list[InputFile]]:
    """Return the meshes (they lie in ``raw/``) and the other files."""
    meshes = [item for item in inputs if item.path.startswith("raw/")]
    return meshes, [item for item in inputs if not item.path.startswith("raw/")]


def _stem(path: str) -> str:
    return path.removeprefix("raw/").rsplit(".", 1)[0].replace("/", "_")


def _ending(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[-1] if "." in name else "bin"
