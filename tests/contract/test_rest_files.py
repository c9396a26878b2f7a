"""Runs, models, inputs and files over REST: what goes in comes out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import zstandard

from physicsrunner.errors import ServerUnavailable
from physicsrunner.server.rest import logs
from physicsrunner.store.sql import SqlStore
from physicsrunner.wire import live, rest
from physicsrunner.wire.frames import encode_frame
from physicsrunner.wire.live import Event
from tests.contract.rest_server import RestServer, frame, rest_server, zip_of
from tests.support.wait import wait_until

DIGEST = hashlib.sha256(b"hi\n").hexdigest()
ODD = ("with space", "quote'\"", "émoji 🎉", "new\nline", "per%20cent", "a?b#c&d", "back\\slash")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A server of each test's own."""
    with rest_server(tmp_path / "data") as running:
        yield running


def append(run: str, path: str, data: bytes, offset: int = 0) -> tuple[dict[str, Any], bytes]:
    """Return an append operation with its bytes."""
    op = {"run": run, "attempt": 1, "path": path, "op": "append"}
    return {**op, "offset": offset, "length": len(data)}, data


def test_a_run_is_created_once_however_often_it_is_asked_for(server: RestServer) -> None:
    """The same id again answers 200 with the same run; the list shows it once."""
    model = server.model()
    wanted = {"id": str(uuid.uuid4()), "model_id": model["id"], "name": "the only one"}
    first = server.value("POST", rest.SIMULATIONS, json=wanted, status=201)
    again = server.value("POST", rest.SIMULATIONS, json=wanted, status=200)
    assert first["id"] == again["id"] == wanted["id"]
    assert first["number"] == again["number"]
    listed = server.value("GET", f"{rest.SIMULATIONS}?name=the only one")
    assert listed["total"] == 1
    by_number = server.value("GET", rest.simulation(str(first["number"])))
    assert by_number["id"] == first["id"]
    for part in ("status", "progress"):
        assert server.value("GET", f"{rest.simulation(first['id'])}/{part}")["status"] == "queued"


def test_a_claimed_run_comes_with_its_lease_again_and_again(server: RestServer) -> None:
    """A claim that is repeated after a lost answer gives the lease again, with a good token."""
    wanted = {"id": str(uuid.uuid4()), "name": "mine", "claim": {"agent": "here"}}
    first = server.value("POST", rest.SIMULATIONS, json=wanted, status=201)
    again = server.value("POST", rest.SIMULATIONS, json=wanted, status=200)
    for answer in (first, again):
        assert answer["lease"]["attempt"] == 1
        who = server.value("GET", rest.WHOAMI, token=answer["lease"]["token"])
        expected = {"kind": "attempt", "subject": "here", "run": wanted["id"], "attempt": 1}
        assert who.items() >= expected.items()


def test_a_model_is_stored_once_and_comes_back_as_it_was(server: RestServer) -> None:
    """The same content is the same version; the bundle is the zip that was sent."""
    data = zip_of({"main.py": b"print(1)\n", "lib/a b.py": b"x = 1\n"})
    first = server.value("POST", f"{rest.MODELS}?name=same", data=data, status=201)
    again = server.value("POST", f"{rest.MODELS}?name=same", data=data)
    assert (first["id"], first["version"]) == (again["id"], again["version"])
    path = f"{rest.MODELS}/{first['id']}/versions/{first['version']}/bundle"
    fetched = server.call("GET", path)
    assert hashlib.sha256(fetched.content).hexdigest() == first["sha256"]
    assert first["id"] in {item["id"] for item in server.value("GET", rest.MODELS)["data"]}
    assert not list(server.services.scratch.iterdir()), "a body was left behind"


def test_an_input_is_known_by_its_content(server: RestServer) -> None:
    """HEAD says whether it is there; a wrong digest is refused; what comes back is the same."""
    data = b"mesh" * 1000
    path = f"{rest.UPLOADS}/{hashlib.sha256(data).hexdigest()}"
    assert server.call("HEAD", path).status_code == 404
    for _ in range(2):
        assert server.value("PUT", path, data=data)["size"] == len(data)
    assert server.call("PUT", path, data=data + b"!").status_code == 409
    head = server.call("HEAD", path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    assert server.call("GET", path).content == data


@pytest.mark.parametrize("encoding", ["identity", "deflate", "gzip", "zstd"])
def test_a_frame_arrives_in_every_encoding(server: RestServer, encoding: str) -> None:
    """The same frame, plain or compressed, leaves the same bytes; offsets count raw bytes."""
    run, _ = server.claim()
    files = {f"outputs/{name}": name.encode() * 20_000 for name in ODD}
    body = frame([append(run, path, data) for path, data in files.items()])
    pack: dict[str, Callable[[bytes], bytes]] = {
        "identity": bytes,
        "deflate": zlib.compress,
        "gzip": gzip.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }
    packed = pack[encoding](body)
    answer = server.value("POST", rest.SYNC, data=packed, headers={"Content-Encoding": encoding})
    assert [item["offset"] for item in answer["results"]] == [len(item) for item in files.values()]
    for path, data in files.items():
        assert server.call("GET", rest.artifact(run, path)).content == data


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("br", b"x", 415, "unsupported_encoding"),
        ("gzip", b"this is not gzip", 400, "bad_frame"),
        ("zstd", b"this is not zstd", 400, "bad_frame"),
        ("gzip", gzip.compress(bytes(64 << 20)), 400, "bad_frame"),
        ("zstd", zstandard.ZstdCompressor().compress(bytes(64 << 20)), 400, "bad_frame"),
        ("deflate", zlib.compress(frame([]))[:-3], 400, "bad_frame"),
        ("deflate", zlib.compress(frame([])) + b"more", 400, "bad_frame"),
    ],
    ids=["unknown", "not gzip", "not zstd", "gzip bomb", "zstd bomb", "cut", "too long"],
)
def test_a_damaged_or_swollen_body_is_a_bad_frame(
    server: RestServer, encoding: str, body: bytes, status: int, code: str
) -> None:
    """What cannot be unpacked, or grows past what it announced, is refused."""
    response = server.call("POST", rest.SYNC, data=body, headers={"Content-Encoding": encoding})
    assert response.status_code == status, response.text
    assert response.json()["code"] == code


def test_a_bomb_behind_a_manifest_is_stopped_at_what_was_announced(server: RestServer) -> None:
    """Compressed bytes over the manifest's sum end the frame; what was announced is kept."""
    run, _ = server.claim()
    plain = frame([append(run, "outputs/a", b"abc")]) + bytes(200 << 20)
    body = zstandard.ZstdCompressor().compress(plain)
    response = server.call("POST", rest.SYNC, data=body, headers={"Content-Encoding": "zstd"})
    assert response.status_code == 400
    assert "longer than its manifest" in response.json()["detail"]


def test_one_bad_operation_does_not_stop_the_others(server: RestServer) -> None:
    """A frame answers one result for each operation, in order; the good ones are done."""
    run, _ = server.claim()
    bad = {"run": run, "attempt": 1, "path": "../x", "op": "append", "offset": 0, "length": 2}
    results = server.sync(
        [append(run, "logs/a", b"one"), (bad, b"??"), append(run, "logs/b", b"two")]
    )
    assert [item.get("error") for item in results] == [None, "unsafe_path", None]
    assert server.call("GET", rest.artifact(run, "logs/b")).content == b"two"


def test_a_large_body_goes_past_the_parser_and_the_connection_is_used_again(
    server: RestServer,
) -> None:
    """Bodies of several MiB and small ones take turns on one connection, whole each time."""
    run, _ = server.claim()
    offset = 0
    digest = hashlib.sha256()
    for length in (5_000_001, 10, 1_048_576, 3_333_333, 1_048_575, 7):
        data = bytes([length % 251]) * length
        results = server.sync([append(run, "outputs/big", data, offset)])
        offset += length
        digest.update(data)
        assert results == [{"offset": offset, "sealed": False, "retryable": False}]
    fetched = server.call("GET", rest.artifact(run, "outputs/big"))
    assert hashlib.sha256(fetched.content).hexdigest() == digest.hexdigest()


def test_ranges_of_a_file(server: RestServer) -> None:
    """Range, open and from the end, several, 416, If-Range, and 304 for what is known."""
    run, _ = server.claim()
    data = bytes(range(256)) * 10
    path = rest.artifact(run, "outputs/data_files/a.bin")
    server.put_file(run, "outputs/data_files/a.bin", data)
    whole = server.call("GET", path)
    tag = whole.headers["etag"]
    assert tag == f'"{hashlib.sha256(data).hexdigest()}"'
    assert whole.headers["x-content-type-options"] == "nosniff"
    for text, part in (("0-9", data[:10]), ("2550-", data[2550:]), ("-3", data[-3:])):
        answer = server.call("GET", path, headers={"Range": f"bytes={text}"})
        assert (answer.status_code, answer.content) == (206, part), text
    assert server.call("GET", path, headers={"Range": "bytes=0-1,5-6"}).status_code == 206
    assert server.call("GET", path, headers={"Range": "bytes=9999-"}).status_code == 416
    fits = {"Range": "bytes=0-1", "If-Range": tag}
    assert server.call("GET", path, headers=fits).status_code == 206
    changed = {"Range": "bytes=0-1", "If-Range": '"old"'}
    assert server.call("GET", path, headers=changed).status_code == 200
    assert server.call("GET", path, headers={"If-None-Match": tag}).status_code == 304
    head = server.call("HEAD", path)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(data)))
    for wrong in ("../../../secret.key", "/etc/passwd", "nothing"):
        assert server.call("GET", rest.artifact(run, wrong)).status_code in (404, 422), wrong


def test_the_archive_holds_every_file(server: RestServer) -> None:
    """The zip is whole, with odd names, empty and large files."""
    run, _ = server.claim()
    files = {f"outputs/data_files/{name}": name.encode() * 100 for name in ODD}
    files |= {"logs/empty": b"", "outputs/data_files/zeros": bytes(3 << 20)}
    for path, data in files.items():
        server.put_file(run, path, data)
    answer = server.call("GET", f"{rest.simulation(run)}/archive")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_a_log_is_read_from_an_offset(server: RestServer) -> None:
    """X-Offset is where to go on, X-Size how much there is; a log that is not there is empty."""
    run, _ = server.claim()
    path = f"{rest.simulation(run)}/logs"
    empty = server.call("GET", path)
    assert (empty.content, empty.headers["x-offset"], empty.headers["x-size"]) == (b"", "0", "0")
    server.sync([append(run, "logs/main.log", b"0123456789")])
    part = server.call("GET", f"{path}?offset=2&limit=3")
    assert (part.content, part.headers["x-offset"], part.headers["x-size"]) == (b"234", "5", "10")
    beyond = server.call("GET", f"{path}?offset=99")
    assert (beyond.status_code, beyond.content) == (200, b"")


def test_a_followed_log_ends_with_its_run(server: RestServer) -> None:
    """follow=true brings lines as they come, from the beginning, until the run has ended."""
    run, _ = server.claim()
    got: list[bytes] = []

    def has_come(text: bytes) -> bool:
        return b"".join(got) == text

    def follow() -> None:
        with server.session.get(
            f"{server.url}{rest.simulation(run)}/logs?follow=true",
            headers={"Authorization": f"Bearer {server.admin}"},
            stream=True,
            timeout=30,
        ) as answer:
            got.extend(answer.iter_content(None))

    thread = threading.Thread(target=follow)
    thread.start()
    lines = [f"line {number}\n".encode() for number in range(5)]
    for number, line in enumerate(lines):
        sent = b"".join(lines[:number])
        server.sync([append(run, "logs/main.log", line, len(sent))])
        wait_until(partial(has_come, sent + line), on_timeout=lambda: got)
    server.report(run, state="running")
    server.report(run, state="failed", exit_code=1)
    thread.join(30)
    assert not thread.is_alive()
    assert b"".join(got) == b"".join(lines)


def test_a_followed_log_ends_with_the_token_of_who_follows(server: RestServer) -> None:
    """What is written after the token was revoked is told to nobody who came with it."""
    run, _ = server.claim()
    made = server.value("POST", rest.TOKENS, json={"name": "follows"})
    got: list[bytes] = []

    def follow() -> None:
        with requests.get(
            f"{server.url}{rest.simulation(run)}/logs?follow=true",
            headers={"Authorization": f"Bearer {made['token']}"},
            stream=True,
            timeout=30,
        ) as answer:
            got.extend(answer.iter_content(None))

    thread = threading.Thread(target=follow)
    thread.start()
    server.sync([append(run, "logs/main.log", b"before\n")])
    wait_until(lambda: b"".join(got) == b"before\n", on_timeout=lambda: got)
    server.value("DELETE", rest.token(made["id"]))
    server.sync([append(run, "logs/main.log", b"after\n", 7)])
    thread.join(20)
    assert not thread.is_alive()
    assert b"".join(got) == b"before\n"


def test_who_is_never_done_reading_is_asked_for_their_token_again(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that always has more, as a slow reader's, ends with the token too."""
    monkeypatch.setattr(logs, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(logs._Reader, "read", lambda *_: (b"more\n", 5))
    run, _ = server.claim()
    made = server.value("POST", rest.TOKENS, json={"name": "follows"})
    with requests.get(
        f"{server.url}{rest.simulation(run)}/logs?follow=true",
        headers={"Authorization": f"Bearer {made['token']}"},
        stream=True,
        timeout=30,
    ) as answer:
        pieces = answer.iter_content(5)
        assert next(pieces) == b"more\n"
        server.value("DELETE", rest.token(made["id"]))
        until = time.monotonic() + 20.0
        assert any(time.monotonic() > until or not piece for piece in pieces) is False


def test_series_are_read_line_by_line(server: RestServer) -> None:
    """Points come from where one stopped; a line that is half there waits."""
    run, _ = server.claim()
    points = [{"series": "residual/Ux", "x": n, "y": 10.0**-n} for n in range(4)]
    text = "".join(json.dumps(point) + "\n" for point in points).encode()
    path = f"{rest.simulation(run)}/series"
    assert server.value("GET", path) == {"data": [], "next_line": 0}
    server.sync([append(run, "metadata/series.jsonl", text[:-5])])
    assert server.value("GET", path) == {"data": points[:3], "next_line": 3}
    server.sync([append(run, "metadata/series.jsonl", text[-5:], len(text) - 5)])
    rest_of_it = server.value("GET", f"{path}?after_line=3")
    assert rest_of_it == {"data": points[3:], "next_line": 4}


def test_results_keep_their_types_and_nan_stays_readable(server: RestServer) -> None:
    """Numbers, texts, booleans and lists come back as they were; NaN becomes a text."""
    run, _ = server.claim()
    values = [1.5, 7, True, "text", [1, 2], {"a": 1}]
    results = [{"name": f"v{n}", "value": value} for n, value in enumerate(values)]
    body = {"reports": [{"run": run, "attempt": 1, "results": results}]}
    server.value("POST", rest.REPORTS, json=body)
    found = server.value("GET", f"{rest.simulation(run)}/results")["data"]
    assert [item["value"] for item in found] == values
    nan = b'{"reports": [{"run": "%s", "attempt": 1, "results": [{"name": "r", "value": NaN}]}]}'
    server.value("POST", rest.REPORTS, data=nan % run.encode())
    answer = server.call("GET", f"{rest.simulation(run)}/results")
    assert b"NaN" not in answer.content.replace(b'"NaN"', b"")


def test_events_tell_the_story_in_order(server: RestServer) -> None:
    """A run's events have rising ids, and ``after`` goes on behind one."""
    run, _ = server.claim()
    server.report(run, state="running")
    server.report(run, state="failed", exit_code=3)
    events = server.value("GET", f"{rest.simulation(run)}/events")["data"]
    types = [event["type"].removeprefix("simulation/") for event in events]
    assert types[0] == "requested"
    assert types[-1] == "failed"
    ids = [event["id"] for event in events]
    assert ids == sorted(ids)
    later = server.value("GET", f"{rest.simulation(run)}/events?after={ids[-2]}")["data"]
    assert [event["id"] for event in later] == ids[-1:]
    everything = server.value("GET", f"{rest.EVENTS}?after={ids[-1] - 1}&limit=1")["data"]
    assert everything[0]["id"] == ids[-1]


def test_a_whole_run_over_rest(server: RestServer) -> None:
    """Queue, lease, fetch, report, sync, seal, complete: nothing but the documented calls."""
    model = server.model()
    run = server.value(
        "POST",
        rest.SIMULATIONS,
        json={"model_id": model["id"], "parameters": {"inputs": {"re": 100}}, "name": "whole"},
    )["id"]
    (grant,) = server.value("POST", rest.LEASES, json={"agent": "a", "max": 10})
    assert grant["run"] == run
    token = grant["token"]
    assert server.value("GET", rest.attempt(run, 1), token=token)["parameters"]
    bundle = server.call("GET", grant["bundle"]["url"], token=token)
    assert hashlib.sha256(bundle.content).hexdigest() == grant["bundle"]["sha256"]
    assert server.report(run, token=token, state="running")["state"] == "running"
    server.sync([append(run, "logs/main.log", b"hi\n")], token=token)
    refused = server.report(run, token=token, state="completed", exit_code=0)
    assert (refused["error"], refused["unsealed"]) == ("not_sealed", ["logs/main.log"])
    digest = hashlib.sha256(b"hi\n").hexdigest()
    seal = {"run": run, "attempt": 1, "path": "logs/main.log", "op": "seal", "size": 3}
    assert server.sync([({**seal, "sha256": digest}, b"")], token=token)[0]["sealed"]
    assert server.report(run, token=token, state="completed", exit_code=0)["state"] == "completed"
    shown = server.value("GET", rest.simulation(run))
    assert (shown["status"], shown["exit_code"]) == ("completed", 0)
    blocks = server.value("GET", f"{rest.attempt(run, 1)}/blocks?path=logs/main.log")
    assert blocks["hashes"] == [digest]


def sealed_with_its_end(run: str, digest: str, **report: Any) -> bytes:
    """Return a frame that appends ``hi``, seals it as *digest*, and reports the end of the run."""
    op, data = append(run, "logs/main.log", b"hi\n")
    seal = {"run": run, "attempt": 1, "path": "logs/main.log", "op": "seal", "size": 3}
    said = {"run": run, "attempt": 1, "state": "completed", "exit_code": 0, **report}
    manifest = {"v": 1, "ops": [op, {**seal, "sha256": digest}], "reports": [said]}
    return encode_frame(manifest) + data


def test_a_frame_reports_the_end_of_what_it_seals(server: RestServer) -> None:
    """The report is taken after the operations; a repeat of the whole frame is harmless."""
    run, _ = server.claim()
    server.report(run, state="running")
    body = sealed_with_its_end(run, DIGEST)
    for _ in range(2):
        answer = server.value("POST", rest.SYNC, data=body)
        assert answer["results"][1]["sealed"]
        assert [item["state"] for item in answer["reports"]] == ["completed"]
    assert server.value("GET", f"{rest.simulation(run)}/status")["status"] == "completed"


def test_a_frames_seals_and_reports_are_stored_together(server: RestServer) -> None:
    """The last files of a run and its end are one transaction: one flush of the database."""
    run, _ = server.claim()
    server.report(run, state="running")
    batches: list[list[str]] = []
    server.services.feed.subscribe(lambda events: batches.append([e.type for e in logged(events)]))
    server.value("POST", rest.SYNC, data=sealed_with_its_end(run, DIGEST))
    assert [batch for batch in batches if batch] == [
        [live.SEALED, live.FREED, live.COMPLETED],
    ]


@pytest.mark.parametrize("stored", [False, True])
def test_seals_stand_when_what_came_with_them_cannot_be_stored(
    server: RestServer, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """Whether it was stored or not is found out; nothing is told twice."""
    run, _ = server.claim()
    server.report(run, state="running")
    real, failures = SqlStore.change, [ServerUnavailable("gone")]

    def change(*given: Any, **more: Any) -> Any:
        fails = more.get("sealed") is not None and failures
        if stored or not fails:
            answers = real(*given, **more)
        if fails:
            raise failures.pop()
        return answers

    monkeypatch.setattr(SqlStore, "change", change)
    answer = server.value("POST", rest.SYNC, data=sealed_with_its_end(run, DIGEST))
    assert answer["results"][1]["sealed"]
    assert [item["state"] for item in answer["reports"]] == ["completed"]
    assert failures == []
    events = server.value("GET", f"{rest.simulation(run)}/events")["data"]
    assert [event["type"] for event in events][-3:] == [live.SEALED, live.FREED, live.COMPLETED]


def logged(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.id is not None]


def test_a_report_is_not_heard_when_an_operation_failed(server: RestServer) -> None:
    """What is not in place is not the end; reports on other attempts are taken."""
    run, _ = server.claim()
    server.report(run, state="running")
    answer = server.value("POST", rest.SYNC, data=sealed_with_its_end(run, "0" * 64))
    assert answer["results"][1]["error"] == "digest_mismatch"
    assert answer["reports"] == [None]
    assert server.value("GET", f"{rest.simulation(run)}/status")["status"] == "running"
    body = sealed_with_its_end(run, "0" * 64, attempt=2)
    assert server.value("POST", rest.SYNC, data=body)["reports"][0]["error"] == "not_found"


@pytest.mark.parametrize("reports", [7, [7], [{"run": 7}], None])
def test_a_frame_with_bad_reports_is_refused(server: RestServer, reports: Any) -> None:
    """Before any of its operations is carried out."""
    run, _ = server.claim()
    op, data = append(run, "logs/main.log", b"hi\n")
    manifest = {"v": 1, "ops": [op], "reports": reports}
    answer = server.call("POST", rest.SYNC, data=encode_frame(manifest) + data)
    assert answer.status_code == 422
    assert not server.value("GET", rest.attempt_files(run, 1))["data"]


def test_a_cancel_request_reaches_the_runner(server: RestServer) -> None:
    """The answer is honest until the runner has stopped; renewals carry the command."""
    run, lease = server.claim()
    server.report(run, state="running")
    asked = server.value("POST", f"{rest.simulation(run)}/cancel")
    assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    held = {"leases": [{"run": run, "attempt": 1}]}
    (renewed,) = server.value("PUT", rest.LEASES, json=held, token=lease["token"])
    assert renewed["commands"] == ["cancel"]
    server.report(run, state="cancelled")
    assert server.value("GET", f"{rest.simulation(run)}/status")["status"] == "cancelled"
