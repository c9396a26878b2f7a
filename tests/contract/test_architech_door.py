"""The architech door's calls: the document's own, byte for byte, and what stands beside it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from physicsrunner.errors import ConfigError
from physicsrunner.service.options import ServerOptions
from physicsrunner.wire import rest
from tests.contract.architech_house import API, MAPPING, SIMULATIONS, house, options, start
from tests.contract.rest_server import ADMIN, RestServer, rest_server
from tests.support.design_service import keep_design
from tests.support.routes import declared

GOLDEN = Path(__file__).parent / "golden" / "architech.txt"
NOW = 1_800_000_000.125
SHOWN = ("content-type", "x-total-count", "retry-after")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server with the door, a design service and a model."""
    with house(tmp_path) as running:
        yield running


def person(server: RestServer, name: str, role: str | None) -> str:
    """Make a person; return a token of theirs."""
    server.value("POST", rest.USERS, json={"name": name, "role": role})
    made = server.value("POST", rest.TOKENS, json={"name": f"of {name}", "user": name})
    return str(made["token"])


# -- the transcript --------------------------------------------------------------------------------


def transcript(server: RestServer, text: str) -> str:
    """Carry out the requests of a transcript; return it with the answers that came."""
    found = []
    for block in text.strip().split("\n\n\n"):
        asked = block.partition("\n\n")[0]
        lines = [line.removeprefix("> ") for line in asked.splitlines()]
        method, path = lines[0].split()
        headers = dict(line.split(": ", 1) for line in lines[1:] if not line.startswith("{"))
        body = next((line for line in lines[1:] if line.startswith("{")), None)
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = server.call(method, path, headers=headers, data=body)
        said = [f"{name}: {answer.headers[name]}" for name in SHOWN if name in answer.headers]
        came = [str(answer.status_code), *said, answer.text]
        found.append(asked + "\n\n" + "\n".join(f"< {line}" for line in came))
    return "\n\n\n".join(found) + "\n"


def test_the_transcript(tmp_path: Path) -> None:
    """Every call answers the bytes that are written down, for clients that somebody has built."""
    with house(tmp_path, now=lambda: NOW) as server:
        expected = GOLDEN.read_text()
        assert transcript(server, expected) == expected


# -- starting --------------------------------------------------------------------------------------


def test_a_start_makes_a_run_of_ours(server: RestServer) -> None:
    """Model, parameters, name and tags are those of mapping and design; it came by this door."""
    run = server.value("GET", rest.simulation(start(server)["id"]))
    assert run["parameters"] == {"span_m": 42.5, "load_n": 3000, "material": 1}
    assert run["name"] == "Long bridge (bridge-7)"
    assert run["tags"] == ["design:bridge-7", "user:ada"]
    assert (run["door"], run["created_by"], run["status"]) == ("architech", "admin", "queued")


def test_the_same_key_is_the_same_run(server: RestServer, tmp_path: Path) -> None:
    """Also while the design service is away; for another design or user it is a conflict."""
    headers = {"Idempotency-Key": "click 17"}
    body = {"design_id": "bridge-7", "user_id": "ada"}
    path = f"{SIMULATIONS}/start"
    first = server.value("POST", path, json=body, headers=headers)
    (tmp_path / "designs" / "mode").write_text("503")
    assert server.value("POST", path, json=body, headers=headers) == first
    other = {**body, "user_id": "bob"}
    assert server.call("POST", path, json=other, headers=headers).status_code == 409
    by_id = {**body, "id": first["id"]}
    assert server.value("POST", path, json=by_id) == first
    # The keys of others are their own.
    token = person(server, "bea", "user")
    answer = server.call("POST", path, json=body, headers=headers, token=token)
    assert answer.status_code == 503
    assert server.call("POST", path, json=by_id, token=token).status_code in (403, 409, 503)


def test_two_starts_at_once_with_one_id_are_one_run(server: RestServer) -> None:
    """Both are answered with it."""
    run = str(uuid.uuid4())
    found: list[Any] = []

    def one() -> None:
        body = {"design_id": "bridge-7", "user_id": "ada", "id": run}
        found.append(
            requests.post(
                f"{server.url}{SIMULATIONS}/start",
                json=body,
                headers={"Authorization": f"Bearer {server.admin}"},
                timeout=30,
            ).json()
        )

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item["id"] for item in found] == [run] * 4
    assert len(server.value("GET", SIMULATIONS)) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "design_id is missing"),
        ({"design_id": "bridge-7"}, 422, "user_id is missing"),
        ({"design_id": 7, "user_id": "ada"}, 422, "design_id is a text"),
        ({"design_id": "bridge-7", "user_id": ""}, 422, "user_id is missing"),
        ({"design_id": "bridge-7", "user_id": "u" * 91}, 422, "user_id"),
        ({"design_id": "bridge-7", "user_id": "a\nb"}, 422, "printable"),
        ({"design_id": "bridge-7", "user_id": "ada", "id": "../x"}, 422, "a UUID"),
        ({"design_id": "bridge-7", "user_id": "ada", "project_id": "none"}, 404, "no project"),
        ({"design_id": "../../etc", "user_id": "ada"}, 404, "no design"),
        ({"design_id": "unfit", "user_id": "ada"}, 422, "no 'geometry.span'"),
    ],
)
def test_a_start_that_cannot_be(
    server: RestServer, tmp_path: Path, body: dict[str, Any], status: int, said: str
) -> None:
    """It says what is wrong, and no run is made."""
    keep_design(tmp_path / "designs", "unfit", {"title": "x"})
    answer = server.call("POST", f"{SIMULATIONS}/start", json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert server.value("GET", f"{SIMULATIONS}?all=true") == []


@pytest.mark.parametrize("data", [b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object(server: RestServer, data: bytes) -> None:
    """It is refused with words."""
    for path in (f"{SIMULATIONS}/start", f"{API}/messages"):
        answer = server.call("POST", path, data=data)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_service_that_is_away(server: RestServer, tmp_path: Path) -> None:
    """503 with Retry-After, what is wrong and what to do; nothing of it is a run."""
    (tmp_path / "designs" / "mode").write_text("503 120")
    body = {"design_id": "bridge-7", "user_id": "ada"}
    answer = server.call("POST", f"{SIMULATIONS}/start", json=body)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "120")
    assert answer.json()["code"] == "design_service_away"
    (tmp_path / "designs" / "mode").write_text("text nonsense")
    answer = server.call("POST", f"{SIMULATIONS}/start", json=body)
    assert (answer.status_code, answer.json()["code"]) == (502, "bad_design")
    assert server.value("GET", SIMULATIONS) == []


def test_what_is_not_set_up_is_said(tmp_path: Path) -> None:
    """Without a design service, or without a model, a start names the setting."""
    body = {"design_id": "bridge-7", "user_id": "ada"}
    bare = ServerOptions(doors=("architech",))
    with rest_server(tmp_path / "bare", options=bare) as server:
        answer = server.call("POST", f"{SIMULATIONS}/start", json=body)
        assert answer.status_code == 501
        assert "architech_design_url" in answer.json()["detail"]
        assert server.value("GET", SIMULATIONS) == []
    with house(tmp_path, mapping="tags: [x]") as server:
        answer = server.call("POST", f"{SIMULATIONS}/start", json=body)
        assert answer.status_code == 501
        assert "architech_model" in answer.json()["detail"]


def test_the_setting_names_the_model_where_the_mapping_does_not(tmp_path: Path) -> None:
    """And a mapping that says nothing takes the design as the parameters."""
    with house(tmp_path, mapping="# nothing", architech_model="demo") as server:
        run = server.value("GET", rest.simulation(start(server)["id"]))
        assert run["parameters"]["geometry"] == {"span": 42.5}
        assert run["name"] == "Design bridge-7"


def test_what_the_model_says_of_its_parameters_stands_beneath(tmp_path: Path) -> None:
    """What its case file has counts where the design says nothing; its newest version runs."""
    with house(tmp_path, mapping="model: demo\nparameters: {span: geometry.span}") as server:
        case = b"parameters: {span: 1, grid: 8}\n"
        newest = server.model(**{"main.py": b"print(2)\n", "case.yaml": case})
        run = server.value("GET", rest.simulation(start(server)["id"]))
        assert run["parameters"] == {"span": 42.5, "grid": 8}
        assert run["model_version"] == newest["version"]


def test_a_wrong_mapping_is_refused_when_the_server_starts(tmp_path: Path) -> None:
    """With the file, the line and the key."""
    wrong = options(tmp_path, None, mapping="model: demo\nparameters:\n  a: 7\n")
    with (
        pytest.raises(ConfigError, match=r"mapping\.yaml, line 3: parameters\.a: is a path"),
        rest_server(tmp_path / "data", options=wrong),
    ):
        pytest.fail("it started")


# -- steering and showing --------------------------------------------------------------------------


def test_the_states_of_a_run_carried_out(server: RestServer) -> None:
    """A run of another door has this door's words: RUNNING, PAUSED, COMPLETED, FAILED."""
    run, _ = server.claim()
    path = f"{SIMULATIONS}/{run}"

    def word() -> Any:
        return server.value("GET", path)["status"]

    assert word() == "RUNNING"
    server.report(run, state="running")
    assert server.value("POST", f"{path}/pause") is True
    assert (word(), server.value("GET", f"{path}/status")["pause_requested"]) == ("RUNNING", True)
    server.report(run, state="paused")
    assert word() == "PAUSED"
    assert server.value("POST", f"{path}/resume") is True
    server.report(run, state="running")
    server.report(run, state="completed", exit_code=0)
    assert word() == "COMPLETED"
    assert server.value("POST", f"{path}/stop") is False
    assert word() == "COMPLETED"
    assert server.value("GET", path)["user_id"] == "admin"


def test_a_stop_of_what_runs_is_true_at_once_and_again(server: RestServer) -> None:
    """It is a request until the runner says so; asked twice it is the same."""
    run, _ = server.claim()
    server.report(run, state="running")
    path = f"{SIMULATIONS}/{run}"
    assert server.value("POST", f"{path}/stop") is True
    assert server.value("POST", f"{path}/stop") is True
    shown = server.value("GET", f"{path}/status")
    assert (shown["status"], shown["stop_requested"]) == ("RUNNING", True)
    server.report(run, state="cancelled")
    shown = server.value("GET", f"{path}/status")
    assert (shown["status"], shown["state"]) == ("FAILED", "cancelled")
    assert server.value("POST", f"{path}/stop") is True


def test_a_run_is_found_by_its_number_too(server: RestServer) -> None:
    """As everywhere; what is not there is 404."""
    found = start(server)
    assert server.value("GET", f"{SIMULATIONS}/1") == found
    for path in ("2", str(uuid.uuid4()), "x", "..%2f..", "%00"):
        assert server.call("GET", f"{SIMULATIONS}/{path}").status_code == 404


def test_lists(server: RestServer) -> None:
    """By user, project and status, page by page; the door's own, unless all are asked for."""
    server.value("POST", rest.PROJECTS, json={"id": "thermal"})
    ada = [start(server) for _ in range(3)]
    bob = start(server, user="bob", project_id="thermal")
    native, _ = server.claim()
    server.value("POST", f"{SIMULATIONS}/{ada[0]['id']}/stop")

    def ids(query: str) -> list[str]:
        return [run["id"] for run in server.value("GET", f"{SIMULATIONS}{query}")]

    newest = [bob["id"], *(run["id"] for run in reversed(ada))]
    assert ids("") == newest
    assert ids("?all=true") == [native, *newest]
    assert ids("?user_id=ada") == newest[1:]
    assert ids("?user_id=nobody") == []
    assert ids("?project_id=thermal") == [bob["id"]]
    assert ids("?user_id=ada&project_id=thermal") == []
    assert ids("?status=failed") == [ada[0]["id"]]
    assert ids("?status=RUNNING,PAUSED&user_id=ada") == newest[1:3]
    assert ids("?limit=2&offset=1") == newest[1:3]
    answer = server.call("GET", f"{SIMULATIONS}?limit=1")
    assert answer.headers["X-Total-Count"] == "4"
    for query in ("?status=queued", "?limit=0", "?limit=1001", "?offset=-1", "?user_id="):
        refused = server.call("GET", f"{SIMULATIONS}{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), query


# -- who may ---------------------------------------------------------------------------------------

ROUTES = [
    ("POST", "/start"),
    ("GET", ""),
    ("GET", "/ID"),
    ("GET", "/ID/status"),
    ("POST", "/ID/stop"),
    ("POST", "/ID/pause"),
    ("POST", "/ID/resume"),
    ("POST", "/../messages"),
]


def test_every_route_says_what_it_needs(tmp_path: Path) -> None:
    """And all of them stand in the list above."""
    from physicsrunner.server.doors import architech
    from physicsrunner.service.services import build

    services = build(tmp_path / "data", url="memory:", now=lambda: NOW)
    found = list(declared(architech.router(services).routes))
    services.close()
    assert all(route.permission or route.open for route in found)
    assert len(found) == len(ROUTES) + 1  # and the WebSocket


def test_without_a_good_token_nobody_does_anything(server: RestServer) -> None:
    """401 at every call, from this machine too: nobody was named to act without one."""
    run = start(server)["id"]
    for method, path in ROUTES:
        where = f"{SIMULATIONS}{path}".replace("ID", run).replace("/simulations/..", "")
        for token in (None, "wrong"):
            answer = server.call(method, where, token=token, json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_rights_are_those_of_the_core(server: RestServer) -> None:
    """A viewer reads, and steers nothing; a user steers their own; a stranger sees nothing."""
    viewer, user, stranger = (
        person(server, "vic", "viewer"),
        person(server, "una", "user"),
        person(server, "nat", None),
    )
    body = {"design_id": "bridge-7", "user_id": "ada"}
    mine = server.value("POST", f"{SIMULATIONS}/start", json=body, token=user)["id"]
    others = start(server)["id"]

    def status(method: str, path: str, token: str) -> int:
        return server.call(method, f"{SIMULATIONS}{path}", token=token, json=body).status_code

    assert status("POST", "/start", viewer) == 403
    assert status("GET", f"/{others}", viewer) == 200
    assert status("POST", f"/{others}/stop", viewer) == 403
    assert status("POST", f"/{others}/stop", user) == 403
    assert status("POST", f"/{mine}/stop", user) == 200
    for method, path in ROUTES[2:7]:
        assert status(method, path.replace("ID", others), stranger) == 404
    assert server.value("GET", SIMULATIONS, token=stranger) == []


def test_on_this_machine_a_named_person_acts_without_a_token(tmp_path: Path) -> None:
    """But not for a page of elsewhere, nor under a name that leads here; a wrong token is wrong."""
    with house(tmp_path, door_user="admin", cors_origins=("https://app.example",)) as server:
        run = server.value("POST", f"{SIMULATIONS}/start", token=None, json=_BODY)
        assert server.value("GET", SIMULATIONS, token=None) == [run]
        page = {"Origin": "https://app.example"}
        assert server.call("GET", SIMULATIONS, token=None, headers=page).status_code == 200
        for headers in (
            {"Origin": "https://evil.example"},
            {"Host": "evil.example"},
            {"X-Forwarded-For": "10.0.0.1"},
        ):
            answer = server.call("GET", SIMULATIONS, token=None, headers=headers)
            assert answer.status_code == 401, headers
        assert server.call("GET", SIMULATIONS, token="wrong").status_code == 401


_BODY = {"design_id": "bridge-7", "user_id": "ada"}


def test_pages_of_elsewhere(tmp_path: Path) -> None:
    """Those of the setting may call the door, also for an error; no others, and nothing else."""
    page, evil = "https://app.example", "https://evil.example"
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    with house(tmp_path, cors_origins=(page,)) as server:
        path = f"{SIMULATIONS}/start"

        def allowed(method: str, where: str, origin: str, **more: Any) -> str | None:
            headers = {"Origin": origin, **more.pop("headers", {})}
            answer = server.call(method, where, headers=headers, **more)
            assert "Access-Control-Allow-Credentials" not in answer.headers
            return answer.headers.get("Access-Control-Allow-Origin")

        assert allowed("OPTIONS", path, page, headers=ask, token=None) == page
        assert allowed("OPTIONS", path, evil, headers=ask, token=None) is None
        assert allowed("POST", path, page, json=_BODY) == page
        assert allowed("GET", SIMULATIONS, evil) is None
        assert allowed("GET", SIMULATIONS, page, token=None) == page  # a 401 can be read, too
        assert allowed("GET", rest.SIMULATIONS, page) is None
        exposed = server.call("GET", SIMULATIONS, headers={"Origin": page}).headers
        assert "X-Total-Count" in exposed["Access-Control-Expose-Headers"]
    with house(tmp_path / "closed") as server:
        answer = server.call("GET", SIMULATIONS, headers={"Origin": page}, token=ADMIN)
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_mapping_of_the_docs_is_one() -> None:
    """What docs/architech.md shows can be read, and makes a run."""
    from physicsrunner.service.mapping_file import parse_mapping

    text = (Path(__file__).parents[2] / "docs" / "architech.md").read_text()
    shown = text.partition("```yaml\n")[2].partition("```")[0]
    design = {
        "title": "t",
        "team": {"project": "p"},
        "geometry": {"span": 1},
        "loads": [{"value": 2}],
    }
    wanted = parse_mapping(shown).request(design, "d", "u")
    assert wanted.parameters
    assert parse_mapping(MAPPING).model == "demo"
