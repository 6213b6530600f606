"""Read a quantisation config in the dialects that checkpoints use, into one recipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ownward.anatomy.quantization.formats import (
    FP8_TENSOR,
    MXFP4,
    NVFP4,
    Format,
    integer,
    mlx_affine,
)
from ownward.anatomy.quantization.recipe import Matches, Recipe, any_of, everything, nothing
from ownward.core import BadInput, UnknownQuantization

_LONGEST_LIST = 100_000
_LONGEST_PATTERN = 500


def read_recipe(config: Mapping[str, Any], *, where: str, companion: Mapping[str, Any] | None = None) -> Recipe | None:
    """Return how a checkpoint stores its weights, or None where its config names no quantisation.

    `companion` is a hf_quant_config.json that stands beside the config.
    Raises: UnknownQuantization, for a method or a variant without known bytes.
    """
    text = config.get("text_config")
    nested = text.get("quantization_config") if isinstance(text, Mapping) else None
    stated = config.get("quantization_config") or nested
    if isinstance(stated, Mapping) and stated:
        expert_type = stated.get("expert_dtype") or config.get("expert_dtype")
        is_text_only = not config.get("quantization_config")
        if "quant_method" not in stated and "bits" in stated:
            return _mlx(stated, where)
        return _read(stated, where=where, is_text_only=is_text_only, expert_type=expert_type)
    if isinstance(config.get("quantization"), Mapping):
        return _mlx(config["quantization"], where)
    if companion is not None and isinstance(companion.get("quantization"), Mapping):
        return _modelopt(companion["quantization"], where, is_text_only=False)
    return None


def _read(stated: Mapping[str, Any], *, where: str, is_text_only: bool, expert_type: object) -> Recipe:
    method = stated.get("quant_method")
    producer = stated.get("producer")
    if method is None and isinstance(producer, Mapping):
        method = producer.get("name")  # the model optimizer may sign without naming a method
    readers: dict[str, Callable[..., Recipe]] = {
        "fp8": _fp8,
        "fbgemm_fp8": _fbgemm,
        "compressed-tensors": _compressed,
        "modelopt": _modelopt,
        "modelopt_fp4": _modelopt,
        "mxfp4": _mxfp4,
        "gptq": _gptq,
        "awq": _awq,
        "auto-round": _auto_round,
        "bitsandbytes": _bitsandbytes,
        "mlx": _mlx,
    }
    if not isinstance(method, str) or method not in readers:
        raise UnknownQuantization(
            f"quant_method is {str(method)[:40]!r}, whose bytes are not known here",
            where=where,
            allowed=f"Known: {', '.join(sorted(readers))}",
            next_step="Give its weights instead: a safetensors file or its index.json says how many bytes they are",
        )
    if method == "fp8" and expert_type is not None:
        return _fp8(stated, where, is_text_only=is_text_only, expert_type=expert_type)
    return readers[method](stated, where, is_text_only=is_text_only)


def _fp8(stated: Mapping[str, Any], where: str, *, is_text_only: bool, expert_type: object = None) -> Recipe:
    """FP8 with a scale a tile or a tensor, as DeepSeek, Qwen and GLM publish it; V4 has fp4 experts."""
    block = stated.get("weight_block_size")
    stored = FP8_TENSOR if block is None else _tiled(block, stated.get("scale_fmt"), where)
    rules: tuple[tuple[Matches, Format], ...] = ((everything, stored),)
    if expert_type is not None:
        if not isinstance(expert_type, str) or expert_type not in {"fp4", "mxfp4", "fp8"}:
            raise _unknown(f"expert_dtype is {str(expert_type)[:40]!r}", where)
        if expert_type != "fp8":
            rules = ((any_of([r"re:.*\.experts\..*"]), MXFP4), *rules)
    rules = (*_layer_rules(stated, where), *rules)  # what the model optimizer made of it since
    kept = [*_texts(stated, "modules_to_not_convert", where), *_texts(stated, "ignored_layers", where)]
    return _recipe("fp8", rules, [*kept, "lm_head", "eh_proj"], is_text_only=is_text_only)


def _tiled(block: Any, scale_format: object, where: str) -> Format:
    if not (isinstance(block, list) and len(block) == 2 and all(type(side) is int and side > 0 for side in block)):  # noqa: PLR2004
        raise BadInput("weight_block_size is not two whole numbers", where=where)
    bits = 8 if scale_format == "ue8m0" else 32
    return Format(name="fp8_block", value_bits=8, tile=(block[0], block[1]), tile_bits=bits)


def _fbgemm(stated: Mapping[str, Any], where: str, *, is_text_only: bool) -> Recipe:
    """FP8 with one scale a row (Llama 3.1 405B FP8)."""
    row = Format(name="fp8_row", value_bits=8, row_bits=32)
    kept = _texts(stated, "modules_to_not_convert", where)
    return _recipe("fbgemm_fp8", ((everything, row),), [*kept, "lm_head"], is_text_only=is_text_only)


def _mxfp4(stated: Mapping[str, Any], where: str, *, is_text_only: bool) -> Recipe:
    """MXFP4 experts in an otherwise unquantised model (GPT-OSS)."""
    kept = _texts(stated, "modules_to_not_convert", where)
    rules = ((any_of([r"re:.*\.experts\..*"]), MXFP4),)
    return _recipe("mxfp4", rules, kept, is_text_only=is_text_only)


def _compressed(stated: Mapping[str, Any], where: str, *, is_text_only: bool) -> Recipe:
    """Read formats by group of targets, as llm-compressor writes them."""
    rules = _groups(stated, where)
    return _recipe("compressed-tensors", rules, _texts(stated, "ignore", where), is_text_only=is_text_only)


def _groups(stated: Mapping[str, Any], where: str) -> tuple[tuple[Matches, Format], ...]:
    groups = stated.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise BadInput("config_groups is missing", where=where)
    rules = []
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            continue
        stored = _group_format(weights, group.get("format") or stated.get("format"), where)
        rules.append((_targets(_texts(group, "targets", where)), stored))
    return tuple(rules)


def _group_format(weights: Mapping[str, Any], packing: object, where: str) -> Format:
    """Return the format of a group of compressed-tensors or modelopt, from its scheme."""
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    group = _group_size(weights, where)
    if kind == "float" and bits == 8:  # noqa: PLR2004 - FP8
        if isinstance(block := weights.get("block_structure"), list):
            return _tiled(block, None, where)
        if weights.get("strategy") == "channel":
            return Format(name="fp8_row", value_bits=8, row_bits=32)
        return FP8_TENSOR
    if kind == "float" and bits == 4:  # noqa: PLR2004 - FP4
        if group == 32 or (isinstance(packing, str) and packing.startswith("mxfp4")):  # noqa: PLR2004
            return MXFP4
        if group == 16:  # noqa: PLR2004
            return NVFP4
    if kind == "int" and type(bits) is int and 1 < bits <= 8:  # noqa: PLR2004 - whole-byte packs
        packed = integer(bits, group=group, is_symmetric=weights.get("symmetric") is not False)
        is_packed = isinstance(packing, str) and packing.startswith("pack")
        return _with_shape(packed) if is_packed else packed
    raise _unknown(f"{bits}-bit weights of type {str(kind)[:20]!r} in groups of {group}", where)


def _with_shape(stored: Format) -> Format:
    return Format(
        name=stored.name,
        value_bits=stored.value_bits,
        group=stored.group,
        group_bits=stored.group_bits,
        row_bits=stored.row_bits,
        column_bits=stored.column_bits,
        tensor_bits=64,
    )


def _targets(targets: list[str]) -> Matches:
    """Return the modules that a group means: a class name (`Linear`) means all linear ones."""
    if not targets or any(re.fullmatch(r"[A-Z]\w*", target) for target in targets):
        return everything
    return any_of(targets)


def _modelopt(stated: Mapping[str, Any], where: str, *, is_text_only: bool) -> Recipe:
    """FP8, NVFP4 and mixtures of both, as NVIDIA's model optimizer writes them."""
    kept = [*_texts(stated, "exclude_modules", where), *_texts(stated, "ignore", where)]
    if rules := _layer_rules(stated, where):
        named = any_of(map(str, stated["quantized_layers"]))
        return Recipe(name="modelopt", rules=rules, ignored=any_of(kept), explicit=named, is_text_only=is_text_only)
    stored = _algorithm(stated.get("quant_algo"), where)
    return _recipe("modelopt", ((everything, stored),), kept, is_text_only=is_text_only)


def _layer_rules(stated: Mapping[str, Any], where: str) -> tuple[tuple[Matches, Format], ...]:
    """Return the format of each layer that the model optimizer names one by one."""
    by_layer = stated.get("quantized_layers")
    members: dict[Format, list[str]] = {}
    for module, scheme in by_layer.items() if isinstance(by_layer, Mapping) else ():
        algorithm = scheme.get("quant_algo") if isinstance(scheme, Mapping) else None
        members.setdefault(_algorithm(algorithm, where), []).append(str(module))
    return tuple((any_of(modules), stored) for stored, modules in members.items())


def _algorithm(algorithm: object, where: str) -> Format:
    known = {
        "FP8": FP8_TENSOR,
        "NVFP4": NVFP4,
        "W4A16_NVFP4": NVFP4,
        "NVFP4_AWQ": NVFP4,
        "W4A8_NVFP4_FP8": NVFP4,
        "MXFP4": MXFP4,
        "W4A8_MXFP4_FP8": MXFP4,
        "FP8_PB_WO": Format(name="fp8_block", value_bits=8, tile=(128, 128), tile_bits=32),
        "FP8_PER_CHANNEL_PER_TOKEN": Format(name="fp8_row", value_bits=8, row_bits=32),
    }
    if not isinstance(algorithm, str) or algorithm not in known:
        raise _unknown(f"quant_algo is {str(algorithm)[:40]!r}", where)
    return known[algorithm]


def _gptq(stated: Mapping[str, Any], where: str, *, is_text_only: bool = True) -> Recipe:  # noqa: ARG001 - towers never are
    """GPTQ: packed integers, zero points, and a group number for each input, in the text model's layers."""
    bits = _bits(stated, "bits", where)
    stored = integer(bits, group=_group_size(stated, where), is_symmetric=False, has_order=True)
    kept = [*_texts(stated, "modules_to_not_convert", where), "lm_head"]
    if stated.get("lm_head") is True:
        kept.remove("lm_head")
    dynamic = stated.get("dynamic")
    if isinstance(dynamic, Mapping):
        if any(not str(key).startswith("-:") for key in dynamic):
            raise _unknown("GPTQ with different bits by layer (`dynamic`)", where)
        kept += [f"re:{str(key)[2:]}" for key in dynamic]
        _check_patterns(kept, where)
    return _recipe("gptq", ((everything, stored),), kept, is_text_only=True)


def _auto_round(stated: Mapping[str, Any], where: str, *, is_text_only: bool = True) -> Recipe:  # noqa: ARG001 - towers never are
    """AutoRound: packed as GPTQ, with modules of other bits by name or expression; 16 bits mean as they were."""
    others = stated.get("extra_config") or {}
    if not isinstance(others, Mapping) or not all(isinstance(other, Mapping) for other in others.values()):
        raise BadInput("extra_config is not an object of modules", where=where)
    kept, members = ["lm_head"], dict[Format, list[str]]()
    for module, other in others.items():
        pattern = str(module) if re.fullmatch(r"[\w.]+", str(module)) else f"re:{module}"
        is_kept = other.get("bits") in {16, 32}
        (kept if is_kept else members.setdefault(_rounded({**stated, **other}, where), [])).append(pattern)
    quantised = [pattern for patterns in members.values() for pattern in patterns]
    _check_patterns((*kept, *quantised), where)
    rules = ((any_of(patterns), stored) for stored, patterns in members.items())
    return Recipe(
        name="auto-round",
        rules=(*rules, (everything, _rounded(stated, where))),
        ignored=any_of(pattern for pattern in kept if pattern not in quantised),
        explicit=any_of(quantised),
        is_text_only=True,
    )


def _rounded(stated: Mapping[str, Any], where: str) -> Format:
    kind = stated.get("data_type") or "int"
    if not isinstance(kind, str) or not kind.startswith("int"):
        raise _unknown(f"AutoRound's data_type is {str(kind)[:40]!r}", where)
    return integer(_bits(stated, "bits", where), group=_group_size(stated, where), is_symmetric=False, has_order=True)


def _awq(stated: Mapping[str, Any], where: str, *, is_text_only: bool = True) -> Recipe:  # noqa: ARG001 - towers never are
    """AWQ: packed integers with scales and, unless switched off, zero points, in the text model's layers."""
    bits = _bits(stated, "bits" if "bits" in stated else "w_bit", where)
    group = _group_size(stated, where, "group_size" if "group_size" in stated else "q_group_size")
    stored = integer(bits, group=group, is_symmetric=stated.get("zero_point") is False)
    kept = [*_texts(stated, "modules_to_not_convert", where), "lm_head"]
    return _recipe("awq", ((everything, stored),), kept, is_text_only=True)


def _bitsandbytes(stated: Mapping[str, Any], where: str, *, is_text_only: bool) -> Recipe:
    """bitsandbytes: 8 bits with a scale a row, or 4 bits in blocks of 64, whose scales may be quantised too."""
    if stated.get("load_in_8bit") is True or stated.get("_load_in_8bit") is True:
        stored = Format(name="bnb_int8", value_bits=8, row_bits=32)
    elif stated.get("load_in_4bit") is True or stated.get("_load_in_4bit") is True:
        # One fp32 a block of 64; double quantisation keeps 8 bits, and one fp32 for 256 of them.
        scale = 8 + 32 / 256 if stated.get("bnb_4bit_use_double_quant") is True else 32
        stored = Format(name="bnb_4bit", value_bits=4 + scale / 64)
    else:
        raise _unknown("bitsandbytes with neither 8 nor 4 bits", where)
    kept = _texts(stated, "llm_int8_skip_modules", where) or ["lm_head"]
    return _recipe("bitsandbytes", ((everything, stored),), kept, is_text_only=is_text_only)


def _mlx(stated: Mapping[str, Any], where: str, *, is_text_only: bool = True) -> Recipe:  # noqa: ARG001 - towers never are
    """MLX: affine integers or MXFP4 for every matrix and embedding of the text model, other bits by module."""
    overrides = {str(key): value for key, value in stated.items() if value is False or isinstance(value, Mapping)}
    rules: list[tuple[Matches, Format]] = []
    kept = [module for module, value in overrides.items() if value is False]
    by_format: dict[Format, list[str]] = {}
    for module, value in overrides.items():
        if isinstance(value, Mapping):
            by_format.setdefault(_mlx_format({**stated, **value}, where), []).append(module)
    rules += [(any_of(modules), stored) for stored, modules in by_format.items()]
    rules.append((everything, _mlx_format(stated, where)))
    return Recipe(
        name="mlx", rules=tuple(rules), ignored=any_of(kept), explicit=everything, is_text_only=True, is_mlx=True
    )


def _mlx_format(stated: Mapping[str, Any], where: str) -> Format:
    mode = stated.get("mode", "affine")
    if mode == "mxfp4":
        return MXFP4
    if mode == "mxfp8":
        return Format(name="mxfp8", value_bits=8, group=32, group_bits=8)
    if mode == "nvfp4":
        return Format(name="mlx_nvfp4", value_bits=4, group=16, group_bits=8)
    if mode != "affine":
        raise _unknown(f"MLX mode {str(mode)[:40]!r}", where)
    group = _group_size(stated, where)
    return mlx_affine(_bits(stated, "bits", where), group or 64)


def _recipe(name: str, rules: tuple[tuple[Matches, Format], ...], kept: list[str], *, is_text_only: bool) -> Recipe:
    return Recipe(name=name, rules=rules, ignored=any_of(kept), explicit=nothing, is_text_only=is_text_only)


def _bits(stated: Mapping[str, Any], name: str, where: str) -> int:
    bits = stated.get(name)
    if type(bits) is not int or not 1 <= bits <= 8:  # noqa: PLR2004 - whole-byte packs
        raise _unknown(f"{name} is {str(bits)[:20]}", where)
    return bits


def _group_size(stated: Mapping[str, Any], where: str, name: str = "group_size") -> int | None:
    """Return the group size; None and -1 mean one group a row."""
    group = stated.get(name)
    if group is None or group == -1:
        return None
    if type(group) is not int or not 0 < group <= 2**20:
        raise BadInput(f"{name} is {str(group)[:20]}", where=where)
    return group


def _texts(stated: Mapping[str, Any], name: str, where: str) -> list[str]:
    listed = stated.get(name) or []
    if (
        not isinstance(listed, list)
        or len(listed) > _LONGEST_LIST
        or not all(isinstance(item, str) and len(item) <= _LONGEST_PATTERN for item in listed)
    ):
        raise BadInput(f"{name} is not a list of module names", where=where)
    _check_patterns(listed, where)
    return listed


def _check_patterns(patterns: Iterable[str], where: str) -> None:
    for pattern in patterns:
        if pattern.startswith("re:"):
            _check_expression(pattern[3:], where)


def _check_expression(expression: str, where: str) -> None:
    """Refuse an expression that is none, or that nests repetition, which can take for ever."""
    if re.search(r"[*+}]\)?[*+{]|\([^()]*[*+][^()]*\)[*+{]", expression):
        raise BadInput(f"the pattern {expression[:60]!r} nests repetition", where=where)
    try:
        re.compile(expression)
    except re.error as error:
        raise BadInput(f"the pattern {expression[:60]!r} is not a regular expression", where=where) from error


def _unknown(what: str, where: str) -> UnknownQuantization:
    return UnknownQuantization(
        f"{what}: its bytes are not known here",
        where=where,
        next_step="Give its weights instead: a safetensors file or its index.json says how many bytes they are",
    )
