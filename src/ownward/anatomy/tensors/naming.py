"""What a tensor is for, from its name: the words that checkpoints use, GGUF's and the hub's."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ownward.anatomy.blueprint import Op, State
from ownward.anatomy.roles import Role

_LAYER = re.compile(r"(?:^|\.)(?:layers|blk|h|blocks)\.(\d+)\.")
_EXPERT = re.compile(r"\bexperts?\.\d+\.")

# Searched in order in the tensor's name; the first that is found decides.
_ROLES: tuple[tuple[re.Pattern[str], Role], ...] = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"^mm\.|projector|visual\.merger|embed_vision|vision_adapter|aligner|connector", Role.VISION_PROJECTOR),
        (r"^v\.|vision|visual|vit\.|image_encoder", Role.VISION_TOWER),
        (r"^a\.|audio|speech|whisper|embed_audio", Role.AUDIO_TOWER),
        (r"ngram|\bple\.", Role.NGRAM_OR_PLE),
        (r"per_layer_token_embd|embed_tokens_per_layer", Role.PER_LAYER_EMBEDDINGS),
        (r"per_layer|post_per_layer|\.inp_gate|\.proj\.weight$|post_norm\.weight$", Role.PER_LAYER_PROJ),
        (r"indexer", Role.SPARSE_INDEXER),
        (r"hyper_connection|hc_|_hc\.", Role.HYPER_CONNECTIONS),
        (r"token_embd_norm|embedding_norm|embed_norm", Role.NORMS),
        (r"token_embd|embed_tokens|wte\.|tok_embeddings|word_embeddings|embeddings?\.weight|embed_in", Role.EMBEDDINGS),
        (r"^output\.weight|lm_head|embed_out|shared_head\.head", Role.LM_HEAD),
        (r"shared_expert|_shexp|shared_mlp", Role.SHARED_EXPERTS),
        (r"routed_(?:down|up)_proj|latent_proj|ffn_latent", Role.LATENT_PROJ),
        (r"ffn_gate_inp|exp_probs_b|e_score_correction|\brouter\b|\.gate\.(?:weight|bias|wg|e_)", Role.ROUTER),
        (r"_exps|\bexperts?\b", Role.ROUTED_EXPERTS),
        (r"linear_attn|ssm_|mamba|time_mix|shortconv|\bconv\.|mixer\.(?:in_proj|out_proj|conv1d|norm|A_log|D|dt_bias)",
         Role.LINEAR_ATTENTION),
        (r"attn_(?:norm|post_norm|output_norm)|ffn_norm|post_ffw_norm|layer_?norm|output_norm", Role.NORMS),
        (r"post_attention_norm|pre_feedforward|post_feedforward|ln_\w+|\bnorm\d?\.", Role.NORMS),
        (r"attn|attention|self_attn|q_proj|k_proj|v_proj|qkv", Role.ATTENTION),
        (r"mlp|ffn|feed_forward|gate_proj|up_proj|down_proj|fc\d|dense_", Role.DENSE_MLP),
        (r"norm", Role.NORMS),
    )
)  # fmt: skip
_INNER_NORMS = re.compile(r"attn_(?:q|k)(?:_a|_b)?_norm|attn_kv_a_norm|(?:q|k|kv)_(?:a_)?(?:layer)?norm")
_DRAFT = re.compile(r"^mtp\.|\.mtp\.|nextn\.|eh_proj|enorm|hnorm|shared_head")
_BUFFER = re.compile(r"rope_freqs|rope_factors|inv_freq|exp_probs_b|e_score_correction|rotary_emb|num_batches_tracked")


class Place(NamedTuple):
    """Where a tensor belongs: its layer or None, and its name within it, equal experts under one name."""

    layer: int | None
    prefix: str
    name: str


def place_of(name: str) -> Place:
    """Return a tensor's layer and its name there.

    >>> place_of("model.layers.7.mlp.experts.12.up_proj.weight")
    Place(layer=7, prefix='model.layers.', name='mlp.experts.{}.up_proj.weight')
    """
    match = _LAYER.search(name)
    if match is None or is_tower(prefix := name[: match.start(1)]):
        return Place(None, "", _EXPERT.sub("experts.{}.", name))
    return Place(int(match[1]), prefix, _EXPERT.sub("experts.{}.", name[match.end() :]))


@functools.lru_cache(maxsize=4096)
def is_tower(name: str) -> bool:
    """Whether a name is one of a vision or audio tower, whose layers are not the model's."""
    return re.search(r"^[va]\.|^mm\.|vision|visual|audio|image_encoder|vit\.", name) is not None


@functools.lru_cache(maxsize=4096)
def role_of(name: str) -> Role:
    """Return the role of a tensor; `other` for a name that tells nothing."""
    if _INNER_NORMS.search(name):
        return Role.SPARSE_INDEXER if "indexer" in name else Role.ATTENTION
    return next((role for pattern, role in _ROLES if pattern.search(name)), Role.OTHER)


@functools.lru_cache(maxsize=4096)
def state_of(name: str) -> State:
    """Return whether a tensor is live, a draft's or no parameter."""
    if _BUFFER.search(name):
        return "buffer"
    return "mtp" if _DRAFT.search(name) else "live"


def op_of(role: Role, shape: tuple[int, ...], name: str) -> Op:
    """Return how a tensor is used."""
    if role in {Role.EMBEDDINGS, Role.PER_LAYER_EMBEDDINGS, Role.NGRAM_OR_PLE} and len(shape) > 1:
        return "lookup"
    if "conv" in name and len(shape) > 1:
        return "conv"
    return "matmul" if len(shape) > 1 else "vector"
