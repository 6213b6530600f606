"""Laws that hold for every model's shape, over drawn configs of every kind of layer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownward import anatomy
from ownward.anatomy import Anatomy, Role, expected_distinct_experts

SIZES = st.sampled_from([1, 2, 3, 4, 6, 8])


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    layers, heads, kv = draw(st.integers(1, 12)), draw(SIZES), draw(SIZES)
    common = {
        "hidden_size": 32 * draw(SIZES) * heads,
        "num_hidden_layers": layers,
        "num_attention_heads": heads * kv,
        "num_key_value_heads": kv,
        "vocab_size": draw(st.integers(16, 5000)),
        "intermediate_size": 32 * draw(SIZES),
        "tie_word_embeddings": draw(st.booleans()),
    }
    routed = {"moe_intermediate_size": 32 * draw(SIZES), "num_experts_per_tok": draw(st.integers(1, 4))}
    latent = {
        "kv_lora_rank": 32 * draw(SIZES),
        "q_lora_rank": draw(st.sampled_from([None, 64])),
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": draw(st.integers(4, 32)),
        "first_k_dense_replace": draw(st.integers(0, 3)),
        "num_nextn_predict_layers": draw(st.integers(0, 1)),
    }
    extra: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": draw(st.booleans())},
        "gemma3_text": {"sliding_window": draw(st.integers(1, 1000)), "head_dim": 32},
        "qwen3_moe": {**routed, "num_experts": draw(st.integers(4, 64))},
        "qwen3_next": {**routed, "num_experts": draw(st.integers(4, 64)), "linear_num_value_heads": 32},
        "deepseek_v3": {**routed, **latent},
        "glm_moe_dsa": {**routed, **latent, "q_lora_rank": 64, "index_topk_freq": draw(st.integers(1, 4))},
        "jamba": {"num_experts": draw(st.integers(2, 16)), "num_experts_per_tok": 2},
    }
    architecture = draw(st.sampled_from(sorted(extra)))
    return {"model_type": architecture, **common, **extra[architecture]}


@given(configs())
def test_roles_sum_to_the_total(config: dict[str, Any]) -> None:
    found = anatomy.from_config(config)
    assert sum(found.params_by_role.values()) == found.total_live_params
    assert found.total_live_params + found.mtp_params + found.dead_params <= found.checkpoint_params_exact
    assert 0 < found.active_excl_input_embedding <= found.active_params_per_token <= found.text_params


@given(configs())
def test_sixteen_bits_are_two_bytes_a_parameter(config: dict[str, Any]) -> None:
    found = anatomy.from_config(config)
    assert found.weight_bytes_bf16 == 2 * (found.total_live_params + found.mtp_params)
    wide = 2 * (found.checkpoint_params_exact - found.dead_params - found.total_live_params - found.mtp_params)
    assert found.weights_bytes("bf16") == found.weight_bytes_bf16 + 2 * wide, "router biases take 4 bytes"


@given(configs())
def test_tied_weights_count_once(config: dict[str, Any]) -> None:
    tied = anatomy.from_config({**config, "tie_word_embeddings": True})
    apart = anatomy.from_config({**config, "tie_word_embeddings": False})
    assert apart.total_live_params - tied.total_live_params == config["vocab_size"] * config["hidden_size"]
    assert apart.active_excl_input_embedding == tied.active_excl_input_embedding


@given(configs(), st.lists(st.integers(0, 200_000), min_size=2, max_size=6), st.sampled_from(["bf16", "q8_0", "q4_0"]))
def test_cache_never_shrinks_with_context(config: dict[str, Any], contexts: list[int], kv_type: Any) -> None:
    found = anatomy.from_config(config)
    sizes = [found.kv_bytes(context, kv_type) for context in sorted(contexts)]
    assert sizes == sorted(sizes)
    assert [found.flop_per_token(context) for context in sorted(contexts)] == sorted(
        found.flop_per_token(context) for context in contexts
    )


@given(configs(), st.integers(0, 100_000))
def test_the_columns_and_the_function_agree_about_the_cache(config: dict[str, Any], context: int) -> None:
    found = anatomy.from_config(config)
    windowed = found.window_kv_bytes_per_slot_bf16 * min(context, found.window_tokens)
    growing = (found.kv_bytes_per_token_bf16 + found.indexer_key_bytes_per_token_bf16) * context
    assert found.kv_bytes(context) == growing + windowed + found.recurrent_state_bytes_per_seq


@given(st.integers(1, 2000), st.integers(1, 100_000))
def test_a_window_caps_the_cache(window: int, context: int) -> None:
    found = anatomy.from_config(
        {"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": window, "max_position_embeddings": 2**20}
    )
    assert found.kv_bytes(context) == min(context, window) * found.window_kv_bytes_per_slot_bf16
    assert found.kv_bytes(context) <= found.kv_bytes(window)


@given(st.integers(1, 512), st.integers(1, 512))
def test_latent_caches_do_not_depend_on_heads(one: int, other: int) -> None:
    def cache(heads: int) -> int:
        config = {"model_type": "deepseek_v3", "num_hidden_layers": 4, "num_attention_heads": heads}
        return anatomy.from_config(config).kv_bytes(1000)

    assert cache(one) == cache(other)


@given(configs(), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(config: dict[str, Any], rng: random.Random) -> None:
    keys = list(config)
    rng.shuffle(keys)
    assert anatomy.from_config({key: config[key] for key in keys}) == anatomy.from_config(config)


@given(configs())
def test_finer_quantisation_never_takes_fewer_bytes(config: dict[str, Any]) -> None:
    found = anatomy.from_config(config)
    order = ["q3_k_s", "q4_k_s", "q5_k_s", "q6_k", "q8_0", "f16"]
    sizes = [found.weights_bytes(name) for name in order]
    assert sizes == sorted(sizes)


@given(configs(), st.integers(1, 4096), st.floats(0, 2))
def test_a_step_reads_between_one_token_and_all_weights(config: dict[str, Any], batch: int, skew: float) -> None:
    found: Anatomy = anatomy.from_config(config)
    read = found.step_bytes(batch, quantization="bf16", skew=skew)
    assert found.step_bytes(1, quantization="bf16") <= read * (1 + 1e-9)
    assert read <= sum(found.weights_bytes_by_role("bf16").values()) * (1 + 1e-9)


@settings(max_examples=200)
@given(st.integers(1, 1000), st.integers(1, 64), st.integers(1, 5000), st.floats(0, 3))
def test_distinct_experts_grow_with_the_batch_and_shrink_with_skew(
    experts: int, per_token: int, tokens: int, skew: float
) -> None:
    def distinct(count: float, zipf: float) -> float:
        return expected_distinct_experts(experts=experts, per_token=per_token, tokens=count, skew=zipf)

    uniform = distinct(tokens, 0)
    assert min(per_token, experts) <= uniform + 1e-9
    assert uniform <= min(experts, per_token * tokens) + 1e-9
    assert distinct(tokens, skew) <= uniform + 1e-6
    assert distinct(tokens, skew) <= distinct(tokens + 1, skew) + 1e-9
    assert distinct(1, skew) == pytest.approx(min(per_token, experts))


def test_every_role_has_a_name_of_its_own() -> None:
    assert len({role.value for role in Role}) == len(Role)
