"""Bodies that a server packed although it was asked not to: unpacked as they arrive."""

from __future__ import annotations

import zlib

from ownward.core import BrokenStream

_EITHER_HEADER = 32 + zlib.MAX_WBITS  # zlib finds out whether it is gzip's or its own
_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})
_PLAIN = frozenset({b"", b"identity"})


class Unpacker:
    """Unpacks one body.

    A piece of a body grows at most a thousandfold, so that what one read of a socket brings stays bounded.
    """

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

        Raises: ValueError, if they are not packed as was said.
        """
        try:
            return self._inflate.decompress(data)
        except zlib.error:
            raise ValueError("it is not packed as it says") from None


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
