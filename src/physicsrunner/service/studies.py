"""
Studies: runs that belong together, and how many of them may run at once.

Promises: a study's id is its idempotency key; what the caller may not read is not there for them;
how its runs stand comes from counters, however many runs it has. The runs of a door that carries
out only so many at once are a study of that door's, which everybody who comes by it joins.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

from physicsrunner.core.run import NewStudy
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from physicsrunner.service import asked
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.names import title_of
from physicsrunner.store.base import Store, StudyFilter, StudyRow
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

#: In place of a person who created a study.
SERVER: Final = "physicsrunner"

_EVERY: Final = StudyFilter()
Documents = list[dict[str, Any]]  # inside the class, `list` is the method


class StudyService:
    """What people ask of studies. Thread-safe."""

    def __init__(self, store: Store, access: AccessService, *, now: Callable[[], float]) -> None:
        self._store = store
        self._access = access
        self._now = now
        self._of_doors: dict[str, StudyRow] = {}  # they are never removed, and of no project

    def create(self, identity: Identity, wanted: NewStudy) -> dict[str, Any]:
        """Make a study and return its document; the same id again returns it as it is."""
        return self._document(self.kept(identity, wanted))

    def kept(self, identity: Identity, wanted: NewStudy) -> StudyRow:
        """
        Return the study of that id, made where there is none.

        Raises
        ------
        NotAllowed
            If the caller may not make one in its project, or it is another person's.
        Conflict
            If it is another person's, and the caller may not read it.
        """
        self._access.require_new(identity, "studies:create", wanted.project_id)
        limit = wanted.max_concurrent_runs
        if limit is not None and limit < 1:
            raise InvalidRequest(f"max_concurrent_runs {limit}: it is 1 or more")
        row = StudyRow(
            id=str(uuid.uuid4()) if wanted.id is None else asked.run_id(wanted.id),
            name=title_of(wanted.name),
            created_by=identity.subject,
            created_at=self._now(),
            project_id=wanted.project_id,
            max_concurrent_runs=limit,
        )
        found = self._store.add_study(row, _created(row), by=identity.actor)
        if (found.created_by, found.project_id) != (row.created_by, row.project_id):
            if not self._may_read(identity, found):  # what has that id they are not told
                raise Conflict(f"the id {found.id} cannot be used; make up another one")
            raise NotAllowed(f"study {found.id} was created by somebody else")
        return found

    def keep_of_door(self, door: str, cap: int) -> None:
        """Have the study of all runs that come by *door*, of which *cap* may run at once."""
        name = f"runs by the door {door}"
        row = StudyRow(of_door(door), name, SERVER, self._now(), None, cap)
        found = self._store.add_study(row, _created(row))
        if found.max_concurrent_runs != cap:
            self._store.cap_study(row.id, cap, replace(_created(row), type=live.STUDY_CHANGED))
        self._of_doors[row.id] = row

    def joined(
        self, identity: Identity, study: str, project: str | None, door: str | None = None
    ) -> StudyRow:
        """Return the study that a new run of *project*, which came by *door*, joins, or raise."""
        if door is not None and study == of_door(door) and study in self._of_doors:
            return self._of_doors[study]
        found = self._visible(identity, study)
        if found.project_id != project:
            raise InvalidRequest(f"study {study} is not in the project of the run")
        if not self._access.may_see(identity, "studies:update", project, found.created_by):
            raise NotAllowed(f"{identity} has no permission studies:update for study {study}")
        return found

    def get(self, identity: Identity, study: str) -> dict[str, Any]:
        """Return a study's document, with how many of its runs are in which state."""
        return self._document(self._visible(identity, study))

    def list(self, identity: Identity, wanted: StudyFilter = _EVERY) -> Documents:
        """Return a page of the studies that the caller may read and *wanted* describes."""
        self._access.require(identity, "studies:read")
        if wanted.name is not None:
            wanted = replace(wanted, name=title_of(wanted.name))  # as it was kept
        seen = self._access.visible(identity, "studies:read")
        if seen is not None:
            wanted = replace(wanted, projects=seen.projects, creator=seen.creator)
        return [self._document(row) for row in self._store.studies(wanted)]

    def _visible(self, identity: Identity, study: str) -> StudyRow:
        found = self._store.study(study)
        if found is None or not self._may_read(identity, found):
            raise NotFound(f"there is no study {study}")
        return found

    def _may_read(self, identity: Identity, row: StudyRow) -> bool:
        return self._access.may_see(identity, "studies:read", row.project_id, row.created_by)

    def _document(self, row: StudyRow) -> dict[str, Any]:
        counts = self._store.counts("study", row.id)
        return {
            **{name: value for name, value in asdict(row).items() if value is not None},
            "counts": {state.value: number for state, number in counts.items() if number},
        }


def of_door(door: str) -> str:
    """Return the id of the study of all runs that come by *door*."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:physicsrunner:door:{door}"))


def _created(row: StudyRow) -> Event:
    data = {"study_id": row.id, "name": row.name, "max_concurrent_runs": row.max_concurrent_runs}
    return Event(live.STUDY_CREATED, None, None, row.project_id, row.created_at, data)
