"""Where a call goes, and what a transport says when it sends nothing there: it may not, or there is no connection."""

from __future__ import annotations

from typing import NamedTuple, get_args

from ownward.core import PolicyRefusal, UpstreamUnreachable
from ownward.policy import Origin, Reach, is_forbidden_address, is_loopback_address, is_private_address


class Destination(NamedTuple):
    """An upstream by its name and origin, and how far away an address of it may be."""

    upstream: str
    origin: Origin
    reach: Reach

    def check(self, address: str) -> None:
        """Do nothing where this upstream may be called at `address`.

        Raises: PolicyRefusal, if no upstream may be there, if it is beyond what its place
        reaches, or if text would travel in the clear beyond a private network.
        """
        if is_forbidden_address(address):
            raise PolicyRefusal(
                f'upstream "{self.upstream}" resolves to {address}, where no upstream may be',
                where=str(self.origin),
                allowed="Loopback, private and public addresses; not link-local, multicast or unspecified ones",
                next_step="Nothing was sent. Check the url in the plan and what its host name resolves to",
            )
        if self.reach not in reaches_of(self.origin, address):
            raise self.refused()

    def refused(self) -> PolicyRefusal:
        """Return the refusal of an address that is further away than it may be."""
        if self.reach != "anywhere":
            where, allowed = {
                "machine": ("on this machine", "Loopback addresses"),
                "site": ("on your own network", "Loopback and private addresses (RFC 1918, RFC 4193)"),
            }[self.reach]
            return PolicyRefusal(
                f'upstream "{self.upstream}" is stated to be {where}, and its address is not',
                where=str(self.origin),
                allowed=allowed,
                next_step="Nothing was sent. State the tier's region and provider in the plan, or correct its url",
            )
        return PolicyRefusal(
            f'upstream "{self.upstream}" is remote and its url is not encrypted',
            where=str(self.origin),
            allowed="http to loopback and private addresses, https to everywhere",
            next_step="Nothing was sent. Write the url with https:// in the plan",
        )

    def unreachable(self, what: str) -> UpstreamUnreachable:
        """Return the error of a call that certainly nothing has accepted."""
        return UpstreamUnreachable(
            f'upstream "{self.upstream}" {what}', where=str(self.origin), next_step="Nothing was sent"
        )


def reaches_of(origin: Origin, address: str) -> frozenset[Reach]:
    """Return of which reaches a call to `origin` may go to `address`."""
    is_loopback, is_private = is_loopback_address(address), is_private_address(address)
    return frozenset(
        [
            reach
            for reach in get_args(Reach)
            if _is_within(reach, origin, is_loopback=is_loopback, is_private=is_private)
        ]
    )


def _is_within(reach: Reach, origin: Origin, *, is_loopback: bool, is_private: bool) -> bool:
    match reach:
        case "machine":
            return is_loopback
        case "site":
            return is_private
        case "anywhere":
            return is_private or origin.scheme == "https"
