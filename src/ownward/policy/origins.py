"""Origins: scheme, host and port of an upstream, in one spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from ownward.core import UsageError

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?|[0-9a-f:.]{2,45}")
_ALLOWED = 'An origin is scheme, host and port: "https://api.example.com", "http://127.0.0.1:8080"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where connections are opened to; `str` gives the one spelling, with default ports left out."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    host_header: str = field(init=False, repr=False, compare=False)
    """The `host` header's value: the port is left out where it is the scheme's own."""
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Spell it once: every call shows it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        host_header = host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"
        object.__setattr__(self, "host_header", host_header)
        object.__setattr__(self, "_text", f"{self.scheme}://{host_header}")

    @staticmethod
    def parse(url: str) -> Origin:
        """Return the origin of a URL; path, query and fragment are left out.

        Raises: UsageError, if it is not http(s), has no host, or carries user and password.

        >>> str(Origin.parse("HTTPS://API.Example.com:443/v1"))
        'https://api.example.com'
        """
        return _parse(url)

    def __hash__(self) -> int:
        """Return the hash of the one spelling, which every call asks for."""
        return hash(self._text)

    def __str__(self) -> str:
        """Return `scheme://host[:port]`."""
        return self._text


@lru_cache(maxsize=1024)
def _parse(url: str) -> Origin:
    if not url.isprintable():
        raise _refuse()  # urlsplit would drop line breaks unsaid
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise _refuse() from None
    if scheme not in {"http", "https"} or not host or "@" in parts.netloc or _HOST.fullmatch(host.lower()) is None:
        raise _refuse()
    default = _default_port(scheme)
    return Origin(scheme="https" if scheme == "https" else "http", host=host.lower(), port=port or default)


def _refuse() -> UsageError:
    # The text itself stays out of the message: it may hold a password.
    return UsageError("an upstream's url is not an http(s) origin", allowed=_ALLOWED)


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
