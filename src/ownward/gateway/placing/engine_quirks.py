"""The quirks of known engines: where their servers differ from one of which nothing is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from ownward.gateway.needs import CALL_OR_FORM, FUNCTIONS

if TYPE_CHECKING:
    from ownward.upstreams import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineQuirks:
    """Where the servers of one engine differ from a server of which nothing is known."""

    speaks_both_dialects: bool = False
    counts_message_tokens: bool = False  # serves Anthropic's count_tokens, whatever dialect answers are asked for in
    takes_chats_only: bool = False  # is asked for chats, whatever the client asks for
    ignores_named_tools: bool = False  # in a chat's `tool_choice`: takes it for `auto`
    form_bars_calls: bool = False  # a stated form of JSON keeps it from calling tools, demanded or not
    ignores_one_call_limit: bool = False  # may call several tools where `parallel_tool_calls` is false
    usage_counts_one_answer: bool = False  # of several answers to one request
    computes_after_disconnect: bool = False  # a whole answer that nobody waits for any more
    continues_answers: Literal["by itself", "when told"] | None = None  # that a last message of the assistant begins
    ignored_members: frozenset[str] = frozenset()  # of a completion
    never_has: frozenset[str] = frozenset()  # needs of a request, whatever the plan states
    lacks: frozenset[str] = frozenset()  # capabilities, unless the plan states any


# Its stream of `/v1/responses` lacks `content_index`, `output_index` and sequence numbers (build b11549), without
# which openai's own client cannot put an answer together. Its `/v1/messages` passes over documents, search results,
# that a result is an error, a JSON schema and, of a choice of tools, all but whether a call is demanded, and takes
# tools that a provider runs for the client's: all without a word (measured 2026-11-22). So it is asked for chats.
# A form of JSON (`response_format`) shuts out calls of tools, those that are demanded as well.
# `functions`, the older name of tools, `echo` and `suffix` it leaves out as well. `parallel_tool_calls: false` holds
# with some models' templates: not where each call stands in marks of its own and is JSON, as Qwen's and Hermes' have
# it (common/chat-auto-parser-generator.cpp). Of several prompts, and of `n`, its usage is that of one.
# When it gives an answer up: docs/decisions/003-embedded-engine.md.
_LLAMA_CPP: Final = EngineQuirks(
    speaks_both_dialects=True,
    takes_chats_only=True,
    ignores_named_tools=True,
    form_bars_calls=True,
    ignores_one_call_limit=True,
    usage_counts_one_answer=True,
    computes_after_disconnect=True,
    continues_answers="by itself",
    ignored_members=frozenset({"echo", "suffix"}),
    never_has=frozenset({CALL_OR_FORM, FUNCTIONS}),
)

# The embedded one is given no projector for pictures and sound, and makes vectors only where it is told to.
_EMBEDDED: Final = replace(_LLAMA_CPP, lacks=frozenset({"audio", "embeddings", "vision"}))

_KNOWN: Final = {
    "embedded": _EMBEDDED,
    "llama-server": _LLAMA_CPP,
    "sglang": EngineQuirks(
        counts_message_tokens=True, continues_answers="when told"
    ),  # docs.sglang.io, "Anthropic-Compatible API"
    "vllm": EngineQuirks(speaks_both_dialects=True, continues_answers="when told"),
}
_OF_UNKNOWN: Final = EngineQuirks()


def is_llama_cpp(response: Response) -> bool:
    """Return whether a server says that it is a llama.cpp; what stands before it may say its own name instead."""
    return response.header(b"server") == b"llama.cpp"


def quirks_of(engine: str | None) -> EngineQuirks:
    """Return the quirks of an engine by its name in the plan; an unknown engine, or none, has none."""
    return _OF_UNKNOWN if engine is None else _KNOWN.get(engine, _OF_UNKNOWN)
