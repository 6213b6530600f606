"""The report: per workload and tier what was asked, what was completed, what it cost, and what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ownward.core import format_duration, format_percent, format_usd
from ownward.economics import Cpct, compute_cpct
from ownward.ledger import AttemptRow, CertificateRow, TaskRow
from ownward.plan import Plan
from ownward.pricing import Usage

if TYPE_CHECKING:
    from rich.console import Group

SCHEMA = "ownward.report/1"
# The states of an attempt that certainly charged nothing.
_UNCHARGED = frozenset({"failed", "refused"})


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
    `baseline_usd` what the plan's baseline would have charged for them: None where there is no such price.
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
    cpct: Cpct
    ttft_p50_s: float | None
    latency_p50_s: float | None
    hedging: Hedging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadLine:
    """A workload's tiers, its newest certificate and its floor."""

    workload: str
    floor_fraction: float | None
    tiers: tuple[TierLine, ...]
    certificate: Mapping[str, Any] | None


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
    unknown: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the object of `ownward.report/1`."""
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in self.__dataclass_fields__}


def compute_report(
    attempts: Iterable[AttemptRow],
    tasks: Iterable[TaskRow],
    certificates: Sequence[CertificateRow] = (),
    *,
    plan: Plan | None = None,
    human_usd_per_hour: Decimal = Decimal(0),
) -> Report:
    """Return the report of ledger rows; `plan` gives floors, the baseline and fully loaded prices.

    The human minutes that outcomes state cost `human_usd_per_hour` in the cost per completed task.
    """
    rows = list(attempts)
    by_task = {task.task_id: task for task in tasks}
    groups: dict[tuple[str, str], list[AttemptRow]] = {}
    for row in rows:
        groups.setdefault((row.workload, row.tier or "(refused)"), []).append(row)
    newest: dict[str | None, CertificateRow] = {}
    for certificate in certificates:
        newest.setdefault(certificate.workload, certificate)
    lines: dict[str, list[TierLine]] = {}
    for (workload, tier), members in sorted(groups.items()):
        lines.setdefault(workload, []).append(_tier_line(tier, members, by_task, plan, human_usd_per_hour))
    made = tuple(
        WorkloadLine(
            workload=name,
            floor_fraction=plan.workloads[name].floor_fraction if plan and name in plan.workloads else None,
            tiers=tuple(tiers),
            certificate=newest[name].certificate if name in newest else None,
        )
        for name, tiers in lines.items()
    )
    every = [line for workload in made for line in workload.tiers]
    cost, baseline = _total(line.cost_usd for line in every), _total(line.baseline_usd for line in every)
    starts = [row.started_at for row in rows]
    return Report(
        since=min(starts, default=None),
        until=max(starts, default=None),
        baseline=plan.baseline if plan is not None else None,
        workloads=made,
        cost_usd=cost,
        baseline_usd=baseline,
        saved_usd=None if cost is None or baseline is None else baseline - cost,
        unknown=tuple(_unknown(made)),
    )


def _tier_line(
    tier: str, rows: list[AttemptRow], tasks: Mapping[str, TaskRow], plan: Plan | None, human_usd_per_hour: Decimal
) -> TierLine:
    settled = [row for row in rows if row.state == "settled"]
    mine = list(dict.fromkeys(row.task_id for row in rows))
    graded = [task for name in mine if (task := tasks.get(name)) is not None and task.outcome is not None]
    completed = sum(1 for task in graded if task.outcome is not None and task.outcome.completed)
    charges = [Decimal(0) if row.state in _UNCHARGED else row.charge_usd for row in rows]
    graded_ids = {task.task_id for task in graded}
    per_task: dict[str, Decimal | None] = dict.fromkeys(graded_ids, Decimal(0))
    for row, charge in zip(rows, charges, strict=True):
        if row.task_id in per_task:
            so_far = per_task[row.task_id]
            per_task[row.task_id] = None if so_far is None or charge is None else so_far + charge
    stated = plan.tiers.get(tier) if plan is not None else None
    baseline = plan.tiers.get(plan.baseline) if plan is not None and plan.baseline is not None else None
    return TierLine(
        tier=tier,
        requests=len({row.request_id for row in rows}),
        settled=len(settled),
        unsettled=sum(row.state in {"unsettled", "intent"} for row in rows),
        failed=sum(row.state == "failed" for row in rows),
        refused=sum(row.state == "refused" for row in rows),
        input_tokens=sum(row.input_tokens or 0 for row in settled),
        cached_input_tokens=sum(row.cached_input_tokens or 0 for row in settled),
        output_tokens=sum(row.output_tokens or 0 for row in settled),
        tasks=len(mine),
        graded=len(graded),
        completed=completed,
        completion_fraction=completed / len(graded) if graded else None,
        cost_usd=_total(charges),
        cost_high_usd=_total(map(_high, rows)),
        loaded_usd=_priced(settled, stated.loaded_price if stated is not None else None),
        baseline_usd=_priced(settled, baseline.price if baseline is not None else None),
        cpct=compute_cpct(
            [per_task[task.task_id] for task in graded],
            [bool(task.outcome and task.outcome.completed) for task in graded],
            human_minutes=[task.outcome.human_minutes if task.outcome else None for task in graded],
            human_usd_per_hour=human_usd_per_hour,
        ),
        ttft_p50_s=_median([row.ttft_s for row in settled]),
        latency_p50_s=_median([row.latency_s for row in settled]),
        hedging=_hedging(rows),
    )


def _hedging(rows: list[AttemptRow]) -> Hedging | None:
    hedges = [row for row in rows if row.is_hedge]
    extra = [row for row in rows if row.is_beaten or (row.is_hedge and row.state != "settled")]
    if not hedges and not extra:
        return None
    return Hedging(
        hedges=len(hedges),
        won=sum(row.state == "settled" and not row.is_beaten for row in hedges),
        extra_calls=len(extra),
        extra_low_usd=_total(map(_low, extra)),
        extra_high_usd=_total(map(_high, extra)),
    )


def _low(row: AttemptRow) -> Decimal | None:
    from ownward.core import picousd_to_usd

    if row.state in _UNCHARGED:
        return Decimal(0)
    return row.charge_usd if row.charge_low_picousd is None else picousd_to_usd(row.charge_low_picousd)


def _high(row: AttemptRow) -> Decimal | None:
    from ownward.core import picousd_to_usd

    if row.state in _UNCHARGED:
        return Decimal(0)
    return row.charge_usd if row.charge_high_picousd is None else picousd_to_usd(row.charge_high_picousd)


def _priced(rows: list[AttemptRow], price: Any) -> Decimal | None:
    if price is None:
        return None
    return sum(
        (
            price.compute_charge_usd(
                Usage(
                    input_tokens=row.input_tokens or 0,
                    output_tokens=row.output_tokens or 0,
                    cached_input_tokens=row.cached_input_tokens or 0,
                    cache_write_tokens=row.cache_write_tokens or 0,
                )
            )
            for row in rows
        ),
        Decimal(0),
    )


def _total(values: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _median(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


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
                yield f"{place}: the cost, for want of a price or because calls are unsettled{most}"
            if line.unsettled:
                yield f"{place}: {line.unsettled} calls are unsettled; at most {format_usd(line.cost_high_usd)}"
            if line.graded < line.tasks and line.settled:
                yield f"{place}: the outcome of {line.tasks - line.graded} of {line.tasks} tasks"
            if line.graded and workload.certificate is None:
                yield f"{place}: whether it completes what the baseline completes (no certificate: run ownward trial)"


def _certificate_text(workload: WorkloadLine) -> str | None:
    """Return a workload's newest certificate as one line."""
    kept = workload.certificate
    if kept is None:
        return None
    expires_at = kept.get("expires_at")
    return (
        f"{workload.workload}: {kept.get('candidate')} instead of {kept.get('baseline')}: {kept.get('state')}"
        f" (rho {kept.get('rho')}, confidence {kept.get('confidence')}, {kept.get('tasks')} tasks"
        + (f", until {str(expires_at)[:10]})" if expires_at else ")")
    )


def _hedging_text(workload: WorkloadLine, line: TierLine) -> str | None:
    """Return what second calls came to on a tier as one line; None where there were none."""
    said = line.hedging
    if said is None:
        return None
    low, high = format_usd(said.extra_low_usd, digits=2), format_usd(said.extra_high_usd, digits=2)
    return (
        f"  {workload.workload} on {line.tier}: {said.hedges} sent, {said.won} answered first;"
        f" {said.extra_calls} calls were extra and cost {low if low == high else f'{low} to {high}'}"
    )


def render_report(report: Report) -> Group:
    """Return the report as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not report.workloads:
        return Group(Text("nothing was served yet: requests through ownward serve are what this reports on"))
    table = Table(box=None, title="What was served, and what came of it", title_justify="left", title_style="bold")
    for heading, justify in (
        ("workload", "left"), ("tier", "left"), ("tasks", "right"), ("completed", "right"), ("first\ntoken", "right"),
        ("cost", "right"), ("per completed\ntask", "right"), ("loaded", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
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
    parts: list[Any] = [table]
    hedged = [
        text for workload in report.workloads for line in workload.tiers if (text := _hedging_text(workload, line))
    ]
    if hedged:
        parts.append(Text("\nsecond calls beside late ones (part of the cost above):\n" + "\n".join(hedged)))
    certified = [text for text in map(_certificate_text, report.workloads) if text is not None]
    if certified:
        parts.append(Text("\ncertificates:\n" + "\n".join(f"  {text}" for text in certified)))
    if report.baseline is not None:
        parts.append(
            Text(
                f"\nthe same tokens at {report.baseline}: {format_usd(report.baseline_usd)};"
                f" difference: {format_usd(report.saved_usd)}"
                " (owned tiers charge energy only; it says nothing of quality)"
            )
        )
    if report.unknown:
        parts.append(Text("\nnot known:\n" + "\n".join(f"  {line}" for line in report.unknown)))
    return Group(*parts)
