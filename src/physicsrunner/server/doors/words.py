"""
What each door calls the states of a run.

Promises: every state has a word at every door, and every word of a door names states. Pure: which
word a run has follows from its row alone, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.physicsworks import STATUS_OF

_TABLE: Final = """
#            ath        shakescenario  architech
queued       queued     queued         RUNNING
preparing    running    running        RUNNING
running      running    running        RUNNING
retrying     running    running        RUNNING
paused       running    running        PAUSED
completed    complete   completed      COMPLETED
failed       error      failed         FAILED
timeout      error      failed         FAILED
cancelled    cancelled  canceled       FAILED
"""


def _columns(text: str) -> dict[str, Mapping[RunState, str]]:
    first, *rows = (line.split() for line in text.strip().splitlines())
    return {
        door: MappingProxyType({RunState(row[0]): row[place] for row in rows})
        for place, door in enumerate(first[1:], 1)
    }


#: Door -> state -> its word there.
WORDS: Final[Mapping[str, Mapping[RunState, str]]] = MappingProxyType(
    {"physicsworks": STATUS_OF, **_columns(_TABLE)}
)
#: At these doors a run is cancelled from the moment that somebody asked for it, and stays so,
#: however it ends: what it brings then is not shown. Their lists count it so, too
#: (`RunFilter.asked_is_cancelled`).
AT_ONCE: Final = frozenset({"ath"})


def word(door: str, run: RunSummary) -> str:
    """Return what *door* calls the state that *run* is in."""
    if door in AT_ONCE and run.cancel_requested:
        return WORDS[door][RunState.CANCELLED]
    return WORDS[door][run.status]


def states_of(door: str, words: Iterable[str]) -> list[RunState]:
    """Return the states that *door* calls by one of *words*; raise `InvalidRequest` for others."""
    wanted, known = set(words), WORDS[door]
    wrong = sorted(wanted - set(known.values()))
    if wrong:
        names = ", ".join(dict.fromkeys(known.values()))
        raise InvalidRequest(f"status {wrong[0]!r} is none of those here: {names}")
    return [state for state, name in known.items() if name in wanted]
