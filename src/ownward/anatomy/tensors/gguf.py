"""GGUF headers: versions 2 and 3, both byte orders, split files, every tensor type.

Source: ggml/docs/gguf.md of llama.cpp. Nothing is trusted: each count is checked
against the bytes that are there before anything is read by it.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from ownward.anatomy.quantization.formats import GGML_BLOCKS
from ownward.anatomy.tensors.source import FileSource, Source, unreadable
from ownward.anatomy.tensors.stored import StoredTensor, check_places, shown
from ownward.core import BadInput, UnknownQuantization

MAGIC = b"GGUF"

_MOST_TENSORS = 65_536
_MOST_KEYS = 65_536
_MOST_ELEMENTS = 1_000_000
_MOST_SPLITS = 1_000
_LONGEST_KEY = 1_024
_LONGEST_TEXT = 1_048_576
_MOST_SIDES = 4
_LARGEST_SIDE = 2**40
_MOST_KEPT = 4_096
_MOST_DEPTH = 2
_INFO_BYTES = 32
_KEY_BYTES = 13
_DEFAULT_ALIGNMENT = 32
_FIRST_WINDOW_BYTES = 128 * 1024
_LARGEST_WINDOW_BYTES = 1024**2
_LARGEST_FETCHED_BYTES = 40 * 1024**2
"""What is taken in at most of a header that does not lie on this machine; the largest known are near 20 MiB."""

_TYPES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 9: "q8_1",
    10: "q2_k", 11: "q3_k", 12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k",
    16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs",
    24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64", 29: "iq1_m", 30: "bf16",
    31: "q4_0", 32: "q4_0", 33: "q4_0", 34: "tq1_0", 35: "tq2_0", 36: "iq4_nl", 37: "iq4_nl", 38: "iq4_nl",
    39: "mxfp4", 40: "nvfp4", 41: "q1_0",
}  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")

Value = int | float | bool | str | list[int | float | bool | str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """What the headers of a model's GGUF files say: metadata, and tensors of all splits."""

    metadata: Mapping[str, Value]
    tensors: tuple[StoredTensor, ...]
    file_count: int

    @property
    def architecture(self) -> str:
        """The architecture that the file names, or `unknown`."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else "unknown"


def read_gguf(source: Source) -> GgufFile:
    """Return the headers of a GGUF file and of the other splits of the same model.

    Arrays longer than 4,096 (vocabularies) are skipped and read as None.
    Raises: BadInput, if a file is not a GGUF file, is cut short or contradicts itself;
    UnknownQuantization, for a tensor type without a known block.
    """
    match = _SPLIT_NAME.match(source.name)
    if match is None:
        metadata, tensors = _read_one(source)
        count = metadata.get("split.count", 0)
        if isinstance(count, int) and count > 1:
            raise BadInput(
                f"is one of {count} splits but is not named as one",
                where=source.where,
                allowed="Splits are named NAME-00001-of-0000N.gguf and lie side by side",
            )
        if not tensors:
            raise BadInput(
                "holds no tensors, like a file with only a vocabulary",
                where=source.where,
                next_step="Name the file that holds the model's weights",
            )
        return GgufFile(metadata=metadata, tensors=tuple(tensors), file_count=1)
    return _read_splits(source, stem=match["stem"], count=int(match["count"]))


def _read_splits(source: Source, *, stem: str, count: int) -> GgufFile:
    if not 0 < count <= _MOST_SPLITS:
        raise BadInput(f"is named as one of {count} splits", where=source.where)
    names = [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    parts = source.beside(dict.fromkeys(names, _FIRST_WINDOW_BYTES))
    if missing := [name for name, part in zip(names, parts, strict=True) if part is None]:
        raise BadInput(
            f"{len(missing)} of {count} splits are missing, first {missing[0]!r}",
            where=source.where,
            next_step="Put all splits of the model side by side",
        )
    first: dict[str, Value] = {}
    tensors: list[StoredTensor] = []
    known: set[str] = set()
    for number, part in enumerate(part for part in parts if part is not None):
        metadata, found = _read_one(part)
        stated = metadata.get("split.no", number)
        if stated != number:
            raise BadInput(f"is split {number} by name and {stated} by its header", where=part.where)
        if any(tensor.name in known for tensor in found):
            raise BadInput("repeats tensors of an earlier split", where=part.where)
        known.update(tensor.name for tensor in found)
        tensors.extend(found)
        first = first or metadata
    total = first.get("split.tensors.count")
    if isinstance(total, int) and total != len(tensors):
        raise BadInput(f"the splits hold {len(tensors)} tensors, not the {total} of their header", where=source.where)
    return GgufFile(metadata=first, tensors=tuple(tensors), file_count=count)


def _read_one(source: Source) -> tuple[dict[str, Value], list[StoredTensor]]:
    if isinstance(source, FileSource):
        return _read_mapped(source)
    view = bytearray()

    def grow(position: int) -> None:
        """Take in the next window, and what more is needed up to `position`; windows double."""
        if position > _LARGEST_FETCHED_BYTES:
            raise BadInput(f"has a header of more than {_LARGEST_FETCHED_BYTES} bytes", where=source.where)
        while len(view) < position:
            window = min(max(len(view), _FIRST_WINDOW_BYTES), _LARGEST_WINDOW_BYTES, source.size - len(view))
            found = source.read_at(len(view), window)
            if len(found) != window:
                raise BadInput("is cut short", where=source.where)
            view.extend(found)

    return _Header(view, source.where, end=source.size, grow=grow).read()


def _read_mapped(source: FileSource) -> tuple[dict[str, Value], list[StoredTensor]]:
    try:
        with source.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Header(view, source.where, end=len(view)).read()
    except ValueError as error:
        raise BadInput("is empty", where=source.where) from error
    except OSError as error:
        raise unreadable(error, source.where) from error


class _Header:
    """A cursor over one file's header; every step forward is checked against the file's end.

    `view` begins with the file; where it is shorter, `grow` lengthens it up to a position.
    """

    __slots__ = ("elements", "end", "grow", "length", "order", "position", "view", "where")

    def __init__(
        self, view: mmap.mmap | bytearray, where: str, *, end: int, grow: Callable[[int], None] | None = None
    ) -> None:
        self.view = view
        self.end = end
        self.grow = grow
        self.position = 0
        self.order = "<"
        self.elements = 0
        self.where = where
        self.length = struct.Struct("<Q")

    def read(self) -> tuple[dict[str, Value], list[StoredTensor]]:
        """Return metadata and tensors."""
        if self.end < len(MAGIC) or self._slice(0, len(MAGIC)) != MAGIC:
            raise self._bad("is not a GGUF file: it does not start with GGUF")
        self.position = len(MAGIC)
        self._find_byte_order()
        version = self._scalar("I")
        if version not in {2, 3}:
            raise self._bad(f"is GGUF version {version}; versions 2 and 3 can be read")
        tensor_count, key_count = self._scalar("Q"), self._scalar("Q")
        self._check_count("tensors", tensor_count, _MOST_TENSORS, _INFO_BYTES)
        self._check_count("keys", key_count, _MOST_KEYS, _KEY_BYTES)
        metadata: dict[str, Value] = {}
        for _ in range(int(key_count)):
            key = self._text(_LONGEST_KEY)
            metadata[key] = self._value(int(self._scalar("I")), depth=0)
        tensors = [self._tensor() for _ in range(int(tensor_count))]
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise self._bad("names a tensor twice")
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
            raise self._bad(f"general.alignment is {str(alignment)[:20]}, not a power of two")
        start = -(-self.position // alignment) * alignment
        check_places(tensors, data_bytes=self.end - start, where=self.where)
        return metadata, tensors

    def _find_byte_order(self) -> None:
        self._reach(8)  # magic and version
        if struct.unpack_from("<I", self.view, 4)[0] & 0xFFFF == 0:
            self.order = ">"
            self.length = struct.Struct(">Q")

    def _check_count(self, what: str, count: float, most: int, least_bytes: int) -> None:
        if count > most or count * least_bytes > self.end - self.position:
            raise self._bad(f"claims {int(count)} {what}, more than its {self.end} bytes can hold or a model has")

    def _scalar(self, code: str) -> int | float | bool:
        size = struct.calcsize(self.order + code)
        self._reach(self.position + size)
        value: int | float | bool = struct.unpack_from(self.order + code, self.view, self.position)[0]
        self.position += size
        return value

    def _text(self, longest: int) -> str:
        size = int(self._scalar("Q"))
        if size > longest or size > self.end - self.position:
            raise self._bad(f"has a text of {size} bytes at byte {self.position}")
        text = self._slice(self.position, self.position + size).decode("utf-8", errors="replace")
        self.position += size
        return text

    def _value(self, kind: int, *, depth: int) -> Value:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind == _ARRAY and depth < _MOST_DEPTH:
            return self._array(depth)
        raise self._bad(f"has a value of unknown type {kind}")

    def _array(self, depth: int) -> Value:
        kind, count = int(self._scalar("I")), int(self._scalar("Q"))
        if kind in _SCALARS:
            size = count * struct.calcsize("=" + _SCALARS[kind])
            if size > self.end - self.position:
                raise self._bad(f"claims an array of {count} values")
            start, self.position = self.position, self.position + size
            if count > _MOST_KEPT:
                return None
            self._reach(self.position)
            return list(struct.unpack_from(f"{self.order}{count}{_SCALARS[kind]}", self.view, start))
        self.elements += count
        if self.elements > _MOST_ELEMENTS or count * 8 > self.end - self.position:
            raise self._bad(f"claims an array of {count} values")
        if kind == _TEXT:
            return self._texts(count)
        for _ in range(count):
            self._value(kind, depth=depth + 1)
        return None

    def _texts(self, count: int) -> Value:
        """Return a short array of texts; step over a long one, a vocabulary, without decoding it."""
        if count <= _MOST_KEPT:
            return [self._text(_LONGEST_TEXT) for _ in range(count)]
        read, view, end, position = self.length.unpack_from, self.view, len(self.view) - 8, self.position
        for _ in range(count):
            if position > end:
                self._reach(position + 8)
                end = len(view) - 8
            position += 8 + read(view, position)[0]
        if position > self.end:
            raise self._bad("is cut short")
        self.position = position
        return None

    def _tensor(self) -> StoredTensor:
        name = self._text(_LONGEST_KEY)
        side_count = self._scalar("I")
        if not 0 < side_count <= _MOST_SIDES:
            raise self._bad(f"tensor {shown(name)} has {side_count} sides; 1 to {_MOST_SIDES} can be read")
        sides = [int(self._scalar("Q")) for _ in range(int(side_count))]
        if not all(0 < side <= _LARGEST_SIDE for side in sides):
            raise self._bad(f"tensor {shown(name)} has the sides {sides}")
        kind, offset = int(self._scalar("I")), int(self._scalar("Q"))
        dtype = _TYPES.get(kind)
        if dtype is None:
            raise UnknownQuantization(
                f"tensor {shown(name)} has the type {kind}, whose block is not known here", where=self.where
            )
        values, size = GGML_BLOCKS[dtype]
        if sides[0] % values:
            raise self._bad(f"tensor {shown(name)} has rows of {sides[0]}, not a whole number of {dtype} blocks")
        return StoredTensor(name, tuple(reversed(sides)), dtype, prod(sides) // values * size, offset)

    def _reach(self, position: int) -> None:
        """Make sure that the bytes before `position` are there."""
        if position > self.end:
            raise self._bad("is cut short")
        if position > len(self.view) and self.grow is not None:
            self.grow(position)

    def _slice(self, start: int, end: int) -> bytes:
        self._reach(end)
        return bytes(self.view[start:end])

    def _bad(self, message: str) -> BadInput:
        return BadInput(message, where=self.where)
