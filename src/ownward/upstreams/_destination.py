"""What a transport says when it sends nothing: the address forbids it, or there is no connection."""

from __future__ import annotations

from ownward.core import PolicyRefusal, UpstreamUnreachable
from ownward.policy import Origin, Reach, is_forbidden_address, is_loopback_address, is_private_address


def check_address(address: str, upstream: str, origin: Origin, *, reach: Reach) -> None:
    """Do nothing where this upstream may be called at `address`.

    Raises: PolicyRefusal, if no upstream may be there, if it is beyond what its place
    reaches, or if text would travel in the clear beyond a private network.
    """
    if is_forbidden_address(address):
        raise PolicyRefusal(
            f'upstream "{upstream}" resolves to {address}, where no upstream may be',
            where=str(origin),
            allowed="Loopback, private and public addresses; not link-local, multicast or unspecified ones",
            next_step="Nothing was sent. Check the url in the plan and what its host name resolves to",
        )
    if not is_within(reach, origin, is_loopback=is_loopback_address(address), is_private=is_private_address(address)):
        raise refuse_address(upstream, origin, reach=reach)


def is_within(reach: Reach, origin: Origin, *, is_loopback: bool, is_private: bool) -> bool:
    """Tell whether an address is one that a call of this reach and scheme may go to."""
    match reach:
        case "machine":
            return is_loopback
        case "site":
            return is_private
        case "anywhere":
            return is_private or origin.scheme == "https"


def refuse_address(upstream: str, origin: Origin, *, reach: Reach) -> PolicyRefusal:
    """Return the refusal of an address that is further away than it may be."""
    if reach != "anywhere":
        where, allowed = {
            "machine": ("on this machine", "Loopback addresses"),
            "site": ("on your own network", "Loopback and private addresses (RFC 1918, RFC 4193)"),
        }[reach]
        return PolicyRefusal(
            f'upstream "{upstream}" is stated to be {where}, and its address is not',
            where=str(origin),
            allowed=allowed,
            next_step="Nothing was sent. State the tier's region and provider in the plan, or correct its url",
        )
    return PolicyRefusal(
        f'upstream "{upstream}" is remote and its url is not encrypted',
        where=str(origin),
        allowed="http to loopback and private addresses, https to everywhere",
        next_step="Nothing was sent. Write the url with https:// in the plan",
    )


def unreachable(upstream: str, origin: Origin, what: str) -> UpstreamUnreachable:
    """Return the error of a call that certainly nothing has accepted."""
    return UpstreamUnreachable(f'upstream "{upstream}" {what}', where=str(origin), next_step="Nothing was sent")
