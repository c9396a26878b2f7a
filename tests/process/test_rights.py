"""
Who may do what, tried for real: every route x every bearer x own and foreign project, over HTTP.

What is expected follows from the table of `core.permissions` alone, by the rules of docs/access.md;
the server's own code is not asked.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.core.permissions import (
    ALWAYS,
    OF_PROJECTS,
    ROLES,
    Scope,
    higher,
    project_scope,
    scope_of,
)
from physicsrunner.core.run import DOORS
from physicsrunner.server.app import create_app
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import build
from physicsrunner.wire import rest
from physicsrunner.wire.frames import encode_frame
from tests.support.processes import Processes, ServerProcess
from tests.support.routes import Declared, declared

OURS, THEIRS = "ours", "theirs"
WEBHOOK = {"url": "http://127.0.0.1:9/", "types": ["webhook/none"], "active": False}
SOLVE = {
    "frequency_range": [200, 2000],
    "num_frequencies": 3,
    "sim_type": "2",
    "formula_type": "OSSE",
}
SAY = "/architech/api/v1/messages"
RUNS = ("{run}", "{simulation}", "{job_id}", "{simulation_id}")  #: what a run is called in a path
SENT = hashlib.sha256(b"sent").hexdigest()


@dataclass(frozen=True)
class Bearer:
    """Who calls, and what the table knows of them."""

    name: str
    token: str | None
    kind: str = "user"
    role: str | None = None
    projects: Mapping[str, str] = field(default_factory=dict)
    scopes: frozenset[str] | None = None
    project: str | None = None
    good: bool = True
    run: str | None = None  #: of an attempt

    def scope_in(self, permission: str, project: str | None) -> Scope:
        """For what of *project* the table grants *permission*."""
        if permission not in OF_PROJECTS or not self._admits(permission):
            return Scope.NONE
        if self.project not in (None, project):
            return Scope.NONE
        wide = scope_of(self.kind, self.role, permission)
        if self.kind != "user" or project is None:
            return wide
        return higher(
            wide if self.role else Scope.NONE,
            project_scope(self.projects.get(project), permission),
        )

    def anywhere(self, permission: str) -> bool:
        """Whether the table grants *permission* for anything at all."""
        if permission in ALWAYS or permission not in OF_PROJECTS:
            confined = self.project is not None and permission not in ALWAYS
            granted = scope_of(self.kind, self.role, permission) is not Scope.NONE
            return granted and self._admits(permission) and not confined
        known = {None, OURS, THEIRS}
        return any(self.scope_in(permission, item) is not Scope.NONE for item in known)

    def whole_server(self, permission: str) -> bool:
        """Whether *permission* of the server holds for everybody's things."""
        return self.anywhere(permission) and (
            scope_of(self.kind, self.role, permission) is Scope.ANY
        )

    def _admits(self, permission: str) -> bool:
        return self.scopes is None or permission in self.scopes or permission in ALWAYS


@dataclass(frozen=True)
class Target:
    """What a route is asked for: things of one project, or the bearer's own run of none."""

    project: str | None
    run: str
    pinned: str
    owner: str
    study: str
    model: str = ""
    version: str = ""
    webhook: str = ""  #: "": there is none

    def may(self, bearer: Bearer, permission: str) -> bool:
        """Whether the table grants *permission* for this target's run."""
        scope = bearer.scope_in(permission, self.project)
        if scope is not Scope.OWN:
            return scope is not Scope.NONE
        return bearer.name == self.owner or bearer.run == self.run


class House:
    """A server with two projects, one person for each role in each place, and machines."""

    def __init__(self, server: ServerProcess) -> None:
        self.url = server.url
        self.session = requests.Session()
        self.admin = server.token
        self.upload = hashlib.sha256(b"mesh").hexdigest()
        self.put(f"{rest.UPLOADS}/{self.upload}", data=b"mesh")
        for project in (OURS, THEIRS):
            self.post(rest.PROJECTS, {"id": project})
        self.post(rest.USERS, {"name": "target"})
        self.victim = self.post(rest.TOKENS, {"name": "victim"})["id"]
        self.bearers: list[Bearer] = [*self._people(), *self._bad(), *self._confined()]
        self.targets = {item: self._target(item) for item in (OURS, THEIRS)}
        self.bearers += self._machines()
        other = self._own(next(who for who in self.bearers if who.name == "nobody"))
        assert other is not None
        self.private = other  #: what a person without a role has for themselves
        self.mine = {who.name: self._own(who) for who in self.bearers if who.kind == "user"}

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def call(self, method: str, path: str, token: str | None, **more: Any) -> requests.Response:
        """Make one request."""
        headers = {**more.pop("headers", {})}
        if token is not None:
            name = "auth-token" if path.startswith("/physicsworks") else "Authorization"
            headers[name] = token if name == "auth-token" else f"Bearer {token}"
        return self.session.request(method, self.url + path, headers=headers, timeout=60, **more)

    def post(self, path: str, body: Any, token: str | None = None) -> Any:
        """Post as the admin; it must succeed."""
        answer = self.call("POST", path, token or self.admin, json=body)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def put(self, path: str, **more: Any) -> Any:
        """Put as the admin; it must succeed."""
        answer = self.call("PUT", path, self.admin, **more)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def person(self, name: str, role: str | None, **places: str) -> Bearer:
        """Make a person with a role on the server and roles in projects."""
        self.post(rest.USERS, {"name": name, "role": role})
        for project, there in places.items():
            self.put(rest.member(project, name), json={"role": there})
        token = self.post(rest.TOKENS, {"name": "matrix", "user": name})["token"]
        return Bearer(name, token, role=role, projects=places)

    def again(self, bearer: Bearer) -> str:
        """Return a new token of the same limits, which may be lost."""
        body = {
            "name": "lost",
            "user": bearer.name.partition("/")[0],
            "scopes": None if bearer.scopes is None else sorted(bearer.scopes),
            "project_id": bearer.project,
        }
        token: str = self.post(rest.TOKENS, body)["token"]
        return token

    def _people(self) -> Iterator[Bearer]:
        yield self.person("nobody", None)
        for role in ROLES:
            yield self.person(f"server-{role}", role)
            yield self.person(f"member-{role}", None, ours=role)
        yield self.person("both", "viewer", ours="operator")

    def _bad(self) -> Iterator[Bearer]:
        yield Bearer("no token", None, good=False)
        yield Bearer("no such token", "a.b.c", good=False)
        body = {"name": "expired", "lifetime_s": 0.05}
        expired = self.post(rest.TOKENS, body)
        revoked = self.post(rest.TOKENS, {"name": "revoked"})
        self.call("DELETE", rest.token(revoked["id"]), self.admin)
        yield Bearer("revoked", revoked["token"], role="admin", good=False)
        disabled = self.person("disabled", "admin")
        self.call("PATCH", rest.user("disabled"), self.admin, json={"disabled": True})
        yield Bearer("disabled", disabled.token, role="admin", good=False)
        while time.time() <= expired["expires"]:
            pass
        yield Bearer("expired", expired["token"], role="admin", good=False)

    def _confined(self) -> Iterator[Bearer]:
        scopes = ["runs:read", "runs:cancel", "files:read"]
        body = {"name": "scoped", "user": "server-admin", "scopes": scopes}
        token = self.post(rest.TOKENS, body)["token"]
        yield Bearer("server-admin/scoped", token, role="admin", scopes=frozenset(scopes))
        for name, role in (("server-admin", "admin"), ("member-user", None)):
            body = {"name": "confined", "user": name, "project_id": OURS}
            token = self.post(rest.TOKENS, body)["token"]
            projects = {} if role else {OURS: "user"}
            yield Bearer(f"{name}/ours", token, role=role, projects=projects, project=OURS)

    def _machines(self) -> Iterator[Bearer]:
        ticket = self.post(rest.ENROLL_TOKENS, {"name": "node-1"})["token"]
        joined = self.post(rest.ENROLL, {"name": "node-1", "nonce": "n" * 16}, ticket)
        yield Bearer("node-1", joined["token"], kind="agent")
        yield Bearer("ticket", self.post(rest.ENROLL_TOKENS, {})["token"], kind="enroll")
        lease = self.post(
            rest.SIMULATIONS, {"name": "held", "project_id": OURS, "claim": {"agent": "here"}}
        )["lease"]
        yield Bearer("attempt", lease["token"], kind="attempt", run=lease["run"])

    def _target(self, project: str) -> Target:
        model = self.call(
            "POST", f"{rest.MODELS}?name=m&project_id={project}", self.admin, data=bundle(project)
        ).json()
        runs: list[str] = []
        for pinned in (False, True):
            body = {"project_id": project, "pinned": pinned, "claim": {"agent": "here"}}
            runs.append(self.post(rest.SIMULATIONS, body)["run"]["id"])
        return Target(
            project,
            run=runs[0],
            pinned=runs[1],
            owner="admin",
            study=self.study(project),
            model=model["id"],
            version=model["version"],
            webhook=self.webhook(project),
        )

    def webhook(self, project: str) -> str:
        """Make a webhook of *project*, that sends nothing by itself, and to nobody."""
        made: str = self.post(rest.WEBHOOKS, {**WEBHOOK, "project_id": project})["id"]
        return made

    def study(self, project: str | None, token: str | None = None) -> str:
        """Make a study of *project*, or of its maker's own."""
        body = {"name": "s", "project_id": project}
        made: str = self.post(rest.STUDIES, body, token)["id"]
        return made

    def _own(self, bearer: Bearer) -> Target | None:
        """Return a private run of the bearer's own, if they can make one."""
        if not bearer.good or bearer.scope_in("runs:claim", None) is Scope.NONE:
            return None
        if bearer.scope_in("runs:create", None) is Scope.NONE:
            return None
        body = {"name": "mine", "claim": {"agent": "here"}}
        run = self.post(rest.SIMULATIONS, body, bearer.token)["run"]["id"]
        pinned = self.post(rest.SIMULATIONS, {**body, "pinned": True}, bearer.token)["run"]["id"]
        return Target(None, run, pinned, bearer.name, self.study(None, bearer.token))


def bundle(word: str) -> bytes:
    """Return a model's zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("main.py", f"print({word!r})\n")
    return out.getvalue()


def address(route: Declared, target: Target, house: House) -> str:
    """Put values into a route's path."""
    values = {
        "run": target.pinned if route.method == "DELETE" else target.run,
        "job_id": target.pinned if route.method == "DELETE" else target.run,
        "simulation": target.run,
        "simulation_id": target.run,
        "attempt": "1",
        "path:artifact": "logs/none.log",
        "path": "logs/none.log",
        "sha256": SENT if route.method == "PUT" else house.upload,
        "model": target.model,
        "version": target.version,
        "project": target.project or "none",
        "user": "target",
        "token": house.victim,
        "study": target.study,
        "webhook": target.webhook,
        "letter": "1",
        "file": f"scripts-{target.model}-{target.version}.zip",
        "name": "target" if route.path.startswith(rest.USERS) else "ghost",
    }
    if route.method == "DELETE" and "{webhook}" in route.path and target.project is not None:
        values["webhook"] = house.webhook(target.project)  # it may be gone afterwards
    path = route.path
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def body(route: Declared, target: Target) -> dict[str, Any]:
    """Return a body: harmless, and valid where what it names decides."""
    held = {"run": target.run, "attempt": 1}
    found = {
        ("POST", rest.SIMULATIONS): {"project_id": target.project, "model_id": target.model},
        ("POST", rest.STUDIES): {"name": "s", "project_id": target.project},
        ("POST", rest.WEBHOOKS): {**WEBHOOK, "project_id": target.project},
        ("POST", rest.LEASES): {"agent": "node-1", "free": {"cpu_cores": 0}},
        ("PUT", rest.LEASES): {"leases": [held], "agent": "here"},
        ("POST", rest.REPORTS): {"reports": [held]},
        ("PATCH", f"{rest.USERS}/{{name}}"): {"disabled": False},
        ("PUT", f"{rest.USERS}/{{name}}/password"): {"password": "correct horse battery"},
        ("PATCH", f"{rest.PROJECTS}/{{project}}"): {"name": "a project"},
        ("PUT", f"{rest.PROJECTS}/{{project}}/members/{{user}}"): {"role": "viewer"},
        ("POST", "/ath/api/solve"): SOLVE,
        ("PATCH", "/ath/api/jobs/{job_id}"): {"label": "one"},
        ("POST", "/architech/api/v1/simulations/start"): {"design_id": "d", "user_id": "u"},
        ("POST", SAY): {"message": "to all"},
    }.get((route.method, route.path))
    if "/storage/" in route.path and route.method == "POST":
        return {"data": {"json": json.dumps(form(route, target))}}
    if route.path.endswith("/run/update/{simulation}/{run}"):
        found = {"node": {}}
    if route.path.endswith("/run/patch/{run}"):
        found = {"progress": 1}
    if (route.method, route.path) == ("POST", rest.SYNC):
        ops = [{**held, "path": "logs/a", "op": "truncate", "size": 0}]
        return {"data": encode_frame({"v": 1, "ops": ops})}
    if (route.method, route.path) == ("POST", rest.MODELS):
        return {"data": bundle(str(target.project)), "params": {"project_id": target.project}}
    if (route.method, route.path) == ("PUT", f"{rest.UPLOADS}/{{sha256}}"):
        return {"data": b"sent"}
    if "/blocks" in route.path:
        return {"params": {"path": "logs/none.log", "block_size": 4096}}
    return {"json": found or {}} if route.method in ("POST", "PUT", "PATCH") else {}


def form(route: Declared, target: Target) -> dict[str, Any]:
    """Return a form of the PhysicsWorks wire that brings a file."""
    name = "a.log" if route.path.endswith("/append") else "b.bin"
    kind = {"resource": target.run, "resourceKind": "Run", "originalname": name}
    piece = {"filename": name, "chunk": base64.b64encode(b"abc").decode(), "metadata": kind}
    if name == "a.log":
        return {**piece, "isNew": True, "isAscii": True}
    return {**piece, "fileSize": 3, "chunkIndex": 0}


def expected(route: Declared, bearer: Bearer, target: Target) -> set[int] | None:
    """Return what the table says the answer is; None: it is let in, whatever follows."""
    if route.open is not None:
        return None
    permission = route.permission or ""
    if not bearer.good:
        return {401}
    if not bearer.anywhere(permission):
        return {403}
    of_a_run = any(name in route.path for name in RUNS)
    machine = bearer.kind != "user"
    if bearer.kind == "attempt" and is_runner_part(route):
        return None  # that wire takes the run from the token, whatever the address says
    if bearer.kind == "attempt" and route.path == rest.EVENTS:
        return {403}  # its own run's stand under the address of the run
    if of_a_run:
        if "{attempt}" in route.path and machine and not target.may(bearer, permission):
            return {403, 404}
        if not target.may(bearer, "runs:read"):
            return {404, 403} if machine else {404}
        if is_runner_part(route):
            return None
        if target.may(bearer, permission):
            return None
        # There the run of a case is one, too: without a model it can be neither run nor changed.
        return {403, 404} if route.path.startswith("/physicsworks") else {403}
    if route.path == "/ath/api/solve":  # its jobs are of no project
        return None if bearer.scope_in(permission, None) is not Scope.NONE else {403}
    if route.path == SAY:  # to everybody who is connected
        wide = scope_of(bearer.kind, bearer.role, permission) is Scope.ANY
        return None if wide and bearer.project is None else {403}
    if route.path.startswith((rest.PROJECTS + "/",)):
        if bearer.scope_in("projects:read", target.project) is Scope.NONE:
            return {404}
        granted = bearer.scope_in(permission, target.project)
        return None if granted is not Scope.NONE else {403}
    if "{webhook}" in route.path or (route.method, route.path) == ("POST", rest.WEBHOOKS):
        if bearer.scope_in(permission, target.project) is not Scope.NONE:
            return None
        by = "webhooks:read" if "{webhook}" in route.path else "events:read"
        return {404} if bearer.scope_in(by, target.project) in (Scope.NONE, Scope.OWN) else {403}
    if "{study}" in route.path:
        granted = bearer.scope_in(permission, target.project)
        own = granted is Scope.OWN and bearer.name == target.owner
        return None if own or granted not in (Scope.NONE, Scope.OWN) else {404}
    makes = (rest.SIMULATIONS, rest.MODELS, rest.STUDIES)
    if route.method == "POST" and route.path in makes:
        granted = bearer.scope_in(permission, target.project)
        return None if granted is not Scope.NONE else {403}
    if "{model}" in route.path or "{file}" in route.path:
        seen = bearer.scope_in("models:read", target.project)
        if bearer.kind == "user" and seen in (Scope.NONE, Scope.OWN):
            return {404}
        return None if bearer.kind == "user" else {403}
    if "{sha256}" in route.path and permission == "inputs:read":
        if bearer.kind != "user":
            return {403, 404}
        return None if bearer.scope_in(permission, None) is Scope.ANY else {404}
    if route.path.startswith(rest.USERS + "/"):
        if bearer.whole_server(permission):
            return None
        return {404} if permission == "users:read" else {403}
    if "{token}" in route.path:
        return None if bearer.whole_server(permission) else {404}
    if route.path.startswith(rest.AGENTS + "/{name}") and bearer.kind == "agent":
        return {403, 404}  # it is another agent
    return None


def is_runner_part(route: Declared) -> bool:
    """Say whether it is a call of the PhysicsWorks wire's runners, not of its API client."""
    client = any(part in route.path for part in ("/v1/", "/auth/"))
    return route.path.startswith("/physicsworks") and not client


def succeeds(route: Declared, bearer: Bearer, target: Target) -> bool | None:
    """Say whether a call of the PhysicsWorks wire must succeed, or must not; None: either."""
    if bearer.kind == "attempt":
        return None if "{file}" in route.path else True  # of its own run, whatever is named
    if bearer.kind != "user":
        return False
    if route.path.endswith("/run/update/{simulation}"):
        # A new run of the caller's, like one that they may read.
        created = bearer.scope_in("runs:create", target.project) is not Scope.NONE
        return True if created and target.may(bearer, "runs:read") else None
    if "{file}" in route.path:
        return bearer.scope_in("models:read", target.project) is not Scope.NONE
    return target.may(bearer, route.permission or "")


def refused_items(route: Declared, bearer: Bearer, target: Target) -> bool:
    """Say whether the items of a call about many attempts must each be refused."""
    many = (("PUT", rest.LEASES), ("POST", rest.REPORTS), ("POST", rest.SYNC))
    if (route.method, route.path) not in many:
        return False
    return not target.may(bearer, route.permission or "")


@pytest.fixture
def house(processes: Processes) -> Iterator[House]:
    """The people, projects and machines on a server of its own."""
    made = House(
        processes.server(
            PHYSICSRUNNER_WEBHOOK_PRIVATE="yes",
            PHYSICSRUNNER_DOORS=", ".join(DOORS),
            PHYSICSRUNNER_SHAKESCENARIO_PORT="0",
        )
    )
    yield made
    made.close()


def routes(folder: Path) -> list[Declared]:
    """Return all routes of the server."""
    services = build(folder, now=time.time, options=ServerOptions(doors=DOORS))
    try:
        return list(declared(create_app(services).api.routes))
    finally:
        services.close()


@pytest.mark.timeout(600)
def test_the_matrix(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every route answers every bearer, for own and foreign projects, as the table says."""
    found = routes(tmp_path / "routes")
    undeclared = [str(route) for route in found if route.permission is None and route.open is None]
    tried, wrong = 0, []
    for route in found:
        if route.method == "WEBSOCKET" or route.path.endswith("/login"):
            continue  # these are tried in test_rights_doors.py
        for bearer in house.bearers:
            targets = list(house.targets.values())
            own = house.mine.get(bearer.name)
            named = any(
                name in route.path for name in RUNS if name != "{simulation}"
            ) or route.path.endswith("/storage/append")
            if named or "{study}" in route.path:
                targets += [house.private] if own is None else [own, house.private]
            for target in targets:
                tried += 1
                wrong += _tried(house, route, bearer, target)
    with capsys.disabled():
        print(f"\nroutes x roles tried: {tried}")
        print(f"routes without a permission: {len(undeclared)}")
    assert undeclared == []
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:60])
    assert tried > 2000


def _tried(house: House, route: Declared, bearer: Bearer, target: Target) -> list[str]:
    """Return what is wrong with the answer to one call."""
    token = bearer.token
    if bearer.good and bearer.kind == "user" and route.path == rest.LOGOUT:
        token = house.again(bearer)
    answer = house.call(
        route.method, address(route, target, house), token, stream=True, **body(route, target)
    )
    text = (
        ""
        if route.method == "HEAD"
        else answer.raw.read(400, decode_content=True).decode(errors="replace")
    )
    answer.close()
    wanted, status = expected(route, bearer, target), answer.status_code
    what = f"{route} ({route.permission}) by {bearer.name} for {target.project or 'their own'}"
    if status >= 500 and not (status == 501 and route.path.endswith("/start")):  # no design service
        return [f"{what}: {status} {text}"]
    if wanted is not None:
        return [] if status in wanted else [f"{what}: {status}, expected {wanted}: {text[:150]}"]
    if is_runner_part(route):
        good = succeeds(route, bearer, target)
        if good is not None and good is not answer.ok:
            return [f"{what}: {status}, expected {'success' if good else 'refusal'}: {text[:150]}"]
        return []
    real = ("{study}", "{webhook}")  # these are there: only a letter of one may be missing
    missing = status == 404 and any(name in route.path for name in real)
    if (status in (401, 403) and route.open is None) or (missing and "dead letter" not in text):
        return [f"{what}: {status}, expected to be let in: {text[:150]}"]
    said_no = any(word in text for word in ("not_allowed", "not_found"))
    if status == 200 and refused_items(route, bearer, target) and not said_no:
        return [f"{what}: not refused: {text[:150]}"]
    return []
