"""
Handing out attempts: what a lease changes in a run, and the grant that its holder is given.

Promises: a grant is made from the stored run alone, so that asking again gives the same one with a
fresh token. It decides nothing about who may ask. `lease_change` and `kept_change` are pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from physicsrunner.core.lease import LeaseTerms, stops_when_lost
from physicsrunner.core.run import InputFile, RunRecord, RunSummary, altered
from physicsrunner.core.state import RunEvent, RunState, next_state
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.service import asked, facts
from physicsrunner.service.access import AccessService
from physicsrunner.service.endings import over
from physicsrunner.service.secrets import Safe
from physicsrunner.store.base import Change, Store
from physicsrunner.wire import live, rest
from physicsrunner.wire.messages import Bundle, LeaseGrant, Limits, RemoteInput, Resources

_BUNDLES: Final = 1000  # remembered


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
        "started_at": None,
        "stage": None,
        "label": None,
        "progress_percent": 0.0,
        "eta_seconds": None,
        "exit_code": None,
        "error_code": None,
        "error_message": None,
        "silent": False,
        "result_count": 0,
    }
    leased = altered(run, fields)
    return Change(
        run=fields,
        attempt={"agent": agent, "leased_at": now, "state": leased.status.value},
        events=[facts.allocated(leased, now)],
    )


def kept_change(run: RunSummary, now: float, terms: LeaseTerms) -> Change:
    """Return what changes because the holder of *run* was heard of."""
    fields = {
        "deadline": terms.deadline(now),
        "confirmed": True,
        "unreachable": False,
        "updated_at": now,
    }
    if not run.unreachable:
        return Change(run=fields)
    back = altered(run, {"unreachable": False})
    return Change(fields, events=[facts.event(back, live.REACHABLE, now, agent=run.agent)])


class Grants:
    """Makes grants of runs. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        safe: Safe,
        terms: LeaseTerms,
        *,
        on_grant: Callable[[RunRecord], None],
    ) -> None:
        self._store = store
        self._on_grant = on_grant  # told of runs that an agent is given, while they are at hand
        self._access = access
        self._safe = safe
        self._terms = terms
        # A version of a model never changes: what was read once holds.
        self._bundles: dict[tuple[str, str], Bundle] = {}

    def grant_all(self, runs: Sequence[str], now: float) -> list[LeaseGrant]:
        """
        Return the grants of *runs*, in their order, read at once.

        One that cannot be made (its secrets were sealed with another key) ends its run, so that it
        does not keep its agent from all others.
        """
        if not runs:
            return []
        records = self._store.records(runs)
        grants: list[LeaseGrant] = []
        for record in (records[run] for run in runs if run in records):
            try:
                grants.append(self.grant(record, now))
                self._on_grant(record)
            except PhysicsRunnerError as error:
                self._fail(record, error, now)
        return grants

    def _fail(self, run: RunRecord, error: PhysicsRunnerError, now: float) -> None:
        why = {"error_code": error.code, "error_message": str(error)}

        def decide(present: RunSummary) -> Change | None:
            if present.status is not RunState.PREPARING or present.attempt != run.attempt:
                return None
            return over(present, RunEvent.FAILED, now, why=why)

        self._store.change([(run.id, decide)])

    def grant(self, run: RunRecord, now: float) -> LeaseGrant:
        """Return all that a runner needs to carry out the run's present attempt."""
        agent = run.agent or ""
        secrets = self._secrets(run)
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
            environment={**asked.environment(run.configuration), **secrets},
            secrets=sorted(secrets),
            limits=Limits(
                time_s=run.time_limit_s,
                silence_s=run.silence_limit_s,
                stop_when_silent=run.stop_when_silent,
            ),
            project=run.project_id,
            model=run.model_id,
            resources=Resources(run.cpu_cores, run.memory_gb, run.gpu_count, run.storage_gb),
            stop_when_lost=stops_when_lost(run),
        )

    def _secrets(self, run: RunRecord) -> dict[str, str]:
        if not asked.secret_names(run.configuration):
            return {}
        sealed = self._store.secrets(run.id)
        if sealed is None:
            return {}
        found: dict[str, str] = json.loads(self._safe.open(sealed))
        return found

    def _bundle(self, run: RunRecord) -> Bundle | None:
        if run.model_id is None or run.model_version is None:
            return None
        key = run.model_id, run.model_version
        known = self._bundles.get(key)
        if known is not None:
            return known
        row = self._store.model(*key)
        if row is None:
            return None
        if len(self._bundles) >= _BUNDLES:
            self._bundles.clear()
        self._bundles[key] = bundle = Bundle(
            model=row.id,
            version=row.version,
            size=row.size,
            sha256=row.sha256,
            url=f"{rest.MODELS}/{row.id}/versions/{row.version}/bundle",
        )
        return bundle


def _remote(item: InputFile) -> RemoteInput:
    return RemoteInput(
        path=item.path,
        size=item.size,
        sha256=item.sha256,
        url=f"{rest.UPLOADS}/{item.sha256}",
        extract=item.extract,
    )
