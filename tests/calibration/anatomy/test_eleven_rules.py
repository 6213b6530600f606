"""The eleven things that other tools get wrong about a model's shape, each with the model that shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownward import anatomy
from ownward.anatomy import Anatomy

Read = Callable[[str], Anatomy]


@pytest.fixture
def model(shared_data: Path) -> Read:
    return lambda name: anatomy.read(shared_data / "model-configs" / f"{name}.json")


@pytest.fixture
def config(shared_data: Path) -> Callable[[str], dict[str, Any]]:
    return lambda name: json.loads((shared_data / "model-configs" / f"{name}.json").read_text())


def test_rule_1_total_has_three_meanings(model: Read) -> None:
    found = model("Qwen3.5-397B-A17B")
    assert found.named_params == 396_802_360_816
    assert found.total_live_params == 396_802_360_816
    assert found.checkpoint_params_exact == 403_397_928_944
    e2b = model("gemma-4-E2B")
    assert e2b.checkpoint_params_exact - e2b.total_live_params == 18_880_512 + 963


def test_rule_2_drafts_are_one_layer_for_qwen_and_copies_besides_for_deepseek(model: Read) -> None:
    assert model("Qwen3-Next-80B-A3B").mtp_params == 1_650_471_424
    v3 = model("DeepSeek-V3")
    assert v3.mtp_params == 11_610_067_968
    assert v3.dead_params == 2 * 129_280 * 7168, "the draft layer's own copies of embedding and head"
    assert model("GLM-4.6").dead_params == 0
    assert model("MiniMax-M2").mtp_params == 0, "declares three modules and ships none"
    assert model("Kimi-K2.6").mtp_params == 0


def test_rule_3_gemma_e_models_share_caches_and_look_up_embeddings(model: Read) -> None:
    found = model("gemma-4-E2B")
    assert found.dead_params == 18_880_512
    assert found.per_layer_embeddings == 2_348_810_240
    assert found.active_params_per_token == found.text_params - found.per_layer_embeddings
    assert found.kv_bytes_per_token_bf16 == 6_144, "3 of 7 full layers keep a cache"
    assert found.dense_mlp == 3 * 1536 * (15 * 6144 + 20 * 12288)


def test_rule_4_gemma_26b_has_a_perceptron_and_experts_in_one_layer(model: Read) -> None:
    found = model("gemma-4-26B-A4B")
    assert found.dense_mlp == 535_265_280
    assert found.routed_experts == 22_837_985_280
    assert found.kv_bytes_per_token_bf16 == 5 * 2 * (2 * 512) * 2, "keys double as values in weights, not in the cache"


def test_rule_5_qwen_queries_are_twice_as_wide_and_states_do_not_grow(model: Read) -> None:
    found = model("Qwen3.5-397B-A17B")
    assert found.recurrent_state_bytes_per_seq == 45 * (64 * 128 * 128 * 4 + 12_288 * 3 * 2)
    assert found.kv_bytes(0) == found.recurrent_state_bytes_per_seq
    assert found.attention == 15 * (2 * 32 * 256 * 4096 + 2 * 2 * 256 * 4096 + 32 * 256 * 4096 + 2 * 256)


def test_rule_6_latent_attention_keeps_576_values_whatever_the_heads(
    model: Read, config: Callable[[str], dict[str, Any]]
) -> None:
    assert model("DeepSeek-V3").kv_bytes_per_token_bf16 == 61 * 576 * 2
    more_heads = anatomy.from_config({**config("DeepSeek-V3"), "num_attention_heads": 256})
    assert more_heads.kv_bytes_per_token_bf16 == 61 * 576 * 2
    assert model("DeepSeek-V3.2").indexer_key_bytes_per_token_bf16 == 61 * 128 * 2
    some = anatomy.from_config({**config("GLM-5"), "index_topk_freq": 4})
    assert 0 < some.indexer_key_bytes_per_token_bf16 < model("GLM-5").indexer_key_bytes_per_token_bf16


def test_rule_7_deepseek_v4_compresses_layer_by_layer(model: Read) -> None:
    found = model("DeepSeek-V4-Flash")
    assert {layer.kind: layer.count for layer in found.layers} == {
        "sliding_attention": 2,
        "compressed_sparse_attention": 21,
        "heavily_compressed_attention": 20,
    }
    assert found.window_tokens == 128
    assert found.kv_bytes_per_token_bf16 == 21 * 512 * 2 / 4 + 20 * 512 * 2 / 128
    assert found.checkpoint_params_exact == 290_944_616_402


def test_rule_8_kimi_k3_keeps_experts_in_a_latent_space(model: Read) -> None:
    found = model("Kimi-K3")
    assert {layer.kind: layer.count for layer in found.layers} == {"kimi_delta_attention": 69, "latent_attention": 24}
    assert found.routed_experts == 92 * 896 * 3 * 3584 * 3072
    assert found.latent_proj == 92 * (2 * 7168 * 3584 + 3584)
    assert (found.experts, found.experts_per_tok) == (896, 16)


def test_rule_9_qwen_3_8_is_mostly_model_and_a_third_table(model: Read) -> None:
    found = model("Qwen3.8-Flash-Next")
    assert found.checkpoint_params_exact == 179_999_981_459
    assert found.ngram_or_ple == 51_233_085_440
    assert found.mtp_params == 2_607_150_848
    assert found.active_params_per_token < 8e9, "the table is looked up, not multiplied"


def test_rule_10_mixed_precision_is_the_rule(model: Read, shared_data: Path) -> None:
    found = anatomy.read(shared_data / "model-configs" / "quantised" / "nvidia--Qwen3.5-397B-A17B-NVFP4.json")
    experts = found.routed_experts * 4.5 / 8
    assert found.weights_bytes() > experts + 2 * (found.linear_attention + found.shared_experts + found.vision_tower)
    assert found.weights_bytes() > found.weights_bytes("nvfp4"), "this one leaves more at 16 bits than is usual"


def test_rule_11_dense_first_layers_survive(config: Callable[[str], dict[str, Any]]) -> None:
    """A config that states no dense layers has none: the shape is what the file says, not what the name recalls."""
    stated = config("DeepSeek-V3")
    flattened = {**stated, "first_k_dense_replace": 0}
    assert anatomy.from_config(stated).dense_mlp == 3 * 3 * 7168 * 18_432
    assert anatomy.from_config(flattened).dense_mlp == 0
    assert anatomy.from_config(flattened).total_live_params > anatomy.from_config(stated).total_live_params + 30e9


def test_reads_grow_with_batch_as_uniform_routing_says(model: Read) -> None:
    found = model("Qwen3.5-397B-A17B")
    touched = [round(found.expected_distinct_experts(batch)) for batch in (1, 8, 32, 64, 256)]
    assert touched == [10, 75, 240, 367, 509]
    read = [round(found.step_bytes(batch, quantization="bf16") / 1e9) for batch in (1, 8, 32, 64, 256)]
    assert read == [33, 130, 379, 572, 786]
