"""A stand-alone runner and its lease: renewed, fresh tokens, commands, and its loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from physicsrunner.client.uplink import Uplink
from physicsrunner.core.state import RunState
from physicsrunner.errors import ServerUnavailable
from physicsrunner.runner.api import load_config
from physicsrunner.runner.attempt import carry_out
from physicsrunner.wire.messages import (
    HeldLease,
    LeaseGrant,
    Limits,
    RenewalAnswer,
    Report,
    ReportAnswer,
)
from tests.support.cases import make_work_folder

MAIN = """
    (outputs / "ready").touch()
    while not os.path.exists(os.environ["PHYSICSRUNNER_STOP_FILE"]):
        time.sleep(0.01)
"""


class Answers:
    """A server that answers as it is told to; files are not its business."""

    def __init__(self, **answer: Any) -> None:
        self.renewal: dict[str, Any] = answer
        self.report_error: str | None = None
        self.states: list[RunState | None] = []
        self.tokens: list[str] = []
        self.away = 0

    def attempt(self, run: str, attempt: int) -> LeaseGrant:
        return LeaseGrant(
            run, attempt, 7, "named", 0.0, 0.05, "granted-token", limits=Limits(stop_grace_s=5.0)
        )

    def renew(self, leases: Sequence[HeldLease]) -> Sequence[RenewalAnswer]:
        if self.away > 0:
            self.away -= 1
            raise ServerUnavailable("away")
        return [RenewalAnswer(lease.run, lease.attempt, **self.renewal) for lease in leases]

    def report(self, reports: Sequence[Report]) -> Sequence[ReportAnswer]:
        self.states += [report.state for report in reports if report.state]
        return [
            ReportAnswer(r.run, r.attempt, state=RunState.FAILED, error=self.report_error)
            for r in reports
        ]

    def set_token(self, token: str) -> None:
        self.tokens.append(token)

    def close(self) -> None:
        """Nothing is open."""


def carried_out(folder: Path, answers: Answers, main: str = MAIN) -> Any:
    """Carry out a run with this server, without sending files."""
    keys: dict[str, Any] = {"server": "http://127.0.0.1:9", "run": "r-1", "attempt": 1}
    config = load_config(make_work_folder(folder, main, token="first-token", **keys))
    return carry_out(config, uplink=cast("Uplink", answers), skip_stages="upload")


def test_a_cancel_comes_with_the_renewal(tmp_path: Path) -> None:
    """Also when the server had been away for a while."""
    answers = Answers(commands=["cancel"])
    answers.away = 3
    result = carried_out(tmp_path, answers)
    assert result.state is RunState.CANCELLED
    assert answers.states == [RunState.RUNNING, RunState.RUNNING, RunState.CANCELLED]


def test_a_lost_lease_stops_the_program_and_reports_nothing(tmp_path: Path) -> None:
    """The outcome says why, and the server is not told: the run is another's."""
    answers = Answers(error="lease_lost")
    result = carried_out(tmp_path, answers)
    assert result.state is RunState.FAILED
    assert result.error.code == "lease_lost"
    assert set(answers.states) <= {RunState.RUNNING}


def test_a_run_that_is_over_at_the_server_is_stopped(tmp_path: Path) -> None:
    """``running`` was refused because the run has ended there: main.py is not let run on."""
    answers = Answers()
    answers.report_error = "illegal_transition"
    result = carried_out(tmp_path, answers)
    assert result.error.code == "lease_lost"


def test_fresh_tokens_are_used_kept_and_never_logged(tmp_path: Path) -> None:
    """A renewal's token replaces the last, also for a restart; no log has any of them."""
    main = "(outputs / 'config.json').write_text(open('config.json').read())\n" + "time.sleep(0.5)"
    answers = Answers(token="fresh-token")
    result = carried_out(tmp_path, answers, main)
    assert result
    assert answers.tokens[0] == "granted-token"
    assert "fresh-token" in answers.tokens
    kept = json.loads((tmp_path / ".physicsrunner/lease.json").read_text())
    assert (kept["token"], kept["number"]) == ("fresh-token", 7)
    assert json.loads((tmp_path / "outputs/config.json").read_text())["token"] == "granted-token"
    for log in (tmp_path / "debug").iterdir():
        assert "-token" not in log.read_text()


@pytest.mark.parametrize("away", [1, 3])
def test_lost_contact_is_not_failure(tmp_path: Path, away: int) -> None:
    """Renewals that nobody answers change nothing."""
    answers = Answers()
    answers.away = away
    assert carried_out(tmp_path, answers, "time.sleep(0.4)")
