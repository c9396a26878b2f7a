"""The slots and resources of a machine: who has them, who waits for them, who has left them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from physicsrunner.agent.places import LATE_S, AgentPlace, Places
from physicsrunner.agent.resources import Machine
from physicsrunner.wire.messages import Resources

MACHINE = Machine(Resources(4.0, 8.0, 1, 5.0), slots=3)


class House:
    """Places of a machine, with a clock of the test."""

    def __init__(self, machine: Machine = MACHINE) -> None:
        self.time = 1000.0
        self.freed = 0
        self.places = Places(machine, lambda: self.time, self._on_free)

    def _on_free(self) -> None:
        self.freed += 1

    def enter(self, **needs: Any) -> AgentPlace:
        """Ask for a place; nothing is needed unless it is said."""
        return self.places.enter(Resources(**{"cpu_cores": 0.0, **needs}))

    def run(self, seconds: float, **needs: Any) -> None:
        """Let a program come, run and go."""
        place = self.enter(**needs)
        self.time += seconds
        place.leave()
        place.over()


@pytest.fixture
def house() -> House:
    return House()


def test_who_comes_first_is_first_and_waits_for_a_slot(house: House) -> None:
    """A place is taken when one is left, in turn, and whoever waits is told."""
    first = [house.enter() for _ in range(3)]
    late, later = house.enter(), house.enter()
    told: list[str] = []
    late.when_taken(lambda: told.append("late"))
    assert [place.taken for place in (*first, late, later)] == [True] * 3 + [False] * 2
    first[1].leave()
    assert (late.taken, later.taken, told, house.freed) == (True, False, ["late"], 1)
    first[0].over()  # it failed before its program began
    assert later.taken
    later.when_taken(lambda: told.append("later"))
    assert told == ["late", "later"]


@pytest.mark.parametrize("needs", [{"cpu_cores": 3.0}, {"memory_gb": 6.0}, {"gpu_count": 1}])
def test_programs_together_need_no_more_than_there_is(house: House, needs: dict[str, Any]) -> None:
    """The second waits for the first, and a smaller one behind it does not overtake it."""
    first, second, small = house.enter(**needs), house.enter(**needs), house.enter()
    assert (first.taken, second.taken, small.taken) == (True, False, False)
    first.leave()
    assert (second.taken, small.taken) == (True, True)


def test_what_never_fits_runs_alone() -> None:
    """A machine that has become smaller than its run keeps no run waiting for ever."""
    house = House(Machine(Resources(1.0), slots=3))
    assert house.enter(cpu_cores=2.0).taken


def test_sums_of_fractions_fit(house: House) -> None:
    """Ten times a tenth of a core is a core."""
    house = House(Machine(Resources(1.0), slots=20))
    assert all(house.enter(cpu_cores=0.1).taken for _ in range(10))
    assert not house.enter(cpu_cores=0.1).taken


def test_long_programs_are_not_leased_ahead(house: House) -> None:
    """What could run at another agent does not wait here, also when many end at once."""
    places = [house.enter() for _ in range(3)]
    house.time += 60.0
    for place in places:
        place.leave()
        place.over()
    for _ in range(3):
        assert house.enter().taken
    assert house.places.offer()[1] == 0


def test_short_programs_are_leased_ahead_with_what_they_leave(house: House) -> None:
    """As many as end in the next moment are asked for, with what they leave, and no more."""
    for _ in range(10):
        house.run(0.01)
    for _ in range(3):
        house.enter(cpu_cores=1.0, memory_gb=1.0)
    assert house.places.free() == Resources(1.0, 5.0, 1, 5.0)
    assert house.places.offer() == (Resources(3.0, 7.0, 1, 5.0), 2)
    house.enter(cpu_cores=1.0)
    assert house.places.offer() == (Resources(2.0, 7.0, 1, 5.0), 1)


def test_programs_that_turn_out_longer_are_not_leased_ahead(house: House) -> None:
    """When no more end, no more are asked for."""
    for _ in range(10):
        house.run(0.01)
    for _ in range(3):
        house.enter()
    assert house.places.offer()[1] == 2
    house.time += 1.0
    assert house.places.offer()[1] == 0


def test_the_moment_between_two_short_programs_counts_too(house: House) -> None:
    """Where nothing runs just now, slots and those that end soon are asked for together."""
    for _ in range(10):
        house.run(0.01)
    assert house.places.offer()[1] == MACHINE.slots + 2


def test_who_gives_up_makes_way(house: House) -> None:
    """What waited behind it, and fits, begins at once."""
    house.enter(cpu_cores=2.0)
    large, small = house.enter(cpu_cores=4.0), house.enter(cpu_cores=1.0)
    assert large.give_up()
    assert small.taken


def test_a_place_that_was_taken_is_not_given_up(house: House) -> None:
    """Whoever loses patience at that moment has it."""
    assert not house.enter().give_up()


def test_what_has_run_for_long_keeps_what_it_has(house: House) -> None:
    """A run that fits only without it is not leased ahead: short ones would wait behind it."""
    house.enter(cpu_cores=2.0)
    house.time += 60.0
    for _ in range(10):
        house.run(0.01, cpu_cores=1.0)
    for _ in range(2):
        house.enter(cpu_cores=1.0)
    assert house.places.offer() == (Resources(2.0, 8.0, 1, 5.0), 2)


def test_nothing_is_leased_ahead_of_long_programs_alone(house: House) -> None:
    """Nothing ends in a moment where no short program is left."""
    for _ in range(3):
        house.enter()
    house.time += 60.0
    for _ in range(10):
        place = house.places.enter(Resources(0.0), at_once=True)
        place.leave()
    assert house.places.offer()[1] == 0


def test_who_ends_without_a_program_waits_no_more(house: House) -> None:
    """Cancelled or failed while it waited, it takes no slot to send its files."""
    first = house.enter(cpu_cores=4.0)
    ended, small = house.enter(cpu_cores=4.0), house.enter(cpu_cores=0.0)
    ended.leave()
    assert (ended.taken, small.taken) == (False, True)
    first.leave()
    assert not ended.taken
    assert house.places.free().cpu_cores == 4.0
    house.time += 2 * LATE_S
    assert house.places.offer()[1] == 2
    ended.over()
    assert house.enter(cpu_cores=4.0).taken


def test_deliveries_that_take_long_take_slots_again(house: House) -> None:
    """As many as there are slots may be late; beyond that, work comes as its files go."""
    delivering = []
    for _ in range(5):
        place = house.enter()
        place.leave()
        delivering.append(place)
    house.time += LATE_S * 0.9
    assert house.places.offer()[1] == 3
    house.time += LATE_S
    assert house.places.offer()[1] == 1
    delivering[0].over()
    assert house.places.offer()[1] == 2


class PlacesMachine(RuleBasedStateMachine):
    """Attempts that come, wait, lose patience, run, deliver and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.line: list[AgentPlace] = []  #: all that are not over, in the order of their coming
        self.forced: set[AgentPlace] = set()
        self.left: set[AgentPlace] = set()

    @rule(cores=st.sampled_from([0.0, 1.0, 3.0]), gpus=st.integers(0, 1))
    def come(self, cores: float, gpus: int) -> None:
        self.line.append(self.house.enter(cpu_cores=cores, gpu_count=gpus))

    @rule()
    def taken_up_again(self) -> None:
        place = self.house.places.enter(Resources(cpu_cores=1.0), at_once=True)
        assert place.taken
        self.forced.add(place)
        self.line.append(place)

    @rule(which=st.integers(0, 20), passes=st.floats(0, 3))
    def leave(self, which: int, passes: float) -> None:
        self.house.time += passes
        inside = [place for place in self.line if place.taken]
        if inside:
            inside[which % len(inside)].leave()
            self.left.add(inside[which % len(inside)])

    @rule(which=st.integers(0, 20))
    def give_up(self, which: int) -> None:
        if self.line:
            place = self.line[which % len(self.line)]
            assert place.give_up() is not place.taken
            if not place.taken:
                self.line.remove(place)

    @rule(which=st.integers(0, 20))
    def over(self, which: int) -> None:
        if self.line:
            self.line.pop(which % len(self.line)).over()

    @invariant()
    def holds(self) -> None:
        inside = [each for each in self.line if each.taken and each not in self.left]
        waiting = [each for each in self.line if not each.taken]
        ours = [each for each in inside if each not in self.forced]
        if len(inside) == len(ours) and len(ours) > 1:
            assert len(ours) <= MACHINE.slots
            assert sum(each.needs.cpu_cores for each in ours) <= MACHINE.resources.cpu_cores
            assert sum(each.needs.gpu_count for each in ours) <= MACHINE.resources.gpu_count
        assert not waiting or inside, "somebody waits for nobody"
        free, slots = self.house.places.offer()
        assert 0 <= slots <= MACHINE.slots + 32
        assert 0.0 <= free.cpu_cores <= MACHINE.resources.cpu_cores


TestPlaces = PlacesMachine.TestCase
