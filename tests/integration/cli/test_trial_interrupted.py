"""A trial that is ended before its certificate: what was answered and paid for is not asked again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ownward.cli import run
from ownward.cli._trial_kept import KeptAnswers
from ownward.engines import FakeOptions, FakeProcess, run_fake
from ownward.quality import ExactMatch
from ownward.trials import Answer, Task, TaskResult

Serve = Callable[..., tuple[subprocess.Popen[bytes], str]]

PLAN = """
schema = "ownward.plan/1"
name = "trial"
baseline = "big"

[workloads.sums]
label = "local_only"
match = { models = ["sums"] }
strategy = { kind = "direct", tiers = ["big"] }
"""

TIER = """
[tiers.{name}]
kind = "owned"
model = "{model}"
engine = "adopted"
price = {{ input_usd_per_mtok = "1", output_usd_per_mtok = "1", \
basis = "assumed", source = "a test", checked_on = 2026-11-21 }}
[[tiers.{name}.upstreams]]
name = "{name}"
url = "{url}"
"""


class Bench:
    """A gateway over two slow fakes, forty tasks, and the trial of them."""

    def __init__(self, serve: Serve, folder: Path, fakes: dict[str, FakeProcess]) -> None:
        self.folder, self.fakes, self.plan = folder, fakes, folder / "plan.toml"
        tiers = [TIER.format(name=name, model=f"{name}-1", url=fake.base_url) for name, fake in fakes.items()]
        self.plan.write_text(PLAN + "".join(tiers))
        _, url = serve("--plan", str(self.plan))
        tasks = folder / "tasks.jsonl"
        row = {"messages": [{"role": "user", "content": "2+2?"}], "expected": 4, "grader": {"kind": "number"}}
        tasks.write_text("".join(json.dumps({"task_id": f"t{index}", **row}) + "\n" for index in range(40)))
        self.command = [
            "trial", "--tasks", str(tasks), "--url", url, "--baseline", "big", "--candidate", "small",
            "--workload", "sums", "--ledger", str(folder / "ledger.db"), "--json",
        ]  # fmt: skip

    def asked(self) -> dict[str, int]:
        return {name: len(fake.requests()) for name, fake in self.fakes.items()}

    def end_a_run(self, signal_number: int, *, after: int) -> tuple[int, str]:
        """Start a trial, end it once the fakes were asked so often, and return its exit code and what it said."""
        trial = subprocess.Popen(
            [sys.executable, "-m", "ownward", *self.command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while sum(self.asked().values()) < after:
            assert trial.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        trial.send_signal(signal_number)
        _, said = trial.communicate(timeout=30)
        return trial.returncode, said

    def kept(self) -> list[Path]:
        return list(self.folder.glob("ledger.db-trial-*"))


@pytest.fixture
def bench(serve: Serve, tmp_path: Path) -> Iterator[Bench]:
    with (
        run_fake(FakeOptions(reply="it is 4", ttft_s=0.15)) as big,
        run_fake(FakeOptions(reply="4", ttft_s=0.15)) as small,
    ):
        yield Bench(serve, tmp_path, {"big": big, "small": small})


def certificate_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert run(command) == 0
    out, err = capsys.readouterr()
    certificate: dict[str, Any] = json.loads(out)
    return certificate, err


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_the_next_run_of_an_interrupted_trial_asks_only_what_was_not_answered(
    bench: Bench, capsys: pytest.CaptureFixture[str], ended_by: signal.Signals
) -> None:
    code, said = bench.end_a_run(ended_by, after=40)
    before = bench.asked()
    assert [path.stat().st_mode & 0o777 for path in bench.kept()] == [0o600], (code, said)
    if ended_by == signal.SIGINT:
        assert code == 130
        assert said.rstrip().endswith("the same command goes on from there")
        assert "Traceback" not in said
    certificate, told = certificate_of(bench.command, capsys)
    again = {name: count - before[name] for name, count in bench.asked().items()}
    assert certificate["tasks"] == 40
    assert certificate["candidate_completion_fraction"] == certificate["baseline_completion_fraction"] == 1
    assert float(certificate["cpct_baseline_usd"]["value"]) > 0
    assert certificate["taken_over"] >= 28
    assert sum(again.values()) == 80 - certificate["taken_over"]
    assert f"{certificate['taken_over']} answers taken over" in told
    assert bench.kept() == []
    afresh, _ = certificate_of(bench.command, capsys)
    assert afresh["taken_over"] == 0

    assert run(["report", "--ledger", str(bench.folder / "ledger.db"), "--plan", str(bench.plan), "--json"]) == 0
    (workload,) = json.loads(capsys.readouterr().out)["workloads"]
    assert {line["tier"]: line["completed"] for line in workload["tiers"]} == {"big": 80, "small": 80}


def test_answers_of_another_model_behind_a_tiers_name_are_not_taken_over(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.end_a_run(signal.SIGKILL, after=30)
    before = bench.asked()
    (path,) = bench.kept()
    path.write_text(path.read_text().replace('"model": "small-1"', '"model": "small-0"'))
    certificate, told = certificate_of(bench.command, capsys)
    assert "small is 'small-1' now and was 'small-0' before" in told
    assert bench.asked()["small"] - before["small"] == 40
    assert certificate["tasks"] == 40
    assert certificate["taken_over"] == 80 - (sum(bench.asked().values()) - sum(before.values()))


def test_what_the_candidate_failed_before_an_interruption_gets_no_second_chance(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.end_a_run(signal.SIGKILL, after=30)
    (path,) = bench.kept()
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    failed = {"is_answered": False, "is_completed": False, "score": 0.0, "why": "status 503: down"}
    lines = [
        {**line, **failed} if number % 2 and line["tier"] == "small" else line for number, line in enumerate(lines)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"run_id": "half a li')
    failures = sum(not line["is_completed"] for line in lines)
    assert failures > 5
    certificate, _ = certificate_of(bench.command, capsys)
    assert certificate["tasks"] == 40
    assert certificate["candidate_completion_fraction"] == pytest.approx(1 - failures / 40)
    assert certificate["taken_over"] == len(lines)


def test_what_no_certificate_can_ask_for_is_told_before_anything_is_asked(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*bench.command, "--rho", "98"]) == 2
    assert "rho is 98" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert sum(bench.asked().values()) == 0


def test_a_ledger_that_is_not_the_gateways_is_told_before_all_is_paid(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bench.folder / "other.db"
    command = [*bench.command[:-3], "--ledger", str(other), "--json"]
    certificate, told = certificate_of(command, capsys)
    assert told.count(f"the ledger {other} is not the gateway's") == 1
    assert certificate["cpct_baseline_usd"]["value"] is None


def test_a_trial_without_a_gateway_says_how_to_start_one_and_leaves_no_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    row = {"messages": [{"role": "user", "content": "2+2?"}], "expected": "4", "grader": {"kind": "exact"}}
    tasks.write_text(json.dumps({"task_id": "1", **row}))
    command = ["trial", "--tasks", str(tasks), "--url", "http://127.0.0.1:1", "--ledger", str(tmp_path / "l.db")]
    assert run([*command, "--baseline", "a", "--candidate", "b", "--json"]) == 4
    assert "ownward serve --plan" in json.loads(capsys.readouterr().out)["error"]["next"]
    assert run([*command, "--baseline", "a", "--candidate", "a", "--json"]) == 2
    assert list(tmp_path.iterdir()) == [tasks]


def test_a_trial_that_cannot_keep_its_answers_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger is a database, and there is no folder for our data."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    database = SimpleNamespace(name="postgresql://db/books")
    grader = ExactMatch()
    task = Task(task_id="1", messages=[], expected="4", grader=grader)
    result = TaskResult(task=task, answer=Answer(text="4"), grade=grader.grade("4", "4"))
    with KeptAnswers.of(database, workload=None, baseline="a", candidate="b") as kept:  # type: ignore[arg-type]
        for tier in ("a", "b"):
            kept.add(tier, result, model=None)
    assert capsys.readouterr().err.count("answers are not kept") == 1
    assert kept.take([task], "a", "b") == {"a": {}, "b": {}}
