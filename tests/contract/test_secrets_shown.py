"""A secret that main.py prints: covered in live lines, wherever its pieces are cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsrunner.core.run import NewRun
from physicsrunner.wire import live
from physicsrunner.wire.messages import SyncOp
from tests.contract.service_house import House, open_house

SECRET = "s3cr3t-of-the-licence-server"
LOG = f"begin\nkey={SECRET}\nend é\n".encode()
COVERED = LOG.replace(SECRET.encode(), b"*" * len(SECRET))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house that keeps what the feed tells."""
    made = open_house(tmp_path)
    yield made
    made.services.close()


def told(house: House, pieces: list[bytes], *, afresh: bool = False) -> bytes:
    """Send a log in *pieces*, a frame each; return what viewers saw, at its offsets."""
    variables = {"KEY": {"secret": SECRET}}
    wanted = NewRun(configuration={"environment_variables": variables})
    run, grant = house.services.runs.claim(house.admin, wanted, "host")
    bearer, offset, shown = house.bearer(grant), 0, bytearray(len(LOG))
    for piece in pieces:
        if afresh:
            house.services.files._attempts._open.clear()  # as after a start of the server
        op = SyncOp(run.id, 1, "logs/main.log", "append", offset=offset, length=len(piece))
        assert house.sync(bearer, [op], piece)[0].error is None
        offset += len(piece)
    for event in house.told:
        if event.type == live.LOG and event.run == run.id:
            text = event.data["text"].encode()
            shown[event.data["offset"] : event.data["offset"] + len(text)] = text
    path = house.services.files.path(house.admin, run.id, "logs/main.log")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(LOG).digest()
    return bytes(shown)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_printed_secret_is_covered_in_live_lines(house: House, size: int) -> None:
    """However the pieces are cut viewers see the covered log, and the file is main.py's own."""
    pieces = [LOG[start : start + size] for start in range(0, len(LOG), size)]
    seen = told(house, pieces)
    if size > 1:
        assert seen == COVERED
    assert SECRET.encode() not in seen


@pytest.mark.parametrize("cut", [LOG.index(b"s3") + 3, LOG.index(b"server") + 2])
def test_a_secret_is_covered_across_a_start_of_the_server(house: House, cut: int) -> None:
    """What came before is read from the disk: the second half of a value is not shown either."""
    seen = told(house, [LOG[:cut], LOG[cut:]], afresh=True)
    assert b"licence" not in seen
    assert b"server" not in seen
    assert seen.startswith(b"begin\nkey=")
