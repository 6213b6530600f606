"""An answer that is no stream, read at once: usage, identity and how it ended."""

from __future__ import annotations

from ownward.pricing import Usage
from ownward.upstreams._counts import (
    are_llamacpp_timings,
    read_anthropic_usage,
    read_llamacpp_timings,
    read_openai_usage,
)
from ownward.upstreams._pieces import Piece, carries_content, parse_piece, text_in
from ownward.upstreams._read_answer import Dialect, ReadAnswer, id_in
from ownward.upstreams.terms import terms_told

_LONGEST_BODY_BYTES = 64 * 1024 * 1024


class WholeAnswer(ReadAnswer):
    """What a body says; `is_choiceless`: it has room for choices, and none in it.

    `is_timed`: it states the times that a llama.cpp adds to its answers, whatever stands before that.
    """

    __slots__ = ("is_choiceless", "is_timed", "usage")

    def __init__(self, dialect: Dialect, body: bytes) -> None:
        """Read a body that came to its end; one without measure is passed over."""
        super().__init__()
        self.is_choiceless = False
        self.is_timed = False
        self.usage: Usage | None = None
        answer = parse_piece(body) if len(body) <= _LONGEST_BODY_BYTES else None
        if answer is not None:
            self._read(answer, dialect)

    def _read(self, answer: Piece, dialect: Dialect) -> None:
        self.upstream_request_id = id_in(answer.id)
        usage, choices = answer.usage, answer.choices
        if answer.timings is not None:
            self.is_timed = are_llamacpp_timings(answer.timings)
        if answer.error is not None:
            self._note_error(answer.error)
            if usage is None:
                return
        self.is_complete = _is_answer(answer, dialect)
        if answer.stop_reason is not None:
            self.finish_reason = text_in(answer.stop_reason)
        if choices is not None:
            self.is_choiceless = not choices
            for choice in choices:
                self.finish_reason = text_in(choice.finish_reason) or self.finish_reason
                self.has_content = self.has_content or carries_content(choice)
        else:
            self.has_content = bool(answer.content or answer.output or bytes(answer.data))
            if answer.status is not None and answer.stop_reason is None:
                details = answer.incomplete_details
                reason = details.get("reason") if isinstance(details, dict) else None
                self.finish_reason = text_in(reason) or text_in(answer.status)
        if isinstance(usage, dict):
            if dialect == "anthropic":
                self.usage = read_anthropic_usage(usage)
            else:
                self.usage = read_openai_usage(usage, answer.model, of_embeddings=bool(answer.data))
            self.terms = terms_told(service_tier=answer.service_tier, usage=usage, items=answer.output, dialect=dialect)
        elif self.is_timed and (self.is_complete or self.finish_reason is not None):
            self.usage = read_llamacpp_timings(answer.timings)


def _is_answer(answer: Piece, dialect: Dialect) -> bool:
    """Return whether a body has what answers of its dialect have: any JSON object will not do."""
    if answer.input_tokens is not None:  # a count
        return True
    if dialect == "anthropic":
        return answer.content is not None
    return answer.choices is not None or answer.output is not None or bool(answer.data) or bool(answer.results)
