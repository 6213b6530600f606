"""Open a file that says what a model is, and hand it to the reader of its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ownward.anatomy.anatomy import Anatomy, compute_anatomy
from ownward.anatomy.config import from_config
from ownward.anatomy.tensors import FileSource, Source, StoredTensor, read_gguf, read_index, read_safetensors
from ownward.anatomy.tensors.counting import draw_tensors, main_type
from ownward.anatomy.tensors.gguf import MAGIC
from ownward.anatomy.tensors.gguf_cache import add_caches
from ownward.core import BadInput, UnsupportedModel

_LARGEST_CONFIG_BYTES = 4 * 1024**2
_CACHE = "cache"
_ACTIVE = "active"


def read(path: str | Path) -> Anatomy:
    """Return the anatomy of a model from its config.json, GGUF, safetensors or index file, or from its folder.

    Headers only: no weight is loaded. A config.json beside safetensors lends what tensors
    do not tell; a hf_quant_config.json beside a config lends its quantisation.
    Raises: BadInput, if the file cannot be read as what it should be; UnsupportedModel, for
    a config whose architecture, attention or quantisation has no formula here.
    """
    path = _file_of(Path(path))
    return read_source(FileSource(path), name=_name_of(path))


def read_source(source: Source, *, name: str) -> Anatomy:
    """Return the anatomy of a model from one of its files, wherever it lies; as `read` does.

    Only what is needed is asked of `source`: the header, and for an index those of its files.
    Raises: BadInput, UnsupportedModel; what the source raises.
    """
    if source.name.endswith(".index.json"):
        return _from_safetensors(read_index(source), source, name)
    if source.name.endswith(".safetensors"):
        return _from_safetensors(read_safetensors(source), source, name)
    if source.name.endswith(".gguf") or source.read_at(0, len(MAGIC)) == MAGIC:
        return _from_gguf(source, name)
    config = load_json(source)
    if "weight_map" in config:
        return _from_safetensors(read_index(source), source, name)
    return from_config(config, name=name, where=source.where, quantization=_companion(source))


def has_own_pooling(path: str | Path) -> bool:
    """Return whether a GGUF file says how the vectors of an input's tokens become one (the mean, the first, the last).

    Raises: BadInput, if it cannot be read.
    """
    file = read_gguf(FileSource(Path(path)))
    return bool(file.metadata.get(f"{file.architecture}.pooling_type"))  # 0 says that they stay apart


def load_json(source: Source) -> Mapping[str, Any]:
    """Return the JSON object in a file of at most 4 MiB.

    Raises: BadInput, if it cannot be opened, is larger or is no object.
    """
    where = source.where
    text = source.read_at(0, _LARGEST_CONFIG_BYTES + 1)
    if len(text) > _LARGEST_CONFIG_BYTES:
        raise BadInput(f"is larger than {_LARGEST_CONFIG_BYTES} bytes, too large for a config", where=where)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput("is not JSON", where=where) from error
    if not isinstance(value, dict):
        raise BadInput("is not a JSON object", where=where)
    return value


def _from_gguf(source: Source, name: str) -> Anatomy:
    file = read_gguf(source)
    architecture = file.architecture
    drafts = file.metadata.get(f"{architecture}.nextn_predict_layers")
    count = file.metadata.get(f"{architecture}.block_count")
    draft_layers: frozenset[int] = frozenset()
    if type(drafts) is int and type(count) is int and 0 < drafts < count <= len(file.tensors):
        draft_layers = frozenset(range(count - drafts, count))
    used = file.metadata.get(f"{architecture}.expert_used_count")
    blueprint = draw_tensors(
        file.tensors, per_token=used if type(used) is int and used > 0 else None, draft_layers=draft_layers
    )
    blueprint, is_settled = add_caches(blueprint, file)
    return compute_anatomy(
        blueprint,
        name=name,
        architecture=architecture,
        is_from_tensors=True,
        quantization=main_type(file.tensors),
        unsupported=() if is_settled else (_CACHE,),
    )


def _from_safetensors(tensors: tuple[StoredTensor, ...], source: Source, name: str) -> Anatomy:
    twin, packed_bits, architecture = None, None, "unknown"
    beside = _beside(source, "config.json")
    if beside is not None:
        config = load_json(beside)
        packed_bits = _packed_bits(config)
        try:
            anatomy = from_config(config, where=beside.where, quantization=_companion(beside))
            twin, architecture = anatomy.blueprint, anatomy.architecture
        except UnsupportedModel:
            architecture = str(config.get("model_type", "unknown"))[:60]
    blueprint = draw_tensors(tensors, pattern=twin, packed_bits=packed_bits)
    lost = () if twin else (_CACHE, _ACTIVE) if blueprint.experts else (_CACHE,)
    return compute_anatomy(
        blueprint,
        name=name,
        architecture=architecture,
        is_from_tensors=True,
        quantization=main_type(tensors),
        is_checkpoint=True,
        unsupported=lost,
    )


def _packed_bits(config: Mapping[str, Any]) -> int | None:
    """Return the width of packed integers that a config states."""
    text = config.get("text_config")
    nested = text.get("quantization_config") if isinstance(text, Mapping) else None
    stated = config.get("quantization_config") or config.get("quantization") or nested
    if not isinstance(stated, Mapping):
        return None
    groups = stated.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        first = next(iter(groups.values()))
        weights = first.get("weights") if isinstance(first, Mapping) else None
        bits = weights.get("num_bits") if isinstance(weights, Mapping) else None
    else:
        bits = stated.get("bits", stated.get("w_bit"))
    return bits if type(bits) is int and bits in {2, 3, 4, 5, 6, 8} else None


def _file_of(path: Path) -> Path:
    """Return the file that tells most about the model in a folder; a file as it is."""
    if not path.is_dir():
        return path
    for name in ("config.json", "model.safetensors.index.json", "model.safetensors"):
        if (path / name).is_file():
            return path / name
    if ggufs := sorted(path.glob("*.gguf")):
        return ggufs[0]
    raise BadInput("holds no config.json, no safetensors and no GGUF file", where=str(path))


def _name_of(path: Path) -> str:
    generic = {"config", "model", "model.safetensors.index"}
    return path.resolve().parent.name if path.stem in generic or path.stem.startswith("model-0") else path.stem


def _companion(source: Source) -> Mapping[str, Any] | None:
    """Return the quantisation that NVIDIA's checkpoints keep in a file of its own."""
    for name in (f"{PurePosixPath(source.name).stem}.hf_quant_config.json", "hf_quant_config.json"):
        beside = _beside(source, name) if name != source.name else None
        if beside is not None:
            return load_json(beside)
    return None


def _beside(source: Source, name: str) -> Source | None:
    return source.beside({name: _LARGEST_CONFIG_BYTES})[0]
