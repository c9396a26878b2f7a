"""
One request of the PhysicsWorks wire, and what its failure means.

Promises: one call is one try. An answer that means "later" (429, 5xx) and a broken line raise
`Unanswered`, which knows whether the server can have taken the request (``taken``): a refused
connection, 429 and 503 cannot; everything else may. A token never appears in an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from physicsrunner.client.http import short
from physicsrunner.client.trust import ca_bundle
from physicsrunner.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    ServerUnavailable,
    TooLarge,
)
from physicsrunner.wire.physicsworks import AUTH_HEADER

CONNECT_S: Final = 10.0
READ_S: Final = 120.0  # a chunk of 7 MB over a slow line, and a server that stores it slowly
_PIECE: Final = 1024 * 1024
_REDIRECTS: Final = 5

_BY_STATUS: Final[dict[int, type[PhysicsRunnerError]]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
}


class Unanswered(ServerUnavailable):
    """No usable answer: try again. ``taken``: the server may have acted on the request."""

    def __init__(
        self, message: str, *, taken: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.taken = taken
        self.retry_after = retry_after


def _session() -> requests.Session:
    session = requests.Session()
    session.verify = ca_bundle() or True
    return session


class PhysicsWorksHttp:
    """Requests to one host. Calls may come from several threads at once."""

    def __init__(self, host: str, token: str, session: requests.Session | None = None) -> None:
        self.host = host if host.endswith("/") else host + "/"
        self._headers = {AUTH_HEADER: token}
        self._session = session or _session()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout: float = READ_S,
    ) -> requests.Response:
        """Make one request; return its answer if it is a success, else raise."""
        headers = dict(self._headers)
        if content_type:
            headers["Content-Type"] = content_type
        with _line(self.host):
            answer = self._session.request(
                method,
                self.host + path,
                json=json,
                data=body,
                headers=headers,
                timeout=(CONNECT_S, timeout),
                allow_redirects=False,
            )
        _check(answer, f"{method} {path}")
        return answer

    def document(self, method: str, path: str, *, json: Any = None) -> dict[str, Any]:
        """Make one request whose answer is a JSON object; return it."""
        answer = self.call(method, path, json=json)
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise InvalidRequest(f"{method} {self.host}{path} was not answered with a JSON object")
        return value

    @contextmanager
    def stream(self, url: str, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """Open the bytes at *url* (absolute, or below the host) from *offset* on."""
        url = url if "://" in url else self.host + url
        answer = self._open(url, offset)
        for _ in range(_REDIRECTS):
            if not answer.is_redirect:
                break
            # Stored files may lie with somebody else (a signed address of an object store).
            url = urljoin(url, answer.headers["Location"])
            answer.close()
            answer = self._open(url, offset)
        with answer:
            if answer.status_code == 416 and offset:
                yield iter(())
                return
            _check(answer, f"GET {url}")
            yield _pieces(answer, 0 if answer.status_code == 206 else offset, self.host)

    def _open(self, url: str, offset: int) -> requests.Response:
        # The token goes to its own host only.
        headers = dict(self._headers) if url.startswith(self.host) else {}
        headers["Accept-Encoding"] = "identity"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with _line(self.host):
            return self._session.get(
                url,
                headers=headers,
                stream=True,
                timeout=(CONNECT_S, READ_S),
                allow_redirects=False,
            )

    def set_token(self, token: str) -> None:
        """Use *token* from now on."""
        self._headers = {AUTH_HEADER: token}

    def close(self) -> None:
        """Release connections."""
        self._session.close()


def _pieces(answer: requests.Response, skip: int, host: str) -> Iterator[bytes]:
    """Iterate over the body without its first *skip* bytes (a server that knows no ranges)."""
    length = answer.headers.get("Content-Length")
    left = int(length) if length and length.isdigit() else None
    with _line(host):
        for piece in answer.iter_content(_PIECE):
            left = None if left is None else left - len(piece)
            rest, skip = piece[skip:], max(0, skip - len(piece))
            if rest:
                yield rest
    if left:
        raise Unanswered(f"{host} ended the answer {left} bytes early", taken=False)


@contextmanager
def _line(host: str) -> Iterator[None]:
    """Map what the HTTP library raises, at one door."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise Unanswered(f"{host}: no secure connection ({short(error)})", taken=False) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
        raise InvalidRequest(f"{host} is not the address of a server") from None
    except requests.exceptions.RequestException as error:
        raise Unanswered(f"{host}: {_reason(error)}", taken=not _refused(error)) from None


def _refused(error: BaseException) -> bool:
    """Say whether the connection was never made: then nothing can have been taken."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


def _reason(error: BaseException) -> str:
    return "no connection" if _refused(error) else f"the line broke ({type(error).__name__})"


def _check(answer: requests.Response, what: str) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    said = f"{what} was answered with {status}: {answer.text[:300]}"
    if status in (429, 503):
        after = _retry_after(answer.headers.get("Retry-After"))
        raise Unanswered(said, taken=False, retry_after=after)
    if status >= 500 or status == 408:
        raise Unanswered(said, retry_after=_retry_after(answer.headers.get("Retry-After")))
    raise _BY_STATUS.get(status, InvalidRequest)(said)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
