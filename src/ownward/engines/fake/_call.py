"""One call to the fake, decided: what it answers and what that counts, before any dialect says it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from ownward.engines.fake._options import UsageMode

Endpoint = Literal["chat", "completions", "responses", "embeddings", "messages", "count_tokens"]

ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}

_TEXT = "the quiet river carries small boats past old stone houses while children count white birds above green hills"
TOOL_WORDS = ('{"query":', '"fake"}')  # the arguments of a tool call, as the two tokens of its answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One generation, decided: what is answered and what it counts."""

    serial: int
    endpoint: Endpoint
    model: str
    created_s: int
    is_stream: bool
    wants_stream_usage: bool
    usage: UsageMode
    input_tokens: int
    cached_tokens: int
    output_tokens: int  # of one choice
    is_cut_by_limit: bool
    choices: int
    words: tuple[str, ...]
    tool: str | None
    chunk_tokens: int
    other_tools: tuple[str, ...] = ()  # called beside `tool`, one after the other
    thinking: tuple[str, ...] = ()  # thought before the answer, one token a word
    embedding_inputs: int = 0
    wants_base64: bool = False

    @property
    def total_output_tokens(self) -> int:
        """Tokens generated over all choices, which is what a provider charges; thinking is generated as well."""
        return (self.output_tokens + len(self.thinking)) * self.choices

    @property
    def reported(self) -> tuple[int, int] | None:
        """Input and output tokens as the answer will claim them; None where it claims nothing.

        `wrong` claims three input tokens and one output token too many, and twice the output.
        """
        if self.usage == "missing" or (self.is_stream and self.usage == "honest" and not self._is_told_anyway):
            return None
        if self.usage == "wrong":
            return self.input_tokens + 3, 2 * self.total_output_tokens + 1
        return self.input_tokens, self.total_output_tokens

    @property
    def _is_told_anyway(self) -> bool:
        return self.wants_stream_usage or self.endpoint in {"messages", "responses"}

    def text(self, first: int, last: int) -> str:
        """Return tokens `first` (counted from 0) to before `last`, which joined give the answer."""
        words = self.words
        return "".join(
            (words[index % len(words)] if index == 0 else " " + words[index % len(words)])
            for index in range(first, last)
        )

    @property
    def thought(self) -> str:
        """What was thought, as one text."""
        return " ".join(self.thinking)

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Every call as id, name and arguments."""
        names = (self.tool, *self.other_tools) if self.tool is not None else ()
        size = self.output_tokens // max(len(names), 1)
        return [
            (f"{self.serial}_{index}" if index else f"{self.serial}", name, self.text(0, size))
            for index, name in enumerate(names)
        ]


def sign(thinking: str) -> str:
    """Return the signature under a text of thinking, by which a later request shows that it came from here."""
    return "fake-" + hashlib.sha256(thinking.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def default_words() -> tuple[str, ...]:
    """Return the words that answers are made of where no reply is set."""
    return tuple(_TEXT.split())
