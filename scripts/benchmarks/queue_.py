"""
Trivial leases acquired and completed over HTTP by 8 agents, without a program.

Each agent is a process with an enrolled token. It leases at most 32 runs by one request, and
reports them running and completed by another, until the queue is empty: what is measured is the
control plane alone. The processes of the agents share the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

import control

AGENTS = 8
MOST = 32
TARGETS = {"sqlite": 300.0, "postgres": 500.0}


def main(argv: Sequence[str]) -> int:
    """Measure from the first request to the last answer."""
    if argv[:1] == ["agent"]:
        return agent(*argv[1:])
    parser = argparse.ArgumentParser(prog="scripts/bench queue")
    parser.add_argument("--store", choices=control.STORES, default="sqlite")
    parser.add_argument("--runs", type=int, default=6000)
    parser.add_argument("--agents", type=int, default=AGENTS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with control.server(options.store) as server, control.client(server) as client:
        control.submit(client, options.runs)
        before = control.processor_seconds(server.pid)
        done, took = _drained(client, options.agents)
        used = control.processor_seconds(server.pid) - before
        counts = client.queue()["counts"]
    if done != options.runs or counts.get("completed") != options.runs:
        raise SystemExit(f"{done} of {options.runs} leases are done; the server has {counts}")
    rate, target = done / took, TARGETS[options.store]
    found = {
        "store": options.store,
        "leases": done,
        "agents": options.agents,
        "seconds": round(took, 3),
        "server_cpu_s": round(used, 3),
        "per_s": round(rate, 1),
        "ratio": round(rate / target, 2),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{options.store}: {done} leases by {options.agents} agents in {took:.2f} s: "
            f"{rate:.0f} a second (server: {1e3 * used / done:.2f} ms of processor time each), at "
            f"least {target:.0f}: ratio {rate / target:.2f}"
        )
    return 0 if rate >= target else 1


def _drained(client: Any, agents: int) -> tuple[int, float]:
    """Have the agents empty the queue; return the leases done and the seconds."""
    started = []
    for number in range(agents):
        name = f"bench-{number}"
        token = client.enroll_token(name)["token"]
        argv = [sys.executable, sys.argv[0], "queue", "agent", client.url, name]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdin is not None
        process.stdin.write(f"{token}\n")
        started.append(process)
    for process in started:  # each has enrolled and waits
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
    done = sum(int(process.communicate()[0]) for process in started)
    return done, time.perf_counter() - start


def agent(url: str, name: str) -> int:
    """Be one agent: its one-time token and the word to begin come on standard input."""
    from physicsrunner.client.http import Http
    from physicsrunner.wire import rest

    enrolling = Http(url, sys.stdin.readline().strip())
    nonce = uuid.uuid4().hex
    enrolled = enrolling.value("POST", rest.ENROLL, json={"name": name, "nonce": nonce})
    http = Http(url, enrolled["token"])
    http.value("GET", rest.WHOAMI)
    print("ready", flush=True)
    sys.stdin.readline()
    free = {"cpu_cores": MOST, "memory_gb": 1}
    done = 0
    while True:
        wanted = {"agent": name, "free": free, "max": MOST, "slots": MOST}
        leases = http.value("POST", rest.LEASES, json=wanted)
        if not leases:
            break
        reports = [
            {"run": lease["run"], "attempt": lease["attempt"], **state}
            for lease in leases
            for state in ({"state": "running"}, {"state": "completed", "exit_code": 0})
        ]
        answers = http.value("POST", rest.REPORTS, json={"reports": reports})
        wrong = [answer for answer in answers if answer.get("error")]
        if wrong:
            raise SystemExit(f"{name}: {wrong[0]}")
        done += len(leases)
    print(done)
    return 0
