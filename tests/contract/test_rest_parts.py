"""Parts of the server by themselves: frames in any pieces, joined log lines, zips, addresses."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physicsrunner.errors import BadFrame, TooLarge
from physicsrunner.server.decoding import decoder
from physicsrunner.server.downloads import archive
from physicsrunner.server.hub import join_logs
from physicsrunner.server.intake import Intake
from physicsrunner.service.attempts import Taking
from physicsrunner.wire import live
from physicsrunner.wire.frames import encode_frame
from physicsrunner.wire.live import Event
from physicsrunner.wire.messages import SyncOp, SyncResult
from tests.contract.rest_server import frame


class Kept:
    """A writer that keeps the bytes."""

    def __init__(self, ops: Sequence[SyncOp]) -> None:
        self.ops = ops
        self.data = b""
        self.aborted = False
        self.taking: Taking | None = None

    def feed(self, data: bytes) -> None:
        self.data += data

    def finish(self, taking: Taking | None = None) -> Sequence[SyncResult]:
        self.taking = taking
        return [SyncResult(offset=0) for _ in self.ops]

    def abort(self) -> None:
        self.aborted = True


class Opened:
    """Opens one frame and remembers it."""

    def __init__(self) -> None:
        self.writer: Kept | None = None

    def __call__(self, ops: list[SyncOp]) -> Kept:
        self.writer = Kept(ops)
        return self.writer


def op(length: int, **more: Any) -> dict[str, Any]:
    """Return an append operation."""
    fields = {"run": "r", "attempt": 1, "path": "a", "op": "append", "offset": 0}
    return {**fields, "length": length, **more}


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(st.binary(max_size=200), max_size=5),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    packed=st.booleans(),
)
def test_a_frame_is_the_same_in_whatever_pieces(
    contents: list[bytes], cuts: list[int], packed: bool
) -> None:
    """Manifest and content are found wherever the line cut them, compressed or not."""
    body = frame([(op(len(data)), data) for data in contents])
    wire = zlib.compress(body) if packed else body
    opened = Opened()
    intake = Intake(opened, decoder("deflate" if packed else None), limit=10_000)
    at, turn = 0, 0
    while at < len(wire):
        length = cuts[turn % len(cuts)]
        intake.take([wire[at : at + length]])
        at, turn = at + length, turn + 1
    assert len(intake.finish()) == len(contents)
    assert opened.writer is not None
    assert opened.writer.data == b"".join(contents)
    assert [item.length for item in opened.writer.ops] == [len(data) for data in contents]


@pytest.mark.parametrize(
    "wrong",
    [
        op(1, op="delete"),
        op(-1),
        op(1, attempt="1"),
        op(1, attempt=True),
        op(1, run=7),
        op(1, offset=None),
        op(1, op="seal"),
        {"run": "r"},
        "text",
        None,
    ],
)
def test_a_wrong_operation_is_refused_before_any_content(wrong: Any) -> None:
    """The manifest is checked as a whole; nothing is opened for a bad one."""
    opened = Opened()
    intake = Intake(opened, decoder(None), limit=100)
    with pytest.raises(BadFrame):
        intake.take([encode_frame({"v": 1, "ops": [wrong]}) + b"x"])
    assert opened.writer is None


def test_a_frame_that_ends_early_is_aborted_with_what_came() -> None:
    """Too few bytes: the writer keeps what came. Too many: the frame is bad."""
    opened = Opened()
    intake = Intake(opened, decoder(None), limit=100)
    intake.take([frame([(op(5), b"abc")])])
    with pytest.raises(BadFrame, match="2 bytes before"):
        intake.finish()
    assert opened.writer is not None
    assert (opened.writer.data, opened.writer.aborted) == (b"abc", True)
    with pytest.raises(BadFrame, match="longer"):
        Intake(Opened(), decoder(None), limit=100).take([frame([(op(1), b"abc")])])
    with pytest.raises(TooLarge):
        Intake(Opened(), decoder(None), limit=100).take([frame([(op(101), b"")])])


def line(text: str, offset: int, run: str = "r") -> Event:
    """Return a log event."""
    return Event(live.LOG, run, 1, None, 0.0, {"path": "a", "offset": offset, "text": text})


def test_log_lines_that_follow_each_other_are_joined() -> None:
    """Only of one file, only without a gap, and never past a logged fact."""
    fact = Event(live.SEALED, "r", 1, None, 0.0, {}, id=1)
    events = [line("ä\n", 0), line("x", 0, "s"), line("b\n", 3), line("c", 9), fact, line("d", 10)]
    joined = join_logs(events)
    texts = [event.data.get("text") for event in joined]
    assert texts == ["ä\nb\n", "x", "c", None, "d"]


def test_an_archive_leaves_out_what_has_gone(tmp_path: Path) -> None:
    """A file that was removed since it was listed does not spoil the zip."""
    there = tmp_path / "there"
    there.write_bytes(b"data" * 1000)
    data = b"".join(archive([("gone", tmp_path / "gone"), ("there", there)]))
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.namelist() == ["there"]
        assert found.read("there") == b"data" * 1000
        assert found.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
