"""Storage grants of the PhysicsWorks door: one file each, for some minutes, without a header."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from physicsrunner.core.state import RunState
from physicsrunner.server import unpacking
from physicsrunner.service.tickets import Opened
from physicsrunner.wire import rest
from tests.contract.physicsworks_house import MAIN, House, house
from tests.support.wait import wait_until

FIELD = bytes(range(256)) * 1000
FILES = {
    "logs/solver.log": b"begun\n",
    "outputs/data_files/field a.bin": FIELD,
    "outputs/data_files/part/mesh.vtu": b"part",
    "outputs/graphics/mesh.vtu": b"drawn",
    "outputs/media/film.mp4": b"film",
    "outputs/plots/residual.csv": b"n,r\n",
}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[House]:
    """A server with the door."""
    with house(tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, tuple[str, str]]]:
    """One server with a run, for what is refused: it changes nothing."""
    with house(tmp_path_factory.mktemp("data")) as made:
        yield made, carried_out(made)


@pytest.fixture
def run(door: House) -> tuple[str, str]:
    """Carry a run to its end that leaves files; return its simulation and its id."""
    return carried_out(door)


def carried_out(door: House) -> tuple[str, str]:
    """Do that at *door*."""
    key = door.model()
    run = door.dispatch(key)
    door.lease()
    door.finish(run, FILES)
    return key, run


def grant(door: House, run: tuple[str, str], file: str, **more: Any) -> requests.Response:
    """Ask for a grant."""
    path = f"v1/simulations/{run[0]}/runs/{run[1]}/files/download"
    return door.call("GET", path, params={"file": file}, **more)


def address(door: House, run: tuple[str, str], file: str, **more: Any) -> str:
    """Return the address of a grant."""
    answer = grant(door, run, file, **more)
    assert answer.ok, answer.text
    return str(answer.json()["downloadUrl"])


def fetch(url: str, **headers: str) -> requests.Response:
    """Fetch an address as anybody can."""
    return requests.get(url, headers=headers, timeout=30)


def scratch(door: House) -> list[Path]:
    """Return what lies in the server's folder for what is on its way."""
    return list(door.services.scratch.iterdir())


def test_the_run_document_names_files_and_each_is_fetched(
    door: House, run: tuple[str, str]
) -> None:
    """Every file lies in the array of its kind; its grant gives its bytes and its name."""
    document = door.value("GET", f"v1/simulations/{run[0]}/runs/{run[1]}")
    listed = {
        one["file"]: kind
        for kind in ("logs", "plots", "media", "graphics", "downloadables")
        for one in document[kind]
    }
    assert listed == {
        "logs/solver.log": "logs",
        "outputs/data_files/field a.bin": "downloadables",
        "outputs/data_files/part/mesh.vtu": "downloadables",
        "outputs/graphics/mesh.vtu": "graphics",
        "outputs/media/film.mp4": "media",
        "outputs/plots/residual.csv": "plots",
    }
    for path, data in FILES.items():
        answer = fetch(address(door, run, path))
        assert answer.content == data
        assert "attachment" in answer.headers["content-disposition"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_grant_says_what_it_is(door: House, run: tuple[str, str]) -> None:
    """Token, times and address; nobody keeps a copy on the way."""
    answer = grant(door, run, "field a.bin")
    given = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert given["expiresIn"] == 300
    assert given["downloadUrl"].endswith(f"/field%20a.bin?token={given['token']}")
    assert given["downloadUrl"].startswith(f"{door.server.url}/physicsworks/api/v1/")
    opened = door.services.tickets.open(given["token"])
    assert isinstance(opened, Opened)
    assert opened.path == "outputs/data_files/field a.bin"


def test_parts_of_a_file_are_fetched(door: House, run: tuple[str, str]) -> None:
    """Range, If-None-Match and HEAD work as at the native address."""
    url = address(door, run, "field a.bin")
    part = fetch(url, Range="bytes=256-511")
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    assert part.headers["content-range"] == f"bytes 256-511/{len(FIELD)}"
    assert fetch(url, **{"If-None-Match": part.headers["etag"]}).status_code == 304
    assert fetch(url, Range=f"bytes={len(FIELD)}-").status_code == 416
    head = requests.head(url, timeout=30)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(FIELD)))
    assert head.content == b""


def test_a_grant_expires(door: House, run: tuple[str, str]) -> None:
    """After five minutes it is said so, whatever the address was used for before."""
    url = address(door, run, "solver.log")
    door.clock.time += 299
    assert fetch(url).status_code == 200
    door.clock.time += 2
    expired = fetch(url)
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")


def test_a_grant_is_for_one_file_and_nothing_else(door: House, run: tuple[str, str]) -> None:
    """It is no token, no token is one, and what is changed in it makes it worthless."""
    given = grant(door, run, "solver.log").json()
    head, body, signature = given["token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["path"] = "outputs/media/film.mp4"
    other = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    url = given["downloadUrl"].partition("?")[0]
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for bad in (
        f"{head}.{other}.{signature}",
        f"{none}.{body}.",
        door.server.admin,
        "a.b.c",
        "",
        "x" * 5000,
    ):
        assert fetch(f"{url}?token={bad}").status_code == 401, bad[:40]
    assert fetch(url).status_code == 401
    assert door.call("GET", "v1/jobs", token=given["token"]).status_code == 401
    assert door.server.call("GET", rest.WHOAMI, token=given["token"]).status_code == 401
    # The name in the address is for people.
    named = given["downloadUrl"].replace("solver.log", "film.mp4")
    assert fetch(named).content == FILES["logs/solver.log"]


@pytest.mark.parametrize(
    "file",
    [
        "../../../secret.key",
        "/etc/passwd",
        "logs/../../../../secret.key",
        "..",
        ".",
        "logs",
        "logs/",
        "none.log",
        "log",
        "olver.log",
        "solver.log\0",
        "\udcff",
        "x" * 5000,
    ],
)
def test_a_file_that_is_not_there_is_not_found(
    calm: tuple[House, tuple[str, str]], file: str
) -> None:
    """Whatever it is called: names are looked up, never followed."""
    door, run = calm
    safe = file.encode("utf-8", "surrogateescape")
    path = f"v1/simulations/{run[0]}/runs/{run[1]}/files/download"
    answer = door.call("GET", path, params={"file": safe})
    assert answer.status_code == 404, answer.text
    path = f"v1/simulations/{run[0]}/files/download"
    assert door.call("GET", path, params={"file": safe}).status_code in (404, 422)


def test_a_name_that_two_files_have_is_asked_back(door: House, run: tuple[str, str]) -> None:
    """The answer names both; with a part of the path it is one."""
    answer = grant(door, run, "mesh.vtu")
    assert answer.status_code == 422
    assert "outputs/graphics/mesh.vtu" in answer.json()["detail"]
    assert fetch(address(door, run, "part/mesh.vtu")).content == b"part"
    assert grant(door, run, "").status_code == 422


def test_a_run_of_another_simulation_is_not_found(door: House, run: tuple[str, str]) -> None:
    """Nor is a run that has no files yet; it says why."""
    other = door.model("beam")
    assert grant(door, (other, run[1]), "solver.log").status_code == 404
    assert grant(door, ("none", run[1]), "solver.log").status_code == 404
    waiting = door.dispatch(run[0])
    answer = grant(door, (run[0], waiting), "solver.log")
    assert (answer.status_code, "no files yet" in answer.json()["detail"]) == (404, True)


def test_who_may_no_longer_read_gets_nothing(door: House) -> None:
    """A grant is as good as its person: disabled, or out of the project, and it is over."""
    door.server.value("POST", rest.PROJECTS, json={"id": "thermal"})
    key = door.model(project="thermal")
    token = door.person("ada", None, thermal="user")
    run = (key, door.dispatch(key, token=token))
    door.lease()
    door.finish(run[1], FILES)
    url = address(door, run, "solver.log", token=token)
    assert fetch(url).content == FILES["logs/solver.log"]
    door.server.value("DELETE", rest.member("thermal", "ada"))
    assert fetch(url).status_code == 404
    door.server.value("PUT", rest.member("thermal", "ada"), json={"role": "viewer"})
    assert fetch(url).status_code == 200
    door.server.value("PATCH", rest.user("ada"), json={"disabled": True})
    assert fetch(url).status_code in (401, 403)


def test_a_deleted_run_has_no_files(door: House, run: tuple[str, str]) -> None:
    """A grant that was given before finds nothing."""
    url = address(door, run, "solver.log")
    door.server.value("DELETE", rest.simulation(run[1]))
    assert fetch(url).status_code == 404


def test_what_a_runner_of_this_wire_sent_is_fetched_by_its_stored_name(door: House) -> None:
    """The arrays are as it listed them, and each of its files is there by that name."""
    key = door.model()
    run = door.value("PUT", f"simulation/run/update/{key}", json={})["id"]
    piece = {
        "filename": "8c1f.log",
        "chunk": base64.b64encode(b"line\n").decode(),
        "isNew": True,
        "isAscii": True,
        "metadata": {"resource": run, "resourceKind": "Run", "originalname": "run.log"},
    }
    door.value("POST", "storage/append", data={"json": json.dumps(piece)})
    entry = {"name": "run.log", "file": "8c1f.log"}
    door.value("PUT", f"simulation/run/patch/{run}", json={"logs": [entry], "extras": {"a": 1}})
    document = door.value("GET", f"v1/simulations/{key}/runs/{run}")
    assert (document["logs"], document["extras"]) == ([entry], {"a": 1})
    for name in ("8c1f.log", "run.log", "logs/run.log"):
        assert fetch(address(door, (key, run), name)).content == b"line\n"
    assert [one["id"] for one in door.value("GET", f"v1/simulations/{key}/runs")["data"]] == [run]


def test_a_grant_stays_with_its_attempt(door: House) -> None:
    """When the run is tried again, what was granted is still that file and no other."""
    key = door.model()
    again = {"retry_policy": {"max_retries": 1, "retry_delay_seconds": 0}}
    run = (key, door.native(key, configuration=again))
    door.lease()
    door.report(run[1], RunState.RUNNING, stage="execute")
    door.server.put_file(run[1], "logs/solver.log", b"first\n")
    url = address(door, run, "solver.log")
    door.report(run[1], RunState.FAILED, exit_code=3)
    assert door.lease("south") == [run[1]]
    assert fetch(url).content == b"first\n"


def test_a_file_of_the_model_is_fetched(door: House, run: tuple[str, str]) -> None:
    """Parts too; nothing is left on the disk, whatever the answer was."""
    key = run[0]
    given = door.value("GET", f"v1/simulations/{key}/files/download?file=main.py")
    url = given["downloadUrl"]
    assert fetch(url).content == MAIN
    first = fetch(url, Range="bytes=0-4")
    assert (first.status_code, first.content) == (206, MAIN[:5])
    assert fetch(url, Range="bytes=0-4", **{"If-Range": first.headers["etag"]}).status_code == 206
    assert fetch(url, **{"If-None-Match": first.headers["etag"]}).status_code == 304
    assert fetch(url, Range="bytes=99-").status_code == 416
    of_the_run = door.value("GET", f"v1/simulations/{run[1]}/files/download?file=main.py")
    assert fetch(of_the_run["downloadUrl"]).content == MAIN
    wait_until(lambda: scratch(door) == [])


MESH = bytes(range(256)) * 12_000  # about 3 MiB


def granted_mesh(door: House) -> str:
    """Return the address of a file of a model that is some pieces long."""
    key = door.model(files={"data/my mesh.dat": MESH})
    path = f"v1/simulations/{key}/files/download?file=data/my mesh.dat"
    return str(door.value("GET", path)["downloadUrl"])


def test_no_more_of_a_models_file_is_unpacked_than_is_sent(
    door: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what lies before a part; and what is asked about it unpacks nothing."""
    url, unpacked = granted_mesh(door), 0

    def counted(file: IO[bytes], length: int, read: Any = unpacking._read) -> bytes:
        nonlocal unpacked
        assert scratch(door) == []
        piece: bytes = read(file, length)
        unpacked += len(piece)
        return piece

    monkeypatch.setattr(unpacking, "_read", counted)
    size = len(MESH)
    head = requests.head(url, timeout=30)
    assert (head.status_code, head.headers["content-length"]) == (200, str(size))
    assert "my%20mesh.dat" in head.headers["content-disposition"]
    tag = head.headers["etag"]
    assert fetch(url, **{"If-None-Match": tag}).status_code == 304
    for nothing in (f"bytes={size}-", "bytes=-0"):
        answer = fetch(url, Range=nothing)
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
    assert unpacked == 0
    for said, begin, end in (
        ("0-9", 0, 10),
        ("1500000-1500255", 1_500_000, 1_500_256),
        ("-7", size - 7, size),
        (f"{size - 5}-{size + 99}", size - 5, size),
    ):
        unpacked = 0
        answer = fetch(url, Range=f"bytes={said}", **{"If-Range": tag})
        assert (answer.status_code, answer.content) == (206, MESH[begin:end])
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert unpacked == end
    for headers in (
        {},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
        {"Range": "bytes=9-0"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1,4-5"},
    ):
        answer = fetch(url, **headers)
        assert (answer.status_code, answer.content) == (200, MESH)


def test_few_files_of_models_are_unpacked_at_once(
    door: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask: two threads of the server at most are busy with it."""
    url, busy, most, lock = granted_mesh(door), 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def counted(file: IO[bytes], length: int, read: Any = unpacking._read) -> bytes:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        both.wait(30)  # the next one has come in, too
        piece: bytes = read(file, length)
        with lock:
            busy -= 1
        return piece

    monkeypatch.setattr(unpacking, "_read", counted)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(fetch, [url] * 6))
    assert [answer.content for answer in answers] == [MESH] * 6
    assert most == 2
