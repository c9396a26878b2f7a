"""The audit: every route that changes something leaves an entry: who, what, from where, when."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from physicsrunner.core.run import DOORS
from physicsrunner.wire import rest
from physicsrunner.wire.frames import encode_frame
from tests.contract.architech_house import designs
from tests.process.test_rights import SAY, SOLVE, bundle, routes
from tests.support.processes import Processes, ServerProcess

FROM = "127.0.0.1"
GOOD = "correct horse battery"

#: Routes that leave no entry, and why.
NOTHING = {
    f"PUT {rest.AGENTS}/{{name}}": "a heartbeat says that an agent is there; `agents` shows when",
    f"PUT {rest.LEASES}": "renewing a lease changes no record of what was asked or came of it",
    f"POST {rest.TOKEN_EXCHANGE}": "an attempt's token gives no more than the old one",
    f"POST {rest.WEBHOOKS}/{{webhook}}/test": "sends a test and changes nothing",
    f"POST {rest.WEBHOOKS}/{{webhook}}/dead/{{letter}}/send": "sends an event that is in the log",
    f"POST {SAY}": "is heard by who is connected, and kept nowhere",
}

Step = Callable[[], requests.Response]


class Story:
    """Makes each change once, and looks for its entry in the audit."""

    def __init__(self, server: ServerProcess) -> None:
        self.url, self.token = server.url, server.token
        self.session = requests.Session()
        self.told: set[str] = set()
        self.missing: list[str] = []

    def call(self, method: str, path: str, token: str | None = None, **more: Any) -> Any:
        """Make a request that must succeed; return what it was answered."""
        door = path.startswith("/physicsworks")
        bearer = token or self.token
        more["headers"] = {"auth-token": bearer} if door else {"Authorization": f"Bearer {bearer}"}
        answer = self.session.request(method, self.url + path, timeout=60, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        found = answer.json()
        return found["data"] if door else found

    def newest(self) -> int:
        """Return the id of the newest event."""
        return int(self.call("GET", f"{rest.EVENTS}?limit=1")["newest"])

    def step(self, route: str, path: str, kind: str, actor: str = "admin", **more: Any) -> Any:
        """Make the change of *route*; an entry of *kind* must name *actor*, address and time."""
        method = route.partition(" ")[0]
        after, began = self.newest(), time.time() - 1
        found = self.call(method, path, **more)
        entries = self.call("GET", f"{rest.AUDIT}?after={after}")["data"]
        fits = [
            entry
            for entry in entries
            if (entry["type"], entry["actor"], entry["origin"]) == (kind, actor, FROM)
            and began <= entry["time"] <= time.time() + 1
        ]
        self.told.add(route)
        if not fits:
            seen = [(entry["type"], entry["actor"], entry["origin"]) for entry in entries]
            self.missing.append(f"{route}: no {kind} by {actor}, but {seen}")
        return found

    def close(self) -> None:
        """Close the connections."""
        self.session.close()


def accounts(story: Story) -> None:
    """People, tokens, projects, members."""
    step = story.step
    step(f"POST {rest.USERS}", rest.USERS, "user/created", json={"name": "ada", "password": GOOD})
    name = f"{rest.USERS}/{{name}}"
    step(f"PATCH {name}", rest.user("ada"), "user/changed", json={"role": "user"})
    put = {"password": f"{GOOD} 2"}
    step(f"PUT {name}/password", rest.user("ada") + "/password", "user/password/changed", json=put)
    login = {"user": "ada", **put}
    token = step(f"POST {rest.LOGIN}", rest.LOGIN, "login/succeeded", "ada", json=login)["token"]
    step(f"POST {rest.REFRESH}", rest.REFRESH, "token/created", "ada", token=token)
    step(f"POST {rest.LOGOUT}", rest.LOGOUT, "token/revoked", "ada", token=token)
    made = step(f"POST {rest.TOKENS}", rest.TOKENS, "token/created", json={"name": "t"})["id"]
    step(f"DELETE {rest.TOKENS}/{{token}}", rest.token(made), "token/revoked")
    step(f"POST {rest.PROJECTS}", rest.PROJECTS, "project/created", json={"id": "p"})
    project = f"{rest.PROJECTS}/{{project}}"
    step(f"PATCH {project}", rest.project("p"), "project/changed", json={"name": "P"})
    member = f"{project}/members/{{user}}"
    step(f"PUT {member}", rest.member("p", "ada"), "member/set", json={"role": "viewer"})
    step(f"DELETE {member}", rest.member("p", "ada"), "member/removed")


def hooks(story: Story) -> None:
    """Webhooks."""
    asked = {"url": "https://192.0.2.9.example/", "types": ["none/*"]}
    made = story.step(f"POST {rest.WEBHOOKS}", rest.WEBHOOKS, "webhook/added", json=asked)["id"]
    route, path = f"{rest.WEBHOOKS}/{{webhook}}", f"{rest.WEBHOOKS}/{made}"
    story.step(f"PATCH {route}", path, "webhook/changed", json={"active": False})
    story.step(f"DELETE {route}", path, "webhook/removed")


def runs(story: Story) -> None:
    """Models, inputs, studies, and what people ask of runs."""
    step = story.step
    made = step(f"POST {rest.MODELS}", f"{rest.MODELS}?name=m", "model/added", data=bundle("x"))
    wanted = {"model_id": made["id"]}
    upload = f"{rest.UPLOADS}/{hashlib.sha256(b'mesh').hexdigest()}"
    step(f"PUT {rest.UPLOADS}/{{sha256}}", upload, "input/sent", data=b"mesh")
    step(f"POST {rest.STUDIES}", rest.STUDIES, "study/created", json={"name": "s"})
    step(f"POST {rest.BATCH}", rest.BATCH, "simulation/requested", json={"runs": [wanted]})
    made = step(f"POST {rest.SIMULATIONS}", rest.SIMULATIONS, "simulation/requested", json=wanted)
    one, run = f"{rest.SIMULATIONS}/{{run}}", rest.simulation(made["id"])
    for word, kind in (
        ("pause", "held"),
        ("resume", "released"),
        ("pin", "pinned"),
        ("unpin", "unpinned"),
        ("cancel", "cancelled"),
        ("retry", "requested"),
    ):
        step(f"POST {one}/{word}", f"{run}/{word}", f"simulation/{kind}", json={})
    step(f"DELETE {one}", run, "simulation/deleted")


def agents(story: Story) -> None:
    """Agents: how they come and go, and what they do."""
    step = story.step
    ticket = step(f"POST {rest.ENROLL_TOKENS}", rest.ENROLL_TOKENS, "token/created", json={})
    join = {"name": "node", "nonce": "n" * 16}
    joined = step(
        f"POST {rest.ENROLL}",
        rest.ENROLL,
        "agent/joined",
        "agent:node",
        token=ticket["token"],
        json=join,
    )["token"]
    ask = {"agent": "node", "free": {"cpu_cores": 1}}
    kind, mine = "simulation/resource/allocated", {"actor": "agent:node", "token": joined}
    lease = step(f"POST {rest.LEASES}", rest.LEASES, kind, **mine, json=ask)[0]
    held = {"run": lease["run"], "attempt": 1}
    ops = [
        {**held, "path": "logs/a", "op": "append", "offset": 0, "length": 1},
        {**held, "path": "logs/a", "op": "seal", "size": 1, "sha256": sha(b"a")},
    ]
    sync = encode_frame({"v": 1, "ops": ops}) + b"a"
    step(f"POST {rest.SYNC}", rest.SYNC, "simulation/files/sealed", **mine, data=sync)
    report = {"reports": [{**held, "state": "running"}]}
    step(f"POST {rest.REPORTS}", rest.REPORTS, "simulation/started", **mine, json=report)
    for word, kind in (("drain", "draining"), ("resume", "resumed")):
        path = f"{rest.agent('node')}/{word}"
        step(f"POST {rest.AGENTS}/{{name}}/{word}", path, f"agent/{kind}", json={})
    path = f"{rest.agent('node')}?force=true"
    step(f"DELETE {rest.AGENTS}/{{name}}", path, "agent/removed")


def doors(story: Story) -> None:
    """What clients of other systems ask for, in their words."""
    step, ath, api = story.step, "/ath/api", "/architech/api/v1/simulations"
    job = step(f"POST {ath}/solve", f"{ath}/solve", "simulation/requested", json=SOLVE)["job_id"]
    one, path = f"{ath}/jobs/{{job_id}}", f"{ath}/jobs/{job}"
    step(f"PATCH {one}", path, "simulation/renamed", json={"label": "mine"})
    step(f"POST {ath}/stop/{{job_id}}", f"{ath}/stop/{job}", "simulation/cancelled")
    step(f"DELETE {one}", path, "simulation/deleted")
    design = {"design_id": "bridge-7", "user_id": "u"}
    made = step(f"POST {api}/start", f"{api}/start", "simulation/requested", json=design)["id"]
    for word, kind in (("pause", "held"), ("resume", "released"), ("stop", "cancelled")):
        step(f"POST {api}/{{simulation_id}}/{word}", f"{api}/{made}/{word}", f"simulation/{kind}")


def sha(data: bytes) -> str:
    """Return the SHA-256 of *data* in hex."""
    return hashlib.sha256(data).hexdigest()


def test_every_route_that_changes_something_is_in_the_audit(
    processes: Processes, tmp_path: Path
) -> None:
    """Each is called, and its entry names who, what, from where and when; none is left out."""
    with designs(tmp_path / "designs") as url:
        server = processes.server(
            PHYSICSRUNNER_DOORS=", ".join(DOORS),
            PHYSICSRUNNER_SHAKESCENARIO_PORT="0",
            PHYSICSRUNNER_ATH_MODEL="m",
            PHYSICSRUNNER_ARCHITECH_MODEL="m",
            PHYSICSRUNNER_ARCHITECH_DESIGN_URL=url,
        )
        story = Story(server)
        try:
            for part in (accounts, hooks, runs, agents, doors):
                part(story)
        finally:
            story.close()
    changing = {
        str(route)
        for route in routes(tmp_path / "routes")
        if route.method in ("POST", "PUT", "PATCH", "DELETE")
        and not route.path.startswith("/physicsworks")  # reports and frames, or the same services
    }
    assert not story.missing, "\n".join(story.missing)
    assert changing - story.told - set(NOTHING) == set()
    assert set(NOTHING) <= changing


def test_a_failed_login_is_in_the_audit_with_its_address(processes: Processes) -> None:
    """Of a person by name; of a name that nobody has without it: it may be a password."""
    story = Story(processes.server())
    try:
        story.call("POST", rest.USERS, json={"name": "ada", "password": GOOD})
        for name in ("ada", f"not-{uuid.uuid4().hex}"):
            answer = story.session.post(
                story.url + rest.LOGIN, json={"user": name, "password": "wrong"}, timeout=60
            )
            assert answer.status_code == 401
        found = story.call("GET", f"{rest.AUDIT}?type=login/*")["data"]
        assert [(entry["actor"], entry["origin"], entry["data"]) for entry in found] == [
            ("ada", FROM, {"user": "ada"}),
            ("", FROM, {}),
        ]
    finally:
        story.close()
