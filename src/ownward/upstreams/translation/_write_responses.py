"""OpenAI responses requests, written: each holds all it needs, since nothing is kept at the upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ownward.upstreams.translation._common import file_url_of, index_of_running_turn, shortened_user, url_of
from ownward.upstreams.translation._core import (
    Asked,
    Call,
    File,
    Image,
    Part,
    Reasoning,
    Result,
    Schema,
    Text,
    Tool,
    Turn,
)
from ownward.upstreams.translation._members import Report
from ownward.upstreams.translation._reasoning import RESPONSES_FORMAT
from ownward.upstreams.translation._schemas import stated
from ownward.upstreams.translation._steps import STEP, Steps
from ownward.upstreams.translation._write_chat import ERROR_WORD, drop_cache, refuse_no_answer

_ENCRYPTED = "reasoning.encrypted_content"
_NO_SUCH = "the upstream's responses know nothing like it"


def write_responses(
    asked: Asked, report: Report, *, is_openai: bool, reads_seals: bool = True
) -> Steps[dict[str, Any]]:
    """Return the body of a responses request; its reasoning is always asked for sealed.

    `is_openai`: the upstream is OpenAI's own service, whose models think where an effort is stated, and which takes no
    reasoning back but its own. `reads_seals` is false where even that was sealed for another organisation than ours.
    """
    body: dict[str, Any] = {
        "model": asked.model,
        "input": (yield from _write_input(asked, report, is_openai=is_openai, reads_seals=reads_seals)),
        "store": False,
        "include": [_ENCRYPTED],
    }
    if asked.is_stream:
        body["stream"] = True
    if asked.max_tokens is not None:
        body["max_output_tokens"] = asked.max_tokens
    refuse_no_answer(asked, report)
    for name in ("temperature", "top_p"):
        value = getattr(asked, name)
        if value is not None:
            body[name] = value
    for name, given in (("top_k", asked.top_k is not None), ("stop", bool(asked.stop))):
        if given:
            report.refuse(asked.place(name), _NO_SUCH)
    _write_tools(asked, body, report)
    text = _write_text(asked)
    if text:
        body["text"] = text
    reasoning = _write_reasoning(asked, report, is_openai=is_openai)
    if reasoning:
        body["reasoning"] = reasoning
    if asked.user is not None:
        body["user"] = shortened_user(asked.user)
    if asked.service_tier not in {None, "auto"}:
        body["service_tier"] = asked.service_tier
    if asked.cache is not None:
        report.drop("cache_control")
    return body


def _write_text(asked: Asked) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if asked.schema is not None:
        text["format"] = _write_schema(asked.schema)
    elif asked.is_json:
        text["format"] = {"type": "json_object"}
    if asked.verbosity is not None:
        text["verbosity"] = asked.verbosity
    return text


def _write_schema(schema: Schema) -> dict[str, Any]:
    form = stated(schema.schema) if schema.is_strict else schema.schema
    named: dict[str, Any] = {"type": "json_schema", "name": schema.name or "answer", "schema": form}
    if schema.description is not None:
        named["description"] = schema.description
    if schema.is_strict is not None:
        named["strict"] = schema.is_strict
    return named


def _write_reasoning(asked: Asked, report: Report, *, is_openai: bool) -> dict[str, Any]:
    written: dict[str, Any] = {} if asked.effort is None else {"effort": asked.effort}
    if asked.thinking is None:
        return written
    if asked.thinking.stated.get("display") == "summarized":
        written["summary"] = "auto"
    match asked.thinking.kind:
        case "disabled":
            if asked.effort not in {None, "none"}:
                report.drop(asked.place("effort"))
            return {"effort": "none"}
        case "between_tools":
            report.refuse("thinking.type", "the upstream's dialect cannot confine thinking to the time between tools")
        case "adaptive" | "enabled" if is_openai and asked.effort is None:
            report.drop("thinking")  # as in chat completions
        case "adaptive" | "enabled":
            pass
    return written


def _write_tools(asked: Asked, body: dict[str, Any], report: Report) -> None:
    if asked.tools:
        body["tools"] = [_write_tool(tool, report) for tool in asked.tools]
    choice = asked.tool_choice
    if choice is not None and asked.tools:
        if choice.allowed is not None:
            listed = [{"type": "function", "name": name} for name in choice.allowed]
            body["tool_choice"] = {"type": "allowed_tools", "mode": choice.kind, "tools": listed}
        elif choice.kind == "named":
            body["tool_choice"] = {"type": "function", "name": choice.name}
        else:
            body["tool_choice"] = choice.kind
    if asked.is_parallel is not None and asked.tools:
        body["parallel_tool_calls"] = asked.is_parallel


def _write_tool(tool: Tool, report: Report) -> dict[str, Any]:
    """Return a function, which this dialect takes for a strict one where it does not say that it is none."""
    drop_cache(tool.cache, tool.path, report)
    written: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    schema = tool.schema
    written["parameters"] = stated(schema) if tool.is_strict and schema is not None else schema
    written["strict"] = tool.is_strict is True
    return written


# Input.


def _write_input(asked: Asked, report: Report, *, is_openai: bool, reads_seals: bool) -> Steps[list[dict[str, Any]]]:
    items: list[dict[str, Any]] = []
    if asked.system:
        items.append({"role": "system", "content": _write_content(asked.system, report)})
    running = index_of_running_turn(asked.turns)
    count = 0
    for index, turn in enumerate(asked.turns):
        is_running = index >= running
        write = partial(_write_thought, is_running=is_running, is_openai=is_openai, reads_seals=reads_seals)
        written = []
        for each in _write_turn(turn, report, write):
            count += 1
            if count % STEP == 0:
                yield
            written.append(each)
        if turn.role in {"user", "system"}:
            items.append({"role": turn.role, "content": _shortest(written)})
        else:
            items += written
    if asked.turns and asked.turns[-1].role == "assistant":
        report.refuse(asked.turns[-1].path, "the upstream's dialect cannot continue what an assistant began to say")
    return items


def _write_turn(
    turn: Turn, report: Report, write_thought: Callable[[Reasoning, Report], Iterable[dict[str, Any]]]
) -> Iterable[dict[str, Any]]:
    """Return the items of a turn, of what a user or the system says the parts, one by one: they may be thousands."""
    match turn.role:
        case "tool":
            return (_write_result(part, report) for part in turn.parts if isinstance(part, Result))
        case "assistant":
            return _write_assistant(turn, report, write_thought)
        case "user" | "system":
            return (_write_part(part, report) for part in turn.parts)


def _write_content(parts: Iterable[Part], report: Report) -> str | list[dict[str, Any]]:
    return _shortest([_write_part(part, report) for part in parts])


def _shortest(written: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return content as the text that it is, where it is one."""
    if len(written) == 1 and written[0]["type"] == "input_text":
        text: str = written[0]["text"]
        return text
    return written


def _write_part(part: Part, report: Report) -> dict[str, Any]:
    match part:
        case Text():
            drop_cache(part.cache, part.path, report)
            return {"type": "input_text", "text": part.text}
        case Image():
            drop_cache(part.cache, part.path, report)
            return {"type": "input_image", "image_url": url_of(part), "detail": part.detail or "auto"}
        case File():
            drop_cache(part.cache, part.path, report)
            return {"type": "input_file", "filename": part.name or "document.pdf", "file_data": file_url_of(part)}
        case _:
            report.refuse(part.path, "it cannot stand in this message")
            return {"type": "input_text", "text": ""}


def _write_result(result: Result, report: Report) -> dict[str, Any]:
    """Return a result, which in this dialect holds pictures as well, and has no flag for an error."""
    drop_cache(result.cache, result.path, report)
    parts: list[Part] = list(result.parts)
    if result.is_error:
        first = parts[0] if parts else None
        if isinstance(first, Text):
            drop_cache(first.cache, first.path, report)
            parts[0] = Text(text=ERROR_WORD + first.text, path=first.path)
        else:
            parts.insert(0, Text(text=ERROR_WORD.rstrip(), path=result.path))
    output = _write_content(parts, report) if parts else ""
    return {"type": "function_call_output", "call_id": result.call_id, "output": output}


def _write_assistant(
    turn: Turn, report: Report, write_thought: Callable[[Reasoning, Report], Iterable[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yield what the model said, one item after the other, in their order."""
    last = max((at for at, part in enumerate(turn.parts) if not isinstance(part, Reasoning)), default=-1)
    for at, part in enumerate(turn.parts):
        match part:
            case Text():
                drop_cache(part.cache, part.path, report)
                if part.text:
                    yield {"role": "assistant", "content": part.text}
            case Call():
                drop_cache(part.cache, part.path, report)
                call = {"call_id": part.call_id, "name": part.name, "arguments": part.arguments}
                yield {"type": "function_call", **call}
            case Reasoning() if at > last:
                report.drop(part.path)  # OpenAI refuses reasoning behind which nothing follows
            case Reasoning():
                yield from write_thought(part, report)
            case _:
                report.refuse(part.path, "in the upstream's dialect assistants say words alone")


def _write_thought(
    item: Reasoning, report: Report, *, is_running: bool, is_openai: bool, reads_seals: bool
) -> Iterable[dict[str, Any]]:
    """Return reasoning as an item; what its upstream cannot read is refused where it is needed, else left out."""
    sealed = item.redacted or item.signature if item.form == RESPONSES_FORMAT else None
    if sealed is not None and not reads_seals:
        report.drop(item.path)
        return []
    if sealed is not None:
        return [_thought(item, encrypted_content=sealed)]
    if item.redacted is not None:
        if is_running:
            report.seal(item.path, "only the provider that wrote it can read this reasoning")
        else:
            report.drop(item.path)
        return []
    if is_openai or (item.signer != "openai" and not is_running):
        report.drop(item.path)
        return []
    if item.signature:
        report.drop(f"{item.path}.signature")
    return [_thought(item)] if item.text else []


def _thought(item: Reasoning, **sealed: Any) -> dict[str, Any]:
    named = {} if item.given_id is None else {"id": item.given_id}
    written: dict[str, Any] = {"type": "reasoning", **named, "summary": []}
    if item.text and item.is_summary:
        written["summary"] = [{"type": "summary_text", "text": item.text}]
    elif item.text:
        written["content"] = [{"type": "reasoning_text", "text": item.text}]
    return {**written, **sealed}
