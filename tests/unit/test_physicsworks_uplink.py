"""Our side of the PhysicsWorks wire, against the stand-in's calls without a network."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.exceptions import NewConnectionError

from physicsrunner.client.physicsworks import (
    PhysicsWorksTarget,
    PhysicsWorksUplink,
    abort_requested,
)
from physicsrunner.client.uplink import Outgoing
from physicsrunner.core.state import RunState
from physicsrunner.errors import NotFound, ServerUnavailable
from physicsrunner.wire.messages import Failure, HeldLease, Report, Result, SyncOp, SyncResult
from tests.support.physicsworks_standin import CHUNK, StandIn, _read

LOG = "logs/solver.log"
FIELD = "outputs/data_files/field.vtu"


class Line(requests.Session):
    """A session whose requests go straight to the stand-in, with what *outcomes* says."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self.standin = standin
        self.outcomes: list[str] = []
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """Carry out one request, or fail as the next outcome says."""
        outcome = self.outcomes.pop(0) if self.outcomes else "done"
        path = urlsplit(url).path
        if outcome == "refused":
            raise requests.ConnectionError(NewConnectionError(None, "refused"))  # type: ignore[arg-type]
        answer = requests.Response()
        if outcome == "busy":
            answer.status_code = 503
            answer.headers["Retry-After"] = "7"
            return answer
        if options.get("data") is not None:
            fields, chunk = _read(options["data"], options["headers"]["Content-Type"])
        else:
            fields, chunk = json.loads(json.dumps(options.get("json") or {})), b""
        self.sent.append((path, fields))
        status, value = self.standin.answer(method, path, fields, chunk)
        if outcome == "lost":
            raise requests.ConnectionError("reset by peer")
        answer.status_code = 500 if outcome == "broken" else status
        answer._content = json.dumps(value).encode()
        return answer


class Pair:
    """An uplink and the stand-in behind it."""

    def __init__(self, folder: Path) -> None:
        self.standin = StandIn(folder / "server")
        self.line = Line(self.standin)
        run = self.standin._create("s")["_id"]
        target = PhysicsWorksTarget("p", "s", run=run)
        self.ledger = folder / "ledger.jsonl"
        self.folder = folder
        self.run = run
        self.uplink = self.connect(target)

    def connect(self, target: PhysicsWorksTarget) -> PhysicsWorksUplink:
        """Make an uplink, as a runner that starts (again) does."""
        return PhysicsWorksUplink(
            "http://standin/",
            "t",
            target,
            now=lambda: 1000.0,
            ledger=self.ledger,
            session=self.line,
        )

    def restart(self) -> None:
        """Forget all that only lives in memory."""
        self.uplink = self.connect(self.uplink.target)

    def append(self, path: str, source: Path, offset: int, length: int) -> SyncResult:
        """Send bytes of *source*."""
        op = SyncOp(self.run, 1, path, "append", offset=offset, length=length)
        return self.uplink.send([Outgoing(op, source=source)])[0]

    def seal(self, path: str, source: Path) -> SyncResult:
        """Seal *path* as *source* is now."""
        data = source.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        op = SyncOp(self.run, 1, path, "seal", size=len(data), sha256=sha256)
        return self.uplink.send([Outgoing(op, source=source)])[0]

    def deliver(self, path: str, source: Path) -> None:
        """Do what the sync does: ask what is stored, append the rest, seal; until it is sealed."""
        doubt = False  # the same size, and other bytes
        for _ in range(50):
            try:
                known = self.uplink.files(self.run, 1).get(path)
                offset = known.size if known else 0
                size = source.stat().st_size
                if offset > size or doubt:
                    offset = 0
                if known is None or known.size != size or doubt:
                    self.append(path, source, offset, size - offset)
                sealed = self.seal(path, source)
                if sealed.sealed:
                    return
                doubt = sealed.error == "digest_mismatch"
            except ServerUnavailable:
                continue
        raise AssertionError(f"{path} was never sealed")


def test_other_bytes_of_the_same_size_are_sent_anew(tmp_path: Path) -> None:
    """A sealed file that was rewritten to its old size, unseen, is sealed as it is now."""
    pair = Pair(tmp_path)
    source = tmp_path / "field.vtu"
    path = "outputs/data_files/field.vtu"
    source.write_bytes(b"old")
    pair.deliver(path, source)
    source.write_bytes(b"new")
    pair.restart()
    pair.deliver(path, source)
    (file,) = [f for f in pair.uplink.files(pair.run, 1).values() if f.path == path]
    assert (file.size, file.sealed) == (3, True)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """An uplink and its stand-in."""
    return Pair(tmp_path)


def test_a_log_is_sent_as_it_grows_and_is_named(pair: Pair, tmp_path: Path) -> None:
    """Appends go on where the last one ended, and the run document lists the log once."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\ntwo\n")
    assert pair.append(LOG, source, 0, 4).offset == 4
    assert pair.append(LOG, source, 4, 4).offset == 8
    assert pair.seal(LOG, source).sealed

    run = pair.standin.run()
    assert [entry["name"] for entry in run["logs"]] == ["solver"]
    assert pair.standin.stored(run["logs"][0]["file"]) == b"one\ntwo\n"
    assert pair.standin.problems == []


def test_a_gap_is_answered_with_the_offset(pair: Pair, tmp_path: Path) -> None:
    """An append that does not begin where the file ends sends nothing."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\ntwo\n")
    pair.append(LOG, source, 0, 4)

    assert pair.append(LOG, source, 6, 2) == SyncResult(4, error="offset_mismatch")


@pytest.mark.parametrize("outcome", ["lost", "broken"])
def test_an_append_with_an_unknown_outcome_begins_anew(
    pair: Pair, tmp_path: Path, outcome: str
) -> None:
    """Nobody knows whether the bytes are there: the file goes again under a fresh stored name."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\ntwo\n")
    pair.append(LOG, source, 0, 4)
    pair.line.outcomes = [outcome]

    with pytest.raises(ServerUnavailable):
        pair.append(LOG, source, 4, 4)

    assert LOG not in pair.uplink.files(pair.run, 1)
    pair.deliver(LOG, source)
    run = pair.standin.run()
    assert len(run["logs"]) == 1
    assert pair.standin.stored(run["logs"][0]["file"]) == b"one\ntwo\n"


@pytest.mark.parametrize("outcome", ["busy", "refused"])
def test_an_append_that_was_surely_not_taken_goes_on(
    pair: Pair, tmp_path: Path, outcome: str
) -> None:
    """503 and a refused connection leave the file as it was: nothing is sent twice."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\ntwo\n")
    pair.append(LOG, source, 0, 4)
    pair.line.outcomes = [outcome]

    with pytest.raises(ServerUnavailable) as caught:
        pair.append(LOG, source, 4, 4)

    assert getattr(caught.value, "retry_after", None) == (7.0 if outcome == "busy" else None)
    assert pair.uplink.files(pair.run, 1)[LOG].size == 4
    pair.deliver(LOG, source)
    assert len({fields["filename"] for path, fields in pair.line.sent if "append" in path}) == 1


def test_text_and_bytes_are_told_apart(pair: Pair, tmp_path: Path) -> None:
    """A piece that ends inside a character is not called text: a server may decode text."""
    source = tmp_path / "solver.log"
    source.write_bytes("é".encode())
    pair.append(LOG, source, 0, 1)
    pair.append(LOG, source, 1, 1)
    assert pair.seal(LOG, source).sealed

    assert pair.standin.stored(pair.standin.run()["logs"][0]["file"]) == "é".encode()


def test_chunks_go_on_where_a_call_failed(pair: Pair, tmp_path: Path) -> None:
    """A chunk whose answer was lost is sent again; those before it are not."""
    source = tmp_path / "field.vtu"
    source.write_bytes(bytes(range(256)) * (2 * CHUNK // 256))
    pair.append(FIELD, source, 0, 2 * CHUNK)
    pair.line.outcomes = ["done", "lost"]
    with pytest.raises(ServerUnavailable):
        pair.seal(FIELD, source)

    assert pair.seal(FIELD, source).sealed

    chunks = [fields["chunkIndex"] for path, fields in pair.line.sent if "chunks" in path]
    assert chunks == [0, 1, 1, 2]
    (entry,) = pair.standin.run()["downloadables"]
    assert (entry["name"], entry["size"]) == ("field.vtu", 2 * CHUNK)
    assert pair.standin.stored(entry["file"]) == source.read_bytes()


def test_a_result_that_changed_while_it_was_sent_is_not_sealed(pair: Pair, tmp_path: Path) -> None:
    """What was sent must be what the seal names; otherwise it goes anew."""
    source = tmp_path / "field.vtu"
    source.write_bytes(b"before")
    pair.append(FIELD, source, 0, 6)
    op = SyncOp(pair.run, 1, FIELD, "seal", size=6, sha256=hashlib.sha256(b"before").hexdigest())
    source.write_bytes(b"after!")

    assert pair.uplink.send([Outgoing(op, source=source)])[0].error == "digest_mismatch"

    pair.deliver(FIELD, source)
    (entry,) = pair.standin.run()["downloadables"]
    assert pair.standin.stored(entry["file"]) == b"after!"


def test_arrays_that_were_not_taken_go_before_the_end(pair: Pair, tmp_path: Path) -> None:
    """A file whose naming failed is named before the run is finished."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\n")
    pair.line.outcomes = ["done", "busy", "busy"]
    pair.deliver(LOG, source)
    assert "logs" not in pair.standin.run()

    (answer,) = pair.uplink.report([Report(pair.run, 1, state=RunState.COMPLETED)])

    assert answer.error is None
    run = pair.standin.run()
    assert (run["status"], run["progress"], len(run["logs"])) == ("finished", 100, 1)


def test_a_run_does_not_finish_with_files_that_are_not_sealed(pair: Pair, tmp_path: Path) -> None:
    """The answer names them, and the status is not sent."""
    source = tmp_path / "solver.log"
    source.write_bytes(b"one\n")
    pair.append(LOG, source, 0, 4)

    (answer,) = pair.uplink.report([Report(pair.run, 1, state=RunState.COMPLETED)])

    assert (answer.error, answer.unsealed) == ("not_sealed", [LOG])
    assert pair.standin.run()["status"] == "pending"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report("", 1, state=RunState.PREPARING), ("running", 0.0, "")),
        (Report("", 1, progress=41.234, label="half"), ("running", 41.23, "half")),
        (Report("", 1, state=RunState.COMPLETED), ("finished", 100, "finished")),
        (Report("", 1, state=RunState.CANCELLED), ("error", 0.0, "Aborted by user")),
        (
            Report("", 1, state=RunState.FAILED, error=Failure("program_failed", "exit code 3")),
            ("error", 0.0, "exit code 3"),
        ),
        (
            Report("", 1, state=RunState.TIMEOUT, error=Failure("timeout", "after 5 s")),
            ("error", 0.0, "after 5 s"),
        ),
    ],
)
def test_states_have_words_of_this_wire(
    pair: Pair, report: Report, expected: tuple[str, float, str]
) -> None:
    """Statuses are pending, running, finished and error; the label says more."""
    pair.uplink.report([report])

    run = pair.standin.run()
    assert (run["status"], run["progress"], run["statusLabel"]) == expected


def test_results_are_scalars_booleans_and_texts(pair: Pair) -> None:
    """What JSON has no word for travels as text."""
    results = [
        Result("a", 1.5, "scalar", "K"),
        Result("b", True, "boolean"),
        Result("c", "steel", "ascii"),
        Result("d", float("nan")),
        Result("e", [1, 2], "json"),
    ]
    pair.uplink.report([Report(pair.run, 1, results=results)])

    assert pair.standin.run()["results"] == [
        {"name": "a", "type": "scalar", "value": 1.5},
        {"name": "b", "type": "boolean", "value": True},
        {"name": "c", "type": "ascii", "value": "steel"},
        {"name": "d", "type": "ascii", "value": "NaN"},
        {"name": "e", "type": "ascii", "value": "[1, 2]"},
    ]


def test_the_heartbeat_brings_an_abort(pair: Pair) -> None:
    """A server may say abort in the run document that answers a heartbeat."""
    (before,) = pair.uplink.renew([HeldLease(pair.run, 1)])
    pair.standin.runs[pair.run]["abort"] = True
    (after,) = pair.uplink.renew([HeldLease(pair.run, 1)])

    assert (before.renew_s, before.commands, after.commands) == (10.0, [], ["cancel"])


def test_an_abort_in_the_configuration(tmp_path: Path) -> None:
    """Only a truthy abort in a whole file asks for a stop."""
    config = tmp_path / "config.json"
    assert not abort_requested(config)
    for text, asked in (
        ("", False),
        ('{"abort": tr', False),
        ("[]", False),
        ('{"abort": false}', False),
        ('{"abort": true}', True),
    ):
        config.write_text(text)
        assert abort_requested(config) is asked


def test_a_simulation_that_is_not_there(pair: Pair) -> None:
    """A final answer is an error of ours, not a retry."""
    pair.standin.runs.clear()
    with pytest.raises(NotFound):
        pair.uplink._patch({"progress": 1})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("rewrite"), st.binary(max_size=20)),
        st.tuples(st.just("send"), st.sampled_from(["done", "busy", "lost", "broken", "refused"])),
        st.tuples(st.just("seal"), st.just("")),
        st.tuples(st.just("restart"), st.just("")),
    ),
    max_size=15,
)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS, path=st.sampled_from([LOG, "outputs/media/a.png", FIELD]))
def test_any_history_ends_with_equal_bytes(steps: list[tuple[str, Any]], path: str) -> None:
    """Growth, rewrites, faults and restarts, in any order, lose and double nothing."""
    with TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        source = Path(folder) / "source"
        source.touch()
        for step, value in steps:
            if step == "grow":
                with source.open("ab") as file:
                    file.write(value)
            elif step == "rewrite":
                source.write_bytes(value)
            elif step == "send":
                pair.line.outcomes = [value, value]
                known = pair.uplink.files(pair.run, 1).get(path)
                offset = known.size if known else 0
                size = source.stat().st_size
                if offset > size:
                    offset = 0
                with suppress(ServerUnavailable):
                    pair.append(path, source, offset, size - offset)
                pair.line.outcomes = []
            elif step == "seal":
                pair.seal(path, source)
            else:
                pair.restart()
        pair.deliver(path, source)
        pair.uplink.report([Report(pair.run, 1, state=RunState.COMPLETED)])

        kind = {LOG: "logs", FIELD: "downloadables"}.get(path, "media")
        (entry,) = pair.standin.run()[kind]
        assert pair.standin.stored(entry["file"]) == source.read_bytes()
        assert pair.standin.problems == []
