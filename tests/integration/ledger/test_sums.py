"""Sums that the databases make, against the rows that they are of."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.ledger import AttemptRow, Outcome, Settlement, beaten_note, hedge_note
from ownward.plan import loads
from ownward.pricing import Usage
from ownward.reports import compute_report, price_steps
from summed_up import in_one_order, summed_up

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TIERS = ("box", "cloud", "cloud-b")
NOTES = (None, None, "Hedge: of no call", hedge_note("box/a", after_s=0.4), beaten_note("cloud/a", asked_later_s=0.1))


def settlement(chance: random.Random, request_id: str, attempt: int, *, largest: int) -> Settlement:
    state = chance.choice(["settled", "settled", "settled", "failed", "refused", "unsettled"])
    given = chance.randrange(3000)
    usage = Usage(
        input_tokens=given,
        output_tokens=chance.randrange(500),
        cached_input_tokens=given // 3,
        cache_write_tokens=given // 4,
    )
    charges: dict[str, int | None] = {}
    if state == "settled" and chance.random() < 0.8:
        charges = {"charge_picousd": chance.randrange(largest)}
    elif state in {"settled", "unsettled"}:
        charges = {
            "charge_low_picousd": chance.choice([None, 0]),
            "charge_high_picousd": chance.choice([None, chance.randrange(largest)]),
        }
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        state=state,  # type: ignore[arg-type]
        settled_at=NOW,
        usage=usage if state == "settled" else chance.choice([None, usage]),
        usage_basis="upstream",
        **charges,
        ttft_s=chance.choice([None, chance.random(), 0.0]),
        latency_s=chance.random(),
        error=chance.choice(NOTES),
    )


def fill(book: ledger.Ledger, *, seed: int, largest: int) -> None:
    """Begin, retry, settle, correct, refuse and grade by chance."""
    chance = random.Random(seed)

    async def begin() -> None:
        for number in range(60):
            name, at = f"r{number}", NOW + timedelta(hours=number)
            task = chance.choice(["", "", "trial_01M83SVRV51A293W2F32A9FNDC/api/"]) + f"t{chance.randrange(30)}"
            asked = usual_request(name, at=at, task_id=task, task_basis="explicit", workload=chance.choice("ab"))
            if chance.random() < 0.1:
                book.refuse(asked, reason="no", status=403)
                continue
            for attempt in range(1, chance.choice([2, 2, 3, 5])):
                intent = usual_intent(
                    name,
                    at=at,
                    high=chance.choice([None, largest]),
                    attempt=attempt,
                    tier=chance.choice(TIERS),
                    upstream=chance.choice("xy"),
                    model=chance.choice("mn"),
                )
                await (book.begin(asked, intent) if attempt == 1 else book.begin_attempt(intent))
                for _ in range(chance.choice([0, 1, 1, 1, 2])):
                    book.settle(settlement(chance, name, attempt, largest=largest))
        await book.flush()

    asyncio.run(begin())
    for number in range(30):
        if chance.random() < 0.5 and any(True for _ in book.query_tasks(task_id=f"t{number}")):
            book.record_outcome(
                Outcome(
                    task_id=f"t{number}",
                    completed=chance.random() < 0.7,
                    source=chance.choice(["human", "verifier"]),
                    human_minutes=chance.choice([None, 2.5]),
                    recorded_at=NOW,
                )
            )


@pytest.mark.parametrize(("seed", "rows_at_once"), [(0, 10_000), (1, 10_000), (2, 7), (3, 1)])
def test_what_was_served_sums_up_to_what_the_rows_say(
    target: str, seed: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownward.ledger._served._ROWS_AT_ONCE", rows_at_once)
    with ledger.open(target) as book:
        fill(book, seed=seed, largest=10**15)
        for since, until, workload, steps in (
            (None, None, None, ()),
            (None, None, "a", (1000, 2000)),
            (NOW + timedelta(hours=9), NOW + timedelta(hours=40), None, (1500,)),
        ):
            served = book.query_served(since=since, until=until, workload=workload, input_steps=steps)
            for one in served:
                one.graded = in_one_order(one.graded)
            rows = book.query_requests(since=since, until=until, workload=workload)
            assert served == summed_up(rows, book.query_tasks(), steps)
            assert served


@pytest.mark.parametrize("seed", range(2))
def test_requests_are_counted_once_in_each_group(target: str, seed: int) -> None:
    """A request that was tried twice on a tier is one of it, and one of each upstream and model that it came to."""
    with ledger.open(target) as book:
        fill(book, seed=seed, largest=10**15)
        rows = list(book.query_requests())
        for by in (
            (),
            ("tier",),
            ("workload", "tier"),
            ("upstream",),
            ("model", "upstream"),
            ("day", "model"),
            ("route",),
        ):
            requests: dict[tuple[str | None, ...], set[str]] = {}
            for row in rows:
                requests.setdefault(tuple(key_of(row, name) for name in by), set()).add(row.request_id)
            spent = book.query_spend(by=by)  # type: ignore[arg-type]
            assert {tuple(one.group.values()): one.requests for one in spent} == {
                group: len(ids) for group, ids in requests.items()
            }
        (of_tier,) = book.query_spend(by=(), tier="box")
        assert of_tier.requests == len({row.request_id for row in rows if row.tier == "box"})


def key_of(row: AttemptRow, name: str) -> str | None:
    if name == "day":
        number = int(row.request_id[1:])
        return (NOW + timedelta(hours=number)).date().isoformat()
    value: str | None = getattr(row, name)
    return value


def test_sums_of_money_reach_beyond_what_an_integer_of_a_database_holds(target: str) -> None:
    """9.2 million dollars in picodollars are 2 to the power of 63."""
    with ledger.open(target) as book:
        fill(book, seed=7, largest=1 << 62)
        rows = list(book.query_requests())
        known = sum(row.charge_picousd or 0 for row in rows)
        assert known > 1 << 63
        (spent,) = book.query_spend(by=())
        assert spent.spend.settled_picousd == known
        assert sum(one.charge.known_picousd for one in book.query_served()) == known
        assert sum(task.spend.settled_picousd for task in book.query_tasks()) == known


PLAN_AT_THE_API = """
schema = "ownward.plan/1"
name = "p"
baseline = "api"
[tiers.api]
kind = "rented"
model = "big"
provider = "anthropic"
upstreams = [{ name = "api", url = "https://api.example.com/v1" }]
[tiers.api.price]
provider = "anthropic"
model = "big"
basis = "assumed"
source = "s"
checked_on = 2026-11-21
"""
RATES = """
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
cached_input_usd_per_mtok = "0.3"
cache_write_usd_per_mtok = "3.75"
cache_write_1h_usd_per_mtok = "6"
"""
TWO_RATES = f"""
input_usd_per_mtok = "9"
output_usd_per_mtok = "9"
[[tiers.api.price.steps]]
above_input_tokens = 500
{RATES}"""


@pytest.mark.parametrize("rates", [RATES, TWO_RATES], ids=["one rate", "two rates"])
def test_what_stays_at_the_baseline_saves_nothing_also_with_writes_that_are_cached_for_an_hour(
    target: str, rates: str
) -> None:
    """100 x 3 + 200 x 0.3 + 300 x 3.75 + 400 x 6 + 50 x 15 = 4,635 USD for a million requests."""
    plan = loads(PLAN_AT_THE_API + rates)
    price = plan.tiers["api"].price
    assert price is not None
    usage = Usage(
        input_tokens=1000, output_tokens=50, cached_input_tokens=200, cache_write_tokens=700, cache_write_1h_tokens=400
    )
    charge = price.compute_charge_picousd(usage)
    with ledger.open(target) as book:

        async def serve_one() -> None:
            await book.begin(usual_request("r", at=NOW), usual_intent("r", at=NOW, tier="api"))
            book.settle(usual_settlement("r", at=NOW, charge=charge, usage=usage))
            await book.flush()

        asyncio.run(serve_one())
        report = compute_report(book.query_served(input_steps=price_steps(plan)), plan=plan)
    assert (report.cost_usd, report.baseline_usd, report.saved_usd) == (
        Decimal("0.004635"),
        Decimal("0.004635"),
        Decimal(0),
    )


def test_what_a_trial_asked_costs_and_saves_nothing(target: str) -> None:
    """Nobody would have asked the baseline what a trial asks of both tiers."""
    plan = loads(PLAN_AT_THE_API + RATES)
    tasks = {"r": "req_r", "a": "trial_01M83SVRV51A293W2F32A9FNDC/api/1", "b": "trial_01M83SVRV51A293W2F32A9FNDC/box/1"}
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    with ledger.open(target) as book:

        async def serve() -> None:
            for name, task in tasks.items():
                tier = "api" if name == "a" else "box"
                await book.begin(usual_request(name, at=NOW, task_id=task), usual_intent(name, at=NOW, tier=tier))
                book.settle(usual_settlement(name, at=NOW, charge=10**12, usage=usage))
            await book.flush()

        asyncio.run(serve())
        report = compute_report(book.query_served(input_steps=price_steps(plan)), plan=plan)
    assert (report.cost_usd, report.trials_usd, report.baseline_usd) == (Decimal(3), Decimal(2), Decimal(3))
    assert report.saved_usd == 0
