"""The client against a real server: submit, wait, look, fetch; over a bad line too."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from physicsrunner import Client
from physicsrunner.client.case import read_case
from physicsrunner.client.client import ended
from physicsrunner.errors import (
    NotAllowed,
    NotAuthenticated,
    NotFound,
    ServerUnavailable,
    UnsafePath,
    UsageError,
)
from physicsrunner.wire import live
from tests.support.cases import make_case
from tests.support.processes import Processes, ServerProcess
from tests.support.proxy import Fault, FaultProxy
from tests.support.wait import wait_until

BIG = 3_000_000
MAIN = f"""
    import json
    given = json.loads((inputs / "parameters.json").read_text())
    (files / "a folder").mkdir()
    (files / "a folder" / "größe 1.txt").write_text(str(given["length"]))
    (files / "big.bin").write_bytes(bytes(i % 251 for i in range({BIG})))
    (files / "empty").touch()
    (files / "mesh.txt").write_bytes((inputs / "mesh.txt").read_bytes())
    (outputs / "results.json").write_text(json.dumps({{"twice": 2 * given["length"]}}))
    for line in range(1000):
        print("line", line)
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A case with a parameter and an input, which writes files of all kinds."""
    parameters = {"length": 1.5, "name": "rod"}
    return make_case(
        tmp_path / "case", MAIN, name="rod", parameters=parameters, inputs={"mesh.txt": b"mesh\n"}
    )


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of a running server, with the administrator's token."""
    with Client(server.url, server.token) as found:
        yield found


def carried_out(processes: Processes, server: ServerProcess, case: Path) -> None:
    """Carry out *case* here, kept on *server*."""
    processes.cli("run", str(case), "--host", server.url, server=server)


def folder_digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_submitted_case_waits_with_its_parameters_and_inputs(client: Client, case: Path) -> None:
    """The run names what it was given; the same model and input again take no room."""
    first = client.submit(case, {"length": 3}, tags=["a"])
    again = client.submit(case, {"length": 4}, run=first["id"])
    second = client.submit(case)
    assert (first["status"], first["name"], first["tags"]) == ("queued", "rod", ["a"])
    assert first["parameters"]["inputs"] == {"length": 3, "name": "rod"}
    assert again["id"] == first["id"]
    assert again["parameters"] == first["parameters"], "a repeat of an id is the same run"
    assert second["model_version"] == first["model_version"]
    assert [item["path"] for item in client.get(first["id"])["inputs"]] == ["mesh.txt"]
    assert client.list(status=["queued"], limit=1)["total"] == 2
    assert len(client.models()) == 1
    assert client.cancel(first["number"])["status"] == "cancelled"
    assert client.wait(first["id"], timeout=5)["status"] == "cancelled"


def test_what_cannot_be_sent_is_told_before_anything_is(client: Client, case: Path) -> None:
    """A wrong name, a folder without main.py: nothing reaches the server."""
    with pytest.raises(UsageError, match="did you mean 'length'"):
        client.submit(case, {"lenght": 3})
    (case / "main.py").unlink()
    with pytest.raises(UsageError, match=r"no main\.py"):
        client.submit(case)
    assert client.models() == []


def test_waiting_ends_when_its_time_is_over(client: Client, case: Path) -> None:
    """The run goes on; the caller gets a TimeoutError."""
    run = client.submit(case)
    with pytest.raises(TimeoutError):
        client.wait(run["id"], timeout=0.0)
    assert not ended(client.get(run["id"]))


def test_everything_a_run_wrote_can_be_fetched(
    processes: Processes, server: ServerProcess, client: Client, case: Path, tmp_path: Path
) -> None:
    """Whole, by patterns and folders; once more fetches nothing; logs and results too."""
    carried_out(processes, server, case)
    run = client.list()["data"][0]
    target = tmp_path / "here"
    done = client.download(run["number"], target)
    stored = {file["path"]: file["sha256"] for file in client.files(run["id"])}
    assert folder_digest(target) == stored
    assert all(file.fetched for file in done)
    assert not any(file.fetched for file in client.download(run["id"], target))
    assert (target / "outputs/data_files/a folder/größe 1.txt").read_text() == "1.5"
    assert (target / "outputs/data_files/mesh.txt").read_bytes() == b"mesh\n"
    some = client.download(run["id"], tmp_path / "some", ["*.txt", "outputs/data_files/a folder"])
    assert sorted(Path(file.path).name for file in some) == ["größe 1.txt", "mesh.txt"]
    with pytest.raises(NotFound, match="no file"):
        client.download(run["id"], tmp_path / "some", ["*.vtu"])
    assert [(r["name"], r["value"]) for r in client.results(run["id"])] == [("twice", 3.0)]
    text = b"".join(piece.data for piece in client.logs(run["id"], offset=7))
    assert text == (target / "logs/main.log").read_bytes()[7:]
    followed = b"".join(piece.data for piece in client.logs(run["id"], follow=True))
    assert followed == (target / "logs/main.log").read_bytes()


def test_a_cut_download_goes_on_where_it_was(
    processes: Processes,
    server: ServerProcess,
    client: Client,
    case: Path,
    tmp_path: Path,
    proxy_for: Callable[[int], FaultProxy],
) -> None:
    """Cuts, resets and 503 in the way: the file is whole, and what had come is not sent again."""
    carried_out(processes, server, case)
    run = client.list()["data"][0]["id"]
    big = "outputs/data_files/big.bin"
    target = tmp_path / "here"
    part = target / f"{big}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(i % 251 for i in range(BIG - 1000)))
    told: list[int] = []
    done = client.download(run, target, [big], on_file=lambda now, _all, _path: told.append(now))
    assert told == [BIG - 1000, BIG]
    assert done[0].sha256 == hashlib.sha256((target / big).read_bytes()).hexdigest()
    assert not part.exists()

    # A rest of another file is noticed and replaced.
    (target / big).unlink()
    part.write_bytes(b"another" * 1000)
    client.download(run, target, [big])
    assert folder_digest(target)[big] == done[0].sha256

    proxy = proxy_for(server.port)
    for kind in ("reset", "unavailable", "cut", "lost_answer"):
        proxy.inject(Fault(kind, after=0, retry_after=0.0), match="GET .*big.bin")
    with Client(proxy.url, server.token) as bad:
        bad.download(run, tmp_path / "again", [big])
    assert folder_digest(tmp_path / "again")[big] == done[0].sha256
    assert proxy.pending() == 0


def test_two_downloads_into_one_folder_leave_whole_files(
    processes: Processes, server: ServerProcess, client: Client, case: Path, tmp_path: Path
) -> None:
    """They do not write into each other's parts, and leave no parts behind."""
    carried_out(processes, server, case)
    run = client.list()["data"][0]["id"]
    target, failures = tmp_path / "here", []

    def fetch() -> None:
        try:
            with Client(server.url, server.token) as other:
                other.download(run, target)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert folder_digest(target) == {f["path"]: f["sha256"] for f in client.files(run)}


def test_a_link_in_the_way_never_leads_out_of_the_folder(
    processes: Processes, server: ServerProcess, client: Client, case: Path, tmp_path: Path
) -> None:
    """A folder that was prepared by somebody else does not make us write elsewhere."""
    carried_out(processes, server, case)
    run = client.list()["data"][0]["id"]
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "here/outputs").mkdir(parents=True)
    (tmp_path / "here/outputs/data_files").symlink_to(outside)
    with pytest.raises(UnsafePath):
        client.download(run, tmp_path / "here", ["big.bin"])
    assert list(outside.iterdir()) == []


def test_the_feed_tells_what_happens_and_goes_on_after_a_cut(
    server: ServerProcess, client: Client, case: Path, proxy_for: Callable[[int], FaultProxy]
) -> None:
    """No logged event is missed, none comes twice, and nobody else's is seen."""
    run = client.submit(case)
    proxy = proxy_for(server.port)
    with (
        Client(proxy.url, server.token) as viewer,
        viewer.feed(run["id"], after=0) as feed,
    ):
        first = [feed.next(30.0), feed.next(30.0)]
        assert [event.type for event in first if event] == [live.REQUESTED, live.QUEUED]
        proxy.reset_all()
        client.submit(case)
        client.cancel(run["id"])
        seen = []
        while (event := feed.next(30.0)) is not None:
            seen.append(event)
            if event.type == live.CANCELLED:
                break
        assert {event.run for event in seen} == {run["id"]}
        assert live.QUEUED not in [event.type for event in seen]
        assert seen[-1].type == live.CANCELLED


def test_a_feed_ends_at_once(client: Client, case: Path) -> None:
    """Who has seen a run end does not wait for the server to hang up."""
    with client.feed(client.submit(case)["id"]):
        began = time.monotonic()
    assert time.monotonic() - began < 5.0


def test_refusals_are_named(server: ServerProcess, client: Client, case: Path) -> None:
    """No token, a wrong one, an unknown run, nobody there: each its own error, at once."""
    run = client.submit(case)
    with Client(server.url, "wrong") as stranger:
        with pytest.raises(NotAuthenticated):
            stranger.list()
        with pytest.raises(NotAuthenticated):
            stranger.feed(run["id"])
    with pytest.raises(NotFound):
        client.get(99)
    with pytest.raises((NotAllowed, NotFound)):
        client.feed("0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77")
    server.stop()
    with Client(server.url, server.token, meet_s=0.0) as late:
        with pytest.raises(ServerUnavailable):
            late.list()
        with pytest.raises(ServerUnavailable):
            late.feed(run["id"])


def test_a_server_that_comes_back_is_waited_for(
    server: ServerProcess, client: Client, case: Path
) -> None:
    """A restart in the middle costs time, nothing else."""
    run = client.submit(case)
    server.kill()
    found: list[object] = []
    asking = threading.Thread(target=lambda: found.append(client.get(run["id"])["status"]))
    asking.start()
    server.restart()
    wait_until(lambda: found, timeout=30.0, on_timeout=server.started.story)
    asking.join()
    assert found == ["queued"]


def test_a_zip_of_a_case_is_a_case(client: Client, case: Path, tmp_path: Path) -> None:
    """The same content is the same version, packed by whom and in whatever order."""
    import zipfile

    version = client.submit(case)["model_version"]
    packed = tmp_path / "case.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in reversed(read_case(case).model):
            archive.write(file.path, file.name)
    assert client.submit(packed)["model_version"] == version
