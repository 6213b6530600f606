"""What an operator can set of the gateway; `config` builds it and nobody else reads files or the environment for it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from ownward.core import MIB, ConfigError, Fault
from ownward.policy import is_loopback_address

DEFAULT_PORT = 8484
_MAX_PORT = 65535
_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._-]{0,252})")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Where the gateway listens and the limits it keeps.

    `tls_cert_file` is the chain that the listener shows, `tls_key_file` its key (left out, in the same file). Beyond
    loopback TLS is a must, unless `allow_plaintext` says that whoever stands in front does it.
    `ready_file` receives `ownward.ready/1` once requests are accepted. `requires_keys` demands a key of the
    ledger on every endpoint but the health checks; without it the gateway listens on loopback only.
    `max_in_flight_requests` and `queue_per_tier_requests` bound what waits, and `max_bodies_bytes` the bodies of all
    requests together; above them the answer is 503 at once.
    `drain_s` is how long requests in flight may take to end after a stop signal.
    `deadline_s` is the time for everything before the first byte, all attempts together; `max_attempts` counts
    the first; retries may add at most `retry_fraction` to the load of upstreams that failed last, above `retry_burst`.
    `client_stall_s` cuts a client that reads nothing for so long while bytes wait for it.
    `stream_keep_alive_s` is how long a streamed answer may be silent, also before its first event, until a comment is
    sent that keeps its connection alive; 0 sends none.
    `gather_stream_s` is the longest that events of quick streams wait to be passed on together while many thousand a
    second come; 0 passes on each at once, always.
    `assumed_output_tokens` bounds the charge of a request where neither it nor its tier states a maximum.
    `detect_cpu_s` bounds the processor time in which one request is looked into; what is not examined by then counts as
    if something had been found.
    `keep_responses_s` is how long responses are kept that clients continue or fetch, counted from the last that
    continues them; 0 keeps none. Each key has at most `keep_responses_per_key` and `keep_bytes_per_key` of them, each
    with its input at most `keep_response_bytes`.
    `workers` processes serve one port; each has its share of the bounds on what runs and waits. `worker` is the number
    of this one.
    Raises: ConfigError, listing every value that cannot be.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    ready_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    allow_plaintext: bool = False
    requires_keys: bool = False
    max_body_bytes: int = 64 * MIB
    max_bodies_bytes: int = 2048 * MIB
    max_header_bytes: int = 64 * 1024
    max_answer_bytes: int = 256 * MIB
    header_timeout_s: float = 30.0
    body_timeout_s: float = 300.0
    keep_alive_s: float = 75.0
    max_connections: int = 12_000
    max_in_flight_requests: int = 10_000
    queue_per_tier_requests: int = 256
    queue_timeout_s: float = 60.0
    deadline_s: float = 600.0
    max_attempts: int = 6
    retry_fraction: float = 0.2
    retry_burst: int = 50
    client_stall_s: float = 60.0
    stream_keep_alive_s: float = 0.0
    drain_s: float = 30.0
    breaker_failures: int = 5
    breaker_wait_s: float = 1.0
    breaker_longest_wait_s: float = 60.0
    key_cache_s: float = 5.0
    gather_stream_s: float = 0.05
    assumed_output_tokens: int = 131_072
    detect_cpu_s: float = 1.0
    keep_responses_s: float = 0.0
    keep_responses_per_key: int = 1000
    keep_bytes_per_key: int = 64 * MIB
    keep_response_bytes: int = 4 * MIB
    workers: int = 1
    worker: int = 0

    def __post_init__(self) -> None:
        """Collect what cannot be and refuse it together."""
        faults = [*self._range_faults(), *(self._host_faults() or self._exposure_faults())]
        if faults:
            raise ConfigError(faults)

    @property
    def queue_share(self) -> int:
        """How many requests may wait for a tier in this process."""
        return self.queue_per_tier_requests // self.workers if self.workers > 1 else self.queue_per_tier_requests

    def base_url(self, port: int) -> str:
        """Return where clients connect, by the port that was bound."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls_cert_file is None else 'https'}://{host}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or is_loopback_address(self.host)

    def _host_faults(self) -> list[Fault]:
        """Refuse what is neither an address nor a name, before anything is said of who could reach it."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            if not _NAME.fullmatch(self.host):
                allowed = 'Write host = "127.0.0.1", host = "::1" without brackets, or a name; the port is port = 8484'
                return [_fault("host", f"is {self.host!r}, which is neither an IP address nor a name", allowed)]
        return []

    def _range_faults(self) -> list[Fault]:
        faults = []
        if not 0 <= self.port <= _MAX_PORT:
            faults.append(_fault("port", f"is {self.port}", f"0 (a free one) to {_MAX_PORT}"))
        positive = (
            "max_body_bytes", "max_bodies_bytes", "max_header_bytes", "max_answer_bytes", "header_timeout_s",
            "body_timeout_s", "keep_alive_s",
            "max_connections", "max_in_flight_requests", "queue_timeout_s", "deadline_s", "max_attempts",
            "client_stall_s", "breaker_failures", "breaker_wait_s", "breaker_longest_wait_s",
            "assumed_output_tokens", "workers", "detect_cpu_s",
            "keep_responses_per_key", "keep_bytes_per_key", "keep_response_bytes",
        )  # fmt: skip
        faults += [
            _fault(name, f"is {getattr(self, name)}", f"A number{_unit_of(name)} above 0")
            for name in positive
            if getattr(self, name) <= 0
        ]
        not_negative = (
            "queue_per_tier_requests",
            "retry_fraction",
            "retry_burst",
            "drain_s",
            "key_cache_s",
            "keep_responses_s",
            "gather_stream_s",
            "stream_keep_alive_s",
        )
        faults += [
            _fault(name, f"is {getattr(self, name)}", f"0{_unit_of(name).removeprefix(' of')} or more")
            for name in not_negative
            if getattr(self, name) < 0
        ]
        return faults

    def _exposure_faults(self) -> list[Fault]:
        faults = []
        if self.tls_key_file is not None and self.tls_cert_file is None:
            faults.append(_fault("tls_key_file", "is stated without tls_cert_file", "Both, or neither"))
        if self.is_loopback:
            return faults
        if not self.requires_keys:
            message = f"is {self.host!r}, which other machines can reach, while no keys are demanded"
            faults.append(
                _fault("host", message, 'Set requires_keys = true and make a key, or keep host = "127.0.0.1"')
            )
        if self.tls_cert_file is None and not self.allow_plaintext:
            message = f"is {self.host!r}, where keys and requests would travel unencrypted"
            allowed = (
                "State --tls-cert and --tls-key; or server.allow_plaintext = true, where a proxy in front has TLS;"
                ' or keep host = "127.0.0.1"'
            )
            faults.append(_fault("host", message, allowed))
        return faults


def _unit_of(name: str) -> str:
    """Return the unit that a setting's name ends with, as it stands behind a number; nothing where it counts.

    >>> _unit_of("deadline_s"), _unit_of("max_body_bytes"), _unit_of("max_attempts")
    (' of seconds', ' of bytes', '')
    """
    return " of seconds" if name.endswith("_s") else " of bytes" if name.endswith("_bytes") else ""


def _fault(key: str, message: str, allowed: str) -> Fault:
    return Fault(file="gateway settings", key=key, message=message, allowed=allowed)
