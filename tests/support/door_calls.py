"""Calls through the door, permitted as they should be."""

from __future__ import annotations

from ownward.policy import LOCAL_ONLY, Label, Permit, Place, issue_permit
from ownward.upstreams import Door, Response, Timeouts

HERE = Place(is_local=True)
QUICK = Timeouts(connect_s=2, first_byte_s=2, stall_s=2)


def permit_for(origin: str, body: bytes = b"", *, label: Label = LOCAL_ONLY, place: Place = HERE) -> Permit:
    """Return a permit for a body that stays on this machine, unless stated otherwise."""
    return issue_permit(label=label, place=place, upstream="u", origin=origin, body=body)


async def call(
    door: Door, origin: str, body: bytes = b"{}", *, method: str = "POST", timeouts: Timeouts = QUICK, headers=()
) -> Response:
    """Send a body to `/v1/x` and return the answer's beginning."""
    return await door.send(
        permit_for(origin, body), method=method, target="/v1/x", headers=headers, body=body, timeouts=timeouts
    )
