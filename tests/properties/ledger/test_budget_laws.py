"""Whatever begins, settles, fails, is corrected or opened, an account is the sum of its rows and within its limit."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownward import ledger
from ownward.ledger import BudgetCheck, BudgetSpent, Intent, Request, Settlement
from ownward.pricing import Usage

START = datetime(2026, 11, 21, 23, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=1)
LIMIT = 100
OWNERS = st.tuples(st.sampled_from(["chat", "other"]), st.sampled_from([None, "k"]))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("begin"),
            st.lists(st.tuples(OWNERS, st.integers(0, 60), st.booleans()), min_size=1, max_size=5),
        ),
        st.tuples(
            st.just("settle"),
            st.integers(0, 30),
            st.sampled_from(["settled", "unsettled", "failed"]),
            st.fractions(0, 1),
        ),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=25,
)


def span_of(at: datetime) -> tuple[datetime, datetime]:
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour, hour + timedelta(hours=1)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_accounts_are_sums_and_never_pass_their_limits(steps: list[Any]) -> None:
    asyncio.run(run(steps))


async def run(steps: list[Any]) -> None:
    now = START
    counted: dict[str, tuple[str, str | None, datetime, int, int]] = {}  # workload, key, begun, bound, counted
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "ledger.db"
        with ledger.open(target) as one, ledger.open(target) as other:
            for step in steps:
                if step[0] == "wait":
                    now += timedelta(minutes=step[1])
                elif step[0] == "begin":
                    for (workload, key), high, is_held in step[1]:
                        name = f"r{len(counted)}"
                        checks = checks_of(workload, key, now) if is_held else []
                        fits = all(total(counted, check) + high <= LIMIT for check in checks)
                        request, intent = rows(name, workload, key, now, high)
                        book = (one, other)[len(counted) % 2]
                        try:
                            await book.begin(request, intent, budgets=checks)
                        except BudgetSpent:
                            assert not fits
                        else:
                            assert fits
                            counted[name] = (workload, key, now, high, high)
                elif counted:
                    name = list(counted)[step[1] % len(counted)]
                    workload, key, begun, high, _ = counted[name]
                    charge = {"settled": int(step[3] * high), "unsettled": high, "failed": 0}[step[2]]
                    (one, other)[step[1] % 2].settle(settlement(name, step[2], charge))
                    await one.flush()
                    await other.flush()
                    counted[name] = (workload, key, begun, high, charge)
            for workload, key in (("chat", "k"), ("other", "k")):
                checks = checks_of(workload, key, now)
                one.open_budgets(checks)
                for check, found in zip(checks, one.query_budgets(checks), strict=True):
                    assert found.spent_picousd + found.reserved_picousd == total(counted, check)
                    assert found.unknown_calls == 0


def checks_of(workload: str, key: str | None, at: datetime) -> list[BudgetCheck]:
    starts_at, ends_at = span_of(at)
    checks = [
        BudgetCheck(kind="workload", name=workload, limit_picousd=LIMIT, starts_at=starts_at, ends_at=ends_at),
    ]
    if key is not None:
        checks.append(BudgetCheck(kind="key", name=key, limit_picousd=LIMIT, starts_at=starts_at, ends_at=ends_at))
    return checks


def total(counted: dict[str, tuple[str, str | None, datetime, int, int]], check: BudgetCheck) -> int:
    assert check.ends_at is not None
    return sum(
        charge
        for workload, key, begun, _, charge in counted.values()
        if check.name in (workload, key) and check.starts_at <= begun < check.ends_at
    )


def rows(name: str, workload: str, key: str | None, at: datetime, high: int) -> tuple[Request, Intent]:
    request = Request(
        request_id=name,
        task_id=name,
        task_basis="single",
        workload=workload,
        route="m",
        key_id=key,
        label="any",
        dialect="openai",
        is_stream=False,
        plan_sha256=None,
        reason="",
        started_at=at,
    )
    intent = Intent(
        request_id=name,
        attempt=1,
        tier="t",
        upstream="u",
        model="m",
        price_id=None,
        input_tokens_high=None,
        output_tokens_high=None,
        charge_high_picousd=high,
        body_sha256="",
        started_at=at,
    )
    return request, intent


def settlement(name: str, state: str, charge: int) -> Settlement:
    stated: dict[str, Any] = {}
    if state == "settled":
        stated = {"usage": USAGE, "usage_basis": "upstream", "charge_picousd": charge}
    elif state == "unsettled":
        stated = {"charge_low_picousd": 0, "charge_high_picousd": charge}
    return Settlement(request_id=name, attempt=1, state=state, settled_at=START, **stated)  # type: ignore[arg-type]
