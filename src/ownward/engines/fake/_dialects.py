"""What the fake says, in OpenAI's and Anthropic's words: plain bodies, events of a stream, errors.

Pure: a call goes in, bytes come out. When they are sent is the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ownward.engines.fake._call import Call, Endpoint
from ownward.engines.fake._frames import dump
from ownward.engines.fake._messages import count_tokens, messages, messages_stream
from ownward.engines.fake._openai import chat, chat_stream, completions, completions_stream, embeddings
from ownward.engines.fake._responses import responses, responses_stream

_OPENAI_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_ERROR_TYPES = {**_OPENAI_ERROR_TYPES, 500: "api_error", 529: "overloaded_error"}


def plain_body(call: Call) -> bytes:
    """Return the whole answer to a call that does not stream."""
    return dump(_PLAIN[call.endpoint](call))


def stream_events(call: Call) -> Iterator[tuple[bytes, int]]:
    """Yield the events of a streamed answer, each with the number of tokens it brings (0 for frames around them)."""
    return _STREAMS[call.endpoint](call)


def error_body(endpoint: Endpoint | None, status: int, message: str) -> bytes:
    """Return an error in the words of the dialect that was spoken to."""
    if endpoint in {"messages", "count_tokens"}:
        kind = _ANTHROPIC_ERROR_TYPES.get(status, "api_error")
        return dump({"type": "error", "error": {"type": kind, "message": message}})
    kind = _OPENAI_ERROR_TYPES.get(status, "server_error")
    return dump({"error": {"message": message, "type": kind, "param": None, "code": None}})


def models_body(models: tuple[str, ...]) -> bytes:
    """Return the list of models."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "ownward-fake"} for name in models]
    return dump({"object": "list", "data": listed})


def _no_stream(call: Call) -> Iterator[tuple[bytes, int]]:
    raise AssertionError(f"{call.endpoint} does not stream")


_PLAIN: dict[Endpoint, Callable[[Call], dict[str, Any]]] = {
    "chat": chat,
    "completions": completions,
    "responses": responses,
    "embeddings": embeddings,
    "messages": messages,
    "count_tokens": count_tokens,
}
_STREAMS: dict[Endpoint, Callable[[Call], Iterator[tuple[bytes, int]]]] = {
    "chat": chat_stream,
    "completions": completions_stream,
    "responses": responses_stream,
    "embeddings": _no_stream,
    "messages": messages_stream,
    "count_tokens": _no_stream,
}
