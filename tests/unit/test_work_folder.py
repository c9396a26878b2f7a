"""What is found in a work folder by its names."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from physicsrunner.agent.adopt import finish, place_of, prepare, terms_of, unfinished
from physicsrunner.runner.attach import kept_grant
from physicsrunner.runner.workdir import WorkFolder
from physicsrunner.wire.messages import LeaseGrant, Resources

GRANT = LeaseGrant("r", 2, 7, "n", 9.0, 1.0, "secret", resources=Resources(cpu_cores=3.0))


def test_the_configuration_of_an_agent_is_found_and_what_the_runner_kept_counts_more(
    tmp_path: Path,
) -> None:
    """An agent's config.json lies in the work folder itself; a copy in the control folder wins."""
    folder = WorkFolder(tmp_path)
    assert folder.kept_config() is None
    (tmp_path / "config.json").write_text("{}")
    assert folder.kept_config() == tmp_path / "config.json"
    folder.create()
    (folder.control / "config.json").write_text("{}")
    assert folder.kept_config() == folder.control / "config.json"


def test_what_an_agent_prepares_is_the_lease_that_the_runner_finds(tmp_path: Path) -> None:
    """One file tells the runner its lease, and the next agent what the attempt takes."""
    work = prepare(tmp_path, GRANT, "http://server")
    assert kept_grant(WorkFolder(work.root), "r") == GRANT
    assert terms_of(work).resources.cpu_cores == 3.0
    modes = {path.stat().st_mode & 0o777 for path in work.root.rglob("*.json")}
    assert modes == {0o600}


@pytest.mark.parametrize("left", [b"", b"\0" * 300, b'{"server": "http', b"\xff"])
def test_what_was_not_on_the_disk_when_power_was_lost_is_no_attempt(
    tmp_path: Path, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name may be there without what was written: it is named, its lease is given again."""
    work = prepare(tmp_path, GRANT, "http://server")
    whole = work.config.read_bytes()
    work.config.write_bytes(left)
    assert list(unfinished(tmp_path, logging.getLogger("test"))) == []
    assert f"{work.root} is passed over" in caplog.text
    again = prepare(tmp_path, GRANT, "http://server")
    assert again.config.read_bytes() == whole
    assert list(unfinished(tmp_path)) == [again]


def test_what_an_agent_prepares_has_all_its_folders(tmp_path: Path) -> None:
    """The runner need not make them; what is of secrets is for its owner alone."""
    folder = WorkFolder(prepare(tmp_path, GRANT, "http://server").root)
    assert folder.is_made()
    before = {path for path in folder.root.rglob("*") if path.is_dir()}
    folder.create()
    assert {path for path in folder.root.rglob("*") if path.is_dir()} == before
    assert {path.stat().st_mode & 0o777 for path in (folder.root, folder.control)} == {0o700}


def test_a_control_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """Whoever made it before, with whatever mode."""
    folder = WorkFolder(tmp_path)
    folder.control.mkdir(mode=0o755)
    assert not folder.is_made()
    folder.create()
    assert folder.is_made()
    assert folder.control.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_removed_takes_nothing_along_that_its_links_lead_to(
    tmp_path: Path,
) -> None:
    """A program may have made links, deep folders and names of any kind."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    work = prepare(tmp_path / "work", GRANT, "http://server")
    deep = work.root / "outputs" / "a b" / "\N{SNOWMAN}"
    deep.mkdir(parents=True)
    (deep / "link").symlink_to(kept)
    (deep / "dangling").symlink_to("nowhere")
    finish(work, "completed", remove=True)
    assert not place_of(tmp_path / "work", GRANT).root.parent.exists()
    assert (kept / "file").read_text() == "x"
