"""What the benchmarks of the sync share: a server, attempts, files, an nginx to compare with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.attempts import Claimed, claim
from tests.support.processes import Processes, ServerProcess
from tests.support.wait import wait_until

from physicsrunner.client.native import NativeUplink
from physicsrunner.runner.result import Delivery
from physicsrunner.runner.sync import Followed, Sync
from physicsrunner.runner.workdir import WorkFolder

__all__ = ["Claimed", "claim"]
MIB = 1 << 20
# As linux/fs.h has them, on machines of 64 bits.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_TREES = 0x80086601, 0x40086602, 0x00020000
_FLAGS = struct.Struct("=q")


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder on a real disk (not a memory file system), removed at the end."""
    base = os.environ.get("PHYSICSRUNNER_BENCH_DIR") or "/var/tmp"  # noqa: S108 (kept on disk)
    folder = Path(tempfile.mkdtemp(prefix="physicsrunner-bench-", dir=base))
    try:
        _spread(folder)
        yield Path(tempfile.mkdtemp(prefix="", dir=folder))  # the name decides on the part
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _spread(folder: Path) -> None:
    """
    Have each folder in *folder* lie in a part of the disk of its own, where that can be had.

    ext4 without a journal looks at every inode that was removed in the last minutes before it
    gives one out in the same part of the disk: what is measured would be what the measurement
    before has removed. ``chattr +T`` is meant for folders whose folders have nothing in common.
    """
    with contextlib.suppress(OSError):  # other file systems have no such flag
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = bytearray(8)
            fcntl.ioctl(opened, _GET_FLAGS, flags)
            fcntl.ioctl(opened, _SET_FLAGS, _FLAGS.pack(_FLAGS.unpack(flags)[0] | _TOP_OF_TREES))
        finally:
            os.close(opened)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[ServerProcess]:
    """Give a running server that keeps its data below *folder*."""
    processes = Processes(folder)
    try:
        yield processes.server()
    finally:
        processes.close()


def work_folder(root: Path) -> WorkFolder:
    """Make an empty work folder."""
    folder = WorkFolder(root)
    folder.create()
    return folder


def deliver(url: str, claimed: Claimed, folder: WorkFolder) -> tuple[float, Delivery]:
    """Send and seal everything in *folder*; return the seconds and what became of it."""
    uplink = NativeUplink(url, claimed.token)
    sync = Sync(uplink)
    start = time.perf_counter()
    sync.add(Followed(claimed.run, 1, folder))
    sync.start()
    try:
        delivery = sync.finish(claimed.run, 1, timeout=600.0)
        took = time.perf_counter() - start
    finally:
        sync.close()
        uplink.close()
    if not delivery.delivered:
        raise SystemExit(f"not delivered: {delivery}")
    return took, delivery


def make_file(path: Path, size: int, *, seed: int = 0) -> None:
    """Write *size* bytes that do not compress, quickly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = bytearray(os.urandom(4 * MIB))
    with path.open("wb") as file:
        left = size
        while left:
            block[:16] = (left + seed).to_bytes(16, "big")
            left -= file.write(memoryview(block)[: min(left, len(block))])


def flush_disks() -> None:
    """Let no side pay for what the other one left in the kernel's buffers."""
    os.sync()


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Give the address of an nginx that takes PUTs into *folder*."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("root", "body", "logs"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    temp = "\n".join(
        f"  {name}_temp_path {folder}/{name};" for name in ("fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"{user}\nworker_processes 1;\ndaemon off;\npid {folder}/pid;\n"
        f"error_log {folder}/logs/error.log;\nevents {{}}\nhttp {{\n"
        f"  access_log off;\n{temp}\n  client_max_body_size 0;\n"
        f"  server {{\n    listen 127.0.0.1:{port};\n"
        f"    location / {{ root {folder}/root; dav_methods PUT DELETE; }}\n  }}\n}}\n"
    )
    process = subprocess.Popen([program, "-e", f"{folder}/logs/start.log", "-c", str(config)])

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True
        return False

    try:
        wait_until(answers, on_timeout="nginx does not answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def curl_put(path: Path, url: str) -> float:
    """Upload one file with ``curl -T``; return the seconds."""
    start = time.perf_counter()
    subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "-T", str(path), f"{url}/{uuid.uuid4()}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def high_water(pid: int | str = "self") -> int:
    """Return the most memory that a process has had, in bytes (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} says nothing of its memory")


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which *part* of *values* lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
