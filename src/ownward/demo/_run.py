"""The demo, step by step; each step says what it does before it does it."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward import anatomy, catalog, traffic
from ownward import ledger as ledger_room
from ownward import plan as plan_room
from ownward.core import BadInput, MissingExtra, Sourced, SystemClock, format_counted, format_usd
from ownward.demo._serving import FLOOR_FRACTION, LOCAL, serving, with_rented_baseline
from ownward.economics import Assumptions
from ownward.ledger import Ledger, Outcome, TrafficRow
from ownward.planner import Decision, Option, OwnedCandidate, RentedCandidate, WorkloadToPlan, choose, make_plan
from ownward.policy import Label
from ownward.pricing import PriceBook, Usage
from ownward.reports import Report, compute_report, price_steps
from ownward.simulation import Slo
from ownward.trials import Answer, Task, TaskResult, read_tasks, run_tasks
from ownward.upstreams import Door

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ownward.plan import Plan

TRACE = "azure_llm_2023_code"
TASK_SETS = {"intents": True, "slots": False}  # workload: whether its answers are streamed
RENTED = ("gpt-5-mini", "claude-haiku-4-5", "deepseek-chat")
OWNED = (
    ("rtx-5090", "RTX 5090", "llama.cpp", "q4_k_m"),
    ("rtx-pro-6000", "RTX PRO 6000 Blackwell Workstation", "vllm", "fp8"),
    ("rtx-4090", "RTX 4090", "llama.cpp", "q4_k_m"),
)
MODEL = "qwen3-30b-a3b"
SERVICE_LEVEL = Slo(ttft_s=3.0, tpot_s=0.1, fraction=0.95)
_PRICED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """What the embedded model achieved on one task set."""

    workload: str
    is_stream: bool
    tasks: int
    completed: int
    mean_score: float
    examples: tuple[tuple[str, str, bool], ...]  # expected, answered, completed


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo found, and where it put the plan and the ledger."""

    trials: tuple[TrialLine, ...]
    report: Report
    decision: Decision
    task_reasons: tuple[str, ...]
    plan: Plan
    plan_path: Path
    ledger_path: Path
    seconds: float


async def run_demo(
    weights: Path,
    folder: Path,
    *,
    tell: Callable[[str], None],
    on_task: Callable[[TaskResult], None] = lambda _: None,
) -> DemoResult:
    """Run the loop into `folder` (plan.toml and ledger.db, the ledger made anew) and return what it found.

    Raises: BadInput, if the folder is not the demo's own; MissingExtra, without the openai client or the engine;
    EngineError, if the model does not start.
    """
    clock = SystemClock()
    began_s = clock.monotonic_s()
    ledger_path, plan_path = await asyncio.to_thread(_clear, folder)
    with ledger_room.open(ledger_path) as opened:
        async with Door() as door:
            trials, served = await _serve_tasks(weights, opened, door, tell=tell, on_task=on_task)
        tell(f"the model and the gateway are stopped; reading the trace {TRACE}")
        _import_trace(opened)
        decision = _plan_trace(opened)
        plan, reasons = _plan_tasks(opened, served, decision)
        report = compute_report(
            opened.query_served(input_steps=price_steps(plan)), opened.query_certificates(), plan=plan
        )
    plan_path.write_text(plan_room.dumps(plan), encoding="utf-8")
    return DemoResult(
        trials=tuple(trials),
        report=report,
        decision=decision,
        task_reasons=reasons,
        plan=plan,
        plan_path=plan_path,
        ledger_path=ledger_path,
        seconds=clock.monotonic_s() - began_s,
    )


def claim_folder(folder: Path) -> None:
    """Make the folder in which every run writes its ledger and plan anew, or take the one that an earlier run made.

    Raises: BadInput, if it has a ledger or a plan that no demo made, or cannot be written.
    """
    note = folder / "made-by-ownward-demo.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            for name in ("ledger.db", "plan.toml"):
                if (folder / name).exists():
                    raise BadInput(
                        f"{str(folder / name)!r} is not of a demo, which would write its own over it",
                        next_step="Name a folder for the demo alone with --out",
                    )
            note.write_text("Each run of ownward demo makes what is in this folder anew.\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"cannot write into {str(folder)!r}: {error.strerror}", next_step="Name another folder with --out"
        ) from error


def _clear(folder: Path) -> tuple[Path, Path]:
    """Remove an older run's ledger from the demo's folder, and return the paths of ledger and plan."""
    claim_folder(folder)
    for old in folder.glob("ledger.db*"):
        old.unlink()
    return folder / "ledger.db", folder / "plan.toml"


async def _serve_tasks(
    weights: Path,
    opened: Ledger,
    door: Door,
    *,
    tell: Callable[[str], None],
    on_task: Callable[[TaskResult], None],
) -> tuple[list[TrialLine], Plan]:
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise MissingExtra(needed_for="The demo", package="openai", extra="demo") from error
    tell("starting the embedded model (llama.cpp in a child process) and a gateway on loopback")
    lines = []
    async with serving(weights, opened, at=datetime.now(UTC).date(), door=door) as (server, plan):
        tell(f"ready at {server.base_url}; asking real tasks through it with the openai client")
        async with AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="not-needed", max_retries=0) as client:
            for workload, is_stream in TASK_SETS.items():
                tasks = read_tasks(io.StringIO(_text(f"{workload}.jsonl")), name=f"{workload}.jsonl")
                asker = _Asker(client=client, workload=workload, is_stream=is_stream)
                results = await run_tasks(tasks, asker.ask, concurrency=2, on_result=on_task)
                await opened.flush()
                for result in results:
                    opened.record_outcome(
                        Outcome(
                            task_id=result.task.task_id,
                            completed=result.grade.is_completed,
                            score=result.grade.score,
                            source="verifier",
                            recorded_at=datetime.now(UTC),
                            comment=result.grade.why,
                        )
                    )
                lines.append(_line(workload, results, is_stream=is_stream))
    return lines, plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """Sends a task's messages with the real client, streamed or whole."""

    client: AsyncOpenAI
    workload: str
    is_stream: bool

    async def ask(self, task: Task) -> Answer:
        """Return the model's answer, or its error."""
        from openai import APIError

        request: dict[str, Any] = {
            "model": self.workload,
            "messages": list(task.messages),
            "max_tokens": task.max_tokens,
            "temperature": 0.0,
            "extra_headers": {"x-ownward-task": task.task_id},
            "extra_body": dict(task.extra),
        }
        try:
            if not self.is_stream:
                whole = await self.client.chat.completions.create(**request)
                return Answer(text=whole.choices[0].message.content or "")
            pieces = [
                chunk.choices[0].delta.content or ""
                async for chunk in await self.client.chat.completions.create(**request, stream=True)
                if chunk.choices
            ]
            return Answer(text="".join(pieces))
        except APIError as error:
            return Answer(text=None, error=str(error))


def _line(workload: str, results: list[TaskResult], *, is_stream: bool) -> TrialLine:
    shown = results[:3]
    return TrialLine(
        workload=workload,
        is_stream=is_stream,
        tasks=len(results),
        completed=sum(result.grade.is_completed for result in results),
        mean_score=sum(result.grade.score for result in results) / len(results),
        examples=tuple(
            (_shown(result.task.expected), " ".join((result.answer.text or "").split()), result.grade.is_completed)
            for result in shown
        ),
    )


def _shown(expected: Any) -> str:
    if isinstance(expected, dict):
        return ", ".join(f"{slot}: {value}" for slot, value in expected.items())
    return str(expected)


def _import_trace(opened: Ledger) -> None:
    with gzip.open(io.BytesIO(_bytes(f"{TRACE}.csv.gz"))) as stream:
        reading = traffic.read(stream, name=f"{TRACE}.csv")  # type: ignore[arg-type]
        opened.import_traffic(_rows(reading), source=TRACE)


def _rows(reading: traffic.Reading) -> Iterator[TrafficRow]:
    for record in reading:
        yield TrafficRow(
            source_row_id=record.source_row_id,
            started_at=record.started_at,
            arrival_s=record.arrival_s,
            input_tokens=record.input_tokens,
            cached_input_tokens=record.cached_input_tokens,
            output_tokens=record.output_tokens,
            workload=TRACE,
        )


def _plan_trace(opened: Ledger) -> Decision:
    """Compare three machines and three APIs for the trace's workload, with the first API as the baseline."""
    columns = opened.query_traffic(TRACE)
    trace = traffic.Trace.from_columns(
        arrival_s=list(columns.arrival_s),
        input_tokens=list(columns.input_tokens),
        output_tokens=list(columns.output_tokens),
    )
    book = PriceBook.load()
    shape = anatomy.from_config(catalog.model(MODEL).load_config(), name=catalog.model(MODEL).name)
    workload = WorkloadToPlan(
        name=TRACE,
        trace=trace,
        baseline=RENTED[0],
        label=Label.parse("provider:openai"),
        slo=SERVICE_LEVEL,
        floor_fraction=FLOOR_FRACTION,
        confidence_fraction=0.95,
    )
    return make_plan(
        [workload],
        owned=[
            OwnedCandidate(tier=tier, anatomy=shape, machine=catalog.machine(machine), engine=engine, weights=weights)
            for tier, machine, engine, weights in OWNED
        ],
        rented=[RentedCandidate(tier=name, price=book.find(name, at=_PRICED_AT)) for name in RENTED],
        assumptions=Assumptions(),
        name="demo",
        at=datetime.now(UTC),
        hours_per_month=Sourced(
            value=220.0, basis="assumed", source="the demo: 10 hours on 22 days", checked_on=_PRICED_AT.date()
        ),
    )


def _plan_tasks(opened: Ledger, served: Plan, decision: Decision) -> tuple[Plan, tuple[str, ...]]:
    """Return the whole plan: where each task set goes by what was measured, and the trace's workload as decided."""
    rented = decision.plan.tiers[RENTED[0]]
    own = served.tiers[LOCAL]
    assert rented.price is not None
    assert own.loaded_price is not None
    options = []
    for workload in TASK_SETS:
        rows = [row for row in opened.query_requests(workload=workload) if row.state == "settled"]
        graded = [task for task in opened.query_tasks(workload=workload) if task.outcome is not None]
        completed = sum(bool(task.outcome and task.outcome.completed) for task in graded)
        usages = [
            Usage(
                input_tokens=row.input_tokens or 0,
                output_tokens=row.output_tokens or 0,
                cached_input_tokens=row.cached_input_tokens or 0,
            )
            for row in rows
        ]
        count = Decimal(max(len(usages), 1))

        def per_thousand(price: Any, usages: list[Usage] = usages, count: Decimal = count) -> Decimal:
            total = sum((price.compute_charge_usd(usage) for usage in usages), Decimal(0))
            return (total / count * 1000).quantize(Decimal("1e-9"))

        options += [
            Option(
                workload=workload,
                strategy="direct",
                tier=rented.name,
                cost_usd=per_thousand(rented.price),
                is_baseline=True,
            ),
            Option(
                workload=workload,
                strategy="direct",
                tier=LOCAL,
                cost_usd=per_thousand(own.loaded_price),
                completion=completed / len(graded) if graded else None,
                feasible=False,
                binding_constraint=(
                    f"completed {completed} of {format_counted(len(graded), 'task')}; nothing certifies that"
                    f" {FLOOR_FRACTION:.0%} of the baseline holds; 1,000 would cost"
                    f" {format_usd(per_thousand(own.loaded_price))} here"
                ),
            ),
        ]
    picked = choose(options)
    plan = with_rented_baseline(
        served,
        rented,
        chosen={option.workload: option.tier for option in picked.chosen},
        figures={option.workload: option.cost_usd or Decimal(0) for option in picked.chosen},
    )
    plan = dataclasses.replace(
        plan,
        created_at=decision.plan.created_at,
        tiers={**plan.tiers, **decision.plan.tiers},
        workloads={**plan.workloads, **decision.plan.workloads},
    )
    return plan, picked.why


def _text(name: str) -> str:
    return _bytes(name).decode()


def _bytes(name: str) -> bytes:
    return files("ownward.demo").joinpath("data", name).read_bytes()
