"""`ownward models show` on files as other programs write them: GGUF by `gguf`, safetensors by `safetensors`."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from ownward.cli import run

HIDDEN, INNER, VOCABULARY, LAYERS, HEADS, CONTEXT = 64, 128, 96, 2, 4, 512


@pytest.fixture
def shown(capsys, monkeypatch, tmp_path):
    """The page of a path as JSON and as text, away from any settings of the user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("OWNWARD_CATALOG_FOLDER", raising=False)
    monkeypatch.delenv("OWNWARD_CONFIG", raising=False)

    def show(path):
        assert run(["models", "show", str(path), "--json"]) == 0
        payload = json.loads(capsys.readouterr().out)
        assert run(["models", "show", str(path)]) == 0
        return payload, capsys.readouterr().out

    return show


@pytest.fixture
def gguf_file(tmp_path):
    """A llama of two layers, its matrices in Q8_0 and the rest in F32, and the bytes of its tensors."""
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    shapes = {"token_embd.weight": (VOCABULARY, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (HIDDEN,),
            f"blk.{layer}.ffn_norm.weight": (HIDDEN,),
            f"blk.{layer}.attn_q.weight": (HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{layer}.attn_v.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{layer}.attn_output.weight": (HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_gate.weight": (INNER, HIDDEN),
            f"blk.{layer}.ffn_up.weight": (INNER, HIDDEN),
            f"blk.{layer}.ffn_down.weight": (HIDDEN, INNER),
        }
    stored = 0
    for name, shape in shapes.items():
        values = np.zeros(shape, dtype=np.float32)
        if len(shape) == 2:
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            stored += packed.nbytes
        else:
            writer.add_tensor(name, values)
            stored += values.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, sum(int(np.prod(shape)) for shape in shapes.values()), stored


def test_a_gguf_file_is_counted_to_the_byte(shown, gguf_file):
    path, params, stored = gguf_file
    payload, page = shown(path)
    assert payload["total_live_params"] == params
    assert payload["weights_bytes"] == stored
    assert payload["max_context_tokens"] == CONTEXT
    assert [line["weights"] for line in payload["reads"]] == ["bf16", "fp8", "q4_k_m", "mxfp4", "own"]
    assert payload["caches"][0]["limit_bytes"] == CONTEXT * LAYERS * 2 * (HIDDEN // 2) * 2
    assert f"this file, {8 * stored / params:.1f} bits" in page
    assert f"{params:,}" in page


def test_a_folder_with_a_gguf_file_is_that_file(shown, gguf_file):
    path, params, _ = gguf_file
    assert shown(path.parent)[0]["total_live_params"] == params


def test_a_folder_of_safetensors_and_config_is_read_together(shown, tmp_path):
    """As it lies in a hub cache: the config says what it is, the tensors what there is."""
    folder = tmp_path / "our-llama"
    folder.mkdir()
    tensors = {
        "model.embed_tokens.weight": np.zeros((VOCABULARY, HIDDEN), dtype=np.float16),
        "model.norm.weight": np.zeros((HIDDEN,), dtype=np.float16),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors |= {
            f"{prefix}input_layernorm.weight": np.zeros((HIDDEN,), dtype=np.float16),
            f"{prefix}post_attention_layernorm.weight": np.zeros((HIDDEN,), dtype=np.float16),
            f"{prefix}self_attn.q_proj.weight": np.zeros((HIDDEN, HIDDEN), dtype=np.float16),
            f"{prefix}self_attn.k_proj.weight": np.zeros((HIDDEN // 2, HIDDEN), dtype=np.float16),
            f"{prefix}self_attn.v_proj.weight": np.zeros((HIDDEN // 2, HIDDEN), dtype=np.float16),
            f"{prefix}self_attn.o_proj.weight": np.zeros((HIDDEN, HIDDEN), dtype=np.float16),
            f"{prefix}mlp.gate_proj.weight": np.zeros((INNER, HIDDEN), dtype=np.float16),
            f"{prefix}mlp.up_proj.weight": np.zeros((INNER, HIDDEN), dtype=np.float16),
            f"{prefix}mlp.down_proj.weight": np.zeros((HIDDEN, INNER), dtype=np.float16),
        }
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "vocab_size": VOCABULARY,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    params = sum(tensor.size for tensor in tensors.values())
    for path in (folder, folder / "model.safetensors", folder / "config.json"):
        payload, page = shown(path)
        assert payload["total_live_params"] == params
        assert payload["weights_bytes"] == 2 * params
        assert payload["caches"]
        assert "2 full attention" in page
