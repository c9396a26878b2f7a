"""Requests at the acoustics door, of any content: taken whole, or refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from physicsrunner.errors import InvalidRequest
from physicsrunner.server.doors.ath import jobs, payload

GOOD: dict[str, Any] = {
    "frequency_range": [200, 20000.0],
    "num_frequencies": 48,
    "sim_type": "2",
    "formula_type": "R-OSSE",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*GOOD, "mesh", "label", "vertices"])
TRIANGLES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(1, 4)),
    min_size=1,
    max_size=20,
)


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing else ever comes out."""
    with pytest.raises((RequestValidationError, InvalidRequest)):
        payload.read(body)


@given(st.dictionaries(FIELDS, JSON, max_size=3), st.booleans())
def test_any_fields_are_taken_whole_or_refused(fields: dict[str, Any], over: bool) -> None:
    """What is taken is what was sent, and can be written and shown."""
    sent = {**GOOD, **fields} if over else fields
    try:
        found = payload.read(json.dumps(sent).encode())
    except (RequestValidationError, InvalidRequest) as error:
        told = error.errors() if isinstance(error, RequestValidationError) else str(error)
        json.dumps(told)
        return
    whole = dict(found.fields)
    if found.mesh is not None:
        whole["mesh"] = json.loads(found.mesh)
    assert {name: value for name, value in sent.items() if value is not None} == {
        name: value for name, value in whole.items() if value is not None
    }
    assert list(found.names) == list(sent)
    assert payload.name_of(found.label, found.fields)
    kept = dict(line.split(": ", 1) for line in jobs.described(found.fields).split("\n"))
    assert json.loads(kept["sim_type"].encode()) == sent["sim_type"]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e400", "1" * 5000, "-1", "0", "true", '"5"'])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    """Whatever JSON calls one, in every place."""
    body = json.dumps({**GOOD, "frequency_range": [1, 0.5]}).replace("0.5", number)
    vertices = json.dumps({**GOOD, "mesh": {"vertices": [0.5], "indices": [], "surfaceTags": []}})
    for text in (body, vertices.replace("0.5", number)):
        with pytest.raises((RequestValidationError, InvalidRequest)):
            payload.read(text.encode())


@given(TRIANGLES)
def test_a_mesh_is_taken_exactly_when_it_has_a_source(rows: list[tuple[int, ...]]) -> None:
    """Tags 1 to 4 stay as they are, in their order."""
    mesh: dict[str, list[Any]] = {
        "vertices": [0, 0.5, 1] * 3,
        "indices": [index for row in rows for index in row[:3]],
        "surfaceTags": [row[3] for row in rows],
    }
    body = json.dumps({**GOOD, "mesh": mesh}).encode()
    if payload.SOURCE not in mesh["surfaceTags"]:
        with pytest.raises(InvalidRequest, match="tag 2"):
            payload.read(body)
        return
    found = payload.read(body).mesh
    assert found is not None
    assert json.loads(found) == mesh
