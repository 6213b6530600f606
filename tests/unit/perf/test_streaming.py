"""A model larger than memory: what is held, what is missed, what it costs, against arithmetic and a measurement."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from ownward import anatomy, perf
from ownward.catalog import Machine
from ownward.core import GIB, KIB, Sourced

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "max_position_embeddings": 40960,
}
DISK = perf.DiskReads(bytes_per_s=650e6, over_read=1.35)


def told(value: float) -> Sourced[float]:
    return Sourced(value=value, basis="measured", source="a test", checked_on=date(2026, 11, 21))


def deployment() -> perf.Deployment:
    machine = Machine(
        id="cpu", name="a processor", kind="cpu-platform", vendor="", bandwidth_bytes_per_s=told(40e9),
        memory_bytes=Sourced(value=16 * GIB, basis="measured", source="a test", checked_on=date(2026, 11, 21)),
    )  # fmt: skip
    found = perf.deploy(
        anatomy.from_config(CONFIG, name="m"), machine=machine, machines_count=1, engine="llama.cpp", weights="q4_0"
    )
    assert not isinstance(found, str)
    return found


def test_a_model_that_fits_waits_for_nothing() -> None:
    found = perf.stream_decode(deployment(), weights_memory_bytes=64 * GIB, disk=DISK)
    assert (found.held_fraction, found.missed_bytes, found.disk_s) == (1.0, 0.0, 0.0)
    assert found.step_s == found.memory_s


def test_uniform_routing_misses_what_is_not_held() -> None:
    one = deployment()
    counted = one.counted
    half = counted.dense_read + counted.routed / 2
    found = perf.stream_decode(one, weights_memory_bytes=half, disk=DISK, locality=perf.UNIFORM_LOCALITY)
    active = counted.routed * 8 / 128
    assert found.held_fraction == pytest.approx(0.5)
    assert found.missed_bytes == pytest.approx(active / 2)
    assert found.read_bytes == pytest.approx(1.35 * active / 2)
    assert found.disk_s == pytest.approx(active / 2 / 650e6)
    assert found.step_s == pytest.approx(found.memory_s + found.disk_s)


def test_trained_routing_misses_less_than_uniform() -> None:
    one = deployment()
    uniform = perf.stream_decode(one, weights_memory_bytes=5 * GIB, disk=DISK, locality=perf.UNIFORM_LOCALITY)
    assert perf.stream_decode(one, weights_memory_bytes=5 * GIB, disk=DISK).missed_bytes < uniform.missed_bytes


def test_more_memory_is_never_slower() -> None:
    one = deployment()
    steps = [
        perf.stream_decode(one, weights_memory_bytes=size * GIB / 4, disk=DISK, sequences=3).step_s
        for size in range(1, 80)
    ]
    assert steps == sorted(steps, reverse=True)


def test_memory_below_the_dense_weights_reads_those_too() -> None:
    one = deployment()
    found = perf.stream_decode(one, weights_memory_bytes=0, disk=DISK, locality=1.0)
    assert found.missed_bytes == pytest.approx(found.used_bytes)


def test_a_prompt_passes_every_expert_it_touches_once_a_chunk() -> None:
    one = deployment()
    half = one.counted.dense_read + one.counted.routed / 2
    short = perf.stream_prefill(one, weights_memory_bytes=half, disk=DISK, tokens=512)
    assert short.missed_bytes == pytest.approx(one.counted.routed * one.touched_fraction(512) / 2)
    long = perf.stream_prefill(one, weights_memory_bytes=half, disk=DISK, tokens=2048)
    assert long.missed_bytes == pytest.approx(4 * short.missed_bytes)


def test_a_prediction_waits_for_the_disk_and_its_band_is_wider() -> None:
    one = deployment()
    case = perf.Case(id="a", anatomy=one.anatomy, machine=replace(one.machine, memory_bytes=None), weights="q4_0")
    before = perf.predict(case)
    assert before.value is not None
    after = perf.predict_streamed(
        before,
        one,
        weights_memory_bytes=5 * GIB,
        disk=DISK,
        metric="decode_tok_s_per_user",
        sequences=1,
        prompt_tokens=512,
    )
    assert after.value is not None
    assert after.low80 is not None
    assert after.high80 is not None
    assert after.low80 < after.value < after.high80 < before.value * 2
    assert after.value < before.value
    assert after.basis == "assumed"


def test_a_stated_rate_becomes_slower_page_faults() -> None:
    near = perf.DiskReads.by_page_faults(1.1e9, read_ahead_bytes=128 * KIB, slice_bytes=576 * KIB)
    far = perf.DiskReads.by_page_faults(1.1e9, read_ahead_bytes=8192 * KIB, slice_bytes=576 * KIB)
    fast = perf.DiskReads.by_page_faults(7e9, read_ahead_bytes=128 * KIB, slice_bytes=576 * KIB)
    assert near.bytes_per_s == pytest.approx(650e6, rel=0.2)
    assert far.bytes_per_s == pytest.approx(95e6, rel=0.3)
    assert far.over_read == pytest.approx(14.2, rel=0.2)
    assert near.bytes_per_s < fast.bytes_per_s < 0.3 * 7e9
