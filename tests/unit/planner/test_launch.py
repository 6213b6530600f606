"""What a plan tells the engines of its owned tiers: that which they were sized with, and which fits."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from ownward import anatomy, catalog
from ownward.engines import EngineOptions, VllmOptions, vllm_command
from ownward.planner import OwnedCandidate, Sizing, size_fleet
from ownward.planner._launch import engine_options
from ownward.simulation import Slo
from ownward.traffic import Trace


def sized(model: str, machine: str, *, count: int, engine: str, weights: str, longest: int, slo: Slo) -> Sizing:
    release = catalog.model(model)
    candidate = OwnedCandidate(
        tier="own",
        anatomy=anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine(machine),
        machines_count=count,
        engine=engine,
        weights=weights,
    )
    trace = Trace.from_columns(
        arrival_s=np.arange(200) / 2,
        input_tokens=np.r_[np.full(199, 500), longest - 100],
        output_tokens=np.full(200, 100),
    )
    found = size_fleet(candidate, trace, slo, at=date(2026, 11, 21))
    assert isinstance(found, Sizing), found
    return found


EASY = Slo(ttft_s=20, tpot_s=1)


@pytest.mark.parametrize(
    ("model", "machine", "weights"),
    [
        ("qwen3-30b-a3b", "RTX 5090", "q4_k_m"),
        ("gemma-4-31b", "RTX 5090", "q4_k_m"),
        ("nemotron-3-nano-30b-a3b", "RTX 5090", "q4_k_m"),
    ],
)
def test_the_slots_of_a_planned_llama_server_each_hold_the_longest_request_and_all_fit(
    model: str, machine: str, weights: str
) -> None:
    found = sized(model, machine, count=1, engine="llama.cpp", weights=weights, longest=9000, slo=EASY)
    options = EngineOptions(model_path="m.gguf", alias="m", **engine_options([found]))
    assert (options.slots, options.context_tokens) == (found.scheduler.max_batch, 9000)
    memory = found.deployment.compute_memory(concurrency=options.slots, context_tokens=options.context_tokens)
    assert memory.total <= found.deployment.usable_bytes
    assert options.batch_tokens == found.scheduler.token_budget


def test_a_planned_vllm_lies_over_the_devices_that_were_paid_for_and_has_the_limits_that_were_simulated() -> None:
    found = sized("qwen3-32b", "RTX 5090", count=2, engine="vllm", weights="fp8", longest=9000, slo=EASY)
    command = " ".join(vllm_command(VllmOptions(model="m", alias="m", **engine_options([found]))))
    limits = found.scheduler
    assert f"--max-num-seqs {limits.max_batch} --max-num-batched-tokens {limits.token_budget}" in command
    assert "--tensor-parallel-size 2" in command
    assert "--quantization fp8" in command
    assert "--gpu-memory-utilization 0.92" in command
    options = engine_options([found])
    assert options["max_context_tokens"] >= 9000
    memory = found.deployment.compute_memory(concurrency=1, context_tokens=options["max_context_tokens"])
    assert memory.total <= found.deployment.usable_bytes


def test_workloads_on_one_engine_get_the_narrowest_limits_and_the_longest_requests() -> None:
    of = {"model": "qwen3-30b-a3b", "machine": "RTX 5090", "count": 1, "engine": "llama.cpp", "weights": "q4_k_m"}
    long, quick = sized(**of, longest=30_000, slo=EASY), sized(**of, longest=2000, slo=Slo(ttft_s=5, tpot_s=0.02))
    assert long.scheduler.token_budget > quick.scheduler.token_budget
    options = engine_options([long, quick])
    assert options["context_tokens"] == 30_000
    assert options["slots"] == min(long.scheduler.max_batch, quick.scheduler.max_batch)
    assert options["batch_tokens"] == quick.scheduler.token_budget
    memory = long.deployment.compute_memory(concurrency=options["slots"], context_tokens=30_000)
    assert memory.total <= long.deployment.usable_bytes
