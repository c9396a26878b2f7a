"""
Whether a run fits where it is to run.

Pure. Amounts are cores, GB, pieces; a run needs what its record says, an agent offers what it has
free. Labels are words such as ``gpu`` or ``site:north``: an agent must have all that a run names.
Each agent has the label ``agent:NAME`` besides, and nobody else's; a label ``agent:A|agent:B`` is
one that any of these agents has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from physicsrunner.core.run import RunSummary
from physicsrunner.errors import InvalidRequest

BY_NAME: Final = "agent:"


@dataclass(frozen=True)
class Room:
    """What an agent has free."""

    cpu_cores: float = 1.0
    memory_gb: float = 0.0
    gpu_count: int = 0
    storage_gb: float = 0.0

    def fits(self, run: RunSummary) -> bool:
        """Say whether *run* fits in this room."""
        return (
            run.cpu_cores <= self.cpu_cores
            and run.memory_gb <= self.memory_gb
            and run.gpu_count <= self.gpu_count
            and run.storage_gb <= self.storage_gb
        )

    def without(self, run: RunSummary) -> Room:
        """Return the room that is left when *run* has been taken in."""
        return Room(
            self.cpu_cores - run.cpu_cores,
            self.memory_gb - run.memory_gb,
            self.gpu_count - run.gpu_count,
            self.storage_gb - run.storage_gb,
        )


def has_labels(run: RunSummary, labels: Collection[str]) -> bool:
    """Say whether an agent with *labels* has all that *run* asks for."""
    return all(_has(label, labels) for label in run.labels)


def labels_of(agent: str, labels: Collection[str]) -> tuple[str, ...]:
    """Return *labels*, which *agent* says it has, and the one that it has by its name."""
    given = (label for label in labels if not label.startswith(BY_NAME))
    return (*given, f"{BY_NAME}{agent}")


def label_for(agents: Iterable[str]) -> str:
    """Return the label that confines a run to *agents*; raise `InvalidRequest` if none can."""
    agents = list(agents)
    for agent in agents:
        if "|" in agent:
            raise InvalidRequest(f"agent {agent!r}: a run cannot be confined to a name with a |")
    return "|".join(f"{BY_NAME}{agent}" for agent in agents)


def _has(label: str, labels: Collection[str]) -> bool:
    """Say whether *labels* has *label*, or one of the agents that it names: whole names alone."""
    if not label.startswith(BY_NAME):
        return label in labels
    return any(one in labels for one in label.split("|") if one.startswith(BY_NAME))
