"""Safetensors headers: one file, or the index of many.

Source: the safetensors format page. The header is length, JSON, then the tensors
without gaps; each claim is checked against the file before it is used.
"""

from __future__ import annotations

from math import prod
from pathlib import PurePosixPath
from typing import Any

import msgspec

from ownward.anatomy.tensors.source import Source
from ownward.anatomy.tensors.stored import StoredTensor, check_places, shown
from ownward.core import BadInput, UnknownQuantization

_LARGEST_HEADER_BYTES = 12 * 1024**2
_LARGEST_INDEX_BYTES = 24 * 1024**2
_MOST_TENSORS = 200_000
_MOST_FILES = 2_000
_MOST_SIDES = 8
_PREFIX_BYTES = 8
_ENTRY_BYTES = 96
"""What a tensor takes in a header beside its name, about: type, shape and two offsets."""
_METADATA_BYTES = 1024

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read_safetensors(source: Source) -> tuple[StoredTensor, ...]:
    """Return the tensors of one safetensors file, in the order of its header.

    Raises: BadInput, if it is none, is cut short or contradicts itself; UnknownQuantization,
    for a type whose width is not known.
    """
    where, size = source.where, source.size
    prefix = source.read_at(0, _PREFIX_BYTES)
    if len(prefix) < _PREFIX_BYTES:
        raise BadInput("is not a safetensors file: it is shorter than its own length field", where=where)
    length = int.from_bytes(prefix, "little")
    if length > size - _PREFIX_BYTES:
        raise BadInput(f"claims a header of {length} bytes in a file of {size}", where=where)
    if length > _LARGEST_HEADER_BYTES:
        raise BadInput(f"has a header of {length} bytes, above {_LARGEST_HEADER_BYTES}", where=where)
    tensors = _parse(source.read_at(_PREFIX_BYTES, length), where)
    check_places(tensors, data_bytes=size - _PREFIX_BYTES - length, where=where)
    return tensors


def read_index(source: Source) -> tuple[StoredTensor, ...]:
    """Return the tensors of all files that an index names.

    Only the headers of the files are read. Raises: BadInput, if files are missing, lie
    elsewhere than beside the index, or do not hold what it says.
    """
    index = _load_index(source)
    files: dict[str, set[str]] = {}
    for name, file in index.weight_map.items():
        files.setdefault(file, set()).add(name)
    if len(files) > _MOST_FILES:
        raise BadInput(f"names {len(files)} files, above {_MOST_FILES}", where=source.where)
    tensors: list[StoredTensor] = []
    for (file, names), part in zip(files.items(), _open_files(source, files), strict=True):
        found = read_safetensors(part)
        if missing := names - {tensor.name for tensor in found}:
            raise BadInput(f"{file} does not hold {shown(min(missing))}", where=source.where)
        tensors.extend(tensor for tensor in found if tensor.name in names)
    return tuple(tensors)


def _load_index(source: Source) -> _Index:
    where = source.where
    text = source.read_at(0, _LARGEST_INDEX_BYTES + 1)
    if len(text) > _LARGEST_INDEX_BYTES:
        raise BadInput(f"is larger than {_LARGEST_INDEX_BYTES} bytes, too large for an index", where=where)
    try:
        return msgspec.json.decode(text, type=_Index)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"is not an index of safetensors files: {_short(error)}", where=where) from error


def _open_files(source: Source, files: dict[str, set[str]]) -> list[Source]:
    """Return the files that an index names, in its order."""
    for file in sorted(files):
        if PurePosixPath(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise BadInput(f"names {shown(file)}, which is not a safetensors file beside it", where=source.where)
    expected = {
        file: _PREFIX_BYTES + sum(len(name) + _ENTRY_BYTES for name in names) + _METADATA_BYTES
        for file, names in files.items()
    }
    parts = source.beside(expected)
    if missing := sorted(file for file, part in zip(files, parts, strict=True) if part is None):
        raise BadInput(
            f"{len(missing)} of {len(files)} files are missing, first {shown(missing[0])}",
            where=source.where,
            next_step="Put all files beside the index, or give the model's config.json",
        )
    return [part for part in parts if part is not None]


def _parse(header: bytes, where: str) -> tuple[StoredTensor, ...]:
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        if len(raw) > _MOST_TENSORS:
            raise BadInput(f"names {len(raw)} tensors, above {_MOST_TENSORS}", where=where)
        decoder = msgspec.json.Decoder(_Entry)
        return tuple(_tensor(name, decoder.decode(value), where) for name, value in raw.items())
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"has an unreadable header: {_short(error)}", where=where) from error


def _tensor(name: str, entry: _Entry, where: str) -> StoredTensor:
    bits = _BITS.get(entry.dtype)
    if bits is None:
        raise UnknownQuantization(f"tensor {shown(name)} has the unknown type {entry.dtype[:20]!r}", where=where)
    if len(entry.shape) > _MOST_SIDES or any(not 0 <= side < 2**40 for side in entry.shape):
        raise BadInput(f"tensor {shown(name)} has the shape {str(entry.shape)[:60]}", where=where)
    start, end = entry.data_offsets
    size = (prod(entry.shape) * bits + 7) // 8
    if start < 0 or end - start != size:
        raise BadInput(f"tensor {shown(name)} needs {size} bytes and has {end - start}", where=where)
    return StoredTensor(name, tuple(entry.shape), entry.dtype.lower(), size, start)


def _short(error: Any) -> str:
    return str(error)[:120]
