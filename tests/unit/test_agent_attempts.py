"""What an agent does with its attempts and heartbeats, with a runner and a server of the test."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.agent.adopt import finish, place_of, prepare, sweep, terms_of, unfinished
from physicsrunner.agent.attempts import REDELIVER_S, Attempts
from physicsrunner.agent.contact import Contact
from physicsrunner.agent.heartbeat import Heartbeat
from physicsrunner.agent.places import Places
from physicsrunner.agent.resources import Machine
from physicsrunner.core.state import RunState
from physicsrunner.errors import (
    ConfigError,
    NotAuthenticated,
    NotFound,
    ServerUnavailable,
    StorageFull,
)
from physicsrunner.runner.place import Place
from physicsrunner.runner.result import RunResult
from physicsrunner.wire.messages import LeaseGrant, RenewalAnswer, Resources
from tests.support.wait import wait_until

LOG = logging.getLogger("test agent")
MACHINE = Machine(Resources(4.0, 8.0, 1, 5.0), slots=3)


class FakeControl:
    """Notes what is asked of an attempt."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*given: str) -> None:
            self.asked.append(":".join([name, *given]))
            if name in ("cancel", "lease_lost", "hand_back"):
                self.over.set()

        return note


class FakeRunner:
    """Carries out nothing: answers what it is told to, once its attempt is over."""

    def __init__(self) -> None:
        self.controls: dict[str, FakeControl] = {}
        self.outcomes: dict[str, RunResult | Exception] = {}
        self.places: dict[str, Place] = {}
        self.times: dict[str, int] = {}

    def start(self) -> None:
        """Nothing is shared."""

    def rhythm(self, flush_s: float) -> None:
        """Nothing is sent."""

    def close(self) -> None:
        """Nothing is open."""

    def control(self) -> FakeControl:
        return FakeControl()

    def __call__(
        self, work: Any, control: FakeControl, _grant: LeaseGrant | None, place: Place
    ) -> RunResult:
        self.places[work.run] = place
        self.controls[work.run] = control
        self.times[work.run] = self.times.get(work.run, 0) + 1
        assert control.over.wait(30)
        outcome = self.outcomes.get(
            work.run, RunResult(work.run, 1, RunState.COMPLETED, delivered=True)
        )
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class House:
    """Attempts in a folder, with a clock that stands still."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder = folder
        self.runner = FakeRunner()
        self.time = 1000.0
        self.ended = threading.Event()
        self.full: list[str] = []
        self.gone: set[str] = set()
        self.places = Places(machine, lambda: self.time, self.ended.set)
        self.attempts = Attempts(
            self.runner,
            self.places,
            prepare=lambda grant: prepare(self.folder, grant, "http://server"),
            on_full=lambda grant, error: self.full.append(f"{grant.run}: {error}"),
            on_end=self.ended.set,
            is_gone=lambda work: work.run in self.gone,
            now=lambda: self.time,
            log=LOG,
        )

    def begin(self, run: str, *, stop_when_lost: bool = False, **needs: Any) -> Path:
        """Begin an attempt; return its work folder."""
        grant = LeaseGrant(
            run,
            1,
            1,
            "name",
            0.0,
            15.0,
            token="secret",
            resources=Resources(**needs),
            stop_when_lost=stop_when_lost,
        )
        work = place_of(self.folder, grant)
        assert self.attempts.begin(work, grant)
        wait_until(lambda: run in self.runner.controls)
        return work.root

    def end(self, run: str, outcome: RunResult | Exception | None = None) -> None:
        """Let an attempt end."""
        if outcome is not None:
            self.runner.outcomes[run] = outcome
        before = self.attempts.running()
        self.runner.controls[run].over.set()
        wait_until(lambda: self.attempts.running() < before)

    def asked(self, run: str) -> list[str]:
        """Return what was asked of an attempt."""
        return self.runner.controls[run].asked


@pytest.fixture
def house(tmp_path: Path) -> Any:
    """Attempts; all of them end with the test."""
    found = House(tmp_path, MACHINE)
    yield found
    for control in found.runner.controls.values():
        control.over.set()
    wait_until(lambda: not found.attempts.running())


def test_resources_and_slots_are_taken_and_come_back(house: House) -> None:
    """Free is what is there without what the attempts were granted; storage is measured."""
    house.begin("a", cpu_cores=2.0, memory_gb=3.0, gpu_count=1)
    house.begin("b", cpu_cores=1.0)
    assert house.places.free() == Resources(1.0, 5.0, 0, 5.0)
    assert house.places.offer() == (Resources(1.0, 5.0, 0, 5.0), 1)
    house.end("a")
    assert house.places.free() == Resources(3.0, 8.0, 1, 5.0)
    assert house.places.offer() == (Resources(3.0, 8.0, 1, 5.0), 2)


def test_an_attempt_that_only_delivers_takes_nothing(house: House) -> None:
    """The next program may run while files are on their way; its lease is kept all the same."""
    house.begin("a", cpu_cores=4.0)
    assert house.places.offer() == (Resources(0.0, 8.0, 1, 5.0), 2)
    house.ended.clear()
    house.time += 60.0
    house.runner.places["a"].leave()
    assert house.ended.is_set()
    assert house.places.offer() == (Resources(4.0, 8.0, 1, 5.0), 3)
    assert [lease.run for lease in house.attempts.leases()] == ["a"]
    assert house.attempts.running() == 1
    house.end("a")
    assert house.places.offer() == (Resources(4.0, 8.0, 1, 5.0), 3)


def test_a_program_of_before_takes_its_place_whoever_waits(house: House, tmp_path: Path) -> None:
    """Taken up again it runs already: new work waits until it has ended."""
    grants = [LeaseGrant(run, 1, 1, "n", 0.0, 15.0, token="t") for run in "ab"]
    for grant in grants:
        work = prepare(tmp_path, grant, "http://server")
        (work.root / ".physicsrunner/program").mkdir()
        (work.root / ".physicsrunner/program/pid").touch()
    for number in range(MACHINE.slots - 1):
        house.begin(f"new{number}")
    for work in unfinished(tmp_path):
        if work.run in "ab":
            assert house.attempts.begin(work)
    wait_until(lambda: len(house.runner.places) == 4)
    assert all(place.taken for place in house.runner.places.values())
    assert house.places.offer()[1] == 0


def test_what_was_only_leased_before_waits_for_a_slot(house: House, tmp_path: Path) -> None:
    """Of runs that were leased ahead by a process that was killed no more begin than may run."""
    for run in "abcdef":
        prepare(tmp_path, LeaseGrant(run, 1, 1, "n", 0.0, 15.0, token="t"), "http://server")
    for work in unfinished(tmp_path):
        assert house.attempts.begin(work)
    wait_until(lambda: len(house.runner.places) == 6)
    taken = [place.taken for place in house.runner.places.values()]
    assert sum(taken) == MACHINE.slots


def test_an_attempt_is_carried_out_once_at_a_time(house: House, tmp_path: Path) -> None:
    """Granted again while it runs, it is not begun again; delivered, its folder is gone."""
    root = house.begin("a")
    work = next(unfinished(tmp_path))
    assert not house.attempts.begin(work)
    assert house.runner.times == {"a": 1}
    house.end("a")
    wait_until(lambda: not root.exists())
    assert not house.attempts.leases()


@pytest.mark.parametrize(
    "outcome",
    [
        RunResult("a", 1, RunState.COMPLETED, delivered=False),
        ServerUnavailable("away"),
        RuntimeError("a fault of ours"),
    ],
)
def test_what_was_not_delivered_is_kept_leased_and_tried_again(
    house: House, outcome: RunResult | Exception
) -> None:
    """It takes no slot meanwhile; not in a tight loop, but at once when the server is back."""
    root = house.begin("a")
    house.end("a", outcome)
    assert [work.root for work in house.attempts.waiting()] == [root]
    assert [lease.run for lease in house.attempts.leases()] == ["a"]
    assert house.places.offer()[1] == MACHINE.slots
    assert not house.attempts.due()
    house.time += REDELIVER_S
    assert len(house.attempts.due()) == 1
    house.time -= REDELIVER_S
    house.attempts.contact_back()
    (work,) = house.attempts.due()
    del house.runner.outcomes["a"]
    assert house.attempts.begin(work)
    wait_until(lambda: house.runner.times["a"] == 2)
    house.end("a")
    wait_until(lambda: not root.exists())


def test_a_run_that_was_deleted_before_its_files_were_sent_is_not_waited_for(house: House) -> None:
    """Nobody will ever take them: they stay on the disk, and the agent may end when it is idle."""
    root = house.begin("a")
    house.gone.add("a")
    house.end("a", RunResult("a", 1, RunState.FAILED, delivered=False))
    assert not house.attempts.waiting()
    assert (root / ".done").read_text() == "not_found\n"


def test_a_run_that_the_server_does_not_know_is_left_alone(house: House, tmp_path: Path) -> None:
    """Deleted meanwhile: its files stay, and nobody tries for ever."""
    root = house.begin("a")
    house.end("a", NotFound("there is no run a"))
    assert root.exists()
    assert not house.attempts.waiting()
    assert not list(unfinished(tmp_path))


def test_answers_of_a_heartbeat_reach_their_attempts(house: House) -> None:
    """Tokens, commands and lost leases, each to its own; unknown ones are passed over."""
    for run in "abc":
        house.begin(run)
    house.attempts.answered(
        [
            RenewalAnswer("a", 1, token="fresh", commands=["pause"]),
            RenewalAnswer("b", 1, error="lease_lost"),
            RenewalAnswer("c", 1, commands=["some new command"]),
            RenewalAnswer("stranger", 1, error="not_found"),
        ]
    )
    assert house.asked("a") == ["token:fresh", "pause"]
    assert house.asked("b") == ["lease_lost"]
    assert house.asked("c") == []
    assert {lease.run for lease in house.attempts.leases()} == {"a", "c"}
    house.attempts.answered([RenewalAnswer("b", 1, error="lease_lost")])
    assert house.asked("b") == ["lease_lost"], "once is enough"


def test_only_runs_that_others_are_given_are_stopped_without_contact(house: House) -> None:
    """on_lost_contact wait goes on for ever; what the disk says counts after a restart, too."""
    house.begin("waits")
    root = house.begin("moves", stop_when_lost=True, cpu_cores=3.0)
    work = next(work for work in unfinished(house.folder) if work.root == root)
    assert terms_of(work).stop_when_lost
    assert terms_of(work).resources.cpu_cores == 3.0
    house.attempts.contact_lost()
    house.attempts.contact_lost()
    assert house.asked("waits") == []
    assert house.asked("moves") == ["lease_lost"]


def test_what_was_stopped_without_contact_is_to_be_said_once_it_has_stopped(house: House) -> None:
    """Not while its program may still run, and not again when it was said."""
    house.begin("stays")
    house.begin("moves", stop_when_lost=True)
    assert house.attempts.unsaid() == {}
    house.attempts.contact_lost("no contact")
    assert house.attempts.unsaid() == {}, "it is being stopped"
    house.end("moves")
    assert house.attempts.unsaid() == {("moves", 1): "no contact"}
    house.attempts.said(("moves", 1))
    assert house.attempts.unsaid() == {}


def test_handing_back_asks_all_but_what_is_lost_already(house: House) -> None:
    """A lost one is another's: there is nothing to hand back."""
    house.begin("a")
    house.begin("b", stop_when_lost=True)
    house.attempts.contact_lost()
    house.attempts.hand_back()
    assert house.asked("a") == ["hand_back"]
    assert house.asked("b") == ["lease_lost"]


# -- work folders --------------------------------------------------------------------------------


def granted(run: str = "r", attempt: int = 1) -> LeaseGrant:
    """Return a lease."""
    return LeaseGrant(run, attempt, 1, "name", 0.0, 15.0, token="secret")


def test_work_folders_are_found_again(tmp_path: Path) -> None:
    """What was begun and not finished is unfinished, also when config.json is half written."""
    first = prepare(tmp_path, granted("a"), "http://server")
    second = prepare(tmp_path, granted("b", 2), "http://server")
    half = tmp_path / "c" / "1"
    half.mkdir(parents=True)
    (half / ".config.json.part").write_text("{")
    (tmp_path / "agent.json").write_text("{}")
    assert {work.root for work in unfinished(tmp_path)} == {first.root, second.root}
    finish(first, "completed", remove=True)
    finish(second, "failed", remove=False)
    assert not list(unfinished(tmp_path))
    assert not (tmp_path / "a").exists()
    assert second.config.exists()


def test_a_kill_while_a_folder_is_removed_leaves_nothing_to_take_up(tmp_path: Path) -> None:
    """It has its other name by then; the next start removes the rest."""
    prepare(tmp_path, granted("a"), "http://server")
    (tmp_path / "a" / "1").rename(tmp_path / "a" / ".1.done")
    assert not list(unfinished(tmp_path))
    sweep(tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file lies where the run's folder should be: the message says which."""
    (tmp_path / "r").write_text("in the way")
    with pytest.raises(StorageFull, match=r"the work folder .*r/1 cannot be written"):
        prepare(tmp_path, granted(), "http://server")


def test_an_attempt_without_a_folder_is_given_back(house: House) -> None:
    """It was never begun: nothing of it is kept, and others go on."""
    (house.folder / "full").write_text("in the way")
    grant = granted("full")
    assert house.attempts.begin(place_of(house.folder, grant), grant)
    wait_until(lambda: house.full and not house.attempts.running())
    assert "cannot be written" in house.full[0]
    assert not house.attempts.leases()


# -- heartbeat -----------------------------------------------------------------------------------


class FakeHttp:
    """Answers requests in order; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []

    def value(self, method: str, path: str, *, json: Any) -> Any:
        assert (method, path) == ("PUT", "/api/v1/agents/here")
        self.sent.append(json)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def beating(house: House, http: FakeHttp, **state: bool) -> tuple[Heartbeat, Contact]:
    """Return a heartbeat that is asked for each beat."""
    now = lambda: house.time  # noqa: E731 - the same clock for both
    contact = Contact(house.folder / "contact.json", now=now, wall=now)
    beat = Heartbeat(
        http,  # type: ignore[arg-type]
        "here",
        Machine(Resources(), 2, ["label"]),
        house.attempts,
        house.places,
        contact,
        draining=lambda: state.get("draining", False),
        on_news=lambda: None,
        on_rhythm=lambda _seconds: None,
        now=now,
        random=lambda: 0.5,
        log=LOG,
    )
    return beat, contact


def answer(state: str = "active", **more: Any) -> dict[str, Any]:
    """Return a heartbeat's answer."""
    return {"renew_s": 5.0, "flush_s": 0.05, "state": state, "lost_s": 100.0, **more}


def test_one_call_keeps_all_leases(house: House) -> None:
    """It names every attempt, what is free, and that it is leaving."""
    house.begin("a")
    house.begin("b")
    http = FakeHttp(answer("draining", reason="drained by ada"))
    beat, _ = beating(house, http, draining=True)
    beat.beat()
    (sent,) = http.sent
    assert sent["leases"] == [{"run": "a", "attempt": 1}, {"run": "b", "attempt": 1}]
    assert (sent["slots"], sent["labels"], sent["draining"]) == (2, ["label"], True)
    assert (beat.state, beat.reason) == ("draining", "drained by ada")


def test_silence_changes_nothing_until_others_are_given_the_runs(house: House) -> None:
    """Beyond the server's own time the runs that move are stopped, and only they."""
    house.begin("waits")
    house.begin("moves", stop_when_lost=True)
    away = ServerUnavailable("away")
    beat, contact = beating(house, FakeHttp(answer(), away, away, answer()))
    beat.beat()
    house.time += 100.0
    beat.beat()
    assert house.asked("moves") == []
    house.time += 1.0
    beat.beat()
    assert house.asked("moves") == ["lease_lost"]
    assert house.asked("waits") == []
    beat.beat()
    assert contact.answering
    assert not contact.lost


def test_a_silence_counts_from_before_a_kill(house: House) -> None:
    """The note of the last contact outlives the process."""
    beat, _ = beating(house, FakeHttp(answer()))
    beat.beat()
    os.utime(house.folder / "contact.json", (house.time, house.time))
    house.time += 101.0
    house.begin("moves", stop_when_lost=True)
    beat, _ = beating(house, FakeHttp(ServerUnavailable("away")))
    beat.beat()
    assert house.asked("moves") == ["lease_lost"]


def test_a_refusal_that_stays_ends_it(house: House) -> None:
    """Once may be a proxy that starts; three in a row are the server's word."""
    refusals = [NotAuthenticated("no"), NotAuthenticated("no")]
    beat, _ = beating(house, FakeHttp(*refusals, answer(), *refusals, NotAuthenticated("no")))
    for _ in range(5):
        beat.beat()
        assert beat.refused is None
    beat.beat()
    assert beat.refused is not None


def test_an_agent_that_was_removed_is_told_at_once(house: House) -> None:
    """The server says so in the state."""
    beat, _ = beating(house, FakeHttp(answer("removed")))
    beat.beat()
    assert "removed" in str(beat.refused)


@pytest.mark.parametrize("error", [ConfigError("wrong"), ServerUnavailable("away")])
def test_no_error_of_a_call_ends_the_heartbeat(house: House, error: Exception) -> None:
    """Whatever is wrong with one call, the next is made."""
    beat, _ = beating(house, FakeHttp(error, answer()))
    beat.beat()
    beat.beat()
    assert beat.refused is None
