"""
One watch over the work folders of all attempts of a process.

Promises:

- A path that is touched is told to the one attempt in whose work folder it lies, whatever the
  number of attempts; what lies in none is told to nobody.
- "Look at everything" reaches every attempt: at its start, and every few seconds from then on.
  Where there are many, they take turns, so that looking takes a bounded share of the time.
- The more there is to tell, the longer the pause before it is told: a burst is told once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

COALESCE_S: Final = 0.02
LONGEST_S: Final = 2.0
_SHARE: Final = 4.0  #: pauses for so many times as long as telling took
_AT_ONCE: Final = 300  #: attempts that look at everything in one turn
_SHORT_S: Final = 0.005  #: telling that takes no longer needs no pause

Told = Callable[[frozenset[Path]], None]


class Watching(Protocol):
    """The part of a `watch.FolderWatch` that is needed here."""

    coalesce_s: float

    def start(self) -> None:
        """Begin."""
        ...

    def include(self, folder: Path) -> None:
        """Watch the work folder *folder* too."""
        ...

    def exclude(self, folder: Path) -> None:
        """Watch it no more."""
        ...

    def close(self) -> None:
        """End."""
        ...


class RoutedWatch:
    """
    Tells attempts what changed in their work folders.

    Parameters
    ----------
    root
        A folder that all work folders lie in (or the only one itself).
    watch
        Makes the watch of *root* that calls what it is given.
    """

    def __init__(
        self,
        root: Path,
        watch: Callable[[Path, Told], Watching],
        *,
        now: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ) -> None:
        self._root = root
        self._now = now
        self._log = log or logging.getLogger(__name__)
        self._guard = threading.Lock()
        self._routes: dict[str, Told] = {}
        self._watch = watch(root, self._changed)
        self.least_s = COALESCE_S  #: the rhythm that the server asks for

    def start(self) -> None:
        """Begin to watch."""
        self._watch.start()

    def close(self) -> None:
        """End watching."""
        self._watch.close()

    def add(self, folder: Path, told: Told) -> None:
        """Tell *told* what changes in *folder* from now on, and first that everything may have."""
        with self._guard:
            self._routes[str(folder)] = told
        self._watch.include(folder)
        told(frozenset({folder}))

    def remove(self, folder: Path) -> None:
        """Tell nobody any more what changes in *folder* (a call may be under way)."""
        with self._guard:
            known = self._routes.pop(str(folder), None)
        if known is not None:
            self._watch.exclude(folder)

    def _changed(self, paths: frozenset[Path]) -> None:
        began = self._now()
        if self._root in paths:
            for folder, told in self._turn():
                self._tell(told, frozenset({Path(folder)}))
        else:
            for told, touched in self._sorted(paths).values():
                self._tell(told, frozenset(touched))
        took = self._now() - began
        pause = _SHARE * took if took > _SHORT_S else 0.0
        self._watch.coalesce_s = min(LONGEST_S, max(self.least_s, pause))

    def _turn(self) -> list[tuple[str, Told]]:
        """Return those whose turn it is to look at everything; they come last the next time."""
        with self._guard:
            turn = list(islice(self._routes.items(), _AT_ONCE))
            for folder, told in turn:
                del self._routes[folder]
                self._routes[folder] = told
        return turn

    def _sorted(self, paths: frozenset[Path]) -> dict[str, tuple[Told, set[Path]]]:
        found: dict[str, tuple[Told, set[Path]]] = {}
        with self._guard:
            for path in paths:
                folder = self._folder_of(str(path))
                if folder is not None:
                    found.setdefault(folder, (self._routes[folder], set()))[1].add(path)
        return found

    def _folder_of(self, path: str) -> str | None:
        end = len(path)
        while end > 0:
            if path[:end] in self._routes:
                return path[:end]
            end = path.rfind("/", 0, end)
        return None

    def _tell(self, told: Told, paths: frozenset[Path]) -> None:
        try:
            told(paths)
        except Exception:
            # One attempt's fault must not keep the others from hearing: the next scan repeats it.
            self._log.exception("a change below %s was not taken", self._root)
