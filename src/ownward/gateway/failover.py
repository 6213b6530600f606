"""One candidate after another until one has answered: who is asked next, and what is told where nobody has.

What one call does stands in `attempt`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ownward.gateway.attempt import Attempt
from ownward.gateway.continuing import Continuing
from ownward.gateway.errors import (
    Incapable,
    NoUpstream,
    OverBudget,
    OverLimit,
    Overloaded,
    UnboundedCharge,
    retry_after_s,
)
from ownward.gateway.keeping import Keeping
from ownward.gateway.sink import Retry, Sink

if TYPE_CHECKING:
    from ownward.gateway.admission import Slots
    from ownward.gateway.exchange import Exchange
    from ownward.gateway.routing import Target

_ALL_WENT_DOWN = "every upstream that could serve the request went down while it waited"


async def attempt_each(exchange: Exchange, targets: Iterable[Target], body: bytes, sink: Sink) -> Attempt | None:
    """Try `targets` in order until one has answered; return that attempt, or None where `sink` has a refusal.

    Raises: what to tell the client, if none has answered.
    """
    gateway = exchange.gateway
    last: Retry | None = None
    full: Overloaded | None = None
    untold: Incapable | None = None
    failed: Target | None = None
    over: OverBudget | UnboundedCharge | OverLimit | None = None
    tried = 0
    for target in targets:
        if tried and not _may_retry(exchange, tried):
            break
        slots = gateway.slots[target.tier.name]
        if not slots.try_acquire():
            try:
                await _wait_for_place(exchange, slots)
            except Overloaded as error:
                full = error
                continue
        try:
            if not _may_be_sent(exchange, target):
                continue
            if tried:
                gateway.counting.retried(exchange, target)
            tried += 1
            number = exchange.attempts = exchange.attempts + 1
            exchange.target = target
            sent = sink.body_for(target, body) if isinstance(sink, Continuing | Keeping) else body
            attempt = Attempt(exchange, target, number=number, body=sent, sink=sink)
            await _run(exchange, attempt, target, sink)
        except Retry as retry:
            last, failed = retry, target
            continue
        except Incapable as error:  # its dialect has no words for the request, and nothing was sent
            tried -= 1
            exchange.attempts -= number == exchange.attempts
            untold, exchange.target = error, failed  # the words that are passed on are still the other's
            continue
        except (OverBudget, UnboundedCharge, OverLimit) as error:
            tried -= 1
            exchange.attempts -= number == exchange.attempts  # it was none; beside later ones its number stays unused
            if not _goes_on_after(exchange, error):
                raise
            over = error
            continue
        finally:
            slots.release()
        return attempt
    if last is None:
        raise over or full or untold or NoUpstream(_ALL_WENT_DOWN, retry_after_s=1.0)
    await _tell(last, sink)
    return None


async def _run(exchange: Exchange, attempt: Attempt, target: Target, sink: Sink) -> None:
    gateway = exchange.gateway
    in_flight = gateway.in_flight
    in_flight[target.key] = in_flight.get(target.key, 0) + 1
    waiting = exchange.begin_prompt(target, sink)
    gateway.learn_dispatch(target.key)  # now: others may ask while the intent is written
    try:
        await attempt.run()
    finally:
        if not attempt.was_sent:
            gateway.learn_nothing(target.key)
        in_flight[target.key] -= 1
        exchange.end_prompt(target, waiting)


async def _wait_for_place(exchange: Exchange, slots: Slots) -> None:
    gateway = exchange.gateway
    began_s = gateway.clock.monotonic_s()
    try:
        await slots.acquire(timeout_s=gateway.settings.queue_timeout_s)
    finally:
        waited_s = gateway.clock.monotonic_s() - began_s
        exchange.queue_s += waited_s
        gateway.counting.metrics.observe_queue(slots.name, waited_s)


def _goes_on_after(exchange: Exchange, error: OverBudget | UnboundedCharge | OverLimit) -> bool:
    """Return whether another tier may still take what a budget did not admit."""
    if isinstance(error, OverLimit):
        exchange.limit_states = error.states
        return False
    if error.of == "tier":
        return True
    declared = None if exchange.choice is None else exchange.choice.declared
    budget = None if declared is None else declared.budget
    return error.of == "workload" and budget is not None and budget.when_spent == "owned_only"


def _may_be_sent(exchange: Exchange, target: Target) -> bool:
    """Return whether the target is still up after a wait for its slot."""
    breaker = exchange.gateway.breakers.get(target.key)
    if breaker is None:
        return True
    is_last = exchange.choice is not None and exchange.choice.is_last_resort
    now_s = exchange.gateway.clock.monotonic_s()
    return breaker.allows_last(now_s) if is_last else breaker.allows(now_s)


def _may_retry(exchange: Exchange, tried: int) -> bool:
    gateway = exchange.gateway
    settings = gateway.settings
    return (
        tried < settings.max_attempts
        and gateway.clock.monotonic_s() - exchange.started_s < settings.deadline_s
        and gateway.retries.try_take()
    )


async def _tell(last: Retry, sink: Sink) -> None:
    """Pass on what the last upstream said; where it had no words of its own, raise what to say."""
    if last.answer is None:
        raise last.error
    status, content_type, words = last.answer
    wait_s = retry_after_s(last.error)
    headers = [] if wait_s is None else [(b"retry-after", b"%d" % max(1, round(wait_s)))]
    await sink.answer(status, content_type, headers, words)
