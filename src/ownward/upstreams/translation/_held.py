"""How much of a stream is held while it is told: a model that never stops may not fill the memory."""

from __future__ import annotations

from typing import Final

from ownward.upstreams.translation._members import UntranslatableAnswer

MOST_BYTES: Final = 128 * 1024 * 1024
"""Of the words of one answer with what holding them costs: some two million tokens, far more than any model answers."""

PIECE_BYTES: Final = 64
"""What a piece of words costs beside its characters, about."""

PART_BYTES: Final = 1024
"""What a call or another part costs beside its words, about."""


def too_much_held() -> UntranslatableAnswer:
    """Return what to say of a stream of which more would have to be held."""
    return UntranslatableAnswer(
        f"the upstream's stream goes on beyond {MOST_BYTES} bytes of what has to be held until its end",
        next_step="State a limit on the answer: max_tokens, or max_output_tokens of the tier",
    )
