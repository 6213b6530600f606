"""Which budgets a call is held to, and what a client is told when one does not admit it.

The ledger decides, in the transaction that writes the call's intent; here a plan's and a key's words become its checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

from ownward.core import PICOUSD_PER_USD, OwnwardError
from ownward.gateway.errors import OverBudget, UnboundedCharge
from ownward.ledger import BudgetCheck, BudgetSpent
from ownward.plan import Budget, Plan, Workload

if TYPE_CHECKING:
    from ownward.gateway.placing.choice import Choice, KeyScope
    from ownward.gateway.placing.routing import Target

NO_CHECKS: tuple[BudgetCheck, ...] = ()
_NOTHING = Budget(max_usd=Decimal(0), period="total")
_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def compute_checks(
    choice: Choice | None,
    key: KeyScope | None,
    target: Target,
    *,
    task: BudgetCheck | None,
    charge_high_picousd: int | None,
    at: datetime,
    why_unbounded: str | None = None,
) -> tuple[BudgetCheck, ...]:
    """Return the budgets that a call to `target` must fit under: of its workload, key, tier and task.

    A budget that goes on with owned tiers (`owned_only`) does not hold these; what they cost counts all the same.
    Raises: UnboundedCharge, if a budget holds the call and nothing is known of what it may cost.
    """
    declared = None if choice is None else choice.declared
    stated = None if declared is None else declared.budget
    of_key = None if key is None else key.budget
    of_tier = target.tier.budget
    if stated is None and of_key is None and of_tier is None and task is None:
        return NO_CHECKS
    checks = []
    if declared is not None and stated is not None and _holds(stated, target):
        checks.append(check_of(stated, "workload", declared.name, at=at))
    if key is not None and of_key is not None and _holds(of_key, target):
        checks.append(check_of(of_key, "key", key.key_id, at=at))
    if of_tier is not None:
        checks.append(check_of(of_tier, "tier", target.tier.name, at=at))
    if task is not None:
        checks.append(task)
    if checks and charge_high_picousd is None:
        raise UnboundedCharge(checks[0].kind, checks[0].name, tier=target.tier.name, why=why_unbounded)
    return tuple(checks)


def task_check(task_id: str, *, declared: Workload | None, asked_usd: Decimal | None) -> BudgetCheck | None:
    """Return the budget of a task: what its workload allows each of them, or less where the client asks."""
    allowed = None if declared is None else declared.task_budget_usd
    usd = asked_usd if allowed is None else allowed if asked_usd is None else min(asked_usd, allowed)
    if usd is None:
        return None
    return check_of(Budget(max_usd=usd, period="total"), "task", task_id, at=_ANY_TIME)


def check_of(
    budget: Budget, kind: Literal["workload", "key", "tier", "task"], name: str, *, at: datetime
) -> BudgetCheck:
    """Return the ledger's form of a budget in the period that holds `at`; fractions of a picodollar are not granted."""
    starts_at, ends_at = budget.compute_span(at)
    limit = int(budget.max_usd * PICOUSD_PER_USD)
    return BudgetCheck(kind=kind, name=name, limit_picousd=limit, starts_at=starts_at, ends_at=ends_at)


def checks_of_plan(plan: Plan, *, at: datetime) -> list[BudgetCheck]:
    """Return the budgets of a plan's workloads and tiers in the periods that hold `at`."""
    stated = [("workload", workload.name, workload.budget) for workload in plan.workloads.values()]
    stated += [("tier", tier.name, tier.budget) for tier in plan.tiers.values()]
    return [
        check_of(budget, cast("Literal['workload', 'tier']", kind), name, at=at)
        for kind, name, budget in stated
        if budget is not None
    ]


def budget_refusal(error: BudgetSpent, *, at: datetime) -> OverBudget:
    """Return what a client is told: when it can come back, and whether that would help."""
    check = error.check
    if error.never_fits:
        wait_s, next_step = None, "Ask for less with a lower max_tokens, or raise the budget"
    elif error.fits_later:
        wait_s, next_step = 1.0, "Try again when calls in flight are settled, or with a lower max_tokens"
    elif check.ends_at is None:
        wait_s, next_step = None, "The budget has no next period: raise it"
    else:
        wait_s = max((check.ends_at - at).total_seconds(), 1.0)
        next_step = f"The next period begins at {check.ends_at:%Y-%m-%d %H:%M} UTC; until then, raise the budget"
    return OverBudget(error.message, allowed=error.allowed, next_step=next_step, retry_after_s=wait_s, of=check.kind)


def budget_in(scopes: Mapping[str, Any]) -> Budget | None:
    """Return the budget of a key's scopes; one that cannot be read grants nothing."""
    stated = scopes.get("budget")
    if stated is None:
        return None
    try:
        return Budget.parse(str(stated))
    except OwnwardError:
        return _NOTHING


def unheld_lines(plan: Plan, *, today: date) -> Iterable[str]:
    """Yield what an operator should know: tiers without a price that holds, at which a budget refuses everything."""
    for tier in plan.tiers.values():
        why = None if tier.price is None else tier.price.why_not_on(today)
        if why is not None:
            yield (
                f"the price of tier {tier.name!r} is not today's, {why}: what it charges is unknown, and budgets refuse"
                f" it. Write the price of today under [tiers.{tier.name}.price] in the plan"
            )
    for workload in plan.workloads.values():
        budget = workload.budget
        if budget is None and workload.task_budget_usd is None:
            continue
        for name in (*workload.strategy.tiers, *workload.fallback):
            tier = plan.tiers[name]
            spares = budget is not None and budget.when_spent == "owned_only" and tier.kind == "owned"
            if tier.price is None and not (spares and workload.task_budget_usd is None):
                yield (
                    f"workload {workload.name!r} has a budget and tier {name!r} states no price, so that its requests"
                    f" are refused there: write the price under [tiers.{name}] in the plan"
                )
    for tier in plan.tiers.values():
        if tier.budget is not None and tier.price is None:
            yield f"tier {tier.name!r} has a budget and no price, so that every request to it is refused"


def _holds(budget: Budget, target: Target) -> bool:
    return budget.when_spent == "refuse" or target.tier.kind != "owned"
