"""The Qwen-Bailian anonymous traces: chats of one serving instance, with the hashes of their prompts' blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ownward.traffic import _values as values
from ownward.traffic._format import Context, Format, has
from ownward.traffic._rows import Row
from ownward.traffic._values import BadValue
from ownward.traffic.records import TrafficRecord

_BLOCK_TOKENS = 16  # alibaba-edu/qwen-bailian-usagetraces-anon, README: 16 tokens a block
_ROOT = "-1"


@dataclass(slots=True)
class _Chats:
    """Follows each chat to its first request, which names its session."""

    repeats: int = 0
    roots: dict[str, str] = field(default_factory=dict)

    def convert(self, row: Row) -> Iterable[TrafficRecord]:
        """Return the row's request."""
        fields = row.fields
        chat, parent = values.text(fields, "chat_id"), values.text(fields, "parent_chat_id")
        arrival_s = values.number(fields, "timestamp")
        if chat is None:
            raise BadValue("chat_id is missing")
        if arrival_s is None:
            raise BadValue("timestamp is missing")
        session = chat if parent in {None, _ROOT} else self.roots.get(parent or "", parent)
        assert session is not None
        self.roots[chat] = session
        blocks = values.identifiers(fields, "hash_ids")
        yield TrafficRecord(
            row=row.number,
            source_row_id=f"chat-{chat}",
            arrival_s=arrival_s,
            input_tokens=values.count(fields, "input_length"),
            output_tokens=values.count(fields, "output_length"),
            workload=values.text(fields, "type"),
            session=session,
            prefix_blocks=blocks,
            prefix_block_tokens=_BLOCK_TOKENS if blocks else None,
        )

    def finish(self) -> Iterable[TrafficRecord]:
        """Return nothing: no row was held back."""
        return ()


def _start(_context: Context) -> _Chats:
    return _Chats()


BAILIAN = Format(
    name="bailian",
    title="Qwen-Bailian anonymous trace (JSON Lines or Parquet)",
    containers=frozenset({"csv", "json"}),
    recognises=has("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length"),
    start=_start,
)
