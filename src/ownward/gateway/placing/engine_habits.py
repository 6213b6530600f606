"""What servers of the engines that are known do otherwise than one of which nothing is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from ownward.gateway.placing.crossings import FUNCTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHabits:
    """The ways of one engine's server, beyond what is stated of its upstream.

    `speaks_both` dialects, on endpoints of their own. `counts_messages` in Anthropic's dialect, in whatever one it is
    asked for answers. `wants_chats`: chats are asked for, whatever the client wants. `reads_one_word` of a chat's
    `tool_choice`, and goes by `auto` where it names tools. `calls_on`: where one call is wanted it may make
    several. `computes_unheard`: of an answer that is not streamed it
    notices late or never that nobody waits for it. `goes_on` with a last message of the assistant: by itself, or where
    it is told `continue_final_message`. `never_has` what a request may need, `lacks` what the plan may state that it
    has.
    """

    speaks_both: bool = False
    counts_messages: bool = False
    wants_chats: bool = False
    reads_one_word: bool = False
    calls_on: bool = False
    computes_unheard: bool = False
    goes_on: Literal["by itself", "when told"] | None = None
    never_has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()


# Its stream of `/v1/responses` lacks `content_index`, `output_index` and sequence numbers (build b11549), without
# which openai's own client cannot put an answer together. Its `/v1/messages` passes over documents, search results,
# that a result is an error, a JSON schema and, of a choice of tools, all but whether a call is demanded, and takes
# tools that a provider runs for the client's: all without a word (measured 2026-11-22). So it is asked for chats.
# `functions`, the older name of tools, it leaves out without a word as well. `parallel_tool_calls: false` holds with
# some models' templates: not where each call stands in marks of its own and is JSON, as Qwen's and Hermes' have it
# (common/chat-auto-parser-generator.cpp).
_LLAMA_CPP: Final = EngineHabits(
    speaks_both=True,
    wants_chats=True,
    reads_one_word=True,
    calls_on=True,
    computes_unheard=True,
    goes_on="by itself",
    never_has=frozenset({FUNCTIONS}),
)

# The embedded one is given no projector for pictures and sound, and makes vectors only where it is told to.
_EMBEDDED: Final = replace(_LLAMA_CPP, lacks=frozenset({"audio", "embeddings", "vision"}))

_KNOWN: Final = {
    "embedded": _EMBEDDED,
    "llama-server": _LLAMA_CPP,
    "sglang": EngineHabits(counts_messages=True, goes_on="when told"),  # docs.sglang.io, "Anthropic-Compatible API"
    "vllm": EngineHabits(speaks_both=True, goes_on="when told"),
}
_OF_UNKNOWN: Final = EngineHabits()


def habits_of(engine: str | None) -> EngineHabits:
    """Return the ways of an engine by its name in the plan; of one that is not known, and of none, nothing."""
    return _OF_UNKNOWN if engine is None else _KNOWN.get(engine, _OF_UNKNOWN)
