"""The ShakeScenario door: frames, envelopes and operations as the document has them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from physicsrunner.client.shakescenario_client import ShakeScenario, ShakeScenarioError
from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.errors import NotAuthenticated
from physicsrunner.server.doors.local import is_loopback
from physicsrunner.server.doors.shakescenario import door as doors
from physicsrunner.server.doors.shakescenario import line as lines
from physicsrunner.server.doors.shakescenario import operations
from physicsrunner.server.doors.shakescenario.room import Room
from physicsrunner.wire import frames
from tests.contract.shakescenario_house import GIVEN_S, QUAKE, Door, Wire, request, served
from tests.support.wait import wait_until

CREATED = "2023-11-14T22:13:20.000Z"  # where the clock stands


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One server for the tests of this file that leave each other alone."""
    with served(tmp_path_factory.mktemp("standing")) as door:
        yield door


@pytest.fixture
def wire(standing: Door) -> Iterator[Wire]:
    """A connection of this test alone."""
    with standing.wire() as opened:
        yield opened


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A server of this test alone."""
    with served(tmp_path) as opened:
        yield opened


# -- transcripts -----------------------------------------------------------------------------------

UUID = "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77"
PING = (
    b'\0\0\0\0\0\0\0\x50{"v":1,"op":"ping","req_id":"0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77",'
    b'"payload":{}}'
)
PONG = (
    b'\0\0\0\0\0\0\0\x58{"v":1,"req_id":"0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77","ok":true,'
    b'"result":{"pong":true}}'
)
SUBMIT = (
    b'\0\0\0\0\0\0\0\x7e{"v":1,"op":"submit","req_id":"0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77",'
    b'"payload":{"mag":5.2,"lon":12.34,"lat":45.67,"depth":10}}'
)
SUBMITTED = (
    b'\0\0\0\0\0\0\x01\x30{"v":1,"req_id":"0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77","ok":true,'
    b'"result":{"id":1,"status":"queued","name":"M 5.2 at 45.67, 12.34",'
    b'"created_at":"2023-11-14T22:13:20.000Z","started_at":null,"ended_at":null,"error":null,'
    b'"params":{"mag":5.2,"lon":12.34,"lat":45.67,"depth":10},"result":null,"artifacts":[]}}'
)
GET = b'\0\0\0\0\0\0\0\x32{"v":1,"op":"get","req_id":"g","payload":{"id":9}}'
NOT_FOUND = (
    b'\0\0\0\0\0\0\0\x5a{"v":1,"req_id":"g","ok":false,'
    b'"error":{"code":"NOT_FOUND","message":"there is no run 9"}}'
)


@pytest.mark.parametrize("step", [None, 10, 1])
def test_the_bytes_of_the_document(door: Door, step: int | None) -> None:
    """Ping, submit and an error: the same bytes, however few of the request come at once."""
    said = b"".join([PING, SUBMIT, GET])
    heard = b"".join([PONG, SUBMITTED, NOT_FOUND])
    with door.wire() as wire:
        wire.result("ping")  # from now on it is known who this is, and a ping waits for nothing
        wire.send(said, step)
        assert wire.exactly(len(heard)) == heard


# -- one connection --------------------------------------------------------------------------------


def test_many_requests_at_once_are_answered_each(wire: Wire) -> None:
    """Of 500 requests that are sent before one answer is read, each is answered by its req_id."""
    ops = ["ping", "list", "nonsense", "get"]
    wire.send(b"".join(request(ops[n % 4], str(n), id=10**9) for n in range(500)))
    found = {(answer := wire.take())["req_id"]: answer for _ in range(500)}
    assert sorted(found, key=int) == [str(n) for n in range(500)]
    assert [found[str(n)]["ok"] for n in range(4)] == [True, True, False, False]


def test_requests_take_effect_in_their_order(door: Door) -> None:
    """Submit, cancel, get and delete, sent at once, act on each other as they were sent."""
    with door.wire() as wire:
        wire.send(
            request("submit", "a", **QUAKE)
            + request("cancel", "b", id=1)
            + request("get", "c", job_id="1")
            + request("delete", "d", id=1)
            + request("get", "e", id=1)
        )
        found = [wire.take() for _ in range(5)]
    assert [item["req_id"] for item in found] == ["a", "b", "c", "d", "e"]
    assert [found[place]["result"]["status"] for place in (0, 1, 2)] == [
        "queued",
        "canceled",
        "canceled",
    ]
    assert found[3]["result"] == {"id": 1, "deleted": True}
    assert found[4]["error"]["code"] == "NOT_FOUND"


def test_a_wait_keeps_nothing_waiting(door: Door) -> None:
    """Requests behind a wait are answered at once; the wait when its job has ended."""
    job = door.submit()
    with door.wire() as wire:
        wire.send(request("wait", "w", id=job) + request("get", "g", id=job))
        assert wire.take()["req_id"] == "g"
        door.complete(door.started())
        answer = wire.take()
        assert (answer["req_id"], answer["result"]["status"]) == ("w", "completed")


def test_who_ends_the_line_for_writing_is_answered(wire: Wire) -> None:
    """All that was asked before the end of the line is answered, then the line is closed."""
    wire.send(request("list", "a") + request("list", "b") + request("list", "c")[:9])
    wire.socket.shutdown(1)
    assert [wire.take()["req_id"] for _ in range(2)] == ["a", "b"]
    assert wire.body() is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",  # a browser
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        frames.LENGTH.pack(frames.MAX_MANIFEST + 1),
        b"\xff" * 100_000,
        frames.frame_of(b""),
        frames.frame_of(b"{"),
        frames.frame_of(b"\xff\xfe"),
        frames.frame_of(b'{"v":NaN}'),
        frames.frame_of(b"[" * 60_000),
        frames.frame_of(b"[" * 200_000),  # read in a thread
    ],
)
def test_garbage_is_refused_and_the_line_closed(standing: Door, garbage: bytes) -> None:
    """What is no frame is answered by an error of no request, after what came before it."""
    with standing.wire() as wire:
        wire.send(request("list", "before") + garbage)
        assert wire.take()["req_id"] == "before"
        found = wire.take()
        assert (found["v"], found["ok"], found["req_id"]) == (1, False, None)
        assert found["error"]["code"] == "BAD_FRAME"
        assert wire.body() is None


def test_a_frame_of_16_mib_is_taken(standing: Door) -> None:
    """A frame as large as the limit is read; its request is answered like any other."""
    padding = frames.MAX_MANIFEST - len(request("ping", "r", pad="")) + 8
    with standing.wire() as wire:
        data = request("ping", "r", pad="x" * padding)
        assert len(data) == 8 + frames.MAX_MANIFEST
        wire.send(data)
        assert wire.take()["result"] == {"pong": True}


#: Envelopes that are none, and payloads by their operation.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"v": 2, "op": "ping"}, "UNSUPPORTED_VERSION"),
    ({"op": "ping"}, "UNSUPPORTED_VERSION"),
    ({"v": 1}, "BAD_REQUEST"),
    ({"v": 1, "op": "ping", "payload": 3}, "BAD_REQUEST"),
    ({"v": 1, "op": "explode"}, "UNKNOWN_OP"),
]
UNTAKEN: list[tuple[str, dict[str, Any], str]] = [
    ("submit", {}, "INVALID_REQUEST"),
    ("submit", {**QUAKE, "mag": "5"}, "INVALID_REQUEST"),
    ("submit", {**QUAKE, "mag": True}, "INVALID_REQUEST"),
    ("submit", {**QUAKE, "lat": None}, "INVALID_REQUEST"),
    ("submit", {**QUAKE, "lon": 10**400}, "INVALID_REQUEST"),
    ("get", {}, "INVALID_REQUEST"),
    ("get", {"id": "../1"}, "INVALID_REQUEST"),
    ("get", {"id": 1.0}, "INVALID_REQUEST"),
    ("get", {"id": -1}, "INVALID_REQUEST"),
    ("get", {"id": 2**70}, "INVALID_REQUEST"),
    ("get", {"id": 10**9}, "NOT_FOUND"),
    ("cancel", {"job_id": 10**9}, "NOT_FOUND"),
    ("delete", {"id": 10**9}, "NOT_FOUND"),
    ("wait", {"id": 10**9}, "NOT_FOUND"),
    ("wait", {"id": 1, "timeout": -1}, "INVALID_REQUEST"),
    ("wait", {"id": 1, "timeout": "1"}, "INVALID_REQUEST"),
    ("list", {"limit": 0}, "INVALID_REQUEST"),
    ("list", {"limit": 1001}, "INVALID_REQUEST"),
    ("list", {"offset": -1}, "INVALID_REQUEST"),
    ("list", {"status": "done"}, "INVALID_REQUEST"),
    ("list", {"status": [1]}, "INVALID_REQUEST"),
    ("list", {"all": 1}, "INVALID_REQUEST"),
    ("download", {"id": 1}, "INVALID_REQUEST"),
    ("ping", {"token": 7}, "INVALID_REQUEST"),
    ("ping", {"token": "nonsense"}, "NOT_AUTHENTICATED"),
    ("auth", {}, "INVALID_REQUEST"),
]
WRONG += [({"v": 1, "op": op, "payload": payload}, code) for op, payload, code in UNTAKEN]


@pytest.mark.parametrize(("value", "code"), WRONG)
def test_a_wrong_request_is_refused_and_the_line_stays(
    wire: Wire, value: dict[str, Any], code: str
) -> None:
    """Each mistake has its code, the answer names the request, and the next one is answered."""
    wire.send(frames.encode_frame({**value, "req_id": "r"}))
    found = wire.take()
    assert (found["req_id"], found["error"]["code"]) == ("r", code)
    assert list(found) == ["v", "req_id", "ok", "error"]
    assert list(found["error"]) == ["code", "message"]
    assert wire.result("ping") == {"pong": True}


# -- operations ------------------------------------------------------------------------------------


def test_a_job_has_the_words_of_the_document(door: Door) -> None:
    """Queued, running, completed, failed, canceled: as the run stands, whoever changed it."""
    jobs = [door.submit() for _ in range(4)]
    assert [door.status(job) for job in jobs] == ["queued"] * 4
    grants = [door.started() for _ in range(3)]
    assert [door.status(job) for job in jobs] == ["running"] * 3 + ["queued"]
    door.complete(grants[0])
    door.fail(grants[1])
    with door.wire() as wire:
        assert wire.result("cancel", id=jobs[2])["status"] == "running"  # until the program ends
        assert wire.result("cancel", id=jobs[3])["status"] == "canceled"
        door.report(grants[2], state=RunState.CANCELLED)
        assert [wire.result("get", id=job)["status"] for job in jobs] == [
            "completed",
            "failed",
            "canceled",
            "canceled",
        ]
        assert wire.result("get", id=jobs[1])["error"] == "it broke"
        assert wire.result("cancel", id=jobs[0])["status"] == "completed"  # as it was


def test_a_job_that_ended_tells_all(door: Door) -> None:
    """Times, parameters, result and artifacts of a job; its files can be read in pieces."""
    job = door.submit(extra={"deep": [1]})
    door.house.clock.move(1.5)
    grant = door.started()
    door.house.clock.move(10)
    data = bytes(range(256)) * 5
    door.complete(grant, {"outputs/data_files/impact.csv": data})
    with door.wire() as wire:
        found = wire.result("get", id=job)
        assert found["created_at"] == CREATED
        assert found["started_at"] == "2023-11-14T22:13:21.500Z"
        assert found["ended_at"] == "2023-11-14T22:13:31.500Z"
        assert found["params"] == {**QUAKE, "extra": {"deep": [1]}}
        assert found["result"]["exit_code"] == 0
        assert found["result"]["duration_s"] == 10
        sha = hashlib.sha256(data).hexdigest()
        [artifact] = found["artifacts"]
        path = artifact["path"]
        assert artifact == {"path": "outputs/data_files/impact.csv", "size": 1280, "sha256": sha}
        pieces = [
            wire.result("download", id=job, path=path, offset=at, length=500)
            for at in (0, 500, 1000, 1500)
        ]
    assert [base64.b64decode(piece.pop("data")) for piece in pieces] == [
        data[:500],
        data[500:1000],
        data[1000:],
        b"",
    ]
    assert pieces[1] == {"path": path, "size": 1280, "sha256": sha, "offset": 500}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../../admin.token", "UNSAFE_PATH"),
        ("/etc/passwd", "UNSAFE_PATH"),
        ("outputs/none", "NOT_FOUND"),
        ("outputs", "NOT_FOUND"),
    ],
)
def test_nothing_but_artifacts_is_given(door: Door, path: str, code: str) -> None:
    """A path that leaves the job's folder, or that is no file, is refused."""
    job = door.submit()
    door.complete(door.started(), {"outputs/x": b"x"})
    with door.wire() as wire:
        assert wire.refused("download", id=job, path=path) == code


def test_the_client_fetches_a_job_whole(door: Door, tmp_path: Path) -> None:
    """All artifacts and both documents are written below job_000001, and are what was stored."""
    job = door.submit()
    big = b"0123456789abcdef" * 600_000  # three answers
    door.complete(door.started(), {"logs/main.log": b"", "outputs/data_files/big": big})
    with door.client() as client:
        folder = client.download_all(job, tmp_path)
        meta = json.loads((folder / "meta.json").read_text())
        listed = json.loads((folder / "result_manifest.json").read_text())
        assert client.get(job) == {
            **{key: value for key, value in meta.items() if key != "run"},
            "artifacts": listed["artifacts"],
        }
    assert folder == tmp_path / "job_000001"
    assert (folder / "outputs/data_files/big").read_bytes() == big
    assert (folder / "logs/main.log").read_bytes() == b""


def test_lists_show_the_jobs_of_this_door(door: Door) -> None:
    """Its own, the newest first, by state and page; with `all` what else the caller may read."""
    jobs = []
    for _ in range(3):
        jobs.append(door.submit())
        door.house.clock.move(1)
    model = door.house.services.models.list(door.house.admin)[0]
    other = door.house.services.runs.create(door.house.admin, NewRun(model_id=model.id, name="x"))
    with door.wire() as wire:
        wire.result("cancel", id=jobs[1])

        def listed(**wanted: Any) -> list[int]:
            return [job["id"] for job in wire.result("list", **wanted)["jobs"]]

        assert listed() == jobs[::-1]
        assert wire.result("list", limit=1, offset=1)["total"] == 3
        assert listed(limit=1, offset=1) == [jobs[1]]
        assert listed(status="queued") == [jobs[2], jobs[0]]
        assert listed(status=["canceled", "failed"]) == [jobs[1]]
        assert listed(all=True) == [other.number, *jobs[::-1]]
        assert wire.result("get", id=other.number)["name"] == "x"


def test_wait_answers_in_time(door: Door) -> None:
    """A wait past its timeout is answered by the job as it is, one of an ended job at once."""
    job = door.submit()
    with door.wire() as wire:
        assert wire.result("wait", id=job, timeout=0)["status"] == "queued"
        assert wire.result("wait", id=job, timeout=0.05)["status"] == "queued"
        door.complete(door.started())
        assert wire.result("wait", id=job)["status"] == "completed"
        wire.send(request("wait", "w", id=door.submit()))
        wire.ask("delete", id=job)
        wire.send(request("wait", "x", id=job))
        assert wire.take()["error"]["code"] == "NOT_FOUND"


def test_who_waits_is_told_by_the_feed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens to its job, a wait asks the database nothing."""
    job = door.submit()
    asked: list[Any] = []
    summary = door.house.services.runs.summary

    def counted(*given: Any) -> Any:
        asked.append(given)
        return summary(*given)

    monkeypatch.setattr(door.house.services.runs, "summary", counted)
    with door.wire() as wire:
        wire.send(request("wait", "w", id=job, timeout=GIVEN_S))
        wait_until(lambda: len(asked) == 2)  # before it watches, and after
        assert wire.result("wait", id=job, timeout=0.5)["id"] == job  # half a second goes by
        assert len(asked) == 2 + 3
        monkeypatch.undo()
        door.complete(door.started())
        assert wire.take()["result"]["status"] == "completed"


def test_jobs_are_deleted_when_they_have_ended(door: Door) -> None:
    """What waits, runs or is pinned is not deleted; its number is never used again."""
    first, second = door.submit(), door.submit()
    with door.wire() as wire:
        assert wire.refused("delete", id=first) == "NOT_TERMINAL"
        door.complete(door.started())
        door.house.services.runs.pin(door.house.admin, first)
        assert wire.refused("delete", id=first) == "PINNED"
        door.house.services.runs.pin(door.house.admin, first, False)
        assert wire.result("delete", job_id=first) == {"id": first, "deleted": True}
        assert wire.refused("get", id=first) == "NOT_FOUND"
        wire.result("cancel", id=second)
        wire.result("delete", id=second)
    assert door.submit() == 3


def test_reset_deletes_what_has_ended(door: Door) -> None:
    """It refuses while a job runs; then the ended ones go, and what waits, is pinned or is not of
    this door stays."""
    jobs = [door.submit() for _ in range(4)]
    services, admin = door.house.services, door.house.admin
    model = services.models.list(admin)[0]
    other = services.runs.create(admin, NewRun(model_id=model.id))
    services.runs.cancel(admin, other.id)
    grants = [door.started() for _ in range(3)]
    door.complete(grants[0])
    door.fail(grants[1])
    services.runs.pin(admin, jobs[1])
    with door.wire() as wire:
        assert wire.refused("reset") == "CONFLICT"
        assert len(wire.result("list")["jobs"]) == 4
        door.complete(grants[2])
        assert wire.result("reset") == {"deleted": 2, "kept": 1}
        assert [job["id"] for job in wire.result("list")["jobs"]] == [jobs[3], jobs[1]]
        assert wire.result("get", id=other.number)["status"] == "canceled"


# -- who may ask -----------------------------------------------------------------------------------


def test_without_a_user_of_the_door_everybody_shows_a_token(tmp_path: Path) -> None:
    """Nothing is answered without one, not even a ping; in the payload it counts once, by auth for
    the connection."""
    with served(tmp_path, door_user=None) as door, door.wire() as wire:
        ada = door.token_of("ada")
        for op in ("ping", "submit", "list", "get", "wait", "cancel", "delete", "reset", "x"):
            assert wire.refused(op, **QUAKE, id=1, timeout=0) == "NOT_AUTHENTICATED"
        assert wire.result("ping", token=ada) == {"pong": True}
        assert "or first by the operation auth" in wire.ask("ping")["error"]["message"]
        job = wire.result("submit", token=ada, **QUAKE)
        assert job["params"] == QUAKE  # a token is never kept
        assert wire.refused("auth", token="nonsense") == "NOT_AUTHENTICATED"
        assert wire.result("auth", token=ada) == {"user": "ada", "role": "user"}
        assert wire.result("ping") == {"pong": True}
        wire.send(request("ping", "1") + request("get", "2", id=job["id"]))
        assert [wire.take()["ok"] for _ in range(2)] == [True, True]
        with door.client(token=ada) as client:
            assert client.get(job["id"])["status"] == "queued"
        with door.client(token="x") as client, pytest.raises(ShakeScenarioError, match="token"):
            client.ping()


def own_address() -> str:
    """Return an address of this machine that others can reach, or skip the test."""
    for addresses in psutil.net_if_addrs().values():
        for item in addresses:
            if item.family == socket.AF_INET and not is_loopback(item.address):
                return str(item.address)
    pytest.skip("this machine has no address but loopback")


def test_on_an_address_that_others_reach_a_token_is_needed(tmp_path: Path) -> None:
    """The user of the door is for loopback alone, though the server listens on all addresses."""
    address = own_address()
    with served(tmp_path, shakescenario_host="0.0.0.0") as door:  # noqa: S104
        with door.wire() as wire:
            assert wire.result("ping") == {"pong": True}
        with Wire(address, door.port) as wire:
            assert wire.refused("ping") == "NOT_AUTHENTICATED"
            assert wire.refused("submit", **QUAKE) == "NOT_AUTHENTICATED"
            assert wire.result("submit", token=door.token_of("ada"), **QUAKE)["id"] == 1


def test_ipv6_is_loopback_too(tmp_path: Path) -> None:
    """A server on ::1 takes jobs of programs of this machine without a token."""
    with served(tmp_path, shakescenario_host="::1") as door, door.client() as client:
        assert client.submit(**QUAKE)["id"] == 1


def test_people_delete_their_own(tmp_path: Path) -> None:
    """A job of another person is neither deleted nor cancelled, and no reset touches it."""
    with served(tmp_path, door_user=None) as door:
        ada, eve = door.token_of("ada"), door.token_of("eve")
        with door.client(token=ada) as hers, door.client(token=eve) as his:
            job = int(hers.submit(**QUAKE)["id"])
            for forbidden in (his.cancel, his.delete):
                with pytest.raises(ShakeScenarioError, match="NOT_ALLOWED"):
                    forbidden(job)
            hers.cancel(job)
            assert his.reset() == {"deleted": 0, "kept": 1}
            assert hers.reset() == {"deleted": 1, "kept": 0}


def test_a_revoked_token_is_good_for_nothing(tmp_path: Path) -> None:
    """On a connection that was let in, too, what comes after the revocation is refused."""
    with served(tmp_path, door_user=None) as door, door.wire() as wire:
        ada = door.token_of("ada")
        wire.result("auth", token=ada)
        identity = door.house.services.access.authenticate(ada)
        door.house.services.access.tokens.revoke(identity, identity.token or "")
        assert wire.refused("list") == "NOT_AUTHENTICATED"


# -- those who keep us waiting ---------------------------------------------------------------------


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A server that waits for nobody long."""
    patience = lines.Patience(
        frame_s=0.2, frame_rate=1e9, stranger_s=0.3, idle_s=1.5, send_s=0.3, linger_s=0.2
    )
    monkeypatch.setattr(doors, "Patience", lambda: patience)
    monkeypatch.setattr(doors, "LOOK_S", 0.05)
    with served(tmp_path) as door:
        yield door


def test_half_a_frame_and_silence_are_cut_off(impatient: Door) -> None:
    """Who begins a frame and does not end it is cut off, and so is who says nothing for long."""
    with impatient.wire() as half, impatient.wire() as silent:
        half.send(request("ping")[:20])
        silent.result("ping")
        half.wait_for_the_end()
        silent.wait_for_the_end()


def test_who_waits_is_not_silent(impatient: Door) -> None:
    """A connection on which a wait is under way is kept, however long nothing is said."""
    job = impatient.submit()
    with impatient.wire() as wire:
        assert wire.result("wait", id=job, timeout=2.5)["status"] == "queued"


def test_who_never_reads_is_cut_off(impatient: Door) -> None:
    """Answers that nobody takes are not piled up: nothing more is read, then the line is cut."""
    job = impatient.submit()
    impatient.complete(impatient.started(), {"outputs/big": b"x" * 4_000_000})
    asked = request("download", id=job, path="outputs/big") * 2000
    with impatient.wire() as wire, pytest.raises(ConnectionError):
        wire.send(asked * 200)
    with impatient.wire() as other:
        assert other.result("ping") == {"pong": True}


def test_answers_to_waits_are_not_piled_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many waits on an ended job with much to say, by one who reads nothing: few are in words."""
    said: list[int] = []
    job = door.submit(much="x" * 2_000_000)
    door.complete(door.started())
    carry_out = operations.Operations.carry_out

    def counted(given: Any, name: str, *more: Any) -> Any:
        if name == "get":
            said.append(1)
        return carry_out(given, name, *more)

    monkeypatch.setattr(operations.Operations, "carry_out", counted)
    waits = 40
    with door.wire() as wire:
        wire.send(b"".join(request("wait", str(n), id=job) for n in range(waits)))
        wait_until(lambda: bool(said))
        with door.wire() as other:
            other.result("wait", id=job, timeout=0)
            for _ in range(20):
                other.result("list")
        assert len(said) < waits / 2
        assert {wire.take()["req_id"] for _ in range(waits)} == {str(n) for n in range(waits)}


def test_strangers_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not show a token in time is cut off, and may send no large frame before."""
    patience = lines.Patience(stranger_s=2.0, stranger_limit=1000, linger_s=0.2)
    monkeypatch.setattr(doors, "Patience", lambda: patience)
    monkeypatch.setattr(doors, "LOOK_S", 0.05)
    with served(tmp_path, door_user=None) as door:
        ada = door.token_of("ada")
        with door.wire() as wire:
            assert wire.refused("ping") == "NOT_AUTHENTICATED"
            wire.wait_for_the_end()
        with door.wire() as wire:
            wire.send(frames.LENGTH.pack(1001))
            assert wire.take()["error"]["code"] == "BAD_FRAME"
        with door.wire() as wire:
            wire.result("auth", token=ada)
            assert wire.result("ping", pad="x" * 2000) == {"pong": True}


def test_a_stranger_who_is_busy_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends of frames that come all the time, each with the beginning of the next, keep no stranger
    on the line."""
    monkeypatch.setattr(doors, "Patience", lambda: lines.Patience(stranger_s=0.5))
    monkeypatch.setattr(doors, "LOOK_S", 0.05)
    with served(tmp_path, door_user=None) as door, door.wire() as wire:
        ping = request("ping")
        wire.send(ping[:1])

        def is_cut() -> bool:
            try:
                wire.send(ping[1:] + ping[:1])
                return not wire.socket.recv(1024 * 1024)
            except ConnectionError:
                return True

        wait_until(is_cut)


def test_what_a_stranger_sends_is_not_piled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody knows who they are, their requests that wait are few bytes."""
    held: list[lines.Line] = []
    let_go = threading.Event()

    async def asked(_door: Any, line: lines.Line, _token: str | None) -> Any:
        held.append(line)
        await to_thread.run_sync(let_go.wait, GIVEN_S)
        raise NotAuthenticated("no")

    monkeypatch.setattr(doors.Door, "_who", asked)
    with served(tmp_path, door_user=None) as door, door.wire() as wire:
        wire.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):  # they read no further
            for _ in range(63):
                wire.send(request("list", token="x", pad="x" * 60_000))
        # One that is carried out, one over the limit, and what one read gives besides.
        assert 0 < held[0]._queued_bytes < 600_000
        let_go.set()


def test_all_lines_have_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over it lines are read no further, nobody is cut, and each request is answered in the end."""
    rooms: list[Room] = []

    def small() -> Room:
        rooms.append(Room(1_000_000))
        return rooms[0]

    monkeypatch.setattr(doors, "Room", small)
    most = 0
    with served(tmp_path) as door, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(door.wire()) for _ in range(8)]
        asked = request("ping", "r", pad="x" * 8_000_000)

        def send(wire: Wire) -> None:
            wire.send(asked)

        threads = [threading.Thread(target=send, args=(wire,)) for wire in wires]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, rooms[0]._total)
            threads[0].join(0.001)
            next((each for each in threads if each.is_alive()), threads[0]).join(0.001)
        for wire in wires:
            assert wire.take()["result"] == {"pong": True}
        # One whole frame above it, and of each what one read gives.
        assert 0 < most < 1_000_000 + 8_000_000 * 2 + 8 * 300_000, most
        assert wires[0].result("ping") == {"pong": True}
        wait_until(lambda: rooms[0]._total == 0)


def test_there_are_only_so_many(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection, and a wait, more than there may be is told so."""
    monkeypatch.setattr(lines, "MAX_WAITS", 2)
    job = door.submit()
    with door.wire() as wire:
        wire.result("ping")
        monkeypatch.setattr(doors, "MAX_LINES", 1)
        wire.send(b"".join(request("wait", str(n), id=job) for n in range(3)))
        assert wire.take()["error"]["code"] == "TOO_MANY_WAITS"
        with door.wire() as other:
            assert other.take()["error"]["code"] == "TOO_MANY_CONNECTIONS"
            assert other.body() is None
        assert wire.result("ping") == {"pong": True}


def test_the_end_of_the_server_ends_waits(tmp_path: Path) -> None:
    """Who waits when the server ends is answered by the job as it is, and then by the end."""
    with served(tmp_path) as door:
        wire = door.wire()
        job = door.submit()
        wire.send(request("wait", "w", id=job))
        wire.result("ping")
    with wire:
        assert wire.take()["result"]["status"] == "queued"
        assert wire.body() is None


# -- whatever comes --------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_KEYS = ("id", "job_id", "timeout", "token", "path", "offset", "limit", "status", "mag", "all")
_PAYLOADS = st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4)
_OPS = st.sampled_from(
    ["ping", "auth", "submit", "list", "get", "cancel", "delete", "reset", "download", "x"]
)
_REQUESTS = st.fixed_dictionaries(
    {"v": st.just(1) | _JSON, "op": _OPS | _JSON, "req_id": st.text(max_size=5) | _JSON},
    optional={"payload": _PAYLOADS | _JSON},
)
_FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_FUZZ
@given(data=st.binary(max_size=200), step=st.sampled_from([1, 10, None]))
def test_no_bytes_harm_the_server(standing: Door, data: bytes, step: int | None) -> None:
    """After any bytes, in any pieces, the server answers the next who asks."""
    with standing.wire() as wire:
        try:
            wire.send(data, step)
            wire.socket.shutdown(1)
            while (body := wire.body()) is not None:
                assert frames.json_of(body)["v"] == 1
        except (ConnectionError, OSError):
            pass
    with standing.wire() as wire:
        assert wire.result("ping") == {"pong": True}


@_FUZZ
@given(asked=st.lists(_REQUESTS, max_size=5), step=st.sampled_from([1, 10, None]))
def test_no_request_harms_the_server(
    standing: Door, asked: list[dict[str, Any]], step: int | None
) -> None:
    """Any requests, in any pieces, are answered each, by strict JSON and never by INTERNAL."""
    with standing.wire() as wire:
        wire.send(b"".join(frames.frame_of(json.dumps(one).encode()) for one in asked), step)
        wire.socket.shutdown(1)
        for _ in asked:
            found = wire.take()
            assert found["ok"] is True or found["error"]["code"] != "INTERNAL", (asked, found)
        assert wire.body() is None


def test_several_clients_at_once(door: Door) -> None:
    """Ten clients submit and cancel at the same time; each job is there once, with its number."""
    found: list[int] = []

    def work() -> None:
        with ShakeScenario(door.host, door.port, timeout=GIVEN_S) as client:
            for _ in range(5):
                job = int(client.submit(**QUAKE)["id"])
                assert client.cancel(job)["status"] == "canceled"
                found.append(job)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 51))
