"""The anatomy of a model: every count, byte and FLOP figure that follows from its blueprint."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ownward.anatomy.blueprint import Blueprint, Experts, Weight
from ownward.anatomy.cache import CacheType, attention_flop, causal_flop, layer_cache_bytes
from ownward.anatomy.quantization import SCHEMES, Recipe, scheme_sizes, stored_sizes
from ownward.anatomy.quantization.recipe import module_of
from ownward.anatomy.roles import LOOKUP_ROLES, MODALITY_ROLES, Role
from ownward.anatomy.routing import expected_distinct_experts
from ownward.core import UnknownQuantization, UnsupportedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCount:
    """Layers of one kind."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """A model's shape, exact to the parameter.

    Three totals: `named_params` (what names count: text, vision and audio; no drafts),
    `total_live_params` (what a forward pass can use, tied weights once) and
    `checkpoint_params_exact` (every element the file holds: drafts, buffers and dead weights too).
    Cache figures are bytes of the whole model, at the width their names say.
    """

    name: str
    architecture: str
    total_live_params: int
    checkpoint_params_exact: int
    text_params: int
    params_by_role: Mapping[Role, int]
    persistent_buffers: int
    dead_params: int
    mtp_params: int
    tied_embeddings: bool
    experts: int
    experts_per_tok: int
    moe_layers: int
    active_params_per_token: int
    active_excl_input_embedding: int
    layers: tuple[LayerCount, ...]
    kv_bytes_per_token_bf16: float
    window_kv_bytes_per_slot_bf16: int
    window_tokens: int
    recurrent_state_bytes_per_seq: int
    indexer_key_bytes_per_token_bf16: float
    attn_flops_per_context_token: float
    attn_flops_per_window_token: float
    weight_bytes_bf16: int
    max_context_tokens: int | None
    vocab_size: int | None
    hidden_size: int | None
    modalities: tuple[str, ...]
    quantization: str | None = None
    blueprint: Blueprint = field(repr=False)
    recipe: Recipe | None = field(default=None, repr=False)
    is_from_tensors: bool = False
    is_narrowed_on_load: bool = False
    """Whether engines load it in 16 bits though it is stored in 32, as they do with checkpoints, not with GGUF files.

    Source: vLLM 0.11, config/model.py (_resolve_auto_dtype); SGLang 0.5 prints "Downcasting torch.float32".
    """
    counted_by: str | None = None
    """The program and version whose own model was counted, where it was not ours; the basis is then `counted`."""
    head_width: int = 0
    """Values of one key head in the layers that most of attention's work is done in; 0 where nothing attends."""
    unsupported: tuple[str, ...] = ()
    """What tensors without a config do not tell: `cache`, `active`. Its figures are 0 and mean nothing."""

    @property
    def named_params(self) -> int:
        """What a model's name counts: text, vision and audio, without drafts."""
        return self.total_live_params

    def first_layers_with(self, expert_layers: int) -> int:
        """Return how many layers, from the first on, it takes to have `expert_layers` that hold routed experts."""
        holding = (
            number
            for number, layer in enumerate(self.blueprint.layers, start=1)
            if any(weight.role is Role.ROUTED_EXPERTS for weight in layer.weights)
        )
        return next(itertools.islice(holding, expert_layers - 1, None), self.layer_count) if expert_layers else 0

    @property
    def layer_count(self) -> int:
        """Layers of all kinds."""
        return len(self.blueprint.layers)

    def cache_copies(self, devices: int) -> float:
        """Return how often the cache is kept in all where `devices` share each layer: 1, or more.

        Heads of keys and values are not cut: each of 8 devices has one of 2 heads, and the cache is kept 4 times.
        """
        kept = copies = 0.0
        for layer, count in self.blueprint.layer_groups():
            cache = layer.cache
            if cache.kv_heads:
                values = count * (cache.token_values / cache.stride + cache.window_values)
                kept += values
                copies += values * devices * math.ceil(cache.kv_heads / devices) / cache.kv_heads
        return copies / kept if kept else 1.0

    def can_share_layers(self, devices: int) -> bool:
        """Return whether `devices` can share each layer: they get heads whole and in equal numbers.

        Heads of keys and values are dealt out evenly too, or copied evenly where there are fewer.
        Source: vLLM 0.11, config/model.py (verify_with_parallel_config) and the attention of model_executor/models.
        """
        caches = [layer.cache for layer, _ in self.blueprint.layer_groups() if layer.cache.kv_heads]
        return all(
            cache.heads % devices == 0 and (cache.kv_heads % devices == 0 or devices % cache.kv_heads == 0)
            for cache in caches
        )

    def can_cut_experts(self, devices: int) -> bool:
        """Return whether each of `devices` can have a slice of every expert: tiles that share a scale stay whole.

        Source: vLLM 0.11, model_executor/layers/quantization/fp8.py (Fp8MoEMethod.create_weights).
        """
        if self.recipe is None or not self.experts:
            return True
        named = self.blueprint.named_weights()
        routed = ((name, weight) for name, weight in named if weight.role is Role.ROUTED_EXPERTS)
        first = list(itertools.islice(routed, 3))  # of one expert: gate, up and down, or two in one
        width = min((side for _, w in first for side in w.shape[-2:] if side != self.hidden_size), default=0)
        tiles = [self.recipe.format_of(module_of(name), weight).tile for name, weight in first]
        return all(tile is None or width % (devices * tile[0]) == 0 for tile in tiles)

    def weights_bytes(self, quantization: str | None = None) -> int:
        """Return the bytes of the weights, by default as the file itself stores them.

        `quantization` is one of `SCHEMES`: what the usual tool for it would make of this model.
        Raises: UnknownQuantization, for a name that is not there.
        """
        return sum(size for _, size in self._sizes(quantization))

    def weights_bytes_by_type(self) -> dict[str, int]:
        """Return the bytes of the weights under every quantisation whose bytes are known for any model."""
        return {name: self.weights_bytes(name) for name in SCHEMES}

    def weights_bytes_by_role(self, quantization: str | None = None) -> dict[Role, int]:
        """Return the bytes of the live weights by what they are for, drafts and dead weights left out."""
        sizes = dict.fromkeys(Role, 0)
        for weight, size in self._sizes(quantization):
            if weight.state in {"live", "buffer"}:
                sizes[weight.role] += size
        return sizes

    def step_bytes(self, batch_tokens: float, *, quantization: str | None = None, skew: float = 0.0) -> float:
        """Return the bytes of weights that one step of `batch_tokens` tokens reads.

        All of the text model but looked-up rows and the experts that no token chose; `skew` as
        in `expected_distinct_experts`. Cache and activations are not counted.
        """
        sizes = self.weights_bytes_by_role(quantization)
        untouched = {*MODALITY_ROLES, *LOOKUP_ROLES, Role.ROUTED_EXPERTS}
        if not self.tied_embeddings:
            untouched.add(Role.EMBEDDINGS)
        read: float = sum(size for role, size in sizes.items() if role not in untouched)
        if self.experts:
            share = self.expected_distinct_experts(batch_tokens, skew=skew) / self.experts
            read += share * sizes[Role.ROUTED_EXPERTS]
        return read

    def _sizes(self, quantization: str | None) -> Iterable[tuple[Weight, int]]:
        if quantization is None:
            if self.is_from_tensors:
                return [(w, w.file_bytes * count) for w, count in self.blueprint.counted_weights()]
            if self.recipe is not None:
                return stored_sizes(self.blueprint, self.recipe)
            return scheme_sizes(self.blueprint, "f32" if self.quantization == "f32" else "bf16")
        if quantization not in SCHEMES:
            raise UnknownQuantization(
                f"no quantisation {quantization[:40]!r}", allowed=f"Known: {', '.join(sorted(SCHEMES))}"
            )
        return scheme_sizes(self.blueprint, quantization)

    def kv_bytes(self, context_tokens: int, kv_type: CacheType = "bf16") -> int:
        """Return the bytes that a sequence of `context_tokens` keeps: cache, window, index keys and state.

        `kv_type` is the type of keys, values and latents; recurrent state stays fp32 and
        convolution inputs 16 bit, whatever the cache type.
        Raises: UnsupportedAttention, where the cache is not known.
        """
        self._need("cache")
        return sum(
            count * layer_cache_bytes(layer.cache, context_tokens, kv_type)
            for layer, count in self.blueprint.layer_groups()
        )

    def flop_per_token(self, context_tokens: int) -> float:
        """Return the FLOP of one generated token after `context_tokens`: linear layers and attention.

        2 for each multiply-add; latent attention in absorbed form.
        Raises: UnsupportedAttention, where the cache is not known.
        """
        self._need("cache")
        linear = 2.0 * self.active_excl_input_embedding
        return linear + sum(
            count * attention_flop(layer.cache, context_tokens) for layer, count in self.blueprint.layer_groups()
        )

    def prefill_flop(self, tokens: int, *, cached_tokens: int = 0) -> float:
        """Return the FLOP of reading `tokens` new tokens after `cached_tokens`: every new one attends to all before.

        The head is computed for the last token alone.
        Raises: UnsupportedAttention, where the cache is not known.
        """
        self._need("cache")
        head = self.params_by_role[Role.EMBEDDINGS if self.tied_embeddings else Role.LM_HEAD]
        linear = 2.0 * (self.active_excl_input_embedding - head) * tokens + 2.0 * head
        return linear + sum(
            count * causal_flop(layer.cache, tokens, cached_tokens) for layer, count in self.blueprint.layer_groups()
        )

    def expected_distinct_experts(self, batch_tokens: float, *, skew: float = 0.0) -> float:
        """Return how many experts of a layer a step of `batch_tokens` tokens touches; 0 for a dense model."""
        return expected_distinct_experts(
            experts=self.experts, per_token=self.experts_per_tok, tokens=batch_tokens, skew=skew
        )

    def _need(self, figure: str) -> None:
        if figure in self.unsupported:
            raise UnsupportedAttention(
                f"the tensors of {self.name} do not show its {figure}",
                next_step="Put the model's config.json beside them",
            )

    def __getattr__(self, name: str) -> int:
        """Return the parameters of a role by its name: `anatomy.routed_experts`."""
        try:
            role = Role(name)
        except ValueError:
            raise AttributeError(f"Anatomy has no attribute {name!r}") from None
        return self.params_by_role[role]


def compute_anatomy(
    blueprint: Blueprint,
    *,
    name: str,
    architecture: str,
    recipe: Recipe | None = None,
    is_from_tensors: bool = False,
    is_checkpoint: bool = False,
    quantization: str | None = None,
    unsupported: tuple[str, ...] = (),
    counted_by: str | None = None,
) -> Anatomy:
    """Return the anatomy that follows from a blueprint, stored by `recipe`."""
    roles = dict.fromkeys(Role, 0)
    states = {"live": 0, "dead": 0, "copy": 0, "mtp": 0, "buffer": 0, "mtp_buffer": 0}
    lookups = idle = 0
    for weight, count in blueprint.counted_weights():
        elements = weight.elements * count
        states[weight.state] += elements
        if weight.state == "live":
            roles[weight.role] += elements
            if weight.role in LOOKUP_ROLES:
                lookups += elements
            elif weight.active != weight.copies:
                idle += elements - weight.active_elements * count
    live = states["live"]
    text = live - sum(roles[role] for role in MODALITY_ROLES)
    active = text - lookups - idle
    checkpoint = sum(states.values())
    routing = blueprint.experts or Experts(count=0, per_token=0, layers=0)
    return Anatomy(
        name=name,
        architecture=architecture,
        total_live_params=live,
        checkpoint_params_exact=checkpoint,
        text_params=text,
        params_by_role=roles,
        persistent_buffers=states["buffer"],
        dead_params=states["dead"] + states["copy"],
        mtp_params=states["mtp"],
        tied_embeddings=blueprint.is_tied,
        experts=routing.count,
        experts_per_tok=routing.per_token,
        moe_layers=routing.layers,
        active_params_per_token=active,
        active_excl_input_embedding=active - (0 if blueprint.is_tied else roles[Role.EMBEDDINGS]),
        layers=_count_kinds(blueprint),
        weight_bytes_bf16=2 * (checkpoint if blueprint.is_checkpoint_settled else live + states["mtp"]),
        max_context_tokens=blueprint.max_context_tokens,
        vocab_size=blueprint.vocab_size,
        hidden_size=blueprint.hidden_size,
        modalities=blueprint.modalities,
        quantization=recipe.name if recipe else quantization,
        blueprint=blueprint,
        recipe=recipe,
        is_narrowed_on_load=is_checkpoint and quantization == "f32",
        is_from_tensors=is_from_tensors,
        unsupported=unsupported,
        counted_by=counted_by,
        **_cache_figures(blueprint),
    )


def _count_kinds(blueprint: Blueprint) -> tuple[LayerCount, ...]:
    counts: dict[str, int] = {}
    for layer, count in blueprint.layer_groups():
        counts[layer.kind] = counts.get(layer.kind, 0) + count
    return tuple(LayerCount(kind=kind, count=count) for kind, count in counts.items())


def _cache_figures(blueprint: Blueprint) -> dict[str, Any]:
    """Return the cache and FLOP figures, bytes at 16 bits a value (recurrent state at 32)."""
    growing = index = context_flop = window_flop = 0.0
    window = state = window_tokens = 0
    widest = (0.0, 0)
    for layer, count in blueprint.layer_groups():
        cache = layer.cache
        growing += 2 * cache.token_values / cache.stride * count
        index += 2 * cache.index_values / cache.index_stride * count
        window += 2 * cache.window_values * count
        state += (4 * cache.state_values + 2 * cache.conv_values) * count
        context_flop += cache.context_flop * count
        if cache.reports_window_flop:
            window_flop += cache.window_flop * count
        window_tokens = max(window_tokens, cache.window_tokens or cache.selected_tokens)
        attended = (cache.context_flop + cache.window_flop / 8) * count  # most contexts are longer than windows
        widest = max(widest, (attended, cache.head_width))
    return {
        "head_width": widest[1],
        "kv_bytes_per_token_bf16": _whole(growing),
        "window_kv_bytes_per_slot_bf16": window,
        "window_tokens": window_tokens,
        "recurrent_state_bytes_per_seq": state,
        "indexer_key_bytes_per_token_bf16": _whole(index),
        "attn_flops_per_context_token": _whole(context_flop),
        "attn_flops_per_window_token": _whole(window_flop),
    }


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
