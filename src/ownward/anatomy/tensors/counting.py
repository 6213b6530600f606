"""The blueprint that tensors imply: exact in number whatever the architecture, by role as far as names tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ownward.anatomy.blueprint import NO_CACHE, Blueprint, Experts, Layer, Weight
from ownward.anatomy.quantization.formats import GGML_BLOCKS
from ownward.anatomy.roles import Role
from ownward.anatomy.tensors.naming import Place, op_of, place_of, role_of, state_of
from ownward.anatomy.tensors.stored import StoredTensor
from ownward.core import UnknownQuantization

_SCALES = (
    ".scales", ".biases", ".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".input_scale", ".qzeros", ".g_idx",
    "_scales", ".weight_shape", ".weight_zero_point", ".zeros", ".absmax", ".quant_map", ".nested_absmax",
    ".nested_quant_map", ".SCB", "quant_state.bitsandbytes__nf4", ".k_scale", ".v_scale", ".output_scale", ".scale_inv",
)  # fmt: skip
_WIDE = {"f64": 64, "i64": 64, "u64": 64, "f32": 32, "i32": 32, "u32": 32}
_PACKED = (".qweight", ".weight_packed", "_blocks")


def draw_tensors(
    tensors: Sequence[StoredTensor],
    *,
    pattern: Blueprint | None = None,
    per_token: int | None = None,
    packed_bits: int | None = None,
    draft_layers: frozenset[int] = frozenset(),
) -> Blueprint:
    """Return the blueprint of stored tensors.

    `pattern` is the same model drawn from its config, which lends what tensors do not
    tell: cache, routing, context. `packed_bits` is the width of packed integers, from the config.
    In other formats a file that is all in 32 bits has 16 where another would.
    """
    outside: list[Weight] = []
    layers: dict[int, list[Weight]] = {}
    merged: dict[tuple[int | None, str], int] = {}
    prefix = "model.layers."
    names = {tensor.name for tensor in tensors}
    is_wide = main_type(tensors) == "f32"
    for tensor in tensors:
        place = place_of(tensor.name)
        weight = _weight(tensor, place, is_draft=place.layer in draft_layers, bits=packed_bits, names=names)
        if is_wide and weight.stored_bits == _WIDE["f32"]:
            weight = weight._replace(stored_bits=16)
        home = outside if place.layer is None else layers.setdefault(place.layer, [])
        prefix = place.prefix or prefix
        key = place.layer, place.name
        if "{}" in place.name and key in merged and home[merged[key]].shape == weight.shape:
            known = home[merged[key]]
            home[merged[key]] = known._replace(
                copies=known.copies + 1, active=known.active + 1, file_bytes=known.file_bytes + weight.file_bytes
            )
            continue
        merged.setdefault(key, len(home))
        home.append(weight)
    count = _expert_count(layers.values())
    used = per_token if per_token is not None else pattern.experts.per_token if pattern and pattern.experts else None
    drawn = tuple(_layer(layers[index], order, pattern, used) for order, index in enumerate(sorted(layers)))
    embeddings = [w for w in outside if w.role is Role.EMBEDDINGS]
    has_head = any(w.role is Role.LM_HEAD for w in outside)
    blueprint = Blueprint(
        outside=tuple(outside),
        layers=drawn,
        layer_prefix=prefix,
        is_tied=bool(embeddings) and not has_head,
        experts=_routing(drawn, count, used),
        vocab_size=embeddings[0].shape[0] if embeddings else None,
        hidden_size=embeddings[0].shape[-1] if embeddings else None,
        is_checkpoint_settled=True,
    )
    if pattern is None:
        return blueprint
    return replace(
        blueprint, max_context_tokens=pattern.max_context_tokens, modalities=pattern.modalities, is_tied=pattern.is_tied
    )


def main_type(tensors: Iterable[StoredTensor]) -> str | None:
    """Return the type that takes most bytes."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return max(sizes, key=sizes.__getitem__) if sizes else None


def element_bits(dtype: str) -> int:
    """Return the width of a stored element where it is a plain number, 16 for a block format."""
    if dtype in GGML_BLOCKS:
        values, size = GGML_BLOCKS[dtype]
        return 8 * size if values == 1 else 16
    return _WIDE.get(dtype, 16)


def _weight(tensor: StoredTensor, place: Place, *, is_draft: bool, bits: int | None, names: set[str]) -> Weight:
    """Return one stored tensor as a weight; scales and zero points are no parameters."""
    # Equal tensors of other layers have the same name here, so that each is looked at once.
    name, common = place.name, place.prefix + place.name
    role, state = role_of(common), state_of(common)
    if tensor.name.endswith(_SCALES):
        state = "buffer"
    if is_draft and state == "live":
        state = "mtp"
    shape = tensor.shape
    if state == "live" or state == "mtp":  # noqa: PLR1714 - a Literal narrows so
        shape = _unpacked(tensor, bits, names)
    weight = Weight(
        name,
        shape,
        role,
        op_of(role, shape, tensor.name),
        state=state,
        stored_bits=element_bits(tensor.dtype),
        file_bytes=tensor.bytes,
    )
    if role is Role.ROUTED_EXPERTS and "{}" not in name and len(shape) > 1 and ("_exps" in name or "experts." in name):
        return weight._replace(shape=shape[1:], copies=shape[0], active=shape[0])
    return weight


def _unpacked(tensor: StoredTensor, bits: int | None, names: set[str]) -> tuple[int, ...]:
    """Return the shape of what a packed tensor holds.

    Raises: UnknownQuantization, for packed integers whose width no config beside them states.
    """
    stem, _, _ = tensor.name.rpartition(".")
    shape = tensor.shape
    if tensor.dtype == "f4":
        return shape
    if tensor.name.endswith("_blocks") and tensor.dtype == "u8":
        return (*shape[:-2], shape[-2] * shape[-1] * 2)
    is_nvfp4 = tensor.dtype == "u8" and f"{stem}.weight_scale" in names
    if is_nvfp4:
        return (*shape[:-1], shape[-1] * 2)
    is_packed = tensor.name.endswith(_PACKED) or (tensor.dtype in {"u32", "i32"} and f"{stem}.scales" in names)
    if not is_packed:
        return shape
    if bits is None:
        raise UnknownQuantization(
            f"tensor {tensor.name[:80]!r} packs integers, and nothing beside it says how many bits they have",
            next_step="Put the model's config.json beside its weights",
        )
    along = -2 if tensor.name.endswith(".qweight") and len(shape) > 1 else -1
    sides = list(shape)
    sides[along] = sides[along] * (32 if tensor.dtype in {"i32", "u32"} else 8) // bits
    return tuple(sides)


def _layer(weights: list[Weight], order: int, pattern: Blueprint | None, per_token: int | None) -> Layer:
    if per_token is not None:
        weights = [w._replace(active=min(per_token, w.copies)) if w.role is Role.ROUTED_EXPERTS else w for w in weights]
    if pattern is not None and order < len(pattern.layers):
        twin = pattern.layers[order]
        return Layer(twin.kind, tuple(weights), twin.cache)
    return Layer("layer", tuple(weights), NO_CACHE)


def _expert_count(layers: Iterable[list[Weight]]) -> int:
    return max((w.copies for ws in layers for w in ws if w.role is Role.ROUTED_EXPERTS), default=0)


def _routing(layers: tuple[Layer, ...], count: int, per_token: int | None) -> Experts | None:
    if not count:
        return None
    routed = sum(any(w.role is Role.ROUTED_EXPERTS and w.state == "live" for w in layer.weights) for layer in layers)
    return Experts(count=count, per_token=per_token or count, layers=routed)
