"""``physicsrunner demo``: a packaged case, carried out and checked."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physicsrunner.cli.command import Invocation, make_command
from physicsrunner.cli.tables import Column
from physicsrunner.errors import MissingExtra, ProgramFailed, UsageError
from physicsrunner.examples import EXAMPLES, Example
from physicsrunner.examples.check import CHECK_ARTIFACT, CHECK_FILE, Compared, largest, read

if TYPE_CHECKING:
    from physicsrunner.client.case import CaseFolder

_FAILED = ProgramFailed.exit_code
_CHECK = "check"  # the parameter of a case that compares only when it is asked to


@make_command("demo")
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Print the deviation at each compared point.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value in place of the case's default; may be given more than once.",
)
@click.option("--submit", is_flag=True, help="Queue it on the server and follow it there.")
@click.option(
    "--copy",
    type=click.Path(path_type=Path),
    help="Only copy the case to this folder, to begin one of your own.",
)
@click.option(
    "-w", "--work-dir", type=click.Path(path_type=Path, file_okay=False), help="The run's folder."
)
def command(
    call: Invocation,
    name: str | None,
    check: bool,
    parameters: tuple[str, ...],
    submit: bool,
    copy: Path | None,
    work_dir: Path | None,
) -> int:
    """
    Run a packaged case here and hold its result against a published one.

    Without NAME: list the cases. With --check the exit code is 1 when a deviation is over the
    case's stated tolerance.
    """
    if name is None:
        _list(call)
        return 0
    example = _example(name)
    if copy is not None:
        return _copy(call, example, copy)
    from physicsrunner.client.case import parse_parameters, read_case

    case = read_case(example.folder)
    # Of a case whose comparison takes its time, doors and people run it without.
    asked = {_CHECK: True} if check and _CHECK in case.document.parameters else {}
    values = case.parameters({**asked, **parse_parameters(parameters)})
    if submit:
        code, document, rows = _on_server(call, case, values)
    else:
        _require(example)
        code, document, rows = _here(call, case, values, work_dir)
    checked = _checked(example, rows)
    if call.as_json:
        call.screen.document({"run": document, "check": checked})
    elif not rows and not check and _CHECK in case.document.parameters:
        call.screen.text("nothing was compared: --check asks for it")
    else:
        _tell(call, example, rows, all_points=check)
    if check and code == 0 and not checked["passed"]:
        return _FAILED
    return code


def _here(
    call: Invocation, case: CaseFolder, values: dict[str, Any], work_dir: Path | None
) -> tuple[int, Any, list[Compared]]:
    from physicsrunner.cli.local import carry_out_here, document_of, tell
    from physicsrunner.cli.prepare import new_folder, prepare

    config = prepare(
        case,
        work_dir or new_folder(case, call.settings.work),
        values,
        server=call.server if call.host else None,
        token=call.needed_token() if call.host else None,
    )
    began = time.monotonic()
    result = carry_out_here(call, config)
    seconds = time.monotonic() - began
    code = tell(call, result, seconds_taken=seconds, quiet=call.as_json)
    return code, document_of(result, seconds), _rows(Path(result.work_dir) / CHECK_FILE)


def _on_server(
    call: Invocation, case: CaseFolder, values: dict[str, Any]
) -> tuple[int, Any, list[Compared]]:
    from physicsrunner.cli.follow import exit_code, follow_run
    from physicsrunner.cli.show import show

    with call.client() as client:
        document = client.submit(case, values, tags=["demo"])
        call.screen.note(f"run {document['number']} on {client.url}")
        document = follow_run(call, client, document)
        if not call.as_json:
            show(call, client, document)
        rows: list[Compared] = []
        if document["status"] == "completed":
            with tempfile.TemporaryDirectory(prefix="physicsrunner-") as folder:
                paths = {file["path"] for file in client.files(document["id"])}
                if CHECK_ARTIFACT in paths:
                    client.download(document["id"], folder, [CHECK_ARTIFACT])
                rows = _rows(Path(folder) / CHECK_ARTIFACT)
    return exit_code(document), document, rows


def _rows(path: Path) -> list[Compared]:
    return read(path) if path.is_file() else []


def _example(name: str) -> Example:
    if name not in EXAMPLES:
        near = get_close_matches(name, EXAMPLES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(EXAMPLES)}"
        raise UsageError(f"there is no packaged case {name!r}; {hint}")
    return EXAMPLES[name]


def _lacks(example: Example) -> list[str]:
    modules = [name for name in example.modules if importlib.util.find_spec(name) is None]
    return modules + [name for name in example.programs if shutil.which(name) is None]


def _require(example: Example) -> None:
    lacks = _lacks(example)
    if set(lacks) & set(example.modules):
        raise MissingExtra(
            f"{example.name} needs {', '.join(lacks)}: pip install 'physicsrunner[examples]'"
        )
    if lacks:
        raise UsageError(
            f"{example.name} needs {', '.join(lacks)} on PATH (Debian: apt install openfoam)"
        )


def _list(call: Invocation) -> None:
    if call.as_json:
        documents = [
            {
                "name": item.name,
                "title": item.title,
                "reference": item.reference,
                "tolerance": item.tolerance,
                "unit": item.unit,
                "lacks": _lacks(item),
            }
            for item in EXAMPLES.values()
        ]
        call.screen.document({"data": documents})
        return
    rows = []
    for item in EXAMPLES.values():
        lacks = _lacks(item)
        rows.append([item.name, f"lacks {', '.join(lacks)}" if lacks else "ready", item.title])
    call.screen.table([Column("CASE"), Column(""), Column("WHAT", shrink=True)], rows)
    call.screen.note("run one: physicsrunner demo cavity --check")


def _copy(call: Invocation, example: Example, target: Path) -> int:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty; give a new folder")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(example.folder, target, ignore=ignore, dirs_exist_ok=True)
    if call.as_json:
        call.screen.document({"name": example.name, "folder": str(target)})
    else:
        call.screen.text(f"copied {example.name} to {target}; physicsrunner run {target}")
    return 0


def _checked(example: Example, rows: list[Compared]) -> dict[str, Any]:
    worst = abs(largest(rows).deviation) if rows else None
    return {
        "reference": example.reference,
        "unit": example.unit,
        "tolerance": example.tolerance,
        "largest_deviation": worst,
        "passed": worst is not None and worst <= example.tolerance,
        "points": [
            {
                "quantity": row.quantity,
                "position": row.position,
                "reference": row.reference,
                "computed": row.computed,
                "deviation": row.deviation,
            }
            for row in rows
        ],
    }


def _tell(call: Invocation, example: Example, rows: list[Compared], *, all_points: bool) -> None:
    screen = call.screen
    if not rows:
        screen.text("nothing to check: the case has no reference for these parameters")
        return
    if all_points:
        screen.text()
        columns = [
            Column("QUANTITY"),
            Column("AT", right=True),
            Column("REFERENCE", right=True),
            Column("COMPUTED", right=True),
            Column("DEVIATION", right=True),
        ]
        screen.table(
            columns,
            [
                [
                    row.quantity,
                    f"{row.position + 1e-9:.4f}",  # halves upwards, as papers print them
                    f"{row.reference:.5f}",
                    f"{row.computed:.5f}",
                    f"{round(row.deviation, 5) + 0.0:+.5f}",  # never -0
                ]
                for row in rows
            ],
        )
        screen.text()
    worst = largest(rows)
    good = abs(worst.deviation) <= example.tolerance
    screen.text(
        f"{'check passed' if good else 'CHECK FAILED'}: the largest of {len(rows)} deviations is "
        f"{abs(worst.deviation):.5f} {example.unit} ({worst.quantity}, at {worst.position:.4f}); "
        f"allowed are {example.tolerance:g}"
    )
    screen.text(f"reference: {example.reference}")
    screen.text(example.note)
