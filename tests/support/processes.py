"""
Real processes of physicsrunner, started and killed by tests.

Promises of `Processes` (the fixture ``processes``):

- Everything it starts carries a mark in its environment, and so do all its children. At the end
  of the test whatever still carries the mark is ended, and the test fails and names it if it had
  outlived its parents.
- A server that ended unasked fails the test, with the end of its output.
- No process sees the settings of the person who runs the tests: HOME is a folder of the test.
- A port that it gave stays the test's own, also while a server is killed and not yet back.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.invariants import check_folder
from tests.support.ports import Port
from tests.support.wait import wait_until

MARK = "PHYSICSRUNNER_TEST_MARK"
LISTENING = re.compile(rb"listening on (http://127\.0\.0\.1:(\d+))")
START_S = 60.0  # a start on a busy machine of two cores
STOP_S = 20.0


class Started:
    """One started program; what it prints goes to a file."""

    def __init__(
        self, argv: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.asked = False  #: the test ended it, or waited for its end
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status when it has ended; a signal n is -n."""
        return self.popen.poll()

    def output(self) -> str:
        """What it printed so far, standard output and standard error."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; return its exit status."""
        self.asked = True
        wait_until(lambda: not self.alive, timeout=timeout, on_timeout=self.story)
        return self.popen.wait()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and after SIGKILL wait until it is gone."""
        self.asked = True
        if self.alive:
            self.popen.send_signal(number)
        if number == signal.SIGKILL:
            self.popen.wait(STOP_S)

    def stop(self) -> None:
        """End it politely, and by force when that takes too long."""
        self.asked = True
        if not self.alive:
            return
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(STOP_S)

    def story(self) -> str:
        """Say what it is, how it is and what it printed last."""
        state = "runs" if self.alive else f"ended with {self.returncode}"
        return f"{' '.join(self.argv)} {state}; it printed:\n{self.output()[-4000:]}"


class ServerProcess:
    """``physicsrunner server`` on a data folder; can be killed and started again on its port."""

    def __init__(
        self, owner: Processes, data: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.data = data
        self.port = owner.port()
        self.damaged = False  #: a test did what no server does: its database is not checked
        self._owner = owner
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self.started: Started = self._start()

    def _start(self) -> Started:
        argv = ["server", "--data", str(self.data), "--port", str(self.port), *self._arguments]
        started = self._owner.python(*argv, environment=self._environment, name="server")

        def line() -> re.Match[bytes] | None:
            if not started.alive:
                raise AssertionError(f"the server did not start: {started.story()}")
            return LISTENING.search(started.log.read_bytes())

        found = wait_until(line, timeout=START_S, on_timeout=started.story)
        assert found is not None
        assert int(found[2]) == self.port
        return started

    @property
    def url(self) -> str:
        """Its base address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.data / "admin.token").read_text().strip()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.started.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.started.alive

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal (kill -9)."""
        self.started.kill(number)

    def stop(self) -> None:
        """End it politely."""
        self.started.stop()

    def restart(self) -> None:
        """Start it again on the same data and the same port."""
        assert not self.alive
        self.started = self._start()

    def check(self) -> None:
        """Hold its database, when it has ended, against what must be true of every store."""
        url = self._environment.get("PHYSICSRUNNER_DATABASE")
        if not self.damaged and (url or (self.data / "physicsrunner.db").exists()):
            check_folder(self.data, url=url)

    def attempt_folder(self, run: str, attempt: int = 1) -> Path:
        """Return the folder in which the server keeps an attempt's files."""
        return self.data / "simulations" / run / "attempts" / str(attempt)


@dataclass(frozen=True)
class CliResult:
    """What a command of the CLI answered."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.stdout)


class Processes:
    """Starts processes for one test and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.started: list[Started] = []
        self.servers: list[ServerProcess] = []
        self._ports: list[Port] = []
        (folder / "home").mkdir(parents=True, exist_ok=True)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment in which processes of this test run."""
        home = self.folder / "home"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PHYSICSRUNNER_")}
        return {
            **kept,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_DATA_HOME": str(home / ".local" / "share"),
            "PYTHONUNBUFFERED": "1",
            MARK: self.mark,
            **(more or {}),
        }

    def start(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        name: str = "process",
        cwd: Path | None = None,
    ) -> Started:
        """Start any program; its output goes to a file of its own in the test's folder."""
        log = self.folder / f"{name}-{len(self.started)}.log"
        started = Started(
            argv, environment=self.environment(environment), log=log, cwd=cwd or self.folder
        )
        self.started.append(started)
        return started

    def python(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        name: str = "physicsrunner",
        cwd: Path | None = None,
    ) -> Started:
        """Start ``python -m physicsrunner`` with *arguments*."""
        argv = [sys.executable, "-m", "physicsrunner", *arguments]
        return self.start(argv, environment=environment, name=name, cwd=cwd)

    def port(self) -> int:
        """Return a port of 127.0.0.1 that nobody else is given while this test goes on."""
        self._ports.append(Port())
        return self._ports[-1].number

    def server(
        self, data: Path | None = None, *arguments: str, **environment: str
    ) -> ServerProcess:
        """Start a server on *data* (default: a folder of the test) and wait until it listens."""
        data = data or self.folder / f"data-{len(self.servers)}"
        server = ServerProcess(self, data, arguments, environment)
        self.servers.append(server)
        return server

    def runner(self, config: Path, *arguments: str, **environment: str) -> Started:
        """Start the runner on a config.json: ``python -m physicsrunner --configPath=...``."""
        return self.python(
            f"--configPath={config}", *arguments, environment=environment, name="runner"
        )

    def cli(
        self,
        *arguments: str,
        server: ServerProcess | None = None,
        check: bool = True,
        timeout: float = 120.0,
        cwd: Path | None = None,
        **environment: str,
    ) -> CliResult:
        """
        Carry out one command of the CLI and return its answer.

        *server* sets the address and the token in the environment. With *check*, an exit status
        other than 0 fails the test.
        """
        known = {} if server is None else login(server)
        done = subprocess.run(
            [sys.executable, "-m", "physicsrunner", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment({**known, **environment}),
            cwd=cwd or self.folder,
            timeout=timeout,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{out}\n{err}")
        return CliResult(done.returncode, out, err)

    def marked(self) -> dict[int, str]:
        """Return the processes that carry this test's mark and live: pid -> command line."""
        return marked_processes(self.mark)

    def close(self) -> None:
        """End everything; fail if something died unasked or outlived its parent."""
        died = [
            server.started.story()
            for server in self.servers
            if not server.alive and not server.started.asked
        ]
        for started in self.started:
            started.stop()
        # Children of a runner that was killed may need a moment to notice.
        left = self.marked()
        if left:
            try:
                wait_until(lambda: not self.marked(), timeout=STOP_S)
                left = {}
            except AssertionError:
                left = self.marked()
        for pid in left:
            end_process(pid)
        for port in self._ports:
            port.close()
        for server in self.servers:
            server.check()
        if died:
            raise AssertionError("a server ended unasked: " + "\n".join(died))
        if left:
            raise AssertionError(f"processes outlived the test: {left}")


def login(server: ServerProcess) -> dict[str, str]:
    """Return the environment in which the CLI talks to *server*."""
    return {"PHYSICSRUNNER_SERVER": server.url, "PHYSICSRUNNER_TOKEN": server.token}


def end_process(pid: int) -> None:
    """Kill *pid*; silent when it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def marked_processes(mark: str) -> dict[int, str]:
    """Return the living processes (zombies are dead) whose environment carries *mark*."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes():
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked, or is not ours
        if command:
            found[int(entry.name)] = command
    return found
