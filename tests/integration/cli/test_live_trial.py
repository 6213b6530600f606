"""A trial against a running gateway over fake upstreams, and what the plan then makes of its certificate."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from ownward.cli import run
from ownward.engines import FakeOptions, FakeProcess, run_fake

Serve = Callable[..., tuple[subprocess.Popen[bytes], str]]

PLAN = """
schema = "ownward.plan/1"
name = "trial"
baseline = "big"

[workloads.sums]
label = "local_only"
floor_fraction = 0.9
confidence_fraction = 0.95
match = {{ models = ["sums"] }}
strategy = {{ kind = "direct", tiers = ["big"] }}
"""

TIER = """
[tiers.{name}]
kind = "owned"
model = "{name}-model"
engine = "adopted"
price = {{ provider = "owned", model = "{name}", input_usd_per_mtok = "{usd}", output_usd_per_mtok = "{usd}", \
basis = "assumed", source = "a test", checked_on = 2026-11-21 }}
[[tiers.{name}.upstreams]]
name = "{name}"
url = "{url}"
"""


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeProcess]]:
    with run_fake(FakeOptions(reply="it is 4")) as big, run_fake(FakeOptions(reply="4")) as small:
        yield {"big": big, "small": small}


def test_a_live_trial_certifies_and_the_ledger_keeps_outcomes_and_certificate(
    serve: Serve, tmp_path: Path, fakes: dict[str, FakeProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, ledger = tmp_path / "plan.toml", str(tmp_path / "ledger.db")
    tiers = "".join(
        TIER.format(name=name, url=fakes[name].base_url, usd=usd) for name, usd in (("big", "10"), ("small", "1"))
    )
    plan.write_text(PLAN.format() + tiers)
    tasks = tmp_path / "tasks.jsonl"
    row = {"messages": [{"role": "user", "content": "2+2?"}], "expected": 4, "grader": {"kind": "number"}}
    tasks.write_text("".join(json.dumps({"task_id": f"no. {index}: ü", **row}) + "\n" for index in range(300)))
    server, url = serve("--plan", str(plan))
    code = run(
        ["trial", "--tasks", str(tasks), "--url", url, "--baseline", "big", "--candidate", "small", "--rho", "0.9",
         "--workload", "sums", "--ledger", ledger, "--json"]
    )  # fmt: skip
    certificate = json.loads(capsys.readouterr().out)
    server.send_signal(signal.SIGINT)
    server.wait(timeout=30)
    assert code == 0
    assert certificate["state"] == "certified"
    assert certificate["tasks"] == 300
    assert float(certificate["cpct_candidate_usd"]["value"]) < float(certificate["cpct_baseline_usd"]["value"])

    assert run(["report", "--ledger", ledger, "--plan", str(plan), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (workload,) = report["workloads"]
    assert workload["workload"] == "sums"
    assert workload["certificate"]["state"] == "certified"
    assert {line["tier"]: line["completed"] for line in workload["tiers"]} == {"big": 300, "small": 300}


@pytest.mark.parametrize(
    "asked",
    [
        (("gone", "small"), 40, {"small": 40}),
        (("typo", "small"), 4, {"small": 4}),
        (("big", "typo"), 4, {}),
        (("big", "gone"), 40, {"big": 40}),
    ],
    ids=["an outage", "no tier of the plan", "no tier of the plan either", "the candidate's outage"],
)
def test_a_tier_that_answers_nothing_is_neither_beaten_nor_refuted(
    serve: Serve,
    tmp_path: Path,
    fakes: dict[str, FakeProcess],
    capsys: pytest.CaptureFixture[str],
    asked: tuple[tuple[str, str], int, dict[str, int]],
) -> None:
    """Where a name is of no tier, few are asked of the other one: each call of the baseline is paid for."""
    sides, times, paid = asked
    plan, ledger = tmp_path / "plan.toml", str(tmp_path / "ledger.db")
    urls = {"big": fakes["big"].base_url, "small": fakes["small"].base_url, "gone": "http://127.0.0.1:1"}
    plan.write_text(PLAN.format() + "".join(TIER.format(name=name, url=url, usd="1") for name, url in urls.items()))
    tasks = tmp_path / "tasks.jsonl"
    row = {"messages": [{"role": "user", "content": "2+2?"}], "expected": 4, "grader": {"kind": "number"}}
    tasks.write_text("".join(json.dumps({"task_id": f"t{index}", **row}) + "\n" for index in range(40)))
    server, url = serve("--plan", str(plan))
    common = ["trial", "--tasks", str(tasks), "--url", url, "--rho", "0.9", "--workload", "sums", "--ledger", ledger]
    assert run([*common, "--baseline", sides[0], "--candidate", sides[1], "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert f" {times} times" in error["message"]
    server.send_signal(signal.SIGINT)
    server.wait(timeout=30)
    assert run(["report", "--ledger", ledger, "--json"]) == 0
    workloads = json.loads(capsys.readouterr().out)["workloads"]
    assert all(one["certificate"] is None for one in workloads)
    lines = {line["tier"]: line["requests"] for one in workloads for line in one["tiers"]}
    assert {tier: count for tier, count in lines.items() if tier in {"big", "small"}} == paid


CAPTURING = """
schema = "ownward.plan/1"
name = "captured"
baseline = "big"

[workloads.sums]
label = "any"
match = {{ models = ["sums"] }}
strategy = {{ kind = "direct", tiers = ["big"] }}
capture = {{ sample_fraction = 1.0, retention_s = 3600 }}
"""

RENTED = """
[tiers.far]
kind = "rented"
provider = "somebody"
model = "far-model"
price = {{ input_usd_per_mtok = "1", output_usd_per_mtok = "1", \
basis = "assumed", source = "a test", checked_on = 2026-11-21 }}
[[tiers.far.upstreams]]
name = "far"
url = "{url}"
"""


def ask(url: str, text: str, **headers: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": text}]
        if "streamed" in text:
            list(client.chat.completions.create(model="sums", messages=messages, stream=True))
        else:
            client.chat.completions.create(model="sums", messages=messages, extra_headers=headers)


def test_a_trial_of_captured_requests_sends_each_no_further_than_its_label(
    serve: Serve, tmp_path: Path, fakes: dict[str, FakeProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, ledger = tmp_path / "plan.toml", str(tmp_path / "ledger.db")
    tiers = TIER.format(name="big", url=fakes["big"].base_url, usd="10")
    plan.write_text(CAPTURING.format() + tiers + RENTED.format(url=fakes["small"].base_url))
    server, url = serve("--plan", str(plan))
    for number in range(8):
        ask(url, f"open {number} {'streamed' if number % 2 else ''}")
        ask(url, f"SECRET {number}", **{"x-ownward-label": "local_only"})
    options = ["--url", url, "--baseline", "big", "--candidate", "far", "--workload", "sums", "--ledger", ledger]
    command = ["trial", "--captured", "--grader", "number", *options, "--json"]
    deadline = time.monotonic() + 10
    while True:
        assert run(command) == 0
        certificate = json.loads(capsys.readouterr().out)
        if certificate["tasks"] == certificate["left_out"] == 8 or time.monotonic() > deadline:
            break
    again = run(command)  # what a trial asks is captured as well, and is no task of the next
    repeated = json.loads(capsys.readouterr().out)
    server.send_signal(signal.SIGINT)
    server.wait(timeout=30)
    assert certificate["left_out"] == 8
    assert certificate["left_out_why"] == {"its label does not allow it to be sent there": 8}
    assert certificate["candidate_completion_fraction"] == 1.0
    heard = json.dumps(fakes["small"].requests())
    assert heard.count("open ") >= 8
    assert "SECRET" not in heard
    assert (again, repeated["tasks"]) == (0, 8)
    assert run(["trial", "--captured", *options]) == 2
    assert "--grader exact" in capsys.readouterr().err
