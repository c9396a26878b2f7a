"""
Whether a run is tried again, and how long is waited before any next try.

Two things that must not be taken for each other: `Backoff` is how long a sender waits before it
asks a server again; `RetryPolicy` is whether a run whose attempt did not complete gets another.

Pure: chance is an argument. A sender's waits grow exponentially with full jitter, so that many do
not come back at the same moment (M. Brooker, "Exponential Backoff and Jitter", AWS, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from physicsrunner.core.run import RunSummary
from physicsrunner.core.state import RunState
from physicsrunner.errors import InvalidRequest

#: What an attempt can end by, and another may not.
EXIT_CODE: Final = "exit_code"  #: main.py ended with a code other than 0
SIGNAL: Final = "signal"  #: main.py was ended by a signal, out of memory for one
LOST: Final = "lost"  #: the machine, or the program without a trace
TIMEOUT: Final = "timeout"  #: the time limit, or silence
DOWNLOAD: Final = "download"  #: before main.py was started
FAILURES: Final = (EXIT_CODE, SIGNAL, LOST, TIMEOUT, DOWNLOAD)

DELAYS_S: Final = (30.0, 300.0, 1200.0)  #: where the policy names none
MOST_RETRIES: Final = 100
LONGEST_S: Final = 7 * 24 * 3600.0
MAX_LOST: Final = 3

#: Error codes by which a report says that the machine, not the program, is to blame.
LOST_CONTACT: Final = "lost_contact"  #: nobody had contact, so that its holder stopped it
_LOST_CODES: Final = frozenset({"program_lost", LOST_CONTACT})
_KEYS: Final = {
    "max_retries": "max_retries",
    "retry_delay_seconds": "delay_s",
    "exponential_backoff": "exponential",
    "retry_on_failure_types": "on",
    "max_lost": "max_lost",
}


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


@dataclass(frozen=True)
class RetryPolicy:
    """How often a run is tried again, after what, and how much later."""

    max_retries: int = 0  #: after a failure of its own; lost machines are counted apart
    delay_s: float | None = None  #: None: 30 s, 300 s, then 1,200 s
    exponential: bool = False  #: each wait is twice the one before
    on: tuple[str, ...] = FAILURES  #: after which failures
    max_lost: int = MAX_LOST  #: how many lost machines a run outlives

    def wait(self, n: int) -> float:
        """Return the seconds before the *n*-th retry (from 1)."""
        if self.exponential:
            first = DELAYS_S[0] if self.delay_s is None else self.delay_s
            return min(LONGEST_S, first * 2.0 ** min(n - 1, 40))
        if self.delay_s is None:
            return DELAYS_S[min(n, len(DELAYS_S)) - 1]
        return self.delay_s

    def to_json(self) -> dict[str, Any]:
        """Return the policy as the REST API says it."""
        said = {name: getattr(self, field) for name, field in _KEYS.items()}
        said["retry_on_failure_types"] = list(self.on)
        return {name: value for name, value in said.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> RetryPolicy:
        """Return the policy that *data* says, or raise `InvalidRequest` naming what is wrong."""
        if not isinstance(data, Mapping):
            raise InvalidRequest(f"retry_policy {_shown(data)}: it is an object")
        for name in data:
            if name not in _KEYS:
                raise InvalidRequest(f"retry_policy.{name} is unknown; it has {', '.join(_KEYS)}")
        given = {_KEYS[name]: value for name, value in data.items() if value is not None}
        for field, most in (("max_retries", MOST_RETRIES), ("max_lost", MOST_RETRIES)):
            if field in given:
                given[field] = _count(field, given[field], most)
        if "delay_s" in given:
            given["delay_s"] = _seconds(given["delay_s"])
        if "exponential" in given and not isinstance(given["exponential"], bool):
            raise InvalidRequest("retry_policy.exponential_backoff is true or false")
        if "on" in given:
            given["on"] = _failures(given["on"])
        return cls(**given)


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _count(name: str, value: Any, most: int) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= value <= most:
        raise InvalidRequest(f"retry_policy.{name} {_shown(value)}: a whole number, 0 to {most}")
    return int(value)


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST_S:
        raise InvalidRequest(
            f"retry_policy.retry_delay_seconds {_shown(value)}: seconds, 0 to {LONGEST_S:g}"
        )
    return float(value)


def _failures(value: Any) -> tuple[str, ...]:
    known = isinstance(value, (list, tuple)) and all(item in FAILURES for item in value)
    if not known:
        raise InvalidRequest(
            f"retry_policy.retry_on_failure_types {_shown(value)}: a list of {', '.join(FAILURES)}"
        )
    return tuple(name for name in FAILURES if name in value)


def failure_of(
    state: RunState, *, before: RunState, exit_code: int | None, code: str | None
) -> str | None:
    """
    Return by which of `FAILURES` an attempt ended; None: by none after which to try again.

    Parameters
    ----------
    state
        As what it ended.
    before
        Where the run stood until then: what fails while it is prepared never started main.py.
    exit_code
        main.py's; a signal n is -n.
    code
        The code of the error that came with it.
    """
    if state is RunState.TIMEOUT:
        return TIMEOUT
    if state is not RunState.FAILED:
        return None
    if code in _LOST_CODES:
        return LOST
    if exit_code is not None and exit_code != 0:
        return SIGNAL if exit_code < 0 else EXIT_CODE
    return DOWNLOAD if before is RunState.PREPARING else None


def policy_of(run: RunSummary) -> RetryPolicy:
    """Return the run's policy; without one it is not tried again after a failure of its own."""
    return RetryPolicy() if run.retry_policy is None else RetryPolicy.from_json(run.retry_policy)


def next_try(run: RunSummary, failure: str | None) -> float | None:
    """
    Return after how many seconds *run*, whose attempt ended by *failure*, is tried again.

    None: it is not. A run that was asked to stop is not, nor one that its creator carries out. A
    lost machine is answered by ``on_lost_contact: retry`` too, also where there is no policy.
    """
    policy = policy_of(run)
    if failure is None or run.cancel_requested or run.claimed:
        return None
    wanted = failure in policy.on and policy.max_retries > 0
    if failure == LOST:
        wanted = wanted or run.on_lost_contact == "retry"
        left = policy.max_lost - run.lost_count
        return policy.wait(run.lost_count + 1) if wanted and left > 0 else None
    left = policy.max_retries - run.retry_count
    return policy.wait(run.retry_count + 1) if wanted and left > 0 else None


def tries(run: RunSummary) -> tuple[int, int]:
    """Return the number of the present or next try, and of how many: handed back ones are none."""
    present = run.retry_count + 1
    return present, max(present, policy_of(run).max_retries + 1)
