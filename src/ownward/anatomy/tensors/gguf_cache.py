"""What each layer of a GGUF model caches, from its metadata and from which tensors the layer holds."""

from __future__ import annotations

from collections.abc import Mapping

from ownward.anatomy.blueprint import NO_CACHE, Blueprint, Layer, LayerCache, Weight
from ownward.anatomy.parts.attention import grouped_query_cache, latent_cache, make_sparse
from ownward.anatomy.parts.recurrent import recurrent_cache
from ownward.anatomy.tensors.gguf import GgufFile, Value

# Every n-th layer sees all of the context, where a window is stated and no pattern is.
# Source: llama.cpp src/models, set_swa_pattern, b11549.
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "olmo2": 4, "llama4": 4, "phi3": 0, "exaone4": 4}
_GATED = frozenset({"qwen35", "qwen35moe", "qwen3next"})


class UnknownCache(Exception):
    """A layer whose cache the metadata does not settle."""


def add_caches(blueprint: Blueprint, file: GgufFile) -> tuple[Blueprint, bool]:
    """Return the blueprint with each layer's cache, and whether all of them could be settled."""
    keys = _Keys(file.metadata, file.architecture, len(blueprint.layers))
    try:
        layers = tuple(_with_cache(layer, index, keys) for index, layer in enumerate(blueprint.layers))
    except UnknownCache:
        return blueprint, False
    return Blueprint(
        outside=blueprint.outside,
        layers=layers,
        layer_prefix=blueprint.layer_prefix,
        is_tied=blueprint.is_tied,
        experts=blueprint.experts,
        vocab_size=blueprint.vocab_size,
        hidden_size=blueprint.hidden_size,
        max_context_tokens=keys.optional("context_length"),
        is_checkpoint_settled=True,
    ), True


class _Keys:
    """The metadata of one architecture, by short names."""

    def __init__(self, metadata: Mapping[str, Value], architecture: str, layers: int) -> None:
        self.metadata = metadata
        self.architecture = architecture
        self.layers = layers

    def optional(self, name: str) -> int | None:
        """Return a whole number, or None."""
        value = self.metadata.get(f"{self.architecture}.{name}")
        return value if type(value) is int and value >= 0 else None

    def number(self, name: str) -> int:
        """Return a whole number."""
        value = self.optional(name)
        if value is None:
            raise UnknownCache(name)
        return value

    def at(self, name: str, index: int) -> int:
        """Return a whole number that may differ from layer to layer."""
        value = self.metadata.get(f"{self.architecture}.{name}")
        if isinstance(value, list) and index < len(value) and type(value[index]) is int:
            return int(value[index] or 0)
        return self.number(name)

    def window(self, index: int) -> int | None:
        """Return a layer's window, None where it sees everything."""
        window = self.optional("attention.sliding_window") or self.optional("attention.chunk_size")
        if not window or window >= (self.optional("context_length") or window + 1):
            return None
        pattern = self.metadata.get(f"{self.architecture}.attention.sliding_window_pattern")
        if isinstance(pattern, list) and index < len(pattern):
            return window if pattern[index] else None
        every = pattern if type(pattern) is int else _FULL_EVERY.get(self.architecture)
        if every is None:
            raise UnknownCache("sliding_window_pattern")
        return window if not every or (index + 1) % every else None


def _with_cache(layer: Layer, index: int, keys: _Keys) -> Layer:
    names = {weight.name.removesuffix(".weight"): weight for weight in layer.weights}
    if all(weight.state != "live" for weight in layer.weights):
        return layer._replace(kind="draft")
    if "ssm_conv1d" in names:
        return layer._replace(kind="recurrent", cache=_recurrent(names["ssm_conv1d"], keys))
    if any(name.startswith(("ssm_", "time_mix", "shortconv")) for name in names):
        return layer._replace(kind="convolution", cache=_convolution(names))
    if "attn_kv_a_mqa" in names:
        return _latent(layer, names, keys)
    if "attn_q" in names or "attn_qkv" in names:
        return _attention(layer, index, keys)
    if any(name.startswith("attn") and not name.endswith("norm") for name in names):
        raise UnknownCache(next(iter(names)))
    return layer._replace(kind="feed_forward", cache=NO_CACHE)


def _recurrent(conv: Weight, keys: _Keys) -> LayerCache:
    channels, kernel = conv.shape[0], conv.shape[-1]
    return recurrent_cache(
        state_values=keys.number("ssm.inner_size") * keys.number("ssm.state_size"),
        conv_channels=channels,
        kernel=kernel,
    )


def _convolution(names: Mapping[str, Weight]) -> LayerCache:
    conv = names.get("shortconv.conv")
    if conv is None:
        raise UnknownCache(next(iter(names)))
    return LayerCache(conv_values=conv.shape[0] * (conv.shape[-1] - 1))


def _latent(layer: Layer, names: Mapping[str, Weight], keys: _Keys) -> Layer:
    cache = latent_cache(
        heads=keys.number("attention.head_count"),
        latent_rank=keys.number("attention.kv_lora_rank"),
        rope_dim=keys.number("rope.dimension_count"),
    )
    if not any(name.startswith("indexer") for name in names):
        return layer._replace(kind="latent_attention", cache=cache)
    sparse = make_sparse(
        cache,
        index_heads=keys.number("attention.indexer.head_count"),
        index_dim=keys.number("attention.indexer.key_length"),
        selected_tokens=keys.number("attention.indexer.top_k"),
        has_indexer=True,
    )
    return layer._replace(kind="sparse_latent_attention", cache=sparse)


def _attention(layer: Layer, index: int, keys: _Keys) -> Layer:
    heads = keys.at("attention.head_count", index)
    kv_heads = keys.at("attention.head_count_kv", index)
    if not heads or not kv_heads:
        raise UnknownCache("attention.head_count")
    window = keys.window(index)
    key_dim = keys.optional("attention.key_length")
    value_dim = keys.optional("attention.value_length")
    if window is not None and keys.optional("attention.key_length_swa"):
        key_dim, value_dim = keys.optional("attention.key_length_swa"), keys.optional("attention.value_length_swa")
    key_dim = key_dim or keys.number("embedding_length") // heads
    shared = keys.optional("attention.shared_kv_layers") or 0
    cache = grouped_query_cache(
        heads=heads,
        kv_heads=kv_heads,
        key_dim=key_dim,
        value_dim=value_dim or key_dim,
        window_tokens=window,
        keeps_cache=index < keys.layers - shared,
    )
    return layer._replace(kind="full_attention" if window is None else "sliding_attention", cache=cache)
