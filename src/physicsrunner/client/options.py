"""
How a run is to be carried out, in the words of Python, and as the REST API takes it.

Promises: nothing is checked here that the server checks; what is not given is not sent, so that
the server's defaults (and those of the case) hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunOptions:
    """
    Options of a run. All of them may be left out.

    Examples
    --------
    >>> RunOptions(priority="high", cores=4, retries=2).configuration()
    {'priority': 'high', 'retry_policy': {'max_retries': 2}}
    """

    priority: str | int | None = None  #: low, normal, high, critical; or 0 to 3
    labels: Sequence[str] = ()  #: an agent must have all of them
    cores: float | None = None
    memory_gb: float | None = None
    gpus: int | None = None
    storage_gb: float | None = None
    time_limit_min: float | None = None  #: of main.py; stands still while it is paused
    queue_limit_min: float | None = None  #: of waiting; then it times out
    silence_min: float | None = None  #: without any output: an event
    stop_when_silent: bool = False  #: and then it is stopped
    retries: int | None = None  #: how often it is tried again when it fails
    retry_delay_s: float | None = None  #: default: 30, 300, then 1200
    exponential: bool = False  #: each wait is twice the one before
    #: After which failures: exit_code, signal, lost, timeout, download. Empty: after all.
    retry_on: Sequence[str] = ()
    on_lost_contact: str | None = None  #: wait, retry, fail
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Variables whose values are kept encrypted and shown to nobody but main.py.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    project: str | None = None
    study: str | None = None  #: its id
    pinned: bool = False
    description: str | None = None

    def configuration(self) -> dict[str, Any]:
        """Return the part that is ExecutionConfig of the REST API."""
        environment: dict[str, Any] = dict(self.environment)
        environment.update({name: {"secret": value} for name, value in self.secrets.items()})
        retry = {
            "max_retries": self.retries,
            "retry_delay_seconds": self.retry_delay_s,
            "exponential_backoff": self.exponential or None,
            "retry_on_failure_types": list(self.retry_on) or None,
        }
        return _given(
            {
                "priority": self.priority,
                "labels": list(self.labels) or None,
                "timeout_minutes": self.time_limit_min,
                "queue_timeout_minutes": self.queue_limit_min,
                "silence_minutes": self.silence_min,
                "stop_when_silent": self.stop_when_silent or None,
                "retry_policy": _given(retry) or None,
                "on_lost_contact": self.on_lost_contact,
                "environment_variables": environment or None,
            }
        )

    def request(self) -> dict[str, Any]:
        """Return what stands beside the configuration in a request for a run."""
        resources = {
            "cpu_cores": self.cores,
            "memory_gb": self.memory_gb,
            "gpu_count": self.gpus,
            "storage_gb": self.storage_gb,
        }
        return _given(
            {
                "resource_requirements": _given(resources) or None,
                "project_id": self.project,
                "study_id": self.study,
                "pinned": self.pinned or None,
                "description": self.description,
            }
        )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
