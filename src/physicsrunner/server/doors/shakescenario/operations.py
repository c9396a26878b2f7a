"""
What a client of the ShakeScenario door can ask for: one service call each, in that door's words.

Promises: synchronous, called in worker threads, and thread-safe; it keeps nothing, and holds no
rule: what may be done, and by whom, the services decide. A payload that cannot be taken raises
`InvalidRequest`.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from physicsrunner.core.run import MAX_LIMIT, NewRun, RunFilter, RunRecord, RunSummary
from physicsrunner.errors import InvalidRequest
from physicsrunner.server.bodies import dumps
from physicsrunner.server.doors.shakescenario import jobs
from physicsrunner.server.doors.words import states_of
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services
from physicsrunner.wire.messages import StoredFile

#: Operations, each a method here; ping, auth and wait are the door's own.
NAMES: Final = ("submit", "list", "get", "cancel", "delete", "reset", "download")
SCENARIO: Final = ("mag", "lon", "lat", "depth")
DEFAULT_LIMIT: Final = 100
CHUNK: Final = 4 * 1024 * 1024  # bytes of a file in one answer
MAX_CHUNK: Final = 8 * 1024 * 1024  # as base64 it fits into a frame
MAX_NUMBER: Final = 2**53

Payload = Mapping[str, Any]


class Operations:
    """The operations of the door, by their name on the wire."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table: Mapping[str, Callable[[Identity, Payload], Any]] = {
            name: getattr(self, name) for name in NAMES
        }

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def carry_out(self, name: str, who: Identity, payload: Payload) -> Any:
        """Return the result of one operation."""
        return self._table[name](who, payload)

    def found(self, who: Identity, payload: Payload) -> RunRecord:
        """Return the run of the job that *payload* names."""
        return self._services.runs.get(who, number_of(payload))

    def found_short(self, who: Identity, payload: Payload) -> RunSummary:
        """Return the same without its parameters and results, which can be large."""
        return self._services.runs.summary(who, number_of(payload))

    def shown(self, who: Identity, run: RunRecord) -> dict[str, Any]:
        """Return *run* as a job with all that is known of it."""
        return jobs.whole(run, self._services.files.list(who, run.id))

    def submit(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Queue a job of the model that the setting names."""
        scenario = {name: _finite(payload.get(name), name) for name in SCENARIO}
        named = self._services.packaged.model(who, self._services.options.shakescenario_model)
        wanted = NewRun(
            model_id=named.id,
            model_version=named.version,
            name="M {mag:g} at {lat:g}, {lon:g}".format(**scenario),
            parameters={**named.parameters, **payload},
            door=jobs.DOOR,
        )
        return self.shown(who, self._services.runs.create(who, wanted))

    def list(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Return a page of jobs, the newest first."""
        status = payload.get("status") or []
        status = [status] if isinstance(status, str) else status
        if not isinstance(status, list) or not all(isinstance(item, str) for item in status):
            raise InvalidRequest("status is a text, or a list of texts")
        page = self._services.runs.list(
            who,
            RunFilter(
                status=states_of(jobs.DOOR, status),
                door=None if _flag(payload, "all") else jobs.DOOR,
                limit=_whole(payload, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
                offset=_whole(payload, "offset", 0, 0, MAX_NUMBER),
            ),
        )
        return {"jobs": [jobs.short(run) for run in page.runs], "total": page.total}

    def get(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Return one job."""
        return self.shown(who, self.found(who, payload))

    def cancel(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Ask for a job to be stopped; return it as it is then."""
        return self.shown(who, self._services.runs.cancel(who, number_of(payload)))

    def delete(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Delete a job that has ended."""
        gone = self._services.runs.delete(who, number_of(payload))
        return {"id": gone.number, "deleted": True}

    def reset(self, who: Identity, payload: Payload) -> dict[str, Any]:  # noqa: ARG002 - one shape for all
        """Delete all jobs of this door that have ended and that the caller may delete."""
        deleted, kept = self._services.runs.delete_ended(who, jobs.DOOR)
        return {"deleted": deleted, "kept": kept}

    def download(self, who: Identity, payload: Payload) -> dict[str, Any]:
        """Return a piece of one artifact, or of one of the job's documents."""
        path = payload.get("path")
        if not isinstance(path, str) or not path:
            raise InvalidRequest("path is missing: get names the artifacts of a job")
        offset = _whole(payload, "offset", 0, 0, MAX_NUMBER)
        length = _whole(payload, "length", CHUNK, 1, MAX_CHUNK)
        if path in (jobs.META, jobs.MANIFEST):
            content = self.document(who, self.found(who, payload), path)
            stored = StoredFile(path, len(content), True, hashlib.sha256(content).hexdigest())
            piece = content[offset : offset + length]
        else:
            number, files = number_of(payload), self._services.files
            stored = files.stat(who, number, path)
            with files.path(who, number, path).open("rb") as source:
                source.seek(offset)
                # No more than its size was: one that grows is as long as it says here.
                piece = source.read(max(0, min(length, stored.size - offset)))
        data = base64.b64encode(piece).decode()
        known = {"path": path, "size": stored.size, "sha256": stored.sha256}
        return {**known, "offset": offset, "data": data}

    def document(self, who: Identity, run: RunRecord, name: str) -> bytes:
        """Return ``meta.json`` or ``result_manifest.json`` of a job."""
        job = self.shown(who, run)
        return dumps(jobs.meta(job, run.id) if name == jobs.META else jobs.manifest(job)) + b"\n"


def number_of(payload: Payload) -> int:
    """Return the job's number that *payload* names by ``id`` or ``job_id``."""
    found = payload.get("id", payload.get("job_id"))
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 17:
        found = int(found)
    if type(found) is not int or not 0 < found < MAX_NUMBER:
        raise InvalidRequest("id is missing or wrong: it is the whole number of a job")
    return found


def seconds_of(payload: Payload) -> float | None:
    """Return how long a client wants to wait; None: as long as it takes."""
    found = payload.get("timeout")
    if found is None:
        return None
    seconds = _finite(found, "timeout")
    if seconds < 0:
        raise InvalidRequest("timeout is a number of seconds, not under 0")
    return seconds


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f"{name} is missing or wrong: it is a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest(f"{name} is a number that ends")
    return number


def _whole(payload: Payload, name: str, default: int, least: int, most: int) -> int:
    found = payload.get(name)
    if found is None:
        return default
    if type(found) is not int or not least <= found <= most:
        raise InvalidRequest(f"{name} is a whole number from {least} to {most}")
    return found


def _flag(payload: Payload, name: str) -> bool:
    found = payload.get(name, False)
    if not isinstance(found, bool):
        raise InvalidRequest(f"{name} is true or false")
    return found
