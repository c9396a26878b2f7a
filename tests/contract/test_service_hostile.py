"""What a faulty or hostile caller sends must harm nobody else, nor a run that is published."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.core.run import NewRun
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest, ServerUnavailable
from physicsrunner.server.bodies import dumps
from physicsrunner.wire import live
from physicsrunner.wire.messages import LeaseGrant, Report, SyncOp
from tests.contract.service_house import (
    House,
    append,
    errors,
    open_house,
    seal,
    sha,
    whole,
    write,
)

DATA = "outputs/data_files/u.vtu"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = open_house(tmp_path)
    yield opened
    opened.services.close()


def local(house: House, grant: LeaseGrant, path: str) -> Path:
    runs = house.services.data / "simulations"
    return runs / grant.run / "attempts" / str(grant.attempt) / path


def say(house: House, grant: LeaseGrant, **said: Any) -> str | None:
    report = replace(Report(grant.run, grant.attempt), **said)
    return house.services.leases.report(house.bearer(grant), [report])[0].error


def completed(house: House) -> LeaseGrant:
    """Return a run that is completed and published, with one file of data and records."""
    grant, bearer = house.claimed()
    house.put(bearer, grant, {DATA: b"result", "metadata/debug/runner.log": b"log\n"})
    assert say(house, grant, state=RunState.RUNNING) is None
    assert say(house, grant, state=RunState.COMPLETED, exit_code=0) is None
    return grant


# -- a published attempt ---------------------------------------------------------------------------


def changes(grant: LeaseGrant) -> dict[str, tuple[list[SyncOp], bytes]]:
    """Return every way to change the sealed file DATA, with the bytes that go along."""

    def op(kind: str, path: str = DATA, **fields: Any) -> SyncOp:
        return SyncOp(grant.run, grant.attempt, path, kind, **fields)

    new = "outputs/new"
    return {
        "append": ([append(grant, DATA, 6, 3)], b"add"),
        "write": ([write(grant, DATA, 0, 6)], b"forged"),
        "truncate": ([op("truncate", size=2)], b""),
        "remove": ([op("remove")], b""),
        "rename": ([op("rename", to="outputs/elsewhere")], b""),
        "replace": ([append(grant, new, 0, 3), op("rename", new, to=DATA)], b"new"),
    }


@pytest.mark.parametrize("way", ["append", "write", "truncate", "remove", "rename", "replace"])
def test_sealed_files_of_a_published_attempt_do_not_change(house: House, way: str) -> None:
    """After a run has completed, no operation changes or takes away a sealed file of it."""
    grant = completed(house)
    ops, data = changes(grant)[way]
    results = house.sync(house.bearer(grant), ops, data)
    assert results[-1].error == "already_published"
    assert not results[-1].retryable
    assert local(house, grant, DATA).read_bytes() == b"result"
    found = house.services.files.stat(house.admin, grant.run, DATA)
    assert (found.sealed, found.sha256) == (True, sha(b"result"))


def test_a_repeat_after_publication_is_success(house: House) -> None:
    """The same bytes and the same seal again, after a lost answer, are no change."""
    grant = completed(house)
    results = house.sync(house.bearer(grant), whole(grant, DATA, b"result"), b"result")
    assert errors(results) == [None, None]
    assert results[1].sealed


def test_the_runners_own_records_and_new_files_still_arrive(house: House) -> None:
    """Late lines of our own log and a file that came late are taken after publication too."""
    grant = completed(house)
    ops = [
        append(grant, "metadata/debug/runner.log", 4, 5),
        *whole(grant, "outputs/late", b"late"),
    ]
    assert errors(house.sync(house.bearer(grant), ops, b"more\nlate")) == [None] * 3


def test_files_of_a_run_that_failed_still_change(house: House) -> None:
    """A run that did not complete publishes nothing: its late files are taken as they come."""
    grant, bearer = house.claimed()
    house.put(bearer, grant, {DATA: b"part"})
    assert say(house, grant, state=RunState.FAILED, exit_code=1) is None
    assert errors(house.sync(bearer, [append(grant, DATA, 4, 3)], b"end")) == [None]


def test_publication_outlives_a_restart(tmp_path: Path) -> None:
    """What is published is protected by the record, not by the memory of a process."""
    first = open_house(tmp_path)
    grant = completed(first)
    first.services.close()
    again = open_house(tmp_path)
    try:
        results = again.sync(again.bearer(grant), [write(grant, DATA, 0, 1)], b"X")
        assert errors(results) == ["already_published"]
    finally:
        again.services.close()


def test_no_file_is_opened_again_while_its_run_completes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that begins between the look at the seals and the commit comes too late."""
    grant, bearer = house.claimed()
    house.put(bearer, grant, {DATA: b"result"})
    assert say(house, grant, state=RunState.RUNNING) is None
    writer = house.services.files.open_frame(bearer, [write(grant, DATA, 0, 6)])
    assert say(house, grant, state=RunState.COMPLETED, exit_code=0) is None
    writer.feed(b"forged")
    assert errors(writer.finish()) == ["already_published"]
    assert local(house, grant, DATA).read_bytes() == b"result"


# -- numbers and texts -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e300])
@pytest.mark.parametrize("field", ["progress", "eta_s", "time"])
def test_numbers_that_are_none_harm_no_report(house: House, field: str, value: float) -> None:
    """A progress, ETA or time that is no number of this world is not believed; the rest is."""
    grant, bearer = house.claimed()
    other, _ = house.claimed("other")
    odd: dict[str, Any] = {field: value}
    batch = [
        replace(Report(grant.run, 1, RunState.RUNNING, label="a"), **odd),
        replace(Report(grant.run, 1, label="b"), **odd),
    ]
    assert [item.error for item in house.services.leases.report(bearer, batch)] == [None, None]
    house.clock.move(2)
    house.services.leases.expire(house.clock())
    run = house.services.runs.get(house.admin, grant.run)
    assert (run.status, run.label) == (RunState.RUNNING, "b")
    said = json.dumps([vars(run)["eta_seconds"], run.progress_percent, run.started_at])
    assert "NaN" not in said
    assert "Infinity" not in said
    assert run.started_at is not None
    assert abs(run.started_at - house.clock()) < 366 * 86400
    assert say(house, other, state=RunState.RUNNING) is None


def test_a_label_that_nobody_can_store_stops_no_clock(house: House) -> None:
    """Half a Unicode pair in one run's label keeps neither leases nor progress of others back."""
    odd, _ = house.claimed("odd")
    good, _ = house.claimed("good")
    for grant in (odd, good):
        assert say(house, grant, state=RunState.RUNNING) is None
    assert say(house, good, label="fine") is None
    say(house, odd, label="half \ud800 a pair", stage="\udfff")
    house.clock.move(120)
    house.services.leases.expire(house.clock())
    run = house.services.runs.get(house.admin, good.run)
    assert (run.label, run.unreachable) == ("fine", True)


@pytest.mark.parametrize("field", ["parameters", "configuration"])
def test_a_document_that_is_nested_too_deeply_is_refused(house: House, field: str) -> None:
    """What no answer could carry must not get into the queue, where it would block the agents."""
    deep: Any = 1
    for _ in range(450):
        deep = {"a": deep}
    document: dict[str, Any] = {field: {"x": deep}}
    wanted = replace(NewRun(model_id=house.model()), **document)
    with pytest.raises(InvalidRequest, match="nested"):
        house.services.runs.create(house.admin, wanted)


# -- the disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["🎉" * 62, "語" * 83, "a" * 250])
def test_a_sealed_file_with_a_long_name_is_removed(house: House, name: str) -> None:
    """A name as long as the file system allows can be removed, and its content is kept aside."""
    grant, bearer = house.claimed()
    path = f"outputs/{name}"
    house.put(bearer, grant, {path: b"kept"})
    assert errors(house.sync(bearer, [SyncOp(grant.run, 1, path, "remove")])) == [None]
    assert not local(house, grant, path).exists()
    aside = house.services.data / "simulations" / grant.run / "removed" / "1"
    assert [file.read_bytes() for file in aside.iterdir()] == [b"kept"]


@pytest.mark.parametrize("way", ["create", "claim"])
def test_a_run_that_cannot_be_kept_leaves_no_folder(
    house: House, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A database that fails leaves no folder of a run that does not exist."""
    store = house.services._store
    wanted = NewRun(id=str(uuid.uuid4()), model_id=house.model())

    def fail(*_: Any, **__: Any) -> Any:
        raise ServerUnavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_run", fail)
        runs = house.services.runs
        make = runs.create if way == "create" else partial(runs.claim, agent="host")
        with pytest.raises(ServerUnavailable):
            make(house.admin, wanted)
    assert list((house.services.data / "simulations").iterdir()) == []
    assert house.services.runs.create(house.admin, wanted).id == wanted.id


def test_a_model_whose_row_was_lost_is_what_its_row_then_says(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The zip that a run is given has the size and SHA-256 of the record, whoever came first."""
    packed = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed.append(tmp_path / f"{kind}.zip")
        with zipfile.ZipFile(packed[-1], "w", kind) as archive:
            archive.writestr("main.py", "print(1)\n" * 1000)

    def fail(*_: Any, **__: Any) -> Any:
        raise ServerUnavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(house.services._store, "add_model", fail)
        with pytest.raises(ServerUnavailable):
            house.services.models.add(house.admin, packed[0], "m")
    model = house.services.models.add(house.admin, packed[1], "m")
    kept = house.services.models.bundle(house.admin, model.id, model.version).read_bytes()
    assert (model.size, model.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_bundle_is_the_senders_fault(house: House, tmp_path: Path, method: int) -> None:
    """However it is packed, a damaged zip is refused as such."""
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("main.py", "print(1)\n" * 1000)
    raw = bytearray(path.read_bytes())
    for place in range(45, 60):
        raw[place] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(InvalidRequest):
        house.services.models.add(house.admin, path, "m")


def test_what_viewers_get_is_strict_json(house: House) -> None:
    """A residual that diverged is shown, in a form that every reader of JSON takes."""
    grant, bearer = house.claimed()
    lines = b'{"series": "p", "x": 1, "y": NaN}\n{"series": "p", "x": 2, "y": -Infinity}\n'
    house.sync(bearer, [append(grant, "metadata/series.jsonl", 0, len(lines))], lines)
    points = next(event for event in house.told if event.type == live.SERIES).data["points"]
    assert [point["y"] for point in points] == ["NaN", "-Infinity"]


def test_seal_is_seal(house: House) -> None:
    """A seal of a size that is a whole lot too large is a mismatch, not a failure of ours."""
    grant, bearer = house.claimed()
    found = house.sync(bearer, [replace(seal(grant, DATA, b""), size=10**30)])
    assert errors(found) == ["offset_mismatch"]


@pytest.mark.parametrize(
    "configuration",
    [
        {"environment_variables": ["a"]},
        {"environment_variables": "a=1"},
        {"environment_variables": 5},
        {"environment_variables": {"a=b": "1"}},
        {"environment_variables": {"": "1"}},
        {"environment_variables": {"A": "nul\0"}},
        {"environment_variables": {"A": {"b": 1}}},
        {"labels": 5},
        {"labels": "gpu"},
        {"labels": [["a"]]},
        {"resources": 5},
        {"resources": [1]},
        {"resources": {"cpu_cores": "many"}},
        {"resources": {"memory_gb": math.nan}},
        {"resources": {"memory_gb": math.inf}},
        {"resources": {"gpu_count": 10**30}},
        {"priority": {}},
        {"priority": []},
        {"priority": 7},
        {"on_lost_contact": []},
        {"timeout_minutes": math.nan},
        {"timeout_minutes": math.inf},
        {"timeout_minutes": 1e300},
        {"timeout_minutes": True},
    ],
)
def test_a_configuration_that_cannot_be_carried_out_is_refused(
    house: House, configuration: dict[str, Any]
) -> None:
    """What would fail when the run is leased, and keep the agent from all others, is refused."""
    with pytest.raises(InvalidRequest):
        house.services.runs.create(
            house.admin, NewRun(model_id=house.model(), configuration=configuration)
        )
    assert house.lease() == []


@pytest.mark.parametrize(
    "parameters", [{"inputs": None}, {"inputs": [1]}, {"a": math.nan}, {"\ud800": "\udfff"}]
)
def test_odd_parameters_block_nobody(house: House, parameters: dict[str, Any]) -> None:
    """Parameters are the model's own affair: whatever they are, the run can be leased."""
    model = house.model()
    wanted = NewRun(model_id=model, parameters=parameters)
    run = house.services.runs.create(house.admin, wanted)
    granted = house.lease()
    assert [lease.run for lease in granted] == [run.id]
    assert dumps(granted)
