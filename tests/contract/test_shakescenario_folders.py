"""A folder for each ShakeScenario job: there from its beginning, whole at its end, gone with it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from physicsrunner.core.retry import Backoff
from physicsrunner.core.run import NewRun
from physicsrunner.errors import PortTaken
from physicsrunner.server import serve
from physicsrunner.server.doors.shakescenario import folders, keeping
from physicsrunner.server.doors.shakescenario.folders import Folders
from physicsrunner.server.doors.shakescenario.keeping import kept
from physicsrunner.server.hub import Hub
from physicsrunner.server.serve import Place, ready
from physicsrunner.service.options import ServerOptions
from tests.contract.shakescenario_house import OPTIONS, QUAKE, Door, served
from tests.support.wait import wait_until


def read(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; nothing while there is none."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def until(folder: Path, status: str) -> dict[str, Any]:
    """Wait until a job's meta.json says *status*; return it."""
    meta = folder / "meta.json"
    wait_until(lambda: read(meta).get("status") == status, on_timeout=lambda: read(meta))
    return read(meta)


def names(root: Path) -> list[str]:
    """Return the paths of all files below *root*."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def finished(door: Door, root: Path, files: dict[str, bytes]) -> Path:
    """Have a job carried out, and return its folder."""
    job = door.submit()
    door.complete(door.started(), files)
    folder = root / f"job_{job:06d}"
    until(folder, "completed")
    return folder


def test_a_job_has_its_folder(tmp_path: Path) -> None:
    """meta.json from the beginning; at the end the manifest, and every artifact that it names."""
    root = tmp_path / "runs"
    with served(tmp_path, shakescenario_folder=root) as door:
        job = door.submit()
        folder = root / "job_000001"
        assert until(folder, "queued")["params"] == QUAKE
        grant = door.started()
        until(folder, "running")
        wait_until(lambda: names(root) == ["job_000001/meta.json"])
        files = {"outputs/data_files/impact.csv": b"a,b\n", "logs/main.log": b"done\n"}
        door.complete(grant, files)
        meta = until(folder, "completed")
        assert (meta["id"], meta["run"]) == (job, grant.run)
        listed = read(folder / "result_manifest.json")
        assert {item["path"]: item["size"] for item in listed["artifacts"]} == {
            path: len(data) for path, data in files.items()
        }
        assert {path: (folder / path).read_bytes() for path in files} == files
        assert names(folder) == sorted([*files, "meta.json", "result_manifest.json"])
        door.house.services.runs.delete(door.house.admin, job)
        wait_until(lambda: not folder.exists())


def test_runs_of_other_doors_have_none(tmp_path: Path) -> None:
    """A run that came otherwise has no folder, and is in nobody's way."""
    root = tmp_path / "runs"
    with served(tmp_path, shakescenario_folder=root) as door:
        model = door.house.services.models.list(door.house.admin)[0]
        door.house.services.runs.create(door.house.admin, NewRun(model_id=model.id))
        door.submit()
        until(root / "job_000002", "queued")
        assert [path.name for path in root.iterdir()] == ["job_000002"]


def test_what_a_crash_left_out_is_written_at_the_next_start(tmp_path: Path) -> None:
    """Folders that are missing, stale or of deleted jobs are put right; another server's stay."""
    root = tmp_path / "runs"
    with served(tmp_path, shakescenario_folder=root) as door:
        whole = finished(door, root, {"outputs/x": b"x"})
        stale = finished(door, root, {"outputs/y": b"y"})
        deleted = finished(door, root, {})
        waiting = root / f"job_{door.submit():06d}"
        until(waiting, "queued")
    with served(tmp_path) as door:  # without folders
        door.house.services.runs.delete(door.house.admin, 3)
        door.house.services.runs.cancel(door.house.admin, 4)
    shutil.rmtree(whole)
    (stale / "meta.json").write_text('{"id": 2, "run": "x", "status": "running"}')
    foreign = root / "job_000099"
    foreign.mkdir()
    (foreign / "meta.json").write_text('{"id": 99, "run": "of another", "status": "completed"}')
    with served(tmp_path, shakescenario_folder=root):
        until(waiting, "canceled")
        until(whole, "completed")
        wait_until(lambda: not deleted.exists())
        assert (whole / "outputs/x").read_bytes() == b"x"
        assert until(stale, "completed")["id"] == 2
        assert (stale / "outputs/y").read_bytes() == b"y"
        assert (root / "job_000002.x" / "outputs/y").exists()  # taken for another server's
        assert foreign.exists()


def test_a_folder_that_was_there_is_moved_aside(tmp_path: Path) -> None:
    """A folder of that name with something in it is kept under another one."""
    root = tmp_path / "runs"
    (root / "job_000001").mkdir(parents=True)
    (root / "job_000001" / "mine.txt").write_text("mine")
    with served(tmp_path, shakescenario_folder=root) as door:
        door.submit()
        until(root / "job_000001", "queued")
        assert (root / "job_000001.other" / "mine.txt").read_text() == "mine"


def test_artifacts_are_copies_under_their_names(tmp_path: Path) -> None:
    """What is written into one there is not in the server's file; no name is lost, and none of an
    artifact takes the place of our documents."""
    root = tmp_path / "runs"
    with served(tmp_path, shakescenario_folder=root) as door:
        files = {"outputs/x": b"x" * 1000, "outputs/.part": b"p", ".part": b"q"}
        folder = finished(door, root, {**files, "meta.json": b"{}"})
        assert names(folder) == sorted([*files, "meta.json", "result_manifest.json"])
        assert {path: (folder / path).read_bytes() for path in files} == files
        (folder / "outputs/x").write_bytes(b"changed")
        services = door.house.services
        assert services.files.path(door.house.admin, 1, "outputs/x").read_bytes() == b"x" * 1000
        assert names(root) == [f"job_000001/{name}" for name in names(folder)]
    assert read(folder / "meta.json")["status"] == "completed"


# -- what cannot be written ------------------------------------------------------------------------

BEGUN = "a job's folder could not be written; it is tried again"
ENDED = "the folders of all jobs are written again"


class FullDisk:
    """A call that fails as on a full disk, until there is room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        monkeypatch.setattr(keeping, "AGAIN", Backoff(base=0.001, cap=0.02))
        self._call = getattr(owner, name)
        self.full = True
        self.tries = 0
        monkeypatch.setattr(owner, name, self)

    def __call__(self, *arguments: Any) -> None:
        if self.full:
            self.tries += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._call(*arguments)

    def wait_for_tries(self) -> None:
        """Wait until there were more tries than any events can have made."""
        enough = self.tries + 30
        wait_until(lambda: self.tries >= enough, on_timeout=lambda: f"{self.tries} tries")


def test_what_a_full_disk_kept_out_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without another start, and without anything else that happens to the job; it is in its own
    folder, and the log has a line about the beginning and one about the end."""
    root, disk = tmp_path / "runs", FullDisk(monkeypatch, folders, "_write")
    with served(tmp_path, shakescenario_folder=root) as door:
        job = door.submit()
        door.complete(door.started(), {"outputs/x": b"x"})
        assert door.status(job) == "completed"
        disk.wait_for_tries()
        assert names(root) == ["job_000001/outputs/x"]
        assert ENDED not in caplog.text
        disk.full = False
        until(root / "job_000001", "completed")
        wait_until(lambda: ENDED in caplog.text)
        assert caplog.text.count(BEGUN) == caplog.text.count(ENDED) == 1
        expected = ["meta.json", "outputs/x", "result_manifest.json"]
        assert names(root) == [f"job_000001/{name}" for name in expected]


def test_a_disk_that_stays_full_is_tried_again_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server ends though folders are left to write; the next one writes them."""
    root, disk = tmp_path / "runs", FullDisk(monkeypatch, folders, "_write")
    with served(tmp_path, shakescenario_folder=root) as door:
        door.submit()
        disk.wait_for_tries()
    assert "server" not in [thread.name for thread in threading.enumerate()]
    disk.full = False
    assert names(root) == []
    with served(tmp_path, shakescenario_folder=root):
        until(root / "job_000001", "queued")


def test_trying_again_ends_with_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task of it is left."""
    monkeypatch.setattr(keeping, "AGAIN", Backoff(base=0.001, cap=0.001))

    async def tasks_left() -> int:
        loop, tried = asyncio.get_running_loop(), asyncio.Semaphore(0)

        def begin() -> list[str]:
            loop.call_soon_threadsafe(tried.release)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        async with kept(cast("Folders", SimpleNamespace(begin=begin)), Hub(loop)):
            for _ in range(3):
                await asyncio.wait_for(tried.acquire(), 30)
        return len(asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())})

    assert asyncio.run(tasks_left()) == 0


def test_a_folder_that_cannot_be_removed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a deleted job goes when it can, also when its meta.json went before."""
    root = tmp_path / "runs"
    with served(tmp_path, shakescenario_folder=root) as door:
        folder = finished(door, root, {"outputs/x": b"x"})
        tools = SimpleNamespace(rmtree=shutil.rmtree)
        monkeypatch.setattr(folders, "shutil", tools)  # not for others who remove something
        disk = FullDisk(monkeypatch, tools, "rmtree")
        door.house.services.runs.delete(door.house.admin, 1)
        disk.wait_for_tries()
        (folder / "meta.json").unlink()
        disk.full = False
        wait_until(lambda: not folder.exists())


def test_a_folder_that_cannot_be_written_harms_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folders should be is a file: jobs are taken all the same, and have their folders
    when it is gone."""
    monkeypatch.setattr(keeping, "AGAIN", Backoff(base=0.001, cap=0.02))
    root = tmp_path / "runs"
    root.write_text("a file")
    with served(tmp_path, shakescenario_folder=root) as door:
        job = door.submit()
        door.complete(door.started())
        assert door.status(job) == "completed"
        root.unlink()
        until(root / "job_000001", "completed")


# -- its port --------------------------------------------------------------------------------------


def test_a_port_that_somebody_chose_and_that_is_taken_is_refused(tmp_path: Path) -> None:
    """The server does not start, and says which setting names the port."""
    with served(tmp_path / "a") as door:
        place = Place(tmp_path / "b", port=0, options=with_port(door.port))
        with pytest.raises(PortTaken, match="shakescenario_port"), ready(place):
            pytest.fail("it started")


def test_without_the_port_that_nobody_chose_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The port by default, where it is taken, keeps the door closed, and the log says so; beside a
    free port of HTTP it is a free one, too."""
    with served(tmp_path / "a") as door:
        monkeypatch.setattr(serve, "SHAKESCENARIO_PORT", door.port)
        assert serve._bound_doors(Place(tmp_path, port=1, options=with_port(None))) == {}
        assert "it stays closed (another port: setting shakescenario_port)" in caplog.text
        free = serve._bound_doors(Place(tmp_path, port=0, options=with_port(None)))
        free["shakescenario"].close()


def with_port(port: int | None) -> ServerOptions:
    """Return the options of the tests with another port of the door."""
    return replace(OPTIONS, shakescenario_port=port)
