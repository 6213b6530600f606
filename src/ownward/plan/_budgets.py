"""The most that a workload, a tier or a key may be charged in a calendar period."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal, cast, get_args

from ownward.core import BadInput
from ownward.plan._problems import Problem, refuse, shown, suggest, usd_problems

BudgetPeriod = Literal["hour", "day", "week", "month", "total"]
WhenSpent = Literal["refuse", "owned_only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most a workload or a key may be charged in a calendar period (UTC), and what happens then.

    `owned_only` goes on with owned tiers where the workload has one, and refuses otherwise.
    """

    max_usd: Decimal
    period: BudgetPeriod
    when_spent: WhenSpent = "refuse"

    def __post_init__(self) -> None:
        """Refuse an amount that is none."""
        refuse("budget", _budget_problems(self))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that is written as dollars, a slash and the period, as a key's is.

        Raises: BadInput, saying how to write it.

        >>> Budget.parse("5.00/day")
        Budget(max_usd=Decimal('5.00'), period='day', when_spent='refuse')
        """
        usd, slash, period = text.partition("/")
        try:
            max_usd = Decimal(usd)
        except InvalidOperation:
            slash = ""
        if not slash or period not in get_args(BudgetPeriod):
            raise BadInput(
                f"the budget {shown(text)} cannot be read",
                allowed=f"Dollars, a slash and one of {', '.join(get_args(BudgetPeriod))}",
                next_step="Write it as in 5.00/day",
            )
        return cls(max_usd=max_usd, period=cast("BudgetPeriod", period))

    def compute_span(self, at: datetime) -> tuple[datetime, datetime | None]:
        """Return the period that holds the moment `at`: its first moment and the next one's; weeks begin on Monday.

        A total has no end.

        >>> start, end = Budget(max_usd=Decimal(5), period="week").compute_span(datetime(2026, 11, 21, 9, tzinfo=UTC))
        >>> start.isoformat(), end.isoformat()
        ('2026-11-16T00:00:00+00:00', '2026-11-23T00:00:00+00:00')
        """
        hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        day = hour.replace(hour=0)
        match self.period:
            case "hour":
                return hour, hour + timedelta(hours=1)
            case "day":
                return day, day + timedelta(days=1)
            case "week":
                monday = day - timedelta(days=day.weekday())
                return monday, monday + timedelta(days=7)
            case "month":
                first = day.replace(day=1)
                return first, (first + timedelta(days=31)).replace(day=1)
            case "total":
                return datetime(1970, 1, 1, tzinfo=UTC), None


def _budget_problems(budget: Budget) -> Iterable[Problem]:
    yield from usd_problems("max_usd", budget.max_usd)
    if budget.period not in get_args(BudgetPeriod):
        yield Problem("period", f"is {shown(budget.period)}", suggest(budget.period, get_args(BudgetPeriod)))
    if budget.when_spent not in get_args(WhenSpent):
        yield Problem("when_spent", f"is {shown(budget.when_spent)}", suggest(budget.when_spent, get_args(WhenSpent)))
