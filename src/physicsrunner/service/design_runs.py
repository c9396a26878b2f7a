"""
Runs of designs: started for somebody whom a client names, and listed by them.

Promises: a run keeps the design's id and the client's name for its user as tags, ``design:ID`` and
``user:ID``, so that lists show both without the heavy parts and find a user's runs along an index.
That name is the client's word and gives no right: a run belongs to the caller. The same id or
idempotency key, sent again, is the same run, also while the design service is away.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Final

from physicsrunner.core.run import RunFilter, RunSummary
from physicsrunner.errors import Conflict, NotFound, NotSetUp
from physicsrunner.service import asked
from physicsrunner.service.access import Identity
from physicsrunner.service.design_mapping import DesignMapping
from physicsrunner.service.designs import DesignService, checked_id
from physicsrunner.service.packaged import PackagedModels
from physicsrunner.service.runs import RunService
from physicsrunner.store.base import RunPage

DOOR: Final = "architech"
USER: Final = "user:"
DESIGN: Final = "design:"
MAX_KEY: Final = 255  #: characters of an idempotency key
_KEYS: Final = uuid.UUID("6d3d0f1c-5a0e-4a52-9d2b-0d8b6f0f3f8a")  # the space of run ids of keys


@dataclass(frozen=True)
class Start:
    """What a client asks for."""

    design_id: str
    user_id: str
    project_id: str | None = None  #: None: as the mapping says
    id: str | None = None  #: the run's id, made up by the client
    key: str | None = None  #: an idempotency key, in place of an id

    def run_id(self, identity: Identity) -> str | None:
        """Return the id of the run that this asks for, if a repeat is to be the same run."""
        if self.id is not None:
            return asked.run_id(self.id)
        if self.key is None:
            return None
        key = checked_key(self.key)
        # Of the caller: what others choose as keys is their own affair.
        return str(uuid.uuid5(_KEYS, f"{identity.subject}\n{key}"))


def checked_key(key: str) -> str:
    """Return an idempotency key that can be one, or raise `InvalidRequest`."""
    return checked_id("Idempotency-Key", key, longest=MAX_KEY)


class DesignRuns:
    """Starts and finds runs of designs. Thread-safe."""

    def __init__(
        self,
        runs: RunService,
        packaged: PackagedModels,
        designs: DesignService | None,
        mapping: DesignMapping,
        model: str | None,
    ) -> None:
        """*model* is the one to use where *mapping* names none."""
        self._runs = runs
        self._packaged = packaged
        self._designs = designs
        self._mapping = mapping
        self._model = mapping.model or model

    def start(self, identity: Identity, wanted: Start) -> RunSummary:
        """
        Fetch the design, make a run of it, and return the run; a repeat returns it as it is.

        Raises
        ------
        NoSuchDesign, NotFound
            If there is no such design, or no such model.
        DesignServiceAway, BadDesign
            If the design service does not answer, or not with a design.
        InvalidRequest
            If the request, or the design, cannot be made into a run.
        Conflict
            If the id or key was used for another design or user.
        NotSetUp
            If the operator has named no design service, or no model.
        """
        design_id = checked_id("design_id", wanted.design_id)
        user_id = checked_id("user_id", wanted.user_id)
        run = wanted.run_id(identity)
        present = None if run is None else self._present(identity, run)
        if present is None:
            present = self._made(identity, wanted, run)
        tags = {DESIGN + design_id, USER + user_id}
        if not tags <= set(present.tags):
            raise Conflict(f"run {present.id} was started for another design or user")
        return present

    def page(
        self, identity: Identity, wanted: RunFilter, user_id: str | None, *, every: bool
    ) -> RunPage:
        """Return a page of the runs that came by this door; with *every*, of all runs."""
        tag = None if user_id is None else USER + checked_id("user_id", user_id)
        door = None if every else DOOR
        return self._runs.list(identity, replace(wanted, tag=tag, door=door))

    def _present(self, identity: Identity, run: str) -> RunSummary | None:
        try:
            found = self._runs.get(identity, run)
        except NotFound:
            return None
        # Somebody else's: making it says why it cannot be had.
        return found if found.created_by == identity.subject else None

    def _made(self, identity: Identity, wanted: Start, run: str | None) -> RunSummary:
        if self._designs is None:
            raise NotSetUp("no design service is named: the setting architech_design_url")
        if self._model is None:
            raise NotSetUp("no model is named: 'model' in the mapping, or architech_model")
        design = self._designs.get(wanted.design_id)
        request = self._mapping.request(design, wanted.design_id, wanted.user_id)
        model = self._packaged.model(identity, self._model)
        request = replace(
            request,
            id=run,
            model_id=model.id,
            model_version=model.version,
            parameters={**model.parameters, **request.parameters},
            project_id=wanted.project_id or request.project_id,
            tags=[*request.tags, DESIGN + wanted.design_id, USER + wanted.user_id],
            door=DOOR,
        )
        return self._runs.create(identity, request)


def design_of(run: RunSummary) -> str | None:
    """Return the id of the design that *run* was made of; None if it was made of none."""
    return _tagged(run, DESIGN)


def user_of(run: RunSummary) -> str:
    """Return for whom *run* was started: the client's name for them, else who created it."""
    return _tagged(run, USER) or run.created_by


def _tagged(run: RunSummary, kind: str) -> str | None:
    # The last one: a retry keeps the tags, and a mapping cannot give any of these.
    found = [tag for tag in run.tags if tag.startswith(kind)]
    return found[-1].removeprefix(kind) if found else None
