"""Lists of the published API client: what a page costs."""

from __future__ import annotations

from typing import Any

import pytest

from physicsrunner.errors import InvalidRequest
from physicsrunner.server.doors.physicsworks.api_lists import page_of, wanted


def test_what_has_a_price_is_asked_for_where_it_is_needed() -> None:
    """Of one item to refuse an unknown field; of a page; of all only to sort by it."""
    asked: list[Any] = []

    def whole(one: dict[str, Any]) -> dict[str, Any]:
        asked.append(one["id"])
        return {**one, "status": "ready"}

    items = [{"id": number, "createdAt": number} for number in range(50)]
    with pytest.raises(InvalidRequest, match="there is createdAt, id, status"):
        page_of(items, wanted({"sort": '{"field": "none"}'}, 5), whole)
    assert len(asked) == 1
    asked.clear()
    assert page_of(items, wanted({}, 5), whole)["totalCount"] == 50
    assert asked == [49, 48, 47, 46, 45]
    page = page_of(items, wanted({"sort": '{"field": "status"}'}, 5), whole)
    assert len(page["data"]) == 5
