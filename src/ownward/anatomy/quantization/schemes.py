"""The quantisations people run, for any model: what each tool quantises and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ownward.anatomy.blueprint import Blueprint, Weight
from ownward.anatomy.quantization.formats import (
    FP8_BLOCK,
    MXFP4,
    NVFP4,
    Format,
    floating,
    integer,
    mlx_affine,
)
from ownward.anatomy.quantization.llama_cpp import MIXES, Mix
from ownward.anatomy.roles import Role

Choose = Callable[[Weight, bool], Format]
"""The format of a weight, which may stand in a layer with routed experts."""

_EXPERTS = frozenset({Role.ROUTED_EXPERTS})
_LINEAR = frozenset(
    {
        Role.ATTENTION,
        Role.LINEAR_ATTENTION,
        Role.SPARSE_INDEXER,
        Role.DENSE_MLP,
        Role.ROUTED_EXPERTS,
        Role.SHARED_EXPERTS,
        Role.LATENT_PROJ,
    }
)
_MLX_KEEPS = ("visual.", "vision_tower.", "vision_model.", "audio_tower.", "per_layer_model_projection")
_SMALLEST_SIDE = 128
"""Narrower maps (gates, decays) are left alone by the published FP8 and NVFP4 checkpoints."""


def scheme_sizes(blueprint: Blueprint, name: str) -> Iterator[tuple[Weight, int]]:
    """Yield a model's weights with their bytes in all layers under the quantisation `name`, one of `SCHEMES`.

    Hub formats count the whole checkpoint, drafts included; MLX and GGUF files hold no
    drafts. Towers stay at 16 bits in all of them.
    Raises: KeyError, for a name that is not in `SCHEMES`.
    """
    if name in MIXES:
        yield from _gguf_sizes(blueprint, MIXES[name])
        return
    skipped = {"copy", "mtp", "mtp_buffer"} if name.startswith("mlx_") else {"copy"}
    choose = _CHOOSERS[name]
    for weights, count in [(blueprint.outside, 1), *((g.weights, n) for g, n in blueprint.layer_groups())]:
        for weight in weights:
            if weight.state not in skipped:
                stored = choose(weight, any(w.role is Role.ROUTED_EXPERTS for w in weights))
                yield weight, stored.bytes_of(weight.shape) * weight.copies * count


def _gguf_sizes(blueprint: Blueprint, mix: Mix) -> Iterator[tuple[Weight, int]]:
    """Yield a GGUF file's tensors: fp32 norms and routers, the embedding typed as head where they are tied.

    Equal layers whose tensors get equal types are counted together.
    """
    layers = len(blueprint.layers)
    head = Role.EMBEDDINGS if blueprint.is_tied else Role.LM_HEAD
    for weight in blueprint.outside:
        if weight.state in {"live", "buffer"}:
            stored = mix.format_of(weight.name, weight, index=0, layers=layers, is_head=weight.role is head)
            yield weight, stored.bytes_of(weight.shape) * weight.copies
    counts: dict[tuple[int, tuple[bool, ...]], int] = {}
    firsts: dict[tuple[int, tuple[bool, ...]], int] = {}
    for index, layer in enumerate(blueprint.layers):
        key = id(layer), mix.shares_of(index, layers)
        counts[key] = counts.get(key, 0) + 1
        firsts.setdefault(key, index)
    for key, index in firsts.items():
        for weight in blueprint.layers[index].weights:
            if weight.state in {"live", "buffer"}:
                stored = mix.format_of(weight.name, weight, index=index, layers=layers, is_head=False)
                yield weight, stored.bytes_of(weight.shape) * weight.copies * counts[key]


def _hub(stored: Format, roles: frozenset[Role]) -> Choose:
    """Return the usual checkpoint of a serving engine: linear layers quantised; tables, head, router, towers not."""

    def choose(weight: Weight, _has_experts: bool) -> Format:
        is_linear = weight.op == "matmul" and weight.role in roles and min(weight.shape) >= _SMALLEST_SIDE
        return stored if is_linear else floating(weight.stored_bits)

    return choose


def _mlx(stored: Format, rest: Format | None = None) -> Choose:
    """Return MLX's conversion: every matrix and table of the text model; `rest` for what is no expert.

    Gates, and perceptrons that stand beside experts, get 8 bits.
    """

    def choose(weight: Weight, has_experts: bool) -> Format:
        is_matrix = weight.op in {"matmul", "lookup"} and weight.shape[-1] % 32 == 0
        if not is_matrix or weight.role is Role.HYPER_CONNECTIONS or any(part in weight.name for part in _MLX_KEEPS):
            return floating(weight.stored_bits)
        if rest is not None and weight.role is not Role.ROUTED_EXPERTS:
            return rest
        is_gate = weight.role is Role.ROUTER or (weight.role is Role.SHARED_EXPERTS and weight.shape[0] == 1)
        is_beside_experts = weight.role is Role.DENSE_MLP and has_experts
        return mlx_affine(8, 64) if is_gate or is_beside_experts else stored

    return choose


_CHOOSERS: dict[str, Choose] = {
    "f32": lambda weight, _: floating(max(weight.stored_bits, 32)),
    "bf16": lambda weight, _: floating(weight.stored_bits),
    "fp8": _hub(FP8_BLOCK, _LINEAR),
    "nvfp4": _hub(NVFP4, _LINEAR),
    "mxfp4": _hub(MXFP4, _LINEAR),
    "mxfp4_experts": _hub(MXFP4, _EXPERTS),
    "int4_g32": _hub(integer(4, group=32), _LINEAR),
    "int4_g32_experts": _hub(integer(4, group=32), _EXPERTS),
    "int4_g128": _hub(integer(4, group=128), _LINEAR),
    "int8": _hub(integer(8, group=None), _LINEAR),
    "mlx_bf16": lambda weight, _: floating(weight.stored_bits),
    "mlx_3bit": _mlx(mlx_affine(3, 64)),
    "mlx_4bit": _mlx(mlx_affine(4, 64)),
    "mlx_5bit": _mlx(mlx_affine(5, 64)),
    "mlx_6bit": _mlx(mlx_affine(6, 64)),
    "mlx_8bit": _mlx(mlx_affine(8, 64)),
    "mlx_mxfp4": _mlx(MXFP4),
    "mlx_mxfp4_q8": _mlx(MXFP4, rest=mlx_affine(8, 64)),
}

SCHEMES: tuple[str, ...] = (*_CHOOSERS, *MIXES)
"""Every quantisation whose bytes are known for any model."""
