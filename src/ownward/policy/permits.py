"""Permits: what every outbound call shows at the door, and the one function that issues them."""

from __future__ import annotations

import hashlib
from typing import NoReturn, final

from ownward.core import PolicyRefusal
from ownward.policy.labels import Label, Place
from ownward.policy.origins import Origin


class _Draft:
    """What a permit says, while it is still written; it opens no door."""

    __slots__ = ("_body", "body_sha256", "label", "origin", "place", "upstream")

    label: Label
    place: Place
    upstream: str
    origin: Origin
    body_sha256: str
    _body: bytes


@final
class Permit(_Draft):
    """Leave for one body to travel to one origin under one label.

    Issued by `issue_permit` alone: it cannot be made by hand, changed, copied
    with changes or read from a pickle. This guards against mistakes in our own
    code, not against code that sets out to break it.
    """

    __slots__ = ()

    def __init__(self, *_args: object, **_named: object) -> None:
        """Refuse: `issue_permit` makes them, without asking here."""
        message = "a Permit is issued by ownward.policy.issue_permit, which checks the label first"
        raise TypeError(message)

    def covers(self, body: bytes) -> bool:
        """Tell whether `body` is, byte for byte, what the permit was issued for."""
        # The very same immutable object needs no second digest.
        return body is self._body or hashlib.sha256(body).hexdigest() == self.body_sha256

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: a permit does not change."""
        message = f"a Permit does not change; {name} stays as issued"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: a permit does not change."""
        message = f"a Permit does not change; {name} stays as issued"
        raise AttributeError(message)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        message = "a Permit is not copied or pickled; issue a new one"
        raise TypeError(message)

    def __repr__(self) -> str:
        """Return who may go where, without the body."""
        return f"<Permit {self.upstream!r} {self.origin} label={self.label} sha256={self.body_sha256[:12]}>"


def issue_permit(
    *, label: Label, place: Place, upstream: str, origin: str, body: bytes, workload: str | None = None
) -> Permit:
    """Return the permit for sending `body` to `upstream` at `origin`, if `label` allows its place.

    `workload` names the plan's table in the refusal.

    Raises: PolicyRefusal, saying which label forbids which upstream and which
    line of the plan would allow it; UsageError, if `origin` is none.
    """
    unchanging = bytes(body)  # a bytearray could change after the check; bytes stay the very same object
    parsed = Origin.parse(origin)
    if not label.permits(place):
        raise _refuse(label, place, upstream, workload)
    draft = _Draft()
    draft.label = label
    draft.place = place
    draft.upstream = upstream
    draft.origin = parsed
    draft._body = unchanging  # noqa: SLF001 - written here, and kept from others
    draft.body_sha256 = hashlib.sha256(unchanging).hexdigest()
    draft.__class__ = Permit  # from here on nothing of it can be set
    return draft  # type: ignore[return-value]


def _refuse(label: Label, place: Place, upstream: str, workload: str | None) -> PolicyRefusal:
    table = f"[workloads.{workload}]" if workload else "the workload's table"
    if place.is_on_site:
        step = f'Write in the plan, in {table}: label = "site"'
    elif place.region is not None:
        step = f'Write in the plan, in {table}: label = "{place.region}"'
    elif place.provider is not None:
        step = f'Write in the plan, in {table}: label = "provider:{place.provider}"'
    else:
        step = f'Say where it is, in its [tiers.NAME]: region = "eu"; then in {table}: label = "eu"'
    return PolicyRefusal(
        f'label "{label}" does not let this request\'s data travel to upstream "{upstream}" ({place})',
        where=f"workload {workload}" if workload else None,
        allowed=f"It may go to {_reach(label)}; headers and keys can only narrow that",
        next_step=f"Nothing was sent. {step}, if its data may go there",
    )


def _reach(label: Label) -> str:
    return "this machine alone" if label.is_local_only else f"this machine and: {label}"
