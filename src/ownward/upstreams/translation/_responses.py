"""Responses, written: whole, and the objects that their streams repeat."""

from __future__ import annotations

from typing import Any

from ownward.upstreams.translation._core import Answer, Asked, Call, CallBegun, Part, Reasoning, Text
from ownward.upstreams.translation._counts import write_responses_usage
from ownward.upstreams.translation._members import UntranslatableAnswer
from ownward.upstreams.translation._reasoning import seal
from ownward.upstreams.translation._sources import annotation_of
from ownward.upstreams.translation._stops import responses_status


def write_response(answer: Answer, asked: Asked, *, now_s: int) -> dict[str, Any]:
    """Return a whole response."""
    items: list[dict[str, Any]] = []
    text: list[dict[str, Any]] = []

    def close_message() -> None:
        if text:
            items.append(message_item(item_id(answer.answer_id, len(items), "msg"), [*text]))
            text.clear()

    for part in answer.parts:
        if isinstance(part, Text):
            text.append(text_part(part.text, [annotation_of(source) for source in part.sources]))
            continue
        close_message()
        items.append(item_of(part, answer.answer_id, len(items)))
    if answer.refusal:
        parts = [*text, {"type": "refusal", "refusal": answer.refusal}]
        items.append(message_item(item_id(answer.answer_id, len(items), "msg"), parts))
    else:
        close_message()
    status, why = responses_status(answer.stop)
    body = response_object(asked, answer_id=answer.answer_id, model=answer.model, status=status, now_s=now_s)
    body["output"] = items
    if why is not None:
        body["incomplete_details"] = {"reason": why}
    if answer.counts is not None:
        body["usage"] = write_responses_usage(answer.counts)
    if answer.service_tier is not None:
        body["service_tier"] = answer.service_tier
    return body


def item_of(part: Part, answer_id: str, index: int) -> dict[str, Any]:
    """Return the item of reasoning or of a call."""
    match part:
        case Reasoning():
            return reasoning_item(item_id(answer_id, index, "rs"), part)
        case Call():
            return call_item(item_id(answer_id, index, call_prefix(part)), part, part.arguments)
        case _:
            raise UntranslatableAnswer("the upstream answers with something other than text, reasoning or a call")


def item_id(answer_id: str, index: int, prefix: str) -> str:
    """Return the id of an item: unlike any other of the answer, and the same in its stream."""
    return f"{prefix}_{answer_id}_{index}"


def call_prefix(call: Call | CallBegun) -> str:
    """Return how the id of a call's item begins."""
    return "ctc" if call.is_custom else "fc"


def text_part(text: str, annotations: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return a part of text with what it cites."""
    return {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": []}


def message_item(given_id: str, parts: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    """Return a message as an item."""
    return {"id": given_id, "type": "message", "role": "assistant", "status": status, "content": parts}


def call_item(given_id: str, call: Call | CallBegun, arguments: str, status: str = "completed") -> dict[str, Any]:
    """Return a call as an item."""
    group = {} if call.namespace is None else {"namespace": call.namespace}
    return {
        "id": given_id,
        "type": "custom_tool_call" if call.is_custom else "function_call",
        "status": status,
        "call_id": call.call_id,
        **group,
        "name": call.name,
        "input" if call.is_custom else "arguments": arguments,
    }


def reasoning_item(given_id: str, reasoning: Reasoning) -> dict[str, Any]:
    """Return reasoning as an item; what is signed or redacted goes along sealed."""
    summary = [{"type": "summary_text", "text": reasoning.text}] if reasoning.text else []
    item: dict[str, Any] = {"id": given_id, "type": "reasoning", "summary": summary}
    sealed = seal(reasoning)
    if sealed is not None:
        item["encrypted_content"] = sealed
    return item


def response_object(asked: Asked, *, answer_id: str, model: str, status: str, now_s: int) -> dict[str, Any]:
    """Return the response around its items, with what was asked repeated as the dialect does."""
    repeated = asked.repeated
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": now_s,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": repeated.get("instructions"),
        "metadata": repeated.get("metadata", {}),
        "model": model,
        "output": [],
        "parallel_tool_calls": asked.is_parallel is not False,
        "store": False,
        "temperature": asked.temperature,
        "tool_choice": repeated.get("tool_choice", "auto"),
        "tools": repeated.get("tools")
        or [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
                "strict": tool.is_strict,
            }
            for tool in asked.tools
        ],
        "top_p": asked.top_p,
        "max_output_tokens": asked.max_tokens,
        "usage": None,
    }
