"""
Whether a run fits where it is to run.

Pure. Amounts are cores, GB, pieces; a run needs what its record says, an agent offers what it has
free. Labels are words such as ``gpu`` or ``site:north``: an agent must have all that a run names.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from physicsrunner.core.run import RunSummary


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
    return set(run.labels) <= set(labels)
