"""Why a model stopped, in each dialect's words."""

from __future__ import annotations

from ownward.upstreams._pieces import GAVE_UP
from ownward.upstreams.translation._core import StopReason
from ownward.upstreams.translation._members import UntranslatableAnswer, shown

_FROM_CHAT: dict[str, StopReason] = {
    "stop": "end",
    "end_turn": "end",  # servers that write Anthropic's words into OpenAI's dialect
    "eos": "end",  # Together
    "eos_token": "end",  # TGI
    "stop_sequence": "stop_sequence",
    "length": "limit",
    "max_tokens": "limit",
    "model_length": "limit",  # Mistral: the model's context is full
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "refusal",
    "safety": "refusal",
    "recitation": "refusal",
    "prohibited_content": "refusal",
}
_FROM_MESSAGES: dict[str, StopReason] = {
    "end_turn": "end",
    "max_tokens": "limit",
    "model_context_window_exceeded": "limit",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
_FROM_RESPONSES: dict[str, StopReason] = {"max_output_tokens": "limit", "content_filter": "refusal"}
_TO_CHAT: dict[StopReason, str] = {
    "end": "stop",
    "limit": "length",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
}
_TO_MESSAGES: dict[StopReason, str] = {
    "end": "end_turn",
    "limit": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "refusal": "refusal",
}


def read_chat_stop(reason: object, sequence: object, *, has_calls: bool) -> tuple[StopReason | None, str | None]:
    """Return the reason and the stop sequence; some servers (vLLM) tell the latter as `stop_reason`.

    A call that was demanded by name ends with `stop` on OpenAI's own service; some servers say `tool_calls` and tell
    none, for which nobody can give results. An answer whose last word came without a
    reason is over all the same, as the dialect itself says of `[DONE]`: some servers never state one.
    Raises: UntranslatableAnswer, if the upstream says that it gave up.
    """
    stop = _FROM_CHAT.get(reason.lower() or "stop") if isinstance(reason, str) else _ended_by(reason)
    if stop is None and isinstance(reason, str) and reason.lower() in GAVE_UP:
        raise UntranslatableAnswer(f"the upstream gave up before its answer was whole: {shown(reason.lower())}")
    if stop in {None, "end"} and has_calls:
        return "tool_calls", None
    if stop == "tool_calls" and not has_calls:
        return "end", None
    if stop == "end" and isinstance(sequence, str):
        return "stop_sequence", sequence
    return stop, None


def read_messages_stop(reason: object, sequence: object, *, has_calls: bool) -> tuple[StopReason | None, str | None]:
    """Return the reason and the stop sequence; as of chats, no reason at all is the end of the answer.

    Raises: UntranslatableAnswer, if the turn is only paused: no other dialect can have it go on.
    """
    if reason == "pause_turn":
        raise UntranslatableAnswer("the upstream paused its turn in the middle, which your dialect cannot have go on")
    stop = _FROM_MESSAGES.get(reason) if isinstance(reason, str) else _ended_by(reason)
    if has_calls and (stop is None or not reason):
        stop = "tool_calls"
    elif stop == "tool_calls" and not has_calls:
        stop = "end"
    return stop, sequence if isinstance(sequence, str) else None


def _ended_by(reason: object) -> StopReason | None:
    return "end" if reason is None else None


def read_response_stop(status: object, reason: object, *, has_calls: bool) -> StopReason | None:
    """Return why a response has ended.

    Raises: UntranslatableAnswer, if it says that it has not.
    """
    match status:
        case "completed":
            return "tool_calls" if has_calls else "end"
        case "incomplete":
            return _FROM_RESPONSES.get(reason) if isinstance(reason, str) else None
        case _:
            raise UntranslatableAnswer(f"the upstream gave up before its answer was whole: {shown(status)}")


def chat_stop(stop: StopReason | None) -> str | None:
    """Return `finish_reason`."""
    return None if stop is None else _TO_CHAT[stop]


def messages_stop(stop: StopReason | None) -> str | None:
    """Return `stop_reason`."""
    return None if stop is None else _TO_MESSAGES[stop]


def responses_status(stop: StopReason | None) -> tuple[str, str | None]:
    """Return `status`, and why a response is incomplete."""
    match stop:
        case "limit":
            return "incomplete", "max_output_tokens"
        case "refusal":
            return "incomplete", "content_filter"
        case _:
            return "completed", None
