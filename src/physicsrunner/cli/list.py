"""``physicsrunner list``: the runs of a server."""

from __future__ import annotations

import time
from typing import Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column, ago, seconds
from physicsrunner.core.state import RunState

_COLUMNS = (
    Column("RUN", right=True),
    Column("STATE"),
    Column("DONE", right=True),
    Column("NAME", shrink=True),
    Column("DOING", shrink=True, spare=True),
    Column("TOOK", right=True, spare=True),
    Column("CREATED", spare=True),
    Column("BY", shrink=True, spare=True),
)


@make_command("list")
@click.option(
    "-s",
    "--status",
    multiple=True,
    type=click.Choice([state.value for state in RunState]),
    help="Only runs in this state; may be given more than once.",
)
@click.option("-n", "--name", help="Only runs with this in their name.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("--project", help="Only runs of this project, by its id.")
@click.option("--study", help="Only runs of this study, by its id.")
@click.option("--model", help="Only runs of this model, by its id.")
@click.option("--agent", help="Only runs that this agent has, or had last.")
@click.option("--by", help="Only runs that this person created.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--offset", default=0, type=click.IntRange(0), help="Pass over so many.")
@click.option(
    "--sort",
    default="-created_at",
    show_default=True,
    help="Such as name, status, -number; a minus turns the order round.",
)
def command(
    call: Invocation,
    status: tuple[str, ...],
    name: str | None,
    tag: str | None,
    project: str | None,
    study: str | None,
    model: str | None,
    agent: str | None,
    by: str | None,
    limit: int,
    offset: int,
    sort: str,
) -> None:
    """List the runs, the newest first."""
    with call.client() as client:
        answer = client.list(
            status=list(status) or None,
            name=name,
            tag=tag,
            project_id=project,
            study_id=study,
            model_id=model,
            agent=agent,
            created_by=by,
            limit=limit,
            offset=offset,
            sort=sort,
        )
    if call.as_json:
        call.screen.document(answer)
        return
    runs = answer["data"]
    if not runs:
        found = answer["total"] or any((status, name, tag, project, study, model, agent, by))
        call.screen.note(
            "no such runs" if found else "no runs; `physicsrunner submit ./case` makes one"
        )
        return
    call.screen.table(_COLUMNS, [_row(run, time.time()) for run in runs])
    hidden = answer["total"] - offset - len(runs)
    if hidden > 0:
        least = "" if answer.get("total_is_exact", True) else "at least "
        call.screen.note(f"{least}{hidden} more; --limit and --offset show them")


def _row(run: dict[str, Any], now: float) -> list[str]:
    return [
        str(run["number"]),
        state_words(run),
        f"{run.get('progress_percent', 0):.0f} %",
        run.get("name", ""),
        _doing(run),
        seconds(duration(run, now)),
        ago(run.get("created_at"), now),
        run.get("created_by", ""),
    ]


def _doing(run: dict[str, Any]) -> str:
    """Return what a run does, or why it does not."""
    status = run["status"]
    reason = str(run.get("reason") or "")
    if status in ("queued", "retrying") or run.get("unreachable"):
        return reason.removeprefix("waiting: ").removeprefix("unreachable: ")
    if status == "cancelled":
        return ""
    return run.get("label") or run.get("error_message") or ""


def duration(run: dict[str, Any], now: float) -> float | None:
    """Return the seconds that a run took, or has taken so far."""
    if run.get("started_at") is None:
        return None
    ended: float = run.get("completed_at") or now
    return max(0.0, ended - float(run["started_at"]))


def state_words(run: dict[str, Any]) -> str:
    """Return a run's state and what is to be known with it."""
    words = [str(run["status"])]
    if words[0] not in ("cancelled", "completed", "failed", "timeout"):
        asked = run.get("pause_requested", False) if words[0] in ("running", "paused") else None
        told = {
            "held": run.get("held"),
            "stopping": run.get("cancel_requested"),
            "pausing": asked and words[0] == "running",
            "going on": asked is False and words[0] == "paused",
            "silent": run.get("silent"),
            "no contact": run.get("unreachable"),
        }
        words += [word for word, holds in told.items() if holds]
    return ", ".join(words)
