"""
Attempts, carried out by the runner in this process: the one place of the agent that starts it.

Promises: all attempts share one connection pool, one token (the agent's), one watch, one sync and
one sender of reports; what is asked of an attempt counts also before it has begun.
"""

from __future__ import annotations

from pathlib import Path

from physicsrunner.agent.adopt import Work
from physicsrunner.client.native import NativeUplink
from physicsrunner.errors import ConfigError
from physicsrunner.runner.attempt import carry_out
from physicsrunner.runner.place import Place
from physicsrunner.runner.result import RunResult
from physicsrunner.runner.station import Station
from physicsrunner.runner.stop import CANCELLED, HAND_BACK, LEASE_LOST, StopRequest
from physicsrunner.wire.documents import parse_config
from physicsrunner.wire.messages import LeaseGrant


class Orders:
    """What is asked of one attempt (`attempts.Control`)."""

    def __init__(self, station: Station) -> None:
        self.stop = StopRequest()
        self.work: Work | None = None
        self._station = station

    def cancel(self) -> None:
        """Stop the program; the run ends cancelled."""
        self.stop.ask(CANCELLED)

    def pause(self) -> None:
        """Stop the clock of the program and the program."""
        self.stop.pause(True)

    def resume(self) -> None:
        """Let it go on."""
        self.stop.pause(False)

    def lease_lost(self) -> None:
        """Stop the program, report nothing more, deliver its files."""
        self.stop.ask(LEASE_LOST)
        attempt = self._station.attempts.get(self.work.key) if self.work else None
        if attempt is not None:
            attempt.heed([], "lease_lost")

    def hand_back(self) -> None:
        """Stop the program and give the run back to the queue, uncounted."""
        self.stop.ask(HAND_BACK)

    def token(self, token: str) -> None:
        """Take a fresh token of the attempt."""
        attempt = self._station.attempts.get(self.work.key) if self.work else None
        if attempt is not None:
            attempt.set_token(token)


class Runner:
    """
    Carries out attempts of one server.

    Parameters
    ----------
    uplink
        The server, with the agent's token. It is not closed.
    work
        The folder of all work folders.
    cache
        The folder of inputs that were fetched before; None: the user's.
    """

    def __init__(self, uplink: NativeUplink, work: Path, cache: Path | None = None) -> None:
        self._uplink = uplink
        self._cache = cache
        self._station = Station(work, uplink)

    def start(self) -> None:
        """Load and start what attempts share, so that the first one does not wait for it."""
        self._station.start()

    def control(self) -> Orders:
        """Return the control of an attempt that is about to begin."""
        return Orders(self._station)

    def __call__(
        self,
        work: Work,
        control: Orders,
        grant: LeaseGrant | None,
        place: Place,
    ) -> RunResult:
        """Carry out the attempt in *work*, or go on with it."""
        control.work = work
        try:
            text = work.config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{work.config} cannot be read: {error}") from error
        config = parse_config(text, str(work.config))
        return carry_out(
            config,
            uplink=self._uplink,
            stop=control.stop,
            renew=False,
            cache=self._cache,
            shared=self._station,
            grant=grant,
            place=place,
        )

    def rhythm(self, flush_s: float) -> None:
        """Send what changed in one file no more often than that."""
        self._station.rhythm(flush_s)

    def close(self) -> None:
        """End what attempts share; no program."""
        self._station.close()
