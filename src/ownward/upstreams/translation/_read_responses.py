"""OpenAI responses requests, read: those that hold all they need, since nothing is kept here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from ownward.upstreams.translation._called import stated_arguments
from ownward.upstreams.translation._common import OPENAI_HINTS, Turns, file_of, image_of, read_cache
from ownward.upstreams.translation._core import (
    Asked,
    Call,
    File,
    Image,
    Reasoning,
    Result,
    Schema,
    Text,
    Tool,
    ToolChoice,
    Turn,
)
from ownward.upstreams.translation._custom import SCHEMA, arguments_of, read_format
from ownward.upstreams.translation._members import Members, Report, shown
from ownward.upstreams.translation._names import told_name
from ownward.upstreams.translation._read_chat import (
    read_allowed,
    read_schema,
    read_user,
    simple_choice,
)
from ownward.upstreams.translation._reasoning import BETWEEN_SUMMARIES, unseal
from ownward.upstreams.translation._steps import STEP, Steps

_Content: TypeAlias = Text | Image | File
_CONTENT = {"message": "content", "function_call_output": "output", "custom_tool_call_output": "output"}
"""Where an item says something, by its type."""
_KEPT = "it refers to what the provider keeps, and nothing is kept here: send the whole input"
_NO_SUCH = "the upstream's dialect knows nothing like it"
_REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "access_programs": (_NO_SUCH, ()),
    "background": ("answers are not kept here", (False,)),
    "context_management": (_NO_SUCH, ([],)),
    "conversation": (_KEPT, ()),
    "image": (_NO_SUCH, ()),
    "moderation": (_NO_SUCH, ()),
    "previous_response_id": (_KEPT, ()),
    "prompt": (_KEPT, ()),
    "store": ("answers are not kept here", (False,)),
    "top_logprobs": (_NO_SUCH, (0,)),
    "truncation": ("the upstream's dialect never shortens the input by itself", ("disabled",)),
}
_REPEATED = ("instructions", "metadata", "tool_choice")


def read_responses(body: dict[str, Any], report: Report) -> Steps[Asked]:
    """Return what a responses request asks for."""
    top = Members(body, "", report)
    instructions = top.take("instructions", str)
    system = [] if instructions is None else [Text(text=instructions, path="instructions")]
    turns = yield from _read_input(top, system)
    text = top.inner("text")
    verbosity = None if text is None else text.take("verbosity", str)
    schema, is_json = _read_text(text)
    for item in top.take_texts("include"):
        if item != "reasoning.encrypted_content":
            report.refuse("include", f"{shown(item)} cannot be had from the upstream's dialect")
    options = top.inner("stream_options")
    if options is not None:
        options.drop("include_obfuscation", unless=(False,))
        options.close()
    asked = Asked(
        model=top.take("model", str) or "",
        is_stream=top.take("stream", bool) is True,
        system=tuple(system),
        turns=turns,
        tools=tuple(tool for item in top.take_objects("tools") for tool in _read_tools(item)),
        tool_choice=_read_tool_choice(top),
        is_parallel=top.take("parallel_tool_calls", bool),
        max_tokens=top.take("max_output_tokens", int),
        temperature=top.take_number("temperature"),
        top_p=top.take_number("top_p"),
        schema=schema,
        is_json=is_json,
        effort=_read_effort(top.inner("reasoning")),
        user=read_user(top),
        verbosity=verbosity,
        service_tier=top.take("service_tier", str),
        repeated={name: body[name] for name in _REPEATED if body.get(name) is not None} | _grouped_tools(body),
        places={
            "effort": "reasoning.effort",
            "schema": "text.format",
            "is_json": "text.format.type",
            "max_tokens": "max_output_tokens",
            "verbosity": "text.verbosity",
        },
    )
    for name, (why, meaningless) in _REFUSED.items():
        top.refuse(name, why, unless=meaningless)
    # max_tool_calls counts the provider's own tools, of which there are none here; client_metadata is Codex's labels
    for name in (*OPENAI_HINTS, "max_tool_calls", "client_metadata"):
        top.drop(name, unless=({},))
    top.close()
    return asked


def _read_effort(reasoning: Members | None) -> str | None:
    if reasoning is None:
        return None
    effort = reasoning.take("effort", str)
    reasoning.drop("summary")
    reasoning.drop("generate_summary")
    reasoning.refuse("context", _NO_SUCH, unless=("auto",))
    reasoning.refuse("mode", _NO_SUCH, unless=("standard",))
    reasoning.close()
    return effort


def _read_text(text: Members | None) -> tuple[Schema | None, bool]:
    if text is None:
        return None, False
    form = text.inner("format")
    text.close()
    if form is None:
        return None, False
    kind = form.take_one_of("type", "text", "json_schema", "json_object")
    schema = read_schema(form) if kind == "json_schema" else None
    form.close()
    return schema, kind == "json_object"


def _grouped_tools(body: dict[str, Any]) -> dict[str, Any]:
    """Return the tools to repeat as they were stated, where some stand in a namespace or are custom."""
    tools = body.get("tools")
    are_functions = not isinstance(tools, list) or all(
        not isinstance(tool, dict) or (tool.get("type") != "custom" and "tools" not in tool) for tool in tools
    )
    return {} if are_functions else {"tools": tools}


def _read_tools(tool: Members) -> list[Tool]:
    """Return a tool, or those of a namespace, whose first one says what the namespace is."""
    kind = tool.take("type", str)
    if kind != "namespace":
        found = _read_tool(tool, kind)
        return [] if found is None else [found]
    group = tool.take("name", str) or ""
    about = tool.take("description", str)
    read = [_read_tool(inner, inner.take("type", str)) for inner in tool.take_objects("tools")]
    tools = [replace(inner, namespace=group) for inner in read if inner is not None]
    tool.close()
    if tools and about:
        said = f"Tools whose names begin with {told_name(group, '')}: {about}"
        own = tools[0].description
        tools[0] = replace(tools[0], description=f"{said}\n\n{own}" if own else said)
    return tools


def _read_tool(tool: Members, kind: str | None) -> Tool | None:
    if kind not in {"function", "custom"}:
        tool.report.refuse(tool.at("type"), f"tools of the type {shown(kind)} are the provider's own")
        return None
    tool.refuse("allowed_callers", _NO_SUCH, unless=(["direct"],))
    tool.refuse("defer_loading", _NO_SUCH, unless=(False,))
    tool.refuse("async", _NO_SUCH, unless=(False,))
    is_custom = kind == "custom"
    if is_custom:
        read_format(tool)
    else:
        tool.refuse("output_schema", _NO_SUCH)
    found = Tool(
        name=tool.take("name", str) or "",
        description=tool.take("description", str),
        schema=SCHEMA if is_custom else tool.take("parameters", dict),
        is_strict=None if is_custom else tool.take("strict", bool),
        is_custom=is_custom,
        path=tool.path,
        cache=read_cache(tool),
    )
    tool.close()
    return found


def _read_tool_choice(top: Members) -> ToolChoice | None:
    stated = top.take_any("tool_choice")
    if stated is None:
        return None
    if isinstance(stated, str):
        return simple_choice(stated, top)
    choice = Members(stated, "tool_choice", top.report)
    kind = choice.take("type", str)
    if kind in {"function", "custom"}:
        found = ToolChoice(kind="named", name=choice.take("name", str))
        choice.close()
        return found
    if kind == "allowed_tools":
        return read_allowed(choice, _name_of_tool)
    top.report.refuse("tool_choice.type", f"{shown(kind)} is not a function")
    return None


def _name_of_tool(tool: Members) -> str | None:
    if tool.take("type", str) not in {"function", "custom"}:
        tool.report.refuse(tool.path, "it names no function")
        return None
    return tool.take("name", str)


# Input.


def _read_input(top: Members, system: list[Text]) -> Steps[tuple[Turn, ...]]:
    stated = top.take_any("input")
    if stated is None:
        return ()
    if isinstance(stated, str):
        return (Turn(role="user", parts=(Text(text=stated, path="input"),), path="input"),)
    if not isinstance(stated, list):
        top.report.refuse("input", "it is neither text nor a list of items")
        return ()
    return (yield from _read_items(stated, system, top.report))


def _read_items(stated: list[Any], system: list[Text], report: Report) -> Steps[tuple[Turn, ...]]:
    turns = Turns()
    count = 0
    for index, entry in enumerate(stated):
        count += 1
        if count % STEP == 0:
            yield
        item = Members(entry, f"input[{index}]", report)
        kind = item.take("type", str) or ("message" if item.has("role") or not item.has("id") else "item_reference")
        item.drop("internal_chat_message_metadata_passthrough")  # Codex's labels of what it sends to OpenAI
        parts: list[_Content] = []
        for part in _read_content(item, _CONTENT[kind]) if kind in _CONTENT else ():
            count += 1
            if count % STEP == 0:
                yield
            if part is not None:
                parts.append(part)
        match kind:
            case "message":
                _read_message(item, parts, system, turns)
            case "function_call" | "custom_tool_call":
                turns.join("assistant", _read_call(item, is_custom=kind == "custom_tool_call"), item.path)
            case "reasoning":
                for reasoning in _read_reasoning(item):
                    turns.join("assistant", reasoning, item.path)
            case "function_call_output" | "custom_tool_call_output":
                turns.add("tool", [_read_result(item, parts)], item.path)
            case "item_reference":
                item.report.refuse(item.path, f"{_KEPT}, as clients do with store: false")
                continue
            case _:
                item.report.refuse(item.path, f"items of the type {shown(kind)} are not carried")
                continue
        item.close()
    return turns.close()


def _read_message(item: Members, parts: list[_Content], system: list[Text], turns: Turns) -> None:
    role = item.take("role", str)
    item.take_any("id")
    item.take_any("status")
    item.drop("phase")
    match role:
        case "system" | "developer":
            texts = tuple(part for part in parts if isinstance(part, Text))
            if len(texts) < len(parts):
                item.report.refuse(item.at("content"), "it is not text")
            if turns:
                turns.add("system", texts, item.path)
            else:
                system += texts
        case "user":
            turns.add("user", parts, item.path)
        case "assistant":
            for part in parts:
                if not (isinstance(part, Text) and not part.text):
                    turns.join("assistant", part, part.path)
        case _:
            item.report.refuse(item.at("role"), f"{shown(role)} is not known")


def _read_content(item: Members, member: str) -> Iterable[_Content | None]:
    """Take what an item says, part by part."""
    content = item.take_any(member)
    place = item.at(member)
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(text=content, path=place)]
    if not isinstance(content, list):
        item.report.refuse(place, "it is neither text nor a list of parts")
        return []
    return (_read_part(Members(part, f"{place}[{index}]", item.report)) for index, part in enumerate(content))


def _read_part(part: Members) -> _Content | None:
    kind, cache = part.take("type", str), read_cache(part)
    found: _Content | None = None
    match kind:
        case "input_text" | "output_text" | "text":
            part.drop("annotations", unless=([],))  # what an answer said of its sources; nothing is asked by it
            part.drop("logprobs", unless=([],))
            part.take_any("parsed")  # what OpenAI's client adds when a form is parsed
            found = Text(text=part.take("text", str) or "", path=part.path, cache=cache)
        case "refusal":
            found = Text(text=part.take("refusal", str) or "", path=part.path, cache=cache)
        case "input_image":
            detail = part.take("detail", str)
            part.refuse("file_id", "the upstream cannot fetch a file kept by another provider")
            url = part.take("image_url", str)
            found = image_of(url, path=part.path, report=part.report, cache=cache)
            if found is not None and detail != "auto":
                found = replace(found, detail=detail)
        case "input_file":
            found = file_of(part, path=part.path, cache=cache)
        case _:
            part.report.refuse(part.path, f"parts of the type {shown(kind)} are not carried")
            return None
    part.close()
    return found


def _read_call(item: Members, *, is_custom: bool) -> Call:
    item.take_any("id")
    item.take_any("status")
    item.take_any("parsed_arguments")  # what OpenAI's client adds when a form is parsed
    item.refuse("async", _NO_SUCH, unless=(False,))
    item.refuse("caller", _NO_SUCH, unless=({"type": "direct"},))
    given = item.take("input", str) if is_custom else item.take("arguments", str)
    return Call(
        call_id=item.take("call_id", str) or "",
        name=item.take("name", str) or "",
        arguments=arguments_of(given or "") if is_custom else stated_arguments(given),
        namespace=item.take("namespace", str),
        path=item.path,
        arguments_path=item.at("arguments"),
    )


def _read_result(item: Members, parts: Iterable[_Content]) -> Result:
    item.take_any("id")
    item.take_any("status")
    item.take_any("name")  # of the function and its namespace, which the call says as well
    item.take_any("namespace")
    item.refuse("caller", _NO_SUCH, unless=({"type": "direct"},))
    call_id = item.take("call_id", str) or ""
    return Result(call_id=call_id, parts=tuple(parts), path=item.path)


def _read_reasoning(item: Members) -> list[Reasoning]:
    item.take_any("id")
    item.take_any("status")
    sealed = item.take("encrypted_content", str)
    words = [part.take("text", str) or "" for member in ("content", "summary") for part in item.take_objects(member)]
    if sealed is not None:
        found = unseal(sealed, item.path)
        return [found or Reasoning(text="", signer="other", redacted=sealed, path=item.path)]
    text = BETWEEN_SUMMARIES.join(words)
    return [Reasoning(text=text, signer="openai", path=item.path)] if text else []
