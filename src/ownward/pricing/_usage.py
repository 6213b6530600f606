"""What one request used, counted OpenAI's way: cached and written tokens stand inside the input."""

from __future__ import annotations

import msgspec

from ownward.core import BadInput


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The tokens of one request as its upstream, or our own count, states them.

    `cached_input_tokens` (read from a prefix cache) and `cache_write_tokens`
    (written to one, at a surcharge) are parts of `input_tokens` and do not
    overlap; `cache_write_1h_tokens` is the part of the writes that is kept for
    an hour or longer (OpenAI's twelve); `reasoning_tokens` is the part of `output_tokens` that was thought
    and not shown, None where it is not stated. Providers that report cached
    tokens beside the input (Anthropic) are converted by `from_exclusive`.
    Raises: BadInput, if a count is negative or a part exceeds its whole.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        if (
            self.input_tokens < 0
            or self.output_tokens < 0
            or self.cached_input_tokens < 0
            or self.cache_write_tokens < 0
            or self.cache_write_1h_tokens < 0
            or (self.reasoning_tokens or 0) < 0
        ):
            raise BadInput(f"a token count is negative: {self!r}", allowed="Counts are 0 or more")
        if self.cached_input_tokens + self.cache_write_tokens > self.input_tokens:
            raise BadInput(
                f"cached_input_tokens {self.cached_input_tokens} and cache_write_tokens {self.cache_write_tokens}"
                f" exceed input_tokens {self.input_tokens}",
                allowed="Both are counted inside input_tokens; they do not overlap",
                next_step="Counts that exclude the cache are read by Usage.from_exclusive",
            )
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            raise BadInput(
                f"cache_write_1h_tokens {self.cache_write_1h_tokens} exceeds cache_write_tokens "
                f"{self.cache_write_tokens}",
                allowed="It is a part of cache_write_tokens",
            )
        if self.reasoning_tokens is not None and self.reasoning_tokens > self.output_tokens:
            raise BadInput(
                f"reasoning_tokens {self.reasoning_tokens} exceeds output_tokens {self.output_tokens}",
                allowed="It is a part of output_tokens",
            )

    @classmethod
    def from_exclusive(
        cls,
        *,
        input_tokens: int,
        output_tokens: int,
        cached_input_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        reasoning_tokens: int | None = None,
    ) -> Usage:
        """Return usage from counts whose `input_tokens` leaves out what was read from or written to a cache.

        Anthropic's Messages API counts this way. `cache_write_tokens` includes the one-hour writes.

        >>> Usage.from_exclusive(input_tokens=10, output_tokens=5, cached_input_tokens=90).input_tokens
        100
        """
        return cls(
            input_tokens=input_tokens + cached_input_tokens + cache_write_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            cache_write_tokens=cache_write_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
            reasoning_tokens=reasoning_tokens,
        )

    @property
    def fresh_input_tokens(self) -> int:
        """Input tokens neither read from nor written to a cache."""
        return self.input_tokens - self.cached_input_tokens - self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens
