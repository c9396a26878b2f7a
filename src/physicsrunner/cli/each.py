"""
One request for each of several runs: ``cancel 7 9``, ``pause 17-116``.

Promises: what goes wrong for one run is said and does not keep the others from their turn; the
exit code is then that of the first mistake. Some are asked for at the same time, and told in their
order. A server that is not there, and Ctrl-C, end it at once: no other request is begun, and those
under way, which are not waited for, may have been carried out.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from queue import SimpleQueue
from typing import Any, Final

import click

from physicsrunner.cli.command import Invocation
from physicsrunner.cli.door import tell
from physicsrunner.errors import (
    NotAuthenticated,
    PhysicsRunnerError,
    ServerUnavailable,
    UsageError,
)

AT_ONCE: Final = 8  #: requests under way, and how far a request is ahead of what is told
_MOST: Final = 10_000  # runs by one command
_ENDS: Final = (ServerUnavailable, NotAuthenticated)  # so it is for every other run, too
_RANGE: Final = re.compile(r"(\d{1,15})-(\d{1,15})")
#: The argument of all commands that take several runs.
runs_argument: Final = click.argument("runs", metavar="RUN...", nargs=-1, required=True)


def named(runs: Iterable[str]) -> list[str]:
    """
    Return each run once, with ranges of numbers spread out.

    Examples
    --------
    >>> named(["3", "5-7", "6", "0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77"])
    ['3', '5', '6', '7', '0b0c8f4e-6f0a-4c39-a4f6-1a2f5a3c1d77']
    """
    found: dict[str, None] = {}
    for text in runs:
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            found[text] = None
            continue
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < _MOST:
            raise UsageError(f"{text}: a range goes up, and names at most {_MOST} runs")
        found.update(dict.fromkeys(str(number) for number in range(first, last + 1)))
    return list(found)


def each_run(
    call: Invocation,
    runs: Iterable[str],
    ask: Callable[[str], dict[str, Any]],
    told: Callable[[dict[str, Any]], str],
    *,
    at_once: int = AT_ONCE,
) -> int:
    """
    Ask for each run and tell what became of it; return the exit code.

    Parameters
    ----------
    ask
        Makes the request and returns the answer; from several threads.
    told
        What the answer means, in a few words.
    at_once
        How many requests are under way; 1 where their order counts.
    """
    answers, code = [], 0
    with closing(_asked(named(runs), ask, at_once)) as outcomes:
        for run, outcome in outcomes:
            try:
                answer = outcome.result()
            except _ENDS:
                raise
            except PhysicsRunnerError as error:
                answers.append({"run": run, "error": str(error), "code": error.code})
                failed = tell(error, as_json=call.as_json, debug=call.debug)
                code = code or failed
                continue
            answers.append(answer)
            if not call.as_json:
                call.screen.text(f"run {run}: {told(answer)}")
    if call.as_json:
        call.screen.document({"data": answers})
    return code


Outcome = Future[dict[str, Any]]


def _asked(
    runs: Sequence[str], ask: Callable[[str], dict[str, Any]], at_once: int
) -> Generator[tuple[str, Outcome], None, None]:
    """
    Iterate over the runs in their order, each with what becomes of it.

    No thread of a pool of the library: the interpreter would wait for those at its end, and a
    request may take as long as its run (``cancel --wait``).
    """
    todo: SimpleQueue[tuple[str, Outcome] | None] = SimpleQueue()

    def work() -> None:
        while (one := todo.get()) is not None:
            run, outcome = one
            try:
                outcome.set_result(ask(run))
            except BaseException as error:  # raised where it is told
                outcome.set_exception(error)

    workers = min(at_once, len(runs))
    for n in range(workers):
        threading.Thread(target=work, name=f"each-{n}", daemon=True).start()
    under_way: deque[tuple[str, Outcome]] = deque()
    try:
        for run in runs:
            if len(under_way) == workers:
                yield under_way.popleft()
            under_way.append((run, Future()))
            todo.put(under_way[-1])
        while under_way:
            yield under_way.popleft()
    finally:
        for _ in range(workers):
            todo.put(None)
