"""A tap on a stream's bytes: usage, identity, progress and end, read as they pass and left as they are.

It parses each event once, into the few fields it needs, and does not know prices.
"""

from __future__ import annotations

import sys
from typing import Any

from ownward.pricing import Usage
from ownward.upstreams._counts import (
    are_llamacpp_timings,
    merge_anthropic_usage,
    read_anthropic_usage,
    read_llamacpp_timings,
    read_openai_usage,
)
from ownward.upstreams._events import EventCutter, data_of
from ownward.upstreams._pieces import (
    Piece,
    carries_content,
    is_flat_error,
    parse_piece,
    text_in,
    words_of_block,
    words_of_chunk,
)
from ownward.upstreams._read_answer import Dialect, ReadAnswer, id_in
from ownward.upstreams._stencil import Stencil
from ownward.upstreams.terms import terms_told

_LONGEST_EVENT_BYTES = 8 * 1024 * 1024

Json = dict[str, Any]


class StreamTap(ReadAnswer):
    """Reads a stream as its bytes pass.

    Feed it every piece and, at a clean end, call `finish`. `feed` returns the bytes to
    hand on: whole events, byte for byte, since behind half of one no reader would
    understand an error; with `strip_usage` without the one that carries nothing but usage
    (which we, and not the client, had asked for).

    `is_complete`: the dialect's own last word was seen (`[DONE]`, `message_stop`,
    `response.completed`); a chat stream that ended cleanly after its `finish_reason` is
    whole too, as some servers leave `[DONE]` out. `[DONE]` is no last word of a stream
    whose events have types, before one of them says how it ended.
    `error_data` is what its first event with an error held.
    `is_garbled`: an event held what is not a JSON object. `is_misspelt`: it told an error in a
    form that clients of its dialect pass over, and take what came before for the whole.
    `is_timed`: it stated the times that a llama.cpp adds to its answers, whatever stands before that.
    """

    __slots__ = (
        "_anthropic_counts",
        "_counted_events",
        "_cutter",
        "_final",
        "_has_ended",
        "_is_anthropic",
        "_is_blind",
        "_is_typed",
        "_latest",
        "_stencil",
        "_strip",
        "_tier",
        "_timings",
        "error_data",
        "is_garbled",
        "is_misspelt",
        "is_timed",
    )

    def __init__(self, dialect: Dialect = "openai", *, strip_usage: bool = False) -> None:
        """Start before the first byte."""
        super().__init__()
        self._is_anthropic = dialect == "anthropic"
        self._strip = strip_usage
        self._cutter = EventCutter(_LONGEST_EVENT_BYTES)
        self._final: Usage | None = None
        self._latest: Usage | None = None
        self._timings: Usage | None = None
        self._anthropic_counts: Json = {}
        self._counted_events = sys.maxsize
        self._has_ended = False
        self._is_blind = False
        self._is_typed = False
        self._stencil = Stencil()
        self._tier: object = None
        self.error_data: bytes | None = None
        self.is_garbled = False
        self.is_misspelt = False
        self.is_timed = False

    @property
    def has_last_word(self) -> bool:
        """Whether all has been said: an error is a last word too, behind which there may be no other."""
        return self.is_complete or self.error is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said yet: no content, no error, nor how it ended."""
        return not (self.has_content or self.finish_reason or self.error)

    @property
    def usage(self) -> Usage | None:
        """What the upstream stated for the whole answer; None while, or where, it has not."""
        if self.content_events > self._counted_events:
            return None  # what was counted is not all that came
        if self._final is not None:
            return self._final
        if self.is_complete or (self._has_ended and self.finish_reason is not None):
            return self._latest or self._timings
        return None

    def feed(self, data: bytes) -> bytes:
        """Take in the next piece of a stream and return what is to be handed on now; may be empty when stripping."""
        if self._is_blind:
            return data
        cutter = self._cutter
        if cutter.is_empty:
            if self._stencil.words_in(data) is not None:  # one event, as most pieces are, and like one before
                self.content_events += 1
                return data
            if data.endswith(b"\n\n") and b"\r" not in data:
                return self._feed_whole_events(data)
        events = cutter.cut(data)
        self._is_blind = cutter.is_overrun
        kept = [event for event in events if not self._read_event(event)]
        if self._is_blind or (cutter.holds_comments and not self._strip):
            kept.append(cutter.take_rest())
        if len(kept) == 1:
            return kept[0]
        return b"".join(kept)

    def _feed_whole_events(self, data: bytes) -> bytes:
        """Read events that came whole, as most do; nothing is put together anew unless one is left out."""
        events = [part + b"\n\n" for part in data[:-2].split(b"\n\n")]
        left_out = None
        words_in = self._stencil.words_in
        for index, event in enumerate(events):
            if words_in(event) is not None:
                self.content_events += 1
            elif self._read_event(event):
                left_out = {index} if left_out is None else {index, *left_out}
        if left_out is None:
            return data
        return b"".join([event for index, event in enumerate(events) if index not in left_out])

    def finish(self) -> bytes:
        """Note that the stream ended by itself, and return what was still held back."""
        self._has_ended = True
        rest = self._cutter.take_rest()
        is_left_out = bool(rest) and not self._is_blind and self._read_event(rest + b"\n\n")
        if self.finish_reason is not None and self.error is None and not (self._is_anthropic or self.is_garbled):
            self.is_complete = True
        return b"" if is_left_out else rest

    def _read_event(self, event: bytes) -> bool:
        """Read one event and tell whether it is left out: it says nothing, or usage alone that we had asked for."""
        data = data_of(event)
        if not data:
            return False
        answer = parse_piece(data)
        if answer is None:
            if data.strip() == b"null":  # with which llama.cpp begins the stream of several prompts
                return True
            if data.strip() == b"[DONE]":
                self.is_complete |= not self._is_typed or self.finish_reason is not None or self.error is not None
            else:
                self.is_garbled = True
            return False
        if answer.error is not None:
            self._note_error(answer.error)
            self.is_misspelt = self._is_anthropic and answer.type != "error"
        elif answer.choices is None and isinstance(answer.message, str) and is_flat_error(data):
            self._note_error(answer.message)
            self.is_misspelt = True
        is_usage = False
        if answer.type is not None and answer.choices is None:
            self._is_typed = True
            if self._is_anthropic:
                self._read_anthropic(answer)
            else:
                self._read_responses(answer)
        else:
            is_usage = self._read_chunk(answer)
        if self.error is not None and self.error_data is None:
            self.error_data = data
        words = self._words_of(answer)
        if words is not None:
            self._stencil.cut(event, words, self._read_words)
        return is_usage and self._strip

    def _words_of(self, answer: Piece) -> str | None:
        """Return the words of an event that says nothing but words, and counts for nothing else; None of any other."""
        if answer.error is not None or isinstance(answer.usage, dict) or answer.timings is not None:
            return None
        if answer.choices is not None:
            return words_of_chunk(answer.choices)
        if self._is_anthropic:
            return words_of_block(answer)
        kind = answer.type
        return text_in(answer.delta) if isinstance(kind, str) and kind.endswith(".delta") else None

    def _read_words(self, event: bytes) -> str | None:
        answer = parse_piece(data_of(event))
        return None if answer is None else self._words_of(answer)

    def _read_chunk(self, answer: Piece) -> bool:
        if self.upstream_request_id is None:
            self.upstream_request_id = id_in(answer.id)
        choices = answer.choices
        stated = answer.usage
        if answer.service_tier is not None:  # which the event with the usage may leave out
            self._tier = answer.service_tier
        if choices:
            carries = False
            for choice in choices:
                if choice.finish_reason is not None:
                    self.finish_reason = text_in(choice.finish_reason)
                if choice.usage is not None and stated is None:
                    stated = choice.usage
                carries = carries or carries_content(choice)
            if carries:
                self.has_content = True
                self.content_events += 1
        if answer.timings is not None and isinstance(answer.timings, dict):
            self._timings = read_llamacpp_timings(answer.timings)
            self.is_timed = self.is_timed or are_llamacpp_timings(answer.timings)
        if stated is None or not isinstance(stated, dict):
            return False
        self._latest = read_openai_usage(stated, answer.model)
        self._counted_events = self.content_events
        self._note_terms(self._tier, stated)
        if choices or answer.error is not None:
            self._final = None  # a later count is the truer one
            return False
        self._final = self._latest
        return choices is not None

    def _read_responses(self, answer: Piece) -> None:
        kind = answer.type
        if not isinstance(kind, str):
            return
        if kind.endswith(".delta"):
            if answer.delta:
                self.has_content = True
                self.content_events += 1
            return
        inner = answer.response
        if not isinstance(inner, dict):
            if kind == "error":
                self._note_error(answer.message)
            return
        if self.upstream_request_id is None:
            self.upstream_request_id = id_in(inner.get("id"))
        if kind in {"response.completed", "response.incomplete", "response.failed"}:
            self.is_complete = True
            self._read_response_object(inner)

    def _read_response_object(self, inner: Json) -> None:
        if inner.get("error") is not None:
            self._note_error(inner["error"])
        details = inner.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        self.finish_reason = text_in(reason) or text_in(inner.get("status"))
        if isinstance(inner.get("usage"), dict):
            self._final = read_openai_usage(inner["usage"], inner.get("model"))
            self._note_terms(inner.get("service_tier"), inner["usage"], inner.get("output"))

    def _read_anthropic(self, answer: Piece) -> None:
        match answer.type:
            case "content_block_delta":
                self.has_content = True
                self.content_events += 1
            case "message_start" if isinstance(answer.message, dict):
                self.upstream_request_id = id_in(answer.message.get("id"))
                usage = answer.message.get("usage")
                if isinstance(usage, dict):
                    self._anthropic_counts = {k: v for k, v in usage.items() if k != "output_tokens"}
            case "message_delta":
                if isinstance(answer.delta, dict):
                    self.finish_reason = text_in(answer.delta.get("stop_reason")) or self.finish_reason
                if isinstance(answer.usage, dict):
                    self._anthropic_counts = merge_anthropic_usage(self._anthropic_counts, answer.usage)
                    self._latest = read_anthropic_usage(self._anthropic_counts)
                    self._note_terms(None, self._anthropic_counts)
            case "message_stop":
                self.is_complete = True
            case _:
                pass

    def _note_terms(self, service_tier: object, usage: Json, items: object = None) -> None:
        dialect: Dialect = "anthropic" if self._is_anthropic else "openai"
        self.terms = terms_told(service_tier=service_tier, usage=usage, items=items, dialect=dialect)
