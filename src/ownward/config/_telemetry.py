"""Where spans go: the variables of OpenTelemetry's exporters, read only where the settings ask for spans."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ownward.core import ConfigError, Fault

_PREFIX = "OTEL_EXPORTER_OTLP_"
_DEFAULT = "http://127.0.0.1:4318"
_PROTOCOL = "http/protobuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanDestination:
    """The collector's address for spans, and the headers that it wants, which may hold a key and are shown nowhere."""

    url: str
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)


def resolve_span_destination(environ: Mapping[str, str] | None = None) -> SpanDestination:
    """Return what `OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT`, `…_HEADERS` and `…_PROTOCOL` say; a collector here otherwise.

    Raises: ConfigError, naming the variable that cannot be.
    """
    variables = os.environ if environ is None else environ

    def stated(name: str) -> tuple[str, str]:
        for variable in (f"{_PREFIX}TRACES_{name}", _PREFIX + name):
            if variables.get(variable, "").strip():
                return variable, variables[variable].strip()
        return _PREFIX + name, ""

    variable, protocol = stated("PROTOCOL")
    if protocol and protocol != _PROTOCOL:
        raise _fault(variable, f"is {protocol!r}", f"Only {_PROTOCOL}, which collectors take at port 4318")
    variable, endpoint = stated("ENDPOINT")
    url = endpoint or _DEFAULT
    if "TRACES" not in variable:
        url = f"{url.rstrip('/')}/v1/traces"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise _fault(variable, "is not the address of a collector", f"As in {_DEFAULT}; keys go into {_PREFIX}HEADERS")
    variable, listed = stated("HEADERS")
    headers = []
    for pair in filter(None, (part.strip() for part in listed.split(","))):
        name, equals, value = pair.partition("=")
        decoded = unquote(value).strip()
        if not equals or not name.strip().replace("-", "").isalnum() or not (decoded + name).isascii():
            raise _fault(variable, "has a part that is not a header", "name=value, with commas between")
        if not decoded.isprintable():
            raise _fault(variable, "has a value that no header can carry", "Printable ASCII")
        headers.append((name.strip().lower().encode("ascii"), decoded.encode("ascii")))
    return SpanDestination(url=url, headers=tuple(headers))


def _fault(variable: str, message: str, allowed: str) -> ConfigError:
    return ConfigError([Fault(file="environment", key=variable, message=message, allowed=allowed)])
