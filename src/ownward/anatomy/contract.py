"""The `ownward.anatomy/1` object: the anatomy as outsiders rely on it."""

from __future__ import annotations

from typing import Any

from ownward.anatomy.anatomy import Anatomy
from ownward.anatomy.roles import Role

SCHEMA = "ownward.anatomy/1"

_LOST = {
    "active": ("experts_per_tok", "active_params_per_token", "active_excl_input_embedding"),
    "cache": (
        "kv_bytes_per_token_bf16",
        "window_kv_bytes_per_slot_bf16",
        "window_tokens",
        "recurrent_state_bytes_per_seq",
        "indexer_key_bytes_per_token_bf16",
        "attn_flops_per_context_token",
        "attn_flops_per_window_token",
    ),
}
"""Which figures are null where the anatomy was read from tensors that do not tell them."""


def as_contract(anatomy: Anatomy) -> dict[str, Any]:
    """Return the object of `ownward models show --json`, under the names of CONTRACTS."""
    figures = _figures(anatomy)
    for lost in anatomy.unsupported:
        figures.update(dict.fromkeys(_LOST.get(lost, ())))
    return figures


def _figures(anatomy: Anatomy) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": anatomy.name,
        "architecture": anatomy.architecture,
        "total_live_params": anatomy.total_live_params,
        "checkpoint_params_exact": anatomy.checkpoint_params_exact,
        "text_params": anatomy.text_params,
        **{role.value: anatomy.params_by_role[role] for role in Role},
        "persistent_buffers": anatomy.persistent_buffers,
        "mtp_params": anatomy.mtp_params,
        "tied_embeddings": anatomy.tied_embeddings,
        "experts": anatomy.experts,
        "experts_per_tok": anatomy.experts_per_tok,
        "active_params_per_token": anatomy.active_params_per_token,
        "active_excl_input_embedding": anatomy.active_excl_input_embedding,
        "kv_bytes_per_token_bf16": anatomy.kv_bytes_per_token_bf16,
        "window_kv_bytes_per_slot_bf16": anatomy.window_kv_bytes_per_slot_bf16,
        "window_tokens": anatomy.window_tokens,
        "recurrent_state_bytes_per_seq": anatomy.recurrent_state_bytes_per_seq,
        "indexer_key_bytes_per_token_bf16": anatomy.indexer_key_bytes_per_token_bf16,
        "attn_flops_per_context_token": anatomy.attn_flops_per_context_token,
        "attn_flops_per_window_token": anatomy.attn_flops_per_window_token,
        "weight_bytes_bf16": anatomy.weight_bytes_bf16,
        "weights_bytes": anatomy.weights_bytes(),
        "weights_bytes_by_type": anatomy.weights_bytes_by_type(),
        "quantization": anatomy.quantization,
        "max_context_tokens": anatomy.max_context_tokens,
        "modalities": list(anatomy.modalities),
        "layers": [{"kind": layer.kind, "count": layer.count} for layer in anatomy.layers],
        "unsupported": list(anatomy.unsupported),
        "counted_by": anatomy.counted_by,
    }
