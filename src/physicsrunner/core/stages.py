"""
The five stages of an attempt, in order, and the names that people know them by.

Promises: `STAGE_NAMES` accepts every name of the seed documents and of the published package;
`plan` says which stages are done and what is skipped. It never runs anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from physicsrunner.errors import UsageError


class Stage(str, Enum):
    """One stage of an attempt. The value is the word on the wire and in the journal."""

    INIT = "init"
    DOWNLOAD = "download"
    WATCH = "watch"
    EXECUTE = "execute"
    POSTPROCESS = "postprocess"

    def __str__(self) -> str:
        return self.value


#: Not a stage of its own: sending files happens all along. Skipping it means: send nothing.
UPLOAD: Final = "upload"

STAGE_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "init": "init",
        "initialization": "init",
        "start": "init",
        "download": "download",
        "input": "download",
        "watch": "watch",
        "watching": "watch",
        "execute": "execute",
        "execution": "execute",
        "run": "execute",
        "upload": UPLOAD,
        "postprocess": "postprocess",
        "postprocessing": "postprocess",
        "post-process": "postprocess",
    }
)


@dataclass(frozen=True)
class StagePlan:
    """What an attempt will do: the stages in order, and whether its files are sent."""

    stages: tuple[Stage, ...]
    upload: bool = True


def stage_name(name: str) -> str:
    """Return the stage that *name* means (``start`` is ``init``), or raise `UsageError`."""
    try:
        return STAGE_NAMES[name.strip().lower()]
    except KeyError:
        raise UsageError(f"unknown stage {name!r}; {_known_names()}") from None


def _known_names() -> str:
    own = [stage.value for stage in Stage]
    others = sorted(set(STAGE_NAMES) - set(own))
    return f"the stages are: {', '.join(own)}; other names: {', '.join(others)}"


def plan(starting: str | None = None, skip: str | Iterable[str] = ()) -> StagePlan:
    """
    Decide which stages an attempt does.

    Parameters
    ----------
    starting
        The first stage that is done; those before it are taken as done. ``upload`` means: the
        program has run, only its files are still to be sent (watch and postprocess).
    skip
        Names of stages to leave out, as a list or a comma list.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    names = skip.split(",") if isinstance(skip, str) else skip
    skipped = {stage_name(name) for name in names if name.strip()}
    stages = list(Stage)
    if starting:
        first = stage_name(starting)
        if first == UPLOAD:
            stages = [Stage.WATCH, Stage.POSTPROCESS]
        else:
            stages = stages[stages.index(Stage(first)) :]
    return StagePlan(
        stages=tuple(stage for stage in stages if stage.value not in skipped),
        upload=UPLOAD not in skipped,
    )
