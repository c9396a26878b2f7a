"""The commands of the queue, as a person and as a program call them, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cases import make_case
from tests.support.processes import CliResult, Processes, ServerProcess

Cli = Callable[..., CliResult]


@pytest.fixture
def cli(processes: Processes, server: ServerProcess) -> Cli:
    """Carry out a command as the administrator of a server without agents."""

    def run(*arguments: str, check: bool = True) -> CliResult:
        return processes.cli(*arguments, server=server, check=check)

    return run


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A case with two parameters."""
    return make_case(tmp_path / "case", name="plate", parameters={"re": 100, "dt": 0.1})


def test_a_run_is_submitted_with_all_its_options(cli: Cli, case: Path, tmp_path: Path) -> None:
    """Each option is in the document, and shown to a person in words; a secret is not."""
    (tmp_path / "key").write_text("swordfish\n")
    document = cli(
        "submit",
        str(case),
        *("--priority", "high", "--label", "gpu", "--cores", "2", "--memory", "4", "--gpus", "1"),
        *("--time-limit", "5", "--queue-limit", "60", "--silence-limit", "2"),
        *("--stop-when-silent", "--retries", "3", "--retry-delay", "7", "--retry-on", "exit_code"),
        *("--on-lost-contact", "retry", "--env", "PLAIN=seen", "--pin", "--tag", "a"),
        *("--secret-env", f"KEY=@{tmp_path / 'key'}", "--study", "doe", "--json"),
    ).json
    expected = {
        "priority": 2,
        "labels": ["gpu"],
        "cpu_cores": 2,
        "memory_gb": 4,
        "gpu_count": 1,
        "time_limit_s": 300,
        "queue_limit_s": 3600,
        "silence_limit_s": 120,
        "stop_when_silent": True,
        "on_lost_contact": "retry",
        "pinned": True,
        "tags": ["a"],
    }
    assert {name: document[name] for name in expected} == expected
    variables = document["configuration"]["environment_variables"]
    assert variables == {"PLAIN": "seen", "KEY": "***"}
    shown = cli("show", "1").stdout
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for words in (
        "priority high",
        "needs 2 cores, 4 GB of memory, 1 GPUs, gpu",
        "time limit 5:00 min",
        "queue limit 1:00 h",
        "silence limit 2:00 min, then it is stopped",
        "retries 0 of 3; 7 s later; after exit_code",
        "lost contact retry",
        "PLAIN seen",
        "KEY ***",
    ):
        assert words in rows, shown
    assert "waiting:" in shown
    assert "swordfish" not in shown + cli("show", "1", "--json").stdout
    assert cli("list", "--study", document["study_id"], "--json").json["total"] == 1
    again = cli("submit", str(case), "--study", "doe", "--max-concurrent", "3", "--json")
    assert again.json["study_id"] == document["study_id"]
    assert "is there already" in again.stderr


def test_a_lost_machine_is_answered_later_without_retries(cli: Cli, case: Path) -> None:
    """Lost machines are counted apart: what is said of the wait then needs no number of retries."""
    options = ("--on-lost-contact", "retry", "--retry-delay", "90", "--exponential")
    policy = cli("submit", str(case), *options, "--json").json["retry_policy"]
    assert (policy["retry_delay_seconds"], policy["exponential_backoff"]) == (90, True)
    assert policy["max_retries"] == 0
    shown = cli("show", "1").stdout
    assert "90 s later, then twice as long each time" in shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sets.csv", "re,dt\n100,0.1\n200,0.2\n300,0.3\n"),
        ("sets.jsonl", '{"re": 100}\n{"re": 200, "dt": 0.2}\n{"re": 300}\n'),
        ("sets.yaml", "- re: 100\n- {re: 200, dt: 0.2}\n- re: 300\n"),
    ],
)
def test_a_batch_is_one_run_for_each_set(
    cli: Cli, case: Path, tmp_path: Path, name: str, text: str
) -> None:
    """Files of each kind; the values of the command line hold where a set has none."""
    (tmp_path / name).write_text(text)
    told = cli("submit", str(case), "--batch", str(tmp_path / name), "-p", "dt=0.5").stdout
    assert told == "runs 1-3: 3 queued\n"
    second = cli("show", "2", "--json").json
    assert second["parameters"]["inputs"] == {"re": 200, "dt": 0.2}
    assert second["name"] == "plate 2"


def test_many_runs_are_steered_by_a_range_of_numbers(cli: Cli, case: Path) -> None:
    """Pause, resume, cancel, pin, retry and delete, each telling what happened to each run."""
    answer = cli("submit", str(case), "--count", "4", "--json").json
    assert (answer["count"], answer["first"], answer["last"]) == (4, 1, 4)
    assert cli("pause", "1-2").stdout.count("held") == 2
    assert "queued, held" in cli("list").stdout
    queue = cli("queue")
    assert "4 queued" in queue.stdout
    assert "no agents" in queue.stdout
    assert "held" in queue.stdout
    assert cli("queue", "--json").json["waiting"] == 4
    assert cli("resume", "1").stdout == "run 1: queued\n"
    assert cli("cancel", "1-3").stdout.count("cancelled") == 3
    assert cli("pin", "1").stdout == "run 1: pinned\n"
    assert cli("retry", "2", "3").stdout.splitlines() == [
        "run 2: again as run 5, queued",
        "run 3: again as run 6, queued",
    ]
    refused = cli("delete", "1-4", check=False)
    assert refused.returncode != 0
    assert refused.stdout.splitlines() == ["run 2: deleted", "run 3: deleted"]
    assert "pinned" in refused.stderr
    assert "Unpin the run" in refused.stderr
    assert "Cancel the run" in refused.stderr
    assert cli("unpin", "1").stdout == "run 1: pinned no longer\n"
    assert cli("delete", "1", "--json").json["data"][0]["deleted"] is True
    assert cli("show", "1", check=False).returncode == 6


def test_a_mistake_of_one_run_does_not_keep_the_others(cli: Cli, case: Path) -> None:
    """The exit code is that of the mistake; with --json it stands among the answers."""
    cli("submit", str(case))
    done = cli("pause", "77", "1", "--json", check=False)
    assert done.returncode == 6
    missing, held = done.json["data"]
    assert (missing["run"], missing["code"], held["held"]) == ("77", "not_found", True)
    assert json.loads(done.stderr)["exit_code"] == 6


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batch", "{}", "--count", "2"], "leave --count out"),
        (["--count", "2", "--follow"], "--follow shows one run"),
        (["--max-concurrent", "2"], "needs --study"),
        (["--retry-delay", "3"], "need --retries"),
        (["--exponential", "--on-lost-contact", "fail"], "need --retries"),
        (["--retry-on", "lost", "--on-lost-contact", "retry"], "needs --retries"),
        (["--retry-delay", "nan", "--retries", "1"], "nan is no number"),
        (["--cores", "nan"], "nan is no number"),
        (["--memory", "inf"], "inf is no number"),
        (["--storage", "-inf"], "inf is no number"),
        (["--stop-when-silent"], "needs --silence-limit"),
        (["--env", "nothing"], "is not NAME=VALUE"),
        (["--secret-env", "KEY=swordfish"], "expected KEY=@FILE"),
        (["--secret-env", "KEY=@/not/there"], "No such file"),
        (["--batch", "{}"], "has no parameter 'er'"),
        (["--priority", "urgent"], "--priority"),
        (["--queue-limit", "0"], "more than 0"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_sent(
    processes: Processes, case: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    """There is no server at all: whatever is told was found here."""
    sets = tmp_path / "sets.csv"
    sets.write_text("er\n1\n")
    given = [argument.replace("{}", str(sets)) for argument in arguments]
    done = processes.cli(
        "submit", str(case), *given, check=False, PHYSICSRUNNER_SERVER="http://127.0.0.1:9"
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "swordfish" not in done.stderr + done.stdout


@pytest.mark.parametrize("runs", ["5-3", "1-99999999", " "])
def test_a_range_goes_up_and_ends(cli: Cli, runs: str) -> None:
    """A range that nobody means is a mistake of the call, and nothing is asked."""
    assert cli("cancel", runs, check=False).returncode == 2
