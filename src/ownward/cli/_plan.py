"""`ownward plan`: from the ledger to options, a choice and plan.toml."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ownward.cli._assumptions import assumptions_from
from ownward.cli._candidates import owned_candidate, rented_candidate, trace_of
from ownward.cli._context import load_settings, open_ledger
from ownward.cli._numbers import ABOVE_ZERO, FROM_ZERO, SHARE, Finite
from ownward.cli._output import (
    at_option,
    emit,
    example,
    json_option,
    ledger_option,
    open_input,
    say,
    today,
    writable_file,
)
from ownward.cli._plans import read_previous, replace_plan
from ownward.core import (
    BadInput,
    MissingPrice,
    Sourced,
    UsageError,
    format_counted,
    format_duration,
    format_percent,
    format_usd,
    to_jsonable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ownward.ledger import CertificateRow, Ledger, LogRow, TrafficColumns
    from ownward.planner import Choice, Comparison, Decision, Evidence, Option, RentedCandidate, WorkloadToPlan
    from ownward.pricing import Price
    from ownward.simulation import Slo
    from ownward.traffic import Trace

_SMALLEST_WORKLOAD = 2
_NAMED = 3
_A_MONTH = timedelta(days=30)
_SAME_BILL = Decimal("0.05")  # bills round, and differ by fees
_LONG_S = 14 * 86_400.0  # of traffic as long, both halves have each day of the week
_STEADY = 0.1  # so far from half of the requests, half of the time may have
_SIZED = ("replicas", "scheduler", "utilisation_fraction", "ttft_p95_s", "tpot_p95_s")
_SHORT_S = 600.0  # of less than this, a month is made with a word


@click.command(epilog=example("ownward plan --rent gpt-5-mini --own 'qwen3-30b-a3b:q4_k_m@RTX 5090' --out plan.toml"))
@ledger_option
@click.option(
    "--rent",
    "rents",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="An API to compare; the baseline is the one that the log names, else the first.",
)
@click.option("--own", "owns", multiple=True, metavar="[NAME=]MODEL[:WEIGHTS]@MACHINE", help="A deployment to compare.")
@click.option(
    "--options", "options_file", default=None, metavar="O.jsonl", help="Choose among explicit options instead."
)
@click.option("--workload", "wanted", multiple=True, help="Plan these workloads; all with traffic unless given.")
@click.option(
    "--baseline", default=None, metavar="TIER", help="Where all traffic is served today, whatever its log names."
)
@click.option("--label", default=None, help="Where the data may travel; to the baseline's provider unless given.")
@click.option(
    "--floor", type=SHARE, default=None, help="Share of the baseline's completions that must be kept, such as 0.98."
)
@click.option("--confidence", type=SHARE, default=0.95, show_default=True, help="How certain that floor must be.")
@click.option(
    "--slo-ttft",
    type=ABOVE_ZERO,
    default=3.0,
    show_default=True,
    help="Seconds to the first token, in 95% of requests.",
)
@click.option(
    "--slo-tpot", type=ABOVE_ZERO, default=0.1, show_default=True, help="Seconds for each token after it, in the same."
)
@click.option(
    "--hours-per-month",
    type=Finite(min=0, min_open=True, max=744),
    default=730.0,
    show_default=True,
    help="Hours a month in which traffic runs like this.",
)
@click.option("--usd-per-kwh", type=FROM_ZERO, default=None, help="Electricity. [settings]")
@click.option("--people-hours", type=FROM_ZERO, default=None, help="Hours a month people spend on it. [settings]")
@click.option("--what-if", is_flag=True, help="Assume that unmeasured tiers are as good as the baseline, and say so.")
@click.option(
    "--out",
    default=None,
    metavar="plan.toml",
    callback=writable_file,
    help="Write the plan here; comments of an existing one are kept.",
)
@at_option
@json_option
def plan(*, ledger_target: str | None, options_file: str | None, out: str | None, as_json: bool, **asked: Any) -> None:
    """Compare owning and renting for each workload of the ledger, choose, and write the plan.

    Without --rent and --own, what is compared are the APIs that the log names. A tier that nobody has measured on a
    workload is shown with its cost, but is not chosen: run a trial, or ask --what-if.
    """
    from ownward import plan as plan_room
    from ownward.reports import render_comparisons

    if options_file is not None:
        _refuse_unused(out=out, **asked)
        choice, options = _choose_explicit(options_file, baseline=asked["baseline"], floor=asked["floor"])
        emit(_payload(options, choice), as_json=as_json, render=_render_choice)
        return
    previous = None if out is None else read_previous(Path(out))
    with open_ledger(ledger_target, is_read_only=True) as opened:
        decision = _decide(opened, asked)
    text = plan_room.dumps(decision.plan, previous_text=previous)
    payload = {
        **_payload(decision.options, decision.choice),
        "workloads": [
            to_jsonable(item.own_vs_rent) | {"workload": item.workload, "sizings": _sizings(item)}
            for item in decision.comparisons
        ],
        "plan_sha256": decision.plan.sha256,
        "plan_toml": text,
    }
    for gap in decision.plan.gaps():
        if gap.where.endswith(".label"):
            say(f"{gap.where}: {gap.message}; state where it may with --label")
    if out is not None:
        replace_plan(Path(out), text, previous=previous or "")
    emit(payload, as_json=as_json, render=lambda _: render_comparisons(decision.comparisons, decision.choice))


def _decide(opened: Ledger, asked: dict[str, Any]) -> Decision:
    from ownward.planner import make_plan

    at = _moment(asked["at"])
    rented = [rented_candidate(text, at=at) for text in asked["rents"]]
    owned = [owned_candidate(text) for text in asked["owns"]]
    _require_traffic(opened, asked["wanted"])
    if not rented and not owned:
        rented = _named_by_the_log(opened, asked["wanted"], at=at)
    for item in rented:
        if (ends := item.price.valid_to) is not None and ends < at.date() + _A_MONTH:
            say(f"{item.tier}: its price ends before {ends}, but is used here for a whole month")
    baseline = asked["baseline"] or (rented[0].tier if rented else owned[0].tier)
    return make_plan(
        list(_workloads(opened, asked, baseline=baseline, rented=rented, at=at)),
        owned=owned,
        rented=rented,
        assumptions=assumptions_from(
            load_settings(),
            at=at.date(),
            usd_per_kwh=asked["usd_per_kwh"],
            people_hours_per_month=asked["people_hours"],
        ),
        name="plan",
        at=at,
        hours_per_month=Sourced(
            value=asked["hours_per_month"], basis="assumed", source="--hours-per-month", checked_on=at.date()
        ),
        assumes_equal_quality=asked["what_if"],
    )


def _require_traffic(opened: Ledger, wanted: Sequence[str]) -> None:
    """Refuse a ledger that has nothing to be planned.

    Raises: BadInput.
    """
    known = sorted(item.workload for item in opened.query_workloads())
    if not known:
        raise BadInput(
            "the ledger has no requests to plan",
            where=opened.name,
            next_step="Read a log into it with: ownward import FILE --ledger LEDGER. Or send it through ownward serve",
        )
    for name in wanted:
        if name not in known:
            raise BadInput(f"the ledger has no workload {name!r}", allowed=f"It has {', '.join(known)}")


def _named_by_the_log(opened: Ledger, wanted: Sequence[str], *, at: datetime) -> list[RentedCandidate]:
    """Return the APIs that answered the traffic, by its log, the most used first: what it costs today.

    Raises: UsageError, if the log names none whose price is known.
    """
    counts = Counter[str]()
    for name in wanted or (None,):
        models = opened.query_traffic(name).model
        counts.update({models.names[code]: count for code, count in Counter(models.codes).items() if code >= 0})
    found: dict[str, RentedCandidate] = {}
    for model, _ in counts.most_common():
        with contextlib.suppress(MissingPrice):
            candidate = rented_candidate(model, at=at)
            found.setdefault(candidate.tier, candidate)
    if not found:
        raise UsageError(
            "nothing to compare: the log names no API whose price is known",
            allowed="Name APIs with --rent MODEL, machines with --own MODEL@MACHINE, or give --options",
            next_step="For example: ownward plan --rent gpt-5-mini --own 'qwen3-30b-a3b:q4_k_m@RTX 5090'",
        )
    say(f"compared: {_listed(list(found))}, as the log names; name other APIs with --rent, machines with --own")
    return list(found.values())


def _workloads(
    opened: Ledger, asked: dict[str, Any], *, baseline: str, rented: list[Any], at: datetime
) -> Iterator[WorkloadToPlan]:
    from ownward.planner import WorkloadToPlan
    from ownward.policy import Label
    from ownward.simulation import Slo

    known = {item.workload: item.details for item in opened.query_workloads()}
    logs = opened.query_logs()
    fingerprints = {name: tuple(details.get("fingerprints", ())) for name, details in known.items()}
    wanted = asked["wanted"] or sorted(known)
    if estimated := [name for name in wanted if known[name].get("has_estimated_tokens")]:
        say(f"{_listed(estimated)}: tokens of some requests are estimated, as their log does not tell them")
    unsettled = {row.group["workload"]: row.spend.unsettled_attempts for row in opened.query_spend(by=("workload",))}
    prices = {item.tier: item.price for item in rented}
    left_out = []
    slo: Slo = Slo(ttft_s=asked["slo_ttft"], tpot_s=asked["slo_tpot"], fraction=0.95)
    for name in wanted:
        columns = opened.query_traffic(name)
        trace = trace_of(columns)
        duration_s = trace.compute_summary().duration_s if len(trace) >= _SMALLEST_WORKLOAD else None
        if not duration_s:
            say(f"left out: workload {name!r} has too little traffic with times to be scaled to a month")
            left_out.append(name)
            continue
        observed_s = max(duration_s, _log_goes_on_s(columns, logs.get(name)))
        if calls := unsettled.get(name):
            told = format_counted(calls, "unsettled call")
            say(f"{name}: what {told} used is not known, and is in no month")
        _say_what_a_month_is_made_of(name, trace, observed_s, hours=asked["hours_per_month"])
        held_against = baseline
        if asked["baseline"] is None:
            held_against = _trials_baseline(opened, name, prices) or _answered_most(trace, prices) or baseline
        price = prices.get(held_against)
        if held_against != baseline:
            say(f"{name}: compared with {held_against}, and not with {baseline}, as its log or its trials name that")
        if price is not None and (others := _other_models(trace, price.model)):
            say(f"{name}: {others}, and is counted as if {price.model} did: the baseline is not what you pay today")
        if price is not None:
            _say_what_was_charged(name, trace, price, columns.charge_usd)
        yield WorkloadToPlan(
            name=name,
            trace=trace,
            observed_s=observed_s,
            baseline=held_against,
            label=Label.parse(asked["label"] or (f"provider:{price.provider}" if price else "local_only")),
            is_label_stated=asked["label"] is not None,
            slo=slo,
            floor_fraction=asked["floor"],
            confidence_fraction=asked["confidence"] if asked["floor"] is not None else None,
            fingerprints=fingerprints.get(name, ()),
            evidence=evidence_of(
                opened, name, baseline=held_against, floor=asked["floor"], confidence=asked["confidence"], at=at
            ),
        )

    if left_out and len(left_out) == len(wanted):
        raise BadInput(
            f"too little traffic with times to be scaled to a month: {', '.join(left_out)}",
            allowed="Two requests at different times",
        )


def _log_goes_on_s(columns: TrafficColumns, log: LogRow | None) -> float:
    """Return how long a workload's log goes on from its first request; 0 where that is not known."""
    if log is not None and log.ends_at is not None and columns.first_arrival_at is not None:
        return (log.ends_at - columns.first_arrival_at).total_seconds()
    return 0.0 if log is None or log.ends_s is None else log.ends_s - columns.arrival_s[0]


def _say_what_a_month_is_made_of(name: str, trace: Trace, observed_s: float, *, hours: float) -> None:
    """Say where little traffic stands for a month, where it stops long before its log does, and where it changes."""
    duration_s = float(trace.arrival_s[-1] - trace.arrival_s[0])
    later = float((trace.arrival_s >= observed_s / 2).mean())
    if observed_s < _SHORT_S:
        say(f"{name}: {format_duration(observed_s)} of traffic stand for {hours:g} hours a month")
    elif duration_s < observed_s / 2:
        say(
            f"{name}: {format_duration(duration_s)} of traffic, and then none until its log ends; all"
            f" {format_duration(observed_s)} since its first request stand for {hours:g} hours a month"
        )
    elif observed_s >= _LONG_S and abs(later - 0.5) > _STEADY:
        say(
            f"{name}: {format_percent(later)} of its requests came in the second half of {format_duration(observed_s)};"
            " a month is computed from the mean, not from its present rate"
        )


def _say_what_was_charged(name: str, trace: Trace, price: Price, charge_usd: Decimal | None) -> None:
    """Say where the ledger's own charges are not what its requests come to at the baseline's price."""
    from ownward.economics import compute_trace_charge_usd

    listed_usd = compute_trace_charge_usd(trace, price)
    if charge_usd and abs(charge_usd - listed_usd) > _SAME_BILL * listed_usd:
        say(
            f"{name}: {format_usd(charge_usd)} were charged for what comes to"
            f" {format_usd(listed_usd)} at the price of {price.model}: the baseline is not what you pay today"
        )


def _trials_baseline(opened: Ledger, workload: str, prices: Mapping[str, Price]) -> str | None:
    """Return the tier that the newest trial of a workload compared with; None where it is no candidate."""
    named = (str(row.certificate.get("baseline")) for row in opened.query_certificates(workload))
    return next((tier for tier in named if tier in prices), None)


def _answered_most(trace: Trace, prices: Mapping[str, Price]) -> str | None:
    """Return the tier whose model answered more than half of a workload, by the log; None where there is none."""
    for tier, price in prices.items():
        own = _names_of(price.model)
        codes = [code for code, name in enumerate(trace.model_names) if own.fullmatch(name)]
        if 2 * sum(int((trace.model == code).sum()) for code in codes) > len(trace):
            return tier
    return None


def _names_of(model: str) -> re.Pattern[str]:
    """Return what logs call a model: its name, also with a provider before it and a date behind."""
    return re.compile(rf"(?:.*/)?{re.escape(model)}(?:[-@:]?(?:\d{{4,}}[\d-]*|latest))?", re.IGNORECASE)


def _other_models(trace: Trace, model: str) -> str | None:
    """Return what share of a workload other models answered, by the log; None where it names none."""
    own = _names_of(model)
    counts = {
        name: count
        for code, name in enumerate(trace.model_names)
        if not own.fullmatch(name) and (count := int((trace.model == code).sum()))
    }
    if not counts:
        return None
    most = sorted(counts, key=lambda name: -counts[name])
    return f"{format_percent(sum(counts.values()) / len(trace))} was answered by {_listed(most)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def evidence_of(
    opened: Ledger, workload: str, *, baseline: str, floor: float | None, confidence: float, at: datetime
) -> tuple[Evidence, ...]:
    """Return what each tier has been seen to complete of a workload, from outcomes and certificates."""
    from ownward.planner import Evidence

    tiers: dict[str, str] = {}
    for attempt in opened.query_requests(workload=workload):
        if attempt.tier is not None and attempt.state == "settled":
            tiers[attempt.task_id] = attempt.tier
    counts: dict[str, list[int]] = {}
    for task in opened.query_tasks(workload=workload):
        if task.outcome is not None and task.task_id in tiers:
            count = counts.setdefault(tiers[task.task_id], [0, 0])
            count[0] += 1
            count[1] += task.outcome.completed
    rows = [row for row in opened.query_certificates(workload) if row.certificate.get("baseline") == baseline]
    by_candidate: dict[str, list[CertificateRow]] = {}
    for row in rows:
        by_candidate.setdefault(str(row.certificate.get("candidate")), []).append(row)
    found = []
    for tier in sorted({*counts, *by_candidate}):
        trials = by_candidate.get(tier, [])
        tasks, completed = counts.get(tier) or _counts_of(trials[0])
        found.append(
            Evidence(
                tier=tier,
                tasks=tasks,
                completed=completed,
                is_certified=_holds(trials, floor=floor, confidence=confidence, at=at),
                source="ledger outcomes" if tier in counts else "certificate",
            )
        )
    return tuple(found)


def _counts_of(row: CertificateRow) -> list[int]:
    tasks = int(row.certificate["tasks"])
    return [tasks, round(tasks * (row.certificate["candidate_completion_fraction"] or 0.0))]


def _holds(trials: Sequence[CertificateRow], *, floor: float | None, confidence: float, at: datetime) -> bool:
    """Return whether one of `trials`, the newest first, certifies what is asked, and none since has refuted it.

    Without a floor any certificate does; what is refuted at a share is refuted at every higher one.
    """
    refuted_at = math.inf
    for row in trials:
        rho = float(row.certificate["rho"])
        if row.state == "refuted":
            refuted_at = min(refuted_at, rho)
            continue
        is_enough = floor is None or (rho >= floor and float(row.certificate["confidence"]) >= confidence)
        is_valid = row.state == "certified" and (row.expires_at is None or row.expires_at > at)
        if is_enough and is_valid and rho < refuted_at:
            return True
    return False


def _refuse_unused(**asked: Any) -> None:
    """Refuse what --options has no use for: the options state it themselves."""
    flags = {"rents": "--rent", "owns": "--own", "wanted": "--workload", "label": "--label", "what_if": "--what-if"}
    unused = [flag for name, flag in {**flags, "out": "--out"}.items() if asked[name]]
    if unused:
        raise UsageError(
            f"{', '.join(unused)} beside --options", allowed="--options O.jsonl, with --baseline and --floor if wanted"
        )


def _choose_explicit(options_file: str, *, baseline: str | None, floor: float | None) -> tuple[Choice, list[Option]]:
    from ownward.planner import choose, held_to, options_from

    rows = []
    with open_input(options_file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_float=Decimal)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"not JSON: {error}", where=f"{options_file}:{number}") from error
            if not isinstance(row, dict):
                raise BadInput("an option is an object", where=f"{options_file}:{number}")
            rows.append((number, row))
    if not rows:
        raise BadInput("no options", where=options_file, allowed="workload, strategy, tier, cost_usd a row")
    options = held_to(options_from(rows, name=options_file), baseline=baseline, floor_fraction=floor)
    return choose(options), options


def _payload(options: Any, choice: Choice) -> dict[str, Any]:
    return {
        "schema": "ownward.plan/1",
        "options": [_option_row(option) for option in options],
        "chosen": [_option_row(option) for option in choice.chosen],
        "baseline_usd": to_jsonable(choice.baseline_usd),
        "plan_usd": to_jsonable(choice.plan_usd),
        "fleet": dict(choice.fleet),
        "why": list(choice.why),
        "is_proven_cheapest": choice.is_proven,
    }


def _sizings(comparison: Comparison) -> dict[str, Any]:
    return {tier: {key: to_jsonable(getattr(one, key)) for key in _SIZED} for tier, one in comparison.sizings.items()}


def _option_row(option: Option) -> dict[str, Any]:
    share = option.shared
    return {
        **to_jsonable(option.details),
        "workload": option.workload,
        "strategy": option.strategy,
        "tier": option.tier,
        "cost_usd": to_jsonable(option.cost_usd),
        "completion": option.completion,
        "feasible": option.feasible,
        "binding_constraint": option.binding_constraint,
        "is_baseline": option.is_baseline,
        "shared": None if share is None else to_jsonable(share),
    }


def _moment(at: Any) -> datetime:
    return datetime.now(UTC) if at is None else datetime.combine(today(at), time(12), tzinfo=UTC)


def _render_choice(payload: dict[str, Any]) -> str:
    plan_usd, baseline_usd = (
        format_usd(None if payload[key] is None else Decimal(payload[key])) for key in ("plan_usd", "baseline_usd")
    )
    lines = [*payload["why"], f"plan: {plan_usd}, baseline: {baseline_usd}"]
    lines += [f"buy {count} x {name}" for name, count in payload["fleet"].items()]
    return "\n".join(lines)
