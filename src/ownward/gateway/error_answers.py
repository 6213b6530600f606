"""The only place that turns errors into answers: status, headers, and body or stream event in the client's dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ownward.core import (
    BadInput,
    EngineError,
    LedgerError,
    OwnwardError,
    PolicyRefusal,
    RateLimited,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UsageError,
)
from ownward.gateway.asgi import Headers
from ownward.gateway.errors import (
    Dialect,
    PackedBody,
    Rejected,
    Threadless,
    Unauthorized,
    UnknownPath,
    UntranslatedAnswer,
)
from ownward.gateway.headers import retry_after_s, retry_after_value
from ownward.upstreams import says_too_long

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_TOO_LONG = "context_length_exceeded"
_CODES = {
    "over_budget": "insufficient_quota",
    "over_limit": "rate_limit_exceeded",
    "unknown_previous_response": "previous_response_not_found",
    "unauthorized": "invalid_api_key",
    "unknown_route": "model_not_found",
}


def status_of(error: OwnwardError) -> int:
    """Return the HTTP status that says `error`."""
    match error:
        case UnknownPath():
            return 405 if error.allowed_methods else 404
        case Rejected():
            return error.status
        case PolicyRefusal():
            return 403
        case RateLimited():
            return 429
        case UpstreamTimeout():
            return 504
        case UpstreamRefused():
            return error.status
        case UpstreamError() | UntranslatedAnswer():
            return 502
        case BadInput() | UsageError():
            return 400
        case EngineError() | LedgerError():
            return 503
        case _:
            return 500


def headers_of_error(error: OwnwardError) -> Headers:
    """Return the headers that an error brings: when to come back, where it is known, and what would be taken."""
    if isinstance(error, Unauthorized):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, PackedBody):
        return [(b"accept-encoding", b"identity")]  # RFC 9110, section 15.5.16
    wait_s = retry_after_s(error)
    return [] if wait_s is None else [(b"retry-after", retry_after_value(wait_s))]


def body_of(error: OwnwardError, dialect: Dialect, *, request_id: str | None = None) -> bytes:
    """Return the error as a JSON body in the client's dialect, with the four parts beside the message."""
    record = error.as_record()
    status = status_of(error)
    parts = {
        "ownward_kind": record["kind"],
        "where": record["where"],
        "allowed": record["allowed"],
        "next": record["next"],
        "request_id": request_id,
    }
    if dialect == "anthropic":
        told = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": str(error), **parts}
        if isinstance(error, Threadless):
            told["details"] = error.details
        content = {"type": "error", "error": told, "request_id": request_id}
    else:
        kind = _OPENAI_TYPES.get(status, "server_error")
        field = error.field if isinstance(error, Rejected) else None
        code = _CODES.get(record["kind"], record["kind"])
        content = {"error": {"message": str(error), "type": kind, "param": field, "code": code, **parts}}
    return json.dumps(content, ensure_ascii=False).encode()


def stream_event_of(
    error: OwnwardError,
    dialect: Dialect,
    *,
    endpoint: str,
    request_id: str | None = None,
    sequence_number: int | None = None,
    response: Mapping[str, Any] | None = None,
    code: str | None = None,
) -> bytes:
    """Return the error as the last word of a stream that had begun, in the dialect of `endpoint`.

    `sequence_number` is the event's own in a stream of responses; None where the upstream had numbered them.
    `response` is the one that breaks there, of which an event says that it failed: some clients (Codex) pass over an
    `error`, and go by its `code`. That one has its members as its type says, and in `error` again: OpenAI's clients
    raise what stands there.
    It starts with an empty line, which ends whatever event was cut. No `[DONE]` follows it.
    """
    body = body_of(error, dialect, request_id=request_id)
    if dialect == "anthropic":
        return b"\n\nevent: error\ndata: " + body + b"\n\n"
    if endpoint == "/v1/responses":
        words = str(error)
        events: list[dict[str, Any]] = []
        if response is not None:
            failed = {**response, "status": "failed", "error": {"code": code or "server_error", "message": words}}
            events.append({"type": "response.failed", "response": failed})
        told = {"type": "server_error", "code": code or error.kind, "message": words, "param": None}
        events.append({**told, "type": "error", "request_id": request_id, "error": told})
        if sequence_number is not None:
            for number, event in enumerate(events, sequence_number):
                event["sequence_number"] = number
        return b"\n\n" + b"".join([_typed_event(event) for event in events])
    return b"\n\ndata: " + body + b"\n\n"


def refusal_event_of(
    status: int, body: bytes, dialect: Dialect, *, endpoint: str, response: Mapping[str, Any] | None = None
) -> bytes:
    """Return an upstream's refusal, its body in the client's dialect, as the last word of a stream.

    Clients find the upstream's words where they stand in its own streams: a code that they act on is theirs.
    `response` is the one of which an event says that it failed.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if endpoint == "/v1/responses" or not isinstance(told, dict) or not isinstance(told.get("error"), dict):
        stated = told.get("error") if isinstance(told, dict) else None
        said = stated if isinstance(stated, dict) else {}
        words, code = said.get("message"), said.get("code")
        error = UpstreamRefused(words if isinstance(words, str) else f"the upstream answered {status}", status=status)
        code = _TOO_LONG if says_too_long(status, body) else code if isinstance(code, str) else None
        return stream_event_of(error, dialect, endpoint=endpoint, response=response, code=code)
    name = b"event: error\n" if dialect == "anthropic" else b""
    return b"\n\n%bdata: %b\n\n" % (name, json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"))


def _typed_event(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event, ensure_ascii=False).encode())
