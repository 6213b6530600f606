"""A model that only makes vectors: two small layers of random weights in BERT's shape, as a GGUF file of 190 KB."""

from __future__ import annotations

from pathlib import Path

WIDTH = 32
_WIDER = 64
_LAYERS = 2
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_embedding_model(path: Path, *, pooling: str | None = "MEAN") -> Path:
    """Write it; it knows single letters. With `pooling` None it does not say how its vectors become one."""
    import gguf
    import numpy as np

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*_SPECIAL, *(f"\u2581{letter}" for letter in letters), *letters]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(_WIDER)
    writer.add_block_count(_LAYERS)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType[pooling])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(_SPECIAL) + [1] * (len(tokens) - len(_SPECIAL)))
    writer.add_token_scores([0.0] * len(tokens))
    for name, number in (("padding", 0), ("unknown", 1), ("bos", 2), ("cls", 2), ("seperator", 3), ("eos", 3)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    writer.add_uint32("tokenizer.ggml.mask_token_id", 4)
    writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    random = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))

    def add_with_bias(name: str, *shape: int) -> None:
        add(f"{name}.weight", *shape)
        add(f"{name}.bias", shape[0])

    add("token_embd.weight", len(tokens), WIDTH)
    add("position_embd.weight", 512, WIDTH)
    add("token_types.weight", 2, WIDTH)
    add_with_bias("token_embd_norm", WIDTH)
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add_with_bias(f"blk.{layer}.{name}", WIDTH, WIDTH)
        for name in ("attn_output_norm", "layer_output_norm"):
            add_with_bias(f"blk.{layer}.{name}", WIDTH)
        add_with_bias(f"blk.{layer}.ffn_up", _WIDER, WIDTH)
        add_with_bias(f"blk.{layer}.ffn_down", WIDTH, _WIDER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
