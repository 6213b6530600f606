"""The plan that holds where nobody wrote one: one model on this machine, for every request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ownward.plan._plan import Plan
from ownward.plan._problems import Option
from ownward.plan._strategies import Strategy
from ownward.plan._tiers import EngineKind, Tier, Upstream
from ownward.plan._workloads import Match, Workload
from ownward.policy import LOCAL_ONLY


def for_single_model(
    name: str,
    *,
    model: str,
    engine: EngineKind = "embedded",
    variant: str | None = None,
    url: str | None = None,
    machine: str | None = None,
    max_context_tokens: int | None = None,
    max_output_tokens: int | None = None,
    max_concurrency: int | None = None,
    capabilities: Iterable[str] = ("chat", "completions", "streaming"),
    engine_options: Mapping[str, Option] | None = None,
) -> Plan:
    """Return a plan of one owned tier `name` that serves every request, and lets no data leave this machine.

    Its one workload is `default`. The plan states no prices and no time, so
    that its hash is the same at every start.
    Raises: ConfigError, if a value cannot stand in a plan.
    """
    tier = Tier(
        name=name,
        kind="owned",
        model=model,
        variant=variant,
        engine=engine,
        machine=machine,
        max_context_tokens=max_context_tokens,
        max_output_tokens=max_output_tokens,
        max_concurrency=max_concurrency,
        capabilities=frozenset(capabilities),
        upstreams=(Upstream(name=name, url=url),),
        engine_options=engine_options or {},
    )
    workload = Workload(
        name="default",
        match=Match(),
        strategy=Strategy(kind="direct", tiers=(name,)),
        label=LOCAL_ONLY,
    )
    return Plan(name=name, default_label=LOCAL_ONLY, tiers={name: tier}, workloads={"default": workload})
