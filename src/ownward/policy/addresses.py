"""Which network addresses count as local, and which no request may ever go to.

Pure checks on address literals; the door resolves names and asks here about each result.
"""

from __future__ import annotations

import ipaddress

_LOCAL = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def is_local_address(address: str) -> bool:
    """Tell whether an IP literal is loopback or of a private network (RFC 1918, RFC 4193).

    Shared address space (100.64.0.0/10) is not private: carriers use it. What
    is no IP literal is not local. An IPv4 address inside IPv6 counts as IPv4.

    >>> is_local_address("127.0.0.1"), is_local_address("::ffff:10.1.2.3"), is_local_address("8.8.8.8")
    (True, True, False)
    """
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in _LOCAL if network.version == parsed.version)


def is_forbidden_address(address: str) -> bool:
    """Tell whether an IP literal is one that no upstream may have.

    Link-local (cloud metadata services answer at 169.254.169.254), multicast,
    unspecified and reserved addresses, and what is no IP literal.

    >>> is_forbidden_address("169.254.169.254"), is_forbidden_address("127.0.0.1")
    (True, False)
    """
    parsed = _parse(address)
    if parsed is None:
        return True
    if parsed.is_loopback:
        return False
    return parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
