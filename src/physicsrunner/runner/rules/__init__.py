"""
The packaged rules for known solvers' logs, and what a case makes of them.

Promises: `packaged` reads the YAML files beside this module once and gives the same rule sets to
every caller; they are immutable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pkgutil import get_data
from typing import Any

from physicsrunner.core.series_format import rule_set_from_text, rule_sets
from physicsrunner.core.series_rules import RuleSet
from physicsrunner.errors import ConfigError

NAMES = ("openfoam", "lammps", "calculix", "gromacs", "generic")


@cache
def packaged() -> tuple[RuleSet, ...]:
    """Return the rule sets of all known solvers, and the generic one last."""
    return tuple(rule_set_from_text(_text(name), f"{name}.yaml") for name in NAMES)


def _text(name: str) -> str:
    # Not importlib.resources, which loads modules for what is a file beside this one.
    data = get_data(__name__, f"{name}.yaml")
    return (data or b"").decode("utf-8")


def rules_for(series: Sequence[Any], source: str) -> tuple[RuleSet, ...]:
    """
    Return the rule sets of a run: the packaged ones and the case's own.

    Parameters
    ----------
    series
        The case's ``series`` key: rules, whole rule sets, or names of packaged rule sets. Where
        names stand, only those packaged ones apply.
    source
        The file that the key stands in, for errors.

    Raises
    ------
    ConfigError
        If a name is unknown or a rule is not as expected.
    """
    names = [item for item in series if isinstance(item, str)]
    known = {rules.name: rules for rules in packaged()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{source}: series: there are no packaged rules {name!r}; expected one of: "
                f"{', '.join(known)}, or a rule"
            )
    own = rule_sets([item for item in series if not isinstance(item, str)], f"{source}: series")
    return (*own, *((known[name] for name in names) if names else packaged()))
