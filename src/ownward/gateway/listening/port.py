"""Sockets that listen at one address: alone, or together where several processes serve it."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Mapping
from typing import Final

from ownward.core import ConfigError, Fault, PortTaken

_BACKLOG: Final = 2048
_REMEDIES: Final[Mapping[int, tuple[str, str]]] = {
    errno.EACCES: ("port", "A port from 1024 on, or the capability CAP_NET_BIND_SERVICE for this process"),
    errno.EADDRNOTAVAIL: ("host", "An address of this machine (ip address shows them), or 0.0.0.0 for all of them"),
    errno.EINVAL: ("host", "An address of this machine (ip address shows them), with its interface: fe80::1%eth0"),
    errno.EAFNOSUPPORT: ("host", "An address of IPv4: this machine has no IPv6"),
}
_NO_NAME: Final = ("host", "An IP address, or a name that this machine knows (/etc/hosts, DNS)")


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a socket bound to the address; `is_shared`, where others that are shared may be bound to it too.

    Raises: PortTaken, naming the address; ConfigError, where nobody could listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # asyncio turns Nagle's algorithm off only where the protocol is named; a kept-alive answer then waits 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _refusal(host, port, error) from error
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _refusal(host, port, error) from error
    listener.settimeout(0)
    return listener


def _refusal(host: str, port: int, error: OSError) -> PortTaken | ConfigError:
    """Return what to tell: a port that somebody has can become free, an address that is not ours cannot."""
    cannot = f"cannot listen on {f'[{host}]' if ':' in host else host}:{port}: {error.strerror}"
    remedy = _NO_NAME if isinstance(error, socket.gaierror) else _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return PortTaken(
            cannot,
            allowed="Port 0 takes a free one",
            next_step="Stop what listens there, or choose another port with --port",
        )
    key, allowed = remedy
    value = repr(host) if key == "host" else str(port)
    return ConfigError([Fault(file="gateway settings", key=key, message=f"is {value}: {cannot}", allowed=allowed)])


def listen_together(host: str, port: int, *, count: int) -> list[socket.socket]:
    """Return listening sockets of one address, over which Linux spreads connections evenly; elsewhere one for all.

    They stay open in the parent, so that what waits in one is not lost with the worker that accepts from it.
    Raises: PortTaken, ConfigError.
    """
    if sys.platform != "linux":
        only = bind(host, port)
        only.listen(_BACKLOG)
        return [only]
    with bind(host, port) as alone:  # tells whether somebody else has the port, who may share it as well
        port = alone.getsockname()[1]
    listeners = [bind(host, port, is_shared=True) for _ in range(count)]
    for listener in listeners:
        listener.listen(_BACKLOG)
    return listeners


def socket_of(descriptor: int) -> socket.socket:
    """Return the listening socket that the parent handed over."""
    listener = socket.socket(fileno=descriptor)
    listener.settimeout(0)
    return listener
