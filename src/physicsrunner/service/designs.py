"""
Designs, fetched from the service that keeps them.

Promises:

- A design is asked for at the operator's address and nowhere else: its id is one segment of the
  path, whatever it holds, and no redirection is followed.
- A service that is away is asked again, a little later each time, within `Patience.total_s`; then
  the caller is told, and after some callers nobody asks for a while (`service.circuit`).
- What is answered is read up to `MAX_BYTES` and in time; what is no JSON object is refused.

The address may hold a password: it is in no error and no log.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests
import urllib3

from physicsrunner.client.trust import ca_bundle
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import (
    BadDesign,
    ConfigError,
    DesignServiceAway,
    InvalidRequest,
    NoSuchDesign,
    ServerUnavailable,
)
from physicsrunner.service.circuit import Circuit
from physicsrunner.wire.codec import check_depth

MAX_BYTES: Final = 4 * 1024 * 1024  #: of one design
MAX_ID: Final = 90  #: characters of an id; it is kept in a tag of the run
PLACE: Final = "{design_id}"  #: where the id stands in the setting; without it, behind /designs/
LIMIT: Final = 3  #: fetches in a row that fail before nobody asks for a while
OPEN_S: Final = 10.0  #: how long that while is

_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "physicsrunner",
}
_PIECE: Final = 64 * 1024
_BUSY: Final = 429
_ABSENT: Final = (404, 410)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long and how often the design service is asked; all times are seconds."""

    connect_s: float = 2.0
    read_s: float = 5.0  #: without a byte
    total_s: float = 15.0  #: for all tries together, and the pauses between them
    tries: int = 3
    first_s: float = 0.25  #: about so long is the first pause; then twice as long each time


class DesignService:
    """The client of one design service. Thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        """
        *url* is its address: ``{url}/designs/ID`` is asked for, or *url* with the id at `PLACE`.

        *now* is a clock that does not jump.
        """
        path, mark, query = url.partition("?")
        behind = f"{path.rstrip('/')}/designs/{PLACE}{mark}{query}"
        self._url = url if PLACE in url else behind
        self._host = _host(url)
        self._now = now
        self._sleep = sleep
        self._random = random
        self._patience = patience or Patience()
        self._backoff = Backoff(self._patience.first_s, self._patience.total_s)
        self._circuit = Circuit(self._left_alone, limit=LIMIT, wait_s=OPEN_S, now=now)

    def get(self, design_id: str) -> dict[str, Any]:
        """
        Return the design of that id.

        Raises
        ------
        NoSuchDesign
            If the service has none.
        DesignServiceAway
            If it does not answer, or said that it cannot now; ``retry_after`` says when to ask.
        BadDesign
            If it answered anything else than a design.
        InvalidRequest
            If the id cannot be one.
        """
        address = self._url.replace(PLACE, quote(checked_id("design_id", design_id), safe=""))
        with self._circuit.closed():
            return self._patiently(address, design_id)

    def _patiently(self, address: str, design_id: str) -> dict[str, Any]:
        deadline = self._now() + self._patience.total_s
        tries = 0
        while True:
            tries += 1
            try:
                return self._asked(address, design_id, deadline)
            except DesignServiceAway as error:
                asked = error.retry_after
                wait = self._backoff.wait(tries, random=self._random, retry_after=asked)
                _LOG.info("design %s, try %d: %s", design_id, tries, error)
                if tries >= self._patience.tries or self._now() + wait >= deadline:
                    raise
                self._sleep(wait)

    def _asked(self, address: str, design_id: str, deadline: float) -> dict[str, Any]:
        left = max(0.1, deadline - self._now())
        limits = min(self._patience.connect_s, left), min(self._patience.read_s, left)
        with requests.Session() as session:
            # Neither a proxy nor a .netrc of the account that the server runs in.
            session.trust_env = False
            session.verify = ca_bundle() or True
            try:
                with session.get(
                    address,
                    headers=_HEADERS,
                    timeout=limits,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    self._check(answer, design_id)
                    body = self._body(answer, design_id, deadline)
            except requests.Timeout:
                raise self._away("does not answer in time") from None
            except requests.exceptions.SSLError:
                raise self._away("is not trusted: its certificate is not good") from None
            except (requests.ConnectionError, urllib3.exceptions.HTTPError, OSError):
                raise self._away("cannot be reached, or cut the line") from None
        return self._design(body, design_id)

    def _check(self, answer: requests.Response, design_id: str) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status in _ABSENT:
            raise NoSuchDesign(f"the design service has no design {design_id!r}")
        if status == _BUSY or status >= 500:
            raise self._away(f"answered {status}", _seconds(answer.headers.get("Retry-After")))
        said = "with a redirection, which is not followed" if 300 <= status < 400 else ""
        raise BadDesign(
            f"the design service at {self._host} answered {status} {said}".rstrip()
            + f" when it was asked for design {design_id!r}"
        )

    def _body(self, answer: requests.Response, design_id: str, deadline: float) -> bytes:
        body = bytearray()
        # Not by requests' own iterator: it waits until a piece is full, however long that takes.
        while piece := answer.raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > MAX_BYTES:
                raise BadDesign(f"design {design_id!r} is over {MAX_BYTES} bytes")
            if self._now() > deadline:
                raise self._away("answers too slowly")
        return bytes(body)

    def _design(self, body: bytes, design_id: str) -> dict[str, Any]:
        try:
            design = json.loads(body, parse_constant=_number, parse_float=_number)
            check_depth(design, "the design")
        except (ValueError, RecursionError, InvalidRequest) as error:
            raise BadDesign(f"design {design_id!r} is no JSON: {str(error)[:200]}") from None
        if not isinstance(design, dict):
            raise BadDesign(f"design {design_id!r} is no JSON object")
        return design

    def _away(self, what: str, retry_after: float | None = None) -> DesignServiceAway:
        error = DesignServiceAway(f"the design service at {self._host} {what}")
        error.retry_after = retry_after
        return error

    def _left_alone(self, last: str, left: float) -> ServerUnavailable:
        error = DesignServiceAway(f"{last}; it is left alone for {math.ceil(left)} s")
        error.retry_after = left
        return error


def checked_id(name: str, text: Any, *, longest: int = MAX_ID) -> str:
    """Return an id of the client's that can be kept, asked for and shown, or raise."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{name} is missing: it is a text")
    if len(text) > longest or not text.isprintable():
        raise InvalidRequest(f"{name} {text[:40]!r}: it is 1 to {longest} printable characters")
    if text in (".", ".."):  # of which an address would make another folder
        raise InvalidRequest(f"{name} {text!r} cannot be one")
    return text


def _host(url: str) -> str:
    """Return where *url* leads, without a password; raise `ConfigError` if it leads nowhere."""
    try:
        parts = urlsplit(url.replace(PLACE, "0"))
        port = parts.port
    except ValueError:
        raise ConfigError("the setting architech_design_url is not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "the setting architech_design_url is the http:// or https:// address of the design "
            f"service; {PLACE} in it stands for the design's id"
        )
    if PLACE in url.partition("://")[2].partition("/")[0]:  # a caller would name the host
        raise ConfigError(f"architech_design_url: {PLACE} stands behind the host, not in it")
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def _seconds(text: str | None) -> float | None:
    """Return Retry-After where it is a number of seconds."""
    return float(text) if text is not None and text.isdecimal() and len(text) < 6 else None


def _number(text: str) -> float:
    """Return a number of a design: NaN and what is too large for one would run unnoticed."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a number")
    return value
