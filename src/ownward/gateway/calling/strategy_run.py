"""Running a strategy that makes several calls for one request.

`ownward.strategies` decides what to ask next and which answer to take. Here each call becomes an attempt of the
request, with its own intent and settlement, and the chosen answer goes to the client as its upstream wrote it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING

import msgspec

from ownward.core import LedgerError, OwnwardError
from ownward.gateway import json_body
from ownward.gateway.calling.allowance import OF_STRATEGY, most_usd, read_limit, with_limit
from ownward.gateway.calling.capped import begin_allowance, limit_name, limit_output, within_time
from ownward.gateway.calling.failover import Failover
from ownward.gateway.calling.held_answer import SUCCESS, HeldAnswer, pass_on
from ownward.gateway.calling.judge import Judge
from ownward.gateway.calling.sink import forget_frames
from ownward.gateway.endpoints import CHAT
from ownward.gateway.errors import Incapable, NoUpstream, OverBudget, UnboundedCharge

if TYPE_CHECKING:
    from ownward.gateway.calling.attempt import Attempt
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.choice import Choice
    from ownward.gateway.placing.strategy import CompiledStrategy
    from ownward.strategies import Ask, Reply
    from ownward.upstreams import RawMembers


async def run_strategy(strategy: CompiledStrategy, exchange: Served, choice: Choice) -> None:
    """Make a strategy's calls and send the client the answer it chooses.

    Where nothing is chosen, the fallback tiers are asked once each, as they would be directly; without any, the client
    has what was said: a call of a tool, which no judge reads, or an upstream's own refusal.
    Raises: Incapable, if the request is none that a strategy can work on, and what the last call failed with.
    """
    from ownward import strategies

    spec = strategy.spec
    top = _read(exchange)
    run = _Run(strategy, exchange, choice, top)
    steps = strategies.run(spec, None if strategy.judge is None else run.judge)
    try:
        asks = next(steps)
        while True:
            asks = steps.send(await run.ask_all(asks))
    except StopIteration as end:
        chosen: strategies.Chosen = end.value
    if run.judge.unread:
        exchange.outcome += f"; the judge took too long for {run.judge.unread} of the answers, which count as unread"
    if chosen.reply is not None:
        exchange.outcome += f"; {spec.kind}: {chosen.reason} in {chosen.calls} calls"
        await pass_on(exchange, chosen.reply.payload, top)
        return
    is_late = run.is_late()
    rest = [] if is_late else [target for target in choice.targets if target.tier.name not in spec.tiers]
    if rest:
        exchange.outcome += f"; {spec.kind}: {chosen.reason}, so the fallback"
        limit_output(exchange, rest)
        await within_time(exchange, Failover(exchange, rest, exchange.body, exchange).run())
        return
    last = run.find_last_answer()
    if last is not None:
        exchange.outcome += f"; {spec.kind}: {chosen.reason}, so what came last"
        await pass_on(exchange, last, top)
        return
    if is_late:
        raise run.allowance.describe_end()
    raise (
        run.failures[-1]
        if run.failures
        else NoUpstream(f"the strategy {spec.kind!r} ended without an answer: {chosen.reason}", retry_after_s=None)
    )


class _Run:
    """The calls of one strategy for one request: how many, how long, what they said and failed of."""

    def __init__(self, strategy: CompiledStrategy, exchange: Served, choice: Choice, top: RawMembers) -> None:
        self.judge = Judge(strategy, exchange)
        self.allowance = begin_allowance(exchange, strategy.spec)
        self.answers: list[HeldAnswer] = []
        self.failures: list[OwnwardError] = []
        self._exchange = exchange
        self._choice = choice
        self._top = top
        self._counted = 0

    def is_late(self) -> bool:
        """Return whether the time that the strategy grants is over."""
        return self.allowance.is_late(self._exchange.gateway.clock.monotonic_s())

    def find_last_answer(self) -> HeldAnswer | None:
        """Return the newest answer, else the newest refusal of an upstream; None where none said anything."""
        newest = self.answers[-1] if self.answers else None
        return next((answer for answer in reversed(self.answers) if answer.status == SUCCESS), newest)

    async def ask_all(self, asks: Sequence[Ask]) -> tuple[Reply, ...]:
        """Return the replies of calls made side by side, as many of them as the caps let; none is left running."""
        from ownward.strategies import Reply

        exchange, allowance = self._exchange, self.allowance
        clock, settings = exchange.gateway.clock, exchange.gateway.settings
        began_s = clock.monotonic_s()
        if began_s - exchange.started_s >= settings.deadline_s:
            why = f"deadline_s = {settings.deadline_s:g}"
            return tuple(Reply(text=None, capped_by=why, was_sent=False) for _ in asks)
        fit, limit = self._share_tokens(len(asks))
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._call(ask, limit)) for ask in asks[:fit]]
        try:
            if tasks:
                left_s = allowance.ends_s - began_s
                await asyncio.wait(tasks, timeout=None if left_s == inf else max(left_s, 0))
        finally:  # what is not over is cut, upstreams too
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        replies = []
        for task in tasks:
            if task.cancelled():
                elapsed_s = clock.monotonic_s() - began_s
                replies.append(Reply(text=None, elapsed_s=elapsed_s, capped_by=allowance.why_ends))
            else:
                replies.append(task.result())
        unsent = Reply(text=None, capped_by=allowance.why_no_tokens, was_sent=False)
        return (*replies, *(unsent for _ in asks[fit:]))

    def _share_tokens(self, count: int) -> tuple[int, int | None]:
        """Return how many calls are made of so many, and how many tokens the answer of each may have at most.

        None is made with less than the request asks for, or else than the longest answer so far took: it would be cut
        off. The first is, as a cap may be below what a client asks for.
        """
        left = self.allowance.compute_tokens_left()
        if left is None:
            return count, None
        calls = self._exchange.calls
        longest = max((call.usage.output_tokens for call in calls if call.usage is not None), default=1)
        need = read_limit(self._top) or longest
        fit = min(count, left // max(need, 1))
        if not fit and left and not calls:
            fit = 1
        return fit, left // fit if fit else 0

    async def _call(self, ask: Ask, limit: int | None) -> Reply:
        from ownward.strategies import Reply

        exchange = self._exchange
        started_s = exchange.gateway.clock.monotonic_s()
        held = HeldAnswer()
        targets = [target for target in self._choice.targets if target.tier.name == ask.tier]
        attempt: Attempt | None = None
        capped_by: str | None = None
        if targets:
            members = _body_of(ask, self._top)
            if limit is not None:
                members = with_limit(members, limit, otherwise=limit_name(exchange.endpoint, targets))
            try:
                attempt = await Failover(exchange, targets, msgspec.json.encode(members), held).run()
            except LedgerError:
                raise
            except OwnwardError as error:
                forget_frames(error)
                self.failures.append(error)
                if isinstance(error, OverBudget | UnboundedCharge) and error.of == OF_STRATEGY:
                    capped_by = self.allowance.refused_by
        elapsed_s = exchange.gateway.clock.monotonic_s() - started_s
        if held.status and not held.has_begun:
            held.target = exchange.target if attempt is None else attempt.target
            self.answers.append(held)
        if attempt is None:  # what it cost counts with the next one
            return Reply(text=None, elapsed_s=elapsed_s, capped_by=capped_by, was_sent=capped_by is None)
        if held.text is not None:
            await self.judge.look_at(held.text)
        usage = attempt.entry.usage
        return Reply(
            text=held.text,
            output_tokens=None if usage is None else usage.output_tokens,
            usd=self._take_usd(),
            elapsed_s=elapsed_s,
            payload=held,
        )

    def _take_usd(self) -> Decimal:
        """Return, in dollars, what has come since it was asked last: of retries and failed calls too."""
        calls = self._exchange.calls
        ended, self._counted = calls[self._counted :], len(calls)
        return sum(map(most_usd, ended), Decimal(0))


def _read(exchange: Served) -> RawMembers:
    kind = (
        "strategy"
        if exchange.choice is None or exchange.choice.declared is None
        else (exchange.choice.declared.strategy.kind)
    )
    if exchange.endpoint is not CHAT:
        raise Incapable(
            f"the workload {exchange.workload!r} is served by the strategy {kind!r}, which works on chat completions",
            allowed=f"POST {CHAT.path}",
            next_step="Ask there, or name one tier with the header x-ownward-tier",
        )
    top = json_body.read_members(exchange.body)
    if json_body.written(top, "n") not in {b"", b"1", b"null"}:
        raise Incapable(
            f"the strategy {kind!r} of workload {exchange.workload!r} gives one answer, and n is more than 1",
            next_step="Leave n out, or name one tier with the header x-ownward-tier",
        )
    return top


def _body_of(ask: Ask, top: RawMembers) -> RawMembers:
    """Return the members of the request as one call of the strategy: whole, with what the strategy says besides."""
    members = {name: raw for name, raw in top.items() if name not in {"stream", "stream_options"}}
    if ask.temperature is not None:
        members["temperature"] = msgspec.Raw(msgspec.json.encode(ask.temperature))
    if ask.extra_messages:
        stated = json_body.written(top, "messages") or b"[]"
        try:
            messages = msgspec.json.decode(stated, type=list[msgspec.Raw])
        except msgspec.DecodeError:  # it holds half a surrogate pair, and is spelled anew; or is no list
            found = json.loads(stated)
            messages = [msgspec.Raw(json_body.write(message)) for message in found] if isinstance(found, list) else []
        members["messages"] = msgspec.Raw(msgspec.json.encode([*messages, *ask.extra_messages]))
    return members
