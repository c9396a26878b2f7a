"""
Which files of a work folder are followed, and by which rules.

Promises: a path is judged by its name alone; nothing here reads a file. Followed are
outputs/state.txt, outputs/series.jsonl, CSV files under outputs/plots, logs anywhere below
outputs, and the files that a rule set names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

from physicsrunner.core.series import Reader
from physicsrunner.core.series_rules import RuleSet
from physicsrunner.core.series_tables import CsvReader, PointsReader

STATE: Final = "outputs/state.txt"
POINTS: Final = "outputs/series.jsonl"
_LOG: Final = re.compile(r".*\.log|log\..*", re.DOTALL)
_TEXT_LOG: Final = re.compile(r"[^.]+|.*\.(?:txt|out|err|log)", re.DOTALL)


AnyReader = Reader | CsvReader | PointsReader


@dataclass
class Readers:
    """
    What reads the lines of one file.

    A log may be one program's after the other's: the program whose claim was seen last has it.
    """

    specific: dict[str, AnyReader]
    fallback: dict[str, Reader]  #: used while no specific one has found its program
    program: str | None = None  #: the rule set whose claim was seen last
    found: bool = False  #: a specific reader has found its program, or a point

    @property
    def all(self) -> dict[str, AnyReader]:
        """All readers, by name."""
        return {**self.specific, **self.fallback}

    def claims(self, text: str) -> dict[str, str]:
        """Return the claims that stand in *text*: claim -> rule set."""
        return {
            reader.rules.claim: name
            for name, reader in self.specific.items()
            if isinstance(reader, Reader) and reader.rules.claim and reader.rules.claim in text
        }

    def wanting(self, text: str, *, fallback: bool) -> list[AnyReader]:
        """Return the readers that *text* may matter to."""
        readers: list[AnyReader] = [
            reader
            for name, reader in self.specific.items()
            if self.program in (None, name)
            or not (isinstance(reader, Reader) and reader.rules.claim)
        ]
        if fallback:
            readers += self.fallback.values()
        return [reader for reader in readers if reader.wants(text)]


class Choice:
    """Chooses readers for files by their names."""

    def __init__(self, rules: Sequence[RuleSet]) -> None:
        self._rules = [rule for rule in rules if not rule.fallback]
        self._fallbacks = [rule for rule in rules if rule.fallback]
        self._names = [
            re.compile("|".join(translate(glob) for glob in rule.files)) if rule.files else None
            for rule in self._rules
        ]

    def readers(self, path: str) -> Readers | None:
        """Return new readers for *path* (relative to the work folder); None: not followed."""
        if not path.startswith("outputs/"):
            return None
        if path == POINTS:
            return Readers({"points": PointsReader()}, {})
        folder, _, name = path.rpartition("/")
        if path.startswith("outputs/plots/"):
            if not name.lower().endswith(".csv"):
                return None
            return Readers({"csv": CsvReader(path[len("outputs/plots/") : -len(".csv")])}, {})
        is_log = _LOG.fullmatch(name) is not None or (
            path.startswith("outputs/logs/") and _TEXT_LOG.fullmatch(name) is not None
        )
        rules = [
            rule
            for rule, names in zip(self._rules, self._names, strict=True)
            if is_log or (names is not None and names.match(name))
        ]
        if not rules:
            return None if not is_log else self._made([], folder, name)
        return self._made(rules, folder, name, fallback=is_log)

    def _made(
        self, rules: Sequence[RuleSet], folder: str, name: str, *, fallback: bool = True
    ) -> Readers:
        texts = {"dir": folder, "stem": name.rpartition(".")[0] or name}
        return Readers(
            {rule.name: Reader(rule, texts) for rule in rules},
            {rule.name: Reader(rule, texts) for rule in self._fallbacks if fallback},
        )
