"""What the simulator is told of a deployment, against the deployment's own times of a step."""

from __future__ import annotations

import pytest

from ownward import anatomy, catalog
from ownward.core import BadInput, NoCapacity
from ownward.perf import StepModel, deploy

CONTEXT = 2000
LEAST = {"fixed_s": 0.01, "per_prefill_token_s": 0.0, "capacity_blocks": 9}


@pytest.mark.parametrize(
    ("model", "machine", "engine", "weights"),
    [
        ("qwen3-30b-a3b", "RTX 5090", "llama.cpp", "q4_k_m"),
        ("qwen3-8b", "RTX 4090", "llama.cpp", "bf16"),
        ("gpt-oss-20b", "RTX 4090", "llama.cpp", "mxfp4"),
        ("qwen3.5-27b", "H100 SXM", "vllm", "fp8"),
    ],
)
def test_a_step_of_any_size_takes_what_the_deployment_takes_for_it(
    model: str, machine: str, engine: str, weights: str
) -> None:
    release = catalog.model(model)
    deployment = deploy(
        anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine(machine),
        machines_count=1,
        engine=engine,
        weights=weights,
    )
    assert not isinstance(deployment, str)
    steps = deployment.compute_step_model(context_tokens=CONTEXT)
    for sequences in (0, 1, 2, 5, 11, 40, 200):
        for prompt in (0, 1, 20, 130, 300):
            if not sequences + prompt:
                continue
            found_s = steps.compute_step_s(
                prefill_tokens=prompt,
                prefill_token_contexts=prompt * CONTEXT // 2,
                decode_sequences=sequences,
                decode_context_tokens=sequences * CONTEXT,
            )
            expected_s = deployment.compute_step_s(
                sequences=sequences, context_tokens=CONTEXT, prompt_tokens=prompt
            ) + (deployment.attention_s(prompt, (CONTEXT - prompt) / 2) if prompt else 0.0)
            assert found_s == pytest.approx(expected_s, rel=0.03), (sequences, prompt)


@pytest.mark.parametrize(
    ("model", "machine", "count"),
    [
        ("qwen3-8b", "H100 SXM", 1),
        ("gemma-4-31b", "H100 SXM", 1),  # windows
        ("qwen3-next-80b-a3b", "H100 SXM", 8),  # states, and heads that are kept more than once
        ("deepseek-v3", "B200", 8),  # a latent cache, whole on every device
    ],
)
def test_the_simulator_has_room_for_as_many_sequences_as_fit_counts(model: str, machine: str, count: int) -> None:
    release = catalog.model(model)
    deployment = deploy(
        anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine(machine),
        machines_count=count,
        engine="vllm",
        weights="fp8",
    )
    assert not isinstance(deployment, str)
    steps = deployment.compute_step_model(context_tokens=CONTEXT)
    held = deployment.most_sequences(CONTEXT)
    assert held
    assert held <= steps.capacity_blocks * steps.block_tokens / CONTEXT + 0.01
    assert steps.capacity_blocks * steps.block_tokens / CONTEXT < held + 1


def test_a_machine_whose_memory_nobody_stated_is_not_simulated_as_if_it_had_none() -> None:
    release = catalog.model("qwen3-8b")
    deployment = deploy(
        anatomy.from_config(release.load_config(), name=release.name),
        machine=catalog.machine("Desktop 2ch DDR5-5600"),
        machines_count=1,
        engine="llama.cpp",
        weights="q4_k_m",
    )
    assert not isinstance(deployment, str)
    with pytest.raises(NoCapacity, match="the memory of 'Desktop 2ch DDR5-5600' is not known"):
        deployment.compute_step_model(context_tokens=CONTEXT)


def test_lines_of_a_step_file_are_read_as_they_are_printed() -> None:
    given = LEAST | {"by_sequences_s": [[1, 0.0], [4, 0.003]], "by_tokens_s": [[2, 0.001]]}
    model = StepModel.from_mapping(given, where="s.json")
    taken_s = model.compute_step_s(
        prefill_tokens=3, prefill_token_contexts=0, decode_sequences=2, decode_context_tokens=0
    )
    assert taken_s == pytest.approx(0.01 + 0.001 + 0.0015)  # two sequences, and three tokens past the last point


@pytest.mark.parametrize("points", [[[1]], 7, [[1, "a"]], [[2, 0.1], [1, 0.2]], [[1, 0.2], [2, 0.1]], [[0, 0.0]]])
def test_lines_that_do_not_grow_are_refused(points: object) -> None:
    with pytest.raises(BadInput, match="by_tokens_s is"):
        StepModel.from_mapping(LEAST | {"by_tokens_s": points}, where="s.json")
