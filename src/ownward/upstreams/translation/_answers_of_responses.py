"""Whole responses of upstreams, read."""

from __future__ import annotations

from typing import Any

from ownward.upstreams.translation._called import stated_arguments
from ownward.upstreams.translation._core import Answer, Call, Part, Reasoning, Text
from ownward.upstreams.translation._counts import read_responses_counts
from ownward.upstreams.translation._members import UntranslatableAnswer, shown
from ownward.upstreams.translation._reasoning import BETWEEN_SUMMARIES, RESPONSES_FORMAT
from ownward.upstreams.translation._sources import read_page
from ownward.upstreams.translation._stops import read_response_stop


def read_responses_answer(body: dict[str, Any], fallback_id: str = "") -> Answer:
    """Return what a response says, under an id of its own or, where it has none, under this one.

    Raises: UntranslatableAnswer.
    """
    output = body.get("output")
    if not isinstance(output, list):
        raise UntranslatableAnswer("the upstream's answer is not a response")
    parts: list[Part] = []
    refusals: list[str] = []
    for index, item in enumerate(output):
        parts += _read_item(item, f"output[{index}]", refusals)
    details = body.get("incomplete_details")
    has_calls = any(isinstance(part, Call) for part in parts)
    reason = details.get("reason") if isinstance(details, dict) else None
    return Answer(
        answer_id=_text(body.get("id")) or fallback_id,
        model=_text(body.get("model")),
        parts=tuple(parts),
        stop=read_response_stop(body.get("status", "completed"), reason, has_calls=has_calls),
        refusal="".join(refusals) or None,
        counts=read_responses_counts(body.get("usage")),
        service_tier=_text(body.get("service_tier")) or None,
    )


def _read_item(item: Any, place: str, refusals: list[str]) -> list[Part]:
    kind = item.get("type") if isinstance(item, dict) else None
    match kind:
        case "message":
            return read_texts(item, place, refusals)
        case "function_call":
            arguments, place = _text(item.get("arguments")), f"{place}.arguments"
            call_id, name = _text(item.get("call_id")), _text(item.get("name"))
            text = stated_arguments(arguments)
            return [Call(call_id=call_id, name=name, arguments=text, arguments_path=place)]
        case "reasoning":
            thought = read_thought(item)
            return [] if thought is None else [thought]
        case _:
            raise no_words_for(kind, place)


def no_words_for(kind: object, place: str) -> UntranslatableAnswer:
    """Return what to say of an item that no client of another dialect can have asked for."""
    return UntranslatableAnswer(f"the upstream answers with an item of the type {shown(kind)} ({place})")


def read_texts(item: dict[str, Any], place: str, refusals: list[str]) -> list[Part]:
    """Return the texts of a message, with its words of a refusal added to `refusals`.

    Raises: UntranslatableAnswer, if it holds something else.
    """
    parts: list[Part] = []
    content = item.get("content")
    for part in content if isinstance(content, list) else []:
        match part:
            case {"type": "output_text", "text": str(words)}:
                annotations = part.get("annotations")
                listed = annotations if isinstance(annotations, list) else []
                sources = tuple(page for entry in listed if (page := read_page(entry)) is not None)
                parts += [Text(text=words, sources=sources)] if words else []
            case {"type": "refusal", "refusal": str(words)}:
                refusals.append(words)
            case _:
                raise UntranslatableAnswer(f"the upstream answers with a message that holds no text ({place})")
    return parts


def read_thought(item: dict[str, Any]) -> Reasoning | None:
    """Return an item's reasoning: its words, summed up by the upstream or not, and what it sealed."""
    words = [text for member in ("content", "summary") for text in _words_in(item.get(member))]
    is_summary = bool(words) and not _words_in(item.get("content"))
    text, sealed = BETWEEN_SUMMARIES.join(words), _text(item.get("encrypted_content")) or None
    if not text and sealed is None:
        return None
    return Reasoning(
        text=text,
        signer="openai",
        signature=sealed if text else None,
        redacted=None if text else sealed,
        form=RESPONSES_FORMAT,
        given_id=_text(item.get("id")) or None,
        is_summary=is_summary,
    )


def _words_in(parts: object) -> list[str]:
    listed = parts if isinstance(parts, list) else []
    return [part["text"] for part in listed if isinstance(part, dict) and _text(part.get("text"))]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
