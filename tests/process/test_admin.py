"""`physicsrunner admin` on real data: saved while it is written, restored, damaged, found out."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.cases import make_case
from tests.support.processes import CliResult, Processes, ServerProcess, login

MAIN = """
(files / "a.bin").write_bytes(bytes(range(256)) * 400)
(outputs / "results.csv").write_text("answer\\n42\\n")
print("done")
"""


def fill(processes: Processes, server: ServerProcess, folder: Path, runs: int = 2) -> list[str]:
    """Carry out runs on *server*; return their ids."""
    case = make_case(folder / "case", MAIN)
    for _ in range(runs):
        processes.cli("run", str(case), "--host", server.url, **login_of(server))
    listed = processes.cli("list", "--json", server=server).json["data"]
    assert {run["status"] for run in listed} == {"completed"}
    return [run["id"] for run in listed]


def login_of(server: ServerProcess) -> dict[str, Any]:
    """Return the environment in which the CLI talks to *server*."""
    return dict(login(server))


def admin(
    processes: Processes, *arguments: str | Path, check: bool = True, url: str = ""
) -> CliResult:
    """Carry out ``physicsrunner admin``, on a database of PostgreSQL with *url*."""
    return processes.cli(*("admin", *map(str, arguments)), check=check, PHYSICSRUNNER_DATABASE=url)


def state(processes: Processes, server: ServerProcess) -> dict[str, Any]:
    """Return what people can see of all runs: documents and files."""
    found = {}
    for run in processes.cli("list", "--json", server=server).json["data"]:
        files = processes.cli("files", run["id"], "--json", server=server).json
        found[run["id"]] = (run["status"], run["number"], files)
    return found


def test_what_is_saved_while_the_server_runs_is_restored(
    processes: Processes, tmp_path: Path
) -> None:
    """Runs, files, keys and tokens are as before; new runs have new numbers and new events."""
    server = processes.server()
    fill(processes, server, tmp_path)
    before = state(processes, server)
    token = server.token
    backs = []
    for place in ("saved", "saved.tar", "saved.tar.gz"):
        made = admin(processes, "backup", tmp_path / place, "--data", server.data, "--json").json
        assert made["runs"] == 2
        assert made["files"] > 4
        backs.append(tmp_path / f"back of {place}")
        admin(processes, "restore", tmp_path / place, "--data", backs[-1])
    server.stop()
    for back in backs:
        assert admin(processes, "check", "--data", back, "--json").json["good"]
        again = processes.server(back)
        assert again.token == token
        assert state(processes, again) == before
        assert oct((back / "secret.key").stat().st_mode)[-3:] == "600"
        again.stop()
    again.restart()
    fill(processes, again, tmp_path, 1)
    assert max(run[1] for run in state(processes, again).values()) == 3


def test_nothing_is_written_over(processes: Processes, tmp_path: Path) -> None:
    """A folder with something in it, a file that is there, no backup: each is refused in words."""
    server = processes.server()
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine").write_text("precious")
    tar = tmp_path / "there.tar"
    tar.write_text("precious")
    data = ("--data", server.data)
    for arguments, words in (
        (("backup", used, *data), "not empty"),
        (("backup", tar, *data), "there already"),
        (("backup", server.data / "inside", *data), "lies in the data folder"),
        (("backup", tmp_path / "x", "--data", tmp_path / "absent"), "no data folder"),
        (("restore", used, "--data", tmp_path / "new"), "no backup"),
        (("restore", tar, "--data", tmp_path / "new"), "no whole archive"),
        (("restore", tmp_path / "absent", "--data", tmp_path / "new"), "no backup"),
        (("backup", *data), "needs a PLACE"),
        (("check", used, *data), "takes no PLACE"),
        (("check", "--data", tmp_path / "absent"), "no database"),
    ):
        refused = admin(processes, *arguments, check=False)
        assert refused.returncode != 0, arguments
        assert words in refused.stderr, (arguments, refused.stderr)
        assert "unexpected" not in refused.stderr
    assert (used / "mine").read_text() == tar.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    admin(processes, "backup", tmp_path / "good", *data)
    full = admin(processes, "restore", tmp_path / "good", *data, check=False)
    assert "not empty" in full.stderr


def test_an_unfinished_backup_is_no_backup(processes: Processes, tmp_path: Path) -> None:
    """A copy that was cut before its manifest was written, and an archive that was cut short."""
    server = processes.server()
    fill(processes, server, tmp_path, 1)
    admin(processes, "backup", tmp_path / "saved", "--data", server.data)
    admin(processes, "backup", tmp_path / "saved.tar.gz", "--data", server.data)
    (tmp_path / "saved" / "manifest.json").unlink()
    archive = tmp_path / "saved.tar.gz"
    os.truncate(archive, archive.stat().st_size // 2)
    for place in ("saved", "saved.tar.gz"):
        cut = admin(processes, "restore", tmp_path / place, "--data", tmp_path / "n", check=False)
        assert cut.returncode != 0
        assert "unexpected" not in cut.stderr
        assert not (tmp_path / "n").exists()


def test_damage_is_found_and_only_orphans_are_removed(processes: Processes, tmp_path: Path) -> None:
    """Missing, changed and orphaned files are each named; --repair takes the orphans alone."""
    server = processes.server()
    first, second = fill(processes, server, tmp_path)
    good = admin(processes, "check", "--data", server.data, "--json").json
    assert good["good"]
    assert good["files"] > 4
    simulations = server.data / "simulations"
    lost = server.attempt_folder(first) / "outputs/data_files/a.bin"
    lost.unlink()
    bad = server.attempt_folder(second) / "outputs/data_files/a.bin"
    damaged = bytearray(bad.read_bytes())
    damaged[1000] ^= 1
    bad.write_bytes(damaged)  # as long as it was
    stray = simulations / "00000000-0000-4000-8000-000000000000"
    (stray / "attempts/1").mkdir(parents=True)
    (stray / "attempts/1/file").write_text("nobody's")
    blob = server.data / "inputs" / ("0" * 64)
    blob.write_text("nobody's")
    young = server.data / "inputs" / ("1" * 64)
    young.write_text("just coming")
    for path in (stray, blob):
        os.utime(path, (time.time() - 3600,) * 2)
    server.damaged = True
    with closing(sqlite3.connect(server.data / "physicsrunner.db")) as database:
        database.execute("UPDATE run_counts SET runs = 7 WHERE kind = 'all'")
        database.commit()
    done = admin(processes, "check", "--data", server.data, "--json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["missing"] == [str(lost.relative_to(server.data))]
    assert found["changed"] == [str(bad.relative_to(server.data))]
    assert set(found["orphaned"]) == {f"simulations/{stray.name}", f"inputs/{blob.name}"}
    assert "counter says 7" in found["database"][0]
    assert stray.exists()
    repaired = admin(processes, "check", "--repair", "--data", server.data, check=False)
    assert repaired.returncode == 1  # what is missing stays missing
    assert "missing: 1" in repaired.stdout
    assert not stray.exists()
    assert not blob.exists()
    assert young.exists()
    assert bad.read_bytes() == bytes(damaged)


def test_a_vacuum_gives_room_back(processes: Processes, tmp_path: Path) -> None:
    """The database is smaller, and the server beside it goes on."""
    server = processes.server()
    fill(processes, server, tmp_path, 1)
    server.damaged = True
    with closing(sqlite3.connect(server.data / "physicsrunner.db")) as database:
        database.execute("CREATE TABLE ballast AS SELECT hex(randomblob(2000000)) AS text")
        database.execute("DROP TABLE ballast")
        database.commit()
    done = admin(processes, "vacuum", "--data", server.data, "--json").json
    assert done["after"] < done["before"] - 3_000_000
    assert len(state(processes, server)) == 1


def test_a_backup_of_postgresql_is_restored_to_either_database(
    processes: Processes, tmp_path: Path, postgres: str, postgres_server: Any
) -> None:
    """From PostgreSQL to another PostgreSQL and to SQLite, and from SQLite to PostgreSQL."""
    server = processes.server(None, PHYSICSRUNNER_DATABASE=postgres)
    fill(processes, server, tmp_path)
    before = state(processes, server)
    admin(processes, "backup", tmp_path / "saved", "--data", server.data, url=postgres)
    full = admin(
        *(processes, "restore", tmp_path / "saved", "--data", tmp_path / "no"),
        check=False,
        url=postgres,
    )
    assert "not empty" in full.stderr
    server.stop()
    other = postgres_server.fresh()
    for name, url in (("b", other), ("c", "")):
        back = tmp_path / name
        admin(processes, "restore", tmp_path / "saved", "--data", back, url=url)
        checked = admin(processes, "check", "--data", back, "--json", url=url).json
        assert checked["good"], checked
        known = {"PHYSICSRUNNER_DATABASE": url} if url else {}
        again = processes.server(back, **known)
        assert state(processes, again) == before
        fill(processes, again, tmp_path, 1)
        again.stop()
    third = postgres_server.fresh()
    admin(processes, "backup", tmp_path / "moving", "--data", tmp_path / "c")
    admin(processes, "restore", tmp_path / "moving", "--data", tmp_path / "d", url=third)
    last = processes.server(tmp_path / "d", PHYSICSRUNNER_DATABASE=third)
    assert len(state(processes, last)) == 3
    admin(processes, "vacuum", "--data", tmp_path / "d", url=third)


def test_a_saved_folder_has_no_way_out(processes: Processes, tmp_path: Path) -> None:
    """An archive with a path that leads out, or with a link, is refused; nothing is written."""
    import tarfile

    server = processes.server()
    admin(processes, "backup", tmp_path / "saved", "--data", server.data)
    for name in ("../evil", "/evil-of-physicsrunner", "link"):
        archive = tmp_path / "evil.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(tmp_path / "saved", arcname=".")
            member = tarfile.TarInfo(name)
            if name == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
        refused = admin(*(processes, "restore", archive, "--data", tmp_path / "new"), check=False)
        assert "no backup of ours" in refused.stderr
        assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / "saved")
