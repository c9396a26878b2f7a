"""
The parts of docs/ that follow from the code: `scripts/generate` writes them, `--check` compares.

A generated part stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end -->``;
what is around it is written by hand. One function a part; none reads a clock.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from physicsrunner import config, errors, solver
from physicsrunner.cli.main import cli
from physicsrunner.core import run, state
from physicsrunner.core.exitcodes import EXIT_CODES
from physicsrunner.core.stages import STAGE_NAMES
from physicsrunner.wire import batch, documents, live, messages

DOCS = Path(__file__).resolve().parent.parent / "docs"
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def comments(module: ModuleType) -> dict[tuple[str, str], str]:
    """Return the ``#:`` or ``#`` comment of each line ``name: ...`` of a class: (class, name)."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for item in node.body:
            target = item.targets[0] if isinstance(item, ast.Assign) else None
            target = item.target if isinstance(item, ast.AnnAssign) else target
            if isinstance(target, ast.Name) and item.end_lineno:
                comment = re.search(r"\s#:? (.+)$", lines[item.end_lineno - 1])
                found[node.name, target.id] = comment[1].strip() if comment else ""
    return found


def first_line(thing: Any) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def states_picture() -> str:
    """The picture of the table, for a viewer that knows mermaid."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {state.RunState.QUEUED}"]
    for present, edges in state.TRANSITIONS.items():
        lines += [f"    {present} --> {after}: {event}" for event, after in edges.items()]
        if not edges:
            lines.append(f"    {present} --> [*]")
    return "\n".join([*lines, "```", ""])


def states_table() -> str:
    """Every pair of state and event; a dash: refused with `illegal_transition`."""
    head = ["state", *(f"`{event}`" for event in state.RunEvent)]
    rows = [
        [f"**{present}**", *(edges.get(event, "-") for event in state.RunEvent)]
        for present, edges in state.TRANSITIONS.items()
    ]
    return table(head, rows)


def states_words() -> str:
    """What the states and events mean."""
    known = comments(state)
    both = [
        table(
            [word, "meaning"],
            ([f"`{item.value}`", known[kind.__name__, item.name]] for item in kind),
        )
        for word, kind in (("state", state.RunState), ("event", state.RunEvent))
    ]
    return "\n".join(both)


def error_classes() -> list[type[errors.PhysicsRunnerError]]:
    """Every error class of the tree, in the order of the module."""
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PhysicsRunnerError)
    ]


def errors_table() -> str:
    """Every error with its code, HTTP status, exit status and advice."""
    rows = (
        [
            f"`{cls.code}`",
            cls.__name__,
            cls.status_hint,
            cls.exit_code,
            "yes" if cls.retryable else "no",
            f"{first_line(cls)} {cls.what_to_do}",
        ]
        for cls in error_classes()
    )
    head = ["code", "class", "HTTP", "exit", "retry", "what it means, and what to do"]
    return table(head, rows)


def settings_table() -> str:
    """Every setting with its key, variable and default."""
    rows = [
        [f"`{one.name}`", f"`{one.variable}`", f"`{one.default}`" if one.default else "-", one.help]
        for one in config.SETTINGS.values()
    ]
    rows.append(["-", f"`{config.TOKEN_VARIABLE}`", "-", "a token, used for every server"])
    return table(["key", "variable", "default", "what it is"], rows)


def _usage(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, max_content_width=88, terminal_width=88)
    return command.get_help(context)


def commands() -> str:
    """What ``--help`` says, of every command."""
    context = click.Context(cli, info_name="physicsrunner")
    parts = [f"```text\n{_usage('physicsrunner', cli)}\n```\n"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if not command.hidden:
            text = _usage(f"physicsrunner {name}", command)
            parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _type(field: Field[Any]) -> str:
    return str(field.type).replace(" | None", "?")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return "" if field.default is None else f"`{field.default!r}`"
    return "" if field.default_factory is not MISSING else "required"


def message_tables() -> str:
    """Every message of the native wire and every field of it."""
    return _dataclasses(value for value in vars(messages).values() if isinstance(value, type))


def run_tables() -> str:
    """The documents of a run: what is asked for, what lists show, what is known of one."""
    asked = (run.NewRun, run.NewStudy, batch.BatchRequest, batch.ParameterSet, batch.BatchAnswer)
    return _dataclasses((*asked, run.RunSummary, run.RunRecord))


def _dataclasses(classes: Iterable[type]) -> str:
    parts = []
    for cls in classes:
        if not is_dataclass(cls):
            continue
        known: dict[str, str] = {}
        for base in reversed(cls.__mro__[:-1]):
            module = sys.modules[base.__module__]
            found = comments(module).items()
            known.update({name: text for (owner, name), text in found if owner == base.__name__})
        rows = [
            [f"`{f.name}`", f"`{_type(f)}`", _default(f), known.get(f.name, "")]
            for f in fields(cls)
        ]
        fields_table = table(["field", "type", "default", "meaning"], rows)
        parts.append(f"### {cls.__name__}\n\n{first_line(cls)}\n\n{fields_table}")
    return "\n".join(parts)


def event_table() -> str:
    """Every event type of the live feed."""
    names = [
        (name, value)
        for name, value in vars(live).items()
        if name.isupper() and isinstance(value, str) and value.startswith("simulation/")
    ]
    rows = [
        [f"`{value}`", "live only" if value in live.LIVE_ONLY else "logged"] for _, value in names
    ]
    return table(["type", "kept"], rows)


def exit_codes() -> str:
    """What the exit status of every command means."""
    return table(["exit", "meaning"], ([code, words] for code, words in EXIT_CODES.items()))


def config_keys() -> str:
    """The keys of config.json."""
    return _keys(documents.RunnerConfig, documents._CONFIG_KEYS)  # noqa: SLF001 - the pages show them


def case_keys() -> str:
    """The keys of case.yaml."""
    return _keys(documents.Case, documents._CASE_KEYS)  # noqa: SLF001 - the pages show them


def _keys(cls: type, keys: Mapping[str, Any]) -> str:
    known = comments(documents)
    rows = ([f"`{k}`", v.expected, known.get((cls.__name__, v.field), "")] for k, v in keys.items())
    return table(["key", "expected", "meaning"], rows)


def stage_names() -> str:
    """The names by which stages are known."""
    by_stage: dict[str, list[str]] = {}
    for name, stage in STAGE_NAMES.items():
        by_stage.setdefault(stage, []).append(f"`{name}`")
    return table(["stage", "names"], ([f"**{k}**", ", ".join(v)] for k, v in by_stage.items()))


def solver_names() -> str:
    """What a main.py can call."""
    rows = []
    for name in solver.__all__:
        thing = getattr(solver, name)
        called = "" if isinstance(thing, type) else f"({_parameters(thing)})"
        rows.append([f"`{name}{called}`", first_line(thing)])
    return table(["name", "does"], rows)


def _parameters(function: Callable[..., Any]) -> str:
    shown = []
    stars: dict[Any, str] = {inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in inspect.signature(function).parameters.values():
        plain = isinstance(parameter.default, (str, int, float, type(None)))
        default = f"={parameter.default!r}" if plain else "=..."
        if parameter.default is parameter.empty:
            default = ""
        shown.append(f"{stars.get(parameter.kind, '')}{parameter.name}{default}")
    return ", ".join(shown)


PARTS: dict[str, Callable[[], str]] = {
    "states_picture": states_picture,
    "states_table": states_table,
    "states_words": states_words,
    "errors": errors_table,
    "settings": settings_table,
    "commands": commands,
    "messages": message_tables,
    "runs": run_tables,
    "events": event_table,
    "stage_names": stage_names,
    "solver_names": solver_names,
    "exit_codes": exit_codes,
    "config_keys": config_keys,
    "case_keys": case_keys,
}


def generated(text: str) -> str:
    """Return a page with its generated parts made anew."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)


def main(argv: list[str]) -> int:
    """Write the pages, or compare them; return the exit status."""
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = generated(old)
        if new != old:
            stale.append(str(path.relative_to(DOCS.parent)))
            if "--check" not in argv:
                path.write_text(new, encoding="utf-8")
    if "--check" in argv and stale:
        print(textwrap.fill(f"not up to date (run scripts/generate): {', '.join(stale)}", 100))
        return 1
    print("\n".join(f"wrote {name}" for name in stale) or "up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
