"""
The log of a server, and its webhooks, for programs of the base install.

Promises: `follow` gives every logged event behind its start once and in order, also over a server
that is away for a while; `EventLog.next` is where it goes on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from physicsrunner.client.asking import Asking
from physicsrunner.client.http import READ_S
from physicsrunner.client.live import read_event
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire import rest
from physicsrunner.wire.live import Event

WAIT_S: Final = 20.0  #: for one answer, while there is nothing
_AGAIN_S: Final = 1.0


class EventLog:
    """
    The events behind the id *after*, in the order of the log.

    Parameters
    ----------
    asking
        The server.
    run, project, types
        Which events; patterns of types such as ``simulation/*``.
    """

    def __init__(
        self,
        asking: Asking,
        *,
        after: int = 0,
        run: str | None = None,
        project: str | None = None,
        types: Sequence[str] = (),
    ) -> None:
        self._asking = asking
        self._wanted = {"run": run, "project": project, "types": ",".join(types) or None}
        self.next = after

    def newest(self) -> int:
        """Return the id of the newest event, whoever may read it."""
        params = {"after": 2**62, "limit": 1}
        answer = self._asking.answered(
            lambda: self._asking.http.value("GET", rest.EVENTS, params=params)
        )
        return int(answer["newest"])

    def page(self, limit: int = 500, *, wait: float = 0.0) -> list[Event]:
        """Return the next events; with *wait*, wait so many seconds where there is none."""
        params = {"after": self.next, "limit": limit, "wait": wait or None, **self._wanted}
        asked = {name: value for name, value in params.items() if value is not None}
        answer = self._asking.answered(
            lambda: self._asking.http.value("GET", rest.EVENTS, params=asked, read_s=READ_S + wait)
        )
        before, self.next = self.next, max(self.next, int(answer["next"]))
        found = [event for item in answer["data"] if (event := read_event(item)) is not None]
        return [event for event in found if event.id is None or event.id > before]

    def rest(self) -> Iterator[Event]:
        """Yield what is there, and end."""
        while True:
            before = self.next
            events = self.page()
            yield from events
            if self.next == before:
                return

    def follow(self) -> Iterator[Event]:
        """Yield what is there and what comes, for ever."""
        while True:
            try:
                yield from self.page(wait=WAIT_S)
            except ServerUnavailable:
                self._asking.sleep(_AGAIN_S)


class Webhooks:
    """The webhooks of a server."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def add(self, url: str, **asked: Any) -> dict[str, Any]:
        """Make one; *asked*: types, project_id, secret. The answer holds the secret."""
        body = {"id": str(uuid.uuid4()), "url": url, **asked}
        found: dict[str, Any] = self._value(
            "POST", rest.WEBHOOKS, json={k: v for k, v in body.items() if v is not None}
        )
        return found

    def list(self) -> list[dict[str, Any]]:
        """Return all that one may see."""
        found: list[dict[str, Any]] = self._value("GET", rest.WEBHOOKS)["data"]
        return found

    def change(self, webhook: str, **fields: Any) -> dict[str, Any]:
        """Change url, types, secret or active."""
        found: dict[str, Any] = self._value("PATCH", _path(webhook), json=fields)
        return found

    def remove(self, webhook: str) -> None:
        """Remove one with its dead letters."""
        self._value("DELETE", _path(webhook))

    def test(self, webhook: str) -> dict[str, Any]:
        """Have a test event sent now; return ``{taken, status, error, seconds}``."""
        found: dict[str, Any] = self._value("POST", f"{_path(webhook)}/test")
        return found

    def dead(self, webhook: str, after: int = 0) -> Sequence[dict[str, Any]]:
        """Return what it did not take, behind the letter *after*."""
        answer = self._value("GET", f"{_path(webhook)}/dead", params={"after": after})
        found: Sequence[dict[str, Any]] = answer["data"]
        return found

    def send_again(self, webhook: str, letter: int) -> dict[str, Any]:
        """Send a dead letter again; return what became of it."""
        found: dict[str, Any] = self._value("POST", f"{_path(webhook)}/dead/{letter}/send")
        return found

    def _value(self, method: str, path: str, **kwargs: Any) -> Any:
        return self._asking.answered(lambda: self._asking.http.value(method, path, **kwargs))


def _path(webhook: str) -> str:
    return f"{rest.WEBHOOKS}/{quote(webhook, safe='')}"
