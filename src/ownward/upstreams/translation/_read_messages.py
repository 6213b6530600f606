"""Anthropic messages requests, read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ownward.upstreams.translation._common import Turns, read_cache
from ownward.upstreams.translation._core import (
    Asked,
    Call,
    File,
    Image,
    Part,
    Result,
    Schema,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
)
from ownward.upstreams.translation._json import write_json
from ownward.upstreams.translation._members import Members, Report, shown
from ownward.upstreams.translation._reasoning import read_block
from ownward.upstreams.translation._steps import STEP, Steps

_BILLING = "x-anthropic-billing-header:"
"""With this Anthropic's coding agent begins a system prompt: a line for Anthropic's own accounts, another in each
request, behind which no cache of a prompt's beginning would serve anything."""

_NO_SUCH = "the upstream's dialect knows nothing like it"
_KEPT = "it refers to what the provider keeps, and nothing is kept here: send the whole conversation"
_REFUSED: dict[str, tuple[Any, ...]] = {
    "billing_policy": ({"type": "billing_policy", "bill_to": "self"},),
    "compaction": (),
    "container": (),
    "fallbacks": ([],),
    "inference_geo": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "user_profile_id": (),
    "workspace_id": (),
}


def read_messages(body: dict[str, Any], report: Report) -> Steps[Asked]:
    """Return what a messages request asks for."""
    top = Members(body, "", report)
    output = top.inner("output_config")
    effort, schema = None, _read_format(top.inner("output_format"))  # where the form stood before output_config
    if output is not None:
        effort = output.take("effort", str)
        schema = _read_format(output.inner("format")) or schema
        output.close()
    metadata = top.inner("metadata")
    user = None
    if metadata is not None:
        user = metadata.take("user_id", str)
        metadata.close()
    tier = top.take_one_of("service_tier", "auto", "standard_only")
    choice, is_parallel = _read_tool_choice(top.inner("tool_choice"))
    asked = Asked(
        model=top.take("model", str) or "",
        is_stream=top.take("stream", bool) is True,
        system=_read_system(top),
        turns=(yield from _read_turns(top)),
        tools=tuple(tool for item in top.take_objects("tools") if (tool := _read_tool(item)) is not None),
        tool_choice=choice,
        is_parallel=is_parallel,
        max_tokens=top.take("max_tokens", int),
        temperature=top.take_number("temperature"),
        top_p=top.take_number("top_p"),
        top_k=top.take("top_k", int),
        stop=top.take_texts("stop_sequences"),
        schema=schema,
        effort=effort,
        thinking=_read_thinking(top),
        user=user,
        service_tier="default" if tier == "standard_only" else tier,
        cache=top.take("cache_control", dict),
        places={
            "effort": "output_config.effort",
            "schema": "output_config.format",
            "stop": "stop_sequences",
            "user": "metadata.user_id",
        },
    )
    top.refuse("thread", _KEPT)
    top.drop("fallback_credit_token")  # what a refused request has paid of this one's price
    top.drop("diagnostics")  # whether the prompt's cache was met: it changes nothing of the answer
    _read_context_management(top.inner("context_management"))
    for name, meaningless in _REFUSED.items():
        top.refuse(name, _NO_SUCH, unless=meaningless)
    top.close()
    return asked


def _read_context_management(stated: Members | None) -> None:
    """Take the edits of a conversation: which old thinking is kept is a hint, what else is cut out is not."""
    if stated is None:
        return
    for edit in stated.take_objects("edits"):
        if str(edit.take_any("type")).startswith("clear_thinking_"):
            edit.report.drop(edit.path)
        else:
            edit.report.refuse(edit.path, _NO_SUCH)
    stated.close()


def _read_format(form: Members | None) -> Schema | None:
    if form is None:
        return None
    form.take_one_of("type", "json_schema")
    schema = form.take("schema", dict) or {}
    form.close()
    return Schema(schema=schema, is_strict=True)


def _read_thinking(top: Members) -> Thinking | None:
    thinking = top.inner("thinking")
    if thinking is None:
        return None
    kind = thinking.take_one_of("type", "adaptive", "enabled", "disabled", "between_tools")
    thinking.drop("budget_tokens")  # a target that may be missed; max_tokens is what bounds the thinking, on both sides
    thinking.drop("block_binding")  # of blocks that Anthropic signed, whose signatures no other provider reads
    display = thinking.take("display", str)
    if display not in {None, "summarized"}:
        thinking.report.drop(thinking.at("display"))
    thinking.close()
    match kind:
        case "adaptive" | "enabled" | "disabled" | "between_tools":
            return Thinking(kind=kind, stated={"display": display} if display == "summarized" else {})
        case _:
            return None


def _read_tool_choice(choice: Members | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    kind = choice.take_one_of("type", "auto", "any", "tool", "none")
    name = choice.take("name", str)
    is_alone = choice.take("disable_parallel_tool_use", bool)
    choice.close()
    is_parallel = None if is_alone is None else not is_alone
    match kind:
        case "auto" | "none":
            return ToolChoice(kind=kind), is_parallel
        case "any":
            return ToolChoice(kind="required"), is_parallel
        case "tool":
            return ToolChoice(kind="named", name=name), is_parallel
        case _:
            return None, is_parallel


def _read_tool(tool: Members) -> Tool | None:
    kind = tool.take("type", str)
    if kind not in {None, "custom"}:
        tool.report.refuse(tool.at("type"), f"tools of the type {shown(kind)} are the provider's own")
        return None
    tool.refuse("allowed_callers", _NO_SUCH, unless=(["direct"],))
    tool.refuse("defer_loading", _NO_SUCH, unless=(False,))
    tool.refuse("input_examples", _NO_SUCH, unless=([],))
    tool.drop("eager_input_streaming")
    found = Tool(
        name=tool.take("name", str) or "",
        description=tool.take("description", str),
        schema=tool.take("input_schema", dict),
        is_strict=tool.take("strict", bool),
        path=tool.path,
        cache=read_cache(tool),
    )
    tool.close()
    return found


def _read_system(top: Members) -> tuple[Text, ...]:
    read = [part for block in _blocks(top, "system") if (part := _read_block(block)) is not None]
    texts = _texts_only(read, top.report)
    if texts and texts[0].text.startswith(_BILLING):
        top.report.drop(texts[0].path)
        rest = texts[0].text.partition("\n")[2]
        texts[:1] = [replace(texts[0], text=rest)] if rest else []
    return tuple(texts)


def _texts_only(parts: Iterable[Part], report: Report) -> list[Text]:
    found = []
    for part in parts:
        if isinstance(part, Text):
            found.append(part)
        else:
            report.refuse(part.path, "it is not text")
    return found


def _blocks(holder: Members, member: str) -> Iterable[Members]:
    """Take blocks of content, one by one; a text stands for one block."""
    content = holder.take_any(member)
    place = holder.at(member)
    if content is None:
        return []
    if isinstance(content, str):
        return [Members({"type": "text", "text": content}, place, holder.report)]
    if not isinstance(content, list):
        holder.report.refuse(place, "it is neither text nor a list of blocks")
        return []
    return (Members(block, f"{place}[{index}]", holder.report) for index, block in enumerate(content))


def _read_turns(top: Members) -> Steps[tuple[Turn, ...]]:
    turns = Turns()
    count = 0
    for message in top.each_object("messages"):
        role = message.take("role", str)
        blocks = _blocks(message, "content")
        message.close()
        parts: list[Part] = []
        for block in blocks:
            count += 1
            if count % STEP == 0:
                yield
            part = _read_block(block)
            if part is not None:
                parts.append(part)
        match role:
            case "assistant":
                turns.add("assistant", parts, message.path)
            case "system":
                turns.add("system", _texts_only(parts, message.report), message.path)
            case "user":
                _add_user(turns, parts, message.path)
            case _:
                message.report.refuse(message.at("role"), f"{shown(role)} is not known")
    return turns.close()


def _add_user(turns: Turns, read: list[Part], path: str) -> None:
    """Add a user's message as the results of tools and what the user says besides, in order."""
    for is_result, parts in itertools.groupby(read, key=lambda part: isinstance(part, Result)):
        turns.add("tool" if is_result else "user", parts, path)


def _read_block(block: Members) -> Part | None:
    kind = block.take("type", str)
    found: Part | None = None
    match kind:
        case "thinking" | "redacted_thinking":
            return read_block(_with(block, "type", kind))
        case "text":
            block.drop("citations", unless=([],))  # what an answer said of its sources; nothing is asked by it
            block.take_any("parsed_output")  # what Anthropic's client adds when a form is parsed
            found = Text(text=block.take("text", str) or "", path=block.path, cache=read_cache(block))
        case "image":
            block.refuse("transformations", _NO_SUCH, unless=({},))
            found = _read_image(block, read_cache(block))
        case "document":
            found = _read_document(block, read_cache(block))
        case "tool_use":
            found = _read_call(block)
        case "tool_result":
            found = _read_result(block)
        case _:
            block.report.refuse(block.path, f"blocks of the type {shown(kind)} are not carried")
            return None
    block.close()
    return found


def _with(block: Members, name: str, value: object) -> Members:
    left = {member: block.take_any(member) for member in ("thinking", "signature", "data")}
    block.close()
    return Members({name: value, **left}, block.path, block.report)


def _read_image(block: Members, cache: dict[str, Any] | None) -> Image | None:
    source = block.inner("source")
    if source is None:
        block.report.refuse(block.at("source"), "it is missing")
        return None
    kind = source.take("type", str)
    found = None
    match kind:
        case "base64":
            data, media_type = _needed(source, "data"), _needed(source, "media_type")
            found = Image(data=data, media_type=media_type, path=block.path, cache=cache)
        case "url":
            found = Image(url=_needed(source, "url"), path=block.path, cache=cache)
        case _:
            source.report.refuse(source.at("type"), f"pictures of the source {shown(kind)} are not carried")
            return None
    source.close()
    return found


def _needed(source: Members, name: str) -> str:
    if not source.has(name):
        source.report.refuse(source.at(name), "it is missing")
    return source.take(name, str) or ""


def _read_document(block: Members, cache: dict[str, Any] | None) -> File | None:
    source = block.inner("source")
    title = block.take("title", str)
    block.refuse("context", _NO_SUCH)
    block.refuse("citations", "answers cannot cite in the upstream's dialect", unless=({"enabled": False},))
    kind = None if source is None else source.take("type", str)
    if source is None or kind != "base64" or source.take("media_type", str) != "application/pdf":
        block.report.refuse(block.at("source"), "documents are carried as PDF in base64")
        return None
    data = _needed(source, "data")
    source.close()
    return File(data=data, name=title, path=block.path, cache=cache)


def _read_call(block: Members) -> Call:
    block.refuse("caller", _NO_SUCH, unless=({"type": "direct"},))
    block.refuse("toolset_name", _NO_SUCH)
    arguments = block.take("input", dict)
    return Call(
        call_id=block.take("id", str) or "",
        name=block.take("name", str) or "",
        arguments=write_json({} if arguments is None else arguments).decode("utf-8"),
        path=block.path,
        cache=read_cache(block),
    )


def _read_result(block: Members) -> Result:
    block.refuse("toolset_name", _NO_SUCH)
    parts: list[Text | Image | File] = []
    for inner in _blocks(block, "content"):
        part = _read_block(inner)
        if isinstance(part, Text | Image | File):
            parts.append(part)
        elif part is not None:
            block.report.refuse(inner.path, "results hold text, pictures and documents")
    return Result(
        call_id=block.take("tool_use_id", str) or "",
        parts=tuple(parts),
        is_error=block.take("is_error", bool) is True,
        path=block.path,
        cache=read_cache(block),
    )
