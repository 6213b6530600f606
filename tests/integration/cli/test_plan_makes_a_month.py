"""`ownward plan` makes a month of what the log shows, and says where that, or the bill, is not what one would think."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.cli import run
from ownward.pricing import Usage

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 30


def plan_of(rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, float], str]:
    """Return each workload's requests a month and what was said, of a log with these rows."""
    log, target = tmp_path / "log.csv", str(tmp_path / "ledger.db")
    log.write_text(rows)
    assert run(["import", str(log), "--ledger", target]) == 0
    capsys.readouterr()
    assert run(["plan", "--ledger", target, "--rent", "gpt-5-mini", "--at", "2026-11-01", "--json"]) == 0
    said = capsys.readouterr()
    told: dict[str, Any] = json.loads(said.out)
    return {item["workload"]: item["volume"]["requests"] for item in told["workloads"]}, said.err


def row(workload: str, after: timedelta, *, wall_clock: bool = True, charge: str = "") -> str:
    time = (FIRST + after).isoformat() if wall_clock else str(after.total_seconds())
    return f"{time},{workload},1000000,1000,{charge}\n"


@pytest.mark.parametrize("wall_clock", [True, False], ids=["times", "seconds"])
def test_an_hour_of_a_long_log_is_not_taken_for_every_hour_of_the_month(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wall_clock: bool
) -> None:
    head = f"{'started_at' if wall_clock else 'arrival_s'},workload,input_tokens,output_tokens,charge_usd\n"
    chat = [row("chat", timedelta(hours=hour), wall_clock=wall_clock) for hour in range(DAYS * 24 + 1)]
    report = [row("report", timedelta(days=15, seconds=36 * i), wall_clock=wall_clock) for i in range(101)]
    requests, said = plan_of(head + "".join(chat + report), tmp_path, capsys)
    assert requests["chat"] == pytest.approx(721 * 730 / 720)
    assert requests["report"] == pytest.approx(101 * 730 / (15 * 24))
    assert "report: 1.00 h of traffic, and then none until its log ends; all 15.0 days since its first request" in said
    assert "chat: " not in said


def test_traffic_that_goes_on_until_the_log_ends_is_scaled_by_its_own_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "started_at,workload,input_tokens,output_tokens,charge_usd\n"
    rows = [row("old", timedelta(hours=hour)) for hour in range(DAYS * 24 + 1)]
    rows += [row("new", timedelta(days=DAYS - 1, hours=hour)) for hour in range(25)]
    requests, said = plan_of(head + "".join(rows), tmp_path, capsys)
    assert requests["new"] == pytest.approx(25 * 730 / 24)
    assert "new: " not in said


def test_another_log_says_nothing_of_when_this_one_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "started_at,workload,input_tokens,output_tokens,charge_usd\n"
    later = tmp_path / "later.csv"
    later.write_text(head + row("other", timedelta(days=400)) + row("other", timedelta(days=401)))
    assert run(["import", str(later), "--ledger", str(tmp_path / "ledger.db")]) == 0
    requests, _ = plan_of(head + "".join(row("w", timedelta(hours=hour)) for hour in range(25)), tmp_path, capsys)
    assert requests["w"] == pytest.approx(25 * 730 / 24)


@pytest.mark.parametrize(("charge", "is_said"), [("0.126", True), ("0.252", False), ("", False)])
def test_a_bill_that_is_not_the_list_price_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], charge: str, is_said: bool
) -> None:
    """A million tokens in at 0.25 and a thousand out at 2.00 USD a million are 0.252."""
    head = "started_at,workload,input_tokens,output_tokens,charge_usd\n"
    rows = "".join(row("w", timedelta(hours=hour), charge=charge) for hour in range(10))
    _, said = plan_of(head + rows, tmp_path, capsys)
    assert (
        "w: $1.26 were charged for what comes to $2.52 at the price of gpt-5-mini:"
        " the baseline is not what you pay today" in said
    ) is is_said
    assert is_said or "charged" not in said


@pytest.mark.parametrize(("picousd", "is_said"), [(126 * 10**9, True), (252 * 10**9, False), (None, False)])
def test_a_charge_of_the_gateway_that_is_not_the_list_price_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], picousd: int | None, is_said: bool
) -> None:
    target = str(tmp_path / "ledger.db")
    used = Usage(input_tokens=10**6, output_tokens=1000)
    with ledger.open(target) as opened:
        for name, at in (("a", FIRST), ("b", FIRST + timedelta(hours=1))):
            asyncio.run(begin(opened, usual_request(name, at=at), usual_intent(name, at=at, model="gpt-5-mini")))
            opened.settle(usual_settlement(name, at=at, charge=picousd, usage=used))
        opened.flush_blocking()
    assert run(["plan", "--ledger", target, "--rent", "gpt-5-mini", "--at", "2026-11-01"]) == 0
    said = "w: $0.252 were charged for what comes to $0.504 at the price of gpt-5-mini" in capsys.readouterr().err
    assert said is is_said


async def begin(opened: ledger.Ledger, request: ledger.Request, intent: ledger.Intent) -> None:
    await opened.begin(request, intent)


def test_import_and_plan_say_that_tokens_are_estimated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, asked = tmp_path / "log.jsonl", {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 1}, "choices": []}
    ledger = ["--ledger", str(tmp_path / "ledger.db")]
    for workload, hour, answers in (("w", 1, (usage, {}, {})), ("v", 3, (usage, usage)), ("w", 5, (usage, usage))):
        rows = [
            {"created_at": f"2026-11-02T0{hour + number}:00:00Z", "request": asked, "response": answer}
            for number, answer in enumerate(answers)
        ]
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run(["import", str(log), "--workload", workload, *ledger]) == 0
        said = f"{log}: 2 requests of 3 without usage: tokens estimated" in capsys.readouterr().err
        assert said is ({} in answers)
    assert run(["plan", "--rent", "gpt-5-mini", *ledger]) == 0
    err = capsys.readouterr().err
    assert "\nw: tokens of some requests are estimated, as their log does not tell them\n" in f"\n{err}"


def test_import_says_that_a_batch_is_planned_as_single_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, usage = tmp_path / "batch.jsonl", {"prompt_tokens": 3, "completion_tokens": 1}
    answer = {"status_code": 200, "body": {"id": "c", "created": 1767225600, "model": "m", "usage": usage}}
    log.write_text(json.dumps({"id": "batch_req_1", "custom_id": "a", "response": answer, "error": None}) + "\n")
    assert run(["import", str(log), "--ledger", str(tmp_path / "ledger.db")]) == 0
    assert f"{log}: sent as a batch" in capsys.readouterr().err


def test_import_says_what_was_served_at_a_price_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, usage = tmp_path / "log.jsonl", {"prompt_tokens": 3, "completion_tokens": 1}
    answers: list[dict[str, Any]] = [
        {"service_tier": "flex"},
        {"service_tier": "default"},
        {},
        {"service_tier": "flex"},
        {"usage": {"input_tokens": 3, "output_tokens": 1, "speed": "fast", "service_tier": "standard"}},
        {"usage": {"input_tokens": 3, "output_tokens": 1, "service_tier": "standard"}},
    ]
    rows = [{"id": f"c{n}", "model": "m", "usage": usage, "choices": []} | answer for n, answer in enumerate(answers)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["import", str(log), "--ledger", str(tmp_path / "ledger.db")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "served as" in line]
    assert said == [
        f"{log}: 2 requests of 6 served as flex, at a price of its own; plan takes the standard price",
        f"{log}: 1 request of 6 served as fast, at a price of its own; plan takes the standard price",
    ]


def test_calls_of_the_gateway_that_are_in_no_month_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "ledger.db")
    with ledger.open(target) as opened:
        for name, hour, state in (("a", 0, "settled"), ("b", 1, "settled"), ("c", 2, "unsettled")):
            at = FIRST + timedelta(hours=hour)
            asyncio.run(begin(opened, usual_request(name, at=at), usual_intent(name, at=at)))
            used = {} if state == "settled" else {"state": state, "usage": None, "usage_basis": None}
            opened.settle(usual_settlement(name, at=at, charge=None, **used))
        opened.flush_blocking()
    assert run(["plan", "--ledger", target, "--rent", "gpt-5-mini", "--at", "2026-11-01"]) == 0
    assert "w: what 1 unsettled call used is not known, and is in no month\n" in capsys.readouterr().err


@pytest.mark.parametrize(("later", "said_of_it"), [(3, "75% of its requests came in the second half of"), (1, None)])
def test_traffic_that_grows_is_told_beside_the_mean_that_a_month_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], later: int, said_of_it: str | None
) -> None:
    head = "started_at,workload,input_tokens,output_tokens,charge_usd\n"
    rows = [row("w", timedelta(hours=hour)) for hour in range(15 * 24)]
    rows += [row("w", timedelta(days=15, hours=hour / later)) for hour in range(15 * 24 * later + 1)]
    requests, said = plan_of(head + "".join(rows), tmp_path, capsys)
    assert requests["w"] == pytest.approx((15 * 24 * (1 + later) + 1) * 730 / 720)
    assert said_of_it in said if said_of_it else "w: " not in said


def test_without_candidates_the_apis_that_the_log_names_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, target = tmp_path / "log.csv", str(tmp_path / "ledger.db")
    models = ["openai/gpt-5-mini", "gpt-4o", "our-own-tune", "gpt-5-mini"]
    rows = "".join(f"{hour * 3600},chat,1000,100,{models[hour % 4]}\n" for hour in range(40))
    log.write_text("arrival_s,workload,input_tokens,output_tokens,model\n" + rows)
    assert run(["import", str(log), "--ledger", target]) == 0
    capsys.readouterr()
    assert run(["plan", "--ledger", target, "--at", "2026-11-01", "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [(row["tier"], row["is_baseline"]) for row in told["options"]] == [("gpt-5-mini", True), ("gpt-4o", False)]
    assert [row["tier"] for row in told["chosen"]] == ["gpt-5-mini"]
    assert "compared: gpt-5-mini, gpt-4o, as the log names" in said.err


def test_a_log_that_names_no_model_leaves_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, target = tmp_path / "log.csv", str(tmp_path / "ledger.db")
    log.write_text("arrival_s,input_tokens,output_tokens\n0,10,2\n60,10,2\n")
    assert run(["import", str(log), "--ledger", target]) == 0
    capsys.readouterr()
    assert run(["plan", "--ledger", target, "--json"]) == 2
    assert "--rent" in json.loads(capsys.readouterr().out)["error"]["allowed"]
