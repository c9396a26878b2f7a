"""
What the queue must do, said a second time: from the documents, not from the code.

A dictionary of runs and one of agents; each method returns what the services must answer and
changes the model as they must change the store. `test_queue_machine` holds both side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

LEASE_S: Final = 60.0
GRACE_S: Final = 300.0
MOST_LOST: Final = 3
BREAKER: Final = 5
HELD: Final = ("preparing", "running", "paused")
WAITS: Final = ("queued", "retrying")
ENDED: Final = ("completed", "failed", "cancelled", "timeout")


@dataclass
class Run:
    """One run as it must be."""

    id: str
    number: int
    priority: int
    cores: float
    created: float
    max_retries: int = 0
    delay_s: float = 0.0
    on: tuple[str, ...] = ()
    on_lost: str = "wait"
    queue_limit: float | None = None
    study: str | None = None
    state: str = "queued"
    attempt: int = 0
    agent: str | None = None
    deadline: float | None = None
    confirmed: bool = False
    unreachable: bool = False
    held: bool = False
    cancel: bool = False
    pause: bool = False
    pinned: bool = False
    retries: int = 0
    lost: int = 0
    not_before: float | None = None
    published: int | None = None
    had: dict[int, str] = field(default_factory=dict)  #: attempt -> agent

    def shown(self) -> dict[str, object]:
        """Return what a summary of the store must say."""
        return {
            "status": self.state,
            "attempt": self.attempt,
            "agent": self.agent,
            "deadline": self.deadline,
            "not_before": self.not_before,
            "unreachable": self.unreachable,
            "held": self.held,
            "cancel_requested": self.cancel,
            "pause_requested": self.pause,
            "pinned": self.pinned,
            "retry_count": self.retries,
            "lost_count": self.lost,
            "published_attempt": self.published,
        }

    @property
    def commands(self) -> list[str]:
        """What its holder is asked."""
        if self.state not in HELD:
            return []
        if self.cancel:
            return ["cancel"]
        if self.pause and self.state == "running":
            return ["pause"]
        return ["resume"] if not self.pause and self.state == "paused" else []


@dataclass
class Agent:
    """One agent as it must be, and what it thinks it has."""

    name: str
    state: str = "active"
    failures: int = 0
    knows: set[tuple[str, int]] = field(default_factory=set)


class Queue:
    """All of it."""

    def __init__(self, now: float, server_cap: int, study_caps: dict[str, int]) -> None:
        self.now = now
        self.runs: dict[str, Run] = {}
        self.deleted: dict[str, Run] = {}
        self.agents: dict[str, Agent] = {}
        self.server_cap = server_cap
        self.study_caps = study_caps

    # -- handing out -----------------------------------------------------------------------------

    def acquire(self, agent: Agent, cores: float, most: int, *, heard: bool) -> list[str]:
        """Return the runs that the agent must be given, in this order."""
        given = [
            run
            for run in sorted(self.runs.values(), key=lambda run: run.number)
            if run.agent == agent.name
            and run.state == "preparing"
            and not run.confirmed
            and (run.id, run.attempt) not in agent.knows
        ][:most]
        for run in given:
            run.deadline, run.unreachable = self.now + LEASE_S, False
            cores -= run.cores
        if agent.state == "active":
            room = min(most - len(given), self.server_cap - self.running())
            for run in self._in_order():
                if room <= 0:
                    break
                if run.cores <= cores and self._allowed(run):
                    self._lease(run, agent)
                    given.append(run)
                    cores -= run.cores
                    room -= 1
        if heard:
            agent.knows |= {(run.id, run.attempt) for run in given}
        return [run.id for run in given]

    def _in_order(self) -> Iterator[Run]:
        waiting = [
            run
            for run in self.runs.values()
            if run.state in WAITS
            and not run.held
            and (run.not_before is None or run.not_before <= self.now)
        ]
        yield from sorted(waiting, key=lambda run: (-run.priority, run.number))

    def running(self, study: str | None = None) -> int:
        """Return how many runs somebody holds (of a study)."""
        held = [run for run in self.runs.values() if run.state in HELD]
        return len([run for run in held if study is None or run.study == study])

    def _allowed(self, run: Run) -> bool:
        return run.study is None or self.running(run.study) < self.study_caps[run.study]

    def _lease(self, run: Run, agent: Agent) -> None:
        run.state, run.agent, run.attempt = "preparing", agent.name, run.attempt + 1
        run.had[run.attempt] = agent.name
        run.deadline, run.not_before = self.now + LEASE_S, None
        run.confirmed = run.unreachable = False

    # -- the holder speaks -----------------------------------------------------------------------

    def refusal(self, agent: Agent, run_id: str, attempt: int) -> str | None:
        """Return why the agent is not heard; None: it holds the attempt, or ended it itself."""
        run = self.runs.get(run_id)
        if run is None or attempt not in run.had:
            return "not_found"
        if run.had[attempt] != agent.name:
            return "not_allowed"
        return None if (run.attempt, run.agent) == (attempt, agent.name) else "lease_lost"

    def renew(self, agent: Agent, run_id: str, attempt: int) -> str | None:
        """Return the error that a renewal must be answered with."""
        refused = self.refusal(agent, run_id, attempt)
        if refused is None and self.runs[run_id].state in HELD:
            self._keep(self.runs[run_id])
        return refused

    def _keep(self, run: Run) -> None:
        run.deadline, run.confirmed, run.unreachable = self.now + LEASE_S, True, False

    def report(self, agent: Agent, run_id: str, attempt: int, said: str) -> str | None:
        """Return the error that a report must be answered with; *said* is a state or more."""
        refused = self.refusal(agent, run_id, attempt)
        if refused is not None:
            return refused
        run = self.runs[run_id]
        word = {"exit_code": "failed", "signal": "failed", "lost": "failed"}.get(said, said)
        if run.state not in HELD:
            if word not in ENDED or word == run.state:
                return None
            repeat = run.state == "retrying" and word in ("failed", "timeout")
            return None if repeat else "illegal_transition"
        if not self._possible(run, word):
            return "illegal_transition"
        before = run.state
        self._keep(run)
        if said == "hand_back":
            self._end(run, "cancelled") if run.cancel else self._again(run, 0.0)
        elif word in ("running", "paused"):
            run.state = word
        else:
            self._finish(run, before, said, word)
        self._breaker(agent, before, run, word)
        return None

    def _possible(self, run: Run, word: str) -> bool:
        if word == "completed":
            return run.state == "running"
        return word != "paused" or run.state != "preparing"

    def _finish(self, run: Run, before: str, said: str, word: str) -> None:
        failure = said if said in ("exit_code", "signal", "lost", "timeout") else None
        if said == "failed" and before == "preparing":
            failure = "download"
        wanted = failure in run.on and run.max_retries > 0 and not run.cancel
        if failure == "lost":
            wanted = (wanted or run.on_lost == "retry") and not run.cancel
            if wanted and run.lost < MOST_LOST:
                run.lost += 1
                self._again(run, run.delay_s)
                return
        elif wanted and run.retries < run.max_retries:
            run.retries += 1
            self._again(run, run.delay_s)
            return
        if word == "completed":
            run.published = run.attempt
        self._end(run, word)

    def _again(self, run: Run, wait: float) -> None:
        run.state, run.not_before = "retrying", self.now + wait
        run.held = run.held or run.pause
        run.deadline, run.unreachable, run.pause = None, False, False

    def _end(self, run: Run, state: str) -> None:
        run.state, run.deadline = state, None
        run.unreachable = run.pause = False

    def _breaker(self, agent: Agent, before: str, run: Run, word: str) -> None:
        if before != "preparing":
            return
        if word == "running":
            agent.failures = 0
        elif word == "failed" and not run.cancel:
            agent.failures += 1
            if agent.failures >= BREAKER and agent.state == "active":
                agent.state = "paused"

    # -- time ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Do what the clock must do now."""
        for run in self.runs.values():
            if run.state in HELD and run.deadline is not None and self.now > run.deadline:
                run.unreachable = True
                if self.now > run.deadline + GRACE_S:
                    self._give_up(run)
        for run in self.runs.values():
            if run.state in WAITS and not run.held and run.queue_limit is not None:
                since = run.created if run.state == "queued" else run.not_before
                if since is not None and self.now > since + run.queue_limit:
                    run.agent = None
                    self._end(run, "timeout")

    def _give_up(self, run: Run) -> None:
        if run.on_lost == "wait":
            return
        run.agent = None
        if run.cancel:
            self._end(run, "cancelled")
        elif run.on_lost == "retry" and run.lost < MOST_LOST:
            run.lost += 1
            self._again(run, run.delay_s)
        else:
            self._end(run, "failed")

    # -- people ----------------------------------------------------------------------------------

    def cancel(self, run: Run, *, force: bool) -> None:
        """Ask a run to stop."""
        if run.state in ENDED:
            return
        run.cancel = True
        if run.state in WAITS or (force and run.unreachable):
            run.agent, run.held = None, False
            self._end(run, "cancelled")

    def pause(self, run: Run, *, on: bool) -> str | None:
        """Hold or pause a run, or let it go on; return the error that must be answered."""
        if run.state in ENDED or (on and run.state in HELD and run.cancel):
            return "conflict"
        if run.state in WAITS:
            run.held = on
        else:
            run.pause = on
        return None

    def delete(self, run: Run) -> str | None:
        """Delete a run; return the error that must be answered."""
        if run.state not in ENDED:
            return "not_terminal"
        if run.pinned:
            return "pinned"
        self.deleted[run.id] = self.runs.pop(run.id)
        return None
