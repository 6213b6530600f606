"""Whatever begins, settles, fails, is corrected or opened, an account is the sum of its rows and within its limit."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_rows import usual_intent, usual_request
from ownward import ledger
from ownward.ledger import BudgetCheck, BudgetSpent, Intent, Request, Settlement
from ownward.pricing import Usage

START = datetime(2026, 11, 21, 23, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=1)
LIMIT = 100
OWNERS = st.tuples(
    st.sampled_from(["chat", "other"]),
    st.sampled_from([None, "k"]),
    st.sampled_from(["t", "u"]),
    st.sampled_from(["run-1", "run-2"]),
)
Owner = tuple[str, str | None, str, str]  # workload, key, tier, task
EVER = datetime(1970, 1, 1, tzinfo=UTC)
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
    counted: dict[str, tuple[Owner, datetime, int, int]] = {}  # whose, begun, bound, counted
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "ledger.db"
        with ledger.open(target) as one, ledger.open(target) as other:
            for step in steps:
                if step[0] == "wait":
                    now += timedelta(minutes=step[1])
                elif step[0] == "begin":
                    for owner, high, is_held in step[1]:
                        name = f"r{len(counted)}"
                        checks = checks_of(owner, now) if is_held else []
                        fits = all(total(counted, check) + high <= LIMIT for check in checks)
                        request, intent = rows(name, owner, now, high)
                        book = (one, other)[len(counted) % 2]
                        try:
                            await book.begin(request, intent, budgets=checks)
                        except BudgetSpent:
                            assert not fits
                        else:
                            assert fits
                            counted[name] = (owner, now, high, high)
                elif counted:
                    name = list(counted)[step[1] % len(counted)]
                    owner, begun, high, _ = counted[name]
                    charge = {"settled": int(step[3] * high), "unsettled": high, "failed": 0}[step[2]]
                    (one, other)[step[1] % 2].settle(settlement(name, step[2], charge))
                    await one.flush()
                    await other.flush()
                    counted[name] = (owner, begun, high, charge)
            for whose in (("chat", "k", "t", "run-1"), ("other", "k", "u", "run-2")):
                checks = checks_of(whose, now)
                one.open_budgets(checks)
                for check, found in zip(checks, one.query_budgets(checks), strict=True):
                    assert found.spent_picousd + found.reserved_picousd == total(counted, check)
                    assert found.unknown_calls == 0


def checks_of(owner: Owner, at: datetime) -> list[BudgetCheck]:
    starts_at, ends_at = span_of(at)
    workload, key, tier, task = owner
    checks = [
        BudgetCheck(kind="workload", name=workload, limit_picousd=LIMIT, starts_at=starts_at, ends_at=ends_at),
        BudgetCheck(kind="tier", name=tier, limit_picousd=LIMIT, starts_at=starts_at, ends_at=ends_at),
        BudgetCheck(kind="task", name=task, limit_picousd=LIMIT, starts_at=EVER, ends_at=None),
    ]
    if key is not None:
        checks.append(BudgetCheck(kind="key", name=key, limit_picousd=LIMIT, starts_at=starts_at, ends_at=ends_at))
    return checks


def total(counted: dict[str, tuple[Owner, datetime, int, int]], check: BudgetCheck) -> int:
    place = ("workload", "key", "tier", "task").index(check.kind)
    return sum(
        charge
        for owner, begun, _, charge in counted.values()
        if owner[place] == check.name and check.starts_at <= begun and (check.ends_at is None or begun < check.ends_at)
    )


def rows(name: str, owner: Owner, at: datetime, high: int) -> tuple[Request, Intent]:
    workload, key, tier, task = owner
    request = usual_request(name, at=at, task_id=task, task_basis="explicit", workload=workload, key_id=key)
    return request, usual_intent(name, at=at, high=high, tier=tier)


def settlement(name: str, state: str, charge: int) -> Settlement:
    stated: dict[str, Any] = {}
    if state == "settled":
        stated = {"usage": USAGE, "usage_basis": "upstream", "charge_picousd": charge}
    elif state == "unsettled":
        stated = {"charge_low_picousd": 0, "charge_high_picousd": charge}
    return Settlement(request_id=name, attempt=1, state=state, settled_at=START, **stated)  # type: ignore[arg-type]
