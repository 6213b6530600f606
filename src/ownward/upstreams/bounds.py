"""How many tokens a request can cost at most, known before it is sent.

An intent's highest charge rests on these: too high only reserves too much for a
moment, too low would make the ledger's bounds miss the truth.
"""

from __future__ import annotations

import struct

import msgspec

from ownward.upstreams._json import UNREADABLE
from ownward.upstreams.splicing import Endpoint, Spliced

TEMPLATE_TOKENS = 1024
"""Allowance for what a chat template adds once: default system texts (20 to 100 tokens in the templates of
Qwen 2.5, Llama 3 and gpt-oss), dates, the opening of the answer."""

MESSAGE_TOKENS = 32
"""Allowance for each message's role markers (4 to 8 tokens in common templates)."""

TOOLS_TOKENS = 2048
"""Allowance for the instructions that come with any tool (Anthropic states 159 to 530, by model)."""

CLIENT_TOOL_TOKENS = 2048
"""Allowance for each tool the provider defines and the client runs (bash, text editor, computer: 245 to 735)."""

IMAGE_TOKENS = 65_536
"""Allowance for each image. The dearest price list we know of counts 2,833 + 5,667 for each of 8 tiles."""

_BRACKET, _N_OF_NULL = b"[n"
_first_byte = struct.Struct("B").unpack_from
"""A value's first byte tells its kind."""

_NULL = msgspec.Raw(b"null")
_SCHEMA_TIMES = 4
_NFKC_TIMES = 11

_PLAIN_PARTS = frozenset(
    {
        "text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal",
        "thinking", "redacted_thinking", "tool_use", "tool_result", "search_result", "input_audio",
    }
)  # fmt: skip
_IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})
_PLAIN_ITEMS = frozenset(
    {"message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
_PLAIN_TOOLS = frozenset({"function", "custom"})
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
_STATEFUL = frozenset(
    {"previous_response_id", "conversation", "container", "mcp_servers", "web_search_options", "chat_template"}
)
_SCHEMAS = frozenset({"tools", "functions", "response_format", "text", "output_format", "output_config"})
_RARE = _STATEFUL | _SCHEMAS


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    content: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL


_decode_messages = msgspec.json.Decoder(list[_Message]).decode


class _Tool(msgspec.Struct):
    type: str | None = None


def input_tokens_upper_bound(
    request: Spliced, *, endpoint: Endpoint = "chat", max_context_tokens: int | None = None
) -> int | None:
    """Return a number of input tokens that the upstream's own count cannot exceed; None where there is none.

    The argument. A byte-level or byte-fallback tokenizer makes at least one byte
    of text into each token, and JSON never spells text in fewer bytes than UTF-8
    does: so text costs at most the body's length. Added to it: role markers for
    each message, what a template adds once, and for tools and schemas (which
    templates may indent, escape or rewrite) four times their length in all.
    Tokenizers that normalise first (NFKC, common among embedding models) can
    lengthen text that is not ASCII, in UTF-8 at most elevenfold. Images cost a
    stated allowance each.

    No bound: documents, video, what the provider keeps or fetches itself
    (previous responses, searches), what a template of the client's repeats, and
    parts we do not know. The context length `max_context_tokens`, where the plan
    states it, bounds those as well.
    """
    if max_context_tokens is not None and len(request.body) >= max_context_tokens:
        return max_context_tokens  # no bound is below the body's length
    bound = _bound_body(request, endpoint)
    if max_context_tokens is None or (bound is not None and bound < max_context_tokens):
        return bound
    return max_context_tokens


def output_tokens_upper_bound(
    request: Spliced, *, endpoint: Endpoint = "chat", max_output_tokens: int | None = None
) -> int | None:
    """Return a number of output tokens that the upstream's own count cannot exceed; None where there is none.

    `max_output_tokens` is the tier's own limit for one answer, as the plan states it.
    """
    if endpoint == "embeddings":
        return 0
    most = request.max_output_tokens
    if most is None or (max_output_tokens is not None and max_output_tokens < most):
        most = max_output_tokens
    if most is None:
        return None
    prediction = request.top.get("prediction")
    if prediction is not None:  # what of it does not come true is charged as output, beyond every limit
        most += len(memoryview(prediction))
    return most * request.choices


def _bound_body(request: Spliced, endpoint: Endpoint) -> int | None:
    top = request.top
    schemas, tools = 0, 0
    if not _RARE.isdisjoint(top):
        stated_tools = _bound_tools(top.get("tools"))
        if stated_tools is None or any(_is_stated(top.get(key)) for key in _STATEFUL):
            return None
        tools = stated_tools
        schemas = sum(len(memoryview(top[key])) for key in _SCHEMAS if key in top)
    if endpoint == "responses" and _is_stated(top.get("prompt")):
        return None  # a template kept by the provider
    extra = _bound_messages(top.get("input") if endpoint == "responses" else top.get("messages"), endpoint)
    if extra is None:
        return None
    body = request.body
    times = _NFKC_TIMES if endpoint == "embeddings" and (not body.isascii() or b"\\u" in body) else 1
    return times * len(body) + TEMPLATE_TOKENS + extra + tools + (_SCHEMA_TIMES - 1) * schemas


def _bound_messages(raw: msgspec.Raw | None, endpoint: Endpoint) -> int | None:
    if raw is None or endpoint in {"embeddings", "completions"} or not _is_list(raw):
        return 0
    try:
        messages = _decode_messages(raw)
    except UNREADABLE:
        return None
    tokens = MESSAGE_TOKENS * len(messages)
    for message in messages:
        if endpoint == "responses" and message.type is not None and message.type not in _PLAIN_ITEMS:
            return None
        for content in (message.content, message.output):
            if content is not _NULL and _is_list(content):
                parts = _bound_parts(content)
                if parts is None:
                    return None
                tokens += parts
    return tokens


def _bound_parts(raw: msgspec.Raw) -> int | None:
    if not _is_list(raw):
        return 0
    try:
        parts = msgspec.json.decode(raw, type=list[_Message | str])
    except UNREADABLE:
        return None
    tokens = 0
    for part in parts:
        if isinstance(part, str):
            continue
        if part.type in _IMAGE_PARTS:
            tokens += IMAGE_TOKENS
            continue
        if part.type not in _PLAIN_PARTS:
            return None
        inner = _bound_parts(part.content)
        if inner is None:
            return None
        tokens += inner + MESSAGE_TOKENS
    return tokens


def _bound_tools(raw: msgspec.Raw | None) -> int | None:
    if not _is_stated(raw):
        return 0
    try:
        tools = msgspec.json.decode(raw or b"[]", type=list[_Tool])
    except UNREADABLE:
        return None
    tokens = TOOLS_TOKENS
    for tool in tools:
        if tool.type is None or tool.type in _PLAIN_TOOLS:
            continue
        if not tool.type.startswith(_CLIENT_TOOLS):
            return None
        tokens += CLIENT_TOOL_TOKENS
    return tokens


def _is_stated(raw: msgspec.Raw | None) -> bool:
    return raw is not None and _first_byte(raw)[0] != _N_OF_NULL


def _is_list(raw: msgspec.Raw) -> bool:
    return bool(_first_byte(raw)[0] == _BRACKET)
