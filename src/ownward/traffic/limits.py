"""How much of a foreign file a reader takes before it says no."""

from __future__ import annotations

from dataclasses import dataclass

from ownward.core import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that keep a hostile or broken file from filling memory.

    A longer line is a bad row; a longer document, more rows or more expanded
    bytes end the reading with an error. `max_bad_kept` bad rows are kept with
    their reason, all are counted.
    """

    max_line_bytes: int = 32 * MIB
    max_document_bytes: int = 512 * MIB
    max_expanded_bytes: int = 64 * 1024 * MIB
    max_rows: int = 100_000_000
    max_bad_kept: int = 20
