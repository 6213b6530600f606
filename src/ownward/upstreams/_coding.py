"""Bodies that a server packed although it was asked not to: unpacked as they arrive."""

from __future__ import annotations

import zlib

from ownward.core import BrokenStream

_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib finds out whether it is gzip's or its own
_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})
_MOST_TIMES = 100
_ALWAYS_BYTES = 4 * 1024 * 1024
_PLAIN = frozenset({b"", b"identity"})


class Unpacker:
    """Unpacks one body, of which no piece may grow more than a hundredfold: what one read brings is bounded."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        """Start before the first byte."""
        self._inflate = zlib.decompressobj(_EITHER_HEADER)

    @property
    def is_whole(self) -> bool:
        """Whether the end was seen."""
        return self._inflate.eof

    def unpack(self, data: bytes) -> bytes:
        """Return what the next bytes hold; may be nothing.

        Raises: ValueError, if they are not packed as was said, or unpack to more than any answer would.
        """
        try:
            unpacked = self._inflate.decompress(data, max(_MOST_TIMES * len(data), _ALWAYS_BYTES))
        except zlib.error:
            raise ValueError("that is not packed as it says") from None
        if self._inflate.unconsumed_tail:
            raise ValueError(f"that unpacks to more than {_MOST_TIMES} times its size")
        return unpacked


def find_unpacker(coding: bytes, *, upstream: str, origin: str) -> Unpacker | None:
    """Return what reads a body of this `content-encoding`; None where it is not packed.

    Raises: BrokenStream, if it cannot be read.
    """
    stated = coding.strip().lower()
    if stated in _PLAIN:
        return None
    if stated in _PACKED:
        return Unpacker()
    raise BrokenStream(
        f'upstream "{upstream}" answered in a content-encoding that was not asked for and cannot be read',
        where=origin,
        allowed="identity, which is asked for; gzip and deflate are read as well",
        next_step="It may have charged for the answer",
    )
