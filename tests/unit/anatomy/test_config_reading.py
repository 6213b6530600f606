"""From a config to an anatomy: published counts, defaults, dialects, and what is refused and how."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from ownward import anatomy
from ownward.anatomy.architectures import ARCHITECTURES
from ownward.core import BadInput, UnsupportedAttention, UnsupportedModel

# Shapes small enough to stand here, with the element counts their makers publish.
LLAMA_3_1_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "attention_bias": True,
    "sliding_window": 128,
    "max_position_embeddings": 131072,
}


@pytest.mark.parametrize(("config", "published"), [(LLAMA_3_1_8B, 8_030_261_248), (GPT_OSS_20B, 20_914_757_184)])
def test_published_counts_are_met(config: dict[str, Any], published: int) -> None:
    assert anatomy.from_config(config).total_live_params == published


@pytest.mark.parametrize(
    ("stated", "longest"),
    [
        ({}, 131072),
        ({"model_max_length": 262144}, 262144),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 65536}}, 262144),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 65536}}, 262144),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 131072),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 65536}}, 131072),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 131072),
    ],
)
def test_the_longest_context_is_what_yarn_stretches_the_trained_one_to(stated: dict[str, Any], longest: int) -> None:
    assert anatomy.from_config({**LLAMA_3_1_8B, **stated}).max_context_tokens == longest


NEMOTRON_3_SUPER = {
    "model_type": "nemotron_h",
    "hidden_size": 4096,
    "head_dim": 128,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "moe_latent_size": 1024,
    "moe_intermediate_size": 2688,
    "moe_shared_expert_intermediate_size": 5376,
    "n_routed_experts": 512,
    "num_experts_per_tok": 22,
    "vocab_size": 131072,
    "hybrid_override_pattern": (
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
    ),
}


@pytest.mark.parametrize(
    "pattern", [{"mtp_hybrid_override_pattern": "*E"}, {"mtp_layers_block_type": ["attention", "moe"]}, {}]
)
def test_nemotron_3_ships_the_draft_layers_that_its_pattern_names(pattern: dict[str, Any]) -> None:
    plain = anatomy.from_config(NEMOTRON_3_SUPER)
    drafting = anatomy.from_config({**NEMOTRON_3_SUPER, "num_nextn_predict_layers": 1, **pattern})
    hidden = 4096
    attention = hidden + 2 * hidden * hidden + 2 * 256 * hidden
    mixture = hidden + 512 * hidden + 512 * 2 * 1024 * 2688 + 2 * hidden * 5376 + 2 * 1024 * hidden
    joint = 2 * hidden * hidden + 3 * hidden
    assert plain.mtp_params == 0
    assert drafting.mtp_params == attention + mixture + joint
    assert drafting.total_live_params == plain.total_live_params == 120_668_687_360
    assert drafting.weights_bytes() > plain.weights_bytes() + 2 * drafting.mtp_params


def test_more_drafts_than_layers_are_refused_of_nemotron_too() -> None:
    with pytest.raises(BadInput, match="num_nextn_predict_layers"):
        anatomy.from_config({**NEMOTRON_3_SUPER, "num_nextn_predict_layers": 10**9})


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"kimi_k2", "kimi_k3", "kimi_k25"}))
def test_reference_defaults_alone_draw_a_model(architecture: str) -> None:
    needed = {
        "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2},
        "deepseek_v2": {"num_experts_per_tok": 2},
        "nemotron": {"num_key_value_heads": 8},
    }
    nested = {"text_config": {}} if architecture in MULTIMODAL else {}
    found = anatomy.from_config({"model_type": architecture, **nested, **needed.get(architecture, {})})
    assert found.total_live_params > 0
    assert sum(layer.count for layer in found.layers) == found.layer_count


MULTIMODAL = frozenset(
    {"gemma3", "gemma4", "glm4v", "glm4v_moe", "llama4", "mistral3", "muse_glimmer", "qwen3_5", "qwen3_5_moe",
     "qwen3_vl", "qwen3_vl_moe", "qwen4_exp"}
)  # fmt: skip


def test_an_unknown_architecture_is_refused_by_name_with_neighbours_and_ways_out() -> None:
    with pytest.raises(UnsupportedModel) as caught:
        anatomy.from_config({"model_type": "qwen3_mow"})
    text = str(caught.value)
    assert "'qwen3_mow'" in text
    assert "qwen3_moe" in text
    assert "GGUF" in text


def test_a_fork_that_keeps_the_class_is_read_by_its_class() -> None:
    renamed = {**LLAMA_3_1_8B, "model_type": "my_fork", "architectures": ["LlamaForCausalLM"]}
    assert anatomy.from_config(renamed).total_live_params == 8_030_261_248


def test_an_unknown_kind_of_layer_is_refused() -> None:
    kinds = ["full_attention"] * 31 + ["telepathic_attention"]
    with pytest.raises(UnsupportedAttention, match="telepathic_attention"):
        anatomy.from_config({**LLAMA_3_1_8B, "layer_types": kinds})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", -1),
        ("hidden_size", "big"),
        ("hidden_size", 2**60),
        ("hidden_size", True),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 0),
        ("vocab_size", [1]),
        ("layer_types", ["full_attention"]),
        ("tie_word_embeddings", "yes"),
    ],
)
def test_a_value_that_no_model_has_is_refused_with_its_name(field: str, value: object) -> None:
    with pytest.raises(BadInput, match=field):
        anatomy.from_config({**LLAMA_3_1_8B, field: value})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA_3_1_8B | {"num_key_value_heads": 5}, "32 attention heads cannot share 5 key-value heads"),
        (GPT_OSS_20B | {"num_experts_per_tok": 64}, "a token uses 64 of 32 experts"),
    ],
    ids=["heads", "experts"],
)
def test_sizes_that_contradict_each_other_are_refused_with_both(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        anatomy.from_config(config)
    assert caught.value.where is not None


def test_a_config_that_names_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="model_type"):
        anatomy.from_config({"hidden_size": 64})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "deepseek_v3", "num_nextn_predict_layers": 2**40},
        {"model_type": "qwen3_next", "mtp_num_hidden_layers": 2**40},
        {"model_type": "qwen4_exp_text", "ple_layer_ids": [1], "heads_per_ngram": 2**40},
        {"model_type": "nemotron_h", "hybrid_override_pattern": "M" * 100_000},
        {"model_type": "llama4_text", "no_rope_layers": [1] * 100_000},
    ],
)
def test_counts_that_would_take_memory_without_end_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        anatomy.from_config(config)


def test_a_folder_is_read_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text(json.dumps(LLAMA_3_1_8B))
    assert anatomy.read(tmp_path / "my-model").name == "my-model"


def test_a_null_head_size_is_derived_and_not_defaulted() -> None:
    config = {**LLAMA_3_1_8B, "head_dim": None}
    assert anatomy.from_config(config).attention == anatomy.from_config(LLAMA_3_1_8B).attention


def test_an_anatomy_survives_copies() -> None:
    found = anatomy.from_config(LLAMA_3_1_8B)
    assert copy.copy(found) == found
    assert pickle.loads(pickle.dumps(found)).attention == found.attention
    with pytest.raises(AttributeError, match="attenshun"):
        _ = found.attenshun


def test_windows_cap_the_cache() -> None:
    found = anatomy.from_config(GPT_OSS_20B)
    assert found.kv_bytes(128) == 128 * (24_576 + 24_576)
    assert found.kv_bytes(10_000) == 10_000 * 24_576 + 128 * 24_576


def test_cache_types_follow_their_blocks() -> None:
    found = anatomy.from_config(LLAMA_3_1_8B)
    assert found.kv_bytes(1000, "fp8") * 2 == found.kv_bytes(1000)
    assert found.kv_bytes(1000, "q8_0") == found.kv_bytes(1000) * 34 // 64
    assert found.kv_bytes(1000, "q4_0") == found.kv_bytes(1000) * 18 // 64


def test_flop_of_generated_tokens_add_up_to_those_of_reading_them() -> None:
    found = anatomy.from_config(GPT_OSS_20B)
    head = 2.0 * found.lm_head
    one_by_one = sum(found.flop_per_token(context) for context in range(300))
    assert found.prefill_flop(300) == pytest.approx(one_by_one - 299 * head)
    assert found.prefill_flop(100, cached_tokens=200) == pytest.approx(
        sum(found.flop_per_token(context) for context in range(200, 300)) - 99 * head
    )


def test_the_contract_names_every_figure() -> None:
    contract = anatomy.as_contract(anatomy.from_config(GPT_OSS_20B, name="gpt-oss-20b"))
    assert contract["schema"] == "ownward.anatomy/1"
    assert contract["layers"] == [
        {"kind": "sliding_attention", "count": 12},
        {"kind": "full_attention", "count": 12},
    ]
    assert contract["unsupported"] == []
    assert contract["weights_bytes_by_type"]["bf16"] == contract["weights_bytes"] == 2 * 20_914_757_184
    assert {"fp8", "q8_0", "q4_k_m", "mxfp4", "nvfp4", "int4_g32"} <= set(contract["weights_bytes_by_type"])
    assert json.loads(json.dumps(contract)) == contract


@pytest.mark.parametrize(
    ("model_type", "class_"),
    [
        ("llama", "LlamaForCausalLMEagle3"),
        ("llama", "Eagle3LlamaForCausalLM"),
        ("qwen3", "DFlashDraftModel"),
        ("deepseek_v3", "DeepseekV3ForCausalLMNextN"),
        ("qwen2", "Qwen2ForRewardModel"),
        ("llama", "DeciLMForCausalLM"),
    ],
)
def test_a_class_of_its_own_under_a_known_type_is_refused_by_name(model_type: str, class_: str) -> None:
    with pytest.raises(UnsupportedModel, match=class_):
        anatomy.from_config({**LLAMA_3_1_8B, "model_type": model_type, "architectures": [class_]})


@pytest.mark.parametrize(
    ("model_type", "class_"),
    [
        ("llama", "LLaMAForCausalLM"),
        ("mistral", "LlamaForCausalLM"),
        ("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
        ("ernie4_5", "Ernie4_5_ForCausalLM"),
    ],
)
def test_classes_are_known_however_they_are_written(model_type: str, class_: str) -> None:
    config = {**LLAMA_3_1_8B, "model_type": model_type, "head_dim": 128, "architectures": [class_]}
    assert anatomy.from_config(config).architecture == model_type


@pytest.mark.parametrize(
    ("class_", "labels", "head"),
    [
        ("LlamaForCausalLM", None, 128256 * 4096),
        ("LlamaModel", None, 0),
        ("LlamaForSequenceClassification", None, 2 * 4096),
        ("LlamaForSequenceClassification", {"0": "score"}, 4096),
        ("LlamaForTokenClassification", {"0": "a", "1": "b", "2": "c"}, 3 * 4096 + 3),
    ],
)
def test_the_head_is_that_of_the_class(class_: str, labels: object, head: int) -> None:
    """An embedding model's checkpoint has no map to the vocabulary, a ranker's has one to its labels."""
    config = LLAMA_3_1_8B | {"tie_word_embeddings": False, "architectures": [class_], "id2label": labels}
    found = anatomy.from_config(config)
    assert found.lm_head == head
    assert found.total_live_params == 8_030_261_248 - 128256 * 4096 + head


def test_a_number_that_is_too_large_is_told_the_largest() -> None:
    with pytest.raises(BadInput, match="up to 17,592,186,044,416"):
        anatomy.from_config(LLAMA_3_1_8B | {"hidden_size": 10**18})
