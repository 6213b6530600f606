"""Which layers see all of the context and which a window of it: the patterns of the reference configurations."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy.fields import Fields
from ownward.core import UnsupportedAttention

IsWindowed = Callable[[Fields, int], bool]
"""Whether layer `index` (from 0) has the window where the config does not list each layer's kind."""

_FULL = frozenset({"full_attention", "attention"})
_WINDOWED = frozenset({"sliding_attention", "chunked_attention", "hybrid_sliding"})


def windows(
    fields: Fields,
    is_windowed: IsWindowed,
    *,
    window_names: tuple[str, ...] = ("sliding_window",),
) -> list[int | None]:
    """Return each layer's window in tokens, None for a layer that sees all of the context.

    A window as long as the longest context is none.
    Raises: UnsupportedAttention, for a listed kind without a formula here.
    """
    count = fields.layer_count()
    window = fields.optional_count(*window_names, least=0) or None
    longest = fields.optional_count("max_position_embeddings")
    if window is not None and longest is not None and window >= longest:
        window = None
    kinds = fields.layer_types(count)
    if kinds is None:
        return [window if is_windowed(fields, index) else None for index in range(count)]
    check_kinds(fields, kinds, _FULL | _WINDOWED)
    return [window if kind in _WINDOWED else None for kind in kinds]


def check_kinds(fields: Fields, kinds: list[str], known: frozenset[str]) -> None:
    """Refuse a kind of layer that has no formula here."""
    for kind in dict.fromkeys(kinds):
        if kind not in known:
            raise UnsupportedAttention(
                f"layer_types names {kind[:40]!r}, a kind of layer without a formula for this architecture",
                where=fields.where,
                allowed=f"Known: {', '.join(sorted(known))}",
                next_step="Give its weights instead: a GGUF file, a safetensors file or its index.json",
            )


def never(_fields: Fields, _index: int) -> bool:
    """Every layer sees all of the context (Llama)."""
    return False


def always(_fields: Fields, _index: int) -> bool:
    """Every layer has the window, where one is stated (Mistral, Mixtral, Phi-3)."""
    return True


def every_nth_full(default: int, *names: str) -> IsWindowed:
    """Return the pattern in which each n-th layer sees all of the context and the others a window."""

    def is_windowed(fields: Fields, index: int) -> bool:
        period = fields.count(*names, default=default) if names else default
        return (index + 1) % period != 0

    return is_windowed


def from_layer(fields: Fields, index: int) -> bool:
    """Start the window at layer `max_window_layers`, if it is switched on (Qwen2, Qwen3)."""
    return fields.flag("use_sliding_window", default=False) and index >= fields.count("max_window_layers", least=0)
