"""A budget's periods meet without gap or overlap, in UTC, and a budget is written as dollars over a period."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.core import BadInput, ConfigError
from ownward.plan import Budget

MOMENTS = st.builds(datetime.combine, st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.times(), st.just(UTC))


@given(MOMENTS, st.sampled_from(["hour", "day", "week", "month"]))
def test_periods_meet(at: datetime, period: str) -> None:
    budget = Budget(max_usd=Decimal(1), period=period)  # type: ignore[arg-type]
    start, end = budget.compute_span(at)
    assert end is not None
    assert start <= at < end
    assert budget.compute_span(start) == budget.compute_span(end - timedelta(microseconds=1)) == (start, end)
    assert budget.compute_span(end)[0] == end


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("hour", "2024-02-29T23", "2024-03-01T00"),
        ("day", "2024-02-29T00", "2024-03-01T00"),
        ("week", "2024-02-26T00", "2024-03-04T00"),
        ("month", "2024-02-01T00", "2024-03-01T00"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: str, start: str, end: str) -> None:
    at = datetime(2024, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))  # 23:30 of February 29 in UTC
    budget = Budget(max_usd=Decimal(1), period=period)  # type: ignore[arg-type]
    assert budget.compute_span(at) == (
        datetime.fromisoformat(f"{start}+00"),
        datetime.fromisoformat(f"{end}+00"),
    )


def test_a_total_has_no_end() -> None:
    assert Budget.parse("5/total").compute_span(datetime(2026, 1, 1, tzinfo=UTC))[1] is None


def test_a_budget_is_read_as_it_is_written() -> None:
    assert Budget.parse("0.25/month") == Budget(max_usd=Decimal("0.25"), period="month", when_spent="refuse")


@pytest.mark.parametrize("text", ["", "5", "5/", "/day", "five/day", "5/year", "5/day/week", "5 per day"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"5\.00/day"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["-1/day", "NaN/day", "Infinity/day"])
def test_an_amount_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Budget.parse(text)
