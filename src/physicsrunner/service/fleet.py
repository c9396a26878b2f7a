"""
The agents: their heartbeat, how they join and leave, and the breaker that pauses a faulty one.

Promises: a heartbeat keeps all leases of its agent in one transaction and brings everything that is
asked of it; an agent that is not active is given nothing new, and keeps what it has. Whoever failed
to start `core.breaker.LIMIT` runs in a row is paused with the reason in words, until a person lifts
it. Removing an agent takes its token back; what it still held is lost, as its runs say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from physicsrunner.core import breaker
from physicsrunner.core.lease import LeaseTerms
from physicsrunner.core.permissions import Scope
from physicsrunner.core.resources import label_for
from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import HELD
from physicsrunner.errors import Conflict, NotAllowed, NotFound
from physicsrunner.service import facts
from physicsrunner.service.access import AccessService, Identity
from physicsrunner.service.endings import REMOVED as RUN_OF_REMOVED
from physicsrunner.service.endings import given_up
from physicsrunner.service.leases import LeaseService
from physicsrunner.service.names import agent_name
from physicsrunner.service.presence import ACTIVE, DRAINING, PAUSED, REMOVED, Presence
from physicsrunner.service.reporting import Start
from physicsrunner.store.base import AgentRow, Change, Store
from physicsrunner.wire import live
from physicsrunner.wire.messages import Enrolled, Enrollment, Heartbeat, HeartbeatAnswer

FLUSH_S: Final = 0.05  # what changed in one file is sent so often
FLUSH_MOST_S: Final = 0.25  # by an agent that carries out a thousand runs
ENROLL_S: Final = 3600.0


@dataclass(frozen=True)
class AgentInfo:
    """An agent, as people are shown it."""

    name: str
    state: str  #: active, draining, paused
    reason: str | None  #: why it is not active, in words
    host: dict[str, Any]
    labels: list[str]
    resources: dict[str, Any]  #: all it has
    free: dict[str, Any] | None  #: what it last said is left of it; None: not known
    slots: int
    active: int  #: runs that it holds
    first_seen: float
    last_seen: float


class Breaker:
    """
    Counts the runs that failed before their program was started, by agent. Thread-safe.

    What it counts is in the agent's row; what it remembers saves reading it for each run.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}

    def note(self, starts: Sequence[Start]) -> None:
        """Take note of how attempts began."""
        with self._lock:
            for start in starts:
                self._note(start)

    def forget(self, agent: str) -> None:
        """Look at the agent's row again."""
        with self._lock:
            self._failures.pop(agent, None)

    def _note(self, start: Start) -> None:
        before = self._failures.get(start.agent)
        if before is None:
            row = self._store.agent(start.agent)
            if row is None:
                return
            before = row.start_failures
        failures = before + 1 if start.failed else 0
        if failures != before:
            self._write(start, failures)
        self._failures[start.agent] = failures

    def _write(self, start: Start, failures: int) -> None:
        fields: dict[str, Any] = {"start_failures": failures}
        events = []
        row = self._store.agent(start.agent)
        if breaker.is_open(failures) and row is not None and row.state == ACTIVE:
            why = breaker.reason(failures, start.said)
            fields.update(state=PAUSED, reason=why)
            event = facts.of_agent(start.agent, live.AGENT_PAUSED, self._now(), reason=why)
            events.append(event)
        self._store.change_agent(start.agent, fields, events)


def _rhythm(leases: int) -> float:
    """Return how long an agent gathers what it sends: of many runs there is always something."""
    return min(FLUSH_MOST_S, max(FLUSH_S, leases * FLUSH_MOST_S / 1000))


class FleetService:
    """What is asked of and about agents. Thread-safe."""

    def __init__(
        self,
        store: Store,
        access: AccessService,
        leases: LeaseService,
        presence: Presence,
        counting: Breaker,
        *,
        now: Callable[[], float],
        terms: LeaseTerms,
    ) -> None:
        self._store = store
        self._access = access
        self._leases = leases
        self._presence = presence
        self._breaker = counting
        self._now = now
        self._terms = terms

    def heartbeat(self, identity: Identity, name: str, beat: Heartbeat) -> HeartbeatAnswer:
        """Note that agent *name* is there and keep its leases; answer what is asked of it."""
        self._access.require(identity, "agents:heartbeat")
        if identity.kind == "agent" and identity.subject != name:
            raise NotAllowed(f"the token is agent {identity.subject}'s, not {name}'s")
        now = self._now()
        row = self._presence.beat(name, beat, now)
        speaker = name if identity.kind == "user" else None
        answers = self._leases.renew_all(identity, beat.leases, speaker, now)
        return HeartbeatAnswer(
            renew_s=self._terms.renew_s,
            flush_s=_rhythm(len(beat.leases)),
            state=row.state,
            reason=row.reason,
            leases=answers,
            lost_s=self._terms.lease_s + self._terms.grace_s,
        )

    def enroll_token(
        self, identity: Identity, name: str | None = None, lifetime_s: float = ENROLL_S
    ) -> dict[str, Any]:
        """Return a one-time token by which an agent joins, and when it expires."""
        issued = self._access.issue_enroll_token(identity, name, lifetime_s)
        return {"token": issued.token, "expires": issued.expires}

    def enroll(self, identity: Identity, wanted: Enrollment) -> Enrolled:
        """Have an agent join; the same nonce may ask again after a lost answer."""
        name, now = wanted.name.strip(), self._now()
        known = self._store.agent(name) is not None
        # Also of a machine on which people carried out runs of their own.
        known = known or any(self._store.counts("agent", name).values())
        token = self._access.use_enroll_token(identity, name, wanted.nonce, known=known)
        row = self._store.agent_seen(name, now=now, host=wanted.host, labels=[])
        if row.state == REMOVED:
            self._store.change_agent(name, {"state": ACTIVE, "reason": None, "start_failures": 0})
        self._presence.forget(name)
        self._breaker.forget(name)
        return Enrolled(name, token)

    def agents(self, identity: Identity) -> list[AgentInfo]:
        """Return all agents but the removed ones, by name."""
        self._access.require(identity, "agents:read")
        rows = self._store.agents()
        if identity.kind == "agent":
            rows = [row for row in rows if row.id == identity.subject]
        return [self._info(row) for row in rows]

    def agent(self, identity: Identity, name: str) -> AgentInfo:
        """Return one agent; raise `NotFound`."""
        self._access.require(identity, "agents:read")
        if identity.kind == "agent" and identity.subject != name:
            raise NotFound(f"there is no agent {name}")
        return self._info(self._row(name))

    def drain(self, identity: Identity, name: str, on: bool = True) -> AgentInfo:
        """Give an agent nothing new; it finishes what it has. Off: give it work again."""
        self._access.require(identity, "agents:drain")
        if not on:
            return self._activate(identity, name)
        row = self._row(name)
        if row.state == ACTIVE:
            why = f"drained by {identity.subject}"
            event = facts.of_agent(name, live.AGENT_DRAINED, self._now(), reason=why)
            fields = {"state": DRAINING, "reason": why}
            row = self._store.change_agent(name, fields, [event], by=identity.actor)
        return self._info(row)

    def resume(self, identity: Identity, name: str) -> AgentInfo:
        """Give an agent work again that was drained, or paused by the breaker."""
        self._access.require(identity, "agents:resume")
        return self._activate(identity, name)

    def confining(self, identity: Identity, names: Sequence[str]) -> str:
        """
        Return the label that confines a run to one of these agents.

        Raises
        ------
        NotFound
            If there is none of that name; who may not see agents is not told.
        """
        told = identity.scope("agents:read") is not Scope.NONE
        for name in names:
            agent_name(name)
            if told:
                self._row(name)
        return label_for(names)

    def remove(
        self, identity: Identity, name: str, *, force: bool = False, silent_s: float = 0.0
    ) -> AgentInfo:
        """
        Forget an agent and take its token back; again is success.

        Raises
        ------
        Conflict
            If it was heard of less than *silent_s* ago, or still holds runs; with *force* they are
            lost: another agent gets those that may be tried again, the others have failed.
        """
        self._access.require(identity, "agents:remove")
        row = self._store.agent(name)
        if row is None:
            raise NotFound(f"there is no agent {name}")
        silent = self._now() - row.last_seen
        if row.state != REMOVED and silent < silent_s:
            raise Conflict(
                f"agent {name} was heard of {max(0.0, silent):.0f} s ago, less than "
                f"{silent_s:.0f} s: stop it first"
            )
        held = self._store.active_on(name)
        if held and not force:
            raise Conflict(
                f"agent {name} still carries out {len(held)} runs: drain it and wait, or remove it "
                "by force if it will never come back"
            )
        event = facts.of_agent(name, live.AGENT_REMOVED, self._now(), removed_by=identity.subject)
        self._store.remove_agent(name, [event], by=identity.actor)
        self._access.revoke_agent(identity, name)
        self._presence.forget(name)
        self._give_up(identity, name, held)
        return self._info(row)

    def _give_up(self, identity: Identity, name: str, held: Sequence[RunSummary]) -> None:
        now = self._now()

        def decide(run: RunSummary) -> Change | None:
            if run.status not in HELD or run.agent != name:
                return None
            why = f"{name} was removed by {identity.subject}"
            return given_up(run, now, why=why, code=RUN_OF_REMOVED)

        if held:
            self._store.change([(run.id, decide) for run in held], by=identity.actor)

    def _activate(self, identity: Identity, name: str) -> AgentInfo:
        row = self._row(name)
        if row.state != ACTIVE:
            event = facts.of_agent(name, live.AGENT_RESUMED, self._now())
            fields = {"state": ACTIVE, "reason": None, "start_failures": 0}
            row = self._store.change_agent(name, fields, [event], by=identity.actor)
        self._breaker.forget(name)
        return self._info(row)

    def _row(self, name: str) -> AgentRow:
        row = self._store.agent(name)
        if row is None or row.state == REMOVED:
            raise NotFound(f"there is no agent {name}")
        return row

    def _info(self, row: AgentRow) -> AgentInfo:
        counts = self._store.counts("agent", row.id)
        free = self._presence.free(row.id)
        state = DRAINING if row.state == ACTIVE and self._presence.leaves(row.id) else row.state
        return AgentInfo(
            name=row.id,
            state=state,
            reason=row.reason,
            host=dict(row.host),
            labels=list(row.labels),
            resources=dict(row.resources),
            free=None if free is None else asdict(free),
            slots=row.slots,
            active=sum(counts.get(status, 0) for status in HELD),
            first_seen=row.first_seen,
            last_seen=row.last_seen,
        )
