"""The command that `fit` prints leaves on the card what the card holds, by llama.cpp's own way of counting layers."""

from __future__ import annotations

from datetime import date

import pytest

from ownward import anatomy, catalog
from ownward.anatomy import Role
from ownward.cli._fit_commands import launch_commands
from ownward.core import GIB
from ownward.planner import FitOption, Host, fit


def offloaded(model: str, machine: str, weights: str) -> tuple[FitOption, list[str]]:
    release = catalog.model(model)
    shape = anatomy.from_config(release.load_config(), name=release.name)
    [option] = fit(
        [shape],
        machine=catalog.machine(machine),
        engine="llama.cpp",
        formats=[weights],
        context_tokens=32_768,
        host=Host(memory_bytes=2048 * GIB),
        at=date(2026, 11, 21),
    )
    assert option.fits
    assert option.layers_on_host
    return option, list(launch_commands(option, release, source=None, threads=8)[0].words)


@pytest.mark.parametrize(
    ("model", "machine"),
    [
        ("gpt-oss-120b", "RTX 4090"),  # experts in every layer
        ("deepseek-v3", "RTX 5090"),  # none in the first three
        ("nemotron-3-nano-30b-a3b", "RTX 3060"),  # in 23 of 52
    ],
)
def test_the_experts_of_the_first_layers_that_the_command_names_are_as_many_as_must_go(
    model: str, machine: str
) -> None:
    option, words = offloaded(model, machine, "q4_k_m")
    first = int(words[words.index("--n-cpu-moe") + 1])
    has_experts = [
        any(weight.role is Role.ROUTED_EXPERTS for weight in layer.weights)
        for layer in option.deployment.anatomy.blueprint.layers
    ]
    gone = option.deployment.counted.routed * sum(has_experts[:first]) / sum(has_experts)
    assert option.memory.total - gone <= option.usable_bytes
    assert sum(has_experts[:first]) == option.layers_on_host  # and not one more


@pytest.mark.parametrize("model", ["qwen3-32b", "gemma-4-31b", "llama-3.3-70b"])
def test_layers_leave_the_card_with_their_caches_and_the_head_stays(model: str) -> None:
    option, words = offloaded(model, "RTX 4090", "q8_0")
    count, deployment = option.layer_count, option.deployment
    on_card = int(words[words.index("--n-gpu-layers") + 1]) - 1  # llama.cpp counts the head as one
    each = (deployment.counted.dense_read - deployment.head_bytes + option.memory.cache) / count
    assert option.memory.total - (count - on_card) * each <= option.usable_bytes
    assert option.memory.total - (count - on_card - 1) * each > option.usable_bytes


def test_fit_moves_as_much_of_a_dense_model_as_predict_does() -> None:
    from ownward.perf import Case, predict

    option, _ = offloaded("qwen3-32b", "RTX 4090", "q8_0")
    case = Case(
        id="x", anatomy=option.deployment.anatomy, machine=option.deployment.machine, engine="llama.cpp",
        weights="q8_0", input_tokens=2048, output_tokens=128, context_depth=32_768 - 2048 - 128,
        metric="decode_tok_s_per_user",
    )  # fmt: skip
    assert option.decode_tokens_per_s.value == pytest.approx(predict(case).value, rel=0.02)
