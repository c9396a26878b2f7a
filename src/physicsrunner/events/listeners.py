"""
A listener for each event of runs and agents.

``Job...`` is another name for ``Simulation...``; ``JobCreated`` is ``SimulationRequested``.
``SimulationUpdatedListener`` hears every event of runs.
A test holds the list against `wire.live`.
"""

from __future__ import annotations

from physicsrunner.events.base import Listener
from physicsrunner.wire import live


class SimulationRequestedListener(Listener):
    """Hears: somebody asked for a run."""

    kind = live.REQUESTED


class SimulationQueuedListener(Listener):
    """Hears: a run waits for an agent."""

    kind = live.QUEUED


class SimulationResourceAllocatedListener(Listener):
    """Hears: an agent was given an attempt."""

    kind = live.PREPARING


class SimulationStartedListener(Listener):
    """Hears: main.py runs."""

    kind = live.STARTED


class SimulationPausedListener(Listener):
    """Hears: a running program was stopped for a while."""

    kind = live.PAUSED


class SimulationResumedListener(Listener):
    """Hears: a paused program goes on."""

    kind = live.RESUMED


class SimulationCompletedListener(Listener):
    """Hears: a run has completed."""

    kind = live.COMPLETED


class SimulationFailedListener(Listener):
    """Hears: a run has failed."""

    kind = live.FAILED


class SimulationTimedOutListener(Listener):
    """Hears: a run was stopped by a time limit."""

    kind = live.TIMED_OUT


class SimulationCancelledListener(Listener):
    """Hears: a run was cancelled."""

    kind = live.CANCELLED


class SimulationCancelRequestedListener(Listener):
    """Hears: somebody asked a run to stop."""

    kind = live.CANCEL_REQUESTED


class SimulationRetriedListener(Listener):
    """Hears: a run will be tried again."""

    kind = live.RETRIED


class SimulationResultsAvailableListener(Listener):
    """Hears: a run has results."""

    kind = live.RESULTS


class SimulationFilesSealedListener(Listener):
    """Hears: files of a run are stored whole."""

    kind = live.SEALED


class SimulationHeldListener(Listener):
    """Hears: a queued run is not handed out."""

    kind = live.HELD


class SimulationReleasedListener(Listener):
    """Hears: a held run is handed out again."""

    kind = live.RELEASED


class SimulationPauseRequestedListener(Listener):
    """Hears: somebody asked a run to pause."""

    kind = live.PAUSE_REQUESTED


class SimulationResumeRequestedListener(Listener):
    """Hears: somebody asked a run to go on."""

    kind = live.RESUME_REQUESTED


class SimulationSilentListener(Listener):
    """Hears: a run has written nothing for as long as it allows."""

    kind = live.SILENT


class SimulationResourceReleasedListener(Listener):
    """Hears: what an attempt took is free again."""

    kind = live.FREED


class SimulationRenamedListener(Listener):
    """Hears: a run has another name."""

    kind = live.RENAMED


class SimulationPinnedListener(Listener):
    """Hears: a run is kept whatever its age."""

    kind = live.PINNED


class SimulationUnpinnedListener(Listener):
    """Hears: a run is no longer kept whatever its age."""

    kind = live.UNPINNED


class SimulationDeletedListener(Listener):
    """Hears: a run was deleted."""

    kind = live.DELETED


class SimulationContactLostListener(Listener):
    """Hears: the agent of a run has not been heard of."""

    kind = live.UNREACHABLE


class SimulationContactBackListener(Listener):
    """Hears: the agent of a run is back."""

    kind = live.REACHABLE


class SimulationUpdatedListener(Listener):
    """Hears every event of runs."""

    kind = "simulation/updated"

    @property
    def subject(self) -> str:
        """The pattern of all subjects of runs."""
        return "simulation.>"


class AgentJoinedListener(Listener):
    """Hears: an agent has joined."""

    kind = live.AGENT_JOINED


class AgentDrainedListener(Listener):
    """Hears: an agent takes no more work."""

    kind = live.AGENT_DRAINED


class AgentPausedListener(Listener):
    """Hears: an agent was paused by its circuit breaker."""

    kind = live.AGENT_PAUSED


class AgentResumedListener(Listener):
    """Hears: an agent takes work again."""

    kind = live.AGENT_RESUMED


class AgentRemovedListener(Listener):
    """Hears: an agent was removed."""

    kind = live.AGENT_REMOVED


JobCreatedListener = SimulationRequestedListener
JobRequestedListener = SimulationRequestedListener
JobQueuedListener = SimulationQueuedListener
JobPreparingListener = SimulationResourceAllocatedListener
JobResourceAllocatedListener = SimulationResourceAllocatedListener
JobStartedListener = SimulationStartedListener
JobPausedListener = SimulationPausedListener
JobResumedListener = SimulationResumedListener
JobCompletedListener = SimulationCompletedListener
JobFailedListener = SimulationFailedListener
JobTimedOutListener = SimulationTimedOutListener
JobCancelledListener = SimulationCancelledListener
JobCancelRequestedListener = SimulationCancelRequestedListener
JobRetriedListener = SimulationRetriedListener
JobResultsAvailableListener = SimulationResultsAvailableListener
JobFilesSealedListener = SimulationFilesSealedListener
JobHeldListener = SimulationHeldListener
JobReleasedListener = SimulationReleasedListener
JobPauseRequestedListener = SimulationPauseRequestedListener
JobResumeRequestedListener = SimulationResumeRequestedListener
JobSilentListener = SimulationSilentListener
JobResourceReleasedListener = SimulationResourceReleasedListener
JobPinnedListener = SimulationPinnedListener
JobRenamedListener = SimulationRenamedListener
JobUnpinnedListener = SimulationUnpinnedListener
JobDeletedListener = SimulationDeletedListener
JobContactLostListener = SimulationContactLostListener
JobContactBackListener = SimulationContactBackListener
JobUpdatedListener = SimulationUpdatedListener

__all__ = [
    "AgentDrainedListener",
    "AgentJoinedListener",
    "AgentPausedListener",
    "AgentRemovedListener",
    "AgentResumedListener",
    "JobCancelRequestedListener",
    "JobCancelledListener",
    "JobCompletedListener",
    "JobContactBackListener",
    "JobContactLostListener",
    "JobCreatedListener",
    "JobDeletedListener",
    "JobFailedListener",
    "JobFilesSealedListener",
    "JobHeldListener",
    "JobPauseRequestedListener",
    "JobPausedListener",
    "JobPinnedListener",
    "JobPreparingListener",
    "JobQueuedListener",
    "JobReleasedListener",
    "JobRenamedListener",
    "JobRequestedListener",
    "JobResourceAllocatedListener",
    "JobResourceReleasedListener",
    "JobResultsAvailableListener",
    "JobResumeRequestedListener",
    "JobResumedListener",
    "JobRetriedListener",
    "JobSilentListener",
    "JobStartedListener",
    "JobTimedOutListener",
    "JobUnpinnedListener",
    "JobUpdatedListener",
    "SimulationCancelRequestedListener",
    "SimulationCancelledListener",
    "SimulationCompletedListener",
    "SimulationContactBackListener",
    "SimulationContactLostListener",
    "SimulationDeletedListener",
    "SimulationFailedListener",
    "SimulationFilesSealedListener",
    "SimulationHeldListener",
    "SimulationPauseRequestedListener",
    "SimulationPausedListener",
    "SimulationPinnedListener",
    "SimulationQueuedListener",
    "SimulationReleasedListener",
    "SimulationRenamedListener",
    "SimulationRequestedListener",
    "SimulationResourceAllocatedListener",
    "SimulationResourceReleasedListener",
    "SimulationResultsAvailableListener",
    "SimulationResumeRequestedListener",
    "SimulationResumedListener",
    "SimulationRetriedListener",
    "SimulationSilentListener",
    "SimulationStartedListener",
    "SimulationTimedOutListener",
    "SimulationUnpinnedListener",
    "SimulationUpdatedListener",
]
