"""What a request needs of the tier that serves it, by name: the capabilities of a plan, and needs that no tier states.

`peeking` reads them from the request; `placing` looks for a tier that has them.
"""

from __future__ import annotations

from typing import Final

AUDIO: Final = "audio"
JSON_MODE: Final = "json_mode"
JSON_SCHEMA: Final = "json_schema"
LOGPROBS: Final = "logprobs"
MULTIPLE_CHOICES: Final = "multiple_choices"
TOOLS: Final = "tools"
VISION: Final = "vision"

THREADS: Final = "threads"
"""Of a message with `thread`: an upstream that holds the conversation, which the next request does not repeat."""

FUNCTIONS: Final = "functions"
"""Of a chat with `functions`, the older name of tools."""

TOOL_CHOICE: Final = "tool_choice"
"""Of a request that says which tools may be called, not only whether any may, must or must not be."""

CALL_OR_FORM: Final = "tools beside a form of JSON"
"""Of a request whose answer may be tool calls, or text in a form of JSON that it states."""

CALL_NOT_FORM: Final = "a call in place of a form of JSON"
"""Of a request that demands a tool call, and states a form of JSON for text that will not come."""

STOP_SEQUENCES: Final = "stop_sequences"
"""Of a message with `stop_sequences`, which OpenAI's responses do not have."""

SHORT_ANSWERS: Final = "short_answers"
"""Of a message whose `max_tokens` is below 16, which OpenAI's responses refuse."""

UNSTATED: Final = frozenset(
    {THREADS, FUNCTIONS, TOOL_CHOICE, CALL_OR_FORM, CALL_NOT_FORM, STOP_SEQUENCES, SHORT_ANSWERS}
)
"""The needs that are no capability of a plan: no tier states them."""
