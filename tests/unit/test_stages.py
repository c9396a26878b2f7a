"""Stages: every name that people use, and what starting and skipping leave."""

from __future__ import annotations

import pytest

from physicsrunner.core.stages import STAGE_NAMES, Stage, plan, stage_name
from physicsrunner.errors import UsageError

ALL = tuple(Stage)


def test_the_order_of_the_stages() -> None:
    """An attempt does init, download, watch, execute, postprocess, in this order."""
    assert [stage.value for stage in Stage] == [
        "init",
        "download",
        "watch",
        "execute",
        "postprocess",
    ]
    assert plan() == plan(None, []) == plan("", "")
    assert plan().stages == ALL
    assert plan().upload


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("start", "init"),
        ("input", "download"),
        ("download", "download"),
        ("watch", "watch"),
        ("upload", "upload"),
        ("postprocess", "postprocess"),
        ("Execute", "execute"),
        (" init ", "init"),
        ("initialization", "init"),
        ("execution", "execute"),
        ("watching", "watch"),
        ("postprocessing", "postprocess"),
    ],
)
def test_names_of_seeds_and_published_package(name: str, stage: str) -> None:
    """Every name of the documents is understood, in any case and with spaces around it."""
    assert stage_name(name) == stage


@pytest.mark.parametrize("name", sorted(STAGE_NAMES))
def test_every_known_name_can_start_and_be_skipped(name: str) -> None:
    """Starting at a stage leaves it in; skipping it takes out it alone."""
    stage = STAGE_NAMES[name]
    started, skipped = plan(starting=name), plan(skip=name)
    if stage == "upload":
        assert started.stages == (Stage.WATCH, Stage.POSTPROCESS)
        assert skipped.stages == ALL
        assert not skipped.upload
    else:
        assert started.stages == ALL[ALL.index(Stage(stage)) :]
        assert skipped.stages == tuple(s for s in ALL if s.value != stage)
        assert skipped.upload


@pytest.mark.parametrize("skip", ["start, watch,", ["start", "watch"], ("init", "watching")])
def test_skipping_takes_a_comma_list_or_a_list(skip: str | list[str]) -> None:
    """A comma list with blanks, a list and a tuple mean the same."""
    assert plan(skip=skip).stages == (Stage.DOWNLOAD, Stage.EXECUTE, Stage.POSTPROCESS)


def test_everything_skipped_is_an_empty_plan() -> None:
    """Skipping all stages leaves nothing to do, and is no error."""
    assert plan(skip=[stage.value for stage in Stage]).stages == ()


@pytest.mark.parametrize("bad", ["exec", "watch;upload", "../init", "x" * 1000])
def test_an_unknown_name_is_named(bad: str) -> None:
    """The error names the word that is not a stage, and the stages."""
    with pytest.raises(UsageError, match=r"the stages are: .*postprocess"):
        plan(skip=[bad])
    with pytest.raises(UsageError, match="unknown stage"):
        plan(starting=bad)
