"""What targets were found not to take, since they refused it: each is asked without it from then on."""

from __future__ import annotations


class LearnedHabits:
    """By the keys of targets; bounded by them and by the few members that can be spared."""

    __slots__ = ("counts_no_chats", "refuses_later_system", "refuses_members", "refuses_stream_options")

    def __init__(self) -> None:
        """Start with nothing found."""
        self.refuses_stream_options: set[str] = set()  # that do not know how to be asked for usage in streams
        self.refuses_later_system: set[str] = set()  # whose models take system messages at the beginning alone
        self.refuses_members: set[tuple[str, str]] = set()  # with the member that the model does not know
        self.counts_no_chats: set[str] = set()  # whose server is older than its counting of chats

    def forget(self) -> None:
        """Find out anew: behind the same key there may be another model, or another server."""
        self.refuses_stream_options.clear()
        self.refuses_later_system.clear()
        self.refuses_members.clear()
        self.counts_no_chats.clear()
