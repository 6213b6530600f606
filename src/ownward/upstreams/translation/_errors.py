"""Errors of upstreams in the client's dialect: bodies, and events in the middle of a stream."""

from __future__ import annotations

import re
from typing import Any

from ownward.upstreams.lengths import blames_the_answer, says_too_long
from ownward.upstreams.translation._json import read_json, write_json

_TO_OPENAI = {
    "api_error": "server_error",
    "overloaded_error": "overloaded_error",
    "not_found_error": "invalid_request_error",
    "request_too_large": "invalid_request_error",
    "timeout_error": "timeout_error",
    "billing_error": "insufficient_quota",
}
_KNOWN_TO_ANTHROPIC = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    }
)
_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LONGEST_WORDS = 2000
_LONGEST_QUOTED = 600
_BAD_REQUEST = 400
_OF_A_ROLE = frozenset({400, 422, 500})
_NO_LATER_SYSTEM = re.compile(
    r"system messages? (?:must be at the beginning|are not allowed)"  # templates (Qwen's) in llama.cpp, vLLM, Ollama
    r"|(?:should be|must be either) 'user' or 'assistant'",  # vLLM (0.20) and others, at /v1/messages
    re.IGNORECASE,
)
"""How servers refuse a system message behind others."""
_NO_SYSTEM_ROLE = "role 'system' is not supported on this model"
"""How Anthropic's service says so of its older models."""
_CODES = {"billing_error": "insufficient_quota", "rate_limit_error": "rate_limit_exceeded"}
_OF_A_MODEL = "model: "
"""How Anthropic's service begins to say that it has no such model."""
_CODES_OF_FAILURE = {
    "billing_error": "insufficient_quota",
    "insufficient_quota": "insufficient_quota",
    "invalid_request_error": "invalid_prompt",
    "rate_limit_error": "rate_limit_exceeded",
    "rate_limit_exceeded": "rate_limit_exceeded",
}
TOO_LONG = "context_length_exceeded"
"""How OpenAI's dialect calls a request that is longer than the model's context."""
_TOO_LONG_WORDS = "prompt is too long"
"""How Anthropic's dialect begins to say so: its clients know it by nothing else, and shorten the conversation."""
_OVERLOADED = 529  # a status that only Anthropic's dialect knows
_UNAVAILABLE = 503


def openai_error(kind: str, message: str, *, code: Any = None, param: Any = None) -> dict[str, Any]:
    """Return an error body; `kind` may be of either dialect."""
    stated = _TO_OPENAI.get(kind, kind)
    if code is None:
        is_of_model = kind == "not_found_error" and message.startswith(_OF_A_MODEL)
        code = "model_not_found" if is_of_model else _CODES.get(kind, kind)
    return {"error": {"message": message, "type": stated, "param": param, "code": code}}


def failure_code(kind: str, message: str) -> str:
    """Return the code of a response that failed in its stream: by it alone Codex shortens, waits or gives up."""
    if kind == TOO_LONG or says_too_long(_BAD_REQUEST, message.encode("utf-8", "replace")):
        return TOO_LONG
    return _CODES_OF_FAILURE.get(kind, "server_error")


def anthropic_error(kind: str, message: str, *, status: int | None = None, code: Any = None) -> dict[str, Any]:
    """Return an error's members besides its `type`; `kind` may be of either dialect.

    OpenAI's calls by one name what Anthropic's tells apart as its statuses do.
    """
    if kind == "invalid_request_error":
        kind = _BY_STATUS.get(status or 0, kind)
    if TOO_LONG in (kind, code) and _TOO_LONG_WORDS not in message:
        kind = "invalid_request_error"
        if not blames_the_answer(message.encode("utf-8", "replace")):
            message = f"{_TOO_LONG_WORDS}: {message}"
    if kind not in _KNOWN_TO_ANTHROPIC:
        kind = _BY_STATUS.get(status or 0, "api_error")
    return {"error": {"type": kind, "message": message}}


def as_messages_error(status: int, body: bytes) -> tuple[int, bytes] | None:
    """Return the refusal of a server that answers messages itself as their dialect says it; None where it does so.

    llama.cpp refuses in the form of OpenAI's errors there, and no engine has the dialect's words.
    """
    try:
        found = read_json(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return None
    status, told = messages_error(status, body)
    if found.get("type") != "error":
        return status, write_json(told)
    is_said_so = told["error"]["message"] == read_error(status, body)[1]
    return None if is_said_so else (status, write_json({**found, **told}))


def messages_error(status: int, body: bytes) -> tuple[int, dict[str, Any]]:
    """Return an upstream's refusal for a client of messages, whose status is another one at times.

    Agents go by the words that Anthropic's service has for a system message behind others, which a template like
    Qwen's refuses: they say the same in a user's message then.
    """
    kind, message, code, _ = read_error(status, body)
    if status in _OF_A_ROLE and _NO_LATER_SYSTEM.search(message) is not None:
        words = " ".join(message.split())[-_LONGEST_QUOTED:]
        told = anthropic_error("invalid_request_error", f"{_NO_SYSTEM_ROLE}: {words}")
        return _BAD_REQUEST, {"type": "error", **told}
    return status, {"type": "error", **anthropic_error(kind, message, status=status, code=code)}


def refuses_later_system(status: int, body: bytes) -> bool:
    """Return whether a refusal is about a system message behind others, in Anthropic's words or in a template's."""
    if status not in _OF_A_ROLE:
        return False
    message = read_error(status, body)[1]
    return _NO_SYSTEM_ROLE in message or _NO_LATER_SYSTEM.search(message) is not None


def read_error(status: int, body: bytes) -> tuple[str, str, Any, Any]:
    """Return kind, message, code and parameter of an upstream's error, of whatever shape it is.

    One that says that the request is longer than the model's context has that for its code, whatever it calls it.

    Some servers write the words where others have `error`: as `message` (vLLM's older ones), or as `detail` (FastAPI).
    """
    kind = _BY_STATUS.get(status, "api_error")
    try:
        found = read_json(body)
    except ValueError:
        found = None
    if isinstance(found, list) and found:  # Google's service lists its errors
        found = found[0]
    stated: dict[str, Any] = found if isinstance(found, dict) else {}
    error = stated.get("error")
    inner: dict[str, Any] = error if isinstance(error, dict) else {}
    raw = body.decode("utf-8", "replace")[:_LONGEST_WORDS]
    texts = [inner.get("message"), error, stated.get("message"), stated.get("detail"), raw]
    words = next((text for text in texts if isinstance(text, str) and text), "the upstream said nothing")
    given = inner.get("type")
    code = TOO_LONG if says_too_long(status, body) else inner.get("code")
    return (given if isinstance(given, str) else kind), words, code, inner.get("param")


def status_for_client(status: int) -> int:
    """Return the status in OpenAI's dialects."""
    return _UNAVAILABLE if status == _OVERLOADED else status
