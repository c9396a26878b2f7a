"""
Handing out attempts: what a lease changes in a run, and the grant that its holder is given.

Promises: a grant is made from the stored run alone, so that asking again gives the same one with a
fresh token. It decides nothing about who may ask.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.run import InputFile, RunRecord, RunSummary
from physicsrunner.core.state import RunEvent, next_state
from physicsrunner.service import asked, facts
from physicsrunner.service.access import AccessService
from physicsrunner.store.base import Change, Store
from physicsrunner.wire import rest
from physicsrunner.wire.messages import Bundle, LeaseGrant, Limits, RemoteInput


def lease_change(
    run: RunSummary, agent: str, now: float, terms: LeaseTerms, *, claimed: bool = False
) -> Change:
    """Return what changes when *agent* is given the next attempt of *run*."""
    fields: dict[str, Any] = {
        "status": next_state(run.status, RunEvent.LEASED),
        "attempt": run.attempt + 1,
        "agent": agent,
        "claimed": claimed,
        "confirmed": claimed,  # who claims is there; an agent may never have got the answer
        "deadline": terms.deadline(now),
        "token_issued": now,
        "unreachable": False,
        "not_before": None,
        "updated_at": now,
        "stage": None,
        "label": None,
        "progress_percent": 0.0,
        "eta_seconds": None,
        "exit_code": None,
        "error_code": None,
        "error_message": None,
    }
    leased = replace(run, **fields)
    return Change(
        run=fields,
        attempt={"agent": agent, "leased_at": now, "state": leased.status.value},
        events=[facts.allocated(leased, now)],
    )


class Grants:
    """Makes grants of runs."""

    def __init__(self, store: Store, access: AccessService, terms: LeaseTerms) -> None:
        self._store = store
        self._access = access
        self._terms = terms

    def grant(self, run: RunRecord, now: float) -> LeaseGrant:
        """Return all that a runner needs to carry out the run's present attempt."""
        agent = run.agent or ""
        return LeaseGrant(
            run=run.id,
            attempt=run.attempt,
            number=run.number,
            name=run.name,
            deadline=run.deadline if run.deadline is not None else now,
            renew_s=self._terms.renew_s,
            token=self._access.attempt_token(run.id, run.attempt, agent),
            bundle=self._bundle(run),
            inputs=[_remote(InputFile(**item)) for item in run.inputs],
            parameters=run.parameters,
            environment=asked.environment(run.configuration),
            limits=Limits(time_s=run.time_limit_s),
            project=run.project_id,
            model=run.model_id,
        )

    def _bundle(self, run: RunRecord) -> Bundle | None:
        if run.model_id is None or run.model_version is None:
            return None
        row = self._store.model(run.model_id, run.model_version)
        if row is None:
            return None
        return Bundle(
            model=row.id,
            version=row.version,
            size=row.size,
            sha256=row.sha256,
            url=f"{rest.MODELS}/{row.id}/versions/{row.version}/bundle",
        )


def _remote(item: InputFile) -> RemoteInput:
    return RemoteInput(
        path=item.path,
        size=item.size,
        sha256=item.sha256,
        url=f"{rest.UPLOADS}/{item.sha256}",
        extract=item.extract,
    )
