"""
Asking for work.

Promises: one call is one request, for as many attempts as there are slots and no more than the
machine has room for; no answer is not an error but "no work now" (`wait_s` tells how long to wait
before the next one). A refusal (wrong token) is final and raised.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from physicsrunner.agent.resources import Machine
from physicsrunner.client.http import Http
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire import rest
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.messages import HeldLease, LeaseGrant, LeaseRequest, Resources

POLL_S: Final = 10.0  #: between two questions when nothing wakes us
BATCH: Final = 32  #: leases in one call
PACE_S: Final = 0.05  #: between two questions that bring work: what ends meanwhile is one question


class Acquirer:
    """Leases runs for one agent."""

    def __init__(
        self,
        http: Http,
        name: str,
        machine: Machine,
        *,
        random: Callable[[], float],
        log: logging.Logger,
        poll_s: float = POLL_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._name = name
        self._machine = machine
        self._random = random
        self._log = log
        self._poll_s = poll_s
        self._backoff = Backoff(base=0.5, cap=30.0)
        self._failures = 0
        self._retry_after: float | None = None
        self._now = now
        self._not_before = float("-inf")

    def acquire(
        self, free: Resources, slots: int, holding: Sequence[HeldLease]
    ) -> list[LeaseGrant]:
        """Return the runs that were leased now; empty when there is none, or no answer."""
        request = LeaseRequest(
            agent=self._name,
            free=free,
            labels=self._machine.labels,
            max=min(slots, BATCH),
            host=self._machine.host,
            holding=list(holding),
            resources=self._machine.resources,
            slots=self._machine.slots,
        )
        try:
            answer: Any = self._http.value("POST", rest.LEASES, json=encode(request))
            grants = [decode(LeaseGrant, item) for item in answer]
        except ServerUnavailable as error:
            if not self._failures:
                self._log.warning("asking for work: %s", error)
            self._failures += 1
            self._retry_after = getattr(error, "retry_after", None)
            return []
        self._failures = 0
        if 0 < len(grants) < BATCH:
            self._not_before = self._now() + PACE_S
        return grants

    def pause_s(self) -> float:
        """Return the seconds until the next question: work that ends soon is asked for together."""
        return min(PACE_S, max(0.0, self._not_before - self._now()))

    @property
    def contact(self) -> bool:
        """Whether the last question was answered."""
        return self._failures == 0

    def wait_s(self) -> float:
        """Return the seconds to wait before asking again when there was no work."""
        if self._failures:
            return self._backoff.wait(
                self._failures, random=self._random, retry_after=self._retry_after
            )
        # Jitter: agents that were started together do not ask together for ever.
        return self._poll_s * (0.8 + 0.4 * self._random())
