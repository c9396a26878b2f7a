"""
How long to wait before trying again.

Pure: chance is an argument. Waits grow exponentially with full jitter, so that many senders do
not come back at the same moment (M. Brooker, "Exponential Backoff and Jitter", AWS, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits of ``base * 2**n`` seconds, at most ``cap``, each drawn from its upper half."""

    base: float = 0.25
    cap: float = 30.0

    def wait(
        self, tries: int, *, random: Callable[[], float], retry_after: float | None = None
    ) -> float:
        """
        Return the seconds to wait after the *tries*-th failure (from 1).

        *retry_after* is what the server asked for, in seconds; it is a lower bound.
        *random* returns a float in [0, 1).
        """
        top = min(self.cap, self.base * 2.0 ** min(tries - 1, 40))
        drawn = top * (0.5 + 0.5 * random())
        return max(drawn, retry_after or 0.0)
