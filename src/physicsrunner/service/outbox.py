"""
Webhooks: who may have events sent where, and what those did not take.

Promises: a secret is shown once, to who makes the webhook, and kept encrypted; a webhook of a
project is told what concerns that project, one of the whole server what concerns runs, agents and
webhooks; none hears of accounts. Nothing is sent here: `server.webhooks` does.
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from physicsrunner.core.permissions import Scope
from physicsrunner.errors import Conflict, InvalidRequest, NotAllowed, NotFound, TooLarge
from physicsrunner.service.access import Identity
from physicsrunner.service.events import check_patterns
from physicsrunner.service.names import project_id
from physicsrunner.store.accounts import AccountStore
from physicsrunner.store.outbox import DeadLetter, EventFilter, OutboxStore, Readable, WebhookRow
from physicsrunner.wire import live
from physicsrunner.wire.live import Event

MAX_WEBHOOKS: Final = 1000  #: of one server
MAX_URL: Final = 2000
LEAST_SECRET: Final = 16  #: characters
MAX_SECRET: Final = 500
_TOLD: Final = ("simulation/*", "agent/*", "webhook/*")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that is routed in public
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # the last four bytes are of IPv4
_FIELDS: Final = frozenset({"id", "url", "secret", "types", "project_id", "active"})


class Safe(Protocol):
    """What keeps secrets."""

    def seal(self, text: str) -> str:
        """Return *text* encrypted."""
        ...

    def open(self, sealed: str) -> str:
        """Return what was sealed."""
        ...


class _Store(OutboxStore, AccountStore, Protocol):
    """What is needed of the store."""


class OutboxService:
    """Webhooks as people see them, and as who delivers sees them. Thread-safe."""

    def __init__(
        self,
        store: _Store,
        safe: Safe,
        *,
        now: Callable[[], float],
        private: bool = False,
    ) -> None:
        self._store = store
        self._safe = safe
        self._now = now
        self.private = private  #: whether addresses that are not public may be named
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[str], None], ...] = ()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have *listener* called, in any thread, with the id of each webhook that has changed."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    # -- for people ----------------------------------------------------------------------------

    def add(self, identity: Identity, asked: Mapping[str, Any]) -> tuple[WebhookRow, str]:
        """
        Make a webhook of ``{url, types?, project_id?, secret?, id?}``; return it and its secret.

        With ``id`` (a UUID of the caller's) a repeat gives what the first one gave.
        """
        _check_fields(asked)
        project = asked.get("project_id")
        if project is not None and (not isinstance(project, str) or not 0 < len(project) <= 64):
            raise InvalidRequest("project_id is the id of a project")
        self._require(identity, "webhooks:create", project)
        if project is not None and not self._is_there(project_id(project)):
            raise NotFound(f"there is no project {project}")
        number = _id(asked.get("id"))
        known = self._store.webhook(number)
        if known is not None:
            if (known.created_by, known.project_id) != (identity.subject, project):
                raise Conflict(f"there is another webhook {number}")
            return known, self._safe.open(known.secret)
        if len(self._store.webhooks()) >= MAX_WEBHOOKS:
            raise TooLarge(f"there are {MAX_WEBHOOKS} webhooks already")
        secret = _secret(asked.get("secret")) or secrets.token_urlsafe(32)
        row = WebhookRow(
            id=number,
            url=check_url(asked.get("url"), private=self.private),
            secret=self._safe.seal(secret),
            types=_types(asked.get("types")),
            project_id=project,
            created_by=identity.subject,
            created_at=self._now(),
            active=_flag(asked.get("active", True)),
            cursor=self._store.last_event(),
        )
        told = [self._told(row, live.WEBHOOK_ADDED)]
        self._store.add_webhook(row, told, by=identity.actor)
        self._changed(row.id)
        return row, secret

    def webhooks(self, identity: Identity) -> list[WebhookRow]:
        """Return the webhooks that *identity* may see, the oldest first."""
        if identity.scope("webhooks:read") is Scope.NONE:
            raise NotAllowed(f"{identity} has no permission webhooks:read")
        found = self._store.webhooks()
        return [row for row in found if _may(identity, "webhooks:read", row.project_id)]

    def get(
        self, identity: Identity, webhook: str, permission: str = "webhooks:read"
    ) -> WebhookRow:
        """Return one webhook; `NotFound` too for who may not see it."""
        row = self._store.webhook(webhook)
        if row is None or not _may(identity, "webhooks:read", row.project_id):
            if identity.scope(permission) is Scope.NONE:
                raise NotAllowed(f"{identity} has no permission {permission}")
            raise NotFound(f"there is no webhook {webhook}")
        self._require(identity, permission, row.project_id)
        return row

    def change(self, identity: Identity, webhook: str, asked: Mapping[str, Any]) -> WebhookRow:
        """Change ``url``, ``types``, ``secret`` or ``active``; what waits is tried at once."""
        row = self.get(identity, webhook, "webhooks:update")
        _check_fields(asked)
        if "id" in asked and asked["id"] != row.id:
            raise InvalidRequest("a webhook keeps its id")
        if "project_id" in asked and asked["project_id"] != row.project_id:
            raise InvalidRequest("a webhook stays in its project; make another one")
        fields: dict[str, Any] = {"failures": 0, "next_try_at": None}
        if "url" in asked:
            fields["url"] = check_url(asked["url"], private=self.private)
        if "types" in asked:
            fields["types"] = _types(asked["types"])
        if "active" in asked:
            fields["active"] = _flag(asked["active"])
        secret = _secret(asked.get("secret"))
        if secret is not None:
            fields["secret"] = self._safe.seal(secret)
        told = [self._told(row, live.WEBHOOK_CHANGED, changed=sorted(asked))]
        changed = self._store.change_webhook(webhook, fields, told, by=identity.actor)
        if changed is None:
            raise NotFound(f"there is no webhook {webhook}")
        self._changed(webhook)
        return changed

    def remove(self, identity: Identity, webhook: str) -> None:
        """Remove a webhook and its dead letters."""
        row = self.get(identity, webhook, "webhooks:delete")
        told = [self._told(row, live.WEBHOOK_REMOVED)]
        self._store.remove_webhook(webhook, told, by=identity.actor)
        self._changed(webhook)

    def dead_letters(
        self, identity: Identity, webhook: str, after: int = 0, limit: int = 100
    ) -> list[tuple[DeadLetter, Event | None]]:
        """Return what a webhook did not take, the oldest first, with the events where kept."""
        self.get(identity, webhook)
        letters = self._store.dead_letters(webhook, after, max(1, min(limit, 1000)))
        return [(letter, self._store.event(letter.event_id)) for letter in letters]

    def dead_letter(
        self, identity: Identity, webhook: str, letter: int
    ) -> tuple[WebhookRow, DeadLetter, Event]:
        """Return one dead letter that is to be sent again."""
        row = self.get(identity, webhook, "webhooks:update")
        found = next(iter(self._store.dead_letters(webhook, letter - 1, 1)), None)
        if found is None or found.id != letter:
            raise NotFound(f"webhook {webhook} has no dead letter {letter}")
        event = self._store.event(found.event_id)
        if event is None:
            raise NotFound(f"event {found.event_id} is no longer in the log")
        return row, found, event

    # -- for who delivers ----------------------------------------------------------------------

    def active(self) -> list[WebhookRow]:
        """Return the webhooks that are to be served."""
        return [row for row in self._store.webhooks() if row.active]

    def row(self, webhook: str) -> WebhookRow | None:
        """Return a webhook as it is now; None if it is gone."""
        return self._store.webhook(webhook)

    def secret(self, row: WebhookRow) -> str:
        """Return the secret with which its requests are signed."""
        return self._safe.open(row.secret)

    def pending(self, row: WebhookRow, after: int, limit: int) -> tuple[list[Event], int]:
        """Return the next events for a webhook, and up to which id there are no others."""
        page = self._store.find_events(
            EventFilter(after, None, None, row.types, limit, told_to(row))
        )
        return page.events, page.upto

    def delivered(self, webhook: str, upto: int) -> None:
        """Keep that everything up to the event *upto* was delivered or is not wanted."""
        fields = {"cursor": upto, "failures": 0, "next_try_at": None, "last_error": None}
        self._store.change_webhook(webhook, fields)

    def failed(self, webhook: str, tries: int, next_try: float, error: str) -> None:
        """Keep that the event behind the cursor was not taken."""
        fields = {"failures": tries, "next_try_at": next_try, "last_error": error}
        self._store.change_webhook(webhook, fields)

    def bury(self, webhook: str, event: int, tries: int, error: str) -> None:
        """Put an event on the dead letters, so that the next one gets its turn."""
        self._store.bury(webhook, event, tries=tries, error=error, now=self._now())

    def sent_again(self, letter: DeadLetter, error: str | None) -> None:
        """Keep what became of a dead letter that was sent again."""
        if error is None:
            self._store.remove_dead_letter(letter.id)
        else:
            self._store.change_dead_letter(
                letter.id, tries=letter.tries + 1, error=error, now=self._now()
            )

    def cursor(self, consumer: str) -> int:
        """Return where a consumer of the whole log goes on; a new one gets all that is kept."""
        return self._store.cursor(consumer) or 0

    def log(self, after: int, limit: int) -> tuple[list[Event], int]:
        """Return all events behind *after*, and up to which id there are no others."""
        page = self._store.find_events(EventFilter(after, limit=limit))
        return page.events, page.upto

    def passed(self, consumer: str, upto: int) -> None:
        """Keep that a consumer has all events up to *upto*."""
        self._store.set_cursor(consumer, upto, self._now())

    # -- inside --------------------------------------------------------------------------------

    def _is_there(self, project: str) -> bool:
        return self._store.read_accounts(lambda book: book.project(project)) is not None

    def _require(self, identity: Identity, permission: str, project: str | None) -> None:
        if _may(identity, permission, project):
            return
        hidden = project is not None and not _may(identity, "events:read", project)
        if hidden and identity.scope(permission) is not Scope.NONE:
            raise NotFound(f"there is no project {project}")
        where = "for the whole server" if project is None else f"in project {project}"
        raise NotAllowed(f"{identity} has no permission {permission} {where}")

    def _told(self, row: WebhookRow, kind: str, **data: Any) -> Event:
        host = urlsplit(row.url).hostname
        said = {"webhook": row.id, "host": host, "types": [*row.types], **data}
        return Event(kind, None, None, row.project_id, self._now(), said)

    def _changed(self, webhook: str) -> None:
        for listener in self._listeners:
            listener(webhook)


def told_to(row: WebhookRow) -> Readable:
    """Return what of the log a webhook is told."""
    if row.project_id is None:
        return Readable(types=_TOLD)
    return Readable(frozenset({row.project_id}))


def check_url(url: Any, *, private: bool) -> str:
    """Return *url* if requests may go there; raise `InvalidRequest`."""
    if not isinstance(url, str) or len(url) > MAX_URL or not url.isascii() or not url.isprintable():
        raise InvalidRequest("url is an address such as https://host/path")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("url is an address such as https://host/path") from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or " " in url:
        raise InvalidRequest("url is an address such as https://host/path")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("url holds a user name; the secret signs the requests")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return url
    check_address(address, private=private)
    return url


def check_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, private: bool) -> None:
    """Raise `InvalidRequest` for an address to which no webhook may lead."""
    real = _reached(address)
    outside = isinstance(real, ipaddress.IPv6Address) and real not in _UNICAST
    if (
        real.is_multicast
        or real.is_unspecified
        or not (private or (real.is_global and not outside))
    ):
        raise InvalidRequest(
            f"{address} is not a public address; the server's setting webhook_private allows others"
        )


def _reached(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that is reached through an address of IPv6, where one is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _may(identity: Identity, permission: str, project: str | None) -> bool:
    scope = identity.scope_in(permission, project)
    return scope is Scope.ANY or (project is not None and scope is Scope.PROJECT)


def _check_fields(asked: Mapping[str, Any]) -> None:
    if not isinstance(asked, Mapping) or not asked or set(asked) - _FIELDS:
        raise InvalidRequest(f"a webhook takes {', '.join(sorted(_FIELDS))}")


def _types(given: Any) -> Sequence[str]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise InvalidRequest("types is a list of patterns such as simulation/*")
    check_patterns(given)
    return given


def _id(given: Any) -> str:
    try:
        return str(uuid.uuid4()) if given is None else str(uuid.UUID(given))
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest("id is a UUID") from None


def _secret(given: Any) -> str | None:
    if given is None:
        return None
    fits = isinstance(given, str) and LEAST_SECRET <= len(given) <= MAX_SECRET
    if not fits or not given.isascii() or not given.isprintable():
        raise InvalidRequest(f"secret is a text of {LEAST_SECRET} to {MAX_SECRET} ASCII characters")
    return str(given)


def _flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise InvalidRequest("active is true or false")
    return given


def shown(row: WebhookRow) -> dict[str, Any]:
    """Return a webhook as it stands on the wire: without its secret."""
    found = {**vars(replace(row, secret="")), "types": list(row.types)}
    del found["secret"]
    return found
