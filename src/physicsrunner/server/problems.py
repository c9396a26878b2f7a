"""
Errors leave the server at one door, as problem+json (RFC 9457).

Promises: every answer that is not a success has ``type, title, status, detail, code, retryable,
what_to_do``; an unexpected error says nothing of its inside (it stands in the server's log, under
the ``instance`` that the answer names); 503, 507 and 429 carry Retry-After. No token is ever
said here.
"""

from __future__ import annotations

import errno
import http
import json
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from physicsrunner.errors import (
    BadFrame,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
    ServerUnavailable,
    StorageFull,
    TooLarge,
    TooManyTries,
)
from physicsrunner.wire.frames import FrameError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2

#: Answers one kind of error.
Handler = Callable[[Request, Exception], Awaitable[Response]]

_LOG = logging.getLogger(__name__)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BY_STATUS: Final[Mapping[int, type[PhysicsRunnerError]]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    413: TooLarge,
    503: ServerUnavailable,
}


def problem(
    error: PhysicsRunnerError,
    *,
    status: int | None = None,
    title: str | None = None,
    what_to_do: str | None = None,
) -> dict[str, Any]:
    """Return *error* as the fields of a problem document."""
    status = status or error.status_hint
    return {
        "type": f"urn:physicsrunner:error:{error.code}",
        "title": title or _title(error),
        "status": status,
        "detail": str(error) or _title(error),
        "code": error.code,
        "retryable": error.retryable,
        "what_to_do": what_to_do or error.what_to_do,
    }


def problem_response(
    error: PhysicsRunnerError, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Return the answer that *error* means."""
    document = problem(error, **more)
    extra = dict(headers or {})
    if isinstance(error, (TooManyTries, ServerUnavailable)) and error.retry_after is not None:
        extra.setdefault("Retry-After", str(max(1, math.ceil(error.retry_after))))
    if document["status"] in (503, 507):
        extra.setdefault("Retry-After", str(RETRY_AFTER_S))
    if document["status"] == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    body = json.dumps(document, ensure_ascii=True).encode()
    return Response(body, document["status"], headers=extra, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make *app* answer every error as a problem."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(_Caught)


async def answer_to(request: Request, error: Exception) -> Response:
    """Return the answer that *error*, which a handler raised, means."""
    handler = handler_of(type(error))
    return _unexpected(request, error) if handler is None else await handler(request, error)


def handler_of(kind: type) -> Handler | None:
    """Return who answers errors of a *kind*; None: nobody expects them."""
    found = (_HANDLERS[base] for base in kind.__mro__ if base in _HANDLERS)
    return next(found, None)


def _title(error: PhysicsRunnerError) -> str:
    return (type(error).__doc__ or error.code).strip().splitlines()[0].rstrip(".")


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, PhysicsRunnerError)  # noqa: S101 - registered for this class
    if error.status_hint >= 500 and not error.retryable:
        inside = error if error.status_hint == 500 else None  # of others it is known why
        _LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=inside)
    return problem_response(error)


async def _bad_frame(_request: Request, error: Exception) -> Response:
    return problem_response(BadFrame(str(error)))


async def _not_valid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    details: Sequence[Any] = error.errors()
    text = "; ".join(
        f"{'.'.join(str(part) for part in item.get('loc', ()))}: {item.get('msg', '')}"
        for item in details[:10]
    )
    return problem_response(InvalidRequest(text or "the request is not valid"))


async def _of_the_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    status = error.status_code
    kind = _BY_STATUS.get(status, InvalidRequest if status < 500 else PhysicsRunnerError)
    try:
        title = http.HTTPStatus(status).phrase
    except ValueError:
        title = str(status)
    where = f"{request.method} {request.url.path}"
    advice = {
        404: "There is no such address here; /docs lists all of them.",
        405: "The address is right and the method is not; /docs lists what it takes.",
    }
    return problem_response(
        kind(f"{where}: {error.detail or title}"),
        status=status,
        title=title,
        what_to_do=advice.get(status),
        headers=dict(error.headers or {}),
    )


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it: the client has hung up


async def _of_the_system(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 - registered for this class
    if error.errno in _FULL:
        _LOG.error("%s %s: no space: %s", request.method, request.url.path, error)
        return problem_response(StorageFull("the server's disk is full"))
    return _unexpected(request, error)


_HANDLERS: Final[Mapping[type, Handler]] = {
    PhysicsRunnerError: _ours,
    FrameError: _bad_frame,
    RequestValidationError: _not_valid,
    HTTPException: _of_the_framework,
    ClientDisconnect: _gone,
    OSError: _of_the_system,
}


class _Caught:
    """
    Answers what no handler expected.

    The framework's own way would raise the error again after the answer, and the server would
    then close a connection on which the client's next request may be under way.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if started or scope["type"] != "http":
                raise  # too late for words: the connection is cut
            await _unexpected(Request(scope), error)(scope, receive, send)


def _unexpected(request: Request, error: Exception) -> Response:
    instance = uuid.uuid4().hex[:12]
    _LOG.error("%s %s [%s]", request.method, request.url.path, instance, exc_info=error)
    return problem_response(
        PhysicsRunnerError(f"the server failed at this request; its log says more under {instance}")
    )
