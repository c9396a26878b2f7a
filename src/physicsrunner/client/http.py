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
import json as jsonlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from physicsrunner import errors
from physicsrunner.client.body import Body, FileSlice
from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable

CONNECT_S: Final = 5.0
READ_S: Final = 30.0
_CONNECTIONS: Final = 8
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
#: These take other arguments than a text; on the wire they are a conflict with a text.
_NOT_FROM_TEXT: Final = (errors.LeaseLost, errors.IllegalTransition)


class _Connection(urllib3.connection.HTTPConnection):
    """A plain connection that lets the kernel send files."""

    def send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            data.send_to(self.sock)
        else:
            super().send(data)


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """Through TLS the bytes have to pass our hands."""

    def send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            for piece in data.pieces():
                super().send(piece)
        else:
            super().send(data)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def close(self) -> None:
        # urllib3 leaves it to the garbage collector, and whoever keeps an error keeps its pool.
        for key in list(self.poolmanager.pools.keys()):
            pool = self.poolmanager.pools.get(key)
            if pool is not None:
                pool.close()
        super().close()


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


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
        self._session = requests.Session()
        # Or a ~/.netrc would put its password in the place of our token.
        self._session.auth = _as_it_is
        adapter = _Adapter(pool_connections=4, pool_maxsize=_CONNECTIONS, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

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
    ) -> requests.Response:
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
        try:
            response = self._session.request(
                method,
                url,
                json=json,
                params=params,
                data=body,
                headers=sent,
                stream=stream,
                timeout=(CONNECT_S, read_s),
                allow_redirects=method in ("GET", "HEAD"),
            )
            if response.status_code >= 400:
                _ = response.content
        except requests.exceptions.InvalidJSONError as error:
            raise errors.InvalidRequest(f"this cannot be said in JSON: {error}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
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

    def pieces(self, response: requests.Response, size: int = 1 << 20) -> Iterator[bytes]:
        """Iterate over a streamed body; a line cut in the middle is `ServerUnavailable`."""
        try:
            yield from response.iter_content(size)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _unavailable(self, error: BaseException) -> PhysicsRunnerError:
        kind = "timed out" if isinstance(error, requests.Timeout) else "no answer"
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
            return f"TLS: {cause.reason or cause.strerror or cause}"
        if isinstance(cause, socket.gaierror):
            return "the host's name is not known"
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return cause.strerror.lower()
    return "the line was cut" if not isinstance(error, requests.Timeout) else "no answer in time"


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
