"""
Lists as the published API client asks for them: page, pageSize, sort, filter. Pure.

Promises: what cannot be answered is refused and the answer says what can be; a page never depends
on anything but what is asked for. Runs are sorted and filtered by the store, other things here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from physicsrunner.core.run import MAX_LIMIT, RunFilter
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest

#: Without pageSize, as the client's documentation has it.
FEW: Final = 5
MANY: Final = 100
_TRUE: Final = ("true", "1", "yes")
#: What runs are sorted by, in words of this wire.
_SORTED: Final = {
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "startedAt": "started_at",
    "finishedAt": "completed_at",
    "name": "name",
    "status": "status",
    "progress": "progress_percent",
    "number": "number",
    "priority": "priority",
}
_EQUAL: Final = ("equals", "is")

#: Turns words of a list into states; raises `InvalidRequest` for others.
States = Callable[[Sequence[str]], list[RunState]]
Document = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """One condition on one field."""

    field: str
    operator: str
    value: Any


@dataclass(frozen=True)
class Wanted:
    """A page of a list."""

    page: int = 1
    size: int = FEW
    sort: str = "createdAt"
    down: bool = True
    filter: Filter | None = None
    everything: bool = False  #: runs of other doors, and of other people, too

    @property
    def offset(self) -> int:
        """How many come before the page."""
        return (self.page - 1) * self.size

    def fields(self) -> set[str]:
        """Return the fields that the order and the filter are about."""
        return {self.sort} if self.filter is None else {self.sort, self.filter.field}


def wanted(query: Mapping[str, str], size: int) -> Wanted:
    """Return what the query of an address asks for; *size*: of a page without pageSize."""
    found = Wanted(
        _whole(query, "page", 1, 10_000_000),
        _whole(query, "pageSize", size, MAX_LIMIT),
        everything=query.get("all", "").lower() in _TRUE,
    )
    sort = _object(query, "sort")
    if sort:
        field, order = sort.get("field"), sort.get("sort", "desc")
        if not isinstance(field, str) or order not in ("asc", "desc"):
            raise InvalidRequest('sort is {"field": NAME, "sort": "asc" or "desc"}')
        found = replace(found, sort=field, down=order == "desc")
    given = _object(query, "filter")
    if given:
        found = replace(found, filter=_filter(given))
    return found


def page_of(
    documents: Sequence[Document], asked: Wanted, whole: Callable[[Document], Document]
) -> Document:
    """Return a page of *documents*; *whole* adds to one what has its price."""
    named = asked.fields()
    if documents and not named <= set(documents[0]):
        known = set(whole(documents[0]))
        unknown = sorted(named - known)
        if unknown:
            raise InvalidRequest(
                f"sort or filter by {unknown[0]!r}: there is {', '.join(sorted(known))}"
            )
        documents = [whole(one) for one in documents]
    if asked.filter is not None:
        documents = [one for one in documents if _matches(asked.filter, one)]
    ordered = sorted(documents, key=lambda one: _key(one[asked.sort]), reverse=asked.down)
    page = ordered[asked.offset : asked.offset + asked.size]
    return {"data": [whole(one) for one in page], "totalCount": len(ordered)}


def run_filter(asked: Wanted, bound: RunFilter, states: States) -> RunFilter | None:
    """
    Return *bound* narrowed to what is asked for; None: no run can be meant.

    Raises
    ------
    InvalidRequest
        If the store has no such order or filter.
    """
    key = _SORTED.get(asked.sort)
    if key is None:
        raise InvalidRequest(f"sort by {asked.sort!r}: runs sort by {', '.join(_SORTED)}")
    found = replace(
        bound, limit=asked.size, offset=asked.offset, sort=f"-{key}" if asked.down else key
    )
    given = asked.filter
    if given is None:
        return found
    if given.field == "status":
        return _of_states(found, given, states)
    text = given.value if isinstance(given.value, str) else ""
    if given.field == "name" and given.operator == "contains" and text:
        return replace(found, name=text)
    if given.operator in _EQUAL and text:
        if given.field == "kind":
            return found if text == "Run" else None
        if given.field == "simulation":
            return replace(found, model_id=text) if found.model_id in (None, text) else None
        if given.field == "project":
            return replace(found, project_id=text)
    raise InvalidRequest(
        f"filter {given.field!r} {given.operator!r}: runs are filtered by status (equals, is, not, "
        "isAnyOf), name (contains), and project, simulation and kind (equals, is)"
    )


def _of_states(found: RunFilter, given: Filter, states: States) -> RunFilter | None:
    words = given.value if isinstance(given.value, list) else [given.value]
    if not words or not all(isinstance(word, str) for word in words):
        raise InvalidRequest("filter by status: the value is a word, or a list of words")
    if given.operator not in (*_EQUAL, "not", "isAnyOf"):
        raise InvalidRequest("filter by status: the operators are equals, is, not and isAnyOf")
    meant = states([word.lower() for word in words])
    if given.operator == "not":
        meant = [state for state in RunState if state not in meant]
    return replace(found, status=meant) if meant else None


def _whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 0 < int(text) <= most:
        raise InvalidRequest(f"{name}={text[:40]!r}: it is a whole number from 1 to {most}")
    return int(text)


def _object(query: Mapping[str, str], name: str) -> Mapping[str, Any]:
    text = query.get(name, "").strip()
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{name} is not JSON: {text[:80]}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} is a JSON object")
    return value


def _filter(given: Mapping[str, Any]) -> Filter:
    field, operator = given.get("columnField"), given.get("operatorValue", "equals")
    if not isinstance(field, str) or not field:
        raise InvalidRequest("filter has no text 'columnField'")
    if operator not in _OPERATORS:
        raise InvalidRequest(
            f"filter operator {str(operator)[:40]!r}: there are {', '.join(_OPERATORS)}"
        )
    return Filter(field, operator, given.get("value"))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).lower()


def _any_of(mine: str, value: Any) -> bool:
    return mine in [_text(one) for one in (value if isinstance(value, list) else [value])]


#: Operator -> whether a text (in lower case) and the value that is asked for fit. Times are texts
#: of one form, in UTC: their order is that of time.
_OPERATORS: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "contains": lambda mine, value: _text(value) in mine,
    "equals": lambda mine, value: mine == _text(value),
    "is": lambda mine, value: mine == _text(value),
    "not": lambda mine, value: mine != _text(value),
    "startsWith": lambda mine, value: mine.startswith(_text(value)),
    "endsWith": lambda mine, value: mine.endswith(_text(value)),
    "isEmpty": lambda mine, _value: not mine,
    "isNotEmpty": lambda mine, _value: bool(mine),
    "isAnyOf": _any_of,
    "before": lambda mine, value: mine < _text(value),
    "after": lambda mine, value: mine > _text(value),
    "onOrBefore": lambda mine, value: mine <= _text(value) or mine.startswith(_text(value)),
    "onOrAfter": lambda mine, value: mine >= _text(value),
}


def _matches(given: Filter, document: Document) -> bool:
    value = document.get(given.field)
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if given.operator in ("isEmpty", "isNotEmpty", "not"):
            return _OPERATORS[given.operator]("".join(texts), given.value)
        return any(_OPERATORS[given.operator](one, given.value) for one in texts)
    return _OPERATORS[given.operator](_text(value), given.value)


def _key(value: Any) -> tuple[int, float, str]:
    """Return what values of one field are sorted by, of whatever kind they are."""
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, _text(value))
