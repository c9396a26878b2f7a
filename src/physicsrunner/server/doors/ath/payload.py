"""
What a client of the acoustics door sends to have something solved, read and checked.

Promises: what is returned is what was sent, value for value, the fields that nobody here knows
among it; a mesh has its source, its arrays fit each other, and its tags are kept as they are.
Anything else raises, before anything is stored: `RequestValidationError` where a field is missing
or is not what it should be, `InvalidRequest` in words where the fields do not fit together. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.codec import check_depth
from physicsrunner.wire.reading import loads

MESH: Final = "mesh"
#: The tags of surfaces, and what they mean.
WALL, SOURCE, SECONDARY, INTERFACE = 1, 2, 3, 4
TAGS: Final = (WALL, SOURCE, SECONDARY, INTERFACE)
MOST_FREQUENCIES: Final = 100_000
MOST_MARKS: Final = 1_000_000  #: of a request (`wire.reading`): a triangle of a mesh has seven
_WORD: Final = 64  # characters of a formula's or a simulation's type
_LABEL: Final = 255  # characters

_TEXT: Final = r"^[^\x00]*$"  # what every database takes

Word = Annotated[str, Field(min_length=1, max_length=_WORD, pattern=_TEXT)]
Label = Annotated[str, Field(max_length=_LABEL, pattern=_TEXT)]
Frequency = Annotated[FiniteFloat, Field(gt=0)]


class _Strict(BaseModel):
    """An object of the request; what else it holds is kept."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Mesh(_Strict):
    """Triangles: three coordinates a vertex, three indices and one tag a triangle."""

    vertices: list[FiniteFloat]
    indices: list[Annotated[int, Field(ge=0)]]
    surfaceTags: list[int]  # noqa: N815 - the name on the wire


class _Request(_Strict):
    """The body of ``POST /ath/api/solve``."""

    mesh: _Mesh | None = None
    frequency_range: Annotated[list[Frequency], Field(min_length=2, max_length=2)]
    num_frequencies: Annotated[int, Field(ge=1, le=MOST_FREQUENCIES)]
    sim_type: Word
    formula_type: Word
    label: Label | None = None


class _Labelled(_Strict):
    """The body of ``PATCH /ath/api/jobs/{job_id}``."""

    label: Label | None


@dataclass(frozen=True)
class Solve:
    """A request that can be carried out."""

    fields: Mapping[str, Any]  #: all that was sent but the mesh
    names: Sequence[str]  #: of all that was sent, in its order
    mesh: bytes | None  #: as JSON

    @property
    def label(self) -> str | None:
        """What the user calls it."""
        label: str | None = self.fields.get("label")
        return label


def read(body: bytes) -> Solve:
    """Return what *body* asks for."""
    sent = _object(body)
    _check(_Request, sent)
    low, high = sent["frequency_range"]
    if low > high:
        raise InvalidRequest(
            f"frequency_range [{low:g}, {high:g}]: the lower frequency comes first, in Hz"
        )
    fields = {name: value for name, value in sent.items() if name != MESH}
    check_depth(fields, "the request")
    mesh = sent.get(MESH)
    try:
        json.dumps(fields, allow_nan=False)  # 1e999 is a number of JSON, and none of ours
        text = None if mesh is None else _mesh(mesh)
    except ValueError:
        raise InvalidRequest("the request holds a number that is not finite") from None
    return Solve(fields, list(sent), text)


def read_label(body: bytes) -> str | None:
    """Return the label that *body*, ``{label}``, gives a job; None: it is to have none."""
    sent = _object(body)
    _check(_Labelled, sent)
    label: str | None = sent["label"]
    return label


def _check(kind: type[_Strict], sent: Any) -> None:
    try:
        kind.model_validate(sent)
    except ValidationError as error:
        raise RequestValidationError(_told(error)) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        sent = loads(body, most=MOST_MARKS, parse_constant=_refuse)
    except ValueError as error:
        said = f"JSON decode error: {str(error)[:200]}"
        raise RequestValidationError([_problem("json_invalid", (), said)]) from None
    if not isinstance(sent, dict):
        said = "Input should be a valid dictionary"
        raise RequestValidationError([_problem("dict_type", (), said)])
    return sent


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _problem(kind: str, place: Sequence[str | int], said: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("body", *place), "msg": said}


def _told(error: ValidationError) -> list[dict[str, Any]]:
    """Return what is wrong, without repeating the whole request."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [_problem(item["type"], item["loc"], item["msg"]) for item in found[:20]]


def _mesh(mesh: dict[str, Any]) -> bytes:
    """Return *mesh* as it will lie beside main.py; raise if its arrays do not fit each other."""
    vertices, indices, tags = mesh["vertices"], mesh["indices"], mesh["surfaceTags"]
    for name, values in (("vertices", vertices), ("indices", indices)):
        if len(values) % 3:
            raise InvalidRequest(f"mesh.{name} has {len(values)} numbers: they come in threes")
    points, triangles = len(vertices) // 3, len(indices) // 3
    if len(tags) != triangles:
        raise InvalidRequest(
            f"mesh.surfaceTags has {len(tags)} tags for {triangles} triangles: it is one for each"
        )
    if indices and max(indices) >= points:
        raise InvalidRequest(
            f"mesh.indices names vertex {max(indices)}, and there are {points}: they count from 0"
        )
    strange = sorted(set(tags) - set(TAGS))
    if strange:
        raise InvalidRequest(
            f"mesh.surfaceTags has tag {strange[0]}: the tags are 1 (wall), 2 (source), "
            "3 (secondary) and 4 (interface)"
        )
    if SOURCE not in tags:
        raise InvalidRequest(
            "mesh.surfaceTags has no tag 2: nothing radiates without a source surface; "
            "give the triangles of the source tag 2"
        )
    check_depth(mesh, MESH)
    return json.dumps(mesh, separators=(",", ":"), allow_nan=False).encode()


def name_of(label: str | None, fields: Mapping[str, Any]) -> str:
    """Return what the run of a job is called."""
    if label:
        return label
    low, high = fields["frequency_range"]
    count = fields["num_frequencies"]
    return f"{fields['formula_type']}, {low:g} to {high:g} Hz, {count} frequencies"
