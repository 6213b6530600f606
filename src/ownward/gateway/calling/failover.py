"""One candidate after another until one has answered: who is asked next, and what is told where nobody has.

What one call does stands in `attempt`, a second one beside it in `race`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ownward.core import PolicyRefusal
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
        "_barred",
        "_body",
        "_exchange",
        "_failed",
        "_full",
        "_is_resorting",
        "_last",
        "_left",
        "_over",
        "_reserved",
        "_sink",
        "_tried",
        "_untold",
        "_went_down",
    )

    def __init__(self, exchange: Served, targets: Iterable[Target], body: bytes, sink: Sink) -> None:
        """Begin; nobody is asked yet."""
        self._exchange = exchange
        self._left = list(targets)
        self._body = body
        self._sink = sink
        self._tried = 0
        self._asked_again = False
        self._is_resorting = False
        self._last: Retry | None = None
        self._failed: Target | None = None
        self._full: Overloaded | None = None
        self._over: OverBudget | UnboundedCharge | OverLimit | None = None
        self._barred: PolicyRefusal | None = None
        self._untold: Incapable | None = None
        self._went_down: list[Target] = []
        self._reserved: Slots | None = None  # which hold a place for the first of `_left`

    async def run(self) -> Attempt | None:
        """Ask until one has answered; return that attempt, or None where the sink has a refusal.

        Raises: what to tell the client, if none has answered.
        """
        left, sink, exchange, gateway = self._left, self._sink, self._exchange, self._exchange.gateway
        while left or self._finds_more():
            target = left.pop(0)
            if isinstance(sink, Continuing) and not sink.can_take(target):
                continue
            if self._tried and not self._may_retry(target):
                continue
            slots = gateway.slots[target.tier.name]
            if self._reserved is None and not slots.try_acquire() and not await self._gets_place(target, slots):
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
                    if not self._goes_on(error, attempt, race):
                        raise
                else:
                    return attempt
            finally:
                slots.release()
        if self._last is None:
            why = self._over or self._full or self._barred or self._untold
            raise why or NoUpstream(_ALL_WENT_DOWN, retry_after_s=1.0)
        await _tell(self._last, sink)
        return None

    def _finds_more(self) -> bool:
        """Return whether there are upstreams that were left alone for failing: where no other answers, they are asked.

        One of them may be back since, while nobody has looked. The calls of a strategy end with their own tier.
        """
        choice = self._exchange.choice
        if self._is_resorting or choice is None or not self._sink.takes_hedge:
            return False
        self._is_resorting = True
        self._left += [target for target in (*choice.left_alone, *self._went_down) if self._is_up(target)]
        return bool(self._left)

    def _make_attempt(self, target: Target) -> tuple[Attempt, Race | None]:
        """Return the next call, and what has it run where it may get a second one beside it."""
        exchange, sink = self._exchange, self._sink
        if self._tried:
            exchange.gateway.counting.retried(exchange, target)
        self._tried += 1
        number = exchange.attempts = exchange.attempts + 1
        exchange.target = target
        attempt = Attempt(exchange, target, number, sink.body_for(target, self._body), sink)
        pace = None if target.tier.hedge is None else find_pace(exchange, target, sink)
        return attempt, None if pace is None else Race(exchange, sink, pace, self._left, self._body)

    def _goes_on(
        self, error: Retry | Incapable | OverBudget | UnboundedCharge | OverLimit, attempt: Attempt, race: Race | None
    ) -> bool:
        """Note why a call has not answered; return whether the next candidate may do better."""
        exchange = self._exchange
        if isinstance(error, Retry):
            forget_frames(error)
            forget_frames(error.error)
            self._last, self._failed = error, exchange.target
            if error.asks_again:
                self._left.insert(0, attempt.target)
            elif not self._asked_again and race is None and is_of_kept_connection(error.error):
                self._asked_again = True
                self._left.append(attempt.target)  # once more, after all others, on another connection
            self._tried += 0 if race is None else race.calls - 1
            return True
        self._undo(attempt.number)
        if isinstance(error, Incapable):  # its dialect has no words for the request, and nothing was sent
            forget_frames(error)
            self._untold, exchange.target = error, self._failed  # the words that are passed on are still the other's
            return True
        if self._goes_on_after(error):
            forget_frames(error)
            self._over = error
            return True
        return False

    def _undo(self, number: int) -> None:
        """Take back that a call was made: it was not; beside later ones its number stays unused."""
        self._tried -= 1
        self._exchange.attempts -= number == self._exchange.attempts

    async def _gets_place(self, target: Target, slots: Slots) -> bool:
        """Wait for a slot; return whether there was one in time, and before one elsewhere that is taken instead."""
        exchange, gateway = self._exchange, self._exchange.gateway
        began_s = gateway.clock.monotonic_s()
        try:
            has_place = await slots.acquire(timeout_s=gateway.settings.queue_timeout_s, spill=self._spill(target))
        except Overloaded as error:
            forget_frames(error)
            self._full = error
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
            exchange.add_reason(f"{slots.name} had no place for {waited_s:.1f} s, spilled to {self._left[0].tier.name}")
        return has_place

    def _spill(self, target: Target) -> Spill | None:
        """Return how the request leaves a full tier for another that has a place, where its workload says so."""
        choice = self._exchange.choice
        after_s = None if choice is None or choice.declared is None else choice.declared.spill_after_s
        if after_s is None or self._tried or isinstance(self._sink, Continuing):
            return None
        return Spill(after_s=after_s, takes_place=lambda: self._takes_place_instead(target))

    def _takes_place_instead(self, target: Target) -> bool:
        """Take a place in the first tier behind a target's that has one; the target itself comes right after it."""
        all_slots = self._exchange.gateway.slots
        for index, other in enumerate(self._left):
            slots = all_slots[other.tier.name]
            if other.tier.name != target.tier.name and self._is_up(other) and slots.try_acquire():
                self._reserved = slots
                self._left.insert(0, self._left.pop(index))
                self._left.insert(1, target)
                return True
        return False

    def _goes_on_after(self, error: OverBudget | UnboundedCharge | OverLimit) -> bool:
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
            self._barred = refuse_anew(exchange.label, target)
            return False
        if self._is_up(target):
            return True
        self._went_down.append(target)
        return False

    def _is_up(self, target: Target) -> bool:
        """Return whether a target is not left alone by now, or may be asked all the same as nothing else is left."""
        exchange, gateway = self._exchange, self._exchange.gateway
        breaker = gateway.health.breakers.get(target.key)
        if breaker is None:
            return True
        now_s = gateway.clock.monotonic_s()
        if self._is_resorting and self._last is not None:
            return breaker.allows_after_others(now_s)
        is_last = self._is_resorting or (exchange.choice is not None and exchange.choice.is_last_resort)
        return breaker.allows_last(now_s) if is_last else breaker.allows(now_s)

    def _may_retry(self, target: Target) -> bool:
        """Return whether one more may be asked: as often as one likes where it is well, else within a budget.

        The budget keeps a failing upstream from being hit harder for failing. To one that is well a request moves on
        however many others do so in the same moment: else most of those that were under way would fail beside it.
        """
        exchange, gateway = self._exchange, self._exchange.gateway
        settings = gateway.settings
        return (
            self._tried < settings.max_attempts
            and gateway.clock.monotonic_s() - exchange.started_s < settings.deadline_s
            and (gateway.health.is_well(target.key) or gateway.retries.try_take())
        )


async def _tell(last: Retry, sink: Sink) -> None:
    """Pass on what the last upstream said; where it had no words of its own, raise what to say."""
    if last.answer is None:
        raise last.error
    status, content_type, headers, words = last.answer
    wait_s = retry_after_s(last.error)
    if wait_s is not None and all(name != b"retry-after" for name, _ in headers):
        headers = [*headers, (b"retry-after", retry_after_value(wait_s))]
    await sink.answer(status, content_type, headers, words)
