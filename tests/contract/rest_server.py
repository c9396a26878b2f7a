"""A whole server in a thread of the test, on a real socket, and small helpers to talk to it."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from physicsrunner.server.limits import Limits
from physicsrunner.server.serve import Place, ReadyServer, ready
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import Services
from physicsrunner.wire import rest
from physicsrunner.wire.frames import encode_frame

ADMIN = "the admin's"  #: stands for the token that the server made at its first start
MAIN = b"print('hello')\n"


class RestServer:
    """A running server, with the admin's token on every request unless another is given."""

    def __init__(self, running: ReadyServer) -> None:
        self.url = running.url
        self.services: Services = running.services
        self.admin = self.services.admin_token_file.read_text().strip()
        self.session = requests.Session()

    def call(
        self, method: str, path: str, *, token: str | None = ADMIN, **kwargs: Any
    ) -> requests.Response:
        """Make one request; *token* None: without one."""
        headers = dict(kwargs.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {self.admin if token == ADMIN else token}"
        return self.session.request(method, self.url + path, headers=headers, timeout=30, **kwargs)

    def value(self, method: str, path: str, *, status: int | None = None, **kwargs: Any) -> Any:
        """Make one request that must succeed (or answer *status*); return its JSON."""
        response = self.call(method, path, **kwargs)
        expected = response.ok if status is None else response.status_code == status
        assert expected, f"{response.status_code}: {response.text}"
        return response.json()

    def model(self, **files: bytes) -> dict[str, Any]:
        """Store a model of *files* (default: one main.py)."""
        body = zip_of(files or {"main.py": MAIN})
        found: dict[str, Any] = self.value("POST", f"{rest.MODELS}?name=demo", data=body)
        return found

    def claim(self, **more: Any) -> tuple[str, dict[str, Any]]:
        """Create a run that the caller carries out; return its id and its lease."""
        answer = self.value(
            "POST", rest.SIMULATIONS, json={"name": "claimed", "claim": {"agent": "here"}, **more}
        )
        return answer["run"]["id"], answer["lease"]

    def sync(
        self, ops: Sequence[tuple[Mapping[str, Any], bytes]], *, token: str = ADMIN
    ) -> list[dict[str, Any]]:
        """Send one frame; return its results."""
        results: list[dict[str, Any]] = self.value("POST", rest.SYNC, data=frame(ops), token=token)[
            "results"
        ]
        return results

    def put_file(self, run: str, path: str, data: bytes, *, token: str = ADMIN) -> None:
        """Append and seal one file of attempt 1."""
        base = {"run": run, "attempt": 1, "path": path}
        digest = hashlib.sha256(data).hexdigest()
        results = self.sync(
            [
                ({**base, "op": "append", "offset": 0, "length": len(data)}, data),
                ({**base, "op": "seal", "size": len(data), "sha256": digest}, b""),
            ],
            token=token,
        )
        assert [item.get("error") for item in results] == [None, None], results

    def report(self, run: str, *, token: str = ADMIN, **fields: Any) -> dict[str, Any]:
        """Report on attempt 1."""
        body = {"reports": [{"run": run, "attempt": 1, **fields}]}
        answers: list[dict[str, Any]] = self.value("POST", rest.REPORTS, json=body, token=token)
        return answers[0]


def frame(ops: Sequence[tuple[Mapping[str, Any], bytes]]) -> bytes:
    """Return one sync frame."""
    manifest = {"v": 1, "ops": [dict(op) for op, _ in ops]}
    return encode_frame(manifest) + b"".join(data for _, data in ops)


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of *files* by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return out.getvalue()


@contextmanager
def rest_server(
    data: Path,
    *,
    limits: Limits | None = None,
    options: ServerOptions | None = None,
    port: int = 0,
    now: Callable[[], float] = time.time,
) -> Iterator[RestServer]:
    """Serve *data* while the block lasts; *now* is its clock."""
    listening = threading.Event()
    place = Place(data, port=port, options=options or ServerOptions())
    with ready(place, on_listening=lambda _url: listening.set(), limits=limits, now=now) as running:
        thread = threading.Thread(target=running.run, name="server")
        thread.start()
        try:
            assert listening.wait(30), "the server does not listen"
            server = RestServer(running)
            try:
                yield server
            finally:
                server.session.close()
        finally:
            running.stop()
            thread.join(30)
