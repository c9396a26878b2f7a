"""
What this machine has for runs: cores, memory, GPUs, free storage.

Promises: what a container or a CPU set leaves this process counts, not what the hardware has; an
option of the command wins over what is found; a machine without ``nvidia-smi`` has no GPUs.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from physicsrunner import __version__
from physicsrunner.wire.messages import Resources

_GB: Final = 2.0**30
_CGROUP: Final = Path("/sys/fs/cgroup")
_GPU_S: Final = 10.0  # a driver that hangs must not keep the agent from starting


@dataclass(frozen=True)
class Machine:
    """What an agent offers."""

    resources: Resources
    slots: int
    labels: list[str] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)
    work: Path | None = None  #: where its free storage is measured

    def less(self, taken: list[Resources]) -> Resources:
        """Return what is free when *taken* is in use."""
        there = self.resources
        storage = there.storage_gb if self.work is None else free_storage_gb(self.work)
        return Resources(
            cpu_cores=max(0.0, there.cpu_cores - sum(item.cpu_cores for item in taken)),
            memory_gb=max(0.0, there.memory_gb - sum(item.memory_gb for item in taken)),
            gpu_count=max(0, there.gpu_count - sum(item.gpu_count for item in taken)),
            # Measured: what the runs have written is no longer in it.
            storage_gb=storage,
        )


def look(
    work: Path,
    *,
    slots: int | None = None,
    cores: float | None = None,
    memory_gb: float | None = None,
    gpus: int | None = None,
    labels: list[str] | None = None,
) -> Machine:
    """Return what this machine has; what is given is not looked for."""
    names = gpu_names() if gpus is None else []
    found = Resources(
        cpu_cores=usable_cores() if cores is None else cores,
        memory_gb=usable_memory_gb() if memory_gb is None else memory_gb,
        gpu_count=len(names) if gpus is None else gpus,
        storage_gb=free_storage_gb(work),
    )
    whole = max(1, int(found.cpu_cores))
    host = {**_host(), "cores": found.cpu_cores, "memory_gb": found.memory_gb, "gpus": names}
    return Machine(found, slots or whole, sorted(set(labels or [])), host, work)


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Return the cores that this process may use."""
    set_of = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    allowed = float(len(set_of(0)) if set_of is not None else os.cpu_count() or 1)
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit() and int(period) > 0:
        return max(0.1, min(allowed, round(int(quota) / int(period), 2)))
    return allowed


def usable_memory_gb(cgroup: Path = _CGROUP) -> float:
    """Return the memory that this process and its programs may use."""
    whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = _text(cgroup / "memory.max").strip()
    if limit.isdigit():
        whole = min(whole, float(limit))
    return round(whole / _GB, 1)


def free_storage_gb(folder: Path) -> float:
    """Return the free space where *folder* lies, or is to lie."""
    with suppress(OSError):  # mostly it is there
        found = os.statvfs(folder)
        return round(found.f_bavail * found.f_frsize / _GB, 1)
    for place in folder.absolute().parents:
        if place.exists():
            return round(shutil.disk_usage(place).free / _GB, 1)
    return 0.0


def gpu_names(program: str = "nvidia-smi") -> list[str]:
    """Return the names of the GPUs that the driver knows; none where there is no driver."""
    if shutil.which(program) is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GPU_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _host() -> dict[str, Any]:
    return {
        "hostname": socket.gethostname(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "physicsrunner": __version__,
        "pid": os.getpid(),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
