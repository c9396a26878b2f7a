"""
A client of the ShakeScenario door: jobs over TCP. Its command line is `cli.shakescenario`.

Promises: this file and ``frames.py`` (`physicsrunner.wire.frames`) need the standard library alone
and work when the two are copied out into a folder of their own.
An answer that does not come in time, or a connection that breaks, closes the line; the next call
opens a new one. Nothing is asked twice by itself: whether a broken `submit` arrived, `list` shows.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

try:
    from physicsrunner.wire import frames
except ImportError:  # copied out alone, with frames.py beside it
    import frames  # type: ignore[import-not-found,no-redef]

PORT = 6000
TIMEOUT_S = 30.0
CHUNK = 4 * 1024 * 1024  #: bytes of a file in one answer
DOCUMENTS = ("meta.json", "result_manifest.json")  #: what a job has beside its artifacts
_READ = 256 * 1024


class ShakeScenarioError(Exception):
    """The server refused what was asked for: ``code`` and ``message`` of its answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class ServerAway(Exception):
    """Nobody answers at that address, or not in time, or not in this protocol."""


class ShakeScenario:
    """
    A line to one server; opened when it is first needed. For one thread at a time.

    Parameters
    ----------
    host, port
        Where the server listens.
    timeout
        Seconds to wait for a connection, and for an answer.
    token
        Shown once on each connection (op ``auth``); a server on this machine may need none.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        timeout: float = TIMEOUT_S,
        token: str | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self._token = token
        self._socket: socket.socket | None = None
        self._frames: frames.FrameStream = frames.FrameStream()
        self._answers: dict[str | None, dict[str, Any]] = {}

    def __enter__(self) -> ShakeScenario:  # noqa: PYI034 - Self is not in Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the line, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- requests --------------------------------------------------------------------------------

    def request(
        self, op: str, payload: Mapping[str, Any] | None = None, *, wait: float | None = 0.0
    ) -> Any:
        """
        Ask for *op* and return its result.

        Parameters
        ----------
        wait
            Seconds that the server itself may take before it answers; None: for ever.

        Raises
        ------
        ShakeScenarioError
            If the server refuses.
        ServerAway
            If it cannot be asked, or does not answer in time.
        """
        return self.result(self.send(op, payload), wait=wait)

    def send(self, op: str, payload: Mapping[str, Any] | None = None) -> str:
        """Send a request and return its ``req_id``: several may be under way on one line."""
        req_id = str(uuid.uuid4())
        line = self._line()
        try:
            line.settimeout(self.timeout)
            line.sendall(frames.encode_frame(frames.request(op, req_id, dict(payload or {}))))
        except OSError as error:
            raise self._away(error) from None
        return req_id

    def result(self, req_id: str, *, wait: float | None = 0.0) -> Any:
        """Return the result of the request *req_id*; answers to others are kept for them."""
        deadline = None if wait is None else time.monotonic() + wait + self.timeout
        # An answer to None refuses a request of which the server could not tell which it was.
        while req_id not in self._answers and None not in self._answers:
            self._receive(deadline)
        found = self._answers.pop(req_id if req_id in self._answers else None)
        if found.get("ok") is True:
            return found.get("result")
        error = found.get("error")
        error = error if isinstance(error, dict) else {}
        raise ShakeScenarioError(
            str(error.get("code", "INTERNAL")), str(error.get("message", "no reason was given"))
        )

    # -- operations ------------------------------------------------------------------------------

    def ping(self) -> dict[str, Any]:
        """Ask whether the server is there."""
        return self._object(self.request("ping"))

    def submit(
        self, mag: float, lon: float, lat: float, depth: float, **more: Any
    ) -> dict[str, Any]:
        """
        Queue a job and return it.

        Parameters
        ----------
        mag
            Magnitude.
        lon, lat
            Epicentre in degrees.
        depth
            Depth in km.
        more
            Further parameters of the server's model.
        """
        asked = {"mag": mag, "lon": lon, "lat": lat, "depth": depth, **more}
        return self._object(self.request("submit", asked))

    def list(self, **wanted: Any) -> dict[str, Any]:
        """Return ``{jobs, total}``, the newest first; *wanted*: status, limit, offset, all."""
        return self._object(self.request("list", wanted))

    def get(self, job: int) -> dict[str, Any]:
        """Return a job with its parameters, its result and its artifacts."""
        return self._object(self.request("get", {"id": job}))

    def wait(self, job: int, timeout: float | None = None) -> dict[str, Any]:
        """Return a job when it has ended, or as it is after *timeout* seconds; None: no limit."""
        asked = {"id": job} if timeout is None else {"id": job, "timeout": timeout}
        return self._object(self.request("wait", asked, wait=timeout))

    def cancel(self, job: int) -> dict[str, Any]:
        """Ask for a job to be stopped; return it as it is then."""
        return self._object(self.request("cancel", {"id": job}))

    def delete(self, job: int) -> dict[str, Any]:
        """Delete a job that has ended, with its files."""
        return self._object(self.request("delete", {"id": job}))

    def reset(self) -> dict[str, Any]:
        """Delete all jobs that have ended; refused while one is running."""
        return self._object(self.request("reset"))

    def pieces(self, job: int, path: str) -> Iterator[bytes]:
        """
        Yield the bytes of one artifact; what is sealed is checked against its SHA-256.

        Raises
        ------
        ShakeScenarioError
            With the code ``CHANGED`` if the file was changed while it was read.
        """
        digest, at = hashlib.sha256(), 0
        while True:
            asked = {"id": job, "path": path, "offset": at, "length": CHUNK}
            found = self._object(self.request("download", asked))
            data = base64.b64decode(found.get("data", ""))
            digest.update(data)
            at += len(data)
            yield data
            if not data or at >= found.get("size", 0):
                break
        if found.get("sha256") not in (None, digest.hexdigest()):
            raise ShakeScenarioError("CHANGED", f"{path} was changed while it was read: try again")

    def download(self, job: int, path: str, target: Path) -> Path:
        """Write one artifact below the folder *target*, whole or not at all; return where."""
        file = target / _inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        begun = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            with begun.open("wb") as out:
                for piece in self.pieces(job, path):
                    out.write(piece)
            begun.replace(file)
        finally:
            begun.unlink(missing_ok=True)
        return file

    def download_all(
        self, job: int, target: Path, told: Callable[[Path], None] = lambda _file: None
    ) -> Path:
        """Write a job's documents and all its artifacts to ``target/job_000001``; return that."""
        folder = target / f"job_{job:06d}"
        paths = [str(item["path"]) for item in self.get(job).get("artifacts") or []]
        for path in (*paths, *DOCUMENTS):
            told(self.download(job, path, folder))
        return folder

    # -- inside ----------------------------------------------------------------------------------

    def _line(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        try:
            line = socket.create_connection((self.host, self.port), timeout=self.timeout)
        except (OSError, OverflowError, UnicodeError) as error:
            raise self._away(error) from None
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._answers = line, {}
        self._frames = frames.FrameStream(4 * frames.MAX_MANIFEST)
        if self._token:
            try:
                self.request("auth", {"token": self._token})
            except ShakeScenarioError:
                self.close()
                raise
        return line

    def _receive(self, deadline: float | None) -> None:
        """Take what comes next, or raise `ServerAway`."""
        line = self._socket
        if line is None:
            raise ServerAway("the line was closed before the answer came")
        try:
            line.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = line.recv(_READ)
            if not data:
                raise ConnectionResetError("it closed the connection")
            for body in self._frames.feed(data):
                found = self._object(frames.json_of(body))
                self._answers[found.get("req_id")] = found
        except (OSError, frames.FrameError) as error:
            raise self._away(error) from None

    def _object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._away(ValueError("it answers with something else"))
        return value

    def _away(self, error: Exception) -> ServerAway:
        """Close the line, and return what to raise because of *error*."""
        self.close()
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, TimeoutError):
            why = f"no answer within {self.timeout:g} s"
        return ServerAway(f"no ShakeScenario server at {self.host}:{self.port}: {why}")


def _inside(path: str) -> PurePosixPath:
    """Return *path*, which a server named, if it stays in the folder where it is written."""
    named = PurePosixPath(path)
    if not named.parts or named.is_absolute() or ".." in named.parts or "\0" in path:
        raise ShakeScenarioError("UNSAFE_PATH", f"the server names a file {path!r}")
    return named
