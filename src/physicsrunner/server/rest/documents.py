"""
Runs as they stand on the wire, and how their routes are described.

Promises: a field that is not known is left out; what a page of many runs costs is one pass over
their fields, without a look at each value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from physicsrunner.core.run import RunSummary
from physicsrunner.wire import rest

RUN: Final = f"{rest.SIMULATIONS}/{{run}}"
RUN_ID: Final = "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77"
REQUEST: Final[Mapping[str, Any]] = {
    "model_id": "5c1f2e0a-7f0e-4a4e-9a53-3a1f5b0c2d11",
    "name": "cavity at Re 100",
    "parameters": {"inputs": {"reynolds": 100}},
    "configuration": {
        "timeout_minutes": 60,
        "priority": "high",
        "retry_policy": {"max_retries": 2, "retry_delay_seconds": 30},
    },
    "resource_requirements": {"cpu_cores": 2, "memory_gb": 4},
    "tags": ["demo"],
}
SUMMARY: Final[Mapping[str, Any]] = {
    "id": RUN_ID,
    "number": 17,
    "name": "cavity at Re 100",
    "created_by": "admin",
    "created_at": 1767225600.0,
    "updated_at": 1767225630.0,
    "status": "running",
    "stage": "execute",
    "label": "iteration 1200",
    "progress_percent": 42.0,
    "attempt": 1,
    "agent": "node-7",
}
SHOWN: Final[Mapping[str, Any]] = {**SUMMARY, "reason": "running on node-7"}
AGENT: Final[Mapping[str, Any]] = {
    "name": "node-7",
    "state": "active",
    "reason": None,
    "host": {"hostname": "node-7", "cores": 16},
    "labels": ["gpu"],
    "resources": {"cpu_cores": 16, "memory_gb": 64, "gpu_count": 2, "storage_gb": 900},
    "free": {"cpu_cores": 10, "memory_gb": 40, "gpu_count": 1, "storage_gb": 700},
    "slots": 8,
    "active": 3,
    "first_seen": 1767225600.0,
    "last_seen": 1767225630.0,
}


def document(run: RunSummary, reason: str | None = None) -> dict[str, Any]:
    """Return *run* as plain JSON values; *reason* says in words why it is where it is."""
    found = {name: value for name, value in vars(run).items() if value is not None}
    if run.duration_seconds is not None:
        found["duration_seconds"] = run.duration_seconds
    if reason is not None:
        found["reason"] = reason
    return found
