"""What a browser is told so that a page of another origin may ask and read: those that are permitted anyway.

Where keys are demanded, the key says who asks, whatever page shows it: no cookie is looked at. Where none are, only
pages of this machine are answered at all.
Source: the Fetch standard, section 3.3 (CORS protocol).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ownward.gateway.headers import is_foreign

Headers = list[tuple[bytes, bytes]]

_MAX_AGE_S = b"600"


def readable_by_page(headers: Mapping[bytes, bytes], *, demands_keys: bool) -> Headers:
    """Return the headers of an answer that let the page that asks read it; none where no page asks, or none may."""
    origin = headers.get(b"origin")
    if origin is None or not (demands_keys or not is_foreign(headers)):
        return []
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"*"), (b"vary", b"origin")]


def answer_preflight(headers: Mapping[bytes, bytes], *, methods: Sequence[str], demands_keys: bool) -> Headers | None:
    """Return the answer to a browser that asks whether a page may send a request; None, if this is no such question."""
    readable = readable_by_page(headers, demands_keys=demands_keys)
    if not readable or not methods or b"access-control-request-method" not in headers:
        return None
    return [
        *readable,
        (b"access-control-allow-methods", ", ".join(methods).encode("ascii")),
        (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", _MAX_AGE_S),
    ]
