"""
How the text of each setting becomes its value.

Promises: a wrong text raises `ConfigError`, which says where it stands and what is expected; one
that may hold a password is never quoted. An empty text is a setting that is not there.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from physicsrunner.core.run import DOORS
from physicsrunner.errors import ConfigError

#: Stands where a setting that has a default is to hold nothing.
NOTHING: Final = "-"
_MOST: Final = 1_000_000_000


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


def read_port(text: str, where: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ConfigError(f"{where} is {text!r}; expected a port from 0 to 65535")
    return port


def read_folder(text: str, where: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{where} is {text!r}; expected the path of a folder")
    return Path(text)


def read_file_name(text: str, where: str) -> Path | None:
    return read_folder(text, where).expanduser() if text else None


def read_count(text: str, where: str) -> int | None:
    if not text:
        return None
    if not text.strip().isdecimal() or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"{where} is {text!r}; expected a whole number from 1 to {_MOST}")
    return int(text)


def read_amount(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= _MOST:  # false for nan, too
        raise ConfigError(f"{where} is {text!r}; expected a number over 0, at most {_MOST}")
    return value


def read_database(text: str, where: str) -> str | None:
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


def read_nats(text: str, where: str) -> str | None:
    """Return the URL. An error never quotes it: it may hold a password."""
    url = text.strip()
    if url and (not url.startswith(("nats://", "tls://")) or url.endswith("://")):
        raise ConfigError(f"{where} is no address of a NATS server; expected nats://HOST:4222")
    return url or None


def read_flag(text: str, where: str) -> bool:
    word = text.strip().lower()
    if word not in ("yes", "no", "true", "false", "1", "0"):
        raise ConfigError(f"{where} is {text!r}; expected yes or no")
    return word in ("yes", "true", "1")


def read_proxies(text: str, where: str) -> tuple[str, ...]:
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


def read_host(text: str, where: str) -> str:
    if not text.strip() or "/" in text:
        raise ConfigError(f"{where} is {text!r}; expected an address to listen on")
    return text.strip()


def read_name(text: str, where: str) -> str | None:
    name = text.strip()
    if not name.isprintable() or len(name) > 255:
        raise ConfigError(f"{where} is {text!r}; expected a name of at most 255 characters")
    return name or None


def read_any_port(text: str, where: str) -> int | None:
    return read_port(text, where) if text.strip() else None


def read_design_url(text: str, where: str) -> str | None:
    """
    Return the URL as it stands, with path and query. An error never quotes it: it may hold a key.

    A user name is refused, as in every address of the settings.
    """
    url = text.strip()
    if not url:
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        known = False
    if not known or not url.isprintable() or " " in url or parts.fragment:
        raise ConfigError(
            f"{where} is no address; expected http://HOST:PORT or https://HOST, which may go on "
            "with a path and a query, and may hold {design_id} there"
        )
    if parts.username or parts.password:
        raise ConfigError(f"{where} holds a user name; expected an address without one")
    return url if "://" in url else f"http://{url}"


def read_doors(text: str, where: str) -> tuple[str, ...] | None:
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [word for word in words if word not in DOORS and words != [NOTHING]]
    if wrong:
        raise ConfigError(
            f"{where} holds {wrong[0]!r}; expected some of {', '.join(DOORS)}, with commas between "
            f"them, or {NOTHING} for none"
        )
    return tuple(door for door in DOORS if door in words) if words else None


def read_pages(text: str, where: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in found:
        parts = urlsplit(word)
        if parts.scheme not in ("http", "https") or not parts.netloc or word != parts.geturl():
            raise ConfigError(f"{where} holds {word!r}; expected http://HOST:PORT or https://HOST")
        if parts.path or parts.query or parts.username:
            raise ConfigError(f"{where} holds {word!r}; a page's origin has no path and no user")
    return found
