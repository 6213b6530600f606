"""What is refused before it is a request: the answers to it, none of which keeps the connection."""

from __future__ import annotations

_THERE = b" under [gateway] in ownward.toml"


def _whole(status: bytes, message: bytes, *, kind: bytes = b"invalid_request_error", more: bytes = b"") -> bytes:
    body = b'{"error": {"message": "%b", "type": "%b", "code": null}}' % (message, kind)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


MALFORMED = _whole(b"400 Bad Request", b"the request is not well-formed HTTP (RFC 9112)")
TOO_LARGE = _whole(
    b"431 Request Header Fields Too Large",
    b"the request's headers are too large: send fewer and shorter ones, or raise max_header_bytes" + _THERE,
)
TIMED_OUT = _whole(
    b"408 Request Timeout",
    b"the request's headers did not arrive in time: send faster, or raise header_timeout_s" + _THERE,
)
BUSY = _whole(
    b"503 Service Unavailable",
    b"too many connections are open: try again in a second, or raise max_connections" + _THERE,
    kind=b"overloaded_error",
    more=b"retry-after: 1\r\n",
)
MISLED = _whole(b"417 Expectation Failed", b"the only expectation that is met is 100-continue")


class Refused(Exception):
    """Raised through the parser to stop it; carries the answer."""

    def __init__(self, answer: bytes) -> None:
        """Keep what to say."""
        super().__init__()
        self.answer = answer
