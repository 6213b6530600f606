"""What servers of the engines that are known do otherwise than one of which nothing is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from ownward.gateway.needs import CALL_OR_FORM, FUNCTIONS

if TYPE_CHECKING:
    from ownward.upstreams import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHabits:
    """The ways of one engine's server, beyond what is stated of its upstream."""

    speaks_both: bool = False  # dialects, at endpoints of their own
    counts_messages: bool = False  # in Anthropic's dialect, in whatever one it is asked for answers
    wants_chats: bool = False  # to be asked for chats, whatever the client wants
    reads_one_word: bool = False  # of a chat's `tool_choice`: it goes by `auto` where that names tools
    forms_over_calls: bool = False  # it holds an answer to a stated form, and then calls no tool, demanded or not
    calls_on: bool = False  # behind its first call, also where one at a time is wanted
    counts_one: bool = False  # of several answers to one request, in their usage
    computes_unheard: bool = False  # a whole answer for which nobody waits any more
    goes_on: Literal["by itself", "when told"] | None = None  # with a last message of the assistant
    passes_over: frozenset[str] = frozenset()  # members of a completion, which it answers without
    never_has: frozenset[str] = frozenset()  # what a request may need, whatever the plan states
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
_LLAMA_CPP: Final = EngineHabits(
    speaks_both=True,
    wants_chats=True,
    reads_one_word=True,
    forms_over_calls=True,
    calls_on=True,
    counts_one=True,
    computes_unheard=True,
    goes_on="by itself",
    passes_over=frozenset({"echo", "suffix"}),
    never_has=frozenset({CALL_OR_FORM, FUNCTIONS}),
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


def is_llama_cpp(response: Response) -> bool:
    """Return whether a server says that it is a llama.cpp; what stands before it may say its own name instead."""
    return response.header(b"server") == b"llama.cpp"


def habits_of(engine: str | None) -> EngineHabits:
    """Return the ways of an engine by its name in the plan; of one that is not known, and of none, nothing."""
    return _OF_UNKNOWN if engine is None else _KNOWN.get(engine, _OF_UNKNOWN)
