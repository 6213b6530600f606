"""Requests of web pages of other places: which are, and what a browser is told so that those that may ask can read.

Where keys are demanded, the key says who asks, whatever page shows it: no cookie is looked at. Where none are, only
pages of this machine are answered at all.
Source: the Fetch standard, section 3.3 (CORS protocol).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ownward.gateway.asgi import Headers, Scope
from ownward.policy import is_loopback_address

_HTTP_PORT: Final = 80
_MAX_AGE_S = b"600"
_NOT_IN_PUBLIC_DNS: Final = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".test")
"""Names that nobody can register (RFC 6761, 6762, 8375, ICANN's .internal; .lan by custom): host.docker.internal."""

_FORWARDED = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"cf-connecting-ip"}
)


def is_foreign(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a web page of another place sends the request: no page may use a gateway that asks for no key.

    A browser leaves `origin` out where it takes the gateway for the page's own server, which a name that was made to
    lead here brings about (DNS rebinding): then `host` has that name, and our port. What else is in a request that only
    reads, a page may state as it likes, in Firefox `user-agent` too; programs reach a gateway by names that no page can
    have, or through a proxy at a port of its own.
    """
    origin = headers.get(b"origin")
    if origin is not None:
        return is_foreign_origin(origin)
    host, port = _host_and_port(headers)
    if headers.get(b"user-agent", b"").startswith(b"Mozilla/"):
        return not _is_here(host)
    our_port = (scope.get("server") or (None, port))[1]
    return host is None or (port == our_port and not _is_of_no_page(host))


def is_foreign_origin(origin: bytes) -> bool:
    """Return whether a page of this origin is one of another place."""
    return not _is_here(_host_of(origin))


def is_by_name_of_here(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the request names this machine as only programs and pages on it do."""
    return _is_here(_host_and_port(headers)[0])


def is_forwarded(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a proxy passes the request on, and says so: then who asks may be anywhere."""
    return not _FORWARDED.isdisjoint(headers)


def _host_of(url: bytes) -> str | None:
    return _split(url)[0]


def _host_and_port(headers: Mapping[bytes, bytes]) -> tuple[str | None, int]:
    return _split(b"//" + headers.get(b"host", b""))


def _split(url: bytes) -> tuple[str | None, int]:
    """Return the host in lower case, without the root's dot, and the port; no host, if they cannot be read."""
    try:
        parts = urlsplit(url.decode("latin-1"))
        return (parts.hostname or "").rstrip("."), parts.port or _HTTP_PORT
    except ValueError:
        return None, _HTTP_PORT


def _is_here(host: str | None) -> bool:
    return host is not None and (host == "localhost" or host.endswith(".localhost") or is_loopback_address(host))


def _is_of_no_page(host: str) -> bool:
    """Return whether no page of the internet can have this name: an address, a name of one network, or our own."""
    if "." not in host or host.endswith(_NOT_IN_PUBLIC_DNS) or host == socket.gethostname().lower():
        return True
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def readable_by_page(headers: Mapping[bytes, bytes], *, demands_keys: bool) -> Headers:
    """Return the headers of an answer that let the page that asks read it; none where no page asks, or none may."""
    origin = headers.get(b"origin")
    if origin is None or not (demands_keys or not is_foreign_origin(origin)):
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
