"""What a transport says when it sends nothing: the address forbids it, or there is no connection."""

from __future__ import annotations

from ownward.core import PolicyRefusal, UpstreamUnreachable
from ownward.policy import Origin, is_forbidden_address, is_local_address


def check_address(address: str, upstream: str, origin: Origin, *, must_be_local: bool) -> None:
    """Do nothing where this upstream may be called at `address`.

    Raises: PolicyRefusal, if no upstream may be there, if it is stated to be local and is
    not, or if text would travel in the clear beyond a private network.
    """
    if is_forbidden_address(address):
        raise PolicyRefusal(
            f'upstream "{upstream}" resolves to {address}, where no upstream may be',
            where=str(origin),
            allowed="Loopback, private and public addresses; not link-local, multicast or unspecified ones",
            next_step="Nothing was sent. Check the url in the plan and what its host name resolves to",
        )
    if (must_be_local or origin.scheme == "http") and not is_local_address(address):
        raise refuse_address(upstream, origin, must_be_local=must_be_local)


def refuse_address(upstream: str, origin: Origin, *, must_be_local: bool) -> PolicyRefusal:
    """Return the refusal of an address that is not local, where it has to be."""
    if must_be_local:
        return PolicyRefusal(
            f'upstream "{upstream}" is stated to be local, and its address is not',
            where=str(origin),
            allowed="Loopback and private addresses (RFC 1918, RFC 4193)",
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
