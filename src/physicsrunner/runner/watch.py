"""
Watching a folder: hints that something below it changed.

Promises:

- A change is reported within some `coalesce_s`, as the set of paths that were touched. What
  happens meanwhile is reported together: at most one call in `coalesce_s`.
- Events are hints. The whole folder is reported (``frozenset({root})``: "look at everything")
  every `scan_s`, at the start, and when the kernel's queue may have lost events; a caller that
  scans then has missed nothing.
- Where there are no usable events (no inotify left, a network file system) the whole folder is
  reported every `poll_s`.
- `on_change` is called from one thread, never twice at once.

It never reads a file and never says what a change was.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

# When it is stopped in the middle of an event, and when a folder appears while it sets up, watchdog
# speaks to the user of what is no fault and costs no event.
_INACTIVE: Final = "called when the thread is inactive"
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: _INACTIVE not in record.getMessage()
)
warnings.filterwarnings("ignore", "Callback with id ", RuntimeWarning, r"watchdog\.")

#: Opening, reading and closing are none of ours: without this the kernel's queue overflows.
EVENTS: Final[list[type[FileSystemEvent]]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
#: inotify sees only what this machine does; others write on these.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gpfs", "glusterfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "vboxsf"}
)
#: The kernel's queue holds 16,384 events. More than half of that between two reports: some may
#: be lost.
BURST: Final = 8192


class FolderWatch:
    """
    Watches *root* and everything below it.

    Parameters
    ----------
    root
        An existing folder.
    on_change
        Called with the touched paths, or with ``{root}`` for "look at everything".
    coalesce_s, scan_s, poll_s
        Seconds: see the module's promises.
    log
        Where to tell what could not be done; None: this module's.
    """

    def __init__(
        self,
        root: Path,
        on_change: Callable[[frozenset[Path]], None],
        *,
        coalesce_s: float = 0.02,
        scan_s: float = 5.0,
        poll_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ) -> None:
        self._root = root
        self._on_change = on_change
        self.coalesce_s = coalesce_s  #: may be changed while it watches
        self._scan_s = scan_s
        self._poll_s = poll_s
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._changed = threading.Condition()
        self._touched: set[str] = set()
        self._events = 0
        self._closing = False
        self._observer: BaseObserver | None = None
        self._thread: threading.Thread | None = None
        self.overflowed = 0  #: how often so many events came at once that some may be lost

    @property
    def polling(self) -> bool:
        """Whether there are no events and the folder is only looked at every `poll_s`."""
        return self._observer is None

    def start(self) -> None:
        """Begin to watch. The first report (of everything) follows at once."""
        if not is_network(self._root):
            self._observer = self._observe()
        if self._observer is None:
            self._scan_s = min(self._scan_s, self._poll_s)
        self._thread = threading.Thread(target=self._report, name="folder-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End watching; no call of `on_change` is running or follows when this returns."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def include(self, folder: Path) -> None:
        """Watch *folder* too: it lies below the root, so it is watched already."""

    def exclude(self, folder: Path) -> None:
        """Watch *folder* no more: what is said of it goes unheard."""

    def _observe(self) -> BaseObserver | None:
        observer = None
        try:
            observer = Observer()
            observer.schedule(
                _Handler(self._touch), str(self._root), recursive=True, event_filter=EVENTS
            )
            observer.start()
        except OSError as error:  # no instance or no watch left (fs.inotify.max_user_*)
            self._log.warning(
                "no file events (%s): looking every %.0f s instead", error, self._poll_s
            )
            if observer is not None and observer.is_alive():
                observer.stop()
                observer.join()
            return None
        return observer

    def _touch(self, *paths: str) -> None:
        with self._changed:
            was_idle = not self._touched
            self._touched.update(paths)
            self._events += 1
            if was_idle:
                self._changed.notify_all()

    def _report(self) -> None:
        last_scan = last = float("-inf")
        while True:
            with self._changed:
                while not self._closing:
                    now = self._clock()
                    # Not before coalesce_s after the last report: that is what joins a burst.
                    due = last_scan + self._scan_s
                    if self._touched:
                        due = min(due, last + self.coalesce_s)
                    if now >= due:
                        break
                    self._changed.wait(due - now)
                if self._closing:
                    return
                touched, self._touched = self._touched, set()
                events, self._events = self._events, 0
            last = now
            if events > BURST:
                self.overflowed += 1
            everything = now >= last_scan + self._scan_s or events > BURST
            if everything:
                last_scan = now
            paths = {Path(path) for path in touched}
            self._call(frozenset(paths | {self._root}) if everything else frozenset(paths))

    def _call(self, paths: frozenset[Path]) -> None:
        try:
            self._on_change(paths)
        except Exception:
            # One bad report must not end all reports: the next scan repeats it.
            self._log.exception("a change below %s was not taken", self._root)


class _Handler(FileSystemEventHandler):
    def __init__(self, touch: Callable[..., None]) -> None:
        self._touch = touch

    def on_any_event(self, event: FileSystemEvent) -> None:
        paths = [os.fsdecode(event.src_path)]
        if event.dest_path:
            paths.append(os.fsdecode(event.dest_path))
        self._touch(*paths)


def is_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether *path* lies on a file system that other machines write to as well."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        folder = _unescape(fields[1])
        inside = real == folder or real.startswith(folder.rstrip("/") + "/")
        if inside and len(folder) >= len(best):
            best, kind = folder, fields[2]
    # sshfs, s3fs and their like; a container's root by fuse-overlayfs is local.
    return kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and "overlay" not in kind)


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
