"""What a ledger sums up in its database, added up here from its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ownward.ledger import (
    AttemptRow,
    ChargeSum,
    GradedTask,
    Served,
    ServedHedges,
    SettledTokens,
    TaskRow,
    is_of_trial,
)

UNCHARGED = {"failed", "refused"}


def summed_up(attempts: Iterable[AttemptRow], tasks: Iterable[TaskRow] = (), steps: Sequence[int] = ()) -> list[Served]:
    """Return what `query_served` does of these rows; the graded tasks of each place in one order."""
    by_task = {task.task_id: task for task in tasks}
    places: dict[tuple[str, str | None], list[AttemptRow]] = {}
    attempts = list(attempts)
    first: dict[str, int] = {}
    for row in attempts:
        if row.state == "settled":
            first[row.request_id] = min(row.attempt, first.get(row.request_id, row.attempt))
        places.setdefault((row.workload, row.tier), []).append(row)
    ordered = sorted(places.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return [_served(place, rows, by_task, steps, first) for place, rows in ordered]


def in_one_order(graded: Iterable[GradedTask]) -> list[GradedTask]:
    return sorted(graded, key=repr)


def _served(
    place: tuple[str, str | None],
    rows: list[AttemptRow],
    tasks: dict[str, TaskRow],
    steps: Sequence[int],
    first: dict[str, int],
) -> Served:
    settled = [row for row in rows if row.state == "settled"]
    firsts = [row for row in settled if row.attempt == first[row.request_id] and not is_of_trial(row.task_id)]
    ids = {row.task_id for row in rows}
    graded = []
    for task in (tasks[name] for name in ids if name in tasks):
        if task.outcome is not None:
            cost = _sum(_charge(row, "charge_picousd") for row in rows if row.task_id == task.task_id)
            graded.append(
                GradedTask(
                    charge_picousd=None if cost.unknown else cost.known_picousd,
                    is_completed=task.outcome.completed,
                    human_minutes=task.outcome.human_minutes,
                )
            )
    hedges = [row for row in rows if row.is_hedge]
    extra = [row for row in rows if row.is_beaten or (row.is_hedge and row.state != "settled")]
    return Served(
        workload=place[0],
        tier=place[1],
        settled_tokens=_by_step(settled, steps),
        first_tokens=_by_step(firsts, steps),
        requests=len({row.request_id for row in rows}),
        settled=len(settled),
        unsettled=sum(row.state in {"intent", "unsettled"} for row in rows),
        failed=sum(row.state == "failed" for row in rows),
        refused=sum(row.state == "refused" for row in rows),
        tasks=len(ids),
        charge=_sum(_charge(row, "charge_picousd") for row in rows),
        of_trials=_sum(_charge(row, "charge_picousd") for row in rows if is_of_trial(row.task_id)),
        charge_high=_sum(_charge(row, "charge_high_picousd") for row in rows),
        ttft_p50_s=_median([row.ttft_s for row in settled]),
        latency_p50_s=_median([row.latency_s for row in settled]),
        first_started_at=min(row.started_at for row in rows),
        last_started_at=max(row.started_at for row in rows),
        graded=in_one_order(graded),
        hedging=ServedHedges(
            hedges=len(hedges),
            won=sum(row.state == "settled" and not row.is_beaten for row in hedges),
            extra=len(extra),
            extra_low=_sum(_charge(row, "charge_low_picousd") for row in extra),
            extra_high=_sum(_charge(row, "charge_high_picousd") for row in extra),
        ),
    )


def _charge(row: AttemptRow, which: str) -> int | None:
    if row.state in UNCHARGED:
        return 0
    bound: int | None = getattr(row, which)
    return row.charge_picousd if bound is None else bound


def _sum(charges: Iterable[int | None]) -> ChargeSum:
    listed = list(charges)
    return ChargeSum(known_picousd=sum(one or 0 for one in listed), unknown=sum(one is None for one in listed))


def _by_step(rows: list[AttemptRow], steps: Sequence[int]) -> tuple[SettledTokens, ...]:
    return tuple(
        _tokens(above, [row for row in rows if (above or -1) < (row.input_tokens or 0) <= up_to])
        for above, up_to in zip((0, *steps), [*steps, 1 << 62], strict=True)
    )


def _tokens(above: int, rows: list[AttemptRow]) -> SettledTokens:
    return SettledTokens(
        above_input_tokens=above,
        calls=len(rows),
        input_tokens=sum(row.input_tokens or 0 for row in rows),
        cached_input_tokens=sum(row.cached_input_tokens or 0 for row in rows),
        cache_write_tokens=sum(row.cache_write_tokens or 0 for row in rows),
        output_tokens=sum(row.output_tokens or 0 for row in rows),
    )


def _median(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None
