"""
What this wire says of one attempt and the native one has no word for.

Promises:

- Each stored name of that wire is one artifact with a name that people know, the same one after a
  restart; two files never get the same artifact.
- Parts of the run document that map to nothing of ours (extras, plots' columns and layout,
  graphics, downloadables) are kept and come back as they were sent.

The book is an artifact of the attempt, ``metadata/physicsworks.jsonl``: one JSON fact a line, the
later one counts. This module is pure: `physicsworks.files` reads and writes the lines.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from physicsrunner.core.paths import check_path, printable
from physicsrunner.errors import InvalidRequest

PATH: Final = "metadata/physicsworks.jsonl"
RESULT: Final = "downloadables"
FOLDERS: Final[Mapping[str, str]] = {
    "logs": "logs/",
    "plots": "outputs/plots/",
    "media": "outputs/media/",
    RESULT: "outputs/data_files/",
}
#: What runners leave beside the folders of outputs/, and not in one of them.
_AT_TOP: Final = frozenset({"result.zip", "results.csv", "results.json", "state.txt"})
#: Arrays of the run document whose entries name files that came by ``storage/append``.
LISTED: Final = ("logs", "plots", "media")
#: Parts of the run document that are kept as they come.
KEPT: Final = (*LISTED, "graphics", RESULT, "extras", "results")


@dataclass
class StoredName:
    """One stored name of that wire, and where its bytes lie with us."""

    stored: str
    path: str  #: the artifact
    original: str  #: the name that people know, as it was sent
    expected: int | None = None  #: bytes that the file will have; None: it grows


def guess_kind(stored: str, *, ascii_text: bool) -> str:
    """Say what an appended file is before the run document has named it."""
    if not ascii_text:
        return "media"
    return "logs" if PurePosixPath(stored).suffix in (".log", ".txt", "") else "plots"


class Book:
    """The book of one attempt."""

    def __init__(self) -> None:
        self.names: dict[str, StoredName] = {}
        self.fields: dict[str, Any] = {}
        self.runner = False  #: a runner of this wire carries the attempt out, not one of ours
        self.size = 0  #: bytes of the stored book
        self._cut = False  # its last line was cut by a kill

    def load(self, raw: bytes) -> None:
        """Read (more of) the stored book; a last line that was cut says nothing."""
        self.size += len(raw)
        self._cut = self._cut if not raw else not raw.endswith(b"\n")
        for line in raw.splitlines():
            try:
                self.apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def lines(self, facts: Sequence[Mapping[str, Any]]) -> bytes:
        """Return *facts* as the lines that are to be added to the stored book."""
        rows = [json.dumps(fact, ensure_ascii=True, separators=(",", ":")) for fact in facts]
        return ("\n" if self._cut else "").encode() + "".join(f"{row}\n" for row in rows).encode()

    def apply(self, fact: Mapping[str, Any]) -> None:
        """Take one fact."""
        if "stored" in fact:
            stored = fact["stored"]
            if fact.get("gone"):
                self.names.pop(stored, None)
            else:
                self.names[stored] = StoredName(
                    stored, fact["path"], fact["original"], fact.get("expected")
                )
        if "fields" in fact:
            self.fields.update(fact["fields"])
        for kind, (keep, rest) in fact.get("grown", {}).items():
            self.fields[kind] = self.fields.get(kind, [])[:keep] + rest
        if "runner" in fact:
            self.runner = bool(fact["runner"])

    def news(self, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        Return the fact that makes the kept parts those of *fields*; None: they are already.

        Runners send an array whole each time it grows by one: only what is new is written.
        """
        changed = {key: value for key, value in fields.items() if self.fields.get(key) != value}
        grown: dict[str, Any] = {}
        for key, value in list(changed.items()):
            before = self.fields.get(key)
            if isinstance(before, list) and isinstance(value, list):
                pairs = zip(before, value, strict=False)
                keep = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
                grown[key] = (keep, value[keep:])
                del changed[key]
        fact: dict[str, Any] = {"fields": changed} if changed else {}
        return ({**fact, "grown": grown} if grown else fact) or None

    def place(self, stored: str, original: str, kind: str, taken: Collection[str]) -> str:
        """Return a free artifact path for a file of that kind that people call *original*."""
        name = check_path(printable(original).replace("\\", "/").lstrip("/"))
        folder = "outputs/" if kind == RESULT and name in _AT_TOP else FOLDERS[kind]
        used = {entry.path for entry in self.names.values() if entry.stored != stored}
        used.update(taken, (PATH,))
        path = PurePosixPath(folder + name)
        candidate, count = path, 1
        while str(candidate) in used:
            count += 1
            stem, dot, suffix = (
                path.name.partition(".") if path.name[0] != "." else (path.name, "", "")
            )
            candidate = path.with_name(f"{stem}-{count}{dot}{suffix}")
        return check_path(str(candidate))

    def moves(self, kind: str, entries: Collection[str]) -> list[tuple[StoredName, str]]:
        """Return the names of *entries* whose artifact is not in the folder of *kind*."""
        return [
            (name, kind)
            for stored in entries
            if (name := self.names.get(stored)) is not None
            and not name.path.startswith(FOLDERS[kind])
        ]

    def superseded(
        self, kind: str, entries: Collection[str]
    ) -> list[tuple[StoredName, StoredName]]:
        """
        Return (old, new) where a listed file took the place of one that is no longer listed.

        A sender that lost an answer of ``storage/append`` begins the file anew under another
        stored name and lists only that one.
        """
        folder = FOLDERS[kind]
        old = {
            name.original: name
            for name in self.names.values()
            if name.path.startswith(folder) and name.stored not in entries
        }
        new = [self.names[stored] for stored in entries if stored in self.names]
        return [(old[name.original], name) for name in new if name.original in old]


def file_names(entries: Any) -> list[str]:
    """Return the stored names that an array of the run document lists."""
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidRequest("an array of the run document is a list of objects")
    return [entry["file"] for entry in entries if isinstance(entry.get("file"), str)]
