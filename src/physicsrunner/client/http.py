"""
One HTTP request to our server, and the one door where its failures become our errors.

Promises:

- One call is one request: nothing is retried here.
- Nobody answered, or the answer was 429 or 5xx: `ServerUnavailable` with ``retry_after``. A
  problem+json names its class by ``code``; any other refusal is classed by its status.
- Calls may come from several threads. Connections are kept and reused.
- A body of `FileSlice`s is read while it is sent, in large pieces; over plain HTTP the kernel
  sends it (sendfile). The token never appears in an error.
"""

from __future__ import annotations

import email.utils
import http.client
import json as jsonlib
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from physicsrunner import errors
from physicsrunner.client.body import Body
from physicsrunner.client.plain import ELSEWHERE, PlainSession, takes
from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable
from physicsrunner.wire.codec import MAX_DEPTH

if TYPE_CHECKING:
    import requests

CONNECT_S: Final = 5.0
READ_S: Final = 30.0
_BY_STATUS: Final[Mapping[int, type[PhysicsRunnerError]]] = {
    400: errors.InvalidRequest,
    401: errors.NotAuthenticated,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: ServerUnavailable,
    507: errors.StorageFull,
}
#: How a line breaks; what `requests` raises are OSErrors too.
_BROKEN: Final = (OSError, http.client.HTTPException)
#: What OpenSSL says of an answer in plain HTTP.
_PLAIN_THERE: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
#: These take other arguments than a text; on the wire they are a conflict with a text.
_NOT_FROM_TEXT: Final = (errors.LeaseLost, errors.IllegalTransition)


class Response(Protocol):
    """What a request is answered with: part of a `requests.Response`."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    def json(self) -> Any: ...
    def iter_content(self, size: int) -> Iterator[bytes]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Response: ...  # noqa: PYI034 -- Self needs Python 3.11
    def __exit__(self, *exc: object) -> None: ...


class Http:
    """
    A server's base address and the token that goes with every request.

    Parameters
    ----------
    base
        ``http://host:3011`` or ``https://host/some/prefix``.
    token
        Sent as ``Authorization: Bearer``; None: nothing is sent.
    """

    def __init__(self, base: str, token: str | None = None) -> None:
        self.base = base.rstrip("/")
        self.token = token
        self._plain = PlainSession()
        self._straight = takes(self.base)  # looked up once: it walks the environment
        self._other: requests.Session | None = None
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        body: Body | bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        read_s: float = READ_S,
        token: str | None = None,
    ) -> Response:
        """
        Make one request and return its response, which is a success.

        Parameters
        ----------
        path
            After the base address, or a whole address (the token goes to our server alone).
        body
            Bytes, a `Body`, or pieces of unknown length in all (sent chunked).
        stream
            The body is left to the caller, who closes the response.
        read_s
            Seconds without a byte after which the server counts as gone.
        token
            In place of the client's own.

        Raises
        ------
        PhysicsRunnerError
            See the module's promises.
        """
        url = path if "://" in path else self.base + path
        sent = dict(headers or {})
        bearer = token or self.token
        if bearer and (url == self.base or url.startswith(self.base + "/")):
            sent["Authorization"] = f"Bearer {bearer}"
        if json is not None:
            body = _json(json)
            sent.setdefault("Content-Type", "application/json")
        try:
            response = self._send(method, url, params, body, sent, (CONNECT_S, read_s))
            if response.status_code >= 400 or not stream:
                _ = response.content
        except (*_BROKEN, ValueError) as error:
            raise self._unavailable(error) from error
        if response.status_code >= 400:
            raise error_of(response.status_code, response.content, response.headers)
        return response

    def value(self, method: str, path: str, **kwargs: Any) -> Any:
        """Make one request and return the JSON value of the answer."""
        response = self.request(method, path, **kwargs)
        try:
            return response.json()
        except ValueError:
            raise ServerUnavailable(
                f"{self.base} did not answer with JSON: is this a physicsrunner server?"
            ) from None

    def pieces(self, response: Response, size: int = 1 << 20) -> Iterator[bytes]:
        """Iterate over a streamed body; a line cut in the middle is `ServerUnavailable`."""
        try:
            yield from response.iter_content(size)
        except _BROKEN as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Close all connections."""
        self._plain.close()
        if self._other is not None:
            self._other.close()

    def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        body: Body | bytes | Iterator[bytes] | None,
        headers: dict[str, str],
        timeout: tuple[float, float],
    ) -> Response:
        follow = method in ("GET", "HEAD")
        if self._straight if url.startswith(self.base) else takes(url):
            response = self._plain.request(
                method, url, params=params, data=body, headers=headers, timeout=timeout
            )
            if not (follow and response.status_code in ELSEWHERE):
                return response
            response.close()
        return self._session().request(
            method,
            url,
            params=params,
            data=body,
            headers=headers,
            stream=True,
            timeout=timeout,
            allow_redirects=follow,
        )

    def _session(self) -> requests.Session:
        with self._lock:
            if self._other is None:
                from physicsrunner.client.session import new_session

                self._other = new_session()
            return self._other

    def _unavailable(self, error: BaseException) -> PhysicsRunnerError:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                told = f"its certificate is not trusted: {cause.verify_message}"
                return ServerUnavailable(f"{self.base}: {told}; the setting ca names whom to trust")
        kind = "timed out" if _is_timeout(error) else "no answer"
        return ServerUnavailable(f"{self.base}: {kind} ({short(error)})")


def error_of(status: int, body: bytes, headers: Mapping[str, str]) -> PhysicsRunnerError:
    """Return the error of ours that an answer of 400 or more stands for."""
    problem = _problem(body)
    code, detail = problem.get("code"), problem.get("detail") or problem.get("title")
    text = str(detail or f"the server answered {status}: {body[:200].decode(errors='replace')}")
    kind = _BY_CODE.get(str(code)) if code else None
    if kind is None or issubclass(kind, _NOT_FROM_TEXT) or kind is PhysicsRunnerError:
        kind = _BY_STATUS.get(status)
    if code == errors.LeaseLost.code and "run" in problem and "attempt" in problem:
        return errors.LeaseLost(str(problem["run"]), int(problem["attempt"]))
    if kind is None:
        kind = ServerUnavailable if status >= 500 else errors.InvalidRequest
    error = kind(text)
    if isinstance(error, ServerUnavailable):
        error.retry_after = retry_after(headers.get("Retry-After"), now=time.time())
    return error


def retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (seconds or a date)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError):
        return None


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        value = jsonlib.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def short(error: BaseException) -> str:
    """Return why nobody answered, as a person would say it: no addresses of objects, no paths."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            if cause.reason in _PLAIN_THERE:
                return "it does not speak https; is its address http://...?"
            return f"TLS: {cause.reason or cause.strerror or cause}"
        if isinstance(cause, socket.gaierror):
            return "the host's name is not known"
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return cause.strerror.lower()
    return "no answer in time" if _is_timeout(error) else "the line was cut"


def _is_timeout(error: BaseException) -> bool:
    # Of requests, of urllib3 and Python's own: three classes, one word.
    return any("Timeout" in type(cause).__name__ for cause in _causes(error))


def _json(value: Any) -> bytes:
    try:
        return jsonlib.dumps(value, allow_nan=False).encode()
    except ValueError as error:
        what = _endless(value, "", MAX_DEPTH) or str(error)
        raise errors.InvalidRequest(f"this cannot be said in JSON: {what}") from None


def _endless(value: Any, where: str, depth: int) -> str:
    """Return which number of *value* is none, or has no end, with its place; empty: none."""
    if depth < 0:
        return ""  # perhaps it holds itself
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}"
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = ((f"{where}.{key}" if where else str(key), part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((f"{where}[{place}]", part) for place, part in enumerate(value))
    below = depth - 1
    return next((found for key, part in parts if (found := _endless(part, key, below))), "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate over what *error* came from, wherever requests and urllib3 put that."""
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        found = left.pop()
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            left += [*found.args, getattr(found, "reason", None)]
            left += [found.__cause__, found.__context__]


def _by_code() -> dict[str, type[PhysicsRunnerError]]:
    found: dict[str, type[PhysicsRunnerError]] = {}
    todo: list[type[PhysicsRunnerError]] = [PhysicsRunnerError]
    while todo:
        kind = todo.pop()
        if kind.__module__ == errors.__name__:  # others have special ones of their own
            found.setdefault(kind.__dict__.get("code", ""), kind)
        todo.extend(kind.__subclasses__())
    found.pop("", None)
    return found


_BY_CODE: Final = _by_code()
