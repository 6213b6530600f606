"""What targets have refused: each is asked without it from then on."""

from __future__ import annotations


class LearnedQuirks:
    """Sets of target keys, which bound them, as do the few members that can be left out, and what services refuse."""

    __slots__ = (
        "counts_no_chats",
        "demands_reasoning",
        "refuses_betas",
        "refuses_later_system",
        "refuses_members",
        "refuses_stream_options",
    )

    def __init__(self) -> None:
        """Start empty."""
        self.refuses_stream_options: set[str] = set()  # of those that do not know the member
        self.refuses_later_system: set[str] = set()  # of those whose models take system messages first only
        self.refuses_members: set[tuple[str, str]] = set()  # with the member that the target's model does not know
        self.refuses_betas: dict[str, frozenset[bytes]] = {}  # the values of `anthropic-beta` that are not known there
        self.demands_reasoning: set[str] = set()  # of those that take no turns without what was thought
        self.counts_no_chats: set[str] = set()  # of llama.cpp servers too old to count a chat's tokens

    def forget(self) -> None:
        """Forget all: the same key may stand for another model or server now."""
        self.refuses_stream_options.clear()
        self.refuses_later_system.clear()
        self.refuses_members.clear()
        self.refuses_betas.clear()
        self.demands_reasoning.clear()
        self.counts_no_chats.clear()
