"""One GET through the outbound door, redirects followed: never unencrypted, never back to this machine."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from ownward.policy import ANY, Place, issue_permit
from ownward.upstreams import Door, Response, Timeouts

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

Headers = list[tuple[bytes, bytes]]


class Astray(Exception):
    """An address that is not followed; its text ends the sentence "X could not be fetched: …"."""


async def follow(
    door: Door, url: str, *, upstream: str, headers: Headers, timeouts: Timeouts, secret: Headers | None = None
) -> tuple[Response, str]:
    """Return the answer of `url`, or of where it leads, and that address.

    `secret` headers go to the first address's own origin alone.
    Raises: Astray; what the door raises.
    """
    first = urlsplit(url)
    for _ in range(_MAX_REDIRECTS):
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_local = is_this_machine(host)
        if parts.scheme not in {"http", "https"} or (parts.scheme == "http" and not is_local):
            raise Astray(f"it redirects to {parts.scheme}://{host}, which is not encrypted")
        if is_local and not is_this_machine(first.hostname):
            raise Astray(f"it redirects to {host}, which is this machine")
        permit = issue_permit(
            label=ANY,  # a download carries no request's data
            place=Place(is_local=is_local, provider=None if is_local else host),
            upstream=upstream,
            origin=url,
            body=b"",
        )
        is_home = (parts.scheme, parts.netloc) == (first.scheme, first.netloc)
        response = await door.send(
            permit,
            method="GET",
            target=f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
            headers=[
                (b"accept", b"*/*"),
                (b"accept-encoding", b"identity"),
                *headers,
                *(secret if secret and is_home else []),
            ],
            timeouts=timeouts,
        )
        location = response.header(b"location")
        if response.status not in _REDIRECTS or location is None:
            return response, url
        response.abort()
        try:
            url = urljoin(url, location.decode("latin-1"))
            urlsplit(url)
        except ValueError:
            raise Astray("it leads to something that is not an address") from None
    raise Astray(f"it redirects more than {_MAX_REDIRECTS} times")


def is_this_machine(host: str | None) -> bool:
    """Return whether a host is this machine by name or literal, where nothing need be encrypted."""
    return host in _THIS_MACHINE
