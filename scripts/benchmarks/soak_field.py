"""
The field of the soak: a server, its agents, their programs, and what befalls them.

Every choice is drawn from one seeded generator. A fault that lasts has an end of its own (`Field`
keeps what is to be mended and when), so several may last at the same time; one part is not hit by a
second fault while the first lasts.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import requests
from sqlalchemy import make_url
from tests.support.postgres import PostgresServer
from tests.support.processes import Processes, ServerProcess, Started, end_process
from tests.support.proxy import Fault, FaultProxy
from tests.support.wait import wait_until

from physicsrunner.wire import rest

LEASE_S: Final = 6.0
GRACE_S: Final = 6.0
BROKEN: Final = "requests of an agent broken"
WEIGHTS: Final[Mapping[str, int]] = {
    "agent killed": 4,
    "agent stopped": 4,
    "agent cut off": 4,
    "agent's line silent": 2,
    BROKEN: 4,
    "server killed": 3,
    "server stopped": 2,
    "solver killed": 5,
    "solver stopped": 4,
    "postgres killed": 3,
    "postgres stopped": 2,
}
TRIES: Final = 10
#: What a run's main.py does; `soak_judge` knows what must come of it.
MAIN: Final = (Path(__file__).parent / "soak_program.py").read_text(encoding="utf-8")


class Field:
    """Everything that runs, under *place*."""

    def __init__(self, place: Path, seed: int, *, store: str, agents: int, slots: int) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.truth = place / "truth"
        self.truth.mkdir()
        (place / "processes").mkdir()
        self.processes = Processes(place / "processes")
        self.postgres = PostgresServer(flush=True) if store == "postgres" else None
        known = {"PHYSICSRUNNER_LEASE_S": str(LEASE_S), "PHYSICSRUNNER_GRACE_S": str(GRACE_S)}
        self.url = None if self.postgres is None else self.postgres.fresh()
        if self.url is not None:
            known["PHYSICSRUNNER_DATABASE"] = self.url
        self.data = place / "data"
        self.server: ServerProcess = self.processes.server(self.data, **known)
        self.proxies = [FaultProxy(self.server.port) for _ in range(agents)]
        self._slots = slots
        self.agents: list[Started] = [self._start_agent(number) for number in range(agents)]
        self._mend: list[tuple[float, int, str, Callable[[], None]]] = []
        self._order = itertools.count()
        self._hit: set[str] = set()  # parts with a fault that lasts

    # -- what runs -----------------------------------------------------------------------------

    def _start_agent(self, number: int) -> Started:
        work = self.place / f"work-{number}"
        enroll = []
        if not (work / "agent.json").exists():
            one_time = self.call("POST", rest.ENROLL_TOKENS, json={"name": f"agent-{number}"})
            enroll = ["--enroll-token", one_time["token"]]
        return self.processes.python(
            *("agent", "--server", self.proxies[number].url, "--name", f"agent-{number}"),
            *("--work", str(work), "--slots", str(self._slots), "--cores", "1000"),
            *("--memory", "1000", *enroll),
            name=f"agent-{number}",
        )

    def call(self, method: str, path: str, *, patience_s: float = 60.0, **kwargs: Any) -> Any:
        """Ask the server, past every proxy and fault, until it answers; return the JSON."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                headers = {"Authorization": f"Bearer {self.server.token}"}
                answer = requests.request(
                    method, self.server.url + path, headers=headers, timeout=20, **kwargs
                )
                if answer.status_code < 500:
                    break
                told = answer.text
            except requests.RequestException as error:
                told = str(error)
            assert time.monotonic() < deadline, f"{method} {path}: {told}"
            self.go_on(0.2)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def model(self) -> str:
        """Store the program; return the id of the model."""
        bundle = self.place / "bundle.zip"
        with zipfile.ZipFile(bundle, "w") as archive:
            archive.writestr("main.py", MAIN)
        answer = self.call("POST", f"{rest.MODELS}?name=soak", data=bundle.read_bytes())
        return str(answer["id"])

    def solvers(self) -> list[int]:
        """Return the pids of the programs that run."""
        marked = self.processes.marked()
        return sorted(pid for pid, line in marked.items() if _is_solver(line))

    def left_over(self) -> list[str]:
        """Return what runs, or was never waited for, besides the server and its agents."""
        ours = self._pids().values()
        found = [line for pid, line in self.processes.marked().items() if pid not in ours]
        return found + [text for pid in ours for text in _zombies_of(pid)]

    def open_files(self) -> dict[str, list[str]]:
        """Return what the server and each agent have open below the folders of this soak."""
        return {name: _open_below(pid, self.place) for name, pid in self._pids().items()}

    def footprint(self) -> dict[str, tuple[int, int]]:
        """
        Return the open files and threads of the server and of each agent.

        The server's connections to its database are not among them (`connections`): how many it
        keeps depends on how many it needed at once since it was started.
        """
        found = {name: _footprint(pid) for name, pid in self._pids().items()}
        fds, threads = found["server"]
        return {**found, "server": (fds - sum(self._of_database()), threads)}

    def connections(self) -> int:
        """Return how many connections to its database the server keeps."""
        return self._of_database()[0]

    def _of_database(self) -> tuple[int, int]:
        """Return the server's connections to its database, and what else it has open of it."""
        if self.postgres is not None and self.url is not None:
            name = make_url(self.url).database
            asked = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
            return int(self.postgres.execute(asked)[0][0]), 0
        opened = _open_below(self.server.pid, self.data)
        files = Counter(Path(path).name for path in opened)
        connections = files.pop("physicsrunner.db", 0)
        beside = sum(count for name, count in files.items() if name.startswith("physicsrunner.db"))
        return connections, beside

    def _pids(self) -> dict[str, int]:
        agents = {f"agent-{n}": agent.pid for n, agent in enumerate(self.agents)}
        return {"server": self.server.pid, **agents}

    # -- time and faults -----------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Let time pass, mending what is to be mended; bring back who ended unasked."""
        end = time.monotonic() + seconds
        while True:
            self._mend_due()
            left = end - time.monotonic()
            if left <= 0:
                return
            until = time.monotonic() + min(left, 0.1)
            wait_until(lambda until=until: time.monotonic() >= until, timeout=5.0)  # type: ignore[misc]

    def hit(self) -> None:
        """Let one fault happen; another is drawn when its part is hit already."""
        for _ in range(TRIES):
            kind = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            name = "_" + kind.replace(" ", "_").replace("'", "")
            if getattr(self, name)():
                self.faults[kind] += 1
                return

    def happened(self) -> Counter[str]:
        """Return the faults that have happened: a request to be broken may not have come yet."""
        waiting = Counter({BROKEN: sum(proxy.pending() for proxy in self.proxies)})
        return self.faults - waiting

    def calm(self) -> None:
        """Mend everything now."""
        while self._mend:
            self._mend_one()
        for proxy in self.proxies:
            proxy.refusing = proxy.silent = False
        for number, agent in enumerate(self.agents):
            if not agent.alive:
                self.agents[number] = self._start_agent(number)

    def close(self) -> None:
        """End everything; raise if something is left over."""
        for proxy in self.proxies:
            proxy.close()
        try:
            self.processes.close()
        finally:
            if self.postgres is not None:
                self.postgres.close()

    def _mend_due(self) -> None:
        while self._mend and self._mend[0][0] <= time.monotonic():
            self._mend_one()

    def _mend_one(self) -> None:
        _, _, part, mend = heapq.heappop(self._mend)
        mend()
        self._hit.discard(part)

    def _lasting(self, part: str, seconds: float, mend: Callable[[], None]) -> None:
        self._hit.add(part)
        when = time.monotonic() + seconds
        heapq.heappush(self._mend, (when, next(self._order), part, mend))

    def _free_agent(self) -> int | None:
        free = [n for n in range(len(self.agents)) if f"agent-{n}" not in self._hit]
        return self.chance.choice(free) if free else None

    def _how_long(self) -> float:
        """Mostly short; now and then longer than lease and grace together."""
        long = self.chance.random() < 0.25
        return self.chance.uniform(LEASE_S, 2.5 * LEASE_S) if long else self.chance.uniform(0.2, 3)

    def _agent_killed(self) -> bool:
        number = self._free_agent()
        if number is None:
            return False
        self.agents[number].kill()

        def again() -> None:
            self.agents[number] = self._start_agent(number)

        self._lasting(f"agent-{number}", self._how_long(), again)
        return True

    def _agent_stopped(self) -> bool:
        number = self._free_agent()
        if number is None:
            return False
        return self._stopped(f"agent-{number}", self.agents[number].pid, self._how_long())

    def _agent_cut_off(self) -> bool:
        number = self._free_agent()
        if number is None:
            return False
        proxy = self.proxies[number]
        proxy.refusing = True
        proxy.reset_all()
        self._lasting(f"agent-{number}", self._how_long(), lambda: _heal(proxy))
        return True

    def _agents_line_silent(self) -> bool:
        number = self._free_agent()
        if number is None:
            return False
        proxy = self.proxies[number]
        proxy.silent = True
        self._lasting(f"agent-{number}", self._how_long(), lambda: _heal(proxy))
        return True

    def _requests_of_an_agent_broken(self) -> bool:
        proxy = self.chance.choice(self.proxies)
        kind = self.chance.choice(["unavailable", "reset", "cut", "lost_answer", "lost_answer"])
        match = self.chance.choice(["", "reports", "leases", "sync", "agents"])
        proxy.inject(Fault(kind, after=self.chance.choice([0, 1, 500])), match=match)
        return True

    def _server_killed(self) -> bool:
        if {"server", "postgres"} & self._hit:
            return False
        self.server.kill()
        self._lasting("server", self.chance.uniform(0.0, 2.0), self._server_again)
        return True

    def _server_again(self) -> None:
        if self.postgres is not None and not self.postgres.alive:
            self.postgres.start()
        self.server.restart()

    def _server_stopped(self) -> bool:
        if "server" in self._hit:
            return False
        return self._stopped("server", self.server.pid, self._how_long())

    def _solver_killed(self) -> bool:
        found = self.solvers()
        if not found:
            return False
        end_process(self.chance.choice(found))
        return True

    def _solver_stopped(self) -> bool:
        found = [pid for pid in self.solvers() if f"solver-{pid}" not in self._hit]
        if not found:
            return False
        pid = self.chance.choice(found)
        return self._stopped(f"solver-{pid}", pid, self.chance.uniform(0.2, 4.0))

    def _postgres_killed(self) -> bool:
        if self.postgres is None or {"server", "postgres"} & self._hit:
            return False
        self.postgres.kill()
        self._lasting("postgres", self.chance.uniform(0.0, 2.0), self.postgres.start)
        return True

    def _postgres_stopped(self) -> bool:
        if self.postgres is None or {"server", "postgres"} & self._hit:
            return False
        self.postgres.pause()
        self._lasting("postgres", self.chance.uniform(0.2, 4.0), self.postgres.go_on)
        return True

    def _stopped(self, part: str, pid: int, seconds: float) -> bool:
        if not _signal(pid, signal.SIGSTOP):
            return False
        self._lasting(part, seconds, lambda: _go_on(pid))
        return True


def _heal(proxy: FaultProxy) -> None:
    proxy.refusing = proxy.silent = False
    proxy.reset_all()


def _go_on(pid: int) -> None:
    _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _is_solver(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and "python" in words[0] and any(w.endswith("main.py") for w in words[1:])


def _footprint(pid: int) -> tuple[int, int]:
    proc = Path(f"/proc/{pid}")
    return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))


def _zombies_of(parent: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, more = entry.read_text().rpartition(")")
        except OSError:
            continue  # it ended while we looked
        state, ppid = more.split()[:2]
        if state == "Z" and int(ppid) == parent:
            found.append(f"{name}) has ended, and nobody has waited for it")
    return found


def _open_below(pid: int, place: Path) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - a file that was removed has no path
        except OSError:
            continue
        if Path(target).is_relative_to(place):
            found.append(target)
    return sorted(found)
