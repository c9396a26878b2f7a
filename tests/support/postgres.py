"""
A PostgreSQL server of the tests' own, real and killable.

Promises of `PostgresServer`:

- It is started when it is first asked for a database, listens on 127.0.0.1 and on a socket in its
  own folder, and trusts whoever reaches it there.
- `fresh` gives the URL of a database that nobody has used. `kill` is kill -9 of the server and of
  all its backends at the same moment; `start` brings it back on the same port with all that was
  committed.
- As root it runs as the user postgres (PostgreSQL refuses root), in a folder that user can reach.
- ``flush=False`` (tests) leaves out the flush at commit: a kill of the process loses nothing then
  either, only a power cut would. Benchmarks take ``flush=True``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.ports import Port
from tests.support.require import require_module, unavailable
from tests.support.wait import wait_until

USER: Final = "postgres"
START_S: Final = 60.0
_BINARIES: Final = "/usr/lib/postgresql"


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL on this machine; None if there is none."""
    places = sorted(
        (place for place in Path(_BINARIES).glob("*/bin") if (place / "initdb").exists()),
        key=lambda place: float(place.parent.name),
    )
    if places:
        return places[-1]
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class PostgresServer:
    """One server in a folder of its own; `close` removes both."""

    def __init__(self, *, flush: bool = False, folder: Path | None = None) -> None:
        found = binaries()
        assert found is not None, "PostgreSQL is not installed"
        self._bin = found
        self._flush = flush
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="physicsrunner-pg-", dir=folder))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._port = Port()  # also while it is killed
        self.port = self._port.number
        self._process: subprocess.Popen[bytes] | None = None
        self._names: list[str] = []

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres", *, tcp: bool = False, port: int | None = None) -> str:
        """Return the URL of a database: over the socket, or over TCP (to *port*: a proxy's)."""
        if tcp or port:
            return f"postgresql+psycopg://{USER}@127.0.0.1:{port or self.port}/{database}"
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start it (again), and wait until it answers; silent when it runs."""
        if self.alive:
            return
        if not self.data.exists():
            self._init()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        if not self._flush:
            # Never synchronous_commit=off: a commit would be in the process's memory alone.
            options.update(fsync="off", full_page_writes="off")
        argv = [str(self._bin / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                **self._account,
            )
        wait_until(self._answers, timeout=START_S, on_timeout=self.story)

    def kill(self) -> None:
        """Kill -9 it and all its backends at once; wait until they are gone."""
        if self._process is None or not self.alive:
            return
        # Stopped first, or it would see its backends die and begin to recover, or begin another.
        _signal(self.pid, signal.SIGSTOP)
        family = [self.pid, *_children(self.pid)]
        for pid in family[1:]:
            _signal(pid, signal.SIGSTOP)
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self._process.wait(START_S)
        wait_until(lambda: not any(_lives(pid) for pid in family), timeout=START_S)

    def pause(self) -> None:
        """Stop it and all its backends (SIGSTOP): connected, and silent."""
        for pid in (self.pid, *_children(self.pid)):
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `pause`."""
        for pid in (*_children(self.pid), self.pid):
            _signal(pid, signal.SIGCONT)

    def fresh(self) -> str:
        """Make an empty database; return its URL."""
        self.start()
        name = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        self._names.append(name)
        return self.url(name)

    def drop(self) -> None:
        """Remove the databases that `fresh` made, whoever is still connected."""
        self.start()
        while self._names:
            self.execute(f"DROP DATABASE IF EXISTS {self._names.pop()} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry out one statement outside a transaction; return its rows."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user=USER, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                self._process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._port.close()

    def story(self) -> str:
        """Say how it is and what it printed last."""
        state = "runs" if self.alive else "has ended"
        text = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
        return f"PostgreSQL in {self.folder} {state}; it printed:\n{text}"

    def _init(self) -> None:
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        argv: Sequence[str] = (
            *(str(self._bin / "initdb"), "-D", str(self.data), "-A", "trust", "-U", USER),
            *("--no-sync", "-E", "UTF8", "--locale=C.UTF-8"),
        )
        done = subprocess.run(
            argv,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr}")

    def _answers(self) -> bool:
        import psycopg

        if not self.alive:
            raise AssertionError(self.story())
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def postgres_server(*, flush: bool = False) -> Iterator[PostgresServer]:
    """Give a server that is started at first use; end it with the block. Skips without one."""
    require_postgres()
    server = PostgresServer(flush=flush)
    try:
        yield server
    finally:
        server.close()


def require_postgres() -> None:
    """Go on only where a PostgreSQL server can be started."""
    require_module("psycopg")
    if binaries() is None:
        unavailable(f"no PostgreSQL server is installed ({_BINARIES}/*/bin/initdb)")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            unavailable(f"PostgreSQL cannot run as root, and there is no user {USER}")


def _account() -> dict[str, Any]:
    """Return the arguments with which a process runs as the user postgres."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
