"""Which agents have the labels that a run asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from physicsrunner.core.resources import has_labels, label_for, labels_of
from physicsrunner.core.run import RunSummary
from physicsrunner.errors import InvalidRequest
from physicsrunner.service.names import agent_name

RUN = RunSummary("r", 1, "r", "ada", 0.0, 0.0)


def has(agent: str, own: list[str], wanted: list[str]) -> bool:
    """Whether *agent*, which says that it has *own*, is given a run that wants these."""
    return has_labels(replace(RUN, labels=wanted), labels_of(agent, own))


def test_an_agent_has_what_it_says_and_its_name() -> None:
    """All labels of a run are needed, in any order; none is none."""
    assert has("north", ["gpu", "site:a"], ["site:a", "gpu", "agent:north"])
    assert has("north", [], [])
    assert not has("north", ["gpu"], ["gpu", "ssd"])
    assert not has("north", ["gpu"], ["agent:south"])


def test_nobody_has_the_name_of_another() -> None:
    """Whatever it says of itself, alone or among others."""
    said = ["agent:south", "agent:south|agent:east", label_for(["south"])]
    assert not has("north", said, [label_for(["south"])])
    assert not has("north", said, [label_for(["south", "east"])])


@pytest.mark.parametrize("agent", ["south", "east", "a b", "agent:z"])
def test_one_of_several_names_is_enough(agent: str) -> None:
    """The names of a label are whole ones."""
    label = label_for(["south", "east", "a b", "agent:z"])
    assert has(agent, [], [label])
    for other in ("sout", "outh", "agent:south", "", "|", "a", "b", "z"):
        assert not has(other, [], [label])


def test_a_name_with_a_bar_is_refused() -> None:
    """It would be taken for two."""
    with pytest.raises(InvalidRequest, match=r"with a \|"):
        label_for(["north", "x|y"])


@pytest.mark.parametrize("agent", ["south|agent:east", "south|agent:east|", "agent:south|east"])
def test_a_name_that_reads_as_two_has_neither(agent: str) -> None:
    """An agent that came by such a name, before names were refused, gets no run of the others."""
    for wanted in (["south", "east"], ["south"], ["east", "south", "north"]):
        assert not has(agent, [], [label_for(wanted)])
    with pytest.raises(InvalidRequest, match=r"a name has no \|; choose"):
        agent_name(agent)


def test_a_bar_in_another_label_means_nothing() -> None:
    """Only names of agents have alternatives."""
    assert not has("north", ["a"], ["a|b"])
    assert has("north", ["a|b"], ["a|b"])
