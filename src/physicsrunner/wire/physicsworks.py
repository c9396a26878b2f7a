"""
The words of the PhysicsWorks wire, said once for our door and our uplink. Pure.

Promises:

- `encode_form` makes, and `decode_form` reads, the body ``json={...}`` whose member ``chunk`` is
  base64, at the speed of memory copies; what comes out is exactly what went in.
- A form that is not one, or whose base64 lost a character, raises `InvalidRequest`: bytes are
  never guessed.

Facts of the wire: contracts/physicsworks-wire.md of the project's documents; docs/physicsworks.md
says how its words map to ours.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest
from physicsrunner.wire.reading import loads

AUTH_HEADER: Final = "auth-token"
PREFIX: Final = "/physicsworks"
FORM_TYPE: Final = "application/x-www-form-urlencoded"

CHUNK_SIZE: Final = 5 * 1024 * 1024  #: bytes; chunk i of a file begins at i x CHUNK_SIZE
MAX_FORM: Final = 12 * 1024 * 1024  #: bytes of a form body: a chunk in base64, escaped, and more
HEARTBEAT_S: Final = 10.0  #: seconds between heartbeats
FINISHED_LABEL: Final = "finished"
ABORTED_LABEL: Final = "Aborted by user"

STATUS_OF: Final[Mapping[RunState, str]] = {
    RunState.QUEUED: "pending",
    RunState.PREPARING: "running",
    RunState.RUNNING: "running",
    RunState.PAUSED: "running",
    RunState.RETRYING: "running",
    RunState.COMPLETED: "finished",
    RunState.FAILED: "error",
    RunState.CANCELLED: "error",
    RunState.TIMEOUT: "error",
}
STATUSES: Final = ("pending", "running", "finished", "error")


def run_data(project: str, simulation: str) -> str:
    """Return the path, below the host, of what a runner is to do."""
    return f"simulation/run_data/read/{project}/{simulation}"


def run_update(simulation: str) -> str:
    """Return the path that creates a run."""
    return f"simulation/run/update/{simulation}"


def run_patch(run: str) -> str:
    """Return the path that changes parts of a run's document."""
    return f"simulation/run/patch/{run}"


def stored_file(name: str) -> str:
    """Return the path of the bytes of a stored file."""
    return f"storage/runner/{name}"


APPEND: Final = "storage/append"
CHUNKS: Final = "storage/chunks"

# The characters of base64 that a form escapes, and those of small JSON: replaced at C speed, so
# that the general decoder has next to nothing left to do in a body of megabytes.
_COMMON: Final = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%22", b'"'), (b"%2C", b","))


def encode_form(fields: Mapping[str, Any], chunk: bytes) -> bytes:
    """Return the form body that carries *fields* and *chunk* (as ``chunk``, in base64)."""
    head = json.dumps({**fields, "chunk": ""}, separators=(",", ":"))
    # The chunk is the last member: {"...":...,"chunk":""} is cut before its closing quote.
    opening, closing = head[:-2].encode(), head[-2:].encode()
    data = base64.b64encode(chunk)
    for escaped, plain in ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"=")):
        data = data.replace(plain, escaped)
    return b"".join(
        (b"json=", _quote(opening), data, _quote(closing)),
    )


def _quote(raw: bytes) -> bytes:
    return quote_from_bytes(raw, safe="").encode()


def decode_form(body: bytes) -> tuple[dict[str, Any], bytes]:
    """
    Return the fields of a form body and the bytes of its ``chunk``.

    Raises
    ------
    InvalidRequest
        If there is no field ``json``, it is no JSON object, or ``chunk`` is not base64.
    """
    fields = _form_json(body)
    text = fields.pop("chunk", None)
    if not isinstance(text, str):
        raise InvalidRequest("the form's JSON has no text 'chunk'")
    return fields, decode_chunk(text)


def _form_json(body: bytes) -> dict[str, Any]:
    for part in body.split(b"&"):
        if part.startswith(b"json="):
            value = part[len(b"json=") :].replace(b"+", b" ")
            for escaped, plain in _COMMON:
                value = value.replace(escaped, plain)
            try:
                fields = loads(unquote_to_bytes(value))
            except ValueError:
                raise InvalidRequest("the form's field 'json' is not JSON") from None
            if not isinstance(fields, dict):
                raise InvalidRequest("the form's field 'json' is not a JSON object")
            return fields
    raise InvalidRequest("the form has no field 'json'")


def decode_chunk(text: str) -> bytes:
    """Return the bytes of base64 *text*; characters that do not belong there are an error."""
    try:
        data = binascii.a2b_base64(text)
    except (binascii.Error, ValueError):
        raise InvalidRequest("'chunk' is not base64") from None
    padding = len(text) - len(text.rstrip("="))
    # The decoder skips what is no base64: then the length tells.
    if len(text) % 4 or len(data) != len(text) // 4 * 3 - padding:
        raise InvalidRequest("'chunk' is not base64")
    return data
