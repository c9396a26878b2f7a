"""
Bringing an attempt to its server: all files sealed, the outcome reported.

Promises:

- What cannot be delivered stays in the work folder and changes nothing of the outcome;
  `deliver_folder` (``physicsrunner sync WORKDIR``) delivers it later, any number of times, also
  from a work folder that never had a server.
- The outcome is reported after the files are sealed, where it can be in the frame that seals them;
  a run that did not complete is reported also when its files are still on the way.
- A lost lease is reported by nobody: its files are sent, its state is another's.
- A run that the server tries again is delivered like one that has ended; one that is handed back
  is reported as such, without an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from physicsrunner.core.stages import Stage
from physicsrunner.core.state import RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.attach import attach, server_patience
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.result import Delivery, LastWords
from physicsrunner.runner.stages.watch import contact
from physicsrunner.runner.stop import LEASE_LOST
from physicsrunner.wire.messages import Report, ReportAnswer

if TYPE_CHECKING:
    from physicsrunner.runner.sync import Sync

#: Seconds without contact until the last upload is left for later.
TIMEOUT_S: Final = 180.0
#: The same, where the server had not answered at the start either.
UNREACHED_S: Final = 5.0
_ROUNDS: Final = 4  # files may appear between the last scan and the report


def deliver_attempt(attempt: Attempt) -> Delivery:
    """Send and seal every file, report the outcome; the answer says what is still to do."""
    if attempt.place is not None:
        attempt.place.leave()
    try:
        delivery = _deliver(attempt)
    except (PhysicsRunnerError, OSError) as error:
        attempt.log.warning("not delivered: %s", error)
        delivery = Delivery(delivered=False, error=str(error))
    attempt.delivery = delivery
    if delivery.delivered:
        attempt.journal.note("delivered", later=True, files=delivery.files, bytes=delivery.bytes)
    return delivery


def _deliver(attempt: Attempt) -> Delivery:
    uplink = attempt.uplink
    if uplink is None:
        return Delivery(delivered=False, error="no server is configured")
    timeout = attempt.config.deliver_timeout_s
    if attempt.grant is None:
        attach(attempt, UNREACHED_S if timeout is None else timeout)
    timeout = TIMEOUT_S if timeout is None else timeout
    _note_final(attempt)
    if not attempt.plan.upload:
        _heard(attempt, _asked(attempt, _last_words(attempt), timeout))
        return Delivery(delivered=False, error="sending files was skipped")
    sync = contact(attempt).attached()
    return _finish(attempt, sync, timeout)


def _finish(attempt: Attempt, sync: Sync, timeout: float) -> Delivery:
    delivery = Delivery(delivered=False)
    words = LastWords(cache(partial(_last_words, attempt)))
    for _ in range(_ROUNDS):
        words.answers = ()
        delivery = _send_all(attempt, sync, timeout, words)
        for path, reason in delivery.skipped:
            attempt.warn(f"{path} was not sent: {reason}")
        completed = attempt.outcome is not None and attempt.outcome.state is RunState.COMPLETED
        if not delivery.delivered and completed:
            return delivery
        # Without contact the files have waited long enough for both.
        patience = timeout if delivery.delivered else UNREACHED_S
        answer = _heard(attempt, words.answers or _asked(attempt, words.say(), patience))
        if answer is None or answer.error != "not_sealed":
            break
        attempt.log.info("not all files are sealed yet: %s", ", ".join(answer.unsealed[:10]))
        sync.ask_again(attempt.run, attempt.number)
    else:
        return replace(delivery, delivered=False, error="the server misses sealed files")
    return delivery


def _send_all(attempt: Attempt, sync: Sync, timeout: float, words: LastWords) -> Delivery:
    """
    Finish the files; given up when *timeout* seconds bring no byte further, not before.

    Something that grows as fast as it is sent brings nothing further either.
    """
    left: int | None = None
    while True:
        before = sync.status(attempt.run, attempt.number).bytes_sent
        delivery = sync.finish(attempt.run, attempt.number, timeout=timeout, words=words)
        after = sync.status(attempt.run, attempt.number)
        if delivery.delivered or timeout <= 0 or after.bytes_sent <= before:
            return delivery
        if left is not None and after.bytes_left >= left:
            return delivery
        left = after.bytes_left


def _note_final(attempt: Attempt) -> None:
    """From here on the log is a sealed file: later lines go where nothing is sent from."""
    attempt.log.info("sending what is left")
    attempt.log_file.open(attempt.folder.control / "runner-late.log")


def _last_words(attempt: Attempt) -> Sequence[Report]:
    """Return the outcome's report, after whatever was not reported before it; none if fenced."""
    pending = attempt.reporter.close()
    outcome = attempt.outcome
    error = outcome.error if outcome else None
    fenced = attempt.reporter.fenced or (error is not None and error.code == LEASE_LOST)
    if outcome is None or fenced:
        return ()
    reports = _states_before(attempt, pending)
    if outcome.state is RunState.RETRYING:
        reports.append(
            Report(attempt.run, attempt.number, hand_back=True, error=error, time=outcome.time)
        )
        return reports
    said = next((report for report in reversed(pending) if _is_progress(report)), None)
    reports.append(
        Report(
            attempt.run,
            attempt.number,
            state=outcome.state,
            stage=Stage.POSTPROCESS.value,
            progress=_progress(outcome.state, said),
            label=None if said is None else said.label,
            exit_code=outcome.exit_code,
            error=error,
            # Not an empty list: that would take away what main.py reported by itself.
            results=list(attempt.results) or None,
            time=outcome.time,
        )
    )
    return reports


def _asked(attempt: Attempt, reports: Sequence[Report], timeout: float) -> Sequence[ReportAnswer]:
    if not reports or attempt.reporter.fenced:
        return ()
    sender = attempt.station.reports()
    answers: Sequence[ReportAnswer] = server_patience(attempt, timeout).repeat(
        lambda: sender.ask(reports)
    )
    return answers


def _heard(attempt: Attempt, answers: Sequence[ReportAnswer]) -> ReportAnswer | None:
    """Keep what the server answered to the outcome; None: it was not asked."""
    if not answers:
        return None
    answer = answers[-1]
    if answer.error == "not_sealed":
        return answer
    if answer.error is not None:
        attempt.warn(f"the server did not take the outcome: {answer.detail or answer.error}")
    attempt.journal.note("reported", later=True, answer=answer.error)
    return answer


def _states_before(attempt: Attempt, pending: Iterable[Report]) -> list[Report]:
    """Return what must be known before the outcome: that it ran, and whether it was silent."""
    reports = [
        replace(report, run=attempt.run, attempt=attempt.number)
        for report in pending
        if report.state is None and not _is_progress(report)
    ]
    if attempt.history.started is None or attempt.reporter.heard is RunState.RUNNING:
        return reports
    # Repeated without need at most: a run that runs already takes this as success.
    running = Report(
        attempt.run, attempt.number, state=RunState.RUNNING, time=attempt.history.started
    )
    return [running, *reports]


def _is_progress(report: Report) -> bool:
    """Say whether *report* says only how far it was: the last one goes with the outcome."""
    return report.state is None and report.silent is None


def _progress(state: RunState, said: Report | None) -> float | None:
    if state is RunState.COMPLETED:
        return 100.0
    return None if said is None else said.progress
