"""
Storage grants: an address each, by which one file can be fetched for some minutes.

Promises: who may read a file is given a grant for that file alone; its address works without a
header, in parts too, and says after its time that it has expired. What the file is called decides
nothing: it is looked up, never joined to a folder.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import Request, Response

from physicsrunner.errors import InvalidRequest, NotAuthenticated, NotFound
from physicsrunner.server.auth import origin_of
from physicsrunner.server.doors.physicsworks.api_documents import time_text
from physicsrunner.server.doors.physicsworks.api_simulations import Simulations
from physicsrunner.server.doors.physicsworks.files import DoorFiles
from physicsrunner.server.downloads import file_response
from physicsrunner.server.unpacking import Unpacking
from physicsrunner.service.access import Identity
from physicsrunner.service.cases import SavedCase
from physicsrunner.service.services import Services
from physicsrunner.service.tickets import LIFETIME_S, Issued, Member

#: Where granted files are fetched; the name is for people.
DOWNLOAD: Final = "/v1/storage/download/{name}"
_UNPACKED: Final = 2  # files of models that are unpacked at once


class Grants:
    """Gives grants and what they are for."""

    def __init__(self, services: Services, files: DoorFiles, simulations: Simulations) -> None:
        self._services = services
        self._files = files
        self._simulations = simulations
        self._unpacking = Unpacking(_UNPACKED)

    def of_run(
        self, identity: Identity, simulation: str, run: str, request: Request
    ) -> dict[str, Any]:
        """Return a grant for a file of a run."""
        record = self._simulations.run_of(identity, simulation, run)
        file = _file(request)
        place = self._simulations.place(identity, record)
        if place is None:
            raise NotFound(f"run {run} has no files yet: no runner has been given it")
        path = self._files.artifact(place, file)
        ticket = self._services.tickets.of_file(identity, record.id, path, place.attempt)
        return _grant(request, file, ticket)

    def of_simulation(
        self, identity: Identity, simulation: str, request: Request
    ) -> dict[str, Any]:
        """Return a grant for a file of a simulation's model."""
        found = self._simulations.find(identity, simulation)
        file = _file(request)
        if isinstance(found, SavedCase):
            model, version = found.row.id, found.row.version
        elif found.model_id is not None and found.model_version is not None:
            model, version = found.model_id, found.model_version
        else:
            raise NotFound(f"simulation {simulation} has no files: its program is its creator's")
        return _grant(
            request, file, self._services.tickets.of_model(identity, model, version, file)
        )

    def download(self, request: Request) -> Response:
        """Give the file of the grant in the address."""
        text = request.query_params.get("token", "")
        if not text:
            raise NotAuthenticated("the address has no grant; ask for one (files/download)")
        found = self._services.tickets.open(text, origin_of(request))
        if isinstance(found, Member):
            return self._unpacking.response(request, found)
        return file_response(request, found.local, name=found.path, sha256=found.sha256)


def _file(request: Request) -> str:
    file = request.query_params.get("file", "")
    if not file:
        raise InvalidRequest("the address has no file=NAME")
    return file


def _grant(request: Request, file: str, ticket: Issued) -> dict[str, Any]:
    here = request.url
    above = here.path.partition("/v1/")[0]
    path = DOWNLOAD.replace("{name}", quote(ticket.path.rsplit("/", 1)[-1], safe=""))
    query = urlencode({"token": ticket.text})
    return {
        "file": file,
        "token": ticket.text,
        "expiresAt": time_text(ticket.expires),
        "expiresIn": int(LIFETIME_S),
        "downloadUrl": f"{here.scheme}://{here.netloc}{above}{path}?{query}",
    }
