"""From workloads and candidates to a decision and a plan: cost every pair, bar what is not shown to hold, choose."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from ownward.core import BadInput, Sourced, format_counted
from ownward.economics import Assumption, Assumptions, OwnedCost, OwnVsRent, own_vs_rent
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.planner._candidates import (
    PROVIDERS,
    OwnedCandidate,
    RentedCandidate,
    marginal_and_loaded,
)
from ownward.planner._choose import Choice, choose
from ownward.planner._launch import engine_options
from ownward.planner._options import FleetShare, Option
from ownward.planner._search import total_cost
from ownward.planner._sizing import Sizing, size_fleet
from ownward.policy import Label, Place
from ownward.simulation import Slo
from ownward.traffic import Trace

# An address that leads nowhere by definition: the plan's reader writes the right one.
_UNKNOWN_PROVIDER = ("https://write-its-address-here.invalid/v1", "openai", "API_KEY")
_PLACES = Decimal("0.000001")
_SECONDS_PER_HOUR = 3600
_MTOK = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a tier has been seen to do with a workload's tasks; `is_certified` against the workload's baseline."""

    tier: str
    tasks: int
    completed: int
    is_certified: bool
    source: str

    @property
    def completion(self) -> float | None:
        """Share of tasks completed; None without tasks."""
        return self.completed / self.tasks if self.tasks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadToPlan:
    """A workload's traffic, where it is served today, and what must hold wherever it goes.

    `observed_s` is how long the log goes on from the workload's first request, which is longer than its traffic where
    the log has requests of others after its last; a month is made of that time.
    A label that nobody has stated (`is_label_stated`) is written into the plan, and bars nothing yet.
    """

    name: str
    trace: Trace
    observed_s: float = 0.0
    baseline: str
    label: Label
    is_label_stated: bool = True
    slo: Slo
    floor_fraction: float | None = None
    confidence_fraction: float | None = None
    models: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One workload against every candidate: a month's costs, break-evens, and how each owned candidate serves it."""

    workload: str
    own_vs_rent: OwnVsRent
    sizings: Mapping[str, Sizing]
    barred: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All options, the choice among them, and the plan that carries it out."""

    options: tuple[Option, ...]
    choice: Choice
    comparisons: tuple[Comparison, ...]
    plan: Plan


def make_plan(
    workloads: Sequence[WorkloadToPlan],
    *,
    owned: Sequence[OwnedCandidate],
    rented: Sequence[RentedCandidate],
    assumptions: Assumptions,
    name: str,
    at: datetime,
    hours_per_month: Sourced[float],
    assumes_equal_quality: bool = False,
) -> Decision:
    """Return the cheapest plan that keeps what is known to hold.

    A tier other than a workload's baseline is feasible only with a certificate for it, or, without a floor,
    with evidence; `assumes_equal_quality` lifts that for a what-if. Each workload of no feasible
    alternative stays at its baseline, unless its label forbids that.
    Raises: BadInput, if there is nothing to plan, or a baseline that is not a candidate; InfeasiblePlan, where the
    label of a workload leaves it nowhere to go.
    """
    if not workloads:
        raise BadInput("there are no workloads to plan", next_step="Bring traffic in with: ownward import FILE")
    tiers = {item.tier for item in owned} | {item.tier for item in rented}
    for workload in workloads:
        if workload.baseline not in tiers:
            raise BadInput(
                f"the baseline {workload.baseline!r} of workload {workload.name!r} is not a candidate",
                allowed=", ".join(sorted(tiers)),
            )
    comparisons = [
        _compare(item, owned, rented, assumptions=assumptions, at=at, hours_per_month=hours_per_month)
        for item in workloads
    ]
    options = [
        option
        for workload, comparison in zip(workloads, comparisons, strict=True)
        for option in _options(workload, comparison, owned, rented, assumes_equal_quality=assumes_equal_quality)
    ]
    choice = choose(options)
    forbidden = frozenset((option.workload, option.tier) for option in options if option.is_forbidden)
    plan = _plan(workloads, comparisons, options, choice, forbidden, owned=owned, rented=rented, name=name, at=at)
    return Decision(options=tuple(options), choice=choice, comparisons=tuple(comparisons), plan=plan)


def _compare(
    workload: WorkloadToPlan,
    owned: Sequence[OwnedCandidate],
    rented: Sequence[RentedCandidate],
    *,
    assumptions: Assumptions,
    at: datetime,
    hours_per_month: Sourced[float],
) -> Comparison:
    sizings: dict[str, Sizing] = {}
    barred: dict[str, str] = {}
    for candidate in owned:
        found = size_fleet(
            candidate,
            workload.trace,
            workload.slo,
            at=at.date(),
            cache_reuse_fraction=assumptions.cache_reuse_fraction.value.value,
        )
        if isinstance(found, str):
            barred[candidate.tier] = found
        else:
            sizings[candidate.tier] = found
    summary = workload.trace.compute_summary()
    served_by = next((item.price.provider for item in rented if item.tier == workload.baseline), None)
    compared = own_vs_rent(
        replace(summary, duration_s=max(summary.duration_s, workload.observed_s)),
        [sizing.option for sizing in sizings.values()],
        [candidate.as_option(workload.trace, served_by=served_by) for candidate in rented],
        assumptions,
        active_hours_per_month=hours_per_month,
    )
    return Comparison(workload=workload.name, own_vs_rent=compared, sizings=sizings, barred=barred)


def _options(
    workload: WorkloadToPlan,
    comparison: Comparison,
    owned: Sequence[OwnedCandidate],
    rented: Sequence[RentedCandidate],
    *,
    assumes_equal_quality: bool,
) -> list[Option]:
    costs = {cost.name: cost for cost in comparison.own_vs_rent.owned}
    api_usd = {cost.name: cost.usd for cost in comparison.own_vs_rent.rented}
    options = []
    candidates: list[OwnedCandidate | RentedCandidate] = [*rented, *owned]
    for candidate in candidates:
        tier = candidate.tier
        evidence = next((item for item in workload.evidence if item.tier == tier), None)
        forbidden = _forbidden(workload.label, candidate) if workload.is_label_stated else None
        barrier = (
            forbidden
            or comparison.barred.get(tier)
            or _barrier(workload, tier, evidence, assumes_equal_quality=assumes_equal_quality)
        )
        cost = costs.get(tier)
        options.append(
            Option(
                workload=workload.name,
                strategy="direct",
                tier=tier,
                cost_usd=api_usd.get(tier, cost.loaded_usd if cost is not None else None),
                completion=evidence.completion if evidence is not None else None,
                feasible=barrier is None,
                binding_constraint=barrier,
                is_baseline=tier == workload.baseline,
                is_forbidden=forbidden is not None,
                shared=_share(cost, comparison.sizings[tier]) if cost is not None else None,
                details={"marginal_usd": cost.marginal_usd if cost is not None else api_usd.get(tier)},
            )
        )
    return options


def _forbidden(label: Label, candidate: OwnedCandidate | RentedCandidate) -> str | None:
    """Return why the label bars a candidate wherever its provider may serve it; what one owns is on this machine."""
    if isinstance(candidate, OwnedCandidate):
        return None
    place = Place(provider=candidate.price.provider, region=candidate.region)
    return None if label.may_permit(place) else f"the label {label} bars {candidate.price.provider}"


def _barrier(
    workload: WorkloadToPlan, tier: str, evidence: Evidence | None, *, assumes_equal_quality: bool
) -> str | None:
    if tier == workload.baseline or (evidence is not None and evidence.is_certified):
        return None
    seen = None
    if evidence is not None and evidence.tasks:
        seen = f"not certified: completed {evidence.completed:,} of {format_counted(evidence.tasks, 'task')}"
    if seen is not None and workload.floor_fraction is not None:
        return f"{seen}, {workload.floor_fraction:.0%} of the baseline must hold"
    if assumes_equal_quality:
        return None
    return seen or "not certified: nobody has measured what it completes here"


def _share(cost: OwnedCost, sizing: Sizing) -> FleetShare:
    """Return what workloads on one tier share: its reserve and its people, and machines that one does not fill."""
    idle, busy = sizing.option.idle_watts, sizing.option.busy_watts
    above_idle = Decimal(0)
    if cost.marginal_usd is not None and idle is not None and busy is not None and busy.value.value:
        above_idle = cost.marginal_usd * Decimal(repr(1 - idle.value.value / busy.value.value))
    return FleetShare(
        fleet=cost.name,
        work=sizing.option.machines_needed or float(cost.machines - cost.redundancy),
        reserve=cost.redundancy,
        usd_once=cost.breakdown.people_usd,
        usd_of_work=above_idle.quantize(_PLACES),
    )


def _plan(
    workloads: Sequence[WorkloadToPlan],
    comparisons: Sequence[Comparison],
    options: Sequence[Option],
    choice: Choice,
    forbidden: frozenset[tuple[str, str]],
    *,
    owned: Sequence[OwnedCandidate],
    rented: Sequence[RentedCandidate],
    name: str,
    at: datetime,
) -> Plan:
    used = {option.tier for option in choice.chosen} | {item.baseline for item in workloads}
    tiers: dict[str, Tier] = {}
    for candidate in rented:
        if candidate.tier in used:
            tiers[candidate.tier] = _rented_tier(candidate)
    for own in owned:
        if own.tier in used:
            tiers[own.tier] = _owned_tier(own, _served_by(own.tier, comparisons, options, choice), at)
    chosen = {option.workload: option for option in choice.chosen}
    shared_usd = {tier: _usd_by_work(_served_by(tier, comparisons, options, choice)) for tier in choice.fleet}
    usual = Counter(item.baseline for item in workloads).most_common(1)[0][0]
    return Plan(
        name=name,
        created_at=at.replace(microsecond=0),
        baseline=usual,
        tiers=tiers,
        workloads={
            item.name: _workload(
                item,
                chosen[item.name],
                at,
                plan_baseline=usual,
                is_baseline_forbidden=(item.name, item.baseline) in forbidden,
                usd_by_work=shared_usd.get(chosen[item.name].tier, {}).get(item.name),
            )
            for item in workloads
        },
    )


def _rented_tier(candidate: RentedCandidate) -> Tier:
    price = candidate.price
    url, dialect, variable = PROVIDERS.get(price.provider, _UNKNOWN_PROVIDER)
    return Tier(
        name=candidate.tier,
        kind="rented",
        model=price.model,
        provider=price.provider,
        region=candidate.region,
        price=price,
        upstreams=(Upstream(name=price.provider, url=url, dialect=dialect, api_key_env=variable),),  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """One workload on an owned tier: what it costs there alone, and how."""

    comparison: Comparison
    cost: OwnedCost
    option: Option


def _served_by(
    tier: str, comparisons: Sequence[Comparison], options: Sequence[Option], choice: Choice
) -> list[_Served]:
    """Return the workloads that were chosen for an owned tier; those that it is the baseline of where none was."""
    of_tier = [option for option in choice.chosen if option.tier == tier] or [
        option for option in options if option.tier == tier and option.is_baseline
    ]
    by_workload = {option.workload: option for option in of_tier}
    return [
        _Served(item, cost, by_workload[item.workload])
        for item in comparisons
        if item.workload in by_workload
        for cost in item.own_vs_rent.owned
        if cost.name == tier
    ]


def _usd_by_work(served: Sequence[_Served]) -> dict[str, Decimal]:
    """Return what each workload on a tier's machines costs of what they cost together, by its share of their work."""
    work_hours = sum(one.cost.work_hours for one in served)
    if not work_hours or any(one.option.cost_usd is None for one in served):
        return {}
    whole = total_cost([one.option for one in served])[0]
    return {
        one.option.workload: (whole * Decimal(repr(one.cost.work_hours / work_hours))).quantize(_PLACES)
        for one in served
    }


def _prices_of_work(tier: str, served: Sequence[_Served], usd: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
    """Return the input and output price (USD per Mtok) at which the tokens of all that a tier serves come to `usd`.

    A token costs in proportion to the time a machine spends on it, at the mean of the workloads' rates.
    """
    work_s = _SECONDS_PER_HOUR * sum(one.cost.work_hours for one in served)
    if usd is None or not work_s:
        return None, None
    options = [one.comparison.sizings[tier].option for one in served]
    speeds = [option.running or option.capacity for option in options]
    volumes = [one.comparison.own_vs_rent.volume for one in served]

    def price(tokens: list[float], rates: list[Assumption]) -> Decimal:
        each_s = [1 / rate.value.value for rate in rates]
        whole = sum(tokens)
        mean_s = sum(map(operator.mul, tokens, each_s)) / whole if whole else each_s[0]
        return (usd * _MTOK * Decimal(repr(float(mean_s / work_s)))).quantize(_PLACES)

    return (
        price([one.input_tokens for one in volumes], [one.prefill_tokens_per_s for one in speeds]),
        price([one.output_tokens for one in volumes], [one.decode_tokens_per_s for one in speeds]),
    )


def _owned_tier(candidate: OwnedCandidate, served: Sequence[_Served], at: datetime) -> Tier:
    marginal = [one.cost.marginal_usd for one in served]
    energy = None if None in marginal else sum((usd for usd in marginal if usd is not None), Decimal(0))
    everything = total_cost([one.option for one in served])[0] if energy is not None else None
    price, loaded = marginal_and_loaded(
        candidate,
        marginal=_prices_of_work(candidate.tier, served, energy),
        loaded=_prices_of_work(candidate.tier, served, everything),
        at=at.date(),
    )
    engine = {"vllm": "vllm", "embedded": "embedded"}.get(candidate.engine, "llama-server")
    sizings = [one.comparison.sizings[candidate.tier] for one in served]
    return Tier(
        name=candidate.tier,
        kind="owned",
        model=candidate.anatomy.name,
        variant=candidate.weights,
        engine=engine,  # type: ignore[arg-type]
        machine=f"{candidate.machines_count}x{candidate.machine.id}",
        engine_options=engine_options(sizings) if sizings else {},
        price=price,
        loaded_price=loaded,
    )


def _workload(
    item: WorkloadToPlan,
    option: Option,
    at: datetime,
    *,
    plan_baseline: str,
    is_baseline_forbidden: bool,
    usd_by_work: Decimal | None,
) -> Workload:
    figures = {}
    if option.cost_usd is not None:
        figures["usd_per_month"] = Sourced(
            value=Decimal(option.cost_usd) if usd_by_work is None else usd_by_work,
            basis="fitted",
            source="ownward plan: traffic scaled to a month, "
            + ("prices of the tier" if usd_by_work is None else "everything the tier costs, by its share of the work"),
            checked_on=at.date(),
        )
    return Workload(
        name=item.name,
        match=Match(fingerprints=item.fingerprints)
        if item.fingerprints and not item.models
        else Match(models=item.models or (item.name,)),
        strategy=Strategy(kind="direct", tiers=(option.tier,)),
        fallback=(item.baseline,) if option.tier != item.baseline and not is_baseline_forbidden else (),
        label=item.label,
        baseline=item.baseline if item.baseline != plan_baseline else None,
        floor_fraction=item.floor_fraction,
        confidence_fraction=item.confidence_fraction,
        figures=figures,
    )
