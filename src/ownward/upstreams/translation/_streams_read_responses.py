"""Streams of responses, read event by event."""

from __future__ import annotations

from typing import Any

from ownward.upstreams._events import data_of
from ownward.upstreams.translation._answers_of_responses import (
    no_words_for,
    read_texts,
    read_thought,
)
from ownward.upstreams.translation._called import made_call_id
from ownward.upstreams.translation._core import (
    Alive,
    Begun,
    CallBegun,
    CallPiece,
    Cited,
    Counted,
    Ended,
    Event,
    Failed,
    Over,
    PartOver,
    ReasoningPiece,
    RefusalPiece,
    Text,
    TextPiece,
)
from ownward.upstreams.translation._counts import read_responses_counts
from ownward.upstreams.translation._in_turn import InTurn
from ownward.upstreams.translation._members import UntranslatableAnswer
from ownward.upstreams.translation._reasoning import BETWEEN_SUMMARIES, RESPONSES_FORMAT
from ownward.upstreams.translation._sources import read_page
from ownward.upstreams.translation._stops import read_response_stop
from ownward.upstreams.translation._streams_read import EveryEvent, failure_in, object_in, text_of

_DONE = b"[DONE]"
_KINDS = {
    "rate_limit_exceeded": "rate_limit_error",
    "server_error": "api_error",
    "server_is_overloaded": "overloaded_error",
    "slow_down": "overloaded_error",
    "invalid_prompt": "invalid_request_error",
}
"""How a response's own codes are called as errors of a request."""


class ResponsesReader(EveryEvent):
    """Reads the events of a response."""

    __slots__ = ("_answer_id", "_begun", "_called", "_has_begun", "_order", "_places", "_summed_up", "_told")

    def __init__(self, fallback_id: str = "") -> None:
        """Start before the first event; `fallback_id` is what an answer without an id is called."""
        self._answer_id = fallback_id
        self._has_begun = False
        self._order: InTurn[int] = InTurn()  # of the items, by their index
        self._places: dict[str, int] = {}  # of items, by their ids: some servers leave the index out
        self._begun: dict[int, str] = {}  # the kind of each item
        self._told: set[int] = set()  # items of which something was told
        self._summed_up: set[int] = set()  # reasoning of which the first part of a summary was begun
        self._called = 0

    def read(self, event: bytes) -> list[Event]:
        """Return what one event says."""
        data = data_of(event).strip()
        if not data:
            return [Alive()] if event.startswith(b":") else []
        if data == _DONE:
            return []
        found = object_in(data)
        match found.get("type"):
            case "response.created" | "response.in_progress" | "response.queued":
                return self._begin(found.get("response")) or [Alive()]
            case "response.output_item.added":
                return self._begin_item(found)
            case "response.output_item.done":
                return self._end_item(found)
            case "response.completed" | "response.incomplete" | "response.failed" as kind:
                return self._end(found.get("response"), kind.removeprefix("response."))
            case "error":
                return [_failed(found.get("error") or found)]
            case None if found.get("error") is not None:  # as errors of chats are told
                return [failure_in(found["error"])]
            case kind:
                return self._read_piece(kind, found)

    def _read_piece(self, kind: object, found: dict[str, Any]) -> list[Event]:
        match kind:
            case "response.output_text.delta":
                return self._tell(found, "message", [TextPiece(text=text_of(found.get("delta")))])
            case "response.refusal.delta":
                return self._tell(found, "message", [RefusalPiece(text=text_of(found.get("delta")))])
            case "response.output_text.annotation.added":
                page = read_page(found.get("annotation"))
                return [] if page is None else self._tell(found, "message", [Cited(source=page)])
            case "response.function_call_arguments.delta":
                return self._tell(found, "function_call", [CallPiece(arguments=text_of(found.get("delta")))])
            case "response.reasoning_text.delta":
                return self._think(found, is_summary=False)
            case "response.reasoning_summary_text.delta":
                return self._think(found, is_summary=True)
            case "response.reasoning_summary_part.added":
                return self._part_summary(found)
            case _:
                return []  # what is told of parts besides is told by their pieces

    def _begin(self, response: Any) -> list[Event]:
        if self._has_begun or not isinstance(response, dict):
            return []
        self._has_begun = True
        self._answer_id = text_of(response.get("id")) or self._answer_id
        tier = text_of(response.get("service_tier"))
        model = text_of(response.get("model"))
        return [Begun(answer_id=self._answer_id, model=model, service_tier=None if tier in {"", "auto"} else tier)]

    # Items.

    def _place_of(self, found: dict[str, Any], item_id: object) -> int:
        index = found.get("output_index")
        if type(index) is int:
            return index
        return self._places.setdefault(text_of(item_id), len(self._places))

    def _begin_item(self, found: dict[str, Any]) -> list[Event]:
        item = found.get("item")
        stated: dict[str, Any] = item if isinstance(item, dict) else {}
        kind, place = text_of(stated.get("type")), self._place_of(found, stated.get("id"))
        if kind not in {"message", "function_call", "reasoning"}:
            raise no_words_for(stated.get("type"), f"output[{place}]")
        if place in self._begun:
            raise UntranslatableAnswer("the upstream's stream begins one item twice")
        self._begun[place] = kind
        if kind != "function_call":
            return self._order.begin(place, [])
        call_id = text_of(stated.get("call_id")) or made_call_id(self._answer_id, self._called)
        self._called += 1
        return self._order.begin(place, [CallBegun(call_id=call_id, name=text_of(stated.get("name")))])

    def _tell(self, found: dict[str, Any], kind: str, events: list[Event]) -> list[Event]:
        """Return what may be told of more of an item; of a message that nobody began as well."""
        place = self._place_of(found, found.get("item_id"))
        begun = self._begun.get(place)
        if begun is None and kind != "function_call":
            self._begun[place] = begun = kind
            self._order.begin(place, [])
        if begun != kind:
            raise UntranslatableAnswer("the upstream's stream holds pieces of an item that is another or never began")
        if not _says_something(events):
            return []
        self._told.add(place)
        return self._order.tell(place, events)

    def _think(self, found: dict[str, Any], *, is_summary: bool) -> list[Event]:
        return self._tell(found, "reasoning", [_thought(found, text_of(found.get("delta")), is_summary=is_summary)])

    def _part_summary(self, found: dict[str, Any]) -> list[Event]:
        place = self._place_of(found, found.get("item_id"))
        if place not in self._summed_up:
            self._summed_up.add(place)
            return []
        return self._tell(found, "reasoning", [_thought(found, BETWEEN_SUMMARIES, is_summary=True)])

    def _end_item(self, found: dict[str, Any]) -> list[Event]:
        """Return what may be told at an item's end, with what is only told there: the seal, or all of it."""
        item = found.get("item")
        stated: dict[str, Any] = item if isinstance(item, dict) else {}
        place = self._place_of(found, stated.get("id"))
        told = [] if place in self._begun else self._begin_item(found)
        rest: list[Event] = []
        match self._begun[place]:
            case "message" if place not in self._told:
                refusals: list[str] = []
                for part in read_texts(stated, f"output[{place}]", refusals):
                    if isinstance(part, Text):
                        rest += [TextPiece(text=part.text), *(Cited(source=source) for source in part.sources)]
                rest += [RefusalPiece(text=words) for words in refusals]
            case "function_call" if place not in self._told:
                self._told.add(place)
                rest.append(CallPiece(arguments=text_of(stated.get("arguments")).strip() or "{}"))
            case "reasoning":
                rest = self._seal(stated, place)
        return told + self._order.tell(place, rest) + self._order.end(place, [PartOver()])

    def _seal(self, item: dict[str, Any], place: int) -> list[Event]:
        thought = read_thought(item)
        if thought is None:
            return []
        sealed = thought.signature or thought.redacted
        named = _named(item.get("id"), is_summary=thought.is_summary)
        if place in self._told:
            return [] if sealed is None else [ReasoningPiece(**named, signature=sealed)]
        words = [ReasoningPiece(**named, text=thought.text)] if thought.text else []
        if sealed is None:
            return [*words]
        return [*words, ReasoningPiece(**named, signature=thought.signature, redacted=thought.redacted)]

    # The end.

    def _end(self, response: Any, usual: str) -> list[Event]:
        if not isinstance(response, dict):
            raise UntranslatableAnswer("the upstream's stream ends with no response")
        told = self._begin(response)
        status = response.get("status", usual)
        if status == "failed" or response.get("error") is not None:
            return [*told, _failed(response.get("error"))]
        for place, kind in self._begun.items():
            if kind == "function_call" and place not in self._told:  # one that takes nothing takes an empty object
                told += self._order.tell(place, [CallPiece(arguments="{}")])
        told += self._order.end_all()
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        has_calls = "function_call" in self._begun.values()
        stop = read_response_stop(status, reason, has_calls=has_calls)
        told.append(Ended(stop=stop))
        counts = read_responses_counts(response.get("usage"))
        if counts is not None:
            told.append(Counted(counts=counts))
        return [*told, Over()]


def _says_something(events: list[Event]) -> bool:
    match events:
        case [TextPiece(text="") | RefusalPiece(text="") | ReasoningPiece(text="") | CallPiece(arguments="")]:
            return False
        case _:
            return True


def _named(item_id: object, *, is_summary: bool) -> dict[str, Any]:
    return {
        "signer": "openai",
        "form": RESPONSES_FORMAT,
        "given_id": text_of(item_id) or None,
        "is_summary": is_summary,
    }


def _thought(found: dict[str, Any], words: str, *, is_summary: bool) -> ReasoningPiece:
    return ReasoningPiece(text=words, **_named(found.get("item_id"), is_summary=is_summary))


def _failed(error: object) -> Failed:
    stated = error if isinstance(error, dict) else {}
    kind = _KINDS.get(text_of(stated.get("code")))
    failure = failure_in({name: value for name, value in stated.items() if name != "type" or value != "error"})
    return failure if kind is None else Failed(kind=kind, message=failure.message)
