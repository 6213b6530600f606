"""What an intent must fit under, as its writer states it, and what is said where it does not.

Budgets are kept in `_budgets`, limits by the minute in `_limits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from ownward.core import LedgerError, format_usd, picousd_to_usd
from ownward.ledger._money import MOST_PICOUSD
from ownward.ledger._statements import clean
from ownward.ledger._times import to_us

NEVER_US: Final = 2**62
"""The end of a span that has none, in microseconds since 1970."""

LimitKind = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCheck:
    """A limit on what the calls of a workload, key, tier or task begun from `starts_at` to before `ends_at` may cost.

    `name` is the workload or tier, or the key's or task's id; without `ends_at` the span never ends. A task's span is
    all of time.
    """

    kind: Literal["workload", "key", "tier", "task"]
    name: str
    limit_picousd: int
    starts_at: datetime
    ends_at: datetime | None

    @property
    def subject(self) -> str:
        """Whose account it is, as the ledger names it."""
        return f"{self.kind}:{clean(self.name)}"

    @property
    def most_picousd(self) -> int:
        """The limit, or what an account counts up to, where that is less."""
        return min(self.limit_picousd, MOST_PICOUSD)

    @property
    def span_us(self) -> tuple[int, int]:
        """The span in microseconds since 1970."""
        return to_us(self.starts_at), NEVER_US if self.ends_at is None else to_us(self.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """What an account holds: settled charges, upper bounds of what is not settled, and calls of unknown charge.

    `unsettled_picousd` is the part of `reserved_picousd` of calls that are over: no waiting frees it.
    """

    spent_picousd: int = 0
    reserved_picousd: int = 0
    unknown_calls: int = 0
    unsettled_picousd: int = 0


class BudgetSpent(LedgerError):
    """An intent was not written: with what is spent and reserved, its upper bound would pass a budget."""

    def __init__(self, check: BudgetCheck, state: BudgetState, *, charge_high_picousd: int) -> None:
        """Say what is left."""
        left = check.most_picousd - state.spent_picousd - state.reserved_picousd
        usd = (
            format_usd(picousd_to_usd(value))
            for value in (check.most_picousd, state.spent_picousd, state.reserved_picousd, max(left, 0))
        )
        limit, spent, reserved, free = usd
        super().__init__(
            f"the {check.kind} {check.name!r} has a budget of {limit}, of which {spent} is spent and {reserved} is"
            f" reserved for calls that are not settled; this call may cost up to"
            f" {format_usd(picousd_to_usd(charge_high_picousd))}",
            allowed=f"A call whose upper bound is at most {free}",
        )
        self.check = check
        self.state = state
        self.charge_high_picousd = charge_high_picousd

    @property
    def fits_later(self) -> bool:
        """Whether it would fit if every call in flight turned out free: they alone stand in its way."""
        stays = self.state.spent_picousd + self.state.unsettled_picousd
        return stays + self.charge_high_picousd <= self.check.most_picousd

    @property
    def never_fits(self) -> bool:
        """Whether it would not fit into the untouched budget."""
        return self.charge_high_picousd > self.check.most_picousd


@dataclass(slots=True, kw_only=True, eq=False)
class LimitTake:
    """So many requests or tokens of a key that may have `per_minute` of them; one object for each call.

    An `amount` of tokens is an estimate, at most `per_minute`: what the call used is told when it is settled.
    `is_bucket`: counted by a bucket that refills evenly, in place of a window that no 60 seconds pass.
    """

    key_id: str
    kind: LimitKind
    amount: int
    per_minute: int
    is_bucket: bool = False
    is_held: bool = False  # the ledger's own

    @property
    def name(self) -> tuple[str, LimitKind]:
        """Whose and which limit it is of."""
        return clean(self.key_id), self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """What is left of a limit, and after how many seconds all of it is there again if nothing more is taken."""

    kind: LimitKind
    per_minute: int
    remaining: int
    reset_s: float


class LimitReached(LedgerError):
    """An intent was not written: what is left of a limit of its key is less than what the call needs."""

    def __init__(self, take: LimitTake, states: tuple[LimitState, ...], *, wait_s: float) -> None:
        """Say what is left, and when the rest will be there."""
        (state,) = (one for one in states if one.kind == take.kind)
        super().__init__(
            f"the key {take.key_id!r} may have {take.per_minute} {take.kind} a minute and has {state.remaining} left;"
            f" this call needs {take.amount}",
            allowed=f"{take.per_minute} {take.kind} {'a minute, refilled evenly' if take.is_bucket else 'in any 60 s'}",
        )
        self.take = take
        self.states = states
        self.wait_s = wait_s
