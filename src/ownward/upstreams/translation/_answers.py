"""Whole answers: those of upstreams read, those for clients written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from ownward.upstreams.translation._called import arguments_of, made_call_id, stated_arguments
from ownward.upstreams.translation._core import (
    Answer,
    Begun,
    Call,
    CallBegun,
    CallPiece,
    Cited,
    Counted,
    Counts,
    Ended,
    Event,
    Over,
    Part,
    PartOver,
    Reasoning,
    ReasoningPiece,
    Text,
    TextPiece,
)
from ownward.upstreams.translation._counts import (
    anthropic_tier,
    openai_tier,
    read_anthropic_counts,
    read_openai_counts,
    write_chat_usage,
    write_messages_usage,
)
from ownward.upstreams.translation._extra_content import THOUGHT, extra_reasoning, is_thought, split_thought
from ownward.upstreams.translation._json import read_json, write_json
from ownward.upstreams.translation._members import Members, Report, UntranslatableAnswer, shown
from ownward.upstreams.translation._reasoning import (
    in_order,
    placed,
    read_chat_reasoning,
    write_block,
    write_chat_reasoning,
)
from ownward.upstreams.translation._sources import chat_annotation_of, citation_of, read_citations, read_sources
from ownward.upstreams.translation._stops import chat_stop, messages_stop, read_chat_stop, read_messages_stop


def read_chat_answer(body: dict[str, Any], fallback_id: str = "") -> Answer:
    """Return what a chat completion says, under an id of its own or, where it has none, under this one.

    Raises: UntranslatableAnswer.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise UntranslatableAnswer("the upstream's answer does not hold one choice")
    choice = choices[0]
    report = Report()
    message = Members(choice.get("message"), "choices[0].message", report)
    thought = read_chat_reasoning(message, signer="openai")
    content, extra = message.take_any("content"), message.take_any("extra_content")
    if isinstance(content, str) and is_thought(extra):
        thoughts, content = split_thought(content)
        thought += [Reasoning(text=thoughts, signer="openai", form=THOUGHT)] if thoughts else []
    thought += extra_reasoning(extra)
    said: list[Part] = []
    sources = tuple(read_sources(message.take_any("annotations")))
    for kind, words in words_of(content):
        if kind == "thinking":
            thought.append(Reasoning(text=words, signer="openai"))
        else:
            said.append(Text(text=words, sources=sources))
            sources = ()
    for name in UNASKED:
        if message.take_any(name):
            raise UntranslatableAnswer(f"the upstream's answer holds {name}")
    answer_id = _text(body.get("id")) or fallback_id
    made: list[Part] = []
    refusal = message.take("refusal", str)
    calls = message.take_objects("tool_calls")
    for number, call in enumerate(calls):
        inner = call.inner("function")
        if inner is None:
            raise UntranslatableAnswer(f"the upstream's answer has a call that is of no function ({call.path})")
        name, arguments = inner.take("name", str) or "", arguments_of({"arguments": inner.take_any("arguments")})
        call_id = call.take("id", str) or made_call_id(answer_id, number)  # as in a stream: a result needs one
        place = inner.at("arguments")
        made.append(Call(call_id=call_id, name=name, arguments=stated_arguments(arguments), arguments_path=place))
        thought += extra_reasoning(call.take_any("extra_content"), call_id=call_id, after=bool(said) + number)
    if report.refused:
        raise UntranslatableAnswer("the upstream's answer cannot be read: " + ", ".join(report.refused))
    stop, sequence = read_chat_stop(choice.get("finish_reason"), choice.get("stop_reason"), has_calls=bool(calls))
    return Answer(
        answer_id=answer_id,
        model=_text(body.get("model")),
        parts=tuple(in_order(thought, said, made)),
        stop=stop,
        stop_sequence=sequence,
        refusal=refusal,
        counts=read_openai_counts(body.get("usage"), body.get("model")),
        service_tier=_text(body.get("service_tier")) or None,
    )


UNASKED = ("function_call", "audio", "images")
"""What an answer can hold that no client of another dialect can have asked for."""


def words_of(content: object) -> list[tuple[Literal["text", "thinking"], str]]:
    """Return what a chat message says: its text, or its parts of text and thinking, as Mistral's models tell them.

    Raises: UntranslatableAnswer, if it is something else.
    """
    if content is None or isinstance(content, str):
        return [("text", content)] if content else []
    found: list[tuple[Literal["text", "thinking"], str]] = []
    for part in content if isinstance(content, list) else [content]:
        match part:
            case {"type": "text", "text": str(words)}:
                found.append(("text", words))
            case {"type": "thinking", "thinking": str(words)}:
                found.append(("thinking", words))
            case {"type": "thinking", "thinking": [*pieces]}:
                found += [("thinking", words) for kind, words in words_of(pieces) if kind == "text"]
            case _:
                raise UntranslatableAnswer("the upstream's answer holds content that is neither text nor thinking")
    return [(kind, words) for kind, words in found if words]


def read_messages_answer(body: dict[str, Any], fallback_id: str = "") -> Answer:
    """Return what a message says, under an id of its own or, where it has none, under this one.

    Raises: UntranslatableAnswer.
    """
    content = body.get("content")
    if body.get("type") != "message" or not isinstance(content, list):
        raise UntranslatableAnswer("the upstream's answer is not a message")
    parts = [_read_block(block, f"content[{index}]") for index, block in enumerate(content)]
    has_calls = any(isinstance(part, Call) for part in parts)
    stop, sequence = read_messages_stop(body.get("stop_reason"), body.get("stop_sequence"), has_calls=has_calls)
    usage = body.get("usage")
    return Answer(
        answer_id=_text(body.get("id")) or fallback_id,
        model=_text(body.get("model")),
        parts=tuple(parts),
        stop=stop,
        stop_sequence=sequence,
        refusal=explanation_of(body),
        counts=read_anthropic_counts(usage),
        service_tier=openai_tier(usage.get("service_tier")) if isinstance(usage, dict) else None,
    )


def explanation_of(holder: dict[str, Any]) -> str | None:
    """Return the words of a refusal, where there are some."""
    details = holder.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) else None


def _read_block(block: Any, place: str) -> Part:
    kind = block.get("type") if isinstance(block, dict) else None
    match kind:
        case "text":
            text = _text(block.get("text"))
            return Text(text=text, sources=tuple(read_citations(block.get("citations"), text)))
        case "thinking":
            signature = block.get("signature")
            return Reasoning(text=_text(block.get("thinking")), signer="anthropic", signature=signature or None)
        case "redacted_thinking":
            return Reasoning(text="", signer="anthropic", redacted=_text(block.get("data")))
        case "tool_use":
            arguments = write_json(block.get("input") or {}).decode("utf-8")
            return Call(call_id=_text(block.get("id")), name=_text(block.get("name")), arguments=arguments)
        case _:
            raise UntranslatableAnswer(f"the upstream answers with a block of the type {shown(kind)} ({place})")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def events_of(answer: Answer) -> Iterable[Event]:
    """Return a whole answer as the events of a stream."""
    yield Begun(answer_id=answer.answer_id, model=answer.model, service_tier=answer.service_tier)
    for part in answer.parts:
        match part:
            case Text():
                yield TextPiece(text=part.text)
                yield from (Cited(source=source) for source in part.sources)
            case Reasoning():
                named = ReasoningPiece(
                    signer=part.signer, form=part.form, given_id=part.given_id, is_summary=part.is_summary
                )
                if part.text:
                    yield replace(named, text=part.text)
                if part.signature is not None or part.redacted is not None:
                    yield replace(named, signature=part.signature, redacted=part.redacted)
            case Call():
                yield CallBegun(
                    call_id=part.call_id, name=part.name, namespace=part.namespace, is_custom=part.is_custom
                )
                yield CallPiece(arguments=part.arguments)
            case _:
                raise UntranslatableAnswer("the upstream answers with something other than text, reasoning or a call")
        yield PartOver()
    yield Ended(stop=answer.stop, stop_sequence=answer.stop_sequence, refusal=answer.refusal)
    if answer.counts is not None:
        yield Counted(counts=answer.counts)
    yield Over()


# For clients.


def write_chat_answer(answer: Answer, *, now_s: int) -> dict[str, Any]:
    """Return a chat completion."""
    said = [part.text for part in answer.parts if isinstance(part, Text)]
    calls = [part for part in answer.parts if isinstance(part, Call)]
    has_more = bool(calls or answer.refusal)  # where null may stand for the text; a client sends the message back
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if has_more and not said else "".join(said),
        "refusal": answer.refusal,
    }
    annotations = _annotations_of(answer.parts)
    if annotations:
        message["annotations"] = annotations
    message.update(write_chat_reasoning(placed(answer.parts)))
    if calls:
        message["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": chat_stop(answer.stop),
    }
    if answer.stop_sequence is not None:
        choice["stop_reason"] = answer.stop_sequence
    body = {
        "id": answer.answer_id,
        "object": "chat.completion",
        "created": now_s,
        "model": answer.model,
        "choices": [choice],
    }
    if answer.counts is not None:
        body["usage"] = write_chat_usage(answer.counts)
    if answer.service_tier is not None:
        body["service_tier"] = answer.service_tier
    return body


def _annotations_of(parts: Iterable[Part]) -> list[dict[str, Any]]:
    found, before = [], 0
    for part in parts:
        if isinstance(part, Text):
            found += [chat_annotation_of(source, before) for source in part.sources]
            before += len(part.text)
    return found


def write_messages_answer(answer: Answer) -> dict[str, Any]:
    """Return a message."""
    stop = answer.stop
    content = list(_blocks_of(answer.parts))
    if answer.refusal:
        content.append({"type": "text", "text": answer.refusal})
        stop = "refusal"
    body: dict[str, Any] = {
        "id": answer.answer_id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": messages_stop(stop),
        "stop_sequence": answer.stop_sequence,
    }
    # The dialect always states them; where the upstream did not, it is 0 here and unknown in the ledger.
    counts = answer.counts or Counts(input_tokens=0, output_tokens=0)
    body["usage"] = write_messages_usage(counts) | anthropic_tier(answer.service_tier)
    return body


def _blocks_of(parts: Iterable[Part]) -> Iterable[dict[str, Any]]:
    for part in parts:
        match part:
            case Text():
                citations = [citation_of(source, part.text) for source in part.sources]
                yield {"type": "text", "text": part.text, **({"citations": citations} if citations else {})}
            case Reasoning():
                yield write_block(part)
            case Call():
                yield {"type": "tool_use", "id": part.call_id, "name": part.name, "input": _input_of(part)}
            case _:
                raise UntranslatableAnswer("the upstream answers with something other than text, reasoning or a call")


def _input_of(call: Call) -> dict[str, Any]:
    """Return the arguments of a call as the object that a message holds; other dialects hold their text.

    Raises: UntranslatableAnswer, if the model wrote none.
    """
    try:
        found = read_json(call.arguments)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    raise UntranslatableAnswer(
        f"the upstream's answer calls a tool with arguments that are not a JSON object ({call.arguments_path})",
        next_step="Where the answer was cut by the limit on its tokens, raise that limit",
    )
