"""A plan as tables of plain values, and those as TOML text: canonical for the hash, commented for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from ownward.core import Sourced
from ownward.plan._budgets import Budget
from ownward.plan._hedging import Hedge
from ownward.plan._plan import Plan
from ownward.plan._problems import Option
from ownward.plan._strategies import Strategy
from ownward.plan._tiers import Tier, Upstream
from ownward.plan._workloads import Match, Workload
from ownward.policy import LOCAL_ONLY
from ownward.pricing import Price, PriceStep

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_RATES = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "cache_write_1h_usd_per_mtok",
)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}

Table = dict[str, Any]
Path = tuple[str, ...]


def as_table(plan: Plan) -> Table:
    """Return the plan as nested tables; what is None or empty is left out, every other value is written."""
    return _stated(
        schema=plan.schema,
        name=plan.name,
        created_at=plan.created_at,
        baseline=plan.baseline,
        default_label=None if plan.default_label is None else str(plan.default_label),
        **_detection_table(plan),
        tiers={name: _tier_table(tier) for name, tier in plan.tiers.items()},
        workloads={name: _workload_table(workload) for name, workload in plan.workloads.items()},
        figures=_figures_table(plan.figures),
    )


def _stated(**values: Any) -> Table:
    return {key: value for key, value in values.items() if value is not None and value not in ([], {}, (), "")}


def _tier_table(tier: Tier) -> Table:
    return _stated(
        kind=tier.kind,
        model=tier.model,
        variant=tier.variant,
        engine=tier.engine,
        machine=tier.machine,
        provider=tier.provider,
        region=tier.region,
        max_context_tokens=tier.max_context_tokens,
        max_output_tokens=tier.max_output_tokens,
        max_concurrency=tier.max_concurrency,
        balance=tier.balance,
        cache_tokens=tier.cache_tokens,
        capabilities=sorted(tier.capabilities),
        upstreams=[_upstream_table(upstream) for upstream in tier.upstreams],
        engine_options=_options_table(tier.engine_options),
        budget=_budget_table(tier.budget),
        hedge=None if tier.hedge is None else _hedge_table(tier.hedge),
        price=None if tier.price is None else _price_table(tier.price),
        loaded_price=None if tier.loaded_price is None else _price_table(tier.loaded_price),
        figures=_figures_table(tier.figures),
    )


def _upstream_table(upstream: Upstream) -> Table:
    return _stated(
        name=upstream.name,
        url=upstream.url,
        dialect=upstream.dialect,
        messages_as=upstream.messages_as,
        api_key_env=upstream.api_key_env,
        headers=dict(upstream.headers),
        connect_timeout_s=upstream.connect_timeout_s,
        first_byte_timeout_s=upstream.first_byte_timeout_s,
        stall_timeout_s=upstream.stall_timeout_s,
        proxy_url=upstream.proxy_url,
        proxy_url_env=upstream.proxy_url_env,
        ca_file=upstream.ca_file,
        client_cert_file=upstream.client_cert_file,
        client_key_file=upstream.client_key_file,
    )


def _price_table(price: Price) -> Table:
    return _stated(
        provider=price.provider,
        model=price.model,
        **_rates_table(price),
        usd_per_request=price.usd_per_request or None,
        mode=None if price.mode == "standard" else price.mode,
        period=price.period,
        valid_from=price.valid_from,
        valid_to=price.valid_to,
        basis=price.basis,
        source=price.source,
        checked_on=price.checked_on,
        note=price.note,
        steps=[{"above_input_tokens": step.above_input_tokens, **_rates_table(step)} for step in price.steps],
    )


def _rates_table(price: Price | PriceStep) -> Table:
    return _stated(**{key: getattr(price, key) for key in _RATES})


def _workload_table(workload: Workload) -> Table:
    capture = workload.capture
    return _stated(
        label=str(workload.label),
        fallback=list(workload.fallback),
        baseline=workload.baseline,
        floor_fraction=workload.floor_fraction,
        confidence_fraction=workload.confidence_fraction,
        match=_match_table(workload.match),
        strategy=_strategy_table(workload.strategy),
        task_budget_usd=workload.task_budget_usd,
        continues_streams=workload.continues_streams or None,
        spill_after_s=workload.spill_after_s,
        **_detection_table(workload),
        budget=_budget_table(workload.budget),
        capture=None
        if capture is None
        else {
            "sample_fraction": capture.sample_fraction,
            "retention_s": capture.retention_s,
            "max_body_bytes": capture.max_body_bytes,
        },
        figures=_figures_table(workload.figures),
    )


def _detection_table(stated: Plan | Workload) -> Table:
    return _stated(
        detect=list(stated.detect),
        detected_label=None if stated.detected_label == LOCAL_ONLY else str(stated.detected_label),
        detect_patterns=dict(stated.detect_patterns),
    )


def _budget_table(budget: Budget | None) -> Table | None:
    if budget is None:
        return None
    return {"max_usd": budget.max_usd, "period": budget.period, "when_spent": budget.when_spent}


def _hedge_table(hedge: Hedge) -> Table:
    return _stated(
        after_s=hedge.after_s,
        after_percentile=hedge.after_percentile,
        min_observations=hedge.min_observations,
        max_fraction=hedge.max_fraction,
        to=list(hedge.to),
    )


def _match_table(match: Match) -> Table:
    return _stated(
        models=list(match.models),
        keys=list(match.keys),
        fingerprints=list(match.fingerprints),
        headers=dict(match.headers),
        metadata=dict(match.metadata),
    )


def _strategy_table(strategy: Strategy) -> Table:
    return _stated(
        kind=strategy.kind,
        tiers=list(strategy.tiers),
        max_calls=strategy.max_calls,
        max_output_tokens=strategy.max_output_tokens,
        max_usd=strategy.max_usd,
        max_seconds=strategy.max_seconds,
        options=_options_table(strategy.options),
    )


def _options_table(options: Mapping[str, Option]) -> Table:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}


def _figures_table(figures: Mapping[str, Sourced[Any]]) -> Table:
    return {
        name: {
            "value": figure.value,
            **_stated(basis=figure.basis, source=figure.source, checked_on=figure.checked_on, note=figure.note),
        }
        for name, figure in figures.items()
    }


def write_canonical(plan: Plan) -> str:
    """Return the text that is hashed: keys sorted, one spelling for each value, no comments."""
    table = as_table(plan)
    for tier in table.get("tiers", {}).values():
        if "to" in tier.get("hedge", {}):
            tier["hedge"]["to"] = sorted(tier["hedge"]["to"])
    for workload in table.get("workloads", {}).values():
        for key in ("models", "keys", "fingerprints"):
            if key in workload.get("match", {}):
                workload["match"][key] = sorted(workload["match"][key])
    return "".join(_write_table(_sorted(table), ()))


def write_entries(table: Table, path: Path) -> Iterator[str]:
    """Yield the lines of a table that stands at `path`, its own header left out where it is the top."""
    keys = {key: value for key, value in table.items() if not _is_section(key, value, path)}
    if keys and path:
        yield f"[{'.'.join(write_key(part) for part in path)}]\n"
    yield from _write_table(table, path)


def write_text(plan: Plan, comment_of: Callable[[Path], str | None]) -> str:
    """Return a new plan file for people, with a comment above each table that `comment_of` knows."""
    return "".join(_write_table(as_table(plan), (), comment_of))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _write_table(
    table: Table, path: Path, comment_of: Callable[[Path], str | None] = lambda _path: None
) -> Iterator[str]:
    """Yield a table's own keys, then its tables, each under its header."""
    for key, value in table.items():
        if not _is_section(key, value, path):
            yield f"{write_key(key)} = {write_value(value)}\n"
    for key, value in table.items():
        if not _is_section(key, value, path):
            continue
        inner = (*path, key)
        for entry in value if isinstance(value, list) else [value]:
            header = ".".join(write_key(part) for part in inner)
            comment = comment_of(inner)
            owns_keys = isinstance(value, list) or any(not _is_section(k, v, inner) for k, v in entry.items())
            if comment or owns_keys:
                yield "\n"
            if comment:
                yield "".join(f"# {line}\n" for line in comment.splitlines())
            if owns_keys:
                yield f"[[{header}]]\n" if isinstance(value, list) else f"[{header}]\n"
            yield from _write_table(entry, inner, comment_of)


def _is_section(key: str, value: Any, path: Path) -> bool:
    """Tell whether a value gets a header of its own; headers and metadata, small tables, stay inline."""
    if isinstance(value, dict):
        return key not in {"headers", "metadata"} and path[-1:] != ("figures",)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and key != "steps"


def write_key(key: str) -> str:
    """Return a key as TOML writes it, quoted where it must be."""
    return key if _BARE_KEY.fullmatch(key) else write_value(key)


def write_value(value: Any) -> str:
    """Return one value in the one spelling we write."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(_escaped(character) for character in value) + '"'
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)  # noqa: PLR2004
        case Decimal():
            return f'"{_plain(value)}"'
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case list():
            return f"[{', '.join(write_value(item) for item in value)}]"
        case dict():
            inner = ", ".join(f"{write_key(key)} = {write_value(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case _:
            message = f"a {type(value).__name__} has no TOML form"
            raise TypeError(message)


def _plain(usd: Decimal) -> str:
    """Return one spelling for equal amounts, without an exponent."""
    text = format(usd, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character >= " " and character != "\x7f" else f"\\u{ord(character):04X}"
