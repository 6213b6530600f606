"""One request as an importer sees it, and what could not be read.

Nothing here holds prompt text: a prompt leaves only hashes behind.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ownward.core import BadInput

UsageBasis = Literal["upstream", "counted", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSketch:
    """Hashes of the fixed part of one prompt: enough to tell applications apart, kept for one import alone.

    `contract` hashes tools and response schema, `system` the system prompt with numbers and dates left out (None
    without one), `features` some of its word triples. `opening` hashes the first words of the system prompt, or of the
    first user message where there is none, whose last words `closing` hashes, last first.
    """

    contract: str
    system: str | None
    features: frozenset[int] = frozenset()
    opening: tuple[int, ...] = ()
    closing: tuple[int, ...] = ()
    tool_names: tuple[str, ...] = ()
    schema_name: str | None = None
    has_contract: bool = False

    @property
    def fingerprint(self) -> str | None:
        """What names the fixed part of the prompt alone: its tools, its schema and its system prompt.

        None where the prompt has none of them. Numbers, dates and ids in a system prompt do not change it; other words
        do, so that one application can have several.
        """
        if self.system is None and not self.has_contract:
            return None
        fixed = f"{self.contract}\0{self.system or ''}".encode()
        return f"fp_{hashlib.sha256(fixed).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRecord:
    """One request: when, how many tokens, of which workload.

    `cached_input_tokens` and `cache_write_tokens` are counted inside
    `input_tokens` (OpenAI's way), `cache_write_1h_tokens` (kept for an hour) inside the
    written ones; readers convert. `arrival_s` counts from the
    first timed row of its file and can be negative where a file is not in
    order; None where the file has no time. `source_row_id` is the row's own id
    where it has one, else `row-` and a hash of the row and its line; `row` is the number of its
    record in the file, from 0, header and empty lines not counted (a chat's turns share one). `mode` is how its
    provider served it where that has a price of its own: flex, priority, batch, fast.
    Raises: BadInput, on a negative count or more cached than input tokens.
    """

    source_row_id: str
    row: int | None = None
    started_at: datetime | None = None
    arrival_s: float | None = None
    input_tokens: int
    cached_input_tokens: int = 0
    output_tokens: int
    workload: str | None = None
    session: str | None = None
    model: str | None = None
    charge_usd: Decimal | None = None
    completed: bool | None = None
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    usage_basis: UsageBasis = "upstream"
    mode: str | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    priority: int = 0
    prefix_blocks: tuple[int, ...] | None = None
    prefix_block_tokens: int | None = None
    sketch: PromptSketch | None = None

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        for name in (
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
        ):
            count = getattr(self, name)
            if count < 0:
                raise BadInput(f"{name} is {count}", allowed="A token count is 0 or more")
        if self.cached_input_tokens + self.cache_write_tokens > self.input_tokens:
            raise BadInput(
                f"cached_input_tokens {self.cached_input_tokens} and cache_write_tokens {self.cache_write_tokens}"
                f" exceed input_tokens {self.input_tokens}",
                allowed="Both are counted inside input_tokens",
            )
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            raise BadInput(
                f"cache_write_1h_tokens {self.cache_write_1h_tokens} exceed cache_write_tokens"
                f" {self.cache_write_tokens}",
                allowed="They are counted inside cache_write_tokens",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that could not be read: its line (1-based) and why."""

    line: int
    why: str
