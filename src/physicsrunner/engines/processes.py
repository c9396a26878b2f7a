"""
Facts about processes of this machine, read from ``/proc``.

Promises: a process is named by pid, start time and boot, so that a recycled pid is never taken for
the one that was meant; a zombie counts as ended, because whoever should reap it may be late by
seconds. Where there is no ``/proc`` the start time is 0 and the pid alone decides.

Nothing here ever signals the calling process.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

_PROC = Path("/proc")
_ROOT = str(_PROC)  # asked for many times a run
_STARTS_A_SECOND = 100_000  # more than any machine can do
_FEW = 100  # pids that are tried one by one rather than all being listed
_ENDED_STATES = frozenset({"Z", "X", "x"})


@dataclass(frozen=True)
class ProcessId:
    """One process, for ever: pids are used again, start times within one boot are not."""

    pid: int
    start: int  #: clock ticks since boot (field 22 of /proc/PID/stat); 0: not known
    boot: str  #: the first 8 characters of the boot's id; "-": not known

    def __str__(self) -> str:
        return f"{self.pid} {self.start} {self.boot}"


def parse_process_id(text: str) -> ProcessId | None:
    """Read what `ProcessId` prints as; None if *text* is not that (a torn write)."""
    words = text.split()
    if len(words) < 3 or not words[0].isdigit() or not words[1].isdigit():
        return None
    return ProcessId(int(words[0]), int(words[1]), words[2])


@cache
def boot_id() -> str:
    """Return the first 8 characters of this boot's id, or ``-``."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii")[:8]
    except OSError:
        return "-"


def own_id() -> ProcessId:
    """Return the name of the calling process."""
    return _id_of(os.getpid())


@lru_cache(maxsize=1)
def _id_of(pid: int) -> ProcessId:
    stat = _stat(pid)
    return ProcessId(pid, stat[1] if stat else 0, boot_id())


def is_alive(process: ProcessId) -> bool:
    """Say whether exactly this process exists and has not ended (a zombie has)."""
    if process.boot != boot_id():
        return False
    stat = _stat(process.pid)
    if stat is None:
        return not _PROC.is_dir() and _exists(process.pid)
    state, start = stat
    return state not in _ENDED_STATES and process.start in (0, start)


def wait_ended(process: ProcessId, timeout: float, sleep: Callable[[float], None]) -> bool:
    """
    Wait until *process* has ended, *timeout* seconds at most; say whether it has.

    A file descriptor of the process wakes at once (Linux 5.3); elsewhere it is looked at every
    20 ms by *sleep*.
    """
    if not is_alive(process):
        return True
    descriptor = open_pidfd(process.pid)
    if descriptor is None:
        step = min(0.02, timeout)
        for _ in range(max(1, int(timeout / 0.02))):
            sleep(step)
            if not is_alive(process):
                return True
        return False
    try:
        # Looked at again: the pid may have been recycled before the descriptor was opened.
        if not is_alive(process):
            return True
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(max(0.0, timeout) * 1000.0))
    finally:
        os.close(descriptor)


def signal_group(process: ProcessId, number: int) -> None:
    """Send signal *number* to the process group that *process* leads; silent when it is gone."""
    if process.pid <= 1 or process.boot != boot_id() or not _group_exists(process.pid):
        return
    stat = _stat(process.pid)
    # A zombie still holds its pid, so its group cannot be anybody else's.
    if stat is not None and process.start not in (0, stat[1]):
        return
    if stat is None and _PROC.is_dir() and not _group_is_ours(process):
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def tags_of(
    name: str, pids: Iterable[int] | None = None
) -> Iterator[tuple[ProcessId, tuple[str, ...]]]:
    """
    Yield living processes with the ``/``-separated parts of their environment's variable *name*.

    Programs inherit it, whatever group, session or parent they have moved to. *pids* None: all.
    """
    wanted = f"{name}=".encode()
    mine = os.getpid()
    for entry in _pids() if pids is None else pids:
        if entry == mine:
            continue
        with suppress(OSError):
            block = _environment(entry)
            begin = 0 if block.startswith(wanted) else block.find(b"\0" + wanted) + 1
            if not block.startswith(wanted, begin):
                continue
            stat = _stat(entry)
            if stat is None or stat[0] in _ENDED_STATES:
                continue
            value = block[begin + len(wanted) :].partition(b"\0")[0]
            yield ProcessId(entry, stat[1], boot_id()), tuple(os.fsdecode(value).split("/"))


def _environment(pid: int) -> bytes:
    file = os.open(f"{_ROOT}/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, 1 << 17):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(file)


def tagged(name: str, tag: str) -> Iterator[ProcessId]:
    """Yield living processes whose environment has *tag* among the parts of *name*."""
    for process, tags in tags_of(name):
        if tag in tags:
            yield process


def kill_all(find: Callable[[], Sequence[ProcessId]], sleep: Callable[[float], None]) -> int:
    """
    Kill every process that *find* returns, until it finds none; return how many were killed.

    Repeated, because a process may fork while it is being found.
    """
    killed: set[int] = set()
    for _ in range(50):
        found = find()
        if not found:
            break
        for process in found:
            killed.add(process.pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        sleep(0.01)
    return len(killed)


def kill_tagged(name: str, tag: str, sleep: Callable[[float], None] = time.sleep) -> int:
    """Kill every process that carries *tag*, until none is found; return how many were killed."""
    return kill_all(lambda: list(tagged(name, tag)), sleep)


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state and start time of *pid*, or None."""
    try:
        file = os.open(f"{_ROOT}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, 4096).decode("utf-8", "replace")
    except OSError:
        return None  # it has ended meanwhile
    finally:
        os.close(file)
    # The name, in brackets, may hold spaces and brackets itself: count from its end.
    words = text[text.rfind(")") + 2 :].split()
    return (words[0], int(words[19])) if len(words) > 19 else None


def _pids() -> list[int]:
    try:
        with os.scandir(_PROC) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdigit()]
    except OSError:
        return []


def pids_since(first: ProcessId) -> list[int] | None:
    """
    Return the pids of processes that may have begun after *first*; None: it may be any.

    Pids are given in turn, and start again from below when they are used up. As long as nobody
    can have used them all up (a hundred thousand a second), what is younger lies between *first*
    and the latest.
    """
    latest = _latest_pid()
    if not first.start or latest < first.pid:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - first.start / os.sysconf("SC_CLK_TCK")
    if not 0 <= age < _most_pids() / _STARTS_A_SECOND:
        return None
    if latest - first.pid < _FEW:
        return list(range(first.pid, latest + 1))
    return [pid for pid in _pids() if first.pid <= pid <= latest]


def outside(pids: Iterable[int], sessions: Collection[int]) -> Iterator[int]:
    """Yield those of *pids* that are in use, and by a process in none of *sessions*."""
    for pid in pids:
        try:
            if os.getsid(pid) not in sessions:
                yield pid
        except ProcessLookupError:
            continue
        except OSError:
            yield pid  # it cannot be told


def begun_since(first: ProcessId, most: int) -> list[int] | None:
    """Return the pids of the processes that are not older than *first*; None: too many to tell."""
    some = pids_since(first)
    if some is not None:
        return some if len(some) <= most else None
    every = _pids()
    if not first.start or first.boot != boot_id() or len(every) > most:
        return None
    found = ((pid, _stat(pid)) for pid in every)
    return [pid for pid, stat in found if stat is not None and stat[1] >= first.start]


def began_at(process: ProcessId) -> float | None:
    """Return when *process* was started, POSIX seconds; None: that cannot be told any more."""
    if not process.start or process.boot != boot_id():
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")
    return time.time() - max(0.0, age)


def _latest_pid() -> int:
    try:
        with open(f"{_ROOT}/loadavg", "rb", buffering=0) as file:  # noqa: PTH123 (for every run)
            return int(file.read(200).split()[4])
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _most_pids() -> int:
    try:
        return int((_PROC / "sys/kernel/pid_max").read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _group_is_ours(leader: ProcessId) -> bool:
    """Say whether a group without its leader is still the one that *leader* had begun."""
    for pid in _pids():
        try:
            if os.getpgid(pid) == leader.pid and os.getsid(pid) == leader.pid:
                stat = _stat(pid)
                # Its members are younger than the leader was; a pid is not recycled while a
                # group of that number exists, so this is the same group.
                return stat is not None and stat[1] >= leader.start
        except OSError:
            continue
    return False


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when process *pid* ends, or None."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
