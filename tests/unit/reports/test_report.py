"""The report's arithmetic on hand-made ledger rows."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from ownward.ledger import AttemptRow, CertificateRow, Outcome, SettledTokens, Spend, TaskRow
from ownward.plan import loads
from ownward.reports import Report, compute_report, price_steps, render_report
from summed_up import summed_up

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PLAN = loads(
    """
schema = "ownward.plan/1"
name = "p"
baseline = "api"
[tiers.box]
kind = "owned"
model = "m"
engine = "adopted"
upstreams = [{ name = "box", url = "http://127.0.0.1:9" }]
price = { provider = "owned", model = "m", input_usd_per_mtok = "1", output_usd_per_mtok = "1", basis = "assumed", \
source = "s", checked_on = 2026-11-21 }
loaded_price = { provider = "owned", model = "m", input_usd_per_mtok = "10", output_usd_per_mtok = "10", \
basis = "assumed", source = "s", checked_on = 2026-11-21 }
[tiers.api]
kind = "rented"
model = "big"
provider = "openai"
upstreams = [{ name = "api", url = "https://api.example.com/v1" }]
price = { provider = "openai", model = "big", input_usd_per_mtok = "100", output_usd_per_mtok = "100", \
basis = "assumed", source = "s", checked_on = 2026-11-21 }
[workloads.w]
label = "any"
floor_fraction = 0.9
match = { models = ["w"] }
strategy = { kind = "direct", tiers = ["box"] }
""",
    file="plan.toml",
)


def attempt(number: int, **changed: Any) -> AttemptRow:
    values: dict[str, Any] = {
        "request_id": f"r{number}", "attempt": 1, "task_id": f"t{number}", "workload": "w", "route": "w",
        "key_id": None, "label": "any", "dialect": "openai", "is_stream": False, "plan_sha256": None, "reason": "",
        "tier": "box", "upstream": "box", "model": "m", "price_id": None, "state": "settled", "input_tokens": 900_000,
        "cached_input_tokens": 0, "cache_write_tokens": 0, "output_tokens": 100_000, "reasoning_tokens": None,
        "usage_basis": "upstream", "charge_picousd": 10**12, "charge_low_picousd": None, "charge_high_picousd": None,
        "upstream_request_id": None, "ttft_s": 0.1, "latency_s": 1.0, "status": 200, "error": None, "started_at": NOW,
        "settled_at": NOW,
    }  # fmt: skip
    return AttemptRow(**{**values, **changed})


def task(number: int, completed: bool | None) -> TaskRow:
    outcome = None
    if completed is not None:
        outcome = Outcome(task_id=f"t{number}", completed=completed, source="verifier", recorded_at=NOW)
    spend = Spend(
        settled_picousd=10**12, low_picousd=10**12, high_picousd=10**12, unsettled_attempts=0, unpriced_attempts=0,
        unbounded_attempts=0,
    )  # fmt: skip
    return TaskRow(
        task_id=f"t{number}", basis="explicit", workload="w", started_at=NOW, requests=1, attempts=1, spend=spend,
        outcome=outcome,
    )  # fmt: skip


def report_of(
    attempts: list[AttemptRow], tasks: list[TaskRow], certificates: Sequence[CertificateRow] = (), **asked: Any
) -> Report:
    return compute_report(summed_up(attempts, tasks, price_steps(PLAN)), certificates, plan=PLAN, **asked)


def test_cost_per_completed_task_counts_failures_in() -> None:
    report = report_of([attempt(1), attempt(2), attempt(3)], [task(1, True), task(2, False), task(3, True)])
    (line,) = report.workloads[0].tiers
    assert (line.graded, line.completed) == (3, 2)
    assert line.cost_usd == Decimal(3)
    assert line.cpct.usd == Decimal("1.5")


def test_stated_human_minutes_are_part_of_the_cost_of_a_completed_task() -> None:
    helped = task(1, True)
    assert helped.outcome is not None
    helped = dataclasses.replace(helped, outcome=dataclasses.replace(helped.outcome, human_minutes=30.0))
    report = report_of([attempt(1)], [helped], human_usd_per_hour=Decimal(60))
    (line,) = report.workloads[0].tiers
    assert line.cpct.usd == Decimal(31)


def test_loaded_and_baseline_prices_are_set_beside_the_charge() -> None:
    report = report_of([attempt(1)], [task(1, True)])
    (line,) = report.workloads[0].tiers
    assert (line.cost_usd, line.loaded_usd, line.baseline_usd) == (Decimal(1), Decimal(10), Decimal(100))
    assert report.saved_usd == Decimal(99)
    assert report.workloads[0].floor_fraction == 0.9


def test_a_workload_is_compared_with_its_own_baseline_where_it_has_one() -> None:
    """What a model answers at its own price saves nothing, whatever the other workloads are compared with."""
    own = replace(PLAN, workloads={"w": replace(PLAN.workloads["w"], baseline="box")})
    report = compute_report(summed_up([attempt(1)], [], price_steps(own)), plan=own)
    assert (report.workloads[0].baseline, report.baselines, report.baseline) == ("box", ("box",), "api")
    assert (report.baseline_usd, report.saved_usd) == (Decimal(1), Decimal(0))


@pytest.mark.parametrize(("provider", "usd"), [("anthropic", Decimal("0.004")), ("openai", Decimal("0.01"))])
def test_an_hour_in_one_providers_cache_asks_the_baseline_for_no_twelve_in_openais(provider: str, usd: Decimal) -> None:
    """As in a plan: a thousand tokens written for longer, at 10 USD a million there, or at 4 as other writes."""
    api = PLAN.tiers["api"]
    assert api.price is not None
    price = replace(
        api.price, cache_write_usd_per_mtok=Decimal(4), cache_write_1h_usd_per_mtok=Decimal(10), provider="openai"
    )
    other = replace(api, name="other", provider=provider, price=replace(price, provider=provider))
    plan = replace(PLAN, tiers={**PLAN.tiers, "api": replace(api, price=price), "other": other})
    written = SettledTokens(
        above_input_tokens=0, calls=1, input_tokens=1000, cache_write_tokens=1000, cache_write_1h_tokens=1000
    )
    (served,) = summed_up([attempt(1, tier="other")])
    report = compute_report([replace(served, first_tokens=(written,))], plan=plan)
    assert report.baseline_usd == usd


@pytest.mark.parametrize(
    ("span", "why"),
    [
        ({"valid_from": date(2026, 11, 21), "valid_to": date(2026, 11, 22)}, None),
        ({"valid_from": date(2026, 11, 22)}, "it holds from 2026-11-22 on"),
        ({"valid_to": date(2026, 11, 21)}, "it held until before 2026-11-21"),
    ],
)
def test_a_comparison_at_a_price_of_other_days_says_so(span: dict[str, date], why: str | None) -> None:
    api = PLAN.tiers["api"]
    assert api.price is not None
    plan = replace(PLAN, tiers={**PLAN.tiers, "api": replace(api, price=replace(api.price, **span))})  # type: ignore[arg-type]
    report = compute_report(summed_up([attempt(1)], [task(1, True)]), plan=plan)
    told = [line for line in report.unknown if "other days" in line]
    assert told == (
        [] if why is None else [f"w on box: what api would have charged on other days than those of its price ({why})"]
    )


def test_the_baseline_answers_each_request_once_however_many_calls_its_strategy_made() -> None:
    votes = [attempt(1, attempt=number) for number in (1, 2, 3)]
    assert report_of(votes, []).saved_usd == Decimal(100 - 3)
    escalated = [attempt(1), attempt(1, attempt=2, tier="api", charge_picousd=100 * 10**12)]
    report = report_of(escalated, [])
    assert {line.tier: line.baseline_usd for line in report.workloads[0].tiers} == {"box": Decimal(100), "api": 0}
    assert report.saved_usd == Decimal(-1)


def test_an_unknown_charge_makes_the_cost_unknown_and_is_listed() -> None:
    report = report_of([attempt(1), attempt(2, charge_picousd=None)], [])
    (line,) = report.workloads[0].tiers
    assert line.cost_usd is None
    assert report.cost_usd is None
    assert any("the cost" in text for text in report.unknown)


def test_a_failed_attempt_costs_nothing_and_hides_nothing() -> None:
    failed = attempt(2, state="failed", charge_picousd=None, input_tokens=None, output_tokens=None)
    report = report_of([attempt(1), failed], [task(1, True)])
    (line,) = report.workloads[0].tiers
    assert (line.failed, line.settled, line.cost_usd) == (1, 1, Decimal(1))


def test_unsettled_calls_are_bounded_not_summed() -> None:
    cut = attempt(2, state="unsettled", charge_picousd=None, charge_low_picousd=0, charge_high_picousd=5 * 10**12)
    report = report_of([attempt(1), cut], [])
    (line,) = report.workloads[0].tiers
    assert line.cost_usd is None
    assert line.cost_high_usd == Decimal(6)
    assert any("unsettled" in text for text in report.unknown)


def test_a_settled_call_of_unknown_charge_counts_with_the_bound_it_states() -> None:
    """Such as one whose service tier nobody confirmed."""
    bounded = attempt(2, charge_picousd=None, charge_low_picousd=2 * 10**12, charge_high_picousd=5 * 10**12)
    report = report_of([attempt(1), bounded], [])
    (line,) = report.workloads[0].tiers
    assert (line.cost_usd, line.cost_high_usd) == (None, Decimal(6))
    assert any("the cost" in text and text.endswith("at most $6.00") for text in report.unknown)
    unbounded = attempt(3, charge_picousd=None)
    assert report_of([bounded, unbounded], []).workloads[0].tiers[0].cost_high_usd is None


def test_without_a_certificate_the_report_says_that_quality_is_not_known() -> None:
    report = report_of([attempt(1)], [task(1, True)])
    assert any("whether it completes" in text for text in report.unknown)


def kept(number: int, state: str = "certified", candidate: str = "box") -> CertificateRow:
    ends = datetime(2027, 2, 19, tzinfo=UTC) if state == "certified" else None
    stated = {"state": state, "baseline": "api", "candidate": candidate, "rho": 0.98, "confidence": 0.95, "tasks": 700}
    stated |= {"expires_at": None if ends is None else "2027-02-19T00:00:00Z"}
    return CertificateRow(
        certificate_id=number,
        workload="w",
        state=state,
        expires_at=ends,
        recorded_at=datetime(2026, 11, 21, tzinfo=UTC),
        certificate=stated,
    )


def text_of(rows: list[CertificateRow], **asked: Any) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_report(report_of([attempt(1)], [task(1, True)], rows, **asked)))
    return console.export_text()


def test_the_text_shows_the_newest_certificate_of_a_workload() -> None:
    said = "box instead of api: certified (rho 0.98, confidence 0.95, 700 tasks, until 2027-02-19)"
    assert said in text_of([kept(1)])


def test_an_expired_certificate_is_told_as_such_and_proves_nothing() -> None:
    later = text_of([kept(1)], at=datetime(2027, 2, 19, tzinfo=UTC))
    assert "700 tasks, expired 2027-02-19)" in later
    assert "w on box: whether it completes what the baseline completes (its certificate has expired" in later
    assert "whether it completes" not in text_of([kept(1)], at=NOW)


def test_a_trial_of_another_candidate_or_one_that_decides_nothing_hides_no_verdict() -> None:
    said = text_of([kept(4, candidate="other"), kept(3, "not_certified"), kept(2, "refuted"), kept(1)], at=NOW)
    assert "box instead of api: refuted" in said
    assert "other instead of api: certified" in said
    assert "box instead of api: not_certified" not in said


def test_a_certificate_of_another_candidate_says_nothing_of_a_tier() -> None:
    assert "w on box: whether it completes" in text_of([kept(1, candidate="other")], at=NOW)


def test_second_calls_stand_apart_with_what_was_extra() -> None:
    """The beaten calls may have cost up to their bounds; the ones that answered cost what they cost."""
    beaten = {"state": "unsettled", "charge_picousd": None, "charge_low_picousd": 0, "charge_high_picousd": 3 * 10**12}
    hedge = "hedge: sent 0.400 s after box/a"
    rows = [
        attempt(1, error="beaten by box/b, asked 0.400 s later; it was cancelled after 0 content events", **beaten),
        attempt(1, attempt=2, error=hedge),
        attempt(2),
        attempt(2, attempt=2, error=f"{hedge}; beaten by box/a; it was cancelled", **beaten),
        attempt(3),
        attempt(3, attempt=2, error=f"{hedge}; it answered 500", state="failed", charge_picousd=0),
        attempt(4, error="the client left", **beaten),
    ]
    report = report_of(rows, [task(number, None) for number in (1, 2, 3, 4)])
    (line,) = report.workloads[0].tiers
    said = line.hedging
    assert said is not None
    assert (said.hedges, said.won, said.extra_calls) == (3, 1, 3)
    assert (said.extra_low_usd, said.extra_high_usd) == (Decimal(0), Decimal(6))
    console = Console(file=io.StringIO(), width=120)
    console.print(render_report(report))
    assert "w on box: 3 sent, 1 answered first; 3 extra calls cost" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_tier_without_second_calls_says_nothing_of_them() -> None:
    report = report_of([attempt(1), attempt(2, error="the client left")], [task(1, None)])
    (line,) = report.workloads[0].tiers
    assert line.hedging is None
