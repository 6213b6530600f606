"""What decoder-only models share: embeddings, layers in order, a final norm and a head."""

from __future__ import annotations

from collections.abc import Iterable

from ownward.anatomy.blueprint import Blueprint, Experts, Layer, Weights, in_state, matrix, norm, prefixed, table
from ownward.anatomy.fields import Fields
from ownward.anatomy.roles import Role


def assemble(
    fields: Fields,
    layers: Iterable[Layer],
    *,
    prefix: str = "model.",
    embedding_name: str = "embed_tokens",
    norm_name: str = "norm",
    head_name: str = "lm_head",
    has_norm_bias: bool = False,
    has_final_norm: bool = True,
    has_head_bias: bool = False,
    is_tied: bool | None = None,
    extra: Weights = (),
    drafts: Weights = (),
    experts: tuple[int, int] | None = None,
    is_checkpoint_settled: bool = False,
) -> Blueprint:
    """Return the blueprint of a decoder: `layers` between an embedding and a head, tied or not.

    `drafts` are the weights of multi-token prediction; `experts` is (count, per token).
    """
    hidden, vocab = fields.count("hidden_size"), fields.count("vocab_size")
    tied = fields.outer_flag("tie_word_embeddings", default=True) if is_tied is None else is_tied
    head = matrix(head_name, vocab, hidden, Role.LM_HEAD, has_bias=has_head_bias)[1 if tied else 0 :]
    final = norm(f"{prefix}{norm_name}", hidden, has_bias=has_norm_bias) if has_final_norm else ()
    drawn = tuple(layers)
    return Blueprint(
        outside=(
            table(f"{prefix}{embedding_name}.weight", vocab, hidden, Role.EMBEDDINGS),
            *final,
            *head,
            *extra,
            *in_state("mtp", drafts),
        ),
        layers=drawn,
        layer_prefix=f"{prefix}layers.",
        is_tied=tied,
        experts=_routing(drawn, experts),
        vocab_size=vocab,
        hidden_size=hidden,
        max_context_tokens=_longest_context(fields),
        is_checkpoint_settled=is_checkpoint_settled,
    )


def _longest_context(fields: Fields) -> int | None:
    """Return the tokens of context that a config states, or that YaRN stretches the trained context to.

    Source: vLLM 0.11, config/model.py (_get_and_verify_max_len).
    """
    stated = fields.optional_count("model_max_length", "max_position_embeddings")
    rope = fields.section("rope_scaling") or fields.section("rope_parameters")
    if rope is None or rope.get("rope_type", "type") != "yarn" or not rope.states("original_max_position_embeddings"):
        return stated
    trained = rope.count("original_max_position_embeddings")
    return max(stated or 0, int(trained * rope.number("factor", default=1)))


def _routing(layers: tuple[Layer, ...], experts: tuple[int, int] | None) -> Experts | None:
    if experts is None:
        return None
    by_shape = {id(layer): any(w.role is Role.ROUTED_EXPERTS for w in layer.weights) for layer in layers}
    routed = sum(by_shape[id(layer)] for layer in layers)
    return Experts(count=experts[0], per_token=experts[1], layers=routed) if routed else None


def drafts_of(layer: Layer, extra: Weights, *, prefix: str) -> Weights:
    """Return the weights of one draft layer (multi-token prediction): a layer of the model and what joins it."""
    return prefixed(prefix, (*layer.weights, *extra))
