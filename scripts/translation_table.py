"""The tables of docs/reference/translation.md, made by translating: what a table says is what the code does.

Each member that the published types of the two SDKs know is translated with sample values, and the outcome written
down: what it becomes, that it is left out and named, or why it is refused. tests/docs compares the list with the SDKs.
"""

from __future__ import annotations

import json
from typing import Any

from ownward.upstreams.translation import Limits, Untranslatable, translate

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
CHAT_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
RESPONSES_TOOL = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
MESSAGES_TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}
HELLO = {"role": "user", "content": "hello"}
BASES: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "max_completion_tokens": 64, "messages": [HELLO]},
    "responses": {"model": "m", "max_output_tokens": 64, "input": [HELLO]},
    "messages": {"model": "m", "max_tokens": 64, "messages": [HELLO]},
}
PAIRS = (
    ("chat", "messages"),
    ("responses", "messages"),
    ("responses", "chat"),
    ("messages", "chat"),
    ("messages", "responses"),
)

MEMBERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "chat": {
        "audio": ({"voice": "v", "format": "wav"},),
        "frequency_penalty": (0.5, 0),
        "function_call": ("auto",),
        "functions": ([{"name": "f"}],),
        "logit_bias": ({"1": 5},),
        "logprobs": (True, False),
        "max_completion_tokens": (5,),
        "max_tokens": (64,),
        "messages": ([HELLO, HELLO],),
        "metadata": ({"team": "a"},),
        "modalities": (["text", "audio"], ["text"]),
        "model": ("other",),
        "moderation": ({"model": "m"},),
        "n": (2, 1),
        "parallel_tool_calls": (False, True),
        "prediction": ({"type": "content", "content": "x"},),
        "presence_penalty": (0.5, 0),
        "prompt_cache_key": ("k",),
        "prompt_cache_options": ({"mode": "explicit"},),
        "prompt_cache_retention": ("24h",),
        "reasoning_effort": ("high", "none", "minimal"),
        "response_format": (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_object"},
            {"type": "text"},
        ),
        "safety_identifier": ("u",),
        "seed": (7,),
        "service_tier": ("auto", "default", "flex"),
        "stop": (["x"], "x"),
        "store": (True, False),
        "stream": (True, False),
        "stream_options": ({"include_usage": True}, {"include_obfuscation": True}),
        "temperature": (0.5, 1.5),
        "tool_choice": (
            "auto", "none", "required", {"type": "function", "function": {"name": "f"}},
            {"type": "allowed_tools",
             "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
            {"type": "custom", "custom": {"name": "f"}},
        ),
        "tools": ([CHAT_TOOL], [{"type": "custom", "custom": {"name": "f"}}]),
        "top_logprobs": (2,),
        "top_p": (0.5,),
        "user": ("u",),
        "verbosity": ("low", "medium"),
        "web_search_options": ({},),
        "thinking": ({"type": "adaptive"},),
        "top_k": (5,),
    },
    "responses": {
        "access_programs": ({"cyber": "standard"},),
        "background": (True, False),
        "context_management": ([{"type": "compaction"}],),
        "conversation": ("c",),
        "image": ({"context_compression": "auto"},),
        "include": (["reasoning.encrypted_content"], ["message.output_text.logprobs"]),
        "input": ("hello", [HELLO, HELLO]),
        "instructions": ("be brief",),
        "max_output_tokens": (5,),
        "max_tool_calls": (3,),
        "metadata": ({"team": "a"},),
        "model": ("other",),
        "moderation": ({"model": "m"},),
        "parallel_tool_calls": (False, True),
        "previous_response_id": ("r",),
        "prompt": ({"id": "p"},),
        "prompt_cache_key": ("k",),
        "prompt_cache_options": ({"mode": "explicit"},),
        "prompt_cache_retention": ("24h",),
        "reasoning": ({"effort": "high"}, {"summary": "auto"}, {"mode": "pro"}),
        "safety_identifier": ("u",),
        "service_tier": ("auto", "default", "flex"),
        "store": (True, False),
        "stream": (True, False),
        "stream_options": ({"include_obfuscation": True},),
        "temperature": (0.5, 1.5),
        "text": (
            {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
            {"format": {"type": "json_object"}}, {"verbosity": "low"},
        ),
        "tool_choice": (
            "required", {"type": "function", "name": "f"},
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {"type": "web_search_preview"},
        ),
        "tools": (
            [RESPONSES_TOOL], [{"type": "namespace", "name": "s", "description": "d", "tools": [RESPONSES_TOOL]}],
            [{"type": "web_search"}], [{"type": "custom", "name": "f"}],
            [{"type": "custom", "format": {"type": "grammar"}, "name": "f"}],
        ),
        "top_logprobs": (2,),
        "top_p": (0.5,),
        "truncation": ("auto", "disabled"),
        "user": ("u",),
        "client_metadata": ({"session": "s"},),
    },
    "messages": {
        "billing_policy": (
            {"type": "billing_policy", "bill_to": "user_profile"}, {"type": "billing_policy", "bill_to": "self"},
        ),
        "cache_control": ({"type": "ephemeral"},),
        "compaction": ({"type": "enabled"},),
        "container": ("c",),
        "diagnostics": ({"previous_message_id": None},),
        "fallback_credit_token": ("t",),
        "fallbacks": ("default",),
        "inference_geo": ("eu",),
        "max_tokens": (5, 0),
        "messages": ([HELLO, HELLO],),
        "metadata": ({"user_id": "u"},),
        "model": ("other",),
        "output_config": ({"format": {"type": "json_schema", "schema": SCHEMA}}, {"effort": "high"}),
        "service_tier": ("auto", "standard_only"),
        "speed": ("fast", "standard"),
        "stop_sequences": (["x"],),
        "stream": (True, False),
        "system": ("be brief", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        "thinking": (
            {"type": "adaptive"}, {"type": "adaptive", "display": "summarized"},
            {"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"},
            {"type": "between_tools"},
        ),
        "tool_choice": (
            {"type": "auto"}, {"type": "any"}, {"type": "none"}, {"type": "tool", "name": "f"},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        "tools": ([MESSAGES_TOOL], [{"type": "bash_20250124", "name": "bash"}]),
        "thread": ({"type": "create"}, {"type": "continue", "previous_message_id": "m"}),
        "user_profile_id": ("u",),
        "workspace_id": ("w",),
        "context_management": (
            {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            {"edits": [{"type": "clear_tool_uses_20250919"}]},
        ),
        "mcp_servers": ([{"name": "s"}],),
        "temperature": (0.5,),
        "top_k": (5,),
        "top_p": (0.5,),
    },
}  # fmt: skip
"""Every member of the three requests: those of the SDKs' types, and those that other servers and older models take."""

_CALLED = {"type": "function", "id": "c", "function": {"name": "f", "arguments": "{}"}}
_CHAT_CALL = {"role": "assistant", "content": None, "tool_calls": [_CALLED]}
_MESSAGES_CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}
_RESPONSES_CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def _user(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part]}]


def _chat_thought(**reasoning: Any) -> list[dict[str, Any]]:
    return [HELLO, {**_CHAT_CALL, **reasoning}, {"role": "tool", "tool_call_id": "c", "content": "r"}]


def _result(*blocks: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    result = {"type": "tool_result", "tool_use_id": "c", "content": list(blocks), **more}
    return [HELLO, _MESSAGES_CALL, {"role": "user", "content": [result]}]


def _thought(block: dict[str, Any], *, is_running: bool) -> list[dict[str, Any]]:
    call = {"role": "assistant", "content": [block, *_MESSAGES_CALL["content"]]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
    return [HELLO, call, result, *([] if is_running else [{"role": "assistant", "content": "x"}, HELLO])]


_SIGNED = {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
_GEMINI = {"google": {"thought_signature": "s"}}
_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
_TEXT = {"type": "text", "text": "a"}
_IN_THE_MIDDLE = [HELLO, {"role": "assistant", "content": "x"}, {"role": "system", "content": "y"}, HELLO]
PARTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "chat": {
        "system or developer message first": [{"role": "developer", "content": "be brief"}, HELLO],
        "system message in the middle": _IN_THE_MIDDLE,
        "`name` of a role's only participant": [{"role": "user", "content": "I am Ada", "name": "ada"}],
        "`name` where a role has several": [{**HELLO, "name": "ada"}, HELLO],
        "picture, data URL": _user({"type": "image_url", "image_url": {"url": PNG}}),
        "picture, address": _user({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        "picture with `detail`": _user({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}),
        "sound": _user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        "PDF carried along": _user({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}),
        "file by id": _user({"type": "file", "file": {"file_id": "f"}}),
        "`prompt_cache_breakpoint`, `cache_control`": _user({**_TEXT, "prompt_cache_breakpoint": {"mode": "explicit"}}),
        "calls and results": _chat_thought(),
        "arguments that are not a JSON object": [
            HELLO, {**_CHAT_CALL, "tool_calls": [{**_CALLED, "function": {"name": "f", "arguments": "[1]"}}]}, HELLO],
        "`reasoning_details`, signed": _chat_thought(reasoning_details=[_SIGNED]),
        "`reasoning_content` without a signature, turn running": _chat_thought(reasoning_content="t"),
        "`reasoning_content` without a signature, turn over": [*_chat_thought(reasoning_content="t"), HELLO],
        "`extra_content` of a call (Gemini), turn running": [
            HELLO, {**_CHAT_CALL, "tool_calls": [{**_CALLED, "extra_content": _GEMINI}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"}],
        "an assistant's message last": [HELLO, {"role": "assistant", "content": "x"}],
    },
    "responses": {
        "developer message first": [{"role": "developer", "content": "be brief"}, HELLO],
        "picture, data URL": _user({"type": "input_image", "detail": "auto", "image_url": PNG}),
        "picture by file id": _user({"type": "input_image", "detail": "auto", "file_id": "f"}),
        "PDF carried along": _user({"type": "input_file", "filename": "a.pdf", "file_data": PDF}),
        "calls and results": [HELLO, _RESPONSES_CALL, {"type": "function_call_output", "call_id": "c", "output": "r"}],
        "result with a picture": [
            HELLO, _RESPONSES_CALL,
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PNG}]}],
        "reasoning sealed by another service, turn running": [
            HELLO, {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"}, _RESPONSES_CALL,
            {"type": "function_call_output", "call_id": "c", "output": "r"}],
        "`item_reference`": [HELLO, {"type": "item_reference", "id": "i"}],
        "an item's id alone": [HELLO, {"id": "i"}],
        "result that names its function": [
            HELLO, _RESPONSES_CALL,
            {"type": "function_call_output", "call_id": "c", "output": "r", "name": "f", "caller": {"type": "direct"}}],
        "call of a tool in a namespace": [
            HELLO, {**_RESPONSES_CALL, "namespace": "s"},
            {"type": "function_call_output", "call_id": "c", "output": "r"}],
        "Codex's labels of an item": [
            {**HELLO, "internal_chat_message_metadata_passthrough": {"turn_id": "t"}},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}",
             "internal_chat_message_metadata_passthrough": {"turn_id": "t"}},
            {"type": "function_call_output", "call_id": "c", "output": "r"}],
        "items of the provider's own tools": [HELLO, {"type": "web_search_call", "id": "i", "status": "completed"}],
    },
    "messages": {
        "system message in the middle": _IN_THE_MIDDLE,
        "picture in base64": _user(_IMAGE),
        "picture, address": _user({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
        "picture by file id": _user({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "PDF in base64": _user({"type": "document", "source": {
            "type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
        "document of text, by address or id": _user({"type": "document", "source": {
            "type": "text", "media_type": "text/plain", "data": "x"}}),
        "document with citations": _user({"type": "document", "citations": {"enabled": True}, "source": {
            "type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}),
        "`search_result`": _user({"type": "search_result", "source": "s", "title": "t", "content": []}),
        "`cache_control` on a block": _user({**_TEXT, "cache_control": {"type": "ephemeral"}}),
        "calls and results": _result(_TEXT),
        "result that is an error": _result(_TEXT, is_error=True),
        "result with a picture": _result(_TEXT, _IMAGE),
        "thinking signed by Anthropic, turn running": _thought(
            {"type": "thinking", "thinking": "t", "signature": "s"}, is_running=True),
        "thinking signed by Anthropic, turn over": _thought(
            {"type": "thinking", "thinking": "t", "signature": "s"}, is_running=False),
        "`redacted_thinking`, turn running": _thought({"type": "redacted_thinking", "data": "x"}, is_running=True),
        "thinking that an OpenAI upstream wrote": _thought(
            {"type": "thinking", "thinking": "t", "signature": "ownward:unsigned"}, is_running=True),
        "thinking that was sealed with responses": _thought(
            {"type": "thinking", "thinking": "t", "signature": "ownward:openai:openai-responses-v1|rs_1|summary:x"},
            is_running=True),
        "an assistant's message last": [HELLO, {"role": "assistant", "content": "x"}],
    },
}  # fmt: skip
"""What stands inside messages and items."""


def translation_tables() -> str:
    """Return all tables, in Markdown."""
    written = []
    names = {"chat": "chat completions", "responses": "responses", "messages": "messages"}
    for client in ("chat", "responses", "messages"):
        upstreams = [upstream for who, upstream in PAIRS if who == client]
        head = " | ".join(f"to {names[upstream]}" for upstream in upstreams)
        written.append(f"### From {names[client]}\n")
        written.append(f"| member | value | {head} |\n| --- | --- |{' --- |' * len(upstreams)}")
        for member, samples in sorted(MEMBERS[client].items()):
            for sample in samples:
                told = " | ".join(outcome_of(client, upstream, member, sample) for upstream in upstreams)
                written.append(f"| `{member}` | {_shown(sample)} | {told} |")
        holder = "input" if client == "responses" else "messages"
        written.append(f"\n| in `{holder}` | {head} |\n| --- |{' --- |' * len(upstreams)}")
        for name, content in PARTS[client].items():
            told = " | ".join(outcome_of(client, upstream, holder, content) for upstream in upstreams)
            written.append(f"| {name} | {told} |")
        written.append("")
    return "\n".join(written).rstrip()


def outcome_of(client: str, upstream: str, member: str, value: Any) -> str:
    """Return what becomes of one member with one value, found by translating it."""
    base = dict(BASES[client])
    if member in {"tool_choice", "parallel_tool_calls"}:
        base["tools"] = {"chat": [CHAT_TOOL], "responses": [RESPONSES_TOOL], "messages": [MESSAGES_TOOL]}[client]
    if member == "max_tokens" and client == "chat":
        base.pop("max_completion_tokens")
    if member == "stream_options":
        base["stream"] = True
    limits = Limits(max_output_tokens=99)
    before = json.loads(_translate(base, client, upstream, limits).body)
    try:
        done = _translate({**base, member: value}, client, upstream, limits)
    except Untranslatable as error:
        return f"refused: {error.reasons[0]}"
    after = json.loads(done.body)
    changed = [name for name in sorted(after) if after[name] != before.get(name)]
    told = [f"`{name}`" for name in changed] or ([] if done.dropped else ["the same as without it"])
    if member in {"messages", "input"}:
        told = ["carried"] if changed else told
    if done.dropped:
        told.append("left out: " + ", ".join(f"`{place}`" for place in done.dropped))
    return "; ".join(told)


def _translate(body: dict[str, Any], client: Any, upstream: Any, limits: Limits) -> Any:
    return translate(json.dumps(body).encode(), client=client, upstream=upstream, limits=limits)


def _shown(sample: Any) -> str:
    text = json.dumps(sample)
    if len(text) > 60:
        text = f"{text[:57]}…"
    return f"`{text}`"
