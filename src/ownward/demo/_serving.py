"""What the demo serves: the embedded model behind a gateway on loopback, at an assumed price of energy."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from pathlib import Path

from ownward.core import Sourced
from ownward.economics import Assumptions, Capacity, OwnedOption, Volume, assume, compute_owned_cost
from ownward.engines import EMBEDDED_MODEL, EmbeddedEngine, EngineOptions
from ownward.gateway import EngineAddress, GatewayServer, GatewaySettings
from ownward.ledger import Ledger
from ownward.plan import Match, Plan, Strategy, Tier, Upstream, Workload
from ownward.policy import LOCAL_ONLY, Label, Origin, Place, issue_permit
from ownward.pricing import Price
from ownward.upstreams import Door

LOCAL = "local"
FLOOR_FRACTION = 0.98
CONFIDENCE_FRACTION = 0.95
SLOTS = 2
CONTEXT_TOKENS = 2048

# A small computer at work, for want of a meter: to be replaced by a reading.
_WATTS = 45.0
_MACHINE_USD = 600.0
_UTILISATION_FRACTION = 0.05
_LARGEST_ANSWER_BYTES = 1 << 20


@contextlib.asynccontextmanager
async def serving(weights: Path, ledger: Ledger, *, at: date, door: Door) -> AsyncIterator[tuple[GatewayServer, Plan]]:
    """Run the engine and a gateway over it on a free loopback port; both are gone at the end."""
    options = EngineOptions(model_path=weights, alias=EMBEDDED_MODEL.id, slots=SLOTS, context_tokens=CONTEXT_TOKENS)
    async with EmbeddedEngine(options) as engine:
        prefill_tokens_per_s, decode_tokens_per_s = await measure_speed(engine.base_url, door)
        plan = make_demo_plan(prefill_tokens_per_s, decode_tokens_per_s, at=at)
        server = GatewayServer(
            plan=plan,
            ledger=ledger,
            door=door,
            settings=GatewaySettings(port=0, drain_s=5.0),
            addresses={f"{LOCAL}/{LOCAL}": EngineAddress(engine.base_url)},
        )
        async with server:
            yield server, plan


async def measure_speed(base_url: str, door: Door) -> tuple[float, float]:
    """Return prefill and decode tokens per second of one request, by the engine's own clock."""
    text = "The customer writes that the card has not arrived and asks where it is. " * 16
    body = json.dumps(
        {"model": EMBEDDED_MODEL.id, "messages": [{"role": "user", "content": text}], "max_tokens": 32}
    ).encode()
    origin = str(Origin.parse(base_url))
    place = Place(is_local=True, region=None, provider=None)
    permit = issue_permit(label=LOCAL_ONLY, place=place, upstream=LOCAL, origin=origin, body=body)
    headers = [(b"content-type", b"application/json")]
    response = await door.send(permit, method="POST", target="/v1/chat/completions", headers=headers, body=body)
    answer = json.loads(await response.read(_LARGEST_ANSWER_BYTES))
    timings = answer["timings"]
    return float(timings["prompt_per_second"]), float(timings["predicted_per_second"])


def make_demo_plan(prefill_tokens_per_s: float, decode_tokens_per_s: float, *, at: date) -> Plan:
    """Return the plan the demo serves: one owned tier, one workload for each task set, nothing leaves the machine."""
    marginal, loaded = owned_prices(prefill_tokens_per_s, decode_tokens_per_s, at=at)
    tier = Tier(
        name=LOCAL,
        kind="owned",
        model=EMBEDDED_MODEL.id,
        variant="q4_1",
        engine="embedded",
        machine="this machine",
        max_context_tokens=CONTEXT_TOKENS,
        max_output_tokens=CONTEXT_TOKENS,
        max_concurrency=SLOTS,
        price=marginal,
        loaded_price=loaded,
        upstreams=(Upstream(name=LOCAL),),
    )
    workloads = {name: _workload(name) for name in ("intents", "slots")}
    return Plan(name="demo", tiers={LOCAL: tier}, workloads=workloads, baseline=LOCAL, default_label=LOCAL_ONLY)


def _workload(name: str) -> Workload:
    return Workload(
        name=name,
        match=Match(models=(name,)),
        strategy=Strategy(kind="direct", tiers=(LOCAL,)),
        label=LOCAL_ONLY,
        floor_fraction=FLOOR_FRACTION,
        confidence_fraction=CONFIDENCE_FRACTION,
    )


def owned_prices(prefill_tokens_per_s: float, decode_tokens_per_s: float, *, at: date) -> tuple[Price, Price]:
    """Return what a token costs here, energy only and fully loaded, at measured speeds and assumed power and price."""
    option = OwnedOption(
        name=LOCAL,
        capex_usd=assume(_MACHINE_USD, "the demo's assumption: a small computer", checked_on=at),
        idle_watts=assume(_WATTS / 5, "the demo's assumption", checked_on=at),
        busy_watts=assume(_WATTS, "the demo's assumption", checked_on=at),
        capacity=Capacity(
            prefill_tokens_per_s=assume(prefill_tokens_per_s, "measured at start", checked_on=at, basis="measured"),
            decode_tokens_per_s=assume(decode_tokens_per_s, "measured at start", checked_on=at, basis="measured"),
        ),
        machines=1,
    )
    nobody = assume(0.0, "the demo's assumption: nobody looks after it", checked_on=at)
    output_tokens = decode_tokens_per_s * 730 * 3600 * _UTILISATION_FRACTION
    volume = Volume(
        requests=1.0,
        input_tokens=0.0,
        cached_input_tokens=0.0,
        output_tokens=output_tokens,
        peak_input_tokens_per_s=0.0,
        peak_output_tokens_per_s=0.0,
    )
    cost = compute_owned_cost(option, volume, Assumptions(redundancy=0, people_hours_per_month=nobody))
    return (
        _price(cost.marginal_input_usd_per_mtok, cost.marginal_output_usd_per_mtok, f"energy: {_WATTS:g} W", at),
        _price(
            cost.loaded_input_usd_per_mtok,
            cost.loaded_output_usd_per_mtok,
            f"a {_MACHINE_USD:g} USD computer busy {_UTILISATION_FRACTION:.0%} of the time",
            at,
        ),
    )


def _price(input_usd: Decimal | None, output_usd: Decimal | None, what: str, at: date) -> Price:
    assert input_usd is not None  # all assumptions are stated above
    assert output_usd is not None
    return Price(
        provider="owned",
        model=EMBEDDED_MODEL.id,
        input_usd_per_mtok=input_usd,
        output_usd_per_mtok=output_usd,
        cached_input_usd_per_mtok=Decimal(0),
        cache_write_usd_per_mtok=None,
        valid_from=at,
        valid_to=None,
        basis="assumed",
        source=f"{what}, at speeds measured when the demo started",
        checked_on=at,
    )


def with_rented_baseline(plan: Plan, rented: Tier, *, chosen: dict[str, str], figures: dict[str, Decimal]) -> Plan:
    """Return `plan` with a rented baseline, its task workloads moved to the tiers `chosen` for them."""
    workloads = {}
    for name, workload in plan.workloads.items():
        tier = chosen[name]
        figure = Sourced(
            value=figures[name],
            basis="measured",
            source="the demo's tasks: tokens counted by the engine, priced at this tier",
            checked_on=rented.price.checked_on if rented.price else date(2026, 11, 21),
        )
        workloads[name] = dataclasses.replace(
            workload,
            strategy=Strategy(kind="direct", tiers=(tier,)),
            label=LOCAL_ONLY if tier == LOCAL else Label.parse(f"provider:{rented.provider}"),
            figures={"usd_per_1000_requests": figure},
        )
    return dataclasses.replace(
        plan, baseline=rented.name, tiers={**plan.tiers, rented.name: rented}, workloads=workloads
    )
