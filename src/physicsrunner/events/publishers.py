"""
A publisher for each event of runs and agents.

``Job...`` is another name for ``Simulation...``; ``JobCreated`` is ``SimulationRequested``.
A test holds the list against `wire.live`.
"""

from __future__ import annotations

from physicsrunner.events.base import Publisher
from physicsrunner.wire import live


class SimulationRequestedPublisher(Publisher):
    """Publishes: somebody asked for a run."""

    kind = live.REQUESTED


class SimulationQueuedPublisher(Publisher):
    """Publishes: a run waits for an agent."""

    kind = live.QUEUED


class SimulationResourceAllocatedPublisher(Publisher):
    """Publishes: an agent was given an attempt."""

    kind = live.PREPARING


class SimulationStartedPublisher(Publisher):
    """Publishes: main.py runs."""

    kind = live.STARTED


class SimulationPausedPublisher(Publisher):
    """Publishes: a running program was stopped for a while."""

    kind = live.PAUSED


class SimulationResumedPublisher(Publisher):
    """Publishes: a paused program goes on."""

    kind = live.RESUMED


class SimulationCompletedPublisher(Publisher):
    """Publishes: a run has completed."""

    kind = live.COMPLETED


class SimulationFailedPublisher(Publisher):
    """Publishes: a run has failed."""

    kind = live.FAILED


class SimulationTimedOutPublisher(Publisher):
    """Publishes: a run was stopped by a time limit."""

    kind = live.TIMED_OUT


class SimulationCancelledPublisher(Publisher):
    """Publishes: a run was cancelled."""

    kind = live.CANCELLED


class SimulationCancelRequestedPublisher(Publisher):
    """Publishes: somebody asked a run to stop."""

    kind = live.CANCEL_REQUESTED


class SimulationRetriedPublisher(Publisher):
    """Publishes: a run will be tried again."""

    kind = live.RETRIED


class SimulationResultsAvailablePublisher(Publisher):
    """Publishes: a run has results."""

    kind = live.RESULTS


class SimulationFilesSealedPublisher(Publisher):
    """Publishes: files of a run are stored whole."""

    kind = live.SEALED


class SimulationHeldPublisher(Publisher):
    """Publishes: a queued run is not handed out."""

    kind = live.HELD


class SimulationReleasedPublisher(Publisher):
    """Publishes: a held run is handed out again."""

    kind = live.RELEASED


class SimulationPauseRequestedPublisher(Publisher):
    """Publishes: somebody asked a run to pause."""

    kind = live.PAUSE_REQUESTED


class SimulationResumeRequestedPublisher(Publisher):
    """Publishes: somebody asked a run to go on."""

    kind = live.RESUME_REQUESTED


class SimulationSilentPublisher(Publisher):
    """Publishes: a run has written nothing for as long as it allows."""

    kind = live.SILENT


class SimulationResourceReleasedPublisher(Publisher):
    """Publishes: what an attempt took is free again."""

    kind = live.FREED


class SimulationRenamedPublisher(Publisher):
    """Publishes: a run has another name."""

    kind = live.RENAMED


class SimulationPinnedPublisher(Publisher):
    """Publishes: a run is kept whatever its age."""

    kind = live.PINNED


class SimulationUnpinnedPublisher(Publisher):
    """Publishes: a run is no longer kept whatever its age."""

    kind = live.UNPINNED


class SimulationDeletedPublisher(Publisher):
    """Publishes: a run was deleted."""

    kind = live.DELETED


class SimulationContactLostPublisher(Publisher):
    """Publishes: the agent of a run has not been heard of."""

    kind = live.UNREACHABLE


class SimulationContactBackPublisher(Publisher):
    """Publishes: the agent of a run is back."""

    kind = live.REACHABLE


class SimulationUpdatedPublisher(Publisher):
    """Publishes: something about a run has changed."""

    kind = "simulation/updated"


class AgentJoinedPublisher(Publisher):
    """Publishes: an agent has joined."""

    kind = live.AGENT_JOINED


class AgentDrainedPublisher(Publisher):
    """Publishes: an agent takes no more work."""

    kind = live.AGENT_DRAINED


class AgentPausedPublisher(Publisher):
    """Publishes: an agent was paused by its circuit breaker."""

    kind = live.AGENT_PAUSED


class AgentResumedPublisher(Publisher):
    """Publishes: an agent takes work again."""

    kind = live.AGENT_RESUMED


class AgentRemovedPublisher(Publisher):
    """Publishes: an agent was removed."""

    kind = live.AGENT_REMOVED


JobCreatedPublisher = SimulationRequestedPublisher
JobRequestedPublisher = SimulationRequestedPublisher
JobQueuedPublisher = SimulationQueuedPublisher
JobPreparingPublisher = SimulationResourceAllocatedPublisher
JobResourceAllocatedPublisher = SimulationResourceAllocatedPublisher
JobStartedPublisher = SimulationStartedPublisher
JobPausedPublisher = SimulationPausedPublisher
JobResumedPublisher = SimulationResumedPublisher
JobCompletedPublisher = SimulationCompletedPublisher
JobFailedPublisher = SimulationFailedPublisher
JobTimedOutPublisher = SimulationTimedOutPublisher
JobCancelledPublisher = SimulationCancelledPublisher
JobCancelRequestedPublisher = SimulationCancelRequestedPublisher
JobRetriedPublisher = SimulationRetriedPublisher
JobResultsAvailablePublisher = SimulationResultsAvailablePublisher
JobFilesSealedPublisher = SimulationFilesSealedPublisher
JobHeldPublisher = SimulationHeldPublisher
JobReleasedPublisher = SimulationReleasedPublisher
JobPauseRequestedPublisher = SimulationPauseRequestedPublisher
JobResumeRequestedPublisher = SimulationResumeRequestedPublisher
JobSilentPublisher = SimulationSilentPublisher
JobResourceReleasedPublisher = SimulationResourceReleasedPublisher
JobPinnedPublisher = SimulationPinnedPublisher
JobRenamedPublisher = SimulationRenamedPublisher
JobUnpinnedPublisher = SimulationUnpinnedPublisher
JobDeletedPublisher = SimulationDeletedPublisher
JobContactLostPublisher = SimulationContactLostPublisher
JobContactBackPublisher = SimulationContactBackPublisher
JobUpdatedPublisher = SimulationUpdatedPublisher

__all__ = [
    "AgentDrainedPublisher",
    "AgentJoinedPublisher",
    "AgentPausedPublisher",
    "AgentRemovedPublisher",
    "AgentResumedPublisher",
    "JobCancelRequestedPublisher",
    "JobCancelledPublisher",
    "JobCompletedPublisher",
    "JobContactBackPublisher",
    "JobContactLostPublisher",
    "JobCreatedPublisher",
    "JobDeletedPublisher",
    "JobFailedPublisher",
    "JobFilesSealedPublisher",
    "JobHeldPublisher",
    "JobPauseRequestedPublisher",
    "JobPausedPublisher",
    "JobPinnedPublisher",
    "JobPreparingPublisher",
    "JobQueuedPublisher",
    "JobReleasedPublisher",
    "JobRenamedPublisher",
    "JobRequestedPublisher",
    "JobResourceAllocatedPublisher",
    "JobResourceReleasedPublisher",
    "JobResultsAvailablePublisher",
    "JobResumeRequestedPublisher",
    "JobResumedPublisher",
    "JobRetriedPublisher",
    "JobSilentPublisher",
    "JobStartedPublisher",
    "JobTimedOutPublisher",
    "JobUnpinnedPublisher",
    "JobUpdatedPublisher",
    "SimulationCancelRequestedPublisher",
    "SimulationCancelledPublisher",
    "SimulationCompletedPublisher",
    "SimulationContactBackPublisher",
    "SimulationContactLostPublisher",
    "SimulationDeletedPublisher",
    "SimulationFailedPublisher",
    "SimulationFilesSealedPublisher",
    "SimulationHeldPublisher",
    "SimulationPauseRequestedPublisher",
    "SimulationPausedPublisher",
    "SimulationPinnedPublisher",
    "SimulationQueuedPublisher",
    "SimulationReleasedPublisher",
    "SimulationRenamedPublisher",
    "SimulationRequestedPublisher",
    "SimulationResourceAllocatedPublisher",
    "SimulationResourceReleasedPublisher",
    "SimulationResultsAvailablePublisher",
    "SimulationResumeRequestedPublisher",
    "SimulationResumedPublisher",
    "SimulationRetriedPublisher",
    "SimulationSilentPublisher",
    "SimulationStartedPublisher",
    "SimulationTimedOutPublisher",
    "SimulationUnpinnedPublisher",
    "SimulationUpdatedPublisher",
]
