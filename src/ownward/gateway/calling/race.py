"""A second call for one that is late: whoever answers first has the client, and the other is cancelled at once.

Each is a call like any other, with its permit, its intent, its budgets and its one settlement. Which tiers hedge at all
stands in the plan; without it nothing here runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ownward.core import OwnwardError, UpstreamRefused
from ownward.gateway.asgi import Headers
from ownward.gateway.calling.attempt import Attempt
from ownward.gateway.calling.sink import Retry, Sink
from ownward.gateway.endpoints import RESPONSES
from ownward.gateway.placing.hedging import Pace, find_second
from ownward.ledger import beaten_note, hedge_note

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.routing import Target
    from ownward.upstreams import Response

_LOG = logging.getLogger("ownward.gateway")
_ERRORS_FROM = 400


def find_pace(exchange: Served, target: Target, sink: Sink) -> Pace | None:
    """Return the pace by which a call to `target` may get a second one; None where it never does.

    A strategy's calls do not: their number is capped, and some are made side by side as it is. Nor does a response that
    the upstream is to keep, since a cancelled one might be kept as well. All other calls change nothing upstream.
    """
    if exchange.has_begun or not sink.takes_hedge:
        return None
    if exchange.endpoint is RESPONSES and not exchange.is_unkept:
        return None
    return exchange.gateway.paces.get(target.tier.name)


class Race:
    """A call and, once it is late, a second one."""

    def __init__(self, exchange: Served, sink: Sink, pace: Pace, left: list[Target], body: bytes) -> None:
        """Begin; `left` are the request's other candidates, from which the second call takes one."""
        self.exchange = exchange
        self.sink = sink
        self.pace = pace
        self.calls = 0
        self.winner: _Lane | None = None
        self._left = left
        self._body = body
        self._lanes: list[_Lane] = []
        self._delay_s: float | None = None

    async def run(self, first: Attempt) -> Attempt:
        """Return the attempt whose answer went to the client.

        Raises: as an attempt does; Retry, only once neither call is left.
        """
        try:
            return await self._run(first)
        finally:
            for lane in self._lanes:  # they lead back here, and nothing of a request may outlive it
                lane.attempt.sink = self.sink
                lane.task = None  # which holds the frames of a call that failed
            self._lanes.clear()
            self.winner = None

    async def _run(self, first: Attempt) -> Attempt:
        exchange = self.exchange
        if exchange.attempts == 1:
            self.pace.second_calls.deposit()
        lane = self._open_lane(first)
        self.calls = 1
        self._delay_s = self.pace.delay_s(exchange.endpoint.path, is_stream=exchange.is_stream)
        if self._delay_s is None:
            await first.run()
            return first
        lane.task = asyncio.get_running_loop().create_task(first.run())
        try:
            await asyncio.wait([lane.task], timeout=self._delay_s)
            if exchange.gateway.table is not exchange.heeded:
                await exchange.heed_new_plan()
            if self.winner is None and first.was_sent and not lane.task.done():
                self._send_second(first)
            return await self._wait()
        except BaseException:
            await self._cancel_all()
            raise

    def _open_lane(self, attempt: Attempt) -> _Lane:
        lane = _Lane(self, attempt)
        attempt.sink = lane
        self._lanes.append(lane)
        return lane

    def _send_second(self, first: Attempt) -> None:
        """Send a second call, if there is where to and the share of hedged requests allows it."""
        exchange, gateway = self.exchange, self.exchange.gateway
        settings, now_s = gateway.settings, gateway.clock.monotonic_s()
        if exchange.attempts >= settings.max_attempts or now_s - exchange.started_s >= settings.deadline_s:
            return
        target = find_second(
            first.target,
            self._left,
            self.pace.hedge,
            breakers=gateway.health.breakers,
            has_place=lambda target: gateway.slots[target.tier.name].has_place and exchange.may_still_go(target),
            now_s=now_s,
        )
        if target is None or not self.pace.second_calls.try_take():
            return
        slots = gateway.slots[target.tier.name]
        if not slots.try_acquire():
            self.pace.second_calls.give_back()
            return
        self._left.remove(target)
        number = exchange.attempts = exchange.attempts + 1
        self.calls = 2
        second = Attempt(exchange, target, number, self.sink.body_for(target, self._body), self.sink)
        second.entry.mark_hedge(hedge_note(first.target.key, after_s=self._delay_s or 0.0))
        lane = self._open_lane(second)
        lane.task = asyncio.get_running_loop().create_task(second.run())
        lane.task.add_done_callback(lambda _: slots.release())  # also where it is cancelled before it began

    async def _wait(self) -> Attempt:
        """Return the winner once it is through, and the other call is over as well."""
        exchange = self.exchange
        failed: tuple[_Lane, Retry] | None = None
        running = {lane.task: lane for lane in self._lanes if lane.task is not None}
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                lane = running.pop(task)
                error = None if task.cancelled() else task.exception()
                if lane is self.winner or (self.winner is None and error is None):
                    await self._cancel_all()
                    if error is not None:
                        raise error
                    return lane.attempt
                if isinstance(error, Retry):
                    failed = (lane, error)
                elif isinstance(error, OwnwardError) and lane is not self._lanes[0]:
                    self._undo(lane)  # it was not sent: a budget or a limit holds, or its dialect has no words
                elif error is not None:
                    if self.winner is None:
                        raise error
                    _LOG.error("the beaten call of request %s failed", exchange.request_id, exc_info=error)
        assert failed is not None, "a call that does not win fails, or is beaten"
        exchange.target = failed[0].attempt.target
        raise failed[1]

    def _undo(self, lane: _Lane) -> None:
        exchange = self.exchange
        if lane.attempt.was_sent:
            return
        self.calls -= 1
        self.pace.second_calls.give_back()
        exchange.attempts -= lane.attempt.number == exchange.attempts

    async def _cancel_all(self) -> None:
        """Have both calls over, whatever came of the one that nobody waits for."""
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        for task in tasks:
            if not task.done() and not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def claim(self, lane: _Lane) -> None:
        """Return if this call has the client; the other one is cancelled. A call that comes too late waits for that."""
        if self.winner is None:
            self.winner = lane
            self._note_winner(lane)
            return
        if self.winner is not lane:
            await asyncio.get_running_loop().create_future()

    def _note_winner(self, lane: _Lane) -> None:
        exchange = self.exchange
        exchange.target = lane.attempt.target
        if self.calls < 2 or len(self._lanes) < 2:  # noqa: PLR2004 - no second call
            return
        first, second = self._lanes
        is_first, other = (True, second) if lane is first else (False, first)
        if not other.attempt.entry.is_settled:
            other.observe()  # it had taken so long at least
            asked_later_s = None if is_first else self._delay_s
            other.attempt.entry.mark_beaten(beaten_note(lane.attempt.target.key, asked_later_s=asked_later_s))
        if other.task is not None:
            other.task.cancel()
        exchange.hedge = "lost" if is_first else "won"
        whose = "the first call's" if is_first else "its"
        exchange.outcome += (
            f"; hedged after {self._delay_s:.3f} s at {second.attempt.target.key}: {whose} answer came first"
        )


class _Lane:
    """Where one of the two calls writes to: to the client as soon as it is the first, to nobody before and else."""

    takes_hedge = False

    __slots__ = ("_race", "_sink", "attempt", "task")

    def __init__(self, race: Race, attempt: Attempt) -> None:
        self._race = race
        self._sink = race.sink
        self.attempt = attempt
        self.task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        return self._race.winner is self and self._sink.has_begun

    def body_for(self, target: Target, body: bytes) -> bytes:
        return self._sink.body_for(target, body)

    def observe(self) -> None:
        """Note for its tier how long it took, or has taken so far."""
        exchange, entry = self._race.exchange, self.attempt.entry
        pace = exchange.gateway.paces.get(self.attempt.target.tier.name)
        if pace is not None and entry.sent_s:
            seconds = exchange.gateway.clock.monotonic_s() - entry.sent_s
            pace.observe(exchange.endpoint.path, seconds, is_stream=exchange.is_stream)

    async def answer(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        if status < _ERRORS_FROM:
            self.observe()
        elif self.attempt.entry.is_hedge and self._race.winner is None:
            # A refusal by the second is no answer while the first may have a better one.
            error = UpstreamRefused(f"upstream {self.attempt.target.name!r} answered {status}", status=status)
            raise Retry(error, answer=(status, content_type, headers, body))
        await self._race.claim(self)
        await self._sink.answer(status, content_type, headers, body)

    async def begin(self, status: int, content_type: bytes, headers: Headers) -> None:
        self.observe()
        await self._race.claim(self)
        await self._sink.begin(status, content_type, headers)

    def write(self, data: bytes) -> Coroutine[Any, Any, None]:
        return self._sink.write(data)

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        return self._sink.direct_writer(response)

    async def end(self, data: bytes = b"") -> None:
        await self._sink.end(data)

    async def end_broken(self, error: OwnwardError) -> None:
        await self._sink.end_broken(error)
