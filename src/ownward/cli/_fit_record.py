"""A fit as the JSON object that outsiders rely on: `ownward.fit/1`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ownward.core import to_jsonable

if TYPE_CHECKING:
    from decimal import Decimal

    from ownward.perf import Prediction
    from ownward.planner import Advice, Curves, FitOption, Nearest, Purchase
    from ownward.reports import FitLine, FitReport


def fit_record(report: FitReport) -> dict[str, Any]:
    """Return a report as `ownward.fit/1`; with a budget, the options are those to buy, and say what they cost."""
    record: dict[str, Any] = {
        "schema": "ownward.fit/1",
        "machine": None if report.machine is None else report.machine.id,
        "machines_count": report.machines_count,
        "context_tokens": report.context_tokens,
        "concurrency": report.concurrency,
        "at": report.at.isoformat(),
    }
    if report.advice is not None:
        return {**record, "options": [_row(line) for line in report.lines], **_advice(report.advice)}
    return {
        **record,
        "options": [_row(line) for line in report.lines],
        "nearest": [_nearest(item) for item in report.nearest],
        "notes": list(report.notes),
    }


def _row(line: FitLine) -> dict[str, Any]:
    option, facts = line.option, line.facts
    api = facts.cheapest_api
    split = option.split
    return {
        "model": option.model,
        "variant": option.variant,
        "engine": option.engine,
        "placement": option.placement,
        "fits": option.fits,
        "missing_bytes": option.missing_bytes,
        "memory": to_jsonable(option.memory),
        "usable_bytes": option.usable_bytes,
        "free_bytes": 0 if split is not None else option.free_bytes,
        "host_bytes": 0 if split is None else split.in_memory_bytes,
        "disk_bytes": 0 if split is None else split.on_disk_bytes,
        "context_tokens": option.context_tokens,
        "max_context_tokens": option.max_context_tokens,
        "max_concurrency": option.max_concurrency,
        "prefill_tokens_per_s": _band(option.prefill_tokens_per_s),
        "decode_tokens_per_s": _band(option.decode_tokens_per_s),
        "ttft_s": {**_band(option.ttft_ms, scale=1e-3), "input_tokens": option.prompt_tokens},
        "usd_per_mtok_marginal": to_jsonable(option.usd_per_mtok_marginal),
        "usd_per_mtok_loaded": to_jsonable(option.usd_per_mtok_loaded),
        "input_usd_per_mtok_marginal": to_jsonable(option.input_usd_per_mtok_marginal),
        "input_usd_per_mtok_loaded": to_jsonable(option.input_usd_per_mtok_loaded),
        "command": None if option.fits is False else shlex.join(line.commands[0].words),
        "command_needs": list(line.commands[0].needs),
        "serve_command": next((shlex.join(command.words) for command in line.commands[1:]), None),
        "serving": None
        if line.serving is None
        else {
            **line.serving.options,
            "reasons": list(line.serving.reasons),
            "warnings": list(line.serving.warnings),
        },
        "layers_on_host": option.layers_on_host,
        "tensor_parallel": option.tensor_parallel,
        "pipeline_parallel": option.pipeline_parallel,
        "attention_data_parallel": option.attention_data_parallel,
        "kv_type": option.kv_type,
        "licence": facts.licence,
        "scores": [
            {"benchmark": item.benchmark, "score": to_jsonable(item.score.value), "source": item.score.source}
            for item in facts.scores
        ],
        "ranked_by": None if line.rests_on is None else list(line.rests_on) or ["size and age"],
        "cheapest_api": None
        if api is None
        else {
            "provider": api.provider,
            "input_usd_per_mtok": to_jsonable(api.input_usd_per_mtok),
            "output_usd_per_mtok": to_jsonable(api.output_usd_per_mtok),
            "source": api.source,
        },
        "basis": option.basis,
        "unknown": list(option.unknown),
        "curves": None if line.curves is None else _curves(line.curves),
    }


def _curves(curves: Curves) -> dict[str, Any]:
    return {
        name: [
            {
                "context_tokens": point.context_tokens,
                "concurrency": point.concurrency,
                "decode_tokens_per_s": _band(point.decode_tokens_per_s),
                "total_tokens_per_s": point.total_tokens_per_s,
                "ttft_s": _band(point.ttft_ms, scale=1e-3),
                "usd_per_mtok_marginal": to_jsonable(point.usd_per_mtok_marginal),
                "usd_per_mtok_loaded": to_jsonable(point.usd_per_mtok_loaded),
            }
            for point in points
        ]
        for name, points in (("by_context", curves.by_context), ("by_concurrency", curves.by_concurrency))
    }


def _nearest(item: Nearest) -> dict[str, Any]:
    option = item.option
    return {
        "change": item.change,
        "to": item.to,
        "model": option.model,
        "variant": option.variant,
        "machine": option.conditions.machine.id,
        "machines_count": option.machines_count,
        "decode_tokens_per_s": _band(option.decode_tokens_per_s),
    }


def _advice(advice: Advice) -> dict[str, Any]:
    dearer = advice.above_budget
    return {
        "budget_usd": _usd(advice.budget_usd),
        "purchases": [_purchase(one) for one in advice.purchases],
        "above_budget": None if dearer is None else _purchase(dearer),
        "unpriced": [_unpriced(option) for option in advice.unpriced],
        "tried": advice.tried,
    }


def _purchase(one: Purchase) -> dict[str, Any]:
    """Return a purchase; the option at the same place of `options` says what runs on it."""
    return {
        "machine": one.machine.id,
        "machines_count": one.count,
        "devices_usd": _usd(one.devices_usd),
        "host_usd": _usd(one.host_usd),
        "total_usd": _usd(one.total_usd),
        "price_kind": one.machine.price_kind,
        "price_dated": one.machine.price_dated,
        "price_source": None if one.machine.price_usd is None else one.machine.price_usd.source,
        "model": one.option.model,
        "variant": one.option.variant,
    }


def _unpriced(option: FitOption) -> dict[str, Any]:
    return {
        "machine": option.conditions.machine.id,
        "model": option.model,
        "variant": option.variant,
        "decode_tokens_per_s": _band(option.decode_tokens_per_s),
    }


def _usd(amount: Decimal) -> Any:
    return to_jsonable(amount)


def _band(prediction: Prediction, scale: float = 1.0) -> dict[str, Any]:
    band = {"value": prediction.value, "low80": prediction.low80, "high80": prediction.high80}
    return {name: None if value is None else value * scale for name, value in band.items()}
