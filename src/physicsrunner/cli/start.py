"""
The way in of ``python -m physicsrunner`` and ``python -m runner``.

Promises: what carries out the run of a configuration file, given nothing but the runner's own
options, begins without loading the command line (25 ms of processor time for each of many short
runs). Everything else, and every mistake in the options, is for `cli.main`; both do the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

#: Option -> its name here; True: it takes a value.
_OPTIONS: Final[Mapping[str, tuple[str, bool]]] = MappingProxyType(
    {
        "--configPath": ("config", True),
        "--config": ("config", True),
        "--startingStage": ("starting_stage", True),
        "--skipStages": ("skip_stages", True),
        "--debugMode": ("debug", False),
    }
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the command line *arguments* (default: those of this process) and exit."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = runner_options(given)
    if options is None:
        from physicsrunner.cli.main import main as with_click

        with_click(given)
        return
    from physicsrunner.cli.door import behind_door

    sys.exit(behind_door(lambda: _run(options)))


def runner_options(arguments: Sequence[str]) -> dict[str, str] | None:
    """Return the runner's own options; None when there is anything else, or no configuration."""
    found: dict[str, str] = {}
    left = list(arguments[1:] if arguments[:1] == ["run"] else arguments)
    while left:
        option, equals, value = left.pop(0).partition("=")
        name, takes_value = _OPTIONS.get(option, ("", False))
        if not name or bool(equals) > takes_value:
            return None
        if takes_value and not equals:
            if not left or left[0].startswith("-"):
                return None
            value = left.pop(0)
        found[name] = value
    return found if found.get("config") else None


def _run(options: Mapping[str, str]) -> int:
    from physicsrunner.cli.invocation import Invocation
    from physicsrunner.cli.local import run_config

    return run_config(
        Invocation(as_json=False, host=None, debug=False),
        Path(options["config"]),
        starting_stage=options.get("starting_stage"),
        skip_stages=options.get("skip_stages", ""),
        debug="debug" in options,
    )
