"""
The ways into a list of runs: which index has which part of what a filter asks for.

A way is a set of branches; each branch is an equality on the first columns of an index that goes on
with ``created_at, number``. What a way does not say of the filter is left to be looked at row by
row (`matches`). Reads no run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, and_, false, or_, true

from physicsrunner.core.run import RunFilter
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.store import schema

_RUNS: Final = schema.runs.c
MOST_BRANCHES: Final = 100
DEEPEST: Final = 100_000  #: the largest offset
_OWNERS: Final = {
    "project_id": "project",
    "study_id": "study",
    "model_id": "model",
    "agent": "agent",
    "created_by": "creator",
    "door": "door",
}

#: The kind under which the runs of a door are counted that were asked to stop.
ASKED_TO_STOP: Final = "asked"
#: Returns how many runs there are under a kind and a key, of some states or of all.
Counts = Callable[[str, str, Sequence[RunState]], int]
Condition = ColumnElement[bool]


@dataclass(frozen=True)
class Way:
    """One way to the runs that a filter wants."""

    runs: int  #: how many it leads to
    branches: Sequence[Condition | None]  #: disjoint; None: every run
    covers: frozenset[str]  #: the parts of the filter that need not be looked at any more


def parts(wanted: RunFilter) -> set[str]:
    """Return the names of what *wanted* asks for."""
    found = {name for name in (*_OWNERS, "projects", "tag") if getattr(wanted, name) is not None}
    return found | {name for name in ("status", "name") if getattr(wanted, name)}


def condition(part: str, wanted: RunFilter, columns: Any) -> Condition:
    """Return what a part of *wanted* means for a table with these columns of runs."""
    if part == "status":
        of_them = columns.status.in_([state.value for state in wanted.status])
        if not wanted.asked_is_cancelled:
            return cast(Condition, of_them)
        others = and_(columns.cancel_requested == false(), of_them)
        asked = columns.cancel_requested == true()
        return or_(others, asked) if RunState.CANCELLED in wanted.status else others
    if part == "name":
        return cast(Condition, columns.name.icontains(wanted.name, autoescape=True))
    if part == "projects":
        own = and_(columns.project_id.is_(None), columns.created_by == wanted.visible_to)
        return or_(columns.project_id.in_(wanted.projects or ()), own)
    return cast(Condition, columns[part] == getattr(wanted, part))


#: The columns that a part of a filter looks at.
LOOKED_AT: Final = {
    "projects": ("project_id", "created_by"),
    "status": ("status", "cancel_requested"),
}


def simplified(wanted: RunFilter) -> RunFilter | None:
    """Return *wanted* with nothing said twice; None if no run can be wanted."""
    if wanted.offset > DEEPEST:
        raise InvalidRequest(
            f"offset={wanted.offset}: lists are leafed through up to {DEEPEST} runs; "
            "narrow it down, or turn the order round"
        )
    wanted = replace(wanted, status=list(dict.fromkeys(wanted.status)))
    if len(wanted.status) == 1 and wanted.sort.endswith("status"):  # then all have the same
        wanted = replace(wanted, sort=wanted.sort.replace("status", "created_at"))
    if wanted.projects is None:
        return wanted
    wanted = replace(wanted, projects=list(dict.fromkeys(wanted.projects)))
    if wanted.project_id is None:
        return wanted
    if wanted.projects is not None and wanted.project_id not in wanted.projects:
        return None
    return replace(wanted, projects=None, visible_to=None)


def best_way(wanted: RunFilter, counts: Counts) -> Way:
    """Return the way that leads to the fewest runs; of equal ones the one that covers most."""
    return min(_ways(wanted, counts), key=lambda way: (way.runs, -len(way.covers)))


def _ways(wanted: RunFilter, counts: Counts) -> list[Way]:
    ways = [Way(counts("all", "", ()), [None], frozenset())]
    if wanted.status and not wanted.asked_is_cancelled:
        each = [_RUNS.status == state.value for state in wanted.status]
        ways.append(Way(counts("all", "", wanted.status), each, frozenset({"status"})))
    for name, kind in _OWNERS.items():
        value = getattr(wanted, name)
        if name == "door" and value is not None and wanted.status:
            ways.append(_of_door(wanted, counts))
        elif value is not None and name != "project_id":
            ways.append(Way(counts(kind, value, ()), [_RUNS[name] == value], frozenset({name})))
    if wanted.project_id is not None:
        ways.append(_of_projects(wanted, [wanted.project_id], {"project_id"}, counts))
    if wanted.projects is not None and len(wanted.projects) < MOST_BRANCHES:
        ways.append(_of_projects(wanted, wanted.projects, {"projects"}, counts))
    return ways


def _of_door(wanted: RunFilter, counts: Counts) -> Way:
    wants = [(False, state) for state in wanted.status]
    if not wanted.asked_is_cancelled:
        wants += [(True, state) for state in wanted.status]
    elif RunState.CANCELLED in wanted.status:
        wants += [(True, state) for state in RunState]
    branches = [
        and_(
            _RUNS.door == wanted.door,
            _RUNS.cancel_requested == (true() if asked else false()),
            _RUNS.status == state.value,
        )
        for asked, state in wants
    ]
    return Way(_number_of_door(wanted, counts), branches, frozenset({"door", "status"}))


def _number_of_door(wanted: RunFilter, counts: Counts) -> int:
    """Return how many runs of a door there are in the states that are asked for, or in all."""
    door = wanted.door or ""
    found = counts("door", door, wanted.status)
    if not wanted.status or not wanted.asked_is_cancelled:
        return found
    found -= counts(ASKED_TO_STOP, door, wanted.status)
    if RunState.CANCELLED in wanted.status:
        found += counts(ASKED_TO_STOP, door, ())
    return found


def _of_projects(
    wanted: RunFilter, projects: Sequence[str], covers: set[str], counts: Counts
) -> Way:
    own = "projects" in covers and wanted.visible_to is not None
    states = wanted.status
    # The index of private runs knows no state.
    with_states = bool(states) and not own and len(states) * len(projects) <= MOST_BRANCHES
    with_states = with_states and not wanted.asked_is_cancelled
    asked = states if with_states else ()
    branches: list[Condition | None] = []
    for project in projects:
        of_it = _RUNS.project_id == project
        branches += [and_(of_it, _RUNS.status == state.value) for state in asked] or [of_it]
    number = sum(counts("project", project, asked) for project in projects)
    if own:
        branches.append(_private(wanted))
        number += counts("private", wanted.visible_to or "", ())
    return Way(number, branches, frozenset(covers | ({"status"} if with_states else set())))


def _private(wanted: RunFilter) -> Condition:
    return and_(_RUNS.project_id.is_(None), _RUNS.created_by == wanted.visible_to)


def known_total(wanted: RunFilter, counts: Counts) -> int | None:
    """Return how many runs *wanted* describes if counts alone can say so."""
    asked = parts(wanted) - {"status"}
    if asked == {"door"}:
        return _number_of_door(wanted, counts)
    if wanted.status and wanted.asked_is_cancelled:
        return None
    if not asked:
        return counts("all", "", wanted.status)
    if len(asked) > 1 or asked & {"name", "tag"}:
        return None
    (part,) = asked
    if part != "projects":
        return counts(_OWNERS[part], getattr(wanted, part), wanted.status)
    own = counts("private", wanted.visible_to, wanted.status) if wanted.visible_to else 0
    return own + sum(counts("project", key, wanted.status) for key in wanted.projects or ())


def matches(run: Any, wanted: RunFilter) -> bool:
    """Say whether a run, or a row of it, is one of those that *wanted* describes, but for tags."""
    return (
        (not wanted.status or _status(run, wanted) in wanted.status)
        and all(getattr(wanted, name) in (None, getattr(run, name)) for name in _OWNERS)
        and (not wanted.name or wanted.name.lower() in run.name.lower())
        and _is_visible(run, wanted)
    )


def _status(run: Any, wanted: RunFilter) -> RunState:
    asked = wanted.asked_is_cancelled and run.cancel_requested
    return RunState.CANCELLED if asked else RunState(run.status)


def _is_visible(run: Any, wanted: RunFilter) -> bool:
    if wanted.projects is None:
        return True
    if run.project_id is None:
        return bool(run.created_by == wanted.visible_to)
    return run.project_id in wanted.projects
