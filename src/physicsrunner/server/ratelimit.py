"""
How often one address may try.

Promises: at most `most` tries in any `within_s` seconds for each address; what is over is refused
with the time after which it may be tried again. Memory stays bounded, however many addresses ask.
The clock is an argument.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from physicsrunner.errors import TooManyTries

LOGIN_TRIES: Final = 20
LOGIN_WITHIN_S: Final = 60.0
_MOST: Final = 10_000  # addresses remembered
_SITE: Final = 64  # bits of an IPv6 address that a place cannot choose


class RateLimit:
    """Counts tries by address. Thread-safe."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        most: int = LOGIN_TRIES,
        within_s: float = LOGIN_WITHIN_S,
    ) -> None:
        self._now = now
        self._most = most
        self._within_s = within_s
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, address: str | None) -> None:
        """Count a try; raise `TooManyTries` when it is one too many."""
        key, now = _origin(address), self._now()
        with self._lock:
            tries = self._tries.setdefault(key, deque())
            self._tries.move_to_end(key)
            while tries and not now - self._within_s < tries[0] <= now:
                tries.popleft()
            if len(tries) >= self._most:
                error = TooManyTries(
                    f"{self._most} tries in {self._within_s:.0f} s from one address"
                )
                error.retry_after = tries[0] + self._within_s - now
                raise error
            tries.append(now)
            while len(self._tries) > _MOST:
                self._tries.popitem(last=False)


def _origin(address: str | None) -> str:
    """Return what counts as one address: of IPv6 the network that one place is given."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _SITE), strict=False))
