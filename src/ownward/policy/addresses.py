"""Which network addresses are this machine's and its owner's, and which no request may ever go to.

Pure checks on address literals; the door resolves names and asks here about each result.
"""

from __future__ import annotations

import ipaddress

_LOOPBACK = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def is_loopback_address(address: str) -> bool:
    """Tell whether an IP literal is this machine's own, which no other can be reached by.

    What is no IP literal is not. An IPv4 address inside IPv6 counts as IPv4.

    >>> is_loopback_address("127.0.0.1"), is_loopback_address("::1"), is_loopback_address("10.1.2.3")
    (True, True, False)
    """
    return _is_in(_LOOPBACK, address)


def is_private_address(address: str) -> bool:
    """Tell whether an IP literal is loopback or of a private network (RFC 1918, RFC 4193).

    Shared address space (100.64.0.0/10) is not private: carriers use it. What
    is no IP literal is not. An IPv4 address inside IPv6 counts as IPv4.

    >>> is_private_address("127.0.0.1"), is_private_address("::ffff:10.1.2.3"), is_private_address("8.8.8.8")
    (True, True, False)
    """
    return _is_in(_LOOPBACK, address) or _is_in(_PRIVATE, address)


def is_forbidden_address(address: str) -> bool:
    """Tell whether an IP literal is one that no upstream may have.

    Link-local (cloud metadata services answer at 169.254.169.254) and the other
    addresses of metadata services, multicast, unspecified and reserved ones,
    IPv4 addresses inside IPv6 (NAT64, 6to4) that are not mapped, and what is no IP literal.

    >>> is_forbidden_address("169.254.169.254"), is_forbidden_address("127.0.0.1")
    (True, False)
    """
    parsed = _parse(address)
    if parsed is None:
        return True
    if parsed.is_loopback:
        return False
    if parsed in _METADATA or (isinstance(parsed, ipaddress.IPv6Address) and parsed.sixtofour is not None):
        return True
    return parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved


def is_forbidden_literal(host: str) -> bool:
    """Tell whether a host is an IP literal that no upstream may have; a name says nothing before it is resolved.

    >>> is_forbidden_literal("169.254.169.254"), is_forbidden_literal("metadata.example"), is_forbidden_literal("::1")
    (True, False, False)
    """
    return _parse(host) is not None and is_forbidden_address(host)


_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        # AWS over IPv6, Google over IPv6, Alibaba, Azure's host agent, Oracle; the others answer at link-local ones.
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)


def _is_in(networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], address: str) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks if network.version == parsed.version)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
