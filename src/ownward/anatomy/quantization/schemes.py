"""The quantisations people run, for any model: what each tool quantises and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

from ownward.anatomy.blueprint import Blueprint, Weight, Weights
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

Choose = Callable[[Weight], Format]

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


def scheme_bytes(blueprint: Blueprint, name: str) -> int:
    """Return the bytes of a model's weights under the quantisation `name`, one of `SCHEMES`.

    Hub formats count the whole checkpoint, drafts included; MLX and GGUF files hold no
    drafts. Towers stay at 16 bits in all of them.
    Raises: KeyError, for a name that is not in `SCHEMES`.
    """
    if name in MIXES:
        return _gguf_bytes(blueprint, MIXES[name])
    skipped = {"copy", "mtp", "mtp_buffer"} if name.startswith("mlx_") else {"copy"}
    choose = _CHOOSERS[name]
    return sum(
        choose(weight).bytes_of(weight.shape) * weight.copies * count
        for weights, count in [(blueprint.outside, 1), *((g.weights, n) for g, n in blueprint.layer_groups())]
        for weight in _sensitive_apart(weights)
        if weight.state not in skipped
    )


def _sensitive_apart(weights: Weights) -> Weights:
    """Return a layer with the perceptron that stands beside its experts counted as shared: MLX keeps it finer."""
    if not any(weight.role is Role.ROUTED_EXPERTS for weight in weights):
        return weights
    return tuple(w._replace(role=Role.SHARED_EXPERTS, active=0) if w.role is Role.DENSE_MLP else w for w in weights)


def _gguf_bytes(blueprint: Blueprint, mix: Mix) -> int:
    """Return the bytes of a GGUF file's tensors: fp32 norms and routers, the embedding as head where they are tied."""
    layers = len(blueprint.layers)
    sizes: dict[tuple[Format, tuple[int, ...]], int] = {}
    total = 0

    def add(weight: Weight, index: int, *, is_head: bool) -> int:
        stored = mix.format_of(weight.name, weight, index=index, layers=layers, is_head=is_head)
        key = stored, weight.shape
        if key not in sizes:
            sizes[key] = stored.bytes_of(weight.shape)
        return sizes[key] * weight.copies

    for weight in blueprint.outside:
        if weight.state == "live":
            is_head = weight.role is (Role.EMBEDDINGS if blueprint.is_tied else Role.LM_HEAD)
            total += add(weight, 0, is_head=is_head)
    for index, layer in enumerate(blueprint.layers):
        total += sum(
            add(weight, index, is_head=False) for weight in layer.weights if weight.state in {"live", "buffer"}
        )
    return total


def _hub(stored: Format, roles: frozenset[Role]) -> Choose:
    """Return the usual checkpoint of a serving engine: linear layers quantised; tables, head, router, towers not."""

    def choose(weight: Weight) -> Format:
        is_linear = weight.op == "matmul" and weight.role in roles and min(weight.shape) >= _SMALLEST_SIDE
        return stored if is_linear else floating(weight.stored_bits)

    return choose


def _mlx(stored: Format, rest: Format | None = None) -> Choose:
    """Return MLX's conversion: every matrix and table of the text model, gates at 8 bits; `rest` for no experts."""

    def choose(weight: Weight) -> Format:
        is_matrix = weight.op in {"matmul", "lookup"} and weight.shape[-1] % 32 == 0
        if not is_matrix or weight.role is Role.HYPER_CONNECTIONS or any(part in weight.name for part in _MLX_KEEPS):
            return floating(weight.stored_bits)
        if rest is not None and weight.role is not Role.ROUTED_EXPERTS:
            return rest
        is_shared = weight.role is Role.SHARED_EXPERTS and (weight.shape[0] == 1 or not weight.active)
        return mlx_affine(8, 64) if is_shared or weight.role is Role.ROUTER else stored

    return choose


_CHOOSERS: dict[str, Choose] = {
    "bf16": lambda weight: floating(weight.stored_bits),
    "fp8": _hub(FP8_BLOCK, _LINEAR),
    "nvfp4": _hub(NVFP4, _LINEAR),
    "mxfp4": _hub(MXFP4, _LINEAR),
    "mxfp4_experts": _hub(MXFP4, _EXPERTS),
    "int4_g32": _hub(integer(4, group=32), _LINEAR),
    "int4_g32_experts": _hub(integer(4, group=32), _EXPERTS),
    "int4_g128": _hub(integer(4, group=128), _LINEAR),
    "int8": _hub(integer(8, group=None), _LINEAR),
    "mlx_bf16": lambda weight: floating(weight.stored_bits),
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
