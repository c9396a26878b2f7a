"""
Watching what hundreds of attempts write: one thread, one descriptor.

Promises, as `watch.FolderWatch`: a change is reported within some `coalesce_s`, what happens
meanwhile together; events are hints, and the root is reported ("look at everything") every
`scan_s`, at the start, and when the kernel's queue has lost events; `on_change` is called from one
thread. Only the followed folders of the work folders that are included are watched, so that making
and removing a work folder costs next to nothing.

Folders that cannot be watched, because the system has no watches left, are only looked at every
`poll_s`.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from physicsrunner.runner import inotify
from physicsrunner.runner.inotify import Inotify
from physicsrunner.runner.workdir import WorkFolder


class TreeWatch:
    """
    Watches work folders below *root*.

    Raises
    ------
    OSError
        There are no events on this system.
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
        self.coalesce_s = coalesce_s  #: may be changed while it watches
        self.overflowed = 0  #: how often the kernel has lost events
        self._root = root
        self._on_change = on_change
        self._scan_s = scan_s
        self._poll_s = poll_s
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._guard = threading.Lock()
        self._events = Inotify()
        self._folders: dict[int, str] = {}  #: watch -> its folder
        self._watches: dict[str, int] = {}
        self._included: dict[str, set[str]] = {}  #: work folder -> folders in it that are watched
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._loop, name="tree-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End watching; no call of `on_change` is running or follows when this returns."""
        self._closing = True
        os.write(self._wake[1], b"x")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._guard:
            self._events.close()
            for end in self._wake:
                os.close(end)

    def include(self, folder: Path) -> None:
        """Watch what is followed of the work folder *folder*."""
        with self._guard:
            self._included[str(folder)] = set()
            for path in WorkFolder(folder).followed:
                self._watch_below(str(folder), str(path))

    def exclude(self, folder: Path) -> None:
        """Watch nothing of *folder* any more."""
        with self._guard:
            for path in self._included.pop(str(folder), ()):
                self._drop(path)

    # -- folders ---------------------------------------------------------------------------------

    def _watch_below(self, owner: str, folder: str) -> None:
        """Watch *folder* and all below it: what lies in them already is for the next look."""
        todo = [folder]
        while todo:
            path = todo.pop()
            try:
                watch = self._events.watch(path)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.ENOMEM) and self._scan_s > self._poll_s:
                    self._log.warning("%s: looking every %.0f s instead", error, self._poll_s)
                    self._scan_s = self._poll_s
                    os.write(self._wake[1], b"x")
                continue
            before = self._folders.get(watch)
            if before is not None and before != path:
                self._watches.pop(before, None)  # it has moved here
                self._included[owner].discard(before)
            self._folders[watch] = path
            self._watches[path] = watch
            self._included[owner].add(path)
            todo += _folders_in(path)

    def _drop(self, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None and self._folders.pop(watch, None) is not None:
            self._events.forget(watch)

    def _drop_below(self, owner: str, folder: str) -> None:
        below = folder + "/"
        paths = self._included.get(owner, set())
        for path in [path for path in paths if path == folder or path.startswith(below)]:
            paths.discard(path)
            self._drop(path)

    def _owner(self, path: str) -> str | None:
        end = len(path)
        while (end := path.rfind("/", 0, end)) > 0:
            if path[:end] in self._included:
                return path[:end]
        return None

    # -- the thread ------------------------------------------------------------------------------

    def _loop(self) -> None:
        poller = select.poll()
        poller.register(self._events.descriptor, select.POLLIN)
        poller.register(self._wake[0], select.POLLIN)
        last = last_scan = float("-inf")
        while not self._closing:
            now = self._clock()
            due = last_scan + self._scan_s
            ready = poller.poll(max(0.0, (due - now) * 1000.0)) if due > now else []
            if self._closing:
                return
            if any(descriptor == self._wake[0] for descriptor, _ in ready):
                os.read(self._wake[0], 4096)
            if ready:
                # Not before coalesce_s after the last report: that is what joins a burst.
                self._pause(last + self.coalesce_s - self._clock())
                if self._closing:
                    return
            touched, lost = self._take()
            last = self._clock()
            if lost or last >= last_scan + self._scan_s:
                last_scan = last
                touched.add(str(self._root))
            if touched:
                self._call(touched)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            select.select([self._wake[0]], [], [], seconds)

    def _take(self) -> tuple[set[str], bool]:
        """Return the paths that were touched, and whether some events were lost."""
        touched: set[str] = set()
        lost = False
        with self._guard:
            for watch, mask, name in self._events.read():
                if mask & inotify.OVERFLOW:
                    lost = True
                    self.overflowed += 1
                    continue
                folder = self._folders.get(watch)
                if folder is None:
                    continue
                if mask & inotify.IGNORED:
                    del self._folders[watch]
                    self._watches.pop(folder, None)
                    continue
                path = f"{folder}/{os.fsdecode(name)}" if name else folder
                touched.add(path)
                if mask & inotify.IS_FOLDER:
                    self._folder_changed(path, mask)
            if lost:
                for owner in list(self._included):
                    for followed in WorkFolder(Path(owner)).followed:
                        self._watch_below(owner, str(followed))
        return touched, lost

    def _folder_changed(self, path: str, mask: int) -> None:
        owner = self._owner(path)
        if owner is None:
            return
        if mask & (inotify.MOVED_FROM | inotify.DELETE):
            self._drop_below(owner, path)
        elif mask & (inotify.CREATE | inotify.MOVED_TO):
            self._watch_below(owner, path)

    def _call(self, touched: Iterable[str]) -> None:
        try:
            self._on_change(frozenset(Path(path) for path in touched))
        except Exception:
            # One bad report must not end all reports: the next scan repeats it.
            self._log.exception("a change below %s was not taken", self._root)


def _folders_in(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
