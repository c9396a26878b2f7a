"""
What differs between Flask, FastAPI, Starlette and others: where the request is, how one refuses.

Promises: no framework is imported here; one that the application has imported is used. A function
that does not take the request is not given it.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.middlewares.user import CurrentUser

#: How FastAPI hands the request to a guard whose function does not take it.
HANDED: Final = "physicsrunner_request"
_MEDIA: Final = "application/problem+json"


class Call:
    """One call of a guarded function."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.args = args
        self.kwargs = dict(kwargs)
        self._flask = _flask()
        handed = self.kwargs.pop(HANDED, None)
        if self._flask is not None:
            self._request = self._flask.request._get_current_object()  # noqa: SLF001 - its way
            self._hand_over(function)
        else:
            self._request = handed if handed is not None else _request_in(args, kwargs)
        if self._request is None:
            raise TypeError(
                f"{function.__name__} was called without a request: nobody can be asked"
            )

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request, whatever their case."""
        found: Mapping[str, str] = self._request.headers
        return found

    def admit(self, user: CurrentUser) -> None:
        """Put *user* where the function looks for it."""
        self._request.current_user = user
        if self._flask is not None:
            self._flask.g.current_user = user
            return
        state = getattr(self._request, "state", None)
        if state is not None:
            state.current_user = user

    def refuse(self, error: PhysicsRunnerError) -> Any:
        """Return the answer that *error* means to the framework; raise it where there is none."""
        body = json.dumps(_problem(error))
        headers = {"WWW-Authenticate": "Bearer"} if error.status_hint == 401 else {}
        if self._flask is not None:
            return self._flask.Response(
                body, error.status_hint, headers=headers, content_type=_MEDIA
            )
        starlette = sys.modules.get("starlette.responses")
        if starlette is not None and _is_starlette(self._request):
            return starlette.Response(body, error.status_hint, headers=headers, media_type=_MEDIA)
        raise error

    def _hand_over(self, function: Callable[..., Any]) -> None:
        """Give the request to a view of Flask that asks for it: ``def view(request)``."""
        parameters = inspect.signature(function).parameters
        if "request" in parameters and "request" not in self.kwargs and not self.args:
            self.kwargs["request"] = self._request


def describe(made: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Give *made* the signature by which FastAPI hands it the request."""
    requests = sys.modules.get("starlette.requests")
    if requests is None:
        return
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # names that are there at run time alone: as they stand
        hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    taken = False
    for parameter in signature.parameters.values():
        kind = hints.get(parameter.name, parameter.annotation)
        if parameter.name == "request" and kind is inspect.Parameter.empty:
            kind = requests.Request
        taken = taken or (isinstance(kind, type) and issubclass(kind, requests.HTTPConnection))
        parameters.append(parameter.replace(annotation=kind))
    if not taken:
        handed = inspect.Parameter(
            HANDED, inspect.Parameter.KEYWORD_ONLY, annotation=requests.Request
        )
        last = parameters[-1:] if _takes_any(parameters) else []
        parameters = [*parameters[: len(parameters) - len(last)], handed, *last]
    returns = hints.get("return", signature.return_annotation)
    made.__signature__ = signature.replace(  # type: ignore[attr-defined]  # read by inspect
        parameters=parameters, return_annotation=returns
    )


def _takes_any(parameters: list[inspect.Parameter]) -> bool:
    return bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD


def _flask() -> Any:
    """Return Flask where it is at work on a request in this very thread."""
    flask = sys.modules.get("flask")
    return flask if flask is not None and flask.has_request_context() else None


def _request_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    for value in (*args, *kwargs.values()):
        if hasattr(getattr(value, "headers", None), "get"):
            return value
    return None


def _is_starlette(request: Any) -> bool:
    requests = sys.modules.get("starlette.requests")
    return requests is not None and isinstance(request, requests.HTTPConnection)


def _problem(error: PhysicsRunnerError) -> dict[str, Any]:
    return {
        "type": f"urn:physicsrunner:error:{error.code}",
        "title": (type(error).__doc__ or error.code).strip().splitlines()[0].rstrip("."),
        "status": error.status_hint,
        "detail": str(error),
        "code": error.code,
        "retryable": error.retryable,
        "what_to_do": error.what_to_do,
    }
