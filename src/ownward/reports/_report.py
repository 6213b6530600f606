"""The report: per workload and tier what was asked, what was completed, what it cost, and what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ownward.core import format_counted, format_duration, format_percent, format_usd, picousd_to_usd
from ownward.economics import Cpct, compute_cpct
from ownward.ledger import CertificateRow, ChargeSum, Served, ServedHedges, SettledTokens
from ownward.plan import Plan, Tier
from ownward.pricing import Price, Usage
from ownward.reports._fitted_table import Fitted

if TYPE_CHECKING:
    from rich.console import Group

SCHEMA = "ownward.report/1"
_REFUSED = "(refused)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedging:
    """What second calls beside late ones came to: how many were sent, how many of those answered first, what was extra.

    `extra_calls` are those whose answer nobody took: beaten ones, and second calls that failed. They cost between
    `extra_low_usd` and `extra_high_usd` (None: not known), which is part of the tier's own cost.
    """

    hedges: int
    won: int
    extra_calls: int
    extra_low_usd: Decimal | None
    extra_high_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLine:
    """What one tier did for a workload.

    `cpct` counts failures in; `loaded_usd` is what the owned tier's fully loaded price makes of the same tokens,
    `baseline_usd` what the plan's baseline would have charged for the requests that it answered first, once each, by
    the tokens of that answer (what else a strategy asked, or a trial, the baseline would not have). Both are None where
    there is no such price. `trials_usd` is what of the cost calls of trials were.
    `hedging` is None where there was none.
    """

    tier: str
    requests: int
    settled: int
    unsettled: int
    failed: int
    refused: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    tasks: int
    graded: int
    completed: int
    completion_fraction: float | None
    cost_usd: Decimal | None
    cost_high_usd: Decimal | None
    loaded_usd: Decimal | None
    baseline_usd: Decimal | None
    trials_usd: Decimal | None
    cpct: Cpct
    ttft_p50_s: float | None
    latency_p50_s: float | None
    hedging: Hedging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadLine:
    """A workload's tiers, its baseline and floor, its newest certificate, and what was found of each candidate.

    Of each candidate and share it is the newest verdict, or where there is none the newest trial without one, each
    with `is_expired`.
    """

    workload: str
    baseline: str | None
    floor_fraction: float | None
    tiers: tuple[TierLine, ...]
    certificate: Mapping[str, Any] | None
    certificates: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All workloads, sums, savings against the baseline, and what is not known."""

    since: datetime | None
    until: datetime | None
    baseline: str | None
    workloads: tuple[WorkloadLine, ...]
    cost_usd: Decimal | None
    baseline_usd: Decimal | None
    saved_usd: Decimal | None
    trials_usd: Decimal | None
    unknown: tuple[str, ...]

    @property
    def baselines(self) -> tuple[str, ...]:
        """The tiers that the workloads are compared with, each once."""
        named = (workload.baseline for workload in self.workloads if workload.tiers)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def as_record(self) -> dict[str, Any]:
        """Return the object of `ownward.report/1`."""
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in self.__dataclass_fields__}


def price_steps(plan: Plan | None) -> tuple[int, ...]:
    """Return the input lengths above which some price that a report compares with has other rates."""
    if plan is None:
        return ()
    baselines = {plan.baseline, *(workload.baseline for workload in plan.workloads.values())}
    prices = [tier.loaded_price for tier in plan.tiers.values()]
    prices += [tier.price for name, tier in plan.tiers.items() if name in baselines]
    return tuple(sorted({step.above_input_tokens for price in prices if price is not None for step in price.steps}))


def compute_report(
    served: Sequence[Served],
    certificates: Sequence[CertificateRow] = (),
    *,
    plan: Plan | None = None,
    human_usd_per_hour: Decimal = Decimal(0),
    at: datetime | None = None,
) -> Report:
    """Return the report of a ledger's sums; `plan` gives floors, the baseline and fully loaded prices.

    The sums are those apart for the `price_steps` of that plan. The human minutes that outcomes state cost
    `human_usd_per_hour` in the cost per completed task. Certificates that ended before `at` are expired.
    """
    kept: dict[str, list[CertificateRow]] = {}
    for certificate in certificates:
        if certificate.workload is not None:
            kept.setdefault(certificate.workload, []).append(certificate)
    lines: dict[str, list[TierLine]] = {}
    for one in sorted(served, key=lambda one: (one.workload, _tier_name(one))):
        lines.setdefault(one.workload, []).append(_tier_line(one, plan, human_usd_per_hour))
    for name in sorted(kept):
        lines.setdefault(name, [])  # certified before it served anything
    made = tuple(
        WorkloadLine(
            workload=name,
            baseline=plan.find_baseline(name) if plan is not None else None,
            floor_fraction=plan.workloads[name].floor_fraction if plan and name in plan.workloads else None,
            tiers=tuple(tiers),
            certificate=_as_of(kept[name][0], at) if name in kept else None,
            certificates=tuple(_verdicts(kept.get(name, ()), at)),
        )
        for name, tiers in lines.items()
    )
    every = [line for workload in made for line in workload.tiers]
    cost, baseline = _total(line.cost_usd for line in every), _total(line.baseline_usd for line in every)
    return Report(
        since=min((one.first_started_at for one in served if one.first_started_at), default=None),
        until=max((one.last_started_at for one in served if one.last_started_at), default=None),
        baseline=plan.baseline if plan is not None else None,
        workloads=made,
        cost_usd=cost,
        baseline_usd=baseline,
        saved_usd=None if cost is None or baseline is None else baseline - cost,
        trials_usd=_total(line.trials_usd for line in every),
        unknown=(*_unknown(made), *_other_days(served, plan)),
    )


def _as_of(row: CertificateRow, at: datetime | None) -> Mapping[str, Any]:
    return {**row.certificate, "is_expired": at is not None and row.expires_at is not None and row.expires_at <= at}


def _verdicts(rows: Sequence[CertificateRow], at: datetime | None) -> list[Mapping[str, Any]]:
    """Return of each candidate and share the newest verdict that holds, or else the newest trial; newest first.

    `rows` are newest first. A trial that decides nothing takes nothing back, for `ownward plan` neither.
    """
    found: dict[tuple[Any, ...], tuple[int, Mapping[str, Any]]] = {}
    for row in rows:
        told = _as_of(row, at)
        claim = tuple(told.get(name) for name in ("baseline", "candidate", "rho", "confidence"))
        is_verdict = row.state != "not_certified" and not told["is_expired"]
        if claim not in found or (is_verdict and found[claim][1].get("state") == "not_certified"):
            found[claim] = row.certificate_id, told
    return [told for _, told in sorted(found.values(), key=lambda item: -item[0])]


def _tier_name(served: Served) -> str:
    return served.tier or _REFUSED


def _tier_line(served: Served, plan: Plan | None, human_usd_per_hour: Decimal) -> TierLine:
    stated = plan.tiers.get(_tier_name(served)) if plan is not None else None
    baseline = plan.tiers.get(plan.find_baseline(served.workload) or "") if plan is not None else None
    listed = None if baseline is None or baseline.price is None else baseline.price.for_traffic_of(_provider(stated))
    graded = served.graded
    completed = sum(task.is_completed for task in graded)
    return TierLine(
        tier=_tier_name(served),
        requests=served.requests,
        settled=served.settled,
        unsettled=served.unsettled,
        failed=served.failed,
        refused=served.refused,
        input_tokens=sum(used.input_tokens for used in served.settled_tokens),
        cached_input_tokens=sum(used.cached_input_tokens for used in served.settled_tokens),
        output_tokens=sum(used.output_tokens for used in served.settled_tokens),
        tasks=served.tasks,
        graded=len(graded),
        completed=completed,
        completion_fraction=completed / len(graded) if graded else None,
        cost_usd=_sum_usd(served.charge),
        cost_high_usd=_sum_usd(served.charge_high),
        loaded_usd=_priced(served.settled_tokens, stated.loaded_price if stated is not None else None),
        baseline_usd=_priced(served.first_tokens, listed),
        trials_usd=_sum_usd(served.of_trials),
        cpct=compute_cpct(
            [None if task.charge_picousd is None else picousd_to_usd(task.charge_picousd) for task in graded],
            [task.is_completed for task in graded],
            human_minutes=[task.human_minutes for task in graded],
            human_usd_per_hour=human_usd_per_hour,
        ),
        ttft_p50_s=served.ttft_p50_s,
        latency_p50_s=served.latency_p50_s,
        hedging=_hedging(served.hedging),
    )


def _provider(tier: Tier | None) -> str | None:
    return tier.price.provider if tier is not None and tier.kind == "rented" and tier.price is not None else None


def _hedging(said: ServedHedges) -> Hedging | None:
    if not said.hedges and not said.extra:
        return None
    return Hedging(
        hedges=said.hedges,
        won=said.won,
        extra_calls=said.extra,
        extra_low_usd=_sum_usd(said.extra_low),
        extra_high_usd=_sum_usd(said.extra_high),
    )


def _sum_usd(charges: ChargeSum) -> Decimal | None:
    return None if charges.unknown else picousd_to_usd(charges.known_picousd)


def _priced(used: Sequence[SettledTokens], price: Price | None) -> Decimal | None:
    if price is None:
        return None
    steps = {step.above_input_tokens for step in price.steps}
    assert steps <= {of_step.above_input_tokens for of_step in used}, "tokens of other steps than the price has"
    total = Decimal(0)
    for of_step in used:
        if of_step.calls:
            usage = Usage(
                input_tokens=of_step.input_tokens,
                output_tokens=of_step.output_tokens,
                cached_input_tokens=of_step.cached_input_tokens,
                cache_write_tokens=of_step.cache_write_tokens,
                cache_write_1h_tokens=of_step.cache_write_1h_tokens,
            )
            at = price.at_length(of_step.above_input_tokens + 1)
            total += at.compute_charge_usd(usage) + (of_step.calls - 1) * price.usd_per_request
    return total


def _total(values: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _unknown(workloads: Sequence[WorkloadLine]) -> Iterable[str]:
    for workload in workloads:
        for line in workload.tiers:
            place = f"{workload.workload} on {line.tier}"
            if line.settled and line.cost_usd is None:
                most = (
                    ""
                    if line.unsettled or line.cost_high_usd is None
                    else f"; at most {format_usd(line.cost_high_usd)}"
                )
                yield f"{place}: the cost, because a price is missing or calls are unsettled{most}"
            if line.unsettled:
                calls = format_counted(line.unsettled, "unsettled call")
                yield f"{place}: what {calls} cost; at most {format_usd(line.cost_high_usd)} in all"
            if line.graded < line.tasks and line.settled:
                yield f"{place}: the outcome of {line.tasks - line.graded:,} of {format_counted(line.tasks, 'task')}"
            if line.graded and (why := _why_unproven(workload, line.tier)) is not None:
                yield f"{place}: whether it completes what the baseline completes ({why})"


def _other_days(served: Sequence[Served], plan: Plan | None) -> Iterable[str]:
    """Yield where a baseline's price is not of all days compared: the gateway's charge is unknown then."""
    for one in served:
        baseline = plan.tiers.get(plan.find_baseline(one.workload) or "") if plan is not None else None
        if baseline is None or baseline.price is None or not any(used.calls for used in one.first_tokens):
            continue
        moments = [moment for moment in (one.first_started_at, one.last_started_at) if moment is not None]
        reasons = (baseline.price.why_not_on(moment.date()) for moment in moments)
        if why := next(filter(None, reasons), None):
            place = f"{one.workload} on {_tier_name(one)}"
            yield f"{place}: what {baseline.name} would have charged on other days than those of its price ({why})"


def _why_unproven(workload: WorkloadLine, tier: str) -> str | None:
    """Return why nothing is known of a tier beside the baseline; None where there is a verdict, and for itself."""
    kept = [one for one in workload.certificates if one.get("candidate") == tier]
    if tier in {workload.baseline, _REFUSED} or any(one.get("baseline") == tier for one in workload.certificates):
        return None
    if not kept:
        return "no certificate: run ownward trial"
    if all(one["is_expired"] for one in kept):
        return "its certificate has expired: run ownward trial again"
    if all(one["is_expired"] or one.get("state") == "not_certified" for one in kept):
        return "no trial has decided it: more tasks may"
    return None


def _certificate_texts(workload: WorkloadLine) -> Iterable[str]:
    """Return what was found of each candidate of a workload, a line each, the newest first."""
    for kept in workload.certificates:
        expires_at, tasks = kept.get("expires_at"), format_counted(kept.get("tasks", 0), "task")
        ends = f", {'expired' if kept['is_expired'] else 'until'} {str(expires_at)[:10]}" if expires_at else ""
        yield (
            f"{workload.workload}: {kept.get('candidate')} instead of {kept.get('baseline')}: {kept.get('state')}"
            f" (rho {kept.get('rho')}, confidence {kept.get('confidence')}, {tasks}{ends})"
        )


def _hedging_text(workload: WorkloadLine, line: TierLine) -> str | None:
    """Return what second calls came to on a tier as one line; None where there were none."""
    said = line.hedging
    if said is None:
        return None
    low, high = format_usd(said.extra_low_usd, digits=2), format_usd(said.extra_high_usd, digits=2)
    return (
        f"  {workload.workload} on {line.tier}: {said.hedges} sent, {said.won} answered first;"
        f" {format_counted(said.extra_calls, 'extra call')} cost {low if low == high else f'{low} to {high}'}"
    )


def render_report(report: Report) -> Group:
    """Return the report as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    certified = [text for workload in report.workloads for text in _certificate_texts(workload)]
    certificates = Text("\ncertificates:\n" + "\n".join(f"  {text}" for text in certified))
    if not any(workload.tiers for workload in report.workloads):
        nothing = Text(
            "nothing has been served yet: this reports on requests through ownward serve; what was imported is"
            " compared by ownward plan"
        )
        return Group(nothing, certificates) if certified else Group(nothing)
    table = Table(box=None, title="What was served, and what came of it", title_justify="left", title_style="bold")
    for heading, justify in (
        ("workload", "left"), ("tier", "left"), ("tasks", "right"), ("completed", "right"), ("first\ntoken", "right"),
        ("cost", "right"), ("per completed\ntask", "right"), ("loaded", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=justify == "right")  # type: ignore[arg-type]
    for workload in report.workloads:
        for line in workload.tiers:
            share = (
                f"{line.completed}/{line.graded} ({format_percent(line.completion_fraction)})" if line.graded else "?"
            )
            table.add_row(
                workload.workload,
                line.tier,
                f"{line.tasks:,}",
                share,
                format_duration(line.ttft_p50_s),
                format_usd(line.cost_usd, digits=2),
                format_usd(line.cpct.usd, digits=2),
                format_usd(line.loaded_usd, digits=2),
            )
    parts: list[Any] = [Fitted(table, folds={1: 12}, leaves_out=(4, 7, 2))]
    hedged = [
        text for workload in report.workloads for line in workload.tiers if (text := _hedging_text(workload, line))
    ]
    if hedged:
        parts.append(Text("\nsecond calls beside late ones (part of the cost above):\n" + "\n".join(hedged)))
    if certified:
        parts.append(certificates)
    if report.baselines:
        tried = f", {format_usd(report.trials_usd)} of it for trials" if report.trials_usd != 0 else ""
        parts.append(
            Text(
                f"\ncost: {format_usd(report.cost_usd)}{tried}; the same requests at {', '.join(report.baselines)}:"
                f" {format_usd(report.baseline_usd)}; difference: {format_usd(report.saved_usd)}"
                " (owned tiers charge energy only; it says nothing about quality)"
            )
        )
    if report.unknown:
        parts.append(Text("\nnot known:\n" + "\n".join(f"  {line}" for line in report.unknown)))
    return Group(*parts)
