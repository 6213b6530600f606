"""No end of a band is faster than the device: by its datasheet's bandwidth, and by its peak of arithmetic."""

import pytest

from ownward import anatomy, catalog
from ownward.perf import Case, predict, weight_bytes

_MACHINES = ("RTX 4090", "RTX PRO 6000 Blackwell Workstation", "H100 PCIe", "L20", "Ryzen AI Max+ 395")
_FITTING = [
    pytest.param(machine, model, weights, id=f"{model}-{weights}-{machine}")
    for machine in _MACHINES
    for model, weights in (("Llama-3.1-8B", "bf16"), ("Qwen3-32B", "fp8"), ("Qwen3.6-27B", "int4"))
    if (machine, model) != ("RTX 4090", "Qwen3-32B")
]


def _case(model: str, machine: str, **said: object) -> Case:
    found = anatomy.from_config(catalog.load_config(model), name=model)
    return Case(id="a", anatomy=found, machine=catalog.machine(machine), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(("machine", "model", "weights"), _FITTING)
@pytest.mark.parametrize("engine", ["vllm", "llama.cpp"])
def test_no_token_comes_sooner_than_its_weights_are_read(engine: str, machine: str, model: str, weights: str) -> None:
    case = _case(model, machine, engine=engine, weights=weights, metric="decode_tok_s_per_user", input_tokens=64)
    said = predict(case)
    assert said.fits is not False
    bandwidth = case.machine.bandwidth_bytes_per_s
    assert bandwidth is not None
    assert said.low80 is not None
    assert said.value is not None
    assert said.high80 is not None
    assert said.low80 < said.value <= said.high80
    counted, model = weight_bytes(case.anatomy, weights), case.anatomy
    read = counted.dense_read + counted.routed * model.experts_per_tok / max(model.experts, 1)
    assert said.high80 <= bandwidth.value / read


@pytest.mark.parametrize("machine", ["L20", "Tesla P100", "RTX 3080", "Ryzen AI Max+ 395"])
def test_no_first_token_comes_sooner_than_its_prompt_is_multiplied(machine: str) -> None:
    case = _case("Llama-3.1-8B", machine, weights="q4_k_m", metric="ttft_ms", input_tokens=2048)
    said = predict(case)
    rates = [rate.value for dtype in ("bf16", "fp16", "fp8", "int8") if (rate := case.machine.rate(dtype))]  # type: ignore[arg-type]
    body = case.anatomy.active_excl_input_embedding - case.anatomy.lm_head
    assert said.low80 is not None
    assert said.value is not None
    # GeForce sums in 16 bits at twice the stated rate, and multiplies in 8 bits at twice that
    assert said.low80 >= 1e3 * 2 * body * 2048 / (4 * max(rates))
    assert said.low80 < said.value


def test_a_latency_and_a_speed_of_the_same_thing_have_the_same_limit() -> None:
    speed = predict(_case("Llama-3.1-8B", "RTX 4090", engine="vllm", metric="decode_tok_s_per_user"))
    time = predict(_case("Llama-3.1-8B", "RTX 4090", engine="vllm", metric="tpot_ms"))
    assert speed.high80 is not None
    assert time.low80 is not None
    assert 1e3 / time.low80 == pytest.approx(speed.high80)
