"""
Settings of a user: which server, which token, which folders.

Promises:

- This is the only reader of settings files and of the ``PHYSICSRUNNER_*`` settings in the
  environment (what a main.py is told through its environment is read by `physicsrunner.solver`).
- `SETTINGS` (`config.table`) names every setting once: its key in the file, its variable, its
  default and its help.
- An option on the command line wins over the environment, the environment over the file, the file
  over the default.
- A wrong value raises `ConfigError`, which names the key, where it stands and what is expected.
- A file that holds tokens is written with mode 0600, whole or not at all. A token is never in a
  ``repr`` or in a message.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from physicsrunner.config.reading import NOTHING, normal_url
from physicsrunner.config.table import DEFAULT_SERVER, SETTINGS, Setting
from physicsrunner.errors import ConfigError

__all__ = [
    "DEFAULT_SERVER",
    "NOTHING",
    "SETTINGS",
    "TOKEN_VARIABLE",
    "Setting",
    "Settings",
    "forget",
    "load",
    "normal_url",
    "remember",
    "settings_file",
]

_TOKENS: Final = "tokens"


@dataclass(frozen=True)
class Settings:
    """The settings in force. Make one with `load`."""

    server: str  #: base address, without a slash at the end
    host: str
    port: int
    data: Path
    work: Path
    cache: Path
    ca: Path | None  #: certificates of authorities that clients trust
    database: str | None = field(repr=False)  #: with its password
    max_concurrent_runs: int | None
    retention_days: float | None
    retention_runs: int | None
    retention_inputs_days: float | None
    audit_days: float | None
    lease_s: float
    grace_s: float
    nats: str | None = field(repr=False)  #: with its password
    webhook_private: bool
    tls_cert: Path | None
    tls_key: Path | None
    trusted_proxies: tuple[str, ...]
    doors: tuple[str, ...] | None  #: None: as the command has it
    door_user: str | None  #: None: as the command has it; `NOTHING`: nobody
    shakescenario_port: int | None
    shakescenario_model: str
    shakescenario_folder: Path | None
    ath_model: str
    ath_max_concurrent_runs: int
    architech_model: str | None
    architech_design_url: str | None = field(repr=False)  #: with what its query may hold
    architech_mapping: Path | None
    cors_origins: tuple[str, ...]
    file: Path  #: the settings file, there or not
    token: str | None = field(default=None, repr=False)  #: of the environment: for every server
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)  #: by server
    warnings: tuple[str, ...] = ()

    def token_for(self, server: str) -> str | None:
        """
        Return the token to show to *server*, or None.

        The environment's comes first, then the one remembered for that server by
        ``physicsrunner login``.
        """
        return self.token or self.tokens.get(normal_url(server))


#: A token in the environment. It has no key in the file: tokens stand there by server.
TOKEN_VARIABLE: Final = "PHYSICSRUNNER_TOKEN"  # noqa: S105 -- the name of a variable
_XDG: Final = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_CACHE_HOME": ".cache",
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """
    Read the settings file and the environment.

    Parameters
    ----------
    environ
        The environment; that of this process when left out.

    Raises
    ------
    ConfigError
        Naming the key or variable, where it stands and what is expected.
    """
    environ = os.environ if environ is None else environ
    path = settings_file(environ)
    stored = _read_file(path)
    values: dict[str, Any] = {}
    for setting in SETTINGS.values():
        if environ.get(setting.variable):
            values[setting.name] = setting.read(environ[setting.variable], setting.variable)
        elif setting.name in stored:
            where = f"{path}: the key {setting.name!r}"
            values[setting.name] = setting.read(_text(stored[setting.name], where), where)
        else:
            values[setting.name] = setting.read(setting.default, setting.name)
    for name in ("data", "work", "cache"):
        values[name] = _expand(values[name], environ)
    tokens = _tokens(stored, path)
    return Settings(
        **values,
        file=path,
        token=environ.get(TOKEN_VARIABLE, "").strip() or None,
        tokens=MappingProxyType(tokens),
        warnings=_warnings(path) if tokens else (),
    )


def settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the settings file: ``~/.config/physicsrunner/config.yaml``."""
    environ = os.environ if environ is None else environ
    return _xdg("XDG_CONFIG_HOME", environ) / "physicsrunner" / "config.yaml"


def remember(url: str, token: str, environ: Mapping[str, str] | None = None) -> Path:
    """
    Keep *token* for the server at *url* and make that server the default.

    Returns the settings file, which has mode 0600 afterwards. Other keys are kept.
    """
    path = settings_file(environ)
    stored = _read_file(path)
    url = normal_url(url)
    stored["server"] = url
    stored[_TOKENS] = {**_tokens(stored, path), url: token}
    _write_file(path, stored)
    return path


def forget(url: str, environ: Mapping[str, str] | None = None) -> bool:
    """Drop the token that is kept for the server at *url*; say whether there was one."""
    path = settings_file(environ)
    stored = _read_file(path)
    tokens = _tokens(stored, path)
    if tokens.pop(normal_url(url), None) is None:
        return False
    stored[_TOKENS] = tokens
    _write_file(path, stored)
    return True


def _xdg(variable: str, environ: Mapping[str, str]) -> Path:
    given = environ.get(variable, "")
    # The XDG specification: a relative path is invalid and ignored.
    return Path(given) if given.startswith("/") else _home(environ) / _XDG[variable]


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(home) if home else Path.home()


def _expand(path: Path, environ: Mapping[str, str]) -> Path:
    first, *rest = path.parts
    if first == "~":
        return _home(environ).joinpath(*rest)
    if first.startswith("$XDG_"):
        return _xdg(first[1:], environ).joinpath(*rest)
    return path


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    import yaml  # only where there is a file: it costs a command 20 ms

    try:
        stored = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # PyYAML quotes the line in its message, and the line may hold a token.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line} is not YAML; expected `key: value` lines") from None
    if stored is None:
        return {}
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} holds a {type(stored).__name__}; expected `key: value` lines")
    for key in stored:
        if key not in SETTINGS and key != _TOKENS:
            raise ConfigError(_unknown(str(key), path))
    return stored


def _unknown(key: str, path: Path) -> str:
    known = [*SETTINGS, _TOKENS]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the keys are: {', '.join(known)}"
    return f"{path}: the key {key!r} is unknown; {hint}"


def _text(value: Any, where: str) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where} holds a {type(value).__name__}; expected a text")
    return str(value)


def _tokens(stored: Mapping[str, Any], path: Path) -> dict[str, str]:
    tokens = stored.get(_TOKENS) or {}
    where = f"{path}: the key {_TOKENS!r}"
    if not isinstance(tokens, dict) or not all(isinstance(t, str) for t in tokens.values()):
        raise ConfigError(f"{where} is wrong; expected `ADDRESS: TOKEN` lines below it")
    return {normal_url(str(url), where): token for url, token in tokens.items()}


def _warnings(path: Path) -> tuple[str, ...]:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return (f"{path} holds tokens and others can read it: chmod 600 {path}",)
    return ()


def _write_file(path: Path, stored: Mapping[str, Any]) -> None:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600; the rename keeps it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(dict(stored), file, sort_keys=True, allow_unicode=True)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
