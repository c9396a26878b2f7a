"""What is found in a work folder by its names."""

from __future__ import annotations

from pathlib import Path

from physicsrunner.agent.adopt import finish, place_of, prepare, terms_of
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
