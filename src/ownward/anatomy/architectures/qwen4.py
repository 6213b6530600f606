"""Qwen4-exp (Qwen3.8-Flash-Next): Qwen3.5's layers with hyper-connections, an n-gram table and a token indexer."""

from __future__ import annotations

from ownward.anatomy.architectures.mixture import qwen_mixture
from ownward.anatomy.architectures.qwen_next import delta_net, gated_attention
from ownward.anatomy.architectures.windows import check_kinds
from ownward.anatomy.blueprint import (
    Blueprint,
    Layer,
    LayerCache,
    Weight,
    Weights,
    buffer,
    in_role,
    matrix,
    norm,
    prefixed,
    table,
)
from ownward.anatomy.decoder import assemble
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.attention import Part
from ownward.anatomy.primes import primes_from
from ownward.anatomy.roles import Role
from ownward.core import BadInput

_LINEAR, _INDEXED = "linear_attention", "indexed_attention"
_MOST_NGRAM_HEADS = 512


def qwen4_exp(fields: Fields, prefix: str = "model.", extra: Weights = ()) -> Blueprint:
    """Qwen4-exp's language model, with its drafts."""
    layers = fields.layer_count()
    kinds = _kinds(fields, layers)
    mixers = {_LINEAR: delta_net(fields, is_fused=False), _INDEXED: _indexed_attention(fields)}
    shared = (
        *qwen_mixture(fields),
        *_hyper_connection(fields, "attn_hyper_connection.", injects=True),
        *_hyper_connection(fields, "mlp_hyper_connection.", injects=True),
    )
    names = {
        _LINEAR: "gated_delta_net",
        _INDEXED: "sparse_attention" if fields.has("indexer_n_heads") else "full_attention",
    }
    layer = {kind: Layer(names[kind], (*part.weights, *shared), part.cache) for kind, part in mixers.items()}
    drawn = [layer[kind] for kind in kinds]
    for order, index in enumerate(_ngram_layers(fields, layers)):
        drawn[index] = drawn[index]._replace(weights=(*drawn[index].weights, *_ngram_layer(fields, order)))
    return assemble(
        fields,
        drawn,
        prefix=prefix,
        has_final_norm=False,
        extra=(*_hyper_connection(fields, f"{prefix}hyper_connection_mixer.", injects=False), *extra),
        drafts=_drafts(fields, layer[_INDEXED].weights),
        experts=(fields.count("num_experts"), fields.count("num_experts_per_tok")),
        is_checkpoint_settled=True,
    )


def _kinds(fields: Fields, layers: int) -> list[str]:
    listed = fields.layer_types(layers)
    if listed is None:
        period = fields.count("full_attention_interval", default=4)
        return [_LINEAR if (index + 1) % period else _INDEXED for index in range(layers)]
    check_kinds(fields, listed, frozenset({_LINEAR, _INDEXED, "full_attention"}))
    return [_LINEAR if kind == _LINEAR else _INDEXED for kind in listed]


def _indexed_attention(fields: Fields) -> Part:
    """Return gated attention, with the indexer that picks tokens by blocks of averaged keys."""
    part = gated_attention(fields)
    index_heads = fields.optional_count("indexer_n_heads")
    if index_heads is None:
        return part
    hidden, dim = fields.count("hidden_size"), fields.count("indexer_head_dim")
    kv_heads, role, prefix = fields.count("indexer_kv_heads"), Role.SPARSE_INDEXER, "self_attn.indexer."
    weights = (
        *part.weights,
        *matrix(f"{prefix}index_qk_proj", (index_heads + kv_heads) * dim, hidden, role),
        *norm(f"{prefix}q_layernorm", dim, role),
        *norm(f"{prefix}k_layernorm", dim, role),
    )
    return Part(weights, _indexed_cache(fields, part.cache, kv_heads * dim))


def _indexed_cache(fields: Fields, cache: LayerCache, index_values: int) -> LayerCache:
    """Return the cache of the attention with one averaged index key for each block of tokens.

    The FLOP stay those of dense attention: the reference masks what the indexer leaves out.
    """
    return cache._replace(index_values=index_values, index_stride=fields.count("indexer_compress_ratio"))


def _hyper_connection(fields: Fields, prefix: str, *, injects: bool) -> Weights:
    """Return the low-rank mixing of residual streams before a sublayer."""
    streams, rank, role = fields.count("hc_count"), fields.count("hc_lowrank"), Role.HYPER_CONNECTIONS
    width = streams * fields.count("hidden_size")
    weights = (
        *norm(f"{prefix}hc_norm", width, role),
        *matrix(f"{prefix}input_mix_weight_down", rank, width, role),
        *matrix(f"{prefix}input_mix_weight_up", width, rank, role),
    )
    return (*weights, *matrix(f"{prefix}block_inject_weight", streams, width, role)) if injects else weights


def _ngram_layers(fields: Fields, layers: int) -> list[int]:
    """Return the layers, from 0, that look up n-grams; the config counts them from 1."""
    listed = sorted(set(fields.numbers("ple_layer_ids") or ()))
    if listed and not 1 <= listed[0] <= listed[-1] <= layers:
        raise BadInput(f"ple_layer_ids names layers outside 1 to {layers}", where=fields.where)
    return [number - 1 for number in listed]


def _ngram_layer(fields: Fields, order: int) -> Weights:
    """Return the lookup of hashed n-grams: one prime-sized table a head, kept as one, and what injects it."""
    hidden, streams = fields.count("hidden_size"), fields.count("hc_count")
    embed = fields.count("ple_embed_dim", default=hidden)
    heads = (fields.count("ngram_size") - 1) * fields.count("heads_per_ngram")
    if not 0 < (order + 1) * heads <= _MOST_NGRAM_HEADS or embed % heads:
        raise BadInput(f"{heads} n-gram heads do not divide ple_embed_dim {embed}", where=fields.where)
    base, divisor = fields.count("ngram_vocab_size_base"), fields.count("make_ngram_vocab_size_divisible_by")
    rows = sum(primes_from(base, order * heads + heads)[order * heads :])
    padded = -(-rows // divisor) * divisor
    width, kernel, role = streams * hidden, fields.count("ple_conv_kernel_size"), Role.NGRAM_OR_PLE
    return (
        table("ple.ple_embedding.ngram_embedding.weight", padded, embed // heads, role),
        *matrix("ple.key_proj", width, embed, role),
        *matrix("ple.value_proj", hidden, embed, role),
        *in_role(role, (w for name in ("key", "query", "conv") for w in norm(f"ple.norm_{name}", width))),
        Weight("ple.conv1d.weight", (width, 1, kernel), role, "conv"),
        buffer("ple.ple_embedding.layer_multipliers", (fields.count("ngram_size"),), role, stored_bits=64),
        buffer("ple.ple_embedding.ngram_heads_vocab_sizes", (heads,), role, stored_bits=64),
        buffer("ple.ple_embedding.ngram_heads_offsets", (heads,), role, stored_bits=64),
    )


def _drafts(fields: Fields, layer: Weights) -> Weights:
    """Return Qwen3.8's drafts: one indexed layer behind a map from 2 x hidden, with a mixer of its own.

    Source: the element count of Qwen3.8-Flash-Next's checkpoint, met to the last one.
    """
    count, hidden = fields.draft_count("mtp_num_hidden_layers"), fields.count("hidden_size")
    if not count:
        return ()
    joint = (
        *matrix("mtp.fc", hidden, 2 * hidden, Role.OTHER),
        *norm("mtp.pre_fc_norm_embedding", hidden),
        *norm("mtp.pre_fc_norm_hidden", fields.count("hc_count") * hidden),
        *_hyper_connection(fields, "mtp.hyper_connection_mixer.", injects=False),
    )
    return (*joint, *(w for index in range(count) for w in prefixed(f"mtp.layers.{index}.", layer)))
