"""
Programs on this machine, each under a small ``/bin/sh`` shim.

The shim leads a session of its own and does three things: it claims the control folder by creating
``pid`` (only one shim ever can, so a program that was submitted twice around a kill runs once), it
runs the program, and it writes the program's exit status into ``pid``. Programs therefore outlive
the process that started them, and any later process can go on with them.

``pid`` is one line: the shim's pid, start time and boot, the exit status (``-`` until the program
has ended), and the tag that the program's processes carry. The status is written over what keeps
its place, so that a full disk has room for it; it is believed when the shim has ended.

Promises are those of `base`. Besides: the native id holds pid, start time, boot and control folder.
A program's exit status over 128 is the shell's word for a signal (137 is -9); a program that
itself exits with 129 to 192 cannot be told from one that was killed.

It never changes this process: no signal handlers, no waiting for children that are not its own.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from physicsrunner.engines.base import EngineStatus, NativeId, Phase, Program
from physicsrunner.engines.ends import Ends
from physicsrunner.engines.processes import (
    ProcessId,
    began_at,
    boot_id,
    is_alive,
    kill_all,
    parse_process_id,
    signal_group,
    wait_ended,
)
from physicsrunner.engines.sweeps import Sweeps
from physicsrunner.errors import ConfigError, PhysicsRunnerError, StorageFull

#: Inherited by whatever a program starts: how orphans are found. Nested runs are parts of it.
TAG: Final = "PHYSICSRUNNER_ATTEMPT_ID"

# $1 is the control folder, $2 this boot, $3 the tag, $4 the working directory. Descriptor 3 is
# closed when the folder is claimed, or with the shim. The exit status is written over its place,
# without another program and without a byte more. `trap :` and not `trap ''`: what is ignored is
# inherited.
_SHIM: Final = r"""
d=$1; b=$2; t=$3; cd "$4" || exit 126; shift 4
start() { shift 19; s=$1; }
s=0
if read -r line < /proc/$$/stat; then start ${line##*) }; fi
set -C
{ printf '%s %s %s %-3s %s\n' $$ $s "$b" - "$t" > "$d/pid"; } 2> /dev/null || exit 125
set +C
exec 3>&-
trap : TERM INT HUP
"$@"
c=$?
printf '%s %s %s %-3s' $$ $s "$b" $c 1<> "$d/pid"
exit $c
"""
_CLAIMED: Final = 3  # the shim's descriptor
_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)
_LONGEST: Final = 4096  # bytes of a file of ours
_CLAIM_S: Final = 10.0  # until a shim that was started has claimed its folder
_LAST_LOOKS: Final = 100  # at one that has not, every 10 ms


class LocalEngine:
    """Run programs on this machine. Safe to use from many threads."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._children: set[int] = set()  #: shims that this process must reap
        self._guard = threading.Lock()
        self.open_files: int | None = None  #: programs' soft limit; None: this process's own
        self._ends = Ends()
        self._sweeps = Sweeps(TAG)

    def submit(self, program: Program) -> NativeId:
        """
        Start *program*; return its native id.

        If the control folder has been claimed already (by a submit whose caller was killed), the
        program that runs or ran there is returned and nothing is started twice.

        Raises
        ------
        ConfigError
            The working directory is missing, or the shim cannot be started.
        StorageFull
            The control folder cannot be written.
        """
        claimed = self.find(program.control)
        if claimed is not None:
            return claimed
        control = str(program.control)
        os.makedirs(control, exist_ok=True)  # noqa: PTH103 (a Path costs more than the folder)
        tags = program.environment.get(TAG) or uuid.uuid4().hex
        claimed_or_gone, told = os.pipe()
        try:
            try:
                child = self._start(program, tags, told)
            finally:
                os.close(told)
            with self._guard:
                self._children.add(child)
            return self._await_claim(control, child, claimed_or_gone)
        finally:
            os.close(claimed_or_gone)

    def find(self, control: Path | str) -> NativeId | None:
        """Return the id of the program that has claimed *control*, or None."""
        process = _read_pid(control)
        return None if process is None else _native_id(process, control)

    def began(self, native_id: NativeId) -> float:
        """
        Return when the program was started, POSIX seconds.

        Raises
        ------
        OSError
            It ran before the machine's last start, and its control folder is gone.
        """
        process, control = _parse(native_id)
        at = began_at(process)
        return os.stat(f"{control}/pid").st_mtime if at is None else at  # noqa: PTH116

    def poll(self, ids: Collection[NativeId]) -> Mapping[NativeId, EngineStatus]:
        """Say how all *ids* are doing."""
        return {native_id: self._status(native_id) for native_id in ids}

    def wait(self, native_id: NativeId, timeout: float) -> EngineStatus:
        """Wait until the program has ended, *timeout* seconds at most; return how it is doing."""
        process, _ = _parse(native_id)
        wait_ended(process, timeout, self._sleep)
        return self._status(native_id)

    def notify(self, native_id: NativeId, on_end: Callable[[], None]) -> None:
        """Call *on_end*, from the thread that waits for all, when the program has ended."""
        self._ends.watch(_parse(native_id)[0], on_end)

    def forget(self, native_id: NativeId) -> None:
        """Tell nobody of the program's end any more."""
        self._ends.forget(_parse(native_id)[0])

    def close(self) -> None:
        """End the thread that waits for programs; no program."""
        self._ends.close()

    def suspend(self, native_id: NativeId) -> None:
        """Send SIGSTOP to the program's process group, its shim with it."""
        signal_group(_parse(native_id)[0], signal.SIGSTOP)

    def resume(self, native_id: NativeId) -> None:
        """Send SIGCONT to the program's process group."""
        signal_group(_parse(native_id)[0], signal.SIGCONT)

    def terminate(self, native_id: NativeId) -> None:
        """Send SIGTERM to the program's process group, which wakes it if it is suspended."""
        process, _ = _parse(native_id)
        signal_group(process, signal.SIGTERM)
        signal_group(process, signal.SIGCONT)

    def cancel(self, native_id: NativeId) -> None:
        """
        End the program now, with everything it started, wherever that has moved to.

        Its group is killed but for the shim, which then still writes the exit status.
        """
        process, control = _parse(native_id)
        tag = _tag(control)
        if is_alive(process):
            # Finding processes reads the environment of many: once is enough after the end.
            if tag:
                self._kill_all_but_shim(process, tag)
                signal_group(process, signal.SIGCONT)  # a suspended shim writes no exit status
            if not wait_ended(process, 1.0, self._sleep):
                signal_group(process, signal.SIGKILL)
                wait_ended(process, 2.0, self._sleep)
        signal_group(process, signal.SIGKILL)  # what the shim has left in its group
        if tag:
            kill_all(lambda: self._found(tag, process), self._sleep)
        self._reap(process.pid)

    def _start(self, program: Program, tags: str, told: int) -> int:
        own = (str(program.control), boot_id(), tags.rpartition("/")[2], str(program.cwd))
        limit = "" if self.open_files is None else f"ulimit -S -n {self.open_files}\n"
        argv = ["/bin/sh", "-c", limit + _SHIM, "physicsrunner-shim", *own, *program.argv]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        streams: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, told, _CLAIMED),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(program.stdout), append, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(program.stderr), append, 0o644),
        ]
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                {**program.environment, TAG: tags},
                file_actions=streams,
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_SIGNALS,  # Python ignores some, and that would be inherited
            )
        except OSError as error:
            raise ConfigError(f"cannot start {program.argv[0]!r}: {error}") from error

    def _await_claim(self, control: str, child: int, claimed_or_gone: int) -> NativeId:
        poller = select.poll()
        poller.register(claimed_or_gone, select.POLLIN)
        poller.poll(_CLAIM_S * 1000.0)  # the shim closes its end, or ends
        found = self.find(control)
        if found is not None:
            return found
        for _ in range(_LAST_LOOKS):
            if self._reap(child):
                break
            self._sleep(0.01)
        raise StorageFull(f"the shim could not write its pid to {control}")

    def _found(self, tag: str, shim: ProcessId) -> list[ProcessId]:
        """Return the living processes that carry *tag*, the one of *shim*."""
        with self._guard:
            # What is in another program's session was started by that program.
            others = self._children - {shim.pid}
        return self._sweeps.find(tag, shim, others)

    def _status(self, native_id: NativeId) -> EngineStatus:
        process, control = _parse(native_id)
        if not self._reap(process.pid) and is_alive(process):
            return EngineStatus(Phase.RUNNING)
        code = _exit_code(control)  # it is whole: who wrote it has ended
        return EngineStatus(Phase.LOST) if code is None else EngineStatus(Phase.ENDED, code)

    def _kill_all_but_shim(self, shim: ProcessId, tag: str) -> None:
        for _ in range(50):
            found = [each for each in self._found(tag, shim) if each.pid != shim.pid]
            if not found:
                return
            for process in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            self._sleep(0.01)

    def _reap(self, pid: int) -> bool:
        """Collect *pid*, if it is a child of ours that has ended, lest it stays as a zombie."""
        with self._guard:
            if pid not in self._children:
                return False
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid  # collected by somebody else
            if ended:
                self._children.discard(pid)
            return bool(ended)


def _native_id(process: ProcessId, control: Path | str) -> NativeId:
    return NativeId(f"{process.pid}:{process.start}:{process.boot}:{control}")


@lru_cache(maxsize=1024)
def _parse(native_id: NativeId) -> tuple[ProcessId, str]:
    try:
        pid, start, boot, control = native_id.split(":", 3)
        return ProcessId(int(pid), int(start), boot), control
    except ValueError:
        raise PhysicsRunnerError(f"{native_id!r} is not an id of the local engine") from None


def _read(path: str) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(file, _LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(file)


def _read_pid(control: Path | str) -> ProcessId | None:
    text = _read(f"{control}/pid")
    # Without its line end the write may be torn: it is on its way.
    return parse_process_id(text) if text.endswith("\n") else None


def _words(control: str) -> list[str]:
    """Return what the shim wrote: pid, start time, boot, exit status, and the tag to its end."""
    text = _read(f"{control}/pid")
    return text[:-1].split(None, 4) if text.endswith("\n") else []


def _tag(control: str) -> str:
    words = _words(control)
    return words[4] if len(words) > 4 else ""


def _exit_code(control: str) -> int | None:
    words = _words(control)
    if len(words) < 4 or not words[3].isdigit():
        return None
    code = int(words[3])
    return 128 - code if 128 < code <= 128 + 64 else code
