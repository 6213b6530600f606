"""What transformers counts of an architecture without a formula: exact in number, silent on what is not told."""

from __future__ import annotations

import pytest

from ownward import anatomy
from ownward.anatomy.counted_by_transformers import count_parameters
from ownward.core import BadInput, UnsupportedAttention, UnsupportedModel

COUNTED = {
    "version": "5.0.0",
    "architecture": "new_kind",
    "parameters": [
        ["model.embed_tokens.weight", [100, 64]],
        ["model.layers.0.self_attn.q_proj.weight", [64, 64]],
        ["model.layers.0.wobble.weight", [64, 3]],
    ],
}


def test_counts_are_exact_and_marked_and_the_rest_is_not_told():
    found = anatomy.from_parameters(COUNTED, name="new", where="config.json")
    assert found.total_live_params == 100 * 64 + 64 * 64 + 64 * 3
    assert found.weights_bytes() == 2 * found.total_live_params
    assert found.counted_by == "transformers 5.0.0"
    assert found.unsupported == ("cache", "role of wobble.weight")
    shown = anatomy.as_contract(found)
    assert shown["kv_bytes_per_token_bf16"] is None
    assert shown["counted_by"] == "transformers 5.0.0"
    with pytest.raises(UnsupportedAttention):
        found.kv_bytes(4096)


def test_what_transformers_refuses_is_refused():
    with pytest.raises(UnsupportedModel, match="cannot build this model either: KeyError"):
        anatomy.from_parameters({"refused": "KeyError: 'x'", "version": "5"}, name="new", where="config.json")
    with pytest.raises(BadInput):
        anatomy.from_parameters({"parameters": [["a"]], "version": "5"}, name="new", where="config.json")


def test_a_known_architecture_is_counted_alike():
    pytest.importorskip("transformers", reason="needs the extra: pip install 'ownward[transformers]'")
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 500}  # fmt: skip
    found = anatomy.from_parameters(count_parameters(config), name="it", where="config.json")
    ours = anatomy.from_config(config)
    assert found.total_live_params == ours.total_live_params
    assert found.attention == ours.attention
