"""What all calls of one request may use together under the caps of its strategy: held before each call is sent.

Budgets, which many requests share, are the ledger's; the calls of one request are all made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING

import msgspec

from ownward.core import PICOUSD_PER_USD, UpstreamTimeout, format_usd, picousd_to_usd
from ownward.gateway import json_body
from ownward.gateway.errors import OverBudget, UnboundedCharge

if TYPE_CHECKING:
    from ownward.gateway.placing.routing import Target
    from ownward.gateway.watching.metrics import CallEnd
    from ownward.strategies import Caps
    from ownward.upstreams import RawMembers

OF_STRATEGY = "strategy of workload"

_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Allowance:
    """One request's. `calls` are those of it that are over; the others count with the most that they may use."""

    __slots__ = ("_calls", "_caps", "_held", "_workload", "ends_s", "refused_by")

    def __init__(self, caps: Caps, workload: str, calls: Sequence[CallEnd], *, began_s: float) -> None:
        """Begin at `began_s`."""
        self._caps = caps
        self._workload = workload
        self._calls = calls
        self._held: dict[int, tuple[int, int]] = {}
        self.refused_by: str | None = None  # the cap into which a call did not fit
        self.ends_s = inf if caps.max_seconds is None else began_s + caps.max_seconds

    def hold(
        self,
        number: int,
        target: Target,
        *,
        charge_high_picousd: int | None,
        output_tokens_high: int,
        is_assumed: bool,
        why_unbounded: str | None,
    ) -> None:
        """Count a call that is about to be sent, with the most that it may use.

        Raises: OverBudget, if that does not fit beside what the others used or may use; UnboundedCharge, if it is not
        known and a cap of dollars holds it.
        """
        caps = self._caps
        charge = charge_high_picousd
        if caps.max_usd is not None:
            if charge is None and target.tier.kind == "owned" and target.bound is None:
                charge = 0  # without a price it charges nothing that is known
            elif charge is None or (is_assumed and charge):
                self.refused_by = f"max_usd = {caps.max_usd:f}"
                raise UnboundedCharge(OF_STRATEGY, self._workload, tier=target.tier.name, why=why_unbounded)
            used = self._compute_used_picousd()
            if used + charge > caps.max_usd * PICOUSD_PER_USD:
                raise self._refuse(
                    f"max_usd = {caps.max_usd:f}",
                    "more than the whole" if used == inf else format_usd(picousd_to_usd(int(used))),
                    f"up to {format_usd(picousd_to_usd(charge))}",
                )
        if caps.max_output_tokens is not None:
            tokens = self._compute_used_tokens()
            if is_assumed or tokens + output_tokens_high > caps.max_output_tokens:
                most = "nobody knows how many tokens" if is_assumed else f"up to {output_tokens_high} tokens"
                raise self._refuse(self.why_no_tokens, f"{tokens} tokens", most)
        self._held[number] = charge or 0, output_tokens_high

    def give_back(self, number: int) -> None:
        """Note that a call was not sent after all."""
        self._held.pop(number, None)

    @property
    def why_ends(self) -> str:
        """The cap that ends it in time."""
        return f"max_seconds = {self._caps.max_seconds:g}"

    @property
    def why_no_tokens(self) -> str:
        """The cap that ends it by the length of answers."""
        return f"max_output_tokens = {self._caps.max_output_tokens}"

    def is_late(self, now_s: float) -> bool:
        """Return whether the time is over."""
        return now_s >= self.ends_s

    def compute_tokens_left(self) -> int | None:
        """Return how many tokens of output may still be made; None without a cap of them."""
        most = self._caps.max_output_tokens
        return None if most is None else max(most - self._compute_used_tokens(), 0)

    def describe_end(self) -> UpstreamTimeout:
        """Return what a client is told whose time is over."""
        return UpstreamTimeout(
            f"the {OF_STRATEGY} {self._workload!r} had no whole answer within {self.why_ends}",
            allowed="All calls of a request together take no longer; what ran is cancelled, and may have been charged",
            next_step="Raise max_seconds of the strategy in the plan, or ask for a shorter answer",
        )

    def _refuse(self, cap: str, used: str, wanted: str) -> OverBudget:
        self.refused_by = cap
        return OverBudget(
            f"the {OF_STRATEGY} {self._workload!r} has {cap}, of which {used} are used, and this call may use {wanted}",
            allowed="Calls that fit into what is left with the most that they may use",
            next_step=f"Ask for less with a lower max_tokens, or raise {cap.partition(' ')[0]} in the plan",
            retry_after_s=None,
            of=OF_STRATEGY,
        )

    def _compute_used_picousd(self) -> float:
        """Return what the calls so far were charged, or may have been at most."""
        over = {call.number: most_picousd(call) for call in self._calls}
        return sum(over.values()) + sum(held[0] for number, held in self._held.items() if number not in over)

    def _compute_used_tokens(self) -> int:
        over = {call.number: call for call in self._calls}
        used = 0
        for number, held in self._held.items():
            call = over.get(number)
            if call is None or (call.usage is None and call.state != "failed"):
                used += held[1]
            elif call.usage is not None:
                used += call.usage.output_tokens
        return used


def most_picousd(call: CallEnd) -> float:
    """Return the most that a call which is over may have been charged."""
    if call.state == "failed":
        return 0
    most = call.charge_high_picousd if call.charge_picousd is None else call.charge_picousd
    if most is not None:
        return most
    return 0 if call.target.tier.kind == "owned" else inf


def most_usd(call: CallEnd) -> Decimal:
    """Return the same in dollars."""
    most = most_picousd(call)
    return Decimal("Infinity") if most == inf else picousd_to_usd(int(most))


def read_limit(top: RawMembers) -> int | None:
    """Return the lowest number of tokens that a request lets its answer have; None where it states none."""
    written = [json_body.written(top, name) for name in _LIMITS]
    return min((int(value) for value in written if value.isdigit()), default=None)


def with_limit(members: RawMembers, limit: int, *, otherwise: str) -> RawMembers:
    """Return the members of a request whose answer may have `limit` tokens at most, as member `otherwise` if none says.

    What it states itself stays where it is lower.
    """
    lowered = dict(members)
    stated = [name for name in _LIMITS if json_body.written(members, name) not in {b"", b"null"}]
    for name in stated or [otherwise]:
        value = json_body.written(members, name)
        if not value.isdigit() or int(value) > limit:
            lowered[name] = msgspec.Raw(b"%d" % limit)
    return lowered


def limited_body(body: bytes, limit: int, *, otherwise: str) -> bytes:
    """Return a request as `with_limit` makes it; as it is where nothing changes."""
    members = json_body.read_members(body)
    lowered = with_limit(members, limit, otherwise=otherwise)
    return body if lowered == members else msgspec.json.encode(lowered)
