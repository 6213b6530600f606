"""OpenAI chat completions requests, written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from ownward.upstreams.translation._common import file_url_of, index_of_running_turn, may_carry, shortened_user, url_of
from ownward.upstreams.translation._core import Asked, Call, File, Image, Part, Reasoning, Result, Text, Turn
from ownward.upstreams.translation._extra_content import FORM, unseal_extras
from ownward.upstreams.translation._members import Report
from ownward.upstreams.translation._reasoning import placed, write_chat_reasoning
from ownward.upstreams.translation._schemas import stated
from ownward.upstreams.translation._steps import STEP, Steps

LimitName = Literal["max_tokens", "max_completion_tokens"]
ERROR_WORD = "Error: "
"""What stands before the text of a result that is an error: chat messages have no flag for it."""


def write_chat(asked: Asked, report: Report, *, limit_name: LimitName, goes_on: bool) -> Steps[dict[str, Any]]:
    """Return the body of a chat completions request; usage is always asked for in its stream.

    `limit_name` is what the upstream calls the limit on its output: OpenAI's own models take the newer name alone,
    many other servers the older. Who `goes_on` takes last words of the assistant for the beginning of its answer.
    """
    if asked.turns and asked.turns[-1].role == "assistant" and not goes_on:
        report.refuse(asked.turns[-1].path, "the upstream's dialect cannot continue what an assistant began to say")
    body: dict[str, Any] = {"model": asked.model, "messages": (yield from _write_messages(asked, report))}
    if asked.is_stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if asked.max_tokens is not None:
        body[limit_name] = asked.max_tokens
    if not goes_on:  # llama.cpp, which does, reads the prompt and says nothing
        refuse_no_answer(asked, report)
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(asked, name)
        if value is not None:
            body[name] = value
    if asked.stop:
        body["stop"] = list(asked.stop)
    _write_tools(asked, body, report)
    _write_form(asked, body)
    if asked.effort is not None:
        body["reasoning_effort"] = asked.effort
    if asked.thinking is not None:
        _write_thinking(asked, body, report, is_openai=limit_name == "max_completion_tokens")
    if asked.user is not None:
        body["user"] = shortened_user(asked.user)
    if asked.verbosity is not None:
        body["verbosity"] = asked.verbosity
    if asked.service_tier not in {None, "auto"}:
        body["service_tier"] = asked.service_tier
    if asked.cache is not None:
        report.drop("cache_control")
    return body


def refuse_no_answer(asked: Asked, report: Report) -> None:
    """Refuse a limit of 0, by which clients of messages have a prompt read into the cache, and no answer made."""
    if asked.max_tokens == 0:
        report.refuse(asked.place("max_tokens"), "the upstream's dialect has no request without an answer")


def _write_form(asked: Asked, body: dict[str, Any]) -> None:
    schema = asked.schema
    if schema is not None:
        form = stated(schema.schema) if schema.is_strict else schema.schema
        named: dict[str, Any] = {"name": schema.name or "answer", "schema": form}
        if schema.description is not None:
            named["description"] = schema.description
        if schema.is_strict is not None:
            named["strict"] = schema.is_strict
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif asked.is_json:
        body["response_format"] = {"type": "json_object"}


def _write_thinking(asked: Asked, body: dict[str, Any], report: Report, *, is_openai: bool) -> None:
    assert asked.thinking is not None
    match asked.thinking.kind:
        case "disabled" if asked.effort in {None, "none"}:
            body["reasoning_effort"] = "none"
        case "disabled":
            report.drop(asked.place("effort"))
            body["reasoning_effort"] = "none"
        case "between_tools":
            report.refuse("thinking.type", "the upstream's dialect cannot confine thinking to the time between tools")
        case "adaptive" | "enabled" if is_openai and asked.effort is None:
            report.drop("thinking")  # OpenAI's models since GPT-5.1 think where an effort is stated, and not otherwise
        case "adaptive" | "enabled":
            pass  # other models that think do so unless they are told not to


def _write_tools(asked: Asked, body: dict[str, Any], report: Report) -> None:
    if asked.tools:
        body["tools"] = []
    for tool in asked.tools:
        drop_cache(tool.cache, tool.path, report)
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.schema is not None:
            function["parameters"] = stated(tool.schema) if tool.is_strict else tool.schema
        if tool.is_strict is not None:
            function["strict"] = tool.is_strict
        body["tools"].append({"type": "function", "function": function})
    choice = asked.tool_choice
    if choice is not None and asked.tools:  # OpenAI refuses it without
        if choice.allowed is not None:
            listed = [{"type": "function", "function": {"name": name}} for name in choice.allowed]
            allowed = {"mode": choice.kind, "tools": listed}
            body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
        elif choice.kind == "named":
            body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        else:
            body["tool_choice"] = choice.kind
    if asked.is_parallel is not None and asked.tools:
        body["parallel_tool_calls"] = asked.is_parallel


def drop_cache(cache: Any, path: str, report: Report) -> None:
    """Leave out the mark that a cached prefix ends here: OpenAI caches by itself."""
    if cache is not None:
        report.drop(f"{path}.cache_control")


def _write_messages(asked: Asked, report: Report) -> Steps[list[dict[str, Any]]]:
    messages: list[dict[str, Any]] = []
    if asked.system:
        messages.append({"role": "system", "content": _write_content(asked.system, report)})
    running = index_of_running_turn(asked.turns)
    waiting: list[dict[str, Any]] = []  # pictures of results, told once all results of a turn are
    count = 0
    for index, turn in enumerate(asked.turns):
        if turn.role != "tool" and waiting:
            messages.append({"role": "user", "content": waiting})
            waiting = []
        match turn.role:
            case "tool":
                for part in turn.parts:
                    count += 1
                    if count % STEP == 0:
                        yield
                    assert isinstance(part, Result)
                    messages.append(_write_result(part, waiting, report))
            case "assistant":
                count += 1
                if count % STEP == 0:
                    yield
                messages.append((yield from _write_assistant(turn, report, is_running=index >= running)))
            case "user" | "system":
                written = []
                for part in turn.parts:
                    count += 1
                    if count % STEP == 0:
                        yield
                    written.append(_write_part(part, report))
                messages.append({"role": turn.role, "content": _shortest(written)})
    if waiting:
        messages.append({"role": "user", "content": waiting})
    return messages


def _write_content(parts: Iterable[Part], report: Report) -> str | list[dict[str, Any]]:
    return _shortest([_write_part(part, report) for part in parts])


def _shortest(written: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return content as the text that it is, where it is one."""
    if len(written) == 1 and written[0]["type"] == "text":
        text: str = written[0]["text"]
        return text
    return written


def _write_part(part: Part, report: Report) -> dict[str, Any]:
    match part:
        case Text():
            drop_cache(part.cache, part.path, report)
            return {"type": "text", "text": part.text}
        case Image():
            drop_cache(part.cache, part.path, report)
            detail = {} if part.detail is None else {"detail": part.detail}
            return {"type": "image_url", "image_url": {"url": url_of(part), **detail}}
        case File():
            drop_cache(part.cache, part.path, report)
            return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": file_url_of(part)}}
        case _:
            report.refuse(part.path, "it cannot stand in this message")
            return {"type": "text", "text": ""}


def _write_result(result: Result, waiting: list[dict[str, Any]], report: Report) -> dict[str, Any]:
    """Return a tool's message; what is no text follows in a user's message, under a name that the text gives it."""
    drop_cache(result.cache, result.path, report)
    parts: list[Text] = []
    for number, part in enumerate(result.parts, 1):
        if isinstance(part, Text):
            parts.append(part)
            continue
        name = f"[part {number} of the result of {result.call_id}]"
        parts.append(Text(text=f"{name} follows in the next message", path=part.path))
        waiting += [{"type": "text", "text": name}, _write_part(part, report)]
    if result.is_error:
        first = parts[0] if parts else Text(text="", path=result.path)
        parts[:1] = [replace(first, text=ERROR_WORD + first.text)]
    content = _write_content(parts, report) if parts else ""
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _write_assistant(turn: Turn, report: Report, *, is_running: bool) -> Steps[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant"}
    thought = [
        part for part in placed(turn.parts) if may_carry(part, to_anthropic=False, is_running=is_running, report=report)
    ]
    said = [part for part in turn.parts if isinstance(part, Text)]
    calls = [part for part in turn.parts if isinstance(part, Call)]
    # A chat message keeps no order between its text and its calls, so that text told after a call stands beside it.
    content = []
    for number, text in enumerate(said, 1):
        if number % STEP == 0:
            yield
        content.append(_write_part(text, report))
    message["content"] = _shortest(content) if said else None if calls else ""
    message.update(write_chat_reasoning(_without_foreign_signatures(thought)))
    extra, extras = unseal_extras(thought)
    if extra:
        message["extra_content"] = extra
    if calls:
        message["tool_calls"] = []
        for number, call in enumerate(calls, 1):
            if number % STEP == 0:
                yield
            message["tool_calls"].append(_write_call(call, report))
        for written in message["tool_calls"]:
            if written["id"] in extras:
                written["extra_content"] = extras.pop(written["id"])
    for part in turn.parts:
        if isinstance(part, Image | File | Result):
            report.refuse(part.path, "in the upstream's dialect assistants say words alone")
    return message


def _without_foreign_signatures(thought: Iterable[Reasoning]) -> list[Reasoning]:
    return [
        item if item.signer == "openai" else Reasoning(text=item.text, signer="openai", after=item.after)
        for item in thought
        if item.form != FORM
    ]


def _write_call(call: Call, report: Report) -> dict[str, Any]:
    drop_cache(call.cache, call.path, report)
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}
