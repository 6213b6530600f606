"""Laws of fitting: memory, context, machines and money only ever help or hurt in one direction."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from ownward import anatomy, catalog
from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.planner import FitOption, Host, advise, fit

AT = date(2026, 11, 21)
MODELS = ("qwen3-0.6b", "qwen3-8b", "qwen3-30b-a3b", "gpt-oss-20b", "qwen3.5-35b-a3b", "llama-3.3-70b", "kimi-k2.6")
MACHINES = (
    "RTX 3060 12GB",
    "RTX 4090",
    "M4 Pro",
    "H100 SXM5 80GB",
    "B200 SXM",
    "tesla-p40",
    "EPYC 9004 12ch DDR5-4800",
)
models = st.sampled_from(MODELS)
machines = st.sampled_from(MACHINES)
contexts = st.sampled_from((512, 4096, 16384, 65536))


@cache
def of(name: str) -> Anatomy:
    release = catalog.model(name)
    return anatomy.from_config(release.load_config(), name=release.name)


def options(model: str, machine: Machine, **asked: object) -> dict[str, FitOption]:
    found = fit([of(model)], machine=machine, at=AT, **asked)  # type: ignore[arg-type]
    return {option.variant: option for option in found}


@settings(max_examples=60, deadline=None)
@given(model=models, machine=machines, context=contexts, concurrency=st.integers(1, 64))
def test_an_option_fits_or_says_what_is_missing_and_never_both(
    model: str, machine: str, context: int, concurrency: int
) -> None:
    for option in options(model, catalog.machine(machine), context_tokens=context, concurrency=concurrency).values():
        assert option.fits == (option.missing_bytes == 0)
        assert (option.decode_tokens_per_s.value is None) == (option.fits is False)
        if option.fits:
            assert option.max_context_tokens is not None
            assert option.max_context_tokens >= option.context_tokens
            assert option.max_concurrency is not None
            assert option.max_concurrency >= concurrency
            low, high = option.decode_tokens_per_s.low80, option.decode_tokens_per_s.high80
            assert low is not None
            assert high is not None
            assert 0 < low <= high


@settings(max_examples=40, deadline=None)
@given(model=models, machine=machines, context=contexts, more=st.integers(1, 512))
def test_memory_behind_a_card_takes_nothing_away(model: str, machine: str, context: int, more: int) -> None:
    plain = options(model, catalog.machine(machine), context_tokens=context)
    behind = options(model, catalog.machine(machine), context_tokens=context, host=Host(memory_bytes=more << 30))
    assert {name for name, option in plain.items() if option.fits} <= {
        name for name, option in behind.items() if option.fits
    }


@settings(max_examples=40, deadline=None)
@given(model=models, machine=machines, small=contexts, large=contexts)
def test_a_longer_context_never_needs_less_memory(model: str, machine: str, small: int, large: int) -> None:
    short, long = sorted((small, large))
    before = options(model, catalog.machine(machine), context_tokens=short)
    after = options(model, catalog.machine(machine), context_tokens=long)
    assert all(before[name].memory.total <= after[name].memory.total for name in before)


@settings(max_examples=40, deadline=None)
@given(model=models, machine=machines, count=st.sampled_from((1, 2, 4)))
def test_twice_the_devices_hold_what_half_of_them_did(model: str, machine: str, count: int) -> None:
    few = options(model, catalog.machine(machine), machines_count=count)
    many = options(model, catalog.machine(machine), machines_count=2 * count)
    assert {name for name, option in few.items() if option.fits} <= {
        name for name, option in many.items() if option.fits
    }


@settings(max_examples=25, deadline=None)
@given(model=models, price=st.integers(100, 20_000), watts=st.integers(20, 1500))
def test_what_one_pays_for_a_machine_and_its_power_only_adds(model: str, price: int, watts: int) -> None:
    card = catalog.machine("RTX 4090")
    assert card.price_usd is not None
    assert card.tdp_watts is not None
    base = options(model, card)
    dearer = options(
        model,
        replace(
            card,
            price_usd=replace(card.price_usd, value=card.price_usd.value + price),
            tdp_watts=replace(card.tdp_watts, value=card.tdp_watts.value + watts),
        ),
    )
    for name, option in base.items():
        if option.fits and option.usd_per_mtok_loaded is not None:
            assert option.usd_per_mtok_marginal is not None
            assert option.usd_per_mtok_marginal <= option.usd_per_mtok_loaded
            assert (dearer[name].usd_per_mtok_marginal or 0) > option.usd_per_mtok_marginal
            assert (dearer[name].usd_per_mtok_loaded or 0) > option.usd_per_mtok_loaded


@settings(max_examples=15, deadline=None)
@given(model=st.sampled_from(MODELS[:5]), budget=st.integers(500, 8000), more=st.integers(0, 8000))
def test_more_money_never_buys_less(model: str, budget: int, more: int) -> None:
    def best(usd: int) -> tuple[int, float, float]:
        found = advise([of(model)], machines=catalog.machines(), budget_usd=Decimal(usd), at=AT).best
        if found is None:
            return 0, 0.0, 0.0
        speed = found.option.decode_tokens_per_s.value or 0.0
        return 1 + (speed >= 8), min(found.option.bits, 6.5), speed

    assert best(budget) <= best(budget + more)
