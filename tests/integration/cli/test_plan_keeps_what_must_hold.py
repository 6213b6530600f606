"""`ownward plan` keeps labels and certificates: no tier is chosen that is forbidden, or was not shown to do."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ownward.cli import run

BOX = ("--own", "box=qwen3-30b-a3b:q4_k_m@RTX 5090")
DAY = ("--at", "2026-11-21")


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger with one workload, `chat`, so busy that a card of one's own is cheaper than the API."""
    log = tmp_path / "chat.csv"
    rows = "".join(f"{second},4000,400\n" for second in range(0, 3600, 3))
    log.write_text(f"arrival_s,input_tokens,output_tokens\n{rows}")
    target = str(tmp_path / "ledger.db")
    assert run(["import", str(log), "--ledger", target]) == 0
    return target


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = run([*argv, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def certify(tmp_path: Path, ledger: str, *flags: str, share: float = 1.0) -> None:
    outcomes = tmp_path / "outcomes.jsonl"
    rows = ({"task_id": i, "gpt-5": {"completed": True}, "box": {"completed": i < 2000 * share}} for i in range(2000))
    outcomes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = ("--outcomes", str(outcomes), "--baseline", "gpt-5", "--candidate", "box", "--workload", "chat")
    assert run(["trial", *told, "--ledger", ledger, *flags]) == 0


def test_a_label_that_keeps_data_here_bars_the_api_and_the_box_serves(
    ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, _ = ask(
        capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", *BOX, "--what-if", "--label", "local_only", *DAY
    )
    assert code == 0
    assert [option["tier"] for option in told["chosen"]] == ["box"]
    assert "the label local_only bars openai" in told["options"][0]["binding_constraint"]
    assert "fallback" not in told["plan_toml"]


def test_a_label_that_leaves_nowhere_to_go_is_an_answer_and_nothing_is_written(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.toml"
    code, told, _ = ask(
        capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", "--label", "local_only", "--out", str(out), *DAY
    )
    assert (code, told["error"]["kind"]) == (3, "infeasible_plan")
    assert "local_only" in told["error"]["message"]
    assert not out.exists()


def test_a_region_that_the_plan_has_still_to_state_is_said(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, said = ask(capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", "--label", "eu", *DAY)
    assert (code, told["chosen"][0]["tier"]) == (0, "gpt-5")
    assert (
        "workloads.chat.label: eu does not let its data go to gpt-5 (provider openai, region unstated): every request"
        in said
    )


def test_a_provider_that_nobody_has_stated_yet_may_be_looked_at_and_what_is_missing_is_said(
    ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, said = ask(
        capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", "--rent", "mistral-small", "--what-if", *DAY
    )
    assert (code, told["chosen"][0]["tier"]) == (0, "mistral-small")
    assert "workloads.chat.label: provider:openai does not let its data go to mistral-small" in said


def test_a_certificate_from_recorded_outcomes_lets_the_box_be_chosen(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("plan", "--ledger", ledger, "--rent", "gpt-5", *BOX, "--floor", "0.98", *DAY)
    assert ask(capsys, *argv)[1]["chosen"][0]["tier"] == "gpt-5"
    certify(tmp_path, ledger)
    told = ask(capsys, *argv)[1]
    assert told["chosen"][0]["tier"] == "box"
    assert told["chosen"][0]["completion"] == 1.0


@pytest.mark.parametrize(
    "flags", [("--rho", "0.5"), ("--confidence", "0.6"), ("--at", "2026-01-01")], ids=["share", "confidence", "expired"]
)
def test_a_certificate_of_less_than_is_asked_for_counts_for_nothing(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    certify(tmp_path, ledger, *flags)
    told = ask(capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", *BOX, "--floor", "0.98", *DAY)[1]
    assert told["chosen"][0]["tier"] == "gpt-5"
    assert "not certified: completed 2,000 of 2,000 tasks" in told["options"][1]["binding_constraint"]


def test_what_was_refuted_since_is_certified_no_longer(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify(tmp_path, ledger)
    certify(tmp_path, ledger, "--rho", "0.9", share=0.1)
    told = ask(capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", *BOX, "--floor", "0.98", *DAY)[1]
    assert told["chosen"][0]["tier"] == "gpt-5"


@pytest.mark.parametrize(
    "flags",
    [
        ("--usd-per-kwh", "nan"), ("--usd-per-kwh", "-1"), ("--people-hours", "inf"), ("--slo-ttft", "0"),
        ("--confidence", "7"), ("--floor", "nan"), ("--hours-per-month", "9999"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_figure_that_cannot_be_is_refused(
    ledger: str, capsys: pytest.CaptureFixture[str], flags: tuple[str, str]
) -> None:
    code, told, _ = ask(capsys, "plan", "--ledger", ledger, "--rent", "gpt-5", *flags)
    assert (code, told["error"]["kind"]) == (2, "usage_error")
    assert flags[0] in told["error"]["message"]


def test_what_stated_options_have_no_use_for_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = tmp_path / "options.jsonl"
    options.write_text('{"workload": "w", "tier": "a", "cost_usd": 1}\n')
    code, told, _ = ask(capsys, "plan", "--options", str(options), "--label", "eu", "--out", "plan.toml")
    assert (code, told["error"]["message"]) == (2, "--label, --out beside --options")


def test_traffic_of_a_moment_is_scaled_with_a_word_and_a_single_request_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, log = str(tmp_path / "ledger.db"), tmp_path / "short.csv"
    log.write_text("arrival_s,input_tokens,output_tokens\n0,10,10\n")
    assert run(["import", str(log), "--ledger", target]) == 0
    code, told, _ = ask(capsys, "plan", "--ledger", target, "--rent", "gpt-5", *DAY)
    assert (code, told["error"]["message"]) == (2, "too little traffic with times to be scaled to a month: short")
    log.write_text("arrival_s,input_tokens,output_tokens\n0,10,10\n2,10,10\n")
    assert run(["import", str(log), "--ledger", target]) == 0
    code, _, said = ask(capsys, "plan", "--ledger", target, "--rent", "gpt-5", *DAY)
    assert code == 0
    assert "short: 2.00 s of traffic stand for 730 hours a month" in said


def test_a_report_shows_the_certificate_of_a_workload_that_served_nothing_yet(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certify(tmp_path, ledger)
    _, told, _ = ask(capsys, "report", "--ledger", ledger)
    (line,) = told["workloads"]
    assert (line["workload"], line["tiers"], line["certificate"]["state"]) == ("chat", [], "certified")
    assert run(["report", "--ledger", ledger]) == 0
    assert "chat: box instead of gpt-5: certified" in capsys.readouterr().out


def test_a_report_on_a_workload_that_is_not_there_is_an_unknown_name(
    ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, _ = ask(capsys, "report", "--ledger", ledger, "--workload", "chta")
    assert (code, told["error"]["kind"]) == (2, "unknown_name")
    assert "'chat'" in told["error"]["allowed"]


def test_what_was_written_by_hand_and_is_not_in_the_new_plan_is_named_and_kept_beside_it(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.toml"
    asked = ("plan", "--ledger", ledger, "--rent", "gpt-5", "--out", str(out), *DAY)
    assert "no longer in" not in ask(capsys, *asked)[2]
    assert "no longer in" not in ask(capsys, *asked)[2], "a plan that nobody touched loses nothing"
    edited = out.read_text().replace("[workloads.chat]\n", "[workloads.chat]\ntask_budget_usd = '2'\n", 1)
    out.write_text(edited.replace("https://api.openai.com/v1", "https://proxy.example.com/v1"))
    before = out.read_text()
    told = ask(capsys, *asked)[2]
    assert "tiers.gpt-5.upstreams[0].url, workloads.chat.task_budget_usd; write again" in told
    assert (tmp_path / "plan.toml.before").read_text() == before


@pytest.fixture
def two_models(tmp_path: Path) -> str:
    """A ledger of two workloads that two models answered."""
    log, target = tmp_path / "apps.csv", str(tmp_path / "apps.db")
    answered = {"mail": "openai/gpt-5-mini-2025-08-07", "code": "claude-haiku-4-5"}
    rows = "".join(f"{second},40,4,{app},{model}\n" for second in range(900) for app, model in answered.items())
    log.write_text(f"arrival_s,input_tokens,output_tokens,workload,model\n{rows}")
    assert run(["import", str(log), "--ledger", target]) == 0
    return target


def test_each_workload_is_compared_with_the_model_that_answers_it_today(
    two_models: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else one of them would move to a cheaper model that nobody has measured, for being called the baseline."""
    asked = ("plan", "--ledger", two_models, "--rent", "gpt-5-mini", "--rent", "claude-haiku-4-5", *DAY)
    _, told, said = ask(capsys, *asked)
    assert {option["workload"]: option["tier"] for option in told["chosen"]} == {
        "mail": "gpt-5-mini",
        "code": "claude-haiku-4-5",
    }
    assert told["baseline_usd"] == told["plan_usd"]
    assert "code: compared with claude-haiku-4-5, and not with gpt-5-mini, as its log" in said
    assert "the baseline is not what you pay today" not in said
    plan = tomllib.loads(told["plan_toml"])
    assert {name: (w.get("baseline", plan["baseline"]), w["label"]) for name, w in plan["workloads"].items()} == {
        "mail": ("gpt-5-mini", "provider:openai"),
        "code": ("claude-haiku-4-5", "provider:anthropic"),
    }
    _, told, said = ask(capsys, *asked, "--baseline", "gpt-5-mini")
    assert [option["tier"] for option in told["chosen"]] == ["gpt-5-mini", "gpt-5-mini"]
    assert "code: 100% was answered by claude-haiku-4-5" in said


def test_what_was_certified_is_compared_as_it_was_also_once_it_is_served(
    two_models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log of the model that a workload moved to would make that its baseline, and its certificate one of nothing."""
    outcomes = tmp_path / "outcomes.jsonl"
    rows = ({"task_id": i, "gpt-5": {"completed": True}, "gpt-5-mini": {"completed": True}} for i in range(2000))
    outcomes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = ("--outcomes", str(outcomes), "--baseline", "gpt-5", "--candidate", "gpt-5-mini", "--workload", "mail")
    assert run(["trial", *told, "--ledger", two_models]) == 0
    asked = ("plan", "--ledger", two_models, "--workload", "mail", "--rent", "gpt-5-mini", "--rent", "gpt-5", *DAY)
    (chosen,) = ask(capsys, *asked)[1]["chosen"]
    assert (chosen["tier"], chosen["is_baseline"]) == ("gpt-5-mini", False)


def test_a_log_of_other_models_is_told_to_be_no_bill_of_the_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, target = tmp_path / "mail.csv", str(tmp_path / "mail.db")
    models = ("gpt-5-mini", "gpt-5-2025-08-07", "openai/gpt-5")
    rows = "".join(f"{second},40,4,{models[second % 3]}\n" for second in range(900))
    log.write_text(f"arrival_s,input_tokens,output_tokens,model\n{rows}")
    assert run(["import", str(log), "--ledger", target]) == 0
    told = ask(capsys, "plan", "--ledger", target, "--rent", "gpt-5", *DAY)[2]
    assert "mail: 33% was answered by gpt-5-mini, and is counted as if gpt-5 did" in told
