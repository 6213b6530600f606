"""Laws that no coefficient may break."""

from dataclasses import replace
from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from ownward import anatomy, catalog
from ownward.core import Sourced
from ownward.perf import Case, Deployment, deploy, predict

MODELS = ("llama-3.1-8b", "qwen3-30b-a3b", "qwen3.6-27b", "deepseek-v3", "gpt-oss-20b", "gemma-4-31b")
MACHINES = ("RTX 3090", "H100 SXM", "Apple M2 Ultra", "Ryzen AI Max+ 395", "B200")
WEIGHTS = ("bf16", "q8_0", "q4_k_m")


@lru_cache
def model(name: str) -> anatomy.Anatomy:
    release = catalog.model(name)
    return anatomy.from_config(release.load_config(), name=release.name)


def deployment(name: str, machine: str, weights: str) -> Deployment:
    found = deploy(model(name), machine=catalog.machine(machine), machines_count=1, engine="llama.cpp", weights=weights)
    assert isinstance(found, Deployment)
    return found


choices = {"name": st.sampled_from(MODELS), "machine": st.sampled_from(MACHINES), "weights": st.sampled_from(WEIGHTS)}


@settings(deadline=None)
@given(**choices, context=st.integers(0, 100_000), more=st.integers(1, 30_000))
def test_a_longer_context_never_lowers_the_cache(
    name: str, machine: str, weights: str, context: int, more: int
) -> None:
    found = deployment(name, machine, weights)
    assert found.cache_bytes(context + more) >= found.cache_bytes(context)


@settings(deadline=None)
@given(**choices, contexts=st.tuples(st.integers(1, 50_000), st.integers(1, 50_000)), batch=st.integers(1, 64))
def test_a_longer_context_or_a_larger_batch_never_makes_a_step_shorter(
    name: str, machine: str, weights: str, contexts: tuple[int, int], batch: int
) -> None:
    found = deployment(name, machine, weights)
    context, more = contexts
    step_s = found.compute_decode_step_s(sequences=batch, context_tokens=context)
    assert found.compute_decode_step_s(sequences=batch, context_tokens=context + more) >= step_s
    assert found.compute_decode_step_s(sequences=batch + 1, context_tokens=context) >= step_s * (1 - 1e-9)


@settings(deadline=None)
@given(**choices, tokens=st.integers(1, 8192), more=st.integers(1, 8192))
def test_a_longer_prompt_never_takes_less_time(name: str, machine: str, weights: str, tokens: int, more: int) -> None:
    found = deployment(name, machine, weights)
    assert found.compute_prefill_s(tokens=tokens + more) >= found.compute_prefill_s(tokens=tokens) * (1 - 1e-9)


@settings(deadline=None)
@given(**choices, extra=st.integers(0, 1 << 40))
def test_more_memory_never_makes_a_case_unfit_nor_slower(name: str, machine: str, weights: str, extra: int) -> None:
    device = catalog.machine(machine)
    usable = device.usable_memory
    assert usable is not None
    larger = replace(
        device,
        memory_bytes=Sourced(
            value=usable.value + extra, basis="assumed", source="a larger card", checked_on=usable.checked_on
        ),
    )
    case = Case(id="x", anatomy=model(name), machine=device, weights=weights)
    before, after = predict(case), predict(replace(case, machine=larger))
    assert not (before.fits and not after.fits)
    if before.value is not None:
        assert after.value is not None
        assert after.value >= before.value * (1 - 1e-9)


@settings(deadline=None)
@given(
    **choices,
    metric=st.sampled_from(["prefill_tok_s", "decode_tok_s_per_user", "decode_tok_s_total", "ttft_ms", "tpot_ms"]),
    users=st.integers(1, 2000),
)
def test_every_case_gets_a_positive_value_in_its_band_or_a_reason(
    name: str, machine: str, weights: str, metric: str, users: int
) -> None:
    case = Case(
        id="x", anatomy=model(name), machine=catalog.machine(machine), weights=weights, metric=metric, concurrency=users
    )
    said = predict(case)
    if said.value is None:
        assert said.refused
    else:
        assert said.low80 is not None
        assert said.high80 is not None
        assert 0 < said.low80 <= said.value <= said.high80
