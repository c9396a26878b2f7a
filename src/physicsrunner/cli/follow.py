"""
A run on a server, shown live until it has ended.

Promises: a line that is cut is not the run's end: the server is asked again until it answers.
Ctrl-C leaves the run alone and says how to stop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from physicsrunner.cli.screen import Progress
from physicsrunner.core import exitcodes
from physicsrunner.core.state import TERMINAL, RunState
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire import live

if TYPE_CHECKING:
    from physicsrunner.cli.command import Invocation
    from physicsrunner.client.client import Client
    from physicsrunner.client.live import Feed
    from physicsrunner.wire.live import Event

_LOOK_S: Final = 2.0  # without an event for so long, the run is asked for


def exit_code(run: dict[str, Any]) -> int:
    """Return the exit code that a run's state means."""
    return exitcodes.exit_code(RunState(run["status"]))


def follow_run(call: Invocation, client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """Show *run* live until it has ended; return its last document."""
    if ended(run):
        return run
    try:
        with call.screen.progress() as progress:
            return _Follower(call, client, run, progress).until_end()
    except KeyboardInterrupt:
        number = run["number"]
        call.screen.note(f"the run goes on; `physicsrunner cancel {number}` stops it")
        raise


def ended(run: dict[str, Any]) -> bool:
    """Say whether a run document tells of an end."""
    return RunState(run["status"]) in TERMINAL


class LiveNumbers:
    """The latest residuals: the numbers by which one sees whether a solver converges."""

    def __init__(self) -> None:
        self._latest: dict[str, float] = {}

    def take(self, points: list[dict[str, Any]]) -> None:
        """Take points of the live series."""
        for point in points:
            name, value = str(point.get("series")), point.get("y")
            if name.startswith("residual") and isinstance(value, (int, float)):
                self._latest[name] = float(value)

    def text(self, most: int = 3) -> str:
        """Return the numbers as a few words."""
        return "   ".join(f"{name} {y:.2e}" for name, y in list(self._latest.items())[:most])


class _Follower:
    def __init__(
        self, call: Invocation, client: Client, run: dict[str, Any], progress: Progress
    ) -> None:
        self._call = call
        self._client = client
        self._run = run
        self._progress = progress
        self._numbers = LiveNumbers()
        self._label = ""
        self._percent: float | None = None
        self._away = False

    def until_end(self) -> dict[str, Any]:
        feed = self._subscribe()
        try:
            self._look()  # what happened before we listened
            while not ended(self._run):
                event = None
                if feed is None:
                    self._client.sleep(_LOOK_S)
                else:
                    event = feed.next(_LOOK_S)
                if event is None:
                    self._look()
                else:
                    self._take(event)
            return self._run
        finally:
            if feed is not None:
                feed.close()

    def _subscribe(self) -> Feed | None:
        try:
            return self._client.feed(self._run["id"])
        except ServerUnavailable as error:
            self._progress.say(f"no live feed, asking every {_LOOK_S:.0f} s instead ({error})")
            return None

    def _look(self) -> None:
        try:
            self._run = self._client.get(self._run["id"])
        except ServerUnavailable:
            if not self._away:
                self._progress.say("the server does not answer; waiting for it")
            self._away = True
            return
        self._away = False
        self._percent = self._run.get("progress_percent")
        self._label = self._run.get("label") or str(self._run["status"])
        self._draw()

    def _take(self, event: Event) -> None:
        if event.type == live.SERIES:
            self._numbers.take(event.data.get("points") or [])
        elif event.type == live.PROGRESS:
            self._percent = event.data.get("progress", event.data.get("progress_percent"))
            self._label = event.data.get("label") or self._label
        elif event.id is not None and event.type not in (live.SEALED, live.RESULTS):
            self._progress.say(event.type.removeprefix("simulation/").replace("/", " "))
            self._look()
            return
        self._draw()

    def _draw(self) -> None:
        fraction = None if self._percent is None else self._percent / 100.0
        words = [word for word in (self._label, self._numbers.text()) if word]
        self._progress.show(fraction, "   ".join(words))
