"""One candidate after another until one has answered: which is asked next, and what the client gets where none has.

What one call does stands in `attempt`, a second one beside it in `race`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ownward.core import LedgerError, PolicyRefusal
from ownward.gateway.calling.allowance import OF_STRATEGY
from ownward.gateway.calling.attempt import Attempt, is_of_kept_connection
from ownward.gateway.calling.continuing import Continuing
from ownward.gateway.calling.race import Race, find_pace
from ownward.gateway.calling.sink import Retry, Sink, forget_frames
from ownward.gateway.errors import (
    Incapable,
    NoUpstream,
    OverBudget,
    OverLimit,
    Overloaded,
    UnboundedCharge,
)
from ownward.gateway.headers import retry_after_s, retry_after_value
from ownward.gateway.holding.admission import Spill
from ownward.gateway.placing.no_target import refuse_anew

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.holding.admission import Slots
    from ownward.gateway.placing.routing import Target

_ALL_WENT_DOWN = "every upstream that could serve the request went down while it waited"


class Failover:
    """The candidates of a request, or of one call of its strategy, in the order in which they are asked."""

    __slots__ = (
        "_asked_again",
        "_body",
        "_candidates",
        "_exchange",
        "_failed_target",
        "_forbidden",
        "_instead",
        "_is_last_resort",
        "_last_failure",
        "_over_budget",
        "_overloaded",
        "_reserved",
        "_sink",
        "_tried",
        "_untranslatable",
        "_went_down",
    )

    def __init__(self, exchange: Served, targets: Iterable[Target], body: bytes, sink: Sink) -> None:
        """Begin; no upstream is asked yet."""
        self._exchange = exchange
        self._candidates = list(targets)
        self._body = body
        self._sink = sink
        self._tried = 0
        self._asked_again = False
        self._is_last_resort = False
        self._last_failure: Retry | None = None
        self._failed_target: Target | None = None
        self._overloaded: Overloaded | None = None
        self._over_budget: OverBudget | UnboundedCharge | OverLimit | None = None
        self._forbidden: PolicyRefusal | None = None
        self._untranslatable: Incapable | None = None
        self._went_down: list[Target] = []
        self._instead: tuple[Target, bytes] | None = None  # what a target is asked that refused a part of the request
        self._reserved: Slots | None = None  # which hold a place for the first of `_candidates`

    async def run(self) -> Attempt | None:
        """Ask until one has answered; return that attempt, or None where the sink has a refusal.

        Raises: what to tell the client, if none has answered.
        """
        candidates, sink, exchange, gateway = self._candidates, self._sink, self._exchange, self._exchange.gateway
        while candidates or self._adds_last_resorts():
            target = candidates.pop(0)
            if isinstance(sink, Continuing) and not sink.can_take(target):
                continue
            if self._tried and not self._may_retry(target):
                continue
            slots = gateway.slots[target.tier.name]
            if self._reserved is None and not slots.try_acquire() and not await self._wait_for_slot(target, slots):
                continue
            self._reserved = None
            try:
                if gateway.table is not exchange.heeded:
                    await exchange.heed_new_plan()
                if not self._may_be_sent(target):
                    continue
                attempt, race = self._make_attempt(target)
                try:
                    if race is not None:
                        return await race.run(attempt)
                    await attempt.run()
                except (Retry, Incapable, OverBudget, UnboundedCharge, OverLimit) as error:
                    if not self._may_go_on(error, attempt, race):
                        raise
                except (LedgerError, asyncio.CancelledError):  # neither is followed by another call
                    if not attempt.was_sent and (race is None or race.calls == 1):
                        self._undo(attempt.number)
                    raise
                else:
                    return attempt
            finally:
                slots.release()
        if self._last_failure is None:
            why = self._over_budget or self._overloaded or self._forbidden or self._untranslatable
            raise why or NoUpstream(_ALL_WENT_DOWN, retry_after_s=1.0)
        await _answer_refusal(self._last_failure, sink)
        return None

    def _adds_last_resorts(self) -> bool:
        """Add the upstreams whose breakers had shut them out; return whether there are any.

        One of them may have recovered unseen. The calls of a strategy stay within their own tier.
        """
        choice = self._exchange.choice
        if self._is_last_resort or choice is None or not self._sink.takes_hedge:
            return False
        self._is_last_resort = True
        self._candidates += [target for target in (*choice.left_alone, *self._went_down) if self._is_up(target)]
        return bool(self._candidates)

    def _make_attempt(self, target: Target) -> tuple[Attempt, Race | None]:
        """Return the next call, and the race that runs it where it may be hedged."""
        exchange, sink = self._exchange, self._sink
        if self._tried:
            exchange.gateway.counting.retried(exchange, target)
        self._tried += 1
        number = exchange.attempts = exchange.attempts + 1
        exchange.target = target
        body = self._body
        if self._instead is not None and self._instead[0] is target:
            body = self._instead[1]
        attempt = Attempt(exchange, target, number, sink.body_for(target, body), sink)
        pace = None if target.tier.hedge is None else find_pace(exchange, target, sink)
        return attempt, None if pace is None else Race(exchange, sink, pace, self._candidates, self._body)

    def _may_go_on(
        self, error: Retry | Incapable | OverBudget | UnboundedCharge | OverLimit, attempt: Attempt, race: Race | None
    ) -> bool:
        """Note why a call has not answered; return whether the next candidate may do better."""
        exchange = self._exchange
        if isinstance(error, Retry):
            forget_frames(error)
            forget_frames(error.error)
            self._last_failure, self._failed_target = error, exchange.target
            if error.asks_again:
                self._candidates.insert(0, attempt.target)
                if error.body is not None:
                    self._instead = attempt.target, error.body
            elif not self._asked_again and race is None and is_of_kept_connection(error.error):
                self._asked_again = True
                self._candidates.append(attempt.target)  # once more, after all others, on another connection
            self._tried += 0 if race is None else race.calls - 1
            return True
        self._undo(attempt.number)
        if isinstance(error, Incapable):  # its dialect has no words for the request, and nothing was sent
            forget_frames(error)
            self._untranslatable = error
            exchange.target = self._failed_target  # whose refusal is still what the client gets
            return True
        if self._may_go_on_after(error):
            forget_frames(error)
            self._over_budget = error
            return True
        return False

    def _undo(self, number: int) -> None:
        """Uncount a call that was not made; where later ones have been, its number stays unused."""
        self._tried -= 1
        self._exchange.attempts -= number == self._exchange.attempts

    async def _wait_for_slot(self, target: Target, slots: Slots) -> bool:
        """Wait for a slot of the target's tier; False if none came in time, or another tier's was taken instead."""
        exchange, gateway = self._exchange, self._exchange.gateway
        began_s = gateway.clock.monotonic_s()
        try:
            has_place = await slots.acquire(timeout_s=gateway.settings.queue_timeout_s, spill=self._spill(target))
        except Overloaded as error:
            forget_frames(error)
            self._overloaded = error
            return False
        except asyncio.CancelledError:
            if self._reserved is not None:
                self._reserved.release()
            raise
        finally:
            waited_s = gateway.clock.monotonic_s() - began_s
            exchange.queue_s += waited_s
            gateway.counting.metrics.observe_queue(slots.name, waited_s)
        if not has_place:
            spilled_to = self._candidates[0].tier.name
            exchange.add_reason(f"{slots.name} had no place for {waited_s:.1f} s, spilled to {spilled_to}")
        return has_place

    def _spill(self, target: Target) -> Spill | None:
        """Return how the request moves from a full tier to another with a free slot, where its workload allows it."""
        choice = self._exchange.choice
        after_s = None if choice is None or choice.declared is None else choice.declared.spill_after_s
        if after_s is None or self._tried or isinstance(self._sink, Continuing):
            return None
        return Spill(after_s=after_s, takes_place=lambda: self._take_slot_behind(target))

    def _take_slot_behind(self, target: Target) -> bool:
        """Take a slot of the first later tier that has one free; its target is asked next, then `target`."""
        all_slots = self._exchange.gateway.slots
        for index, other in enumerate(self._candidates):
            slots = all_slots[other.tier.name]
            if other.tier.name != target.tier.name and self._is_up(other) and slots.try_acquire():
                self._reserved = slots
                self._candidates.insert(0, self._candidates.pop(index))
                self._candidates.insert(1, target)
                return True
        return False

    def _may_go_on_after(self, error: OverBudget | UnboundedCharge | OverLimit) -> bool:
        """Return whether another tier may still take what a budget did not admit."""
        exchange = self._exchange
        if isinstance(error, OverLimit):
            exchange.limit_states = error.states
            return False
        if error.of in {"tier", OF_STRATEGY}:
            return True
        declared = None if exchange.choice is None else exchange.choice.declared
        budget = None if declared is None else declared.budget
        return error.of == "workload" and budget is not None and budget.when_spent == "owned_only"

    def _may_be_sent(self, target: Target) -> bool:
        """Return whether the target is still up after a wait for its slot, and still permitted by the plan."""
        exchange = self._exchange
        if not exchange.may_still_go(target):
            self._forbidden = refuse_anew(exchange.label, target)
            return False
        if self._is_up(target):
            return True
        self._went_down.append(target)
        return False

    def _is_up(self, target: Target) -> bool:
        """Return whether the target's breaker lets a call through now; as a last resort it is less strict."""
        exchange, gateway = self._exchange, self._exchange.gateway
        breaker = gateway.health.breakers.get(target.key)
        if breaker is None:
            return True
        now_s = gateway.clock.monotonic_s()
        if self._is_last_resort and self._last_failure is not None:
            return breaker.allows_after_others(now_s)
        is_last = self._is_last_resort or (exchange.choice is not None and exchange.choice.is_last_resort)
        return breaker.allows_last(now_s) if is_last else breaker.allows(now_s)

    def _may_retry(self, target: Target) -> bool:
        """Return whether one more call may be made: to a healthy upstream always, else within a share.

        The share keeps retries from overloading an upstream that fails. To a healthy one requests move, however many do
        so at once: else most of those in flight would fail with the upstream that they were sent to.
        """
        exchange, gateway = self._exchange, self._exchange.gateway
        settings = gateway.settings
        return (
            self._tried < settings.max_attempts
            and gateway.clock.monotonic_s() - exchange.started_s < settings.deadline_s
            and (gateway.health.is_well(target.key) or gateway.retries.try_take())
        )


async def _answer_refusal(last: Retry, sink: Sink) -> None:
    """Pass on the last upstream's refusal; where it sent none, raise the error that stands for it."""
    if last.answer is None:
        raise last.error
    status, content_type, headers, words = last.answer
    wait_s = retry_after_s(last.error)
    if wait_s is not None and all(name != b"retry-after" for name, _ in headers):
        headers = [*headers, (b"retry-after", retry_after_value(wait_s))]
    await sink.answer(status, content_type, headers, words)
