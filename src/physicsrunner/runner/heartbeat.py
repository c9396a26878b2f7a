"""
Keeping the lease of a stand-alone runner.

Promises: the lease is renewed in the rhythm that the server asks for, from a thread of its own;
fresh tokens replace old ones; commands and the loss of the lease reach the attempt. A server that
does not answer changes nothing: lost contact is not failure.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from physicsrunner.client.uplink import Uplink
from physicsrunner.errors import LeaseLost, PhysicsRunnerError
from physicsrunner.wire.messages import HeldLease, RenewalAnswer

_DEFAULT_S: Final = 15.0
_LEAST_S: Final = 0.05


class Heartbeat:
    """Renews one lease until it is closed."""

    def __init__(
        self,
        uplink: Uplink,
        lease: HeldLease,
        *,
        renew_s: float | None,
        heed: Callable[[list[str], str | None], None],
        on_token: Callable[[str], None],
        random: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._uplink = uplink
        self._lease = lease
        self._renew_s = renew_s or _DEFAULT_S
        self._heed = heed
        self._on_token = on_token
        self._random = random
        self._log = log
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; waits for a renewal that is under way."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30.0)

    def _run(self) -> None:
        # Jitter, so that runners that began together do not come back together for ever.
        while not self._closed.wait(max(_LEAST_S, self._renew_s * (0.9 + 0.2 * self._random()))):
            try:
                answers = self._uplink.renew([self._lease])
            except LeaseLost:
                self._heed([], "lease_lost")
                return
            except PhysicsRunnerError as error:
                self._log.info("the lease was not renewed: %s", error)
                continue
            for answer in answers:
                self._take(answer)

    def _take(self, answer: RenewalAnswer) -> None:
        if answer.renew_s:
            self._renew_s = answer.renew_s
        if answer.token:
            self._on_token(answer.token)
        if answer.error:
            self._log.info("the lease was not renewed: the server answered %s", answer.error)
        self._heed(list(answer.commands), answer.error)
