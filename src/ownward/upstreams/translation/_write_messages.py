"""Anthropic messages requests, written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ownward.upstreams.translation._common import hashed, index_of_running_turn, may_carry
from ownward.upstreams.translation._core import Asked, Call, File, Image, Part, Reasoning, Result, Text, Tool, Turn
from ownward.upstreams.translation._json import read_json
from ownward.upstreams.translation._members import Report, shown
from ownward.upstreams.translation._reasoning import write_block
from ownward.upstreams.translation._schemas import closed
from ownward.upstreams.translation._steps import STEP, Steps

_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_HIGHEST_TEMPERATURE = 1
_CALL_ID = re.compile(r"[A-Za-z0-9_-]+")
_Part = TypeVar("_Part", bound=Part)
_LONGEST_USER = 256
_PHONE = re.compile(r"\+?[\d\s().-]{7,}")
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def write_messages(asked: Asked, report: Report, *, max_output_tokens: int | None) -> Steps[dict[str, Any]]:
    """Return the body of a messages request.

    `max_output_tokens` is the tier's own limit, taken where the request states none: the dialect demands one.
    """
    limit = asked.max_tokens if asked.max_tokens is not None else max_output_tokens
    if limit is None:
        why = "the upstream's dialect demands a limit: send one, or write max_output_tokens under the tier in plan.toml"
        report.refuse(asked.place("max_tokens"), why)
    body: dict[str, Any] = {"model": asked.model, "max_tokens": limit}
    if any(text.text.strip() for text in asked.system):
        body["system"] = _write_text_or_blocks(asked.system)
    body["messages"] = yield from _write_turns(asked, report)
    if asked.is_stream:
        body["stream"] = True
    if asked.temperature is not None and asked.temperature > _HIGHEST_TEMPERATURE:
        report.refuse("temperature", f"the upstream's dialect knows 0 to {_HIGHEST_TEMPERATURE}")
    _write_sampling(asked, body)
    if asked.stop:
        body["stop_sequences"] = list(asked.stop)
    _write_tools(asked, body, report)
    _write_output(asked, body, report)
    if asked.user is not None:
        body["metadata"] = {"user_id": hashed(asked.user) if _tells_who(asked.user) else asked.user}
    match asked.service_tier:
        case None:
            pass
        case "auto":
            body["service_tier"] = "auto"
        case "default":
            body["service_tier"] = "standard_only"
        case tier:
            report.refuse("service_tier", f"the upstream's dialect has no tier like {shown(tier)}")
    if asked.verbosity not in {None, "medium"}:
        report.refuse(asked.place("verbosity"), "the upstream's dialect knows nothing like it")
    if asked.cache is not None:
        body["cache_control"] = asked.cache
    return body


def _tells_who(user: str) -> bool:
    """Return whether the dialect refuses a name: it takes no addresses of mail and no numbers of telephones."""
    return "@" in user or _PHONE.fullmatch(user) is not None or len(user) > _LONGEST_USER


def _write_sampling(asked: Asked, body: dict[str, Any]) -> None:
    """Write temperature and top_p; of both, which newer models refuse, the one that changes nothing is left out."""
    sampling = {"temperature": asked.temperature, "top_p": asked.top_p}
    if None not in sampling.values():
        neutral = next((name for name in ("top_p", "temperature") if sampling[name] == 1), "")
        sampling.pop(neutral, None)
    sampling["top_k"] = asked.top_k
    body |= {name: value for name, value in sampling.items() if value is not None}


def _write_output(asked: Asked, body: dict[str, Any], report: Report) -> None:
    """Write the effort, the thinking and the form of the answer."""
    config: dict[str, Any] = {}
    thinking: Mapping[str, Any] | None = None if asked.thinking is None else asked.thinking.stated
    if asked.effort == "none":
        if thinking is not None and thinking.get("type") != "disabled":
            report.refuse(asked.place("effort"), "thinking says something else")
        thinking = {"type": "disabled"}
    elif asked.effort in _EFFORTS:
        config["effort"] = asked.effort
    elif asked.effort is not None:
        report.refuse(asked.place("effort"), f"the upstream's dialect knows none, {', '.join(sorted(_EFFORTS))}")
    if asked.is_json:
        why = "the upstream's dialect has no JSON without a schema: send a json_schema"
        report.refuse(asked.place("is_json"), why)
    if asked.schema is not None:
        schema = closed(asked.schema.schema)  # an answer that says nothing more follows the open schema as well
        if asked.schema.description is not None:
            described = schema.setdefault("description", asked.schema.description)  # the model reads it there as well
            if described != asked.schema.description:
                report.drop(f"{asked.place('schema')}.description")
        if asked.schema.name is not None:
            report.drop(f"{asked.place('schema')}.name")
        if asked.schema.is_strict is False:
            report.drop(f"{asked.place('schema')}.strict")  # the dialect holds every answer to its schema
        config["format"] = {"type": "json_schema", "schema": schema}
    if config:
        body["output_config"] = config
    if thinking is not None:
        body["thinking"] = thinking


def _write_tools(asked: Asked, body: dict[str, Any], report: Report) -> None:
    choice = asked.tool_choice
    tools: Sequence[Tool] = asked.tools
    if choice is not None and choice.allowed is not None:
        allowed = frozenset(choice.allowed)
        tools = [tool for tool in tools if tool.name in allowed]
        unknown = allowed - {tool.name for tool in tools}
        for name in sorted(unknown):
            report.refuse("tool_choice", f"it allows {shown(name)}, which is not one of the tools")
    if tools:
        body["tools"] = [_write_tool(tool) for tool in tools]
    if not tools:
        return
    is_alone = {"disable_parallel_tool_use": True} if asked.is_parallel is False else {}
    match None if choice is None else choice.kind:
        case None if is_alone:
            body["tool_choice"] = {"type": "auto", **is_alone}
        case None:
            pass
        case "none":
            body["tool_choice"] = {"type": "none"}
        case "named":
            assert choice is not None
            body["tool_choice"] = {"type": "tool", "name": choice.name, **is_alone}
        case "auto":
            body["tool_choice"] = {"type": "auto", **is_alone}
        case "required":
            body["tool_choice"] = {"type": "any", **is_alone}


def _write_tool(tool: Tool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    # Arguments are always an object, which this dialect wants said.
    found["input_schema"] = _NOTHING if tool.schema is None else {"type": "object", **tool.schema}
    if tool.is_strict is not None:
        found["strict"] = tool.is_strict
    return _cached(found, tool.cache)


def _cached(block: dict[str, Any], cache: Mapping[str, Any] | None) -> dict[str, Any]:
    if cache is not None:
        block["cache_control"] = cache
    return block


def _write_text_or_blocks(texts: Sequence[Text]) -> str | list[dict[str, Any]]:
    if len(texts) == 1 and texts[0].cache is None:
        return texts[0].text
    return [_cached({"type": "text", "text": text.text}, text.cache) for text in _without_blank(texts) or texts[:1]]


def _without_blank(parts: Sequence[_Part]) -> Sequence[_Part]:
    """Return what is said without texts that are blank, which the dialect refuses."""
    return [part for part in parts if not isinstance(part, Text) or part.text.strip()]


def _write_turns(asked: Asked, report: Report) -> Steps[list[dict[str, Any]]]:
    running = index_of_running_turn(asked.turns)
    messages: list[dict[str, Any]] = []
    previous = ""
    count = 0
    for index, turn in enumerate(asked.turns):
        content = []
        for block in _write_turn(turn, report, is_running=index >= running):
            count += 1
            if count % STEP == 0:
                yield
            content.append(block)
        if not content:
            continue  # an assistant that said nothing
        if turn.role == "tool" and previous == "tool":
            messages[-1]["content"] += content
        elif turn.role == "user" and previous == "tool":
            messages[-1]["content"] += content  # results come first in the message that answers a call
        elif turn.role == "system" and previous == "system":
            messages[-1]["content"] += content  # the dialect takes no two of them in a row
        else:
            role = "user" if turn.role == "tool" else turn.role
            messages.append({"role": role, "content": content})
        previous = turn.role
    for message in messages:
        blocks = message["content"]
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            message["content"] = blocks[0]["text"]
    if asked.turns and asked.turns[-1].role == "assistant":
        why = "the upstream's dialect would continue this message instead of answering it"
        report.refuse(asked.turns[-1].path, why)
    return messages


def _id_of(call_id: str) -> str:
    """Return a call's id as the dialect allows it, where another provider's holds other signs; each time the same."""
    if _CALL_ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _write_turn(turn: Turn, report: Report, *, is_running: bool) -> Iterator[dict[str, Any]]:
    """Yield the blocks of a message one by one: they may be thousands."""
    said = _without_blank(turn.parts)
    for part in said if turn.role == "assistant" else said or turn.parts[:1]:
        if isinstance(part, Reasoning) and not may_carry(part, to_anthropic=True, is_running=is_running, report=report):
            continue
        if isinstance(part, Call) and _object_in(part.arguments) is None:
            report.refuse(part.arguments_path, "it is not one JSON object")
        _drop_details(part, report)
        yield _write_block(part)


def _drop_details(part: Part, report: Report) -> None:
    """Name how closely pictures are to be looked at, which the dialect has no word for."""
    for inner in part.parts if isinstance(part, Result) else (part,):
        if isinstance(inner, Image) and inner.detail is not None:
            report.drop(f"{inner.path}.detail")


def _write_block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return _cached({"type": "text", "text": part.text}, part.cache)
        case Image():
            return _cached({"type": "image", "source": _source_of(part)}, part.cache)
        case File():
            source = {"type": "base64", "media_type": "application/pdf", "data": part.data}
            block: dict[str, Any] = {"type": "document", "source": source}
            if part.name is not None:
                block["title"] = part.name
            return _cached(block, part.cache)
        case Reasoning():
            return write_block(part)
        case Call():
            called = {
                "type": "tool_use",
                "id": _id_of(part.call_id),
                "name": part.name,
                "input": _object_in(part.arguments) or {},
            }
            return _cached(called, part.cache)
        case Result():
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id_of(part.call_id)}
            if len(part.parts) == 1 and isinstance(part.parts[0], Text) and part.parts[0].cache is None:
                result["content"] = part.parts[0].text
            elif part.parts:
                result["content"] = [_write_block(inner) for inner in _without_blank(part.parts) or part.parts[:1]]
            if part.is_error:
                result["is_error"] = True
            return _cached(result, part.cache)


def _object_in(arguments: str) -> dict[str, Any] | None:
    try:
        found = read_json(arguments)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _source_of(image: Image) -> dict[str, Any]:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    media_type = "image/jpeg" if image.media_type == "image/jpg" else image.media_type  # as it is often called
    return {"type": "base64", "media_type": media_type, "data": image.data}
