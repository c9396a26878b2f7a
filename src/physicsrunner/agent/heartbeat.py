"""
Keeping all leases of the agent, in one call, in the server's rhythm.

Promises: fresh tokens and commands reach their attempts; a lease that was lost stops its program.
A server that does not answer changes nothing, until it has been away for so long that it gives
runs to others: then the programs of those runs, and of no others, are stopped. A refusal that
stays is raised in `run`'s caller by `refused`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from physicsrunner.agent.attempts import Attempts
from physicsrunner.agent.contact import Contact
from physicsrunner.agent.places import Places
from physicsrunner.agent.resources import Machine
from physicsrunner.client.http import Http
from physicsrunner.core.retry import Backoff
from physicsrunner.errors import (
    AgentRefused,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PhysicsRunnerError,
)
from physicsrunner.wire import rest
from physicsrunner.wire.codec import decode, encode
from physicsrunner.wire.messages import Heartbeat as Message
from physicsrunner.wire.messages import HeartbeatAnswer

RENEW_S: Final = 15.0  #: until the server has said it
_REFUSALS: Final = 3  # in a row: a proxy that starts may answer anything for a moment
_LEAST_S: Final = 0.05

ACTIVE: Final = "active"
REMOVED: Final = "removed"


class Heartbeat:
    """One agent's heartbeat: `beat` is one call, `start` and `close` a thread of them."""

    def __init__(
        self,
        http: Http,
        name: str,
        machine: Machine,
        attempts: Attempts,
        places: Places,
        contact: Contact,
        *,
        draining: Callable[[], bool],
        on_news: Callable[[], None],
        on_rhythm: Callable[[float], None],
        now: Callable[[], float],
        random: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._http = http
        self._name = name
        self._machine = machine
        self._attempts = attempts
        self._places = places
        self._contact = contact
        self._draining = draining
        self._on_news = on_news
        self._on_rhythm = on_rhythm
        self._now = now
        self._random = random
        self._log = log
        self._renew_s = RENEW_S
        self._failures = 0
        self._refusals = 0
        self._backoff = Backoff(base=0.5, cap=RENEW_S)
        self._closed = threading.Event()
        self._poked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.state = ACTIVE  #: what the server says of this agent
        self.reason: str | None = None
        self.refused: PhysicsRunnerError | None = None  #: it is over with this server

    def start(self) -> None:
        """Beat until `close`."""
        self._thread.start()

    def poke(self) -> None:
        """Beat now."""
        self._poked.set()

    def close(self) -> None:
        """End; waits for a call that is under way, and says good-bye to a server that is there."""
        self._closed.set()
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join(timeout=40.0)
        if self._contact.answering and self.refused is None:
            self.beat()

    @property
    def healthy(self) -> bool:
        """Whether the thread does its work, or is not to."""
        return self._closed.is_set() or self._thread.is_alive()

    def beat(self) -> None:
        """Make one call and do what its answer asks for."""
        asked = self._now()
        try:
            answer = self._ask()
        except (NotAuthenticated, NotAllowed, NotFound) as error:
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                self._over(error)
            return
        except PhysicsRunnerError as error:
            self._away(error)
            return
        self._failures = self._refusals = 0
        self._renew_s = max(_LEAST_S, answer.renew_s)
        self._on_rhythm(answer.flush_s)
        if self._contact.heard(asked, answer.lost_s):
            self._log.info("the server answers again")
            self._attempts.contact_back()
            self._on_news()
        self._attempts.answered(answer.leases)
        self._state(answer.state, answer.reason)

    def _ask(self) -> HeartbeatAnswer:
        message = Message(
            leases=self._attempts.leases(),
            free=self._places.free(),
            resources=self._machine.resources,
            labels=self._machine.labels,
            slots=self._machine.slots,
            host=self._machine.host,
            draining=self._draining(),
        )
        value: Any = self._http.value("PUT", rest.agent(self._name), json=encode(message))
        return decode(HeartbeatAnswer, value)

    def _away(self, error: PhysicsRunnerError) -> None:
        self._failures += 1
        silent = self._contact.silent_s()
        if self._failures == 1:
            self._log.warning("the server does not answer (%s): what runs goes on", error)
        if self._contact.lost:
            if self._failures > 1:
                self._log.debug("no contact for %.0f s", silent)
            self._attempts.contact_lost()

    def _over(self, error: PhysicsRunnerError) -> None:
        self.refused = error
        self._on_news()

    def _state(self, state: str, reason: str | None) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        if state == REMOVED:
            self._over(AgentRefused(f"agent {self._name} was removed from the server"))
        elif state == ACTIVE:
            self._log.info("the server gives this agent work again")
        else:
            why = f": {reason}" if reason else ""
            self._log.warning("the server gives this agent no new work (%s)%s", state, why)
        self._on_news()

    def _run(self) -> None:
        while not self._closed.is_set() and self.refused is None:
            try:
                self.beat()
            except Exception:
                # Without this thread every lease would be lost.
                self._log.exception("a heartbeat failed")
                self._failures += 1
            self._poked.wait(self._wait_s())
            self._poked.clear()

    def _wait_s(self) -> float:
        # Jitter, downwards: agents that began together do not come back together for ever.
        usual = self._renew_s * (0.8 + 0.2 * self._random())
        tries = self._failures + self._refusals
        if not tries:
            return usual
        return min(usual, self._backoff.wait(tries, random=self._random))
