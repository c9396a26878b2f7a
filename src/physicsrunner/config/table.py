"""
The table of all settings, and how the text of each becomes its value.

Promises: a wrong text raises `ConfigError`, which says where it stands and what is expected; one
that may hold a password is never quoted. An empty text is a setting that is not there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from physicsrunner.errors import ConfigError
from physicsrunner.wire.rest import DEFAULT_PORT

DEFAULT_SERVER: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
_MOST: Final = 1_000_000_000


@dataclass(frozen=True)
class Setting:
    """One setting: its key in the file, its environment variable, its default and its help."""

    name: str
    variable: str
    default: str  #: as text; ``~`` and the XDG folders are expanded
    help: str
    read: Callable[[str, str], Any]  #: (text, where) -> value, or ConfigError


def normal_url(text: str, where: str = "the server's address") -> str:
    """
    Return a server's address in the one form that is used as a key: no slash at the end.

    ``localhost:3011`` is taken as ``http://localhost:3011``. Raises `ConfigError` for anything
    that is no http address, or that carries a password.
    """
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    wrong = ConfigError(f"{where} is {text!r}; expected http://HOST:PORT or https://HOST")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        raise wrong from None
    if not known:
        raise wrong
    if parts.username or parts.password:
        raise ConfigError(f"{where} holds a user name; expected http://HOST:PORT and a token")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _read_port(text: str, where: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where} is {text!r}; expected a port from 0 to 65535")
    return port


def _read_folder(text: str, where: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{where} is {text!r}; expected the path of a folder")
    return Path(text)


def _read_file_name(text: str, where: str) -> Path | None:
    return _read_folder(text, where).expanduser() if text else None


def _read_count(text: str, where: str) -> int | None:
    if not text:
        return None
    if not text.strip().isdecimal() or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"{where} is {text!r}; expected a whole number from 1 to {_MOST}")
    return int(text)


def _read_amount(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= _MOST:  # false for nan, too
        raise ConfigError(f"{where} is {text!r}; expected a number over 0, at most {_MOST}")
    return value


def _read_database(text: str, where: str) -> str | None:
    """Return the URL with the driver that we use. An error never quotes it: it has a password."""
    url = text.strip()
    if not url:
        return None
    scheme, colon, rest = url.partition("://")
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ConfigError(f"{where} holds a port that is no number") from None
    if scheme in ("postgres", "postgresql", "postgresql+psycopg") and rest:
        return f"postgresql+psycopg://{rest}"
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return url
    kind = f"a {scheme}:// address" if colon else "no address"
    raise ConfigError(
        f"{where} is {kind}; expected postgresql://USER:PASSWORD@HOST/NAME or sqlite:////PATH"
    )


def _read_nats(text: str, where: str) -> str | None:
    """Return the URL. An error never quotes it: it may hold a password."""
    url = text.strip()
    if url and (not url.startswith(("nats://", "tls://")) or url.endswith("://")):
        raise ConfigError(f"{where} is no address of a NATS server; expected nats://HOST:4222")
    return url or None


def _read_flag(text: str, where: str) -> bool:
    word = text.strip().lower()
    if word not in ("yes", "no", "true", "false", "1", "0"):
        raise ConfigError(f"{where} is {text!r}; expected yes or no")
    return word in ("yes", "true", "1")


def _read_proxies(text: str, where: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in found:
        try:
            ipaddress.ip_network(word)
        except ValueError:
            raise ConfigError(
                f"{where} holds {word!r}; expected addresses or networks, with commas between "
                "them: 127.0.0.1, 10.0.0.0/8"
            ) from None
    return found


def _read_host(text: str, where: str) -> str:
    if not text.strip() or "/" in text:
        raise ConfigError(f"{where} is {text!r}; expected an address to listen on")
    return text.strip()


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(
    {
        setting.name: setting
        for setting in (
            Setting(
                "server",
                "PHYSICSRUNNER_SERVER",
                DEFAULT_SERVER,
                "address of the server that commands talk to",
                normal_url,
            ),
            Setting(
                "host",
                "PHYSICSRUNNER_HOST",
                "127.0.0.1",
                "address that `physicsrunner server` listens on",
                _read_host,
            ),
            Setting(
                "port",
                "PHYSICSRUNNER_PORT",
                str(DEFAULT_PORT),
                "port that `physicsrunner server` listens on",
                _read_port,
            ),
            Setting(
                "data",
                "PHYSICSRUNNER_DATA",
                "$XDG_DATA_HOME/physicsrunner",
                "folder in which the server keeps runs, files and its database",
                _read_folder,
            ),
            Setting(
                "work",
                "PHYSICSRUNNER_WORK",
                "runs",
                "folder in which `physicsrunner run` makes its work folders",
                _read_folder,
            ),
            Setting(
                "cache",
                "PHYSICSRUNNER_CACHE",
                "$XDG_CACHE_HOME/physicsrunner",
                "folder for inputs that were fetched before",
                _read_folder,
            ),
            Setting(
                "ca",
                "PHYSICSRUNNER_CA",
                "",
                "PEM file of the authorities that clients and agents trust over https, "
                "in place of the machine's",
                _read_file_name,
            ),
            Setting(
                "database",
                "PHYSICSRUNNER_DATABASE",
                "",
                "database of the server: postgresql://USER:PASSWORD@HOST/NAME; "
                "without it, SQLite in the data folder",
                _read_database,
            ),
            Setting(
                "max_concurrent_runs",
                "PHYSICSRUNNER_MAX_CONCURRENT_RUNS",
                "",
                "most runs that the server has carried out at the same time; without it, no limit",
                _read_count,
            ),
            Setting(
                "retention_days",
                "PHYSICSRUNNER_RETENTION_DAYS",
                "",
                "days after their end at which runs are removed with their files; "
                "without it, never",
                _read_amount,
            ),
            Setting(
                "retention_runs",
                "PHYSICSRUNNER_RETENTION_RUNS",
                "",
                "most ended runs that are kept, the newest; without it, all",
                _read_count,
            ),
            Setting(
                "retention_inputs_days",
                "PHYSICSRUNNER_RETENTION_INPUTS_DAYS",
                "",
                "days after which an uploaded input is removed that no run names; "
                "without it, never",
                _read_amount,
            ),
            Setting(
                "audit_days",
                "PHYSICSRUNNER_AUDIT_DAYS",
                "",
                "days after which the audit forgets what people, agents and deletions did; "
                "without it, never",
                _read_amount,
            ),
            Setting(
                "lease_s",
                "PHYSICSRUNNER_LEASE_S",
                "60",
                "seconds after which an agent that is not heard of counts as unreachable",
                _read_amount,
            ),
            Setting(
                "grace_s",
                "PHYSICSRUNNER_GRACE_S",
                "300",
                "seconds after that, before `on_lost_contact` of a run decides",
                _read_amount,
            ),
            Setting(
                "nats",
                "PHYSICSRUNNER_NATS",
                "",
                "NATS server that is told of all events: nats://HOST:4222; without it, none",
                _read_nats,
            ),
            Setting(
                "webhook_private",
                "PHYSICSRUNNER_WEBHOOK_PRIVATE",
                "no",
                "whether webhooks may lead to addresses that are not public: yes or no",
                _read_flag,
            ),
            Setting(
                "tls_cert",
                "PHYSICSRUNNER_TLS_CERT",
                "",
                "PEM file of the server's certificate, then of those that signed it: "
                "it speaks https",
                _read_file_name,
            ),
            Setting(
                "tls_key",
                "PHYSICSRUNNER_TLS_KEY",
                "",
                "PEM file of the certificate's private key, without a password",
                _read_file_name,
            ),
            Setting(
                "trusted_proxies",
                "PHYSICSRUNNER_TRUSTED_PROXIES",
                "",
                "addresses and networks of reverse proxies whose X-Forwarded-For and "
                "X-Forwarded-Proto are believed, with commas between them",
                _read_proxies,
            ),
        )
    }
)
