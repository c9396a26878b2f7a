"""``physicsrunner show``: one run, as it stands or live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.list import duration, state_words
from physicsrunner.cli.tables import Column, ago, number, seconds
from physicsrunner.core.lease import WAIT
from physicsrunner.core.retry import FAILURES, MAX_LOST
from physicsrunner.core.run import PRIORITIES

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_USUAL: Final = (1, "cores")  # what a run needs that asks for nothing


@make_command("show")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Stay and show it live, until it has ended.")
def command(call: Invocation, run: str, follow: bool) -> int:
    """
    Show one run: where it stands, its parameters and its results.

    RUN is its number or its id. With --follow the exit code is the run's.
    """
    with call.client() as client:
        document = client.get(run)
        if follow:
            from physicsrunner.cli.follow import exit_code, follow_run

            document = follow_run(call, client, document)
            show(call, client, document)
            return exit_code(document)
        show(call, client, document)
        return 0


def show(call: Invocation, client: Client, run: dict[str, Any]) -> None:
    """Write a run document for a person, or as JSON; with its attempts where it took several."""
    screen = call.screen
    if run.get("attempt", 0) > 1:
        run = {**run, "attempts": client.attempts(run["id"])}
    if call.as_json:
        screen.document(run)
        return
    now = time.time()
    progress = f"{run.get('progress_percent', 0):.0f} %"
    facts = [
        ("state", f"{state_words(run)}, {progress}"),
        ("reason", run.get("reason") or ""),
        ("doing", run.get("label") or ""),
        ("error", "" if _is_said(run) else run.get("error_message") or ""),
        ("exit code", "" if run.get("exit_code") is None else str(run["exit_code"])),
        ("created", f"{ago(run.get('created_at'), now)} by {run.get('created_by', '')}"),
        ("took", seconds(duration(run, now))),
        ("left", seconds(run.get("eta_seconds"))),
        ("agent", f"{run['agent']}, attempt {run['attempt']}" if run.get("agent") else ""),
        *_asked_for(run),
        ("tags", ", ".join(run.get("tags") or [])),
        ("id", run["id"]),
    ]
    screen.text(f"run {run['number']}: {run.get('name', '')}")
    screen.table(
        [Column("", right=False), Column("", shrink=True)],
        [["  " + name, value] for name, value in facts if value],
    )
    _attempt_table(call, run.get("attempts") or [], now)
    _value_table(call, "PARAMETER", (run.get("parameters") or {}).get("inputs"))
    # The server has put *** in the place of each secret.
    _value_table(call, "VARIABLE", (run.get("configuration") or {}).get("environment_variables"))
    results = run.get("results") or []
    if results:
        screen.text()
        result_table(call, results, indent="  ")


def _is_said(run: dict[str, Any]) -> bool:
    return str(run.get("error_message")) in str(run.get("reason"))


def _asked_for(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was asked for beside the program, where it is not the usual."""
    words = {number: word for word, number in PRIORITIES.items()}
    usual = PRIORITIES["normal"]
    needs = [
        (run.get("cpu_cores", 1), "cores"),
        (run.get("memory_gb", 0), "GB of memory"),
        (run.get("gpu_count", 0), "GPUs"),
        (run.get("storage_gb", 0), "GB of storage"),
    ]
    told = [f"{amount:g} {what}" for amount, what in needs if amount and (amount, what) != _USUAL]
    priority = run.get("priority", usual)
    lost = run.get("on_lost_contact") or WAIT
    return [
        ("priority", "" if priority == usual else words.get(priority, str(priority))),
        ("needs", ", ".join([*told, *(run.get("labels") or [])])),
        ("time limit", seconds(run.get("time_limit_s"))),
        ("queue limit", seconds(run.get("queue_limit_s"))),
        ("silence limit", _silence(run)),
        ("retries", _retries(run)),
        ("lost contact", "" if lost == WAIT else lost),
        ("project", run.get("project_id") or ""),
        ("study", run.get("study_id") or ""),
        ("repeats", f"run {run['retry_of']}" if run.get("retry_of") else ""),
        ("pinned", "yes" if run.get("pinned") else ""),
    ]


def _silence(run: dict[str, Any]) -> str:
    limit = seconds(run.get("silence_limit_s"))
    return f"{limit}, then it is stopped" if limit and run.get("stop_when_silent") else limit


def _retries(run: dict[str, Any]) -> str:
    """Return in words how often the run is tried again, how much later and after what."""
    policy = run.get("retry_policy") or {}
    told = []
    if policy.get("max_retries"):
        told.append(f"{run.get('retry_count', 0)} of {policy['max_retries']}")
    delay, grows = policy.get("retry_delay_seconds"), policy.get("exponential_backoff")
    if delay is not None:
        told.append(f"{delay:g} s later" + (", then twice as long each time" if grows else ""))
    elif grows:
        told.append("each wait twice the one before")
    if tuple(on := policy.get("retry_on_failure_types") or FAILURES) != FAILURES:
        told.append("after " + ", ".join(on))
    if policy.get("max_lost", MAX_LOST) != MAX_LOST:
        told.append(f"lost machines: {policy['max_lost']}")
    return "; ".join(told)


def _attempt_table(call: Invocation, attempts: list[dict[str, Any]], now: float) -> None:
    if not attempts:
        return
    rows = [
        [
            f"  {one['attempt']}",
            one.get("agent", ""),
            one.get("state", ""),
            ago(one.get("leased_at"), now),
            one.get("error_message") or one.get("error_code") or "",
        ]
        for one in attempts
    ]
    columns = [
        Column("  ATTEMPT"),
        Column("AGENT", shrink=True),
        Column("STATE"),
        Column("BEGAN"),
        Column("ERROR", shrink=True),
    ]
    call.screen.text()
    call.screen.table(columns, rows)


def _value_table(call: Invocation, title: str, values: Any) -> None:
    if not isinstance(values, dict) or not values:
        return
    rows = [["  " + name, number(value)] for name, value in values.items()]
    call.screen.text()
    call.screen.table([Column("  " + title), Column("VALUE", shrink=True)], rows)


def result_table(call: Invocation, results: list[dict[str, Any]], *, indent: str = "") -> None:
    """Write results as a table."""
    rows = [
        [indent + str(item["name"]), number(item["value"]), item.get("unit") or ""]
        for item in results
    ]
    columns = [
        Column(indent + "RESULT", shrink=True),
        Column("VALUE", shrink=True),
        Column("UNIT"),
    ]
    call.screen.table(columns, rows)
