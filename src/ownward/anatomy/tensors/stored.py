"""A tensor as a file's header describes it, and the check that a file's tensors are where they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ownward.core import BadInput


class StoredTensor(NamedTuple):
    """A tensor in a file: its name, its shape with the longest-striding side first, its type and its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    offset: int


def check_places(tensors: Iterable[StoredTensor], *, data_bytes: int, where: str) -> None:
    """Refuse tensors that overlap, or that lie outside the file.

    Raises: BadInput, naming the first that does.
    """
    end, before = 0, ""
    for tensor in sorted(tensors, key=_by_offset):
        if tensor.offset < end:
            raise BadInput(f"tensor {shown(tensor.name)} overlaps {shown(before)}", where=where)
        end, before = tensor.offset + tensor.bytes, tensor.name
        if end > data_bytes:
            raise BadInput(
                f"tensor {shown(tensor.name)} ends at byte {end} of {max(data_bytes, 0)}: the file is cut short",
                where=where,
                next_step="Fetch the file again",
            )


def shown(name: str) -> str:
    """Return a foreign name, quoted and short enough for a line."""
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line for a person


def _by_offset(tensor: StoredTensor) -> tuple[int, int]:
    return tensor.offset, tensor.bytes
