"""
The queue against its model: agents and people do what they like, in any order, in every store.

Agents ask, lose answers, renew, report, oversleep, come back late, lie about numbers and names,
hand back and are drained; people submit, cancel, pause, resume, retry, pin and delete; the clock
jumps to where rules change. After every step the store, the answers and the events are compared
with `tests.contract.queue_model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from physicsrunner.core.retry import FAILURES
from physicsrunner.core.run import NewRun, NewStudy, RunSummary
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import live
from physicsrunner.wire.messages import (
    Failure,
    Heartbeat,
    HeldLease,
    LeaseRequest,
    Report,
    Resources,
)
from tests.contract import queue_model as model
from tests.contract.service_house import House, open_house
from tests.support.examples import examples
from tests.support.postgres import PostgresServer

SERVER_CAP: Final = 4
STUDY_CAP: Final = 1
DELAY_S: Final = 45.0
NAMES: Final = ("x", "y", "z")
#: Where something changes: a lease, the grace time, a retry, the limit of a wait.
JUMPS: Final = (1.0, 14.0, 45.0, 46.0, 59.0, 60.0, 61.0, 240.0, 299.0, 300.0, 301.0, 361.0)
EXAMPLES: Final = {"memory": 25, "sqlite": 6, "postgresql": 4}
_ENDS: Final = {live.COMPLETED, live.FAILED, live.CANCELLED, live.TIMED_OUT}
_FLAGS: Final = {
    "held": {True: live.HELD, False: live.RELEASED},
    "pause_requested": {True: live.PAUSE_REQUESTED, False: live.RESUME_REQUESTED},
    "pinned": {True: live.PINNED, False: live.UNPINNED},
    "unreachable": {True: live.UNREACHABLE, False: live.REACHABLE},
}
SAYS: Final = (
    "running",
    "running",
    "running",
    "paused",
    "completed",
    "completed",
    "exit_code",
    "signal",
    "lost",
    "failed",
    "timeout",
    "cancelled",
    "hand_back",
)


#: What a holder is likely to say, so that most examples get far.
LIKELY: Final = {
    "preparing": ("running", "running", "running", "failed", "hand_back"),
    "running": ("completed", "exit_code", "exit_code", "signal", "lost", "timeout", "paused"),
    "paused": ("running", "running", "timeout", "hand_back"),
}


def spoken(run: str, attempt: int, said: str) -> Report:
    """Return the report that says *said*."""
    report = Report(run, attempt)
    if said == "hand_back":
        return replace(report, hand_back=True)
    code = {"exit_code": 3, "signal": -9}.get(said)
    if said in ("exit_code", "signal", "failed"):
        return replace(report, state=RunState.FAILED, exit_code=code, error=Failure("e", said))
    if said == "lost":
        return replace(report, state=RunState.FAILED, error=Failure("program_lost", said))
    return replace(report, state=RunState(said))


class QueueMachine(RuleBasedStateMachine):
    """One example: a queue of its own in a house that many examples share."""

    house: House
    model_id: str
    number = 0

    @initialize()
    def begin(self) -> None:
        """Make a study with a cap, and agents that take work."""
        type(self).number += 1
        house = self.house
        self.study = house.services.studies.create(
            house.admin, NewStudy(f"s{self.number}", max_concurrent_runs=STUDY_CAP)
        )["id"]
        self.model = model.Queue(house.clock(), SERVER_CAP, {self.study: STUDY_CAP})
        self.before: dict[str, RunSummary] = {}
        self.ended: dict[str, int] = {}
        for name in NAMES:
            self.model.agents[name] = model.Agent(name)
        self.house.told.clear()

    # -- people --------------------------------------------------------------------------------

    @rule(
        priority=st.integers(0, 3),
        cores=st.sampled_from([1.0, 2.0]),
        retries=st.sampled_from([1, 1, 2, 0]),
        on=st.sampled_from([FAILURES, FAILURES, ("exit_code",), ("lost", "timeout"), ()]),
        on_lost=st.sampled_from(["wait", "retry", "fail"]),
        limit=st.sampled_from([None, None, 5.0]),
        in_study=st.booleans(),
        many=st.integers(1, 4),
    )
    def submit(
        self,
        priority: int,
        cores: float,
        retries: int,
        on: tuple[str, ...],
        on_lost: str,
        limit: float | None,
        in_study: bool,
        many: int,
    ) -> None:
        """Queue some runs at once."""
        request = NewRun(
            model_id=self.model_id,
            study_id=self.study if in_study else None,
            configuration={
                "priority": priority,
                "on_lost_contact": on_lost,
                "queue_timeout_minutes": limit,
                "retry_policy": {
                    "max_retries": retries,
                    "retry_delay_seconds": DELAY_S,
                    "retry_on_failure_types": sorted(on),
                },
            },
            resource_requirements={"cpu_cores": cores},
        )
        for made in self.house.services.runs.create_many(self.house.admin, [request] * many):
            self.model.runs[made.id] = model.Run(
                made.id,
                made.number,
                priority,
                cores,
                self.model.now,
                max_retries=retries,
                delay_s=DELAY_S,
                on=tuple(on),
                on_lost=on_lost,
                queue_limit=None if limit is None else limit * 60,
                study=request.study_id,
            )

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "force", "pause", "resume", "pin"]))
    def ask(self, data: st.DataObject, what: str) -> None:
        """Cancel, pause, resume or pin a run, twice: the second time changes nothing."""
        run, runs, admin = self._some_run(data), self.house.services.runs, self.house.admin
        for _ in range(2):
            if what in ("cancel", "force"):
                self.model.cancel(run, force=what == "force")
                assert self._error(runs.cancel, admin, run.id, what == "force") is None
            elif what == "pin":
                run.pinned = True
                assert self._error(runs.pin, admin, run.id) is None
            else:
                asked = runs.pause if what == "pause" else runs.resume
                expected = self.model.pause(run, on=what == "pause")
                assert self._error(asked, admin, run.id) == expected

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a run, if it has ended and is not pinned."""
        run = self._some_run(data)
        expected = self.model.delete(run)
        assert self._error(self.house.services.runs.delete, self.house.admin, run.id) == expected

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """Run an ended run again: a new run, asked for as the old one was."""
        run, runs, admin = self._some_run(data), self.house.services.runs, self.house.admin
        if run.state not in model.ENDED:
            assert self._error(runs.retry, admin, run.id) == "conflict"
            return
        fresh = runs.retry(admin, run.id)
        assert fresh.retry_of == run.id
        self.model.runs[fresh.id] = model.Run(
            fresh.id,
            fresh.number,
            run.priority,
            run.cores,
            self.model.now,
            run.max_retries,
            run.delay_s,
            run.on,
            run.on_lost,
            run.queue_limit,
            run.study,
        )

    # -- agents --------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        cores=st.sampled_from([9.0, 9.0, 1.0, 3.0]),
        most=st.integers(1, 5),
        heard=st.sampled_from([True, True, True, False]),
    )
    def acquire(self, name: str, cores: float, most: int, heard: bool) -> None:
        """Ask for work; the answer may be lost on its way."""
        self._acquire(name, cores, most, heard=heard)

    def _acquire(self, name: str, cores: float, most: int, *, heard: bool) -> None:
        agent = self.model.agents[name]
        request = LeaseRequest(
            name,
            free=Resources(cpu_cores=cores),
            max=most,
            holding=[HeldLease(*lease) for lease in self._known(agent)],
        )
        grants = self.house.services.leases.acquire(self.house.agents[name], request)
        expected = self.model.acquire(agent, cores, most, heard=heard)
        assert [grant.run for grant in grants] == expected
        for grant in grants:
            assert grant.attempt == self.model.runs[grant.run].attempt

    @rule(name=st.sampled_from(NAMES))
    def renew(self, name: str) -> None:
        """Send a heartbeat that names all that the agent thinks it has."""
        agent = self.model.agents[name]
        known = self._known(agent)
        beat = Heartbeat([HeldLease(*lease) for lease in known])
        answer = self.house.services.fleet.heartbeat(self.house.agents[name], name, beat)
        assert answer.state == agent.state
        for (run, attempt), kept in zip(known, answer.leases, strict=True):
            assert kept.error == self.model.renew(agent, run, attempt)
            if kept.error is not None:
                agent.knows.discard((run, attempt))  # its program is stopped
            else:
                assert kept.commands == self.model.runs[run].commands

    @precondition(lambda self: any(agent.knows for agent in self.model.agents.values()))
    @rule(data=st.data(), said=st.sampled_from(SAYS), twice=st.booleans())
    def report(self, data: st.DataObject, said: str, twice: bool) -> None:
        """Say something of an attempt that the agent knows, perhaps long ago, perhaps twice."""
        agents = [agent for agent in self.model.agents.values() if agent.knows]
        agent = data.draw(st.sampled_from(agents))
        known = self._known(agent)
        present = [lease for lease in known if self._is_held(*lease)]
        run, attempt = data.draw(st.sampled_from([*present, *known]))
        if (run, attempt) in present:
            said = data.draw(st.sampled_from(LIKELY[self.model.runs[run].state]))
        for _ in range(1 + twice):
            self._say(agent, run, attempt, said)

    @precondition(lambda self: self.model.runs or self.model.deleted)
    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        off=st.sampled_from([-1, 0, 0, 1]),
        said=st.sampled_from(SAYS),
    )
    def lie(self, data: st.DataObject, name: str, off: int, said: str) -> None:
        """Say something of any attempt of any run, whoever has it."""
        known = {**self.model.runs, **self.model.deleted}
        run = data.draw(st.sampled_from(list(known.values())))
        agent, attempt = self.model.agents[name], run.attempt + off
        self._say(agent, run.id, attempt, said)
        expected = self.model.renew(agent, run.id, attempt)
        beat = Heartbeat([HeldLease(run.id, attempt)])
        answer = self.house.services.fleet.heartbeat(self.house.agents[name], name, beat)
        assert answer.leases[0].error == expected

    @rule(name=st.sampled_from(NAMES), failures=st.sampled_from([2, 6]))
    def cannot_start(self, name: str, failures: int) -> None:
        """Ask for runs one by one, and fail each before its program was started."""
        agent = self.model.agents[name]
        for _ in range(failures):
            self._acquire(name, 9.0, 1, heard=True)
            for run, attempt in self._known(agent):
                if self._is_held(run, attempt) and self.model.runs[run].state == "preparing":
                    self._say(agent, run, attempt, "failed")

    @rule(
        name=st.sampled_from(NAMES),
        times=st.sampled_from([1, 2, 3]),
        said=st.sampled_from(["exit_code", "exit_code", "signal", "lost", "timeout"]),
        stop=st.sampled_from([False, False, True]),
    )
    def fails(self, name: str, times: int, said: str, stop: bool) -> None:
        """Carry a run out that fails, perhaps asked to stop, as often as it is tried again."""
        agent = self.model.agents[name]
        for _ in range(times):
            self._acquire(name, 9.0, 1, heard=True)
            for run, attempt in self._known(agent):
                if not self._is_held(run, attempt) or self.model.runs[run].state != "preparing":
                    continue
                self._say(agent, run, attempt, "running")
                if stop:
                    self.model.cancel(self.model.runs[run], force=False)
                    self.house.services.runs.cancel(self.house.admin, run)
                self._say(agent, run, attempt, said)
            self._wait(DELAY_S + 1.0)

    @rule(name=st.sampled_from(NAMES), on=st.sampled_from([True, False, False]))
    def drain(self, name: str, on: bool) -> None:
        """Drain an agent, or let it work again."""
        agent, fleet = self.model.agents[name], self.house.services.fleet
        self.house.services.fleet.heartbeat(self.house.agents[name], name, Heartbeat())
        if on:
            fleet.drain(self.house.admin, name)
            agent.state = "draining" if agent.state == "active" else agent.state
        else:
            fleet.resume(self.house.admin, name)
            if agent.state != "active":
                agent.state, agent.failures = "active", 0

    def _say(self, agent: model.Agent, run: str, attempt: int, said: str) -> None:
        expected = self.model.report(agent, run, attempt, said)
        report = spoken(run, attempt, said)
        (answer,) = self.house.services.leases.report(self.house.agents[agent.name], [report])
        assert answer.error == expected
        if expected is None:
            found = self.model.runs[run]
            assert (answer.state, answer.commands) == (found.state, found.commands)

    # -- time ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(JUMPS))
    def wait(self, seconds: float) -> None:
        """Let time go by; the clock looks at least twice a minute, and at the end."""
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        while seconds > 0:
            step = min(30.0, seconds)
            seconds -= step
            self.house.clock.move(step)
            self.model.now += step
            self.house.services.leases.expire(self.house.clock())
            self.model.look()

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def the_store_agrees(self) -> None:
        """Every run is where the model says, and every change has its event."""
        if not hasattr(self, "model"):
            return
        store = self.house.services._store
        present = store.summaries([*self.model.runs, *self.model.deleted])
        assert set(present) == set(self.model.runs)
        told = [event for event in self.house.told if event.id is not None]
        self.house.told.clear()
        for key, run in self.model.runs.items():
            found = present[key]
            shown = {name: getattr(found, name) for name in run.shown()}
            assert shown == run.shown()
            self._check_events(self.before.get(key), found, told)
        self.before = present
        held = [run for run in present.values() if run.status.value in model.HELD]
        assert len(held) <= SERVER_CAP
        assert len([run for run in held if run.study_id == self.study]) <= STUDY_CAP
        assert sum(self._counted(state) for state in model.HELD) == len(held)

    def _counted(self, state: str) -> int:
        return self.house.services._store.counts("all").get(RunState(state), 0)

    def _check_events(self, before: RunSummary | None, run: RunSummary, told: list[Any]) -> None:
        mine = [event for event in told if event.run == run.id]
        ends = [event for event in mine if event.type in _ENDS]
        self.ended[run.id] = self.ended.get(run.id, 0) + len(ends)
        assert self.ended[run.id] == (run.status in TERMINAL)
        if before is None:
            assert [event.type for event in mine][:2] == [live.REQUESTED, live.QUEUED]
            return
        if run.status is not before.status:
            assert mine[-1].data["status"] == run.status
        begun = [event.type for event in mine].count(live.PREPARING)
        assert begun == run.attempt - before.attempt
        for name, kinds in _FLAGS.items():
            value = getattr(run, name)
            moved = run.status is not before.status
            if value is not getattr(before, name) and not (moved and not value):
                assert kinds[value] in [event.type for event in mine]

    def teardown(self) -> None:
        """End all runs and let all agents work, so that the next example begins with nothing."""
        if not hasattr(self, "model"):
            return
        services, admin = self.house.services, self.house.admin
        for run in self.model.runs.values():
            if run.state in model.ENDED:
                continue
            services.runs.cancel(admin, run.id)
            if run.state in model.HELD:
                services.leases.report(admin, [Report(run.id, run.attempt, RunState.CANCELLED)])
        for name, agent in self.model.agents.items():
            if agent.failures or agent.state != "active":
                services.fleet.drain(admin, name)
                services.fleet.resume(admin, name)

    def _is_held(self, key: str, attempt: int) -> bool:
        run = self.model.runs.get(key)
        return run is not None and run.state in model.HELD and run.attempt == attempt

    def _known(self, agent: model.Agent) -> list[tuple[str, int]]:
        """Return what the agent knows, by number: ids are random, and an example must repeat."""
        runs = {**self.model.runs, **self.model.deleted}
        return sorted(agent.knows, key=lambda lease: (runs[lease[0]].number, lease[1]))

    def _some_run(self, data: st.DataObject) -> model.Run:
        found: model.Run = data.draw(st.sampled_from(list(self.model.runs.values())))
        return found

    def _error(self, work: Callable[..., object], *arguments: object) -> str | None:
        try:
            work(*arguments)
        except PhysicsRunnerError as error:
            return error.code
        return None


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_whatever_agents_and_people_do_the_queue_does_what_it_must(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One holder at a time, in order, within the caps; every run ends once, in every store."""
    server: PostgresServer | None = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgres_server")
    url = "memory:" if kind == "memory" else None if server is None else server.fresh()
    house = open_house(tmp_path, url=url, options=ServerOptions(max_concurrent_runs=SERVER_CAP))
    house.clock.move(60.0)
    house.services.leases.expire(house.clock())

    class Machine(QueueMachine):
        pass

    Machine.house, Machine.model_id = house, house.model()
    house.agents = {name: house.agent(name) for name in NAMES}
    try:
        run_machine(
            Machine,
            settings=settings(
                max_examples=examples(EXAMPLES[kind]),
                stateful_step_count=50,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        house.services.close()
        if server is not None:
            server.drop()
