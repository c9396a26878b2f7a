"""
Rules for series, compiled from data (YAML or JSON text).

Promises: `rule_set_from_text`, `rule_set` and `rule_sets` either give rule sets or raise
`ConfigError` which names the file, the rule and what is expected. A pattern in which an unbounded
repeat holds another one (``(a+)+``) is refused: such patterns can take for ever on one line.

Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from physicsrunner.core.series_rules import (
    NUMBER,
    BlockRule,
    LineRule,
    Lookup,
    PairsRule,
    Progress,
    Rule,
    RuleSet,
    TableRule,
    Value,
)
from physicsrunner.errors import ConfigError

#: libyaml reads the packaged rules ten times as fast; most builds of PyYAML have it.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def rule_set_from_text(text: str, source: str) -> RuleSet:
    """Compile the YAML (or JSON) *text* of one rule set; *source* is its file's name."""
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 -- both are safe loaders
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML: {error}") from None
    return rule_set(data, source)


def rule_set(data: Any, source: str) -> RuleSet:
    """Compile one rule set from plain values."""
    top = _Keys(data, source)
    rules = top.take("rules", list, None)
    if not rules:
        raise ConfigError(f"{source}: the key 'rules' must be a list with at least one rule")
    progress = top.take("progress", dict, None)
    made = RuleSet(
        name=top.take("name", str, source),
        rules=tuple(_rule(item, f"{source}: rule {n}") for n, item in enumerate(rules, 1)),
        files=top.names("files"),
        claim=top.take("claim", str, ""),
        fallback=top.take("fallback", bool, False),
        x=top.take("x", str, "count"),
        x_name=top.take("x_name", str, None),
        max_series=top.take("max_series", int, 256),
        max_points=top.take("max_points", int, 10_000),
        lookups=tuple(
            _lookup(item, f"{source}: lookup {n}")
            for n, item in enumerate(top.take("lookup", list, []), 1)
        ),
        progress=None if progress is None else _progress(progress, f"{source}: progress"),
    )
    top.done()
    if made.max_series < 1 or made.max_points < 1:
        raise ConfigError(f"{source}: max_series and max_points must be at least 1")
    return made


class _Keys:
    """Takes the keys of one object and says what is wrong with them."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: expected an object, got {type(data).__name__}")
        self._left = dict(data)
        self.where = where
        self.known: list[str] = []

    def take(self, key: str, kind: type, default: Any) -> Any:
        self.known.append(key)
        value = self._left.pop(key, None)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(
                f"{self.where}: {key!r} must be of type {kind.__name__}, not {value!r}"
            )
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.take(key, list, [])
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{self.where}: {key!r} must be a list of texts, not {value!r}")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, str]:
        value = self.take(key, dict, {})
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            raise ConfigError(f"{self.where}: {key!r} must map texts to texts, not {value!r}")
        return dict(value)

    def pattern(self, key: str, flags: int = 0) -> re.Pattern[str] | None:
        text = self.take(key, str, None)
        return None if text is None else _pattern(text, f"{self.where}: {key!r}", flags)

    def done(self) -> None:
        if self._left:
            unknown = ", ".join(repr(key) for key in self._left)
            known = ", ".join(self.known)
            raise ConfigError(f"{self.where}: unknown key {unknown}; expected some of: {known}")


def _rule(data: Any, where: str) -> Rule:
    keys = _Keys(data, where)
    for kind, make in (("table", _table), ("block", _block), ("pairs", _pairs)):
        if isinstance(data, Mapping) and kind in data:
            inner = keys.take(kind, dict, {})
            keys.done()
            return make(_Keys(inner, f"{where} ({kind})"))
    return _line(keys)


def _line(keys: _Keys) -> LineRule:
    pattern = keys.pattern("match")
    if pattern is None:
        raise ConfigError(
            f"{keys.where}: expected 'match' (a pattern with named groups), 'table', 'block' "
            "or 'pairs'"
        )
    rule = LineRule(
        pattern=pattern,
        contains=keys.take("contains", str, ""),
        repeat=keys.take("repeat", bool, False),
        variables=keys.mapping("set"),
        texts=keys.names("text"),
        series=_series(keys) or {},
        x=keys.take("x", str, None),
        keep=keys.take("keep", str, "all"),
        eta=keys.take("eta", str, None),
        stop=keys.take("stop", bool, False),
    )
    keys.done()
    if rule.keep not in ("all", "first", "last"):
        raise ConfigError(f"{keys.where}: 'keep' must be all, first or last, not {rule.keep!r}")
    _check_groups(rule, keys.where)
    return rule


def _check_groups(rule: LineRule, where: str) -> None:
    groups = set(rule.pattern.groupindex)
    wanted = {*rule.variables.values(), *rule.texts, *([rule.eta] if rule.eta else [])}
    for name in rule.series:
        wanted |= set(re.findall(r"\{(\w*)\}", name))
    missing = sorted(wanted - groups)
    if missing:
        raise ConfigError(
            f"{where}: the pattern has no group {missing[0]!r}; "
            f"it has: {', '.join(sorted(groups)) or 'none'} (write (?P<{missing[0]}>...))"
        )


def _table(keys: _Keys) -> TableRule:
    header = keys.pattern("header")
    if header is None:
        raise ConfigError(f"{keys.where}: expected 'header', a pattern of the heading's line")
    rule = TableRule(
        header=header,
        contains=keys.take("contains", str, ""),
        columns=keys.names("columns"),
        x=keys.take("x", str, None),
        x_name=keys.take("x_name", str, None),
        series=_series(keys),
        prefix=keys.take("prefix", str, ""),
        variables=keys.mapping("set"),
        first=keys.mapping("first"),
        end=keys.pattern("end"),
    )
    keys.done()
    return rule


def _block(keys: _Keys) -> BlockRule:
    start, width = keys.pattern("start"), keys.take("width", int, 0)
    if start is None or width < 1:
        raise ConfigError(f"{keys.where}: expected 'start' (a pattern) and 'width' (at least 1)")
    rule = BlockRule(
        start=start,
        width=width,
        contains=keys.take("contains", str, ""),
        prefix=keys.take("prefix", str, ""),
        unit=keys.take("unit", str, None),
        bracketed=keys.names("bracketed"),
        units=keys.mapping("units"),
    )
    keys.done()
    return rule


def _pairs(keys: _Keys) -> PairsRule:
    rule = PairsRule(x=keys.names("x"))
    keys.done()
    return rule


def _series(keys: _Keys) -> dict[str, Value] | None:
    data = keys.take("series", dict, None)
    if data is None:
        return None
    made = {}
    for name, value in data.items():
        if isinstance(value, str):
            made[str(name)] = Value(value)
            continue
        inner = _Keys(value, f"{keys.where}: series {name!r}")
        made[str(name)] = Value(inner.take("value", str, ""), inner.take("unit", str, None))
        inner.done()
        if not made[str(name)].name:
            raise ConfigError(f"{keys.where}: series {name!r}: expected 'value', the group's name")
    return made


def _lookup(data: Any, where: str) -> Lookup:
    keys = _Keys(data, where)
    file, add = keys.take("file", str, ""), keys.take("add", bool, False)
    pattern = keys.pattern("match", re.MULTILINE | re.IGNORECASE)
    keys.done()
    if not file or pattern is None or not pattern.groupindex:
        raise ConfigError(f"{where}: expected 'file' and 'match' (a pattern with named groups)")
    return Lookup(file, pattern, add)


def _progress(data: Any, where: str) -> Progress:
    keys = _Keys(data, where)
    made = Progress(
        value=keys.take("value", str, ""),
        start=keys.take("start", str, None),
        end=keys.take("end", str, None),
        length=keys.take("length", str, None),
    )
    keys.done()
    if not made.value or (made.end is None) == (made.length is None):
        raise ConfigError(f"{where}: expected 'value', and either 'end' or 'length'")
    return made


def _pattern(text: str, where: str, flags: int = 0) -> re.Pattern[str]:
    text = text.replace("<num>", NUMBER)
    if nests_repeats(text):
        raise ConfigError(
            f"{where}: a repeat without limit inside another one can take for ever; "
            "expected a pattern without it (bound one of them, such as {0,99})"
        )
    try:
        return re.compile(text, flags)
    except re.error as error:
        raise ConfigError(f"{where} is not a regular expression: {error}") from None


def nests_repeats(pattern: str) -> bool:
    """Tell whether a group that is repeated without limit holds such a repeat itself."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)
    open_groups: list[bool] = [False]
    for match in re.finditer(r"[()]|(?:[*+]|\{\d*,\})|(?<!\()\?", plain):
        sign = match[0]
        if sign == "(":
            open_groups.append(False)
        elif sign == ")" and len(open_groups) > 1:
            inside = open_groups.pop()
            if inside and re.match(r"[*+]|\{\d*,\}", plain[match.end() :]):
                return True
            open_groups[-1] = open_groups[-1] or inside
        elif sign not in ")?":
            open_groups[-1] = True
    return False


def rule_sets(data: Any, source: str) -> tuple[RuleSet, ...]:
    """
    Compile the ``series`` key of a case: a list of rules, or of whole rule sets.

    Raises
    ------
    ConfigError
        If something in *data* is not as expected.
    """
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise ConfigError(f"{source}: expected a list of rules, got {type(data).__name__}")
    sets = [item for item in data if isinstance(item, Mapping) and "rules" in item]
    rules = [item for item in data if not (isinstance(item, Mapping) and "rules" in item)]
    made = [rule_set(item, f"{source}: rule set {n}") for n, item in enumerate(sets, 1)]
    if rules:
        made.append(rule_set({"name": "case", "rules": rules}, source))
    return tuple(made)
