"""
A small server that speaks only the PhysicsWorks wire, written from its contract alone.

It shares no code with the package: what it stores is what went over the line. It keeps files by
their stored name, the run document as it was patched, and every request in order; and it can fail
on purpose (`Fault`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

CHUNK = 5242880
TOKEN = "token-of-the-stand-in"


@dataclass
class Fault:
    """
    What goes wrong with requests whose ``METHOD path`` matches *match* (a regular expression).

    ``busy``: 503 with Retry-After, nothing done. ``broken``: 500 after it was done. ``reset``: the
    connection is reset, nothing done. ``lost``: it is done, and the connection is reset before the
    answer. ``slow``: it is done *seconds* later.
    """

    match: str
    kind: str
    times: int = 1
    skip: int = 0  #: so many matching requests go well before
    seconds: float = 0.05


@dataclass(frozen=True)
class Seen:
    """One request, as it came."""

    method: str
    path: str
    fields: Mapping[str, Any]  #: of its JSON or form, without the chunk
    size: int  #: bytes of the chunk
    outcome: str  #: done, or the kind of the fault


@dataclass
class StandIn:
    """The server. ``with StandIn(folder) as server: server.host``."""

    folder: Path
    simulation: dict[str, Any] = field(default_factory=dict)
    scripts: bytes | None = None  #: the scripts zip
    inputs_zip: bytes | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    provided: dict[str, bytes] = field(default_factory=dict)  #: meshes by file name
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}  #: stored name -> originalname
        self.sizes: dict[str, int] = {}  #: stored name -> fileSize
        self.seen: list[Seen] = []
        self.problems: list[str] = []  #: what a strict server would not have liked
        self.guard = threading.RLock()
        self.sockets: set[socket.socket] = set()

    def __enter__(self) -> StandIn:  # noqa: PYI034 - Self needs Python 3.11
        owner = self

        class Handler(_Handler):
            standin = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="stand-in"
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self.guard:
            for connection in list(self.sockets):
                _reset(connection)

    @property
    def host(self) -> str:
        """The address for config.json."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def run(self) -> dict[str, Any]:
        """The only run's document."""
        with self.guard:
            (document,) = self.runs.values()
            copy: dict[str, Any] = json.loads(json.dumps(document))
            return copy

    def stored(self, name: str) -> bytes:
        """The bytes of a stored name."""
        return (self.folder / name).read_bytes()

    def listed(self, kind: str) -> dict[str, str]:
        """The files that an array of the run document lists: originalname -> SHA-256."""
        return {
            self.names[entry["file"]]: hashlib.sha256(self.stored(entry["file"])).hexdigest()
            for entry in self.run().get(kind, [])
        }

    def requests(self, match: str) -> list[Seen]:
        """The requests whose ``METHOD path`` matches."""
        with self.guard:
            return [one for one in self.seen if re.search(match, f"{one.method} {one.path}")]

    def fault_for(self, what: str) -> Fault | None:
        """Take the fault that is due for this request."""
        with self.guard:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, what):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    # -- the calls -------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, fields: dict[str, Any], chunk: bytes
    ) -> tuple[int, Any]:
        """Carry out one request; return status and document (or bytes)."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if method == "GET" and parts[:3] == ["simulation", "run_data", "read"]:
            return 200, self._run_data(parts[4])
        if method == "PUT" and parts[:3] == ["simulation", "run", "update"]:
            return (200, self._create(parts[3])) if len(parts) == 4 else self._node(parts, fields)
        if method == "PUT" and parts[:3] == ["simulation", "run", "patch"]:
            return self._patch(parts[3], fields)
        if method == "GET" and parts[:2] == ["storage", "runner"]:
            data = self._provided(parts[2])
            return (200, data) if data is not None else (404, {"error": "no such file"})
        if method == "POST" and parts == ["storage", "append"]:
            return self._append(fields, chunk)
        if method == "POST" and parts == ["storage", "chunks"]:
            return self._chunk(fields, chunk)
        return 404, {"error": "no such call"}

    def _run_data(self, simulation: str) -> dict[str, Any]:
        return {
            "simulation": {"id": simulation, "name": "Stand-in", "meshes": [], **self.simulation},
            "materials": self.materials,
            "inputs": self.inputs,
            "physicsFeature": {
                "config": self.config,
                "inputs": "inputs.zip" if self.inputs_zip is not None else None,
                "scripts": "scripts.zip" if self.scripts is not None else None,
            },
        }

    def _provided(self, name: str) -> bytes | None:
        return {"scripts.zip": self.scripts, "inputs.zip": self.inputs_zip, **self.provided}.get(
            name
        )

    def _create(self, simulation: str) -> dict[str, Any]:
        run = uuid.uuid4().hex[:24]
        self.runs[run] = {
            "_id": run,
            "name": "Run 1",
            "status": "pending",
            "simulation": simulation,
        }
        return dict(self.runs[run])

    def _node(self, parts: list[str], fields: dict[str, Any]) -> tuple[int, Any]:
        return self._patch(parts[4], fields.get("node", {}))

    def _patch(self, run: str, fields: dict[str, Any]) -> tuple[int, Any]:
        if run not in self.runs:
            return 404, {"error": "no such run"}
        fields.pop("heartbeat", None)
        if fields.get("status", "running") not in ("pending", "running", "finished", "error"):
            self.problems.append(f"status {fields['status']}")
        for kind in ("logs", "plots", "media", "downloadables", "graphics"):
            for entry in fields.get(kind, []):
                if entry["file"] not in self.names:
                    self.problems.append(f"{kind} names {entry['file']}, which never came")
        self.runs[run].update(fields)
        return 200, self.runs[run]

    def _append(self, fields: dict[str, Any], chunk: bytes) -> tuple[int, Any]:
        name = self._name(fields)
        target = self.folder / name
        if fields["isAscii"]:
            chunk.decode("utf-8")  # a server may take the word for it
        if not fields["isNew"] and not target.exists():
            self.problems.append(f"{name} goes on without a beginning")
        with target.open("wb" if fields["isNew"] else "ab") as file:
            file.write(chunk)
        return 200, {}

    def _chunk(self, fields: dict[str, Any], chunk: bytes) -> tuple[int, Any]:
        name, index = self._name(fields), fields["chunkIndex"]
        target = self.folder / name
        target.touch()
        if index * CHUNK > target.stat().st_size:
            self.problems.append(f"{name}: chunk {index} leaves a hole")
        if self.sizes.setdefault(name, fields["fileSize"]) != fields["fileSize"]:
            self.problems.append(f"{name}: fileSize changed")
        with target.open("r+b") as file:
            file.seek(index * CHUNK)
            file.write(chunk)
        return 200, {}

    def _name(self, fields: dict[str, Any]) -> str:
        name: str = fields["filename"]
        assert re.fullmatch(r"[\w.-]+", name), name
        metadata = fields["metadata"]
        assert set(metadata) == {
            "project",
            "owner",
            "originalname",
            "resource",
            "resourceKind",
            "simulation",
        }
        assert metadata["resource"] in self.runs
        assert metadata["resourceKind"] == "Run"
        self.names[name] = metadata["originalname"]
        return name


class _Handler(BaseHTTPRequestHandler):
    standin: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.standin.guard:
            self.standin.sockets.add(self.connection)

    def finish(self) -> None:
        with self.standin.guard:
            self.standin.sockets.discard(self.connection)
        try:
            super().finish()
        except OSError:
            return

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError, OSError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve("GET")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields, chunk = _read(body, self.headers.get("Content-Type") or "")
        fault = self.standin.fault_for(f"{method} {self.path}")
        kind = fault.kind if fault else "done"
        if self.headers.get("auth-token") != TOKEN:
            self._send(401, {"error": "wrong token"})
            return
        if fault and fault.kind == "slow":
            threading.Event().wait(fault.seconds)
        with self.standin.guard:
            self.standin.seen.append(Seen(method, self.path, fields, len(chunk), kind))
            if kind in ("busy", "reset"):
                status, value = 503, {"error": "busy"}
            else:
                try:
                    status, value = self.standin.answer(method, self.path, dict(fields), chunk)
                except (KeyError, AssertionError, UnicodeDecodeError) as error:
                    self.standin.problems.append(f"{method} {self.path}: {error!r}")
                    status, value = 400, {"error": repr(error)}
        if kind in ("reset", "lost"):
            _reset(self.connection)
            self.close_connection = True
            return
        self._send(500 if kind == "broken" else status, value)

    def _send(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _read(body: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
    if kind.startswith("application/x-www-form-urlencoded"):
        pairs = dict(part.split(b"=", 1) for part in body.split(b"&"))
        fields = json.loads(unquote_to_bytes(pairs[b"json"].replace(b"+", b" ")))
        return fields, base64.b64decode(fields.pop("chunk"), validate=True)
    return (json.loads(body) if body else {}), b""


def _reset(connection: socket.socket) -> None:
    """Break the connection so that the other side sees a reset, not an end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
