"""Quantisation configs in every dialect, against bytes computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ownward import anatomy
from ownward.core import BadInput, UnknownQuantization

SHAPE = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
}
TABLES = 2 * 1000 * 256
NORMS = 5 * 256
MATRICES = {"attention": 4 * 256 * 256 * 2, "mlp": 3 * 256 * 512 * 2}
LINEAR = sum(MATRICES.values())
PLAIN = 2 * (TABLES + NORMS)


def weights_bytes(quantization: dict[str, Any], **fields: Any) -> int:
    return anatomy.from_config({**SHAPE, "quantization_config": quantization, **fields}).weights_bytes()


def test_no_quantisation_is_two_bytes_a_parameter() -> None:
    found = anatomy.from_config(SHAPE)
    assert found.weights_bytes() == 2 * found.total_live_params == 2 * (TABLES + NORMS + LINEAR)


@pytest.mark.parametrize(
    "stated",
    [{"torch_dtype": "float32"}, {"dtype": "float32"}, {"dtype": None, "text_config": {"dtype": "torch.float32"}}],
)
def test_a_checkpoint_in_float32_is_four_bytes_a_parameter_and_other_formats_are_as_they_were(
    stated: dict[str, Any],
) -> None:
    found, plain = anatomy.from_config(SHAPE | stated), anatomy.from_config(SHAPE | {"dtype": "bfloat16"})
    assert found.weights_bytes() == 2 * plain.weights_bytes() == 4 * found.total_live_params
    assert (found.quantization, plain.quantization) == ("f32", None)
    assert found.weights_bytes_by_type() == plain.weights_bytes_by_type()
    assert found.weight_bytes_bf16 == plain.weights_bytes()


def test_fp8_in_blocks_adds_a_scale_a_tile() -> None:
    tiles = LINEAR // 128**2
    got = weights_bytes({"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert got == PLAIN + LINEAR + 4 * tiles


def test_exponents_as_scales_take_one_byte() -> None:
    tiles = LINEAR // 128**2
    got = weights_bytes({"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"})
    assert got == PLAIN + LINEAR + tiles


def test_ignored_modules_stay_at_sixteen_bits() -> None:
    kept = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.0.mlp"]}
    mlp = MATRICES["mlp"] // 2
    everything = weights_bytes({"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert weights_bytes(kept) == everything + mlp - 4 * (mlp // 128**2)


@pytest.mark.parametrize("pattern", ["gate", "model.layers.0.mlp.gate", "lm_head"])
def test_a_name_does_not_ignore_longer_names(pattern: str) -> None:
    """`gate` keeps a router and not `gate_proj`."""
    plain = weights_bytes({"quant_method": "fp8", "weight_block_size": [128, 128]})
    kept = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": [pattern]}
    assert weights_bytes(kept) == plain


def compressed(bits: int, group: int | None, kind: str = "int", **scheme: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": kind, "group_size": group, "symmetric": True, **scheme}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*self_attn.*"],
    }


def test_compressed_tensors_in_groups_with_a_pattern() -> None:
    got = weights_bytes(compressed(4, 32))
    assert got == PLAIN + 2 * MATRICES["attention"] + MATRICES["mlp"] * 4.5 / 8


def test_targets_in_another_layout_are_refused_and_not_counted_as_unquantised() -> None:
    group = {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["re:.*ffn.*(w1|w2|w3)$"]}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    with pytest.raises(UnknownQuantization, match="under these names"):
        weights_bytes(stated)
    group["targets"] = ["re:.*mlp.*_proj$"]
    assert weights_bytes(stated) < anatomy.from_config(SHAPE).weights_bytes()


def test_packs_keep_their_shape() -> None:
    packed = {**compressed(4, 32), "format": "pack-quantized"}
    assert weights_bytes(packed) == weights_bytes(compressed(4, 32)) + 6 * 8


def test_mxfp4_and_nvfp4_by_group_size() -> None:
    mlp, rest = MATRICES["mlp"], PLAIN + 2 * MATRICES["attention"]
    assert weights_bytes(compressed(4, 32, "float")) == rest + mlp * 4.25 / 8
    assert weights_bytes(compressed(4, 16, "float")) == rest + mlp * 4.5 / 8 + 6 * 8


def test_gptq_has_zero_points_and_group_numbers() -> None:
    got = weights_bytes({"quant_method": "gptq", "bits": 4, "group_size": 128})
    zeros = LINEAR // 128 * 4 // 8
    order = 4 * 2 * (6 * 256 + 512)
    assert got == PLAIN + LINEAR * (4 + 16 / 128) / 8 + zeros + order


def test_auto_round_obeys_other_bits_by_module() -> None:
    plain = {"quant_method": "auto-round", "bits": 4, "group_size": 128}
    up, head = 256 * 512, 1000 * 256
    kept = {**plain, "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 16, "data_type": "float"}}}
    finer = {**plain, "extra_config": {r".*layers\.0\..*up_proj": {"bits": 8}, "lm_head": {"bits": 8}}}
    quantised = (4 + 20 / 128) / 8
    more_bits = 4 / 8 + 4 / 128 / 8  # of a value, and of its group's zero point
    order = 4 * 256
    assert weights_bytes(kept) == weights_bytes(plain) + 2 * up - (up * quantised + order)
    head_now = head * (quantised + more_bits) + order
    assert weights_bytes(finer) == weights_bytes(plain) + up * more_bits + head_now - 2 * head


def test_auto_round_in_floating_point_is_refused() -> None:
    with pytest.raises(UnknownQuantization, match="mx_fp"):
        weights_bytes({"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp"})


@pytest.mark.parametrize(
    "method", [{"quant_method": "gptq"}, {"quant_method": "auto-round"}, {"quant_method": "awq", "zero_point": True}]
)
def test_quantisers_of_text_leave_towers_as_they_were(method: dict[str, Any]) -> None:
    model = {
        "model_type": "qwen2_5_vl",
        "text_config": {**SHAPE, "model_type": "qwen2_5_vl_text"},
        "vision_config": {"depth": 2, "hidden_size": 256, "num_heads": 4, "intermediate_size": 512},
    }
    without = anatomy.from_config({**SHAPE, "model_type": "qwen2", "tie_word_embeddings": True})
    plain = anatomy.from_config({**model, "tie_word_embeddings": True})
    stated = {**method, "bits": 4, "group_size": 128}
    towers = plain.weights_bytes() - without.weights_bytes()
    text = {**SHAPE, "model_type": "qwen2", "tie_word_embeddings": True, "quantization_config": stated}
    whole = {**model, "tie_word_embeddings": True, "quantization_config": stated}
    assert towers > 0
    assert anatomy.from_config(whole).weights_bytes() == anatomy.from_config(text).weights_bytes() + towers


def test_awq_has_zero_points_unless_switched_off() -> None:
    with_zeros = weights_bytes({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True})
    without = weights_bytes({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False})
    assert with_zeros - without == LINEAR // 128 * 4 // 8


def test_bitsandbytes_in_four_and_eight_bits() -> None:
    double = weights_bytes({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True})
    single = weights_bytes({"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert single == PLAIN + LINEAR * 4.5 / 8
    assert double < single
    assert weights_bytes({"quant_method": "bitsandbytes", "load_in_8bit": True}) > PLAIN + LINEAR


def test_mlx_quantises_tables_and_obeys_overrides() -> None:
    plain = anatomy.from_config({**SHAPE, "quantization": {"bits": 4, "group_size": 64}}).weights_bytes()
    assert plain == (TABLES + LINEAR) * 4.5 / 8 + 2 * NORMS
    finer = {"bits": 4, "group_size": 64, "model.layers.1.mlp.down_proj": {"bits": 8, "group_size": 64}}
    got = anatomy.from_config({**SHAPE, "quantization": finer}).weights_bytes()
    assert got == plain + 256 * 512 * 4 // 8


@pytest.mark.parametrize(
    ("stated", "bits"), [({"bits": 8, "group_size": 64}, 8.5), ({"bits": 6, "group_size": 64}, 6.5), (False, 16)]
)
def test_mlx_heads_have_the_bits_that_a_name_without_a_dot_gives_them(stated: object, bits: float) -> None:
    """mlx-lm looks each module's path up: `lm_head` beside `model.layers.0.mlp.down_proj`."""
    plain = {"bits": 4, "group_size": 64}
    got, usual = (
        anatomy.from_config({**SHAPE, "quantization": quantization}).weights_bytes()
        for quantization in ({**plain, "lm_head": stated}, plain)
    )
    assert got - usual == 1000 * 256 * (bits - 4.5) / 8


def test_modelopt_by_layer() -> None:
    by_layer = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"model.layers.0.mlp.up_proj": {"quant_algo": "FP8"}, "lm_head": {"quant_algo": "NVFP4"}},
    }
    plain = anatomy.from_config(SHAPE).weights_bytes()
    up, head = 256 * 512, 1000 * 256
    assert weights_bytes(by_layer) == plain - up + 8 - head * 2 + head * 4.5 / 8 + 8


def test_modelopt_that_names_itself_as_producer_alone() -> None:
    named = {"quant_algo": "FP8", "ignore": ["lm_head"]}
    signed = {**named, "producer": {"name": "modelopt", "version": "0.31.0"}}
    assert weights_bytes(signed) == weights_bytes({**named, "quant_method": "modelopt"})
    with pytest.raises(UnknownQuantization, match="known"):
        weights_bytes(named)


def test_layers_that_modelopt_quantised_anew_leave_the_rest_in_fp8() -> None:
    tiles = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    anew = {"model.layers.0.ffn.up_proj": {"quant_algo": "NVFP4", "group_size": 16}}  # DeepSeek's own names
    up = 256 * 512
    assert weights_bytes({**tiles, "quantized_layers": anew}) == weights_bytes(tiles) - (up + 8 * 4) + up * 4.5 / 8 + 8


def test_a_quantisation_beside_the_config_is_read() -> None:
    beside = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    found = anatomy.from_config(SHAPE, quantization=beside)
    assert found.quantization == "modelopt"
    assert found.weights_bytes() == PLAIN + LINEAR + 14 * 8


@pytest.mark.parametrize(
    "unknown",
    [
        {"quant_method": "telepathy"},
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 3, "type": "float"}}}},
        {"quant_method": "modelopt", "quant_algo": "FP3"},
        {"quant_method": "gptq", "bits": 40},
        {"quant_method": "fp8", "expert_dtype": ["fp4"]},
        {"quant_method": "bitsandbytes"},
    ],
)
def test_an_unknown_quantisation_is_refused(unknown: dict[str, Any]) -> None:
    with pytest.raises(UnknownQuantization, match="known"):
        weights_bytes(unknown)


@pytest.mark.parametrize("pattern", ["re:(a+)+$", "re:(", 7])
def test_a_pattern_that_could_hang_or_is_none_is_refused(pattern: object) -> None:
    with pytest.raises(BadInput):
        weights_bytes({**compressed(4, 32), "ignore": [pattern]})


def test_every_named_scheme_has_bytes_and_an_unknown_one_is_refused() -> None:
    found = anatomy.from_config(SHAPE)
    sizes = found.weights_bytes_by_type()
    assert set(sizes) == set(anatomy.SCHEMES)
    assert sizes["bf16"] > sizes["q8_0"] > sizes["q6_k"] > sizes["q4_k_m"] > sizes["q2_k"] > 0
    with pytest.raises(UnknownQuantization, match="q9"):
        found.weights_bytes("q9")


def test_rows_that_fill_no_block_fall_back_as_llama_cpp_does() -> None:
    """Rows of 96 are no multiple of 256: q4_k becomes q5_0."""
    narrow = {**SHAPE, "hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 3, "num_key_value_heads": 3}
    found = anatomy.from_config(narrow)
    assert found.weights_bytes_by_role("q4_k_s")[anatomy.Role.DENSE_MLP] >= found.dense_mlp * 22 / 32
