"""The plan that holds where nobody wrote one: one model on this machine, for every request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ownward.plan._plan import Plan
from ownward.plan._problems import Option
from ownward.plan._strategies import Strategy
from ownward.plan._tiers import Tier, Upstream
from ownward.plan._workloads import Match, Workload
from ownward.policy import LOCAL_ONLY


def for_single_model(
    name: str,
    *,
    model: str,
    max_context_tokens: int | None = None,
    max_output_tokens: int | None = None,
    max_concurrency: int | None = None,
    capabilities: Iterable[str] = ("chat", "completions", "streaming"),
    engine_options: Mapping[str, Option] | None = None,
) -> Plan:
    """Return a plan of one owned tier `name`, on the embedded engine, that serves every request on this machine.

    No data leaves it. The one workload is `default`. The plan states no prices and no time, so
    that its hash is the same at every start.
    Raises: ConfigError, if a value cannot stand in a plan.
    """
    tier = Tier(
        name=name,
        kind="owned",
        model=model,
        engine="embedded",
        max_context_tokens=max_context_tokens,
        max_output_tokens=max_output_tokens,
        max_concurrency=max_concurrency,
        capabilities=frozenset(capabilities),
        upstreams=(Upstream(name=name),),
        engine_options=engine_options or {},
    )
    workload = Workload(
        name="default",
        match=Match(),
        strategy=Strategy(kind="direct", tiers=(name,)),
        label=LOCAL_ONLY,
    )
    return Plan(name=name, default_label=LOCAL_ONLY, tiers={name: tier}, workloads={"default": workload})
