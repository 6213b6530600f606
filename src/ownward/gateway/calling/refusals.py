"""What an upstream's refusal is about: the request, how much is asked of it, or the account that we pay by.

Services say the last in many ways, and Anthropic says it with 400, as if the request were wrong. Their codes and types
are compared as wholes. Words are looked at from their beginning only: an error that quotes a request quotes it further
on, so that no client can have an upstream left alone by what it writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ownward.gateway.headers import read_retry_after

if TYPE_CHECKING:
    from ownward.upstreams import Response

_PAYMENT_REQUIRED: Final = 402
_MAY_BE_UNPAID: Final = frozenset({400, 403, 412, 429})
_LONGEST_BODY_BYTES: Final = 1 << 16

_CODES: Final = frozenset(
    {
        "insufficient_quota",  # OpenAI, 429
        "billing_not_active",  # OpenAI, 429
        "billing_hard_limit_reached",  # OpenAI, 400
        "billing_error",  # Anthropic
        "exceeded_current_quota_error",  # Moonshot, 429
        "Arrearage",  # Alibaba, 400
        "AccountOverdueError",  # Volcengine, 403
        "1113",  # Zhipu, 429
    }
)
_WORDS: Final = re.compile(
    r"Your credit balance is too low to access the Anthropic API"
    r"|You have reached your specified (?:workspace )?API usage limits\. You will regain access"  # Anthropic, 400
    r"|Your team \S{1,64} has either used all available credits or reached its monthly spending limit"  # xAI, 403, 429
    r"|You have run out of credits"  # xAI, 403
    r"|Your newly created teams? doesn't have any credits yet"  # xAI, 403
    r"|Account \S{1,64} is suspended, possibly due to reaching the monthly spending limit"  # Fireworks, 412
    r"|Your account \S{1,64}(?: <\S{1,64}>)? is suspended due to insufficient balance"  # Moonshot, 429
    r"|(?:\[1113\]\[)?Insufficient balance or no resource package"  # Zhipu, 429
)
_ASKS_FOR_LESS: Final = re.compile(r"This request requires more credits, or fewer max_tokens\.")
"""How OpenRouter refuses, with 402, what a smaller request of the same account would get."""

_NO_EFFORT: Final = re.compile(
    r"Unrecognized request argument supplied: reasoning_effort\Z"  # OpenAI, of a model that does not reason
    r"|Unsupported parameter: 'reasoning_effort' is not supported with this model"  # OpenAI
    r"|`reasoning_effort` is not supported with this model"  # Groq
)
_NOT_ITS_REASONING: Final = re.compile(
    r"messages\.\d{1,5}\.content\.\d{1,5}"  # Anthropic, by the place of a block
    r"(?:: Invalid `?(?:signature|data)`? in `?(?:redacted_)?thinking`? block(?!\. The block is bound to)"
    r"|\.thinking\.signature(?:\.|:)|\.redacted_thinking\.data(?:\.|:))"
    r"|Invalid 'input\[\d{1,5}\]\.content': array too long\. Expected an array with maximum length 0"  # OpenAI
    r"|Encrypted content is not supported\."  # vLLM; OpenAI says `with this model`, and means the member `include`
)
_UNKNOWN_BETAS: Final = re.compile(
    r"Unexpected value\(s\) ((?:`[A-Za-z0-9_.-]{1,80}`(?:, | and )?){1,32}) for the `anthropic-beta` header"
)
_STATUSES: Final = {
    "BadRequestError": 400,  # vLLM, SGLang
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,  # llama.cpp
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
_NOTHING_COMPUTED: Final = frozenset({*range(400, 500), 503, 529}) - {408}
_MISSES_REASONING: Final = re.compile(
    r"The `?reasoning_content`? in the thinking mode must be passed back"  # DeepSeek
    r"|Missing `?reasoning_content`? field in the assistant message"  # DeepSeek
    r"|thinking is enabled but reasoning_content is missing in assistant tool call message"  # Moonshot
    r"|preserved thinking \(\S{1,64}\) requires reasoning_content on every assistant message"  # Moonshot
)
_NO_WORD: Final = re.compile(r"Could not finish the message because max_tokens or model output limit was reached")
"""How OpenAI refuses, in chat completions alone, what a model that reasons could not answer within the limit."""
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_OF_THE_REQUEST: Final = re.compile(
    r"(?:image|audio|video) input is not supported"  # llama.cpp (b11549), by a model of text alone
    r"|Failed to parse (?:messages|tools): "  # llama.cpp
    r"|input \(\d{1,9} tokens\) is too large to process"  # llama.cpp, of an input to be embedded
    r"|the current context does not support logits computation"  # llama.cpp, by a model that only embeds
    r"|system message must be at the beginning"  # Ollama
)
"""How servers say with 500 that a request cannot be served, and no other request is the worse for it."""

_RETRY_DELAY: Final = re.compile(rb'"retryDelay"\s*:\s*"([0-9]{1,6}(?:\.[0-9]{1,9})?)s"')


def refusal_told_as_answer(body: bytes, *, has_begun: bool = False) -> tuple[int, bytes] | None:
    """Return the status and the body of a refusal that came with a status of success; None of any other error.

    Some servers begin each stream before they look at the request (SGLang, Perplexity), and tell the status as the
    error's code, or by what they call it. Where the answer `has_begun`, only what is wrong with the request is one.
    """
    error = _error_in(body)
    inner = error.get("response")
    if isinstance(inner, dict) and isinstance(inner.get("error"), dict):  # of a response that failed in its stream
        error = inner["error"]
        body = json.dumps({"error": error}).encode()
    code = error.get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    names = map(str, (code, error.get("type")))
    status = code if type(code) is int else next((_STATUSES[name] for name in names if name in _STATUSES), 0)
    return (status, body) if status in _NOTHING_COMPUTED and not (has_begun and status >= _SERVER_ERROR) else None


def is_unpaid(status: int, body: bytes) -> bool:
    """Return whether a refusal is about the account that we pay by: no other request would be answered either."""
    if status == _PAYMENT_REQUIRED:
        return not asks_for_less(status, body)
    if status not in _MAY_BE_UNPAID:
        return False
    error = _error_in(body)
    if error.get("status") == "RESOURCE_EXHAUSTED":  # Gemini's words for a limit on the rate are those of OpenAI for
        return False  # an account without credit
    if not _CODES.isdisjoint(str(error.get(name)) for name in ("code", "type")):
        return True
    words = error.get("message")
    return isinstance(words, str) and _WORDS.match(words) is not None


def is_of_request(status: int, body: bytes) -> bool:
    """Return whether a server's error is about the one request and says nothing of the server's health."""
    words = _error_in(body).get("message") if status == _SERVER_ERROR else None
    return isinstance(words, str) and _OF_THE_REQUEST.match(words) is not None


def asks_for_less(status: int, body: bytes) -> bool:
    """Return whether the account is not empty, and too small for this one request."""
    words = _error_in(body).get("message") if status == _PAYMENT_REQUIRED else None
    return isinstance(words, str) and _ASKS_FOR_LESS.match(words) is not None


def cannot_unseal(status: int, body: bytes) -> bool:
    """Return whether a request holds reasoning that was sealed for another organisation, or another service."""
    return status == _BAD_REQUEST and _error_in(body).get("code") == "invalid_encrypted_content"


def cannot_read_reasoning(status: int, body: bytes) -> bool:
    """Return whether a request holds reasoning that another service, organisation or server wrote, or signed.

    What the client itself has changed since, so that a block is bound to another conversation, is its own to mend.
    """
    words = _error_in(body).get("message") if status == _BAD_REQUEST else None
    is_said = isinstance(words, str) and _NOT_ITS_REASONING.match(words) is not None
    return is_said or cannot_unseal(status, body)


def find_unknown_betas(status: int, body: bytes) -> frozenset[bytes]:
    """Return the values of `anthropic-beta` that a service of Anthropic's dialect refuses, as it has no such trial."""
    words = _error_in(body).get("message") if status == _BAD_REQUEST else None
    found = _UNKNOWN_BETAS.match(words) if isinstance(words, str) else None
    return frozenset() if found is None else frozenset(name.encode() for name in found[1].split("`")[1::2])


def misses_reasoning(status: int, body: bytes) -> bool:
    """Return whether what the assistant said has to stand with what it thought, and does not."""
    words = _error_in(body).get("message") if status == _BAD_REQUEST else None
    return isinstance(words, str) and _MISSES_REASONING.match(words) is not None


def ran_out_before_a_word(status: int, body: bytes) -> bool:
    """Return whether a model reached the request's limit while it was thinking, which no other dialect refuses."""
    words = _error_in(body).get("message") if status == _BAD_REQUEST else None
    return isinstance(words, str) and _NO_WORD.match(words) is not None


def find_unknown(body: bytes, spared: Iterable[str]) -> str | None:
    """Return which of the members that can be spared a refusal is about; None where it is about none of them."""
    return next((member for member in spared if _is_unknown(member, body)), None)


def _is_unknown(member: str, body: bytes) -> bool:
    if member == "reasoning_effort":
        return knows_no_effort(body)
    error = _error_in(body)
    words, place = error.get("message"), error.get("param")
    said = words if isinstance(words, str) else ""
    match member:
        case "include":
            return said.startswith("Encrypted content is not supported") or str(place).startswith("include")
        case "reasoning.summary":
            return place == member  # a model that makes none, or an organisation that is not verified
        case _:  # an effort that a model has is no spare one, whatever it makes of `none`
            return place in {member, "reasoning"} and said.startswith("Unsupported parameter")


def knows_no_effort(body: bytes) -> bool:
    """Return whether a model has no `reasoning_effort` at all, and so does not think: no other value would do."""
    error = _error_in(body)
    words, detail = error.get("message"), error.get("detail")
    if isinstance(words, str):
        return _NO_EFFORT.match(words) is not None
    listed = detail if isinstance(detail, list) else words.get("detail") if isinstance(words, dict) else None
    extra = {"type": "extra_forbidden", "loc": ["body", "reasoning_effort"]}  # Mistral, and servers on Pydantic
    return isinstance(listed, list) and any(
        isinstance(entry, dict) and all(entry.get(name) == value for name, value in extra.items()) for entry in listed
    )


def _error_in(body: bytes) -> dict[str, Any]:
    """Return an error's members, of whatever shape its body is; none of what cannot be read."""
    if len(body) > _LONGEST_BODY_BYTES:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:  # Google's service lists its errors
        found = found[0]
    if not isinstance(found, dict):
        return {}
    error = found.get("error")
    if isinstance(error, dict):
        return error
    return {**found, "message": error} if isinstance(error, str) else found  # xAI states the words as `error`


def wait_of(response: Response, body: bytes, *, now: datetime) -> float | None:
    """Return the seconds that a refusal asks to wait; None where it does not say.

    `Retry-After` says it, as a number or as a date, or `retry-after-ms` (OpenAI, Azure), or the body (Google).
    """
    stated = response.header(b"retry-after-ms")
    if stated is not None and stated.isdigit() and len(stated) < 10:  # noqa: PLR2004 - eleven days
        return int(stated) / 1000
    stated = response.header(b"retry-after")
    if stated is not None:
        return read_retry_after(stated, now=now)
    found = _RETRY_DELAY.search(body[:_LONGEST_BODY_BYTES])
    return None if found is None else float(found[1])
