"""OpenAI chat completions requests, read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from ownward.upstreams.translation._called import stated_arguments
from ownward.upstreams.translation._common import OPENAI_HINTS, file_of, image_of, read_cache
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
from ownward.upstreams.translation._extra_content import extra_reasoning
from ownward.upstreams.translation._members import Members, Report, shown
from ownward.upstreams.translation._reasoning import in_order, read_chat_reasoning
from ownward.upstreams.translation._steps import STEP, Steps

_Content: TypeAlias = Text | Image | File
_NO_SUCH = "the upstream's dialect knows nothing like it"
_REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "presence_penalty": (0, 0.0),
    "seed": (),
    "store": (False,),
    "top_logprobs": (0,),
    "web_search_options": (),
}
"""Members that no other dialect carries, each with the values that mean the same as leaving it out."""


def read_chat(body: dict[str, Any], report: Report) -> Steps[Asked]:
    """Return what a chat completions request asks for."""
    top = Members(body, "", report)
    model = top.take("model", str) or ""
    is_stream = top.take("stream", bool) is True
    options = top.inner("stream_options")
    wants_usage = False
    if options is not None:
        wants_usage = options.take("include_usage", bool) is True
        options.drop("include_obfuscation", unless=(False,))
        options.close()
    system, turns = yield from _read_messages(top)
    schema, is_json = read_response_format(top.inner("response_format"))
    asked = Asked(
        model=model,
        is_stream=is_stream,
        wants_stream_usage=wants_usage,
        system=system,
        turns=turns,
        tools=tuple(tool for item in top.take_objects("tools") if (tool := _read_tool(item)) is not None),
        tool_choice=_read_tool_choice(top),
        is_parallel=top.take("parallel_tool_calls", bool),
        max_tokens=_read_limit(top),
        temperature=top.take_number("temperature"),
        top_p=top.take_number("top_p"),
        top_k=top.take("top_k", int),
        stop=top.take_texts("stop"),
        schema=schema,
        is_json=is_json,
        effort=top.take("reasoning_effort", str),
        thinking=_read_thinking(top),
        user=read_user(top),
        verbosity=top.take("verbosity", str),
        service_tier=top.take("service_tier", str),
        cache=top.take("cache_control", dict),
        places={
            "effort": "reasoning_effort",
            "schema": "response_format.json_schema",
            "is_json": "response_format.type",
        },
    )
    for name, meaningless in _REFUSED.items():
        why = "use tools instead" if name in {"functions", "function_call"} else _NO_SUCH
        top.refuse(name, why, unless=meaningless)
    for name in (*OPENAI_HINTS, "prediction"):  # what the answer will likely be: it is only told sooner for it
        top.drop(name, unless=({},))
    top.close()
    return asked


def _read_limit(top: Members) -> int | None:
    newer, older = top.take("max_completion_tokens", int), top.take("max_tokens", int)
    if newer is not None and older is not None and newer != older:
        top.report.refuse("max_tokens", "max_completion_tokens says something else")
    return older if newer is None else newer


def read_user(top: Members) -> str | None:
    """Take who the request is made for; of two names the newer member's counts."""
    newer, older = top.take("safety_identifier", str), top.take("user", str)
    if newer is not None and older is not None and newer != older:
        top.report.drop("user")
    return older if newer is None else newer


def _read_thinking(top: Members) -> Thinking | None:
    """Take Anthropic's own member, which clients of gateways send along."""
    stated = top.take("thinking", dict)
    if stated is None:
        return None
    match stated.get("type"):
        case "adaptive" | "enabled" | "disabled" | "between_tools" as kind:
            return Thinking(kind=kind, stated=stated)
        case other:
            top.report.refuse("thinking.type", f"{shown(other)} is not known")
            return None


def read_response_format(form: Members | None) -> tuple[Schema | None, bool]:
    """Return the schema that an answer must follow, and whether any JSON object will do."""
    if form is None:
        return None, False
    kind = form.take_one_of("type", "text", "json_schema", "json_object")
    schema = None
    if kind == "json_schema":
        inner = _needed(form, "json_schema")
        if inner is not None:
            schema = read_schema(inner)
            inner.close()
    form.close()
    return schema, kind == "json_object"


def read_schema(inner: Members) -> Schema:
    """Take the members of a named schema."""
    return Schema(
        schema=inner.take("schema", dict) or {},
        name=inner.take("name", str),
        description=inner.take("description", str),
        is_strict=inner.take("strict", bool),
    )


def _read_tool(tool: Members) -> Tool | None:
    kind = tool.take("type", str)
    if kind != "function":
        tool.report.refuse(tool.at("type"), f"tools of the type {shown(kind)} are not functions")
        return None
    cache = read_cache(tool)
    inner = _needed(tool, "function")
    tool.close()
    if inner is None:
        return None
    found = Tool(
        name=inner.take("name", str) or "",
        description=inner.take("description", str),
        schema=inner.take("parameters", dict),
        is_strict=inner.take("strict", bool),
        path=tool.path,
        cache=cache or read_cache(inner),
    )
    inner.close()
    return found


def _read_tool_choice(top: Members) -> ToolChoice | None:
    stated = top.take_any("tool_choice")
    if stated is None:
        return None
    if isinstance(stated, str):
        return simple_choice(stated, top)
    choice = Members(stated, "tool_choice", top.report)
    kind = choice.take("type", str)
    found: ToolChoice | None = None
    match kind:
        case "function":
            inner = choice.inner("function")
            name = None if inner is None else inner.take("name", str)
            found = ToolChoice(kind="named", name=name)
        case "allowed_tools":
            inner = choice.inner("allowed_tools")
            if inner is not None:
                found = read_allowed(inner, _name_of_chat_tool)
        case _:
            choice.report.refuse("tool_choice.type", f"{shown(kind)} is not a function")
    choice.close()
    return found


def simple_choice(stated: str, top: Members) -> ToolChoice | None:
    """Return the choice that one word makes."""
    match stated:
        case "auto" | "none" | "required":
            return ToolChoice(kind=stated)
        case _:
            top.report.refuse("tool_choice", f"{shown(stated)} is not known: auto, none, required are")
            return None


def read_allowed(inner: Members, name_of: Any) -> ToolChoice:
    """Take a choice among some of the tools."""
    mode = inner.take_one_of("mode", "auto", "required") or "auto"
    names = tuple(name for tool in inner.take_objects("tools") if (name := name_of(tool)) is not None)
    inner.close()
    return ToolChoice(kind="required" if mode == "required" else "auto", allowed=names)


def _name_of_chat_tool(tool: Members) -> str | None:
    kind, inner = tool.take("type", str), tool.inner("function")
    if kind != "function" or inner is None:
        tool.report.refuse(tool.path, "it names no function")
        return None
    return inner.take("name", str)


# Messages.


def _read_messages(top: Members) -> Steps[tuple[tuple[Text, ...], tuple[Turn, ...]]]:
    system: list[Text] = []
    turns: list[Turn] = []
    participants: dict[str, dict[str, list[str]]] = {}
    count = 0
    for message in top.each_object("messages"):
        role = message.take("role", str)
        if role == "tool":
            message.take_any("name")  # of the function, which the call says as well
        else:
            named = participants.setdefault(role or "", {})
            named.setdefault(message.take("name", str) or "", []).append(message.at("name"))
        cache = read_cache(message)
        parts: list[_Content] = []
        for part in _read_content(message):
            count += 1
            if count % STEP == 0:
                yield
            if part is not None:
                parts.append(part)
        match role:
            case "system" | "developer":
                texts = _texts_only(_marked(parts, cache, message), message)
                if turns:
                    turns.append(Turn(role="system", parts=tuple(texts), path=message.path))
                else:
                    system += texts
            case "user":
                said = _marked(parts, cache, message)
                turns.append(Turn(role="user", parts=tuple(said), path=message.path))
            case "assistant":
                whole = yield from _read_assistant(message, _marked(parts, cache, message))
                turns.append(Turn(role="assistant", parts=tuple(whole), path=message.path))
            case "tool":
                turns.append(Turn(role="tool", parts=(_read_result(message, parts, cache),), path=message.path))
            case _:
                message.report.refuse(message.at("role"), f"{shown(role)} is not known")
        message.close()
    for role, named in participants.items():
        _leave_out_names(role, named, top.report)
    return tuple(system), tuple(turns)


def _leave_out_names(role: str, named: dict[str, list[str]], report: Report) -> None:
    """Note what becomes of the names of a role: they tell its participants apart, and where it has one nobody.

    `named` has the places by the name, which is empty where a message has none: the model's own, of an assistant.
    """
    unnamed = named.pop("", None)
    tells_apart = len(named) > 1 or (unnamed is not None and role != "assistant")
    for place in [place for places in named.values() for place in places]:
        if tells_apart:
            report.refuse(place, "the upstream's dialect has no names that tell participants apart")
        else:
            report.drop(place)


def _read_result(message: Members, parts: Iterable[_Content], cache: dict[str, Any] | None) -> Result:
    is_error = message.take("is_error", bool) is True  # an extension: the dialect itself has no such flag
    call_id = message.take("tool_call_id", str) or ""
    return Result(call_id=call_id, parts=tuple(parts), is_error=is_error, path=message.path, cache=cache)


def _texts_only(parts: Iterable[_Content], message: Members) -> list[Text]:
    found = []
    for part in parts:
        if isinstance(part, Text):
            found.append(part)
        else:
            message.report.refuse(message.at("content"), "it is not text")
    return found


def _read_content(message: Members) -> Iterable[_Content | None]:
    """Take what a message says, part by part."""
    content = message.take_any("content")
    place = message.at("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(text=content, path=place)]
    if not isinstance(content, list):
        message.report.refuse(place, "it is neither text nor a list of parts")
        return []
    return (_read_part(Members(part, f"{place}[{index}]", message.report)) for index, part in enumerate(content))


def _marked(parts: list[_Content], cache: dict[str, Any] | None, message: Members) -> list[_Content]:
    """Return the parts of a message that ends a cached prefix: with its last one, which has to say something."""
    if cache is None:
        return parts
    if not parts or (isinstance(parts[-1], Text) and not parts[-1].text):
        message.report.drop(message.at("cache_control"))
        return parts
    return parts if parts[-1].cache is not None else [*parts[:-1], replace(parts[-1], cache=cache)]


def _read_part(part: Members) -> _Content | None:
    kind, cache = part.take("type", str), read_cache(part)
    found: _Content | None = None
    match kind:
        case "text":
            found = Text(text=part.take("text", str) or "", path=part.path, cache=cache)
        case "refusal":
            found = Text(text=part.take("refusal", str) or "", path=part.path, cache=cache)
        case "image_url":
            inner = _needed(part, "image_url")
            if inner is not None:
                inner.drop("detail", unless=("auto",))
                found = image_of(inner.take("url", str), path=part.path, report=part.report, cache=cache)
                inner.close()
        case "file":
            inner = _needed(part, "file")
            if inner is not None:
                found = file_of(inner, path=part.path, cache=cache)
                inner.close()
        case _:
            part.report.refuse(part.path, f"parts of the type {shown(kind)} are not carried")
            return None
    part.close()
    return found


def _needed(holder: Members, name: str) -> Members | None:
    found = holder.inner(name)
    if found is None:
        holder.report.refuse(holder.at(name), "it is missing")
    return found


def _read_assistant(message: Members, parts: Iterable[_Content]) -> Steps[list[Part]]:
    message.refuse("audio", "sound is not carried")
    message.refuse("function_call", "use tool_calls instead")
    message.drop("annotations", unless=([],))  # what an answer said of its sources; nothing is asked by it
    message.take_any("parsed")  # what OpenAI's client adds when a form is parsed
    thought = read_chat_reasoning(message)
    thought += extra_reasoning(message.take_any("extra_content"), path=message.at("extra_content"))
    said: list[Part] = [part for part in parts if not (isinstance(part, Text) and not part.text)]
    refusal = message.take("refusal", str)
    if refusal:
        said.append(Text(text=refusal, path=message.at("refusal")))
    calls: list[Part] = []
    for number, call in enumerate(message.each_object("tool_calls"), 1):
        if number % STEP == 0:
            yield
        kind = call.take("type", str)
        call.take_any("index")  # clients that keep the pieces of a stream send it along
        if kind not in {None, "function"}:
            call.report.refuse(call.at("type"), f"calls of the type {shown(kind)} are not of functions")
            continue
        inner = _needed(call, "function")
        if inner is None:
            continue
        call_id = call.take("id", str) or ""
        place = call.at("extra_content")
        thought += extra_reasoning(call.take_any("extra_content"), call_id=call_id, path=place)
        calls.append(
            Call(
                call_id=call_id,
                name=inner.take("name", str) or "",
                arguments=stated_arguments(inner.take("arguments", str)),
                path=call.path,
                arguments_path=inner.at("arguments"),
                cache=read_cache(call),
            )
        )
        inner.take_any("parsed_arguments")
        inner.close()
        call.close()
    return in_order(thought, said, calls)
