"""HTTP headers: by name, which of them are passed on in either direction, and how their values are written."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from ownward.core import EngineError, LedgerError, OwnwardError, UpstreamError
from ownward.gateway.asgi import Headers
from ownward.gateway.errors import Rejected

NO_BETAS: frozenset[bytes] = frozenset()

# A client's credentials, cookies and addresses stay here: what travels on is listed, the rest does not.
_TO_UPSTREAM = (b"accept", b"anthropic-beta", b"anthropic-user-profile-id", b"anthropic-version", b"openai-beta")
_LISTS = frozenset({b"accept", b"anthropic-beta", b"openai-beta"})
_TO_CLIENT = frozenset({b"retry-after", b"retry-after-ms", b"request-id", b"x-request-id", b"x-should-retry"})
_REQUEST_IDS = frozenset({b"request-id", b"x-request-id"})
_TO_CLIENT_PREFIXES = (b"anthropic-", b"openai-", b"x-ratelimit-")


def read_headers(listed: Sequence[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Return a client's headers by their names; of several lines of one the last, but lists as a whole.

    Source: RFC 9110, section 5.3.
    """
    headers = dict(listed)
    if len(headers) < len(listed):
        for name in _LISTS & headers.keys():
            headers[name] = b", ".join([value for other, value in listed if other == name])
    return headers


def texts_of(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the headers as text, for match rules."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def headers_for_upstream(headers: Mapping[bytes, bytes], *, dialect: str, is_translated: bool = False) -> Headers:
    """Return the client's headers that an upstream may see; those of its dialect stay where that is another."""
    passed = [
        (name, headers[name]) for name in _TO_UPSTREAM if name in headers and not (is_translated and b"-" in name)
    ]
    if dialect == "anthropic" and (is_translated or b"anthropic-version" not in headers):
        passed.append((b"anthropic-version", b"2023-06-01"))
    return passed


def headers_for_client(headers: Headers, *, translated_to: str | None = None) -> Headers:
    """Return an upstream's headers that a client may see, besides the content type.

    Clients find the upstream's id of a request under the name that their dialect has for it: `translated_to`.
    """
    passed = [header for header in headers if _is_for_client(header[0])]
    if translated_to is None:
        return passed
    id_header = b"request-id" if translated_to == "anthropic" else b"x-request-id"
    return [(id_header if name in _REQUEST_IDS else name, value) for name, value in passed]


@lru_cache(maxsize=256)  # each upstream answers with the same names
def _is_for_client(name: bytes) -> bool:
    return name in _TO_CLIENT or name.startswith(_TO_CLIENT_PREFIXES)


@lru_cache(maxsize=1024)  # reasons and workloads, which are few
def ascii_of(text: str) -> bytes:
    """Return a text as a header can carry it."""
    return text.encode("ascii", "replace").translate(None, b"\r\n\0")


def retry_after_s(error: OwnwardError) -> float | None:
    """Return how long the client should wait, where that is known."""
    match error:
        case Rejected() | UpstreamError():
            return error.retry_after_s
        case LedgerError() | EngineError():
            return 1.0
        case _:
            return None


def retry_after_value(wait_s: float) -> bytes:
    """Return a wait as `Retry-After` has it: whole seconds, never fewer than it takes.

    >>> retry_after_value(0.2), retry_after_value(59.4)
    (b'1', b'60')
    """
    return b"%d" % max(1, math.ceil(wait_s))


def read_retry_after(stated: bytes, *, now: datetime) -> float | None:
    """Return the seconds that `Retry-After` states, as a number or as a date; None where it says neither."""
    try:
        wait_s = float(stated)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            wait_s = (parsedate_to_datetime(stated.decode("ascii")) - now).total_seconds()
        except (ValueError, TypeError):  # no date, or one without its zone
            return None
    return wait_s if 0 <= wait_s < float("inf") else None


def without_betas(headers: Headers, refused: Collection[bytes]) -> Headers:
    """Return headers without these values of `anthropic-beta`; without all of it where no other is left."""
    kept = []
    for name, value in headers:
        if name == b"anthropic-beta":
            value = b",".join(beta for beta in map(bytes.strip, value.split(b",")) if beta not in refused)  # noqa: PLW2901
        if value:
            kept.append((name, value))
    return kept
