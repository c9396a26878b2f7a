"""
`PhysicsWorksUplink`: our runner against a server that speaks only the PhysicsWorks wire.

Promises (those of `client.uplink`, and):

- Nothing is sent twice into one stored file and nothing is left out. ``storage/append`` has no
  offset, so when its answer is lost the file begins anew under a fresh stored name and the run
  document names that one; ``storage/chunks`` has an index, so its chunks are simply sent again.
- A file is called sealed only when every byte of it was answered with success and the SHA-256 of
  what was sent is the one that the caller named.
- The arrays of the run document (logs, plots, media, downloadables, graphics) are sent after the
  bytes they name, and before a final status.

One uplink serves one run. That wire knows no attempts: the run's only attempt is 1.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from physicsrunner.client.physicsworks_files import KINDS, SentFiles
from physicsrunner.client.physicsworks_http import PhysicsWorksHttp
from physicsrunner.client.physicsworks_run import (
    LEASE_S,
    PhysicsWorksTarget,
    documents,
    grant,
    mapping,
)
from physicsrunner.client.physicsworks_sender import Sender
from physicsrunner.client.uplink import Outgoing
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import InvalidRequest, PhysicsRunnerError, ServerUnavailable
from physicsrunner.wire import physicsworks as wire
from physicsrunner.wire.messages import (
    BlockHashes,
    HeldLease,
    LeaseGrant,
    RenewalAnswer,
    Report,
    ReportAnswer,
    Result,
    StoredFile,
    SyncResult,
)

__all__ = ["PhysicsWorksTarget", "PhysicsWorksUplink", "abort_requested"]


def abort_requested(config: Path) -> bool:
    """
    Say whether *config* (config.json) asks the runner to stop: a truthy ``abort`` in it.

    A file that is missing or half written asks for nothing; look again at its next change.
    """
    try:
        document = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, Mapping) and bool(document.get("abort"))


class PhysicsWorksUplink:
    """
    One run on one PhysicsWorks server.

    Parameters
    ----------
    host, token
        As in config.json.
    ledger
        Where to remember over a restart what is sealed; None: nowhere.
    now
        The clock, POSIX seconds (for the lease's deadline, which is ours alone).
    """

    #: Operations that `send` carries out; a rewrite starts the file anew.
    operations: frozenset[str] = frozenset({"append", "truncate", "seal", "remove"})

    def __init__(
        self,
        host: str,
        token: str,
        target: PhysicsWorksTarget,
        *,
        now: Callable[[], float],
        ledger: Path | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self.target = target
        self.resource: dict[str, str] | None = None  #: {id, name}, to be written to config.json
        self._http = PhysicsWorksHttp(host, token, session)
        self._token = token
        self._now = now
        self._sent = SentFiles(ledger)
        self._naming = threading.Lock()  # the arrays go one after the other, the newest last
        self._run = target.run
        self._data: dict[str, Any] = {}
        self._sender = Sender(self._http, self._sent, self._metadata)
        self._status = {"status": "running", "progress": 0.0, "statusLabel": ""}
        if target.run:
            self._sender.changed.update(kind for kind in KINDS if self._sent.entries(kind))

    # -- what to do ------------------------------------------------------------------------------

    def attempt(self, run: str, attempt: int) -> LeaseGrant:  # noqa: ARG002 - the wire names none
        """
        Read what the simulation is and create the run (once), as this wire does.

        The arguments are those of the native wire and mean nothing here; the answer names the run.
        """
        target = self.target
        path = wire.run_data(quote(target.project, safe=""), quote(target.simulation, safe=""))
        self._data = self._http.document("GET", path)
        simulation = self._data.get("simulation")
        if not isinstance(simulation, Mapping):
            raise InvalidRequest(f"{self._http.host}{path} names no simulation")
        name = str(simulation.get("name") or target.simulation)
        if self._run is None:
            created = self._http.document(
                "PUT", wire.run_update(quote(target.simulation, safe="")), json={}
            )
            known = created.get("id") or created.get("_id")
            if not known:
                raise InvalidRequest("the server made a run and did not say its id")
            self._run = str(known)
            name = str(created.get("name") or name)
        self.resource = {"id": self._run, "name": name}
        return grant(
            self._data, target, run=self._run, name=name, token=self._token, now=self._now()
        )

    def documents(self) -> dict[str, Any]:
        """Return the JSON files of ``inputs/``, by name. Call `attempt` first."""
        return documents(self._data)

    def fetch(self, url: str, *, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """Open the file at *url* from byte *offset* on; iterate over its bytes."""
        return self._http.stream(url, offset)

    # -- files -----------------------------------------------------------------------------------

    def files(self, run: str, attempt: int) -> Mapping[str, StoredFile]:  # noqa: ARG002
        """Return what is known to be stored, by path."""
        return {
            file.path: StoredFile(file.path, file.offset, file.sealed is not None, file.sealed)
            for file in self._sent.all()
            if file.created or file.offset or file.sealed
        }

    def blocks(self, run: str, attempt: int, path: str, block_size: int) -> BlockHashes:  # noqa: ARG002
        """Return no hashes: on this wire a file in doubt is sent anew."""
        file = self._sent.get(path)
        with file.lock:
            file.restart()
        return BlockHashes(path, 0, block_size, [])

    def send(self, batch: Sequence[Outgoing]) -> Sequence[SyncResult]:
        """Carry out the operations in order; then name new files in the run document."""
        try:
            return [self._sender.apply(item) for item in batch]
        finally:
            # Live viewers see new files now; if this fails, the next report tries again.
            self._try_arrays()

    # -- the run document ------------------------------------------------------------------------

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        """Say what became of the run; before its end, name all its files."""
        return [self._report(report) for report in reports]

    def _report(self, report: Report) -> ReportAnswer:
        ends = report.state in TERMINAL
        if report.state is RunState.COMPLETED and (open_ := self._open()):
            return ReportAnswer(
                report.run, report.attempt, error="not_sealed", unsealed=open_[:1000]
            )
        if ends:
            self._arrays()
        else:
            self._try_arrays()
        fields: dict[str, Any] = {}
        if report.results is not None:
            fields["results"] = [_result(result) for result in report.results]
        said = (report.state, report.progress, report.label)
        if any(part is not None for part in said):
            self._status = _status(self._status, report)
            fields.update(self._status)
        try:
            if fields:
                self._patch(fields)
        except ServerUnavailable:
            raise
        except PhysicsRunnerError as error:
            return ReportAnswer(report.run, report.attempt, error=error.code, detail=str(error))
        return ReportAnswer(report.run, report.attempt, state=report.state)

    def renew(self, leases: Sequence[HeldLease]) -> Sequence[RenewalAnswer]:
        """
        Send the heartbeat.

        The wire has no commands (a person's abort comes through config.json), but its answer is
        the run document, and a server may say ``abort`` in it.
        """
        try:
            stop = _asks_to_stop(self._patch({"heartbeat": True}))
        except ServerUnavailable:
            raise
        except PhysicsRunnerError as error:
            return [RenewalAnswer(lease.run, lease.attempt, error=error.code) for lease in leases]
        return [
            RenewalAnswer(
                lease.run,
                lease.attempt,
                deadline=self._now() + LEASE_S,
                renew_s=wire.HEARTBEAT_S,
                commands=["cancel"] if stop else [],
            )
            for lease in leases
        ]

    def _open(self) -> list[str]:
        return [
            file.path
            for file in self._sent.all()
            if file.sealed is None and (file.created or file.offset)
        ]

    def _arrays(self) -> None:
        """Send the arrays that changed."""
        changed = self._sender.changed
        with self._naming:
            kinds = [kind for kind in KINDS if kind in changed]
            # Taken out first: what changes while they are on their way is for the next time.
            changed.difference_update(kinds)
            fields: dict[str, Any] = {kind: self._sent.entries(kind) for kind in kinds}
            if not fields.get("graphics", True):
                del fields["graphics"]  # an empty one says nothing, and others may have filled it
            if not fields or self._run is None:
                return
            try:
                self._patch(fields)
            except PhysicsRunnerError:
                changed.update(kinds)
                raise

    def _try_arrays(self) -> None:
        try:
            self._arrays()
        except PhysicsRunnerError:
            return  # they are remembered; the final report insists

    def _patch(self, fields: Mapping[str, Any]) -> requests.Response:
        if self._run is None:
            raise InvalidRequest("there is no run yet: call attempt first")
        path = wire.run_patch(quote(self._run, safe=""))
        return self._http.call("PUT", path, json=dict(fields))

    def _metadata(self, name: str) -> dict[str, Any]:
        return {
            "project": self.target.project,
            "owner": self.target.owner,
            "originalname": name,
            "resource": self._run,
            "resourceKind": "Run",
            "simulation": self.target.simulation,
        }

    def set_token(self, token: str) -> None:
        """Use *token* from now on."""
        self._token = token
        self._http.set_token(token)

    def close(self) -> None:
        """Release connections."""
        self._http.close()


def _asks_to_stop(answer: requests.Response) -> bool:
    try:
        return mapping(answer.json()).get("abort") is True
    except ValueError:
        return False  # it answered with something else than the run document


def _status(last: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Return the status fields that *report* means, given those sent *last*."""
    fields = dict(last)
    if report.state is not None:
        fields["status"] = wire.STATUS_OF[report.state]
    if report.progress is not None:
        fields["progress"] = round(report.progress, 2)
    if report.label is not None:
        fields["statusLabel"] = report.label
    if report.state is RunState.COMPLETED:
        fields.update(progress=100, statusLabel=report.label or wire.FINISHED_LABEL)
    elif report.state is RunState.CANCELLED:
        fields["statusLabel"] = wire.ABORTED_LABEL
    elif report.state in TERMINAL and report.error is not None:
        fields["statusLabel"] = report.error.message
    return fields


def _result(result: Result) -> dict[str, Any]:
    if isinstance(result.value, bool):
        return {"name": result.name, "type": "boolean", "value": result.value}
    if isinstance(result.value, (int, float)) and math.isfinite(result.value):
        return {"name": result.name, "type": "scalar", "value": result.value}
    # JSON has no inf and nan; they travel as text, like lists and objects.
    text = result.value if isinstance(result.value, str) else json.dumps(result.value)
    return {"name": result.name, "type": "ascii", "value": text}
