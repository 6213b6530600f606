"""What a weight is for: the roles in which every parameter of a model is counted exactly once."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The part of a model that a weight belongs to; the value is the name of its count in every output."""

    EMBEDDINGS = "embeddings"
    LM_HEAD = "lm_head"
    PER_LAYER_EMBEDDINGS = "per_layer_embeddings"
    PER_LAYER_PROJ = "per_layer_proj"
    ATTENTION = "attention"
    LINEAR_ATTENTION = "linear_attention"
    SPARSE_INDEXER = "sparse_indexer"
    DENSE_MLP = "dense_mlp"
    ROUTED_EXPERTS = "routed_experts"
    SHARED_EXPERTS = "shared_experts"
    ROUTER = "router"
    NORMS = "norms"
    HYPER_CONNECTIONS = "hyper_connections"
    NGRAM_OR_PLE = "ngram_or_ple"
    LATENT_PROJ = "latent_proj"
    OTHER = "other"
    VISION_TOWER = "vision_tower"
    VISION_PROJECTOR = "vision_projector"
    AUDIO_TOWER = "audio_tower"


MODALITY_ROLES = frozenset({Role.VISION_TOWER, Role.VISION_PROJECTOR, Role.AUDIO_TOWER})
"""Everything that is not the language model itself."""

LOOKUP_ROLES = frozenset({Role.PER_LAYER_EMBEDDINGS, Role.NGRAM_OR_PLE})
"""Tables of which a token reads single rows: never multiplied, so never active."""
