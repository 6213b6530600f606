"""A plan from its TOML text, with every fault found in one reading."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, get_args

from ownward.core import Basis, ConfigError, OwnwardError, Sourced
from ownward.plan._budgets import Budget, BudgetPeriod, WhenSpent
from ownward.plan._detection import detection_problems
from ownward.plan._hedging import Hedge
from ownward.plan._plan import SCHEMA, Plan, own_problems, reference_problems, tier_problems
from ownward.plan._problems import (
    FigureValue,
    Option,
    figure_problems,
    is_money,
    shown,
    usd_problems,
)
from ownward.plan._strategies import Strategy, StrategyKind
from ownward.plan._tiers import Balance, Dialect, EngineKind, MessagesAs, Tier, TierKind, Upstream
from ownward.plan._toml import TomlTable, parse_toml
from ownward.plan._values import (
    WrongValue,
    as_bytes,
    as_choice,
    as_date,
    as_duration_s,
    as_flag,
    as_instant,
    as_number,
    as_text,
    as_texts,
    as_usd,
    as_whole,
)
from ownward.plan._workloads import Capture, Match, Workload
from ownward.policy import LOCAL_ONLY, Label
from ownward.pricing import Price, PriceMode, PriceStep

_as_basis = as_choice(*get_args(Basis))
_SCHEMA_NUMBER = re.compile(r"ownward\.plan/([0-9]{1,9})")


def loads(text: str, file: str = "plan.toml") -> Plan:
    """Return the plan written in `text`; `file` names it in messages.

    Raises: ConfigError with every fault, each with its line, its key and what would be right.
    """
    top = parse_toml(text, file=file)
    _check_schema(top)
    name = top.required("name", as_text, example='name = "support"')
    created_at = top.optional("created_at", as_instant, None)
    baseline = top.optional("baseline", as_text, None)
    default_label = top.optional("default_label", _as_label, None)
    detection = _read_detection(top)
    written = top.values.get("tiers")
    known_tiers = frozenset(written) if isinstance(written, dict) else frozenset()
    tiers: dict[str, Tier] = {}
    for tier_name, table in top.named_tables("tiers"):
        tier = _read_tier(table, tier_name, known_tiers)
        if tier is not None:
            tiers[tier_name] = tier
    workloads: dict[str, Workload] = {}
    for workload_name, table in top.named_tables("workloads"):
        workload = _read_workload(table, workload_name, default_label or LOCAL_ONLY, known_tiers)
        if workload is not None:
            workloads[workload_name] = workload
    figures = _read_figures(top)
    top.finish()
    if isinstance(name, str):
        top.add_problems(own_problems(SCHEMA, name, created_at))
    top.add_problems(detection_problems(detection["detect"], detection["detect_patterns"]))
    top.add_problems(figure_problems(figures))
    top.add_problems(
        reference_problems(baseline=baseline, tiers=tiers, workloads=workloads, known_tiers=known_tiers),
        known=top.faults.paths_since(0),
    )
    top.faults.raise_if_any()
    return Plan(
        name=name,
        created_at=created_at,
        baseline=baseline,
        default_label=default_label,
        **detection,
        tiers=tiers,
        workloads=workloads,
        figures=figures,
    )


def _check_schema(top: TomlTable) -> None:
    """Refuse a later schema at once, since its other keys would only look like faults."""
    schema = top.required("schema", as_text, example=f'schema = "{SCHEMA}"')
    if schema == SCHEMA or not top.is_sound:
        return
    found = _SCHEMA_NUMBER.fullmatch(schema)
    if found and int(found[1]) > 1:
        top.fault("schema", f"is {shown(schema)}, later than {shown(SCHEMA)}, the latest this version reads")
        raise ConfigError(
            top.faults.list_faults(),
            next_step="Upgrade with: pip install --upgrade ownward. Or write the plan anew with: ownward plan",
        )
    top.fault("schema", f"is {shown(schema)}, not a plan's", f'Write schema = "{SCHEMA}"')


def _as_label(value: Any) -> Label:
    try:
        return Label.parse(list(value) if isinstance(value, list) else value)
    except (TypeError, AttributeError):
        example = '"local_only", "any", "eu" or ["eu", "provider:mistral"]'
        raise WrongValue(f"is {shown(value)}, which is not a label", example=example) from None
    except OwnwardError as error:
        raise WrongValue(f"is {shown(value)}: it {error.message}", allowed=error.allowed) from error


_OF_UPSTREAMS = (
    "url", "dialect", "messages_as", "api_key_env", "headers", "first_byte_timeout_s", "stall_timeout_s", "proxy_url",
)  # fmt: skip
_OF_PRICES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok", "usd_per_request")
_OF_STRATEGIES = ("kind", "tiers", "max_calls", "max_usd", "samples")
_OF_MATCHES = ("models", "model", "keys", "headers", "metadata", "fingerprints")
"""Keys that are written a table too high, as people do who know other gateways."""


def _read_tier(table: TomlTable, name: str, known_tiers: frozenset[str]) -> Tier | None:
    kind: TierKind = table.required("kind", as_choice(*get_args(TierKind)), example='kind = "owned" or "rented"')
    model = table.required("model", as_text, example='model = "…"')
    variant = table.optional("variant", as_text, None)
    engine: EngineKind | None = table.optional("engine", as_choice(*get_args(EngineKind)), None)
    if engine is None and "engine" in table.values:
        engine = "embedded"  # stands in for the one refused, so that nothing else is missed for want of it
    machine = table.optional("machine", as_text, None)
    provider = table.optional("provider", as_text, None)
    region = table.optional("region", as_text, None)
    max_context_tokens = table.optional("max_context_tokens", as_whole, None)
    max_output_tokens = table.optional("max_output_tokens", as_whole, None)
    max_concurrency = table.optional("max_concurrency", as_whole, None)
    balance: Balance | None = table.optional("balance", as_choice(*get_args(Balance)), None)
    cache_tokens = table.optional("cache_tokens", as_whole, None)
    budget = _read_budget(table)
    hedge = _read_hedge(table, known_tiers)
    capabilities = table.optional("capabilities", as_texts, ())
    price = _read_price(table, "price", provider=provider or machine or "owned", model=model)
    loaded_price = _read_price(table, "loaded_price", provider=provider or machine or "owned", model=model)
    upstreams = tuple(_read_upstream(entry) for entry in table.listed_tables("upstreams"))
    engine_options = _read_scalars(table, "engine_options")
    figures = _read_figures(table)
    upstreams_at, price_at = f"[[tiers.{name}.upstreams]]", f"[tiers.{name}.price]"
    elsewhere = dict.fromkeys(_OF_UPSTREAMS, upstreams_at) | dict.fromkeys(_OF_PRICES, price_at)
    table.finish(elsewhere=elsewhere)
    return table.build(
        lambda: Tier(
            name=name,
            kind=kind,
            model=model,
            variant=variant,
            engine=engine,
            machine=machine,
            provider=provider,
            region=region,
            max_context_tokens=max_context_tokens,
            max_output_tokens=max_output_tokens,
            max_concurrency=max_concurrency,
            balance=balance,
            cache_tokens=cache_tokens,
            budget=budget,
            hedge=hedge,
            capabilities=frozenset(capabilities),
            price=price,
            loaded_price=loaded_price,
            upstreams=tuple(upstream for upstream in upstreams if upstream is not None),
            engine_options=engine_options,
            figures=figures,
        )
    )


def _read_upstream(table: TomlTable) -> Upstream | None:
    name = table.required("name", as_text, example='name = "…"')
    url = table.optional("url", as_text, None)
    dialect: Dialect = table.optional("dialect", as_choice(*get_args(Dialect)), "openai")
    messages_as: MessagesAs | None = table.optional("messages_as", as_choice(*get_args(MessagesAs)), None)
    api_key_env = table.optional("api_key_env", as_text, None)
    headers = _read_texts(table, "headers")
    connect_timeout_s = table.optional("connect_timeout_s", as_duration_s, 10.0)
    first_byte_timeout_s = table.optional("first_byte_timeout_s", as_duration_s, 300.0)
    stall_timeout_s = table.optional("stall_timeout_s", as_duration_s, 120.0)
    proxy_url = table.optional("proxy_url", as_text, None)
    proxy_url_env = table.optional("proxy_url_env", as_text, None)
    ca_file = table.optional("ca_file", as_text, None)
    client_cert_file = table.optional("client_cert_file", as_text, None)
    client_key_file = table.optional("client_key_file", as_text, None)
    for key in ("api_key", "key", "token", "password"):
        if key in table.values and table.has(key):
            allowed = 'Name the variable that holds it: api_key_env = "MY_PROVIDER_API_KEY"'
            table.fault(key, "is a secret, and the plan holds none", allowed)
    table.finish()
    return table.build(
        lambda: Upstream(
            name=name,
            url=url,
            dialect=dialect,
            messages_as=messages_as,
            api_key_env=api_key_env,
            headers=headers,
            connect_timeout_s=connect_timeout_s,
            first_byte_timeout_s=first_byte_timeout_s,
            stall_timeout_s=stall_timeout_s,
            proxy_url=proxy_url,
            proxy_url_env=proxy_url_env,
            ca_file=ca_file,
            client_cert_file=client_cert_file,
            client_key_file=client_key_file,
        )
    )


def _read_price(outer: TomlTable, key: str, *, provider: str, model: str | None) -> Price | None:
    table = outer.table(key)
    if table is None:
        return None
    priced_provider = table.optional("provider", as_text, provider)
    priced_model = table.optional("model", as_text, model or "")
    rates = _read_rates(table)
    usd_per_request = table.optional("usd_per_request", as_usd, Decimal(0))
    steps = [_read_step(entry) for entry in table.listed_tables("steps")]
    mode: PriceMode = table.optional("mode", as_choice(*get_args(PriceMode)), "standard")
    period = table.optional("period", as_text, None)
    valid_from = table.optional("valid_from", as_date, None)
    valid_to = table.optional("valid_to", as_date, None)
    basis: Basis = table.required("basis", _as_basis, example='basis = "price page"')
    source = table.required("source", as_text, example='source = "https://…"')
    checked_on = table.required("checked_on", as_date, example="checked_on = 2026-11-21")
    note = table.optional("note", as_text, "")
    table.finish()
    return table.build(
        lambda: Price(
            provider=priced_provider,
            model=priced_model,
            usd_per_request=usd_per_request,
            steps=tuple(step for step in steps if step is not None),
            mode=mode,
            period=period,
            valid_from=valid_from,
            valid_to=valid_to,
            basis=basis,
            source=source,
            checked_on=checked_on,
            note=note,
            **rates,
        )
    )


def _read_step(table: TomlTable) -> PriceStep | None:
    above = table.required("above_input_tokens", as_whole, example="above_input_tokens = 200000")
    rates = _read_rates(table)
    table.finish()
    return table.build(lambda: PriceStep(above_input_tokens=above, **rates))


def _read_rates(table: TomlTable) -> dict[str, Any]:
    """Return the rates of a price or step, in USD per million tokens."""
    rates: dict[str, Any] = {}
    for key in ("input_usd_per_mtok", "output_usd_per_mtok"):
        rates[key] = table.required(key, as_usd, example=f"{key} = 0.15")
    for key in ("cached_input_usd_per_mtok", "cache_write_usd_per_mtok", "cache_write_1h_usd_per_mtok"):
        rates[key] = table.optional(key, as_usd, None)
    for key, usd in rates.items():
        table.add_problems(usd_problems(key, usd))
    return rates


def _read_workload(table: TomlTable, name: str, default_label: Label, known_tiers: frozenset[str]) -> Workload | None:
    match = _read_match(table)
    strategy = _read_strategy(table, known_tiers)
    label = table.optional("label", _as_label, default_label)
    fallback = table.optional("fallback", as_texts, ())
    table.add_problems(problem for name in fallback for problem in tier_problems("fallback", name, known_tiers))
    baseline = table.optional("baseline", as_text, None)
    if baseline is not None:
        table.add_problems(tier_problems("baseline", baseline, known_tiers))
    floor = table.optional("floor_fraction", as_number, None)
    confidence = table.optional("confidence_fraction", as_number, None)
    budget = _read_budget(table)
    task_budget_usd = table.optional("task_budget_usd", as_usd, None)
    continues_streams = table.optional("continues_streams", as_flag, False)  # noqa: FBT003 - the default
    spill_after_s = table.optional("spill_after_s", as_duration_s, None)
    detection = _read_detection(table)
    capture = _read_capture(table)
    figures = _read_figures(table)
    strategy_at, match_at = f"[workloads.{name}.strategy]", f"[workloads.{name}.match]"
    table.finish(elsewhere=dict.fromkeys(_OF_STRATEGIES, strategy_at) | dict.fromkeys(_OF_MATCHES, match_at))
    return table.build(
        lambda: Workload(
            name=name,
            match=match or Match(),
            strategy=strategy or Strategy(kind="direct", tiers=("?",)),
            label=label,
            fallback=fallback,
            baseline=baseline,
            floor_fraction=floor,
            confidence_fraction=confidence,
            budget=budget,
            task_budget_usd=task_budget_usd,
            continues_streams=continues_streams,
            spill_after_s=spill_after_s,
            **detection,
            capture=capture,
            figures=figures,
        )
    )


def _read_detection(table: TomlTable) -> dict[str, Any]:
    """Return what is looked for, and the label for requests in which it is found."""
    return {
        "detect": table.optional("detect", as_texts, ()),
        "detect_patterns": _read_texts(table, "detect_patterns"),
        "detected_label": table.optional("detected_label", _as_label, LOCAL_ONLY),
    }


def _read_match(outer: TomlTable) -> Match | None:
    table = outer.table("match")
    if table is None:
        return None if outer.has("match") else Match()
    models = table.optional("models", as_texts, ())
    keys = table.optional("keys", as_texts, ())
    fingerprints = table.optional("fingerprints", as_texts, ())
    headers = _read_texts(table, "headers")
    metadata = _read_texts(table, "metadata")
    table.finish()
    return table.build(
        lambda: Match(models=models, headers=headers, keys=keys, metadata=metadata, fingerprints=fingerprints)
    )


def _read_strategy(outer: TomlTable, known_tiers: frozenset[str]) -> Strategy | None:
    table = outer.table("strategy")
    if table is None:
        if not outer.has("strategy"):
            allowed = 'Write strategy = { kind = "direct", tiers = ["…"] }'
            outer.fault("strategy", "is missing: a workload names the tiers that serve it", allowed)
        return None
    kind: StrategyKind = table.optional("kind", as_choice(*get_args(StrategyKind)), "direct")
    tiers = table.required("tiers", as_texts, example='tiers = ["…"]')
    table.add_problems(problem for name in tiers or () for problem in tier_problems("tiers", name, known_tiers))
    max_calls = table.optional("max_calls", as_whole, 0)
    if table.has("max_calls") and max_calls == 0 and table.is_sound:
        table.fault("max_calls", "is 0", "Write a whole number above zero, or leave it out")
    max_output_tokens = table.optional("max_output_tokens", as_whole, None)
    max_usd = table.optional("max_usd", as_usd, None)
    max_seconds = table.optional("max_seconds", as_duration_s, None)
    options = _read_scalars(table, "options")
    table.finish()
    return table.build(
        lambda: Strategy(
            kind=kind,
            tiers=tiers,
            max_calls=max_calls,
            max_output_tokens=max_output_tokens,
            max_usd=max_usd,
            max_seconds=max_seconds,
            options=options,
        )
    )


def _read_budget(outer: TomlTable) -> Budget | None:
    table = outer.table("budget")
    if table is None:
        return None
    max_usd = table.required("max_usd", as_usd, example="max_usd = 50")
    period: BudgetPeriod = table.required("period", as_choice(*get_args(BudgetPeriod)), example='period = "month"')
    when_spent: WhenSpent = table.optional("when_spent", as_choice(*get_args(WhenSpent)), "refuse")
    table.finish()
    return table.build(lambda: Budget(max_usd=max_usd, period=period, when_spent=when_spent))


def _read_hedge(outer: TomlTable, known_tiers: frozenset[str]) -> Hedge | None:
    table = outer.table("hedge")
    if table is None:
        return None
    after_s = table.optional("after_s", as_duration_s, None)
    after_percentile = table.optional("after_percentile", as_number, None)
    min_observations = table.optional("min_observations", as_whole, None)
    max_fraction = table.optional("max_fraction", as_number, 0.05)
    to = table.optional("to", as_texts, ())
    table.add_problems(problem for name in to for problem in tier_problems("to", name, known_tiers))
    table.finish()
    return table.build(
        lambda: Hedge(
            after_s=after_s,
            after_percentile=after_percentile,
            min_observations=min_observations,
            max_fraction=max_fraction,
            to=to,
        )
    )


def _read_capture(outer: TomlTable) -> Capture | None:
    table = outer.table("capture")
    if table is None:
        return None
    sample = table.required("sample_fraction", as_number, example="sample_fraction = 0.01")
    retention_s = table.required("retention_s", as_duration_s, example='retention_s = "7d"')
    max_body_bytes = table.optional("max_body_bytes", as_bytes, 1 << 20)
    table.finish()
    return table.build(lambda: Capture(sample_fraction=sample, retention_s=retention_s, max_body_bytes=max_body_bytes))


def _read_texts(outer: TomlTable, key: str) -> dict[str, str]:
    """Return a table of texts, such as headers."""
    table = outer.table(key)
    if table is None:
        return {}
    found: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name in table.values:
        value = table.optional(name, as_text, None)
        other = folded.setdefault(name.lower() if key == "headers" else name, name)
        if other != name:
            table.fault(name, f"is {shown(other)} in other capitals", "Write one of them")
        if value is not None:
            found[name] = value
    return found


def _read_scalars(outer: TomlTable, key: str) -> dict[str, Option]:
    """Return a table of texts, numbers, flags and arrays of texts."""
    table = outer.table(key)
    return {} if table is None else {name: table.optional(name, _as_option, "") for name in table.values}


def _as_option(value: Any) -> Option:
    match value:
        case bool() | str():
            return value
        case int():
            return as_whole(value)
        case Decimal():
            return as_number(value)
        case list():
            return as_texts(value)
        case _:
            raise WrongValue(f"is {shown(value)}, not a text, number, flag or array of texts")


def _read_figures(outer: TomlTable) -> dict[str, Sourced[FigureValue]]:
    """Return derived figures; each says its basis and its source, or is a fault."""
    figures: dict[str, Sourced[FigureValue]] = {}
    holder = outer.table("figures")
    for name in holder.values if holder else ():
        assert holder is not None
        if not isinstance(holder.values[name], dict):
            holder.has(name)
            allowed = f'Write {name} = {{ value = …, basis = "measured", source = "…", checked_on = 2026-11-21 }}'
            holder.fault(name, f"is {shown(holder.values[name])}, without its basis and source", allowed)
            continue
        table = holder.table(name)
        assert table is not None
        figure = _read_figure(table, name)
        if figure is not None:
            figures[name] = figure
    return figures


def _read_figure(table: TomlTable, name: str) -> Sourced[FigureValue] | None:
    value: FigureValue = table.required("value", as_usd if is_money(name) else _as_figure, example="value = …")
    basis: Basis = table.required("basis", _as_basis, example='basis = "measured"')
    source = table.required("source", as_text, example='source = "…"')
    checked_on = table.required("checked_on", as_date, example="checked_on = 2026-11-21")
    note = table.optional("note", as_text, "")
    table.finish()
    return table.build(lambda: Sourced(value=value, basis=basis, source=source, checked_on=checked_on, note=note))


def _as_figure(value: Any) -> FigureValue:
    option = _as_option(value)
    if isinstance(option, tuple):
        raise WrongValue("is an array, not one value")
    return option
