"""Strategies that make several calls for one request: their steps are asked for, sent, and answered with replies.

What to ask next and which answer to take is `ownward.strategies`' knowledge; here every call becomes an attempt of the
request, with its own intent and settlement, and the chosen answer goes to the client as its upstream wrote it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from ownward.core import LedgerError, OwnwardError, picousd_to_usd
from ownward.gateway import json_body
from ownward.gateway.calling.failover import Failover
from ownward.gateway.calling.sink import forget_frames
from ownward.gateway.calling.whole_as_stream import chat_as_stream
from ownward.gateway.endpoints import CHAT
from ownward.gateway.errors import Incapable, NoUpstream
from ownward.gateway.holding.judging import UNREAD, AnswerUnread, Read

if TYPE_CHECKING:
    from ownward.gateway.calling.attempt import Attempt
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.choice import Choice
    from ownward.gateway.placing.routing import Target
    from ownward.gateway.placing.strategy import CompiledStrategy
    from ownward.gateway.watching.metrics import CallEnd
    from ownward.strategies import Ask, Reply
    from ownward.upstreams import RawMembers, Response

_SUCCESS = 200
_READ_AT_ONCE_CHARACTERS = 64 * 1024


async def carry_out(strategy: CompiledStrategy, exchange: Served, choice: Choice) -> None:
    """Make a strategy's calls and send the client the answer it chooses.

    Where nothing is chosen, the fallback tiers are asked once each, as they would be directly; without any, the client
    has what was said: a call of a tool, which no judge reads, or an upstream's own refusal.
    Raises: Incapable, if the request is none that a strategy can work on, and what the last call failed with.
    """
    from ownward import strategies

    spec = strategy.spec
    top = _read(exchange)
    judge = _Judge(strategy, exchange)
    steps = strategies.run(spec, None if strategy.judge is None else judge)
    spent = _Spent(exchange, judge)
    failures = spent.failures
    try:
        asks = next(steps)
        while True:
            calls = (_call(exchange, choice, ask, top, spent) for ask in asks)
            asks = steps.send(await _all_of(calls))
    except StopIteration as end:
        chosen: strategies.Chosen = end.value
    if judge.unread:
        exchange.outcome = f"; the judge took too long for {judge.unread} of the answers, which count as unread"
    if chosen.reply is not None:
        exchange.outcome += f"; {spec.kind}: {chosen.reason} in {chosen.calls} calls"
        await _pass_on(exchange, chosen.reply.payload, top)
        return
    rest = [target for target in choice.targets if target.tier.name not in spec.tiers]
    if rest:
        exchange.outcome += f"; {spec.kind}: {chosen.reason}, so the fallback"
        await Failover(exchange, rest, exchange.body, exchange).run()
        return
    told = spent.find_told()
    if told is not None:
        exchange.outcome += f"; {spec.kind}: {chosen.reason}, so what came last"
        await _pass_on(exchange, told, top)
        return
    raise (
        failures[-1]
        if failures
        else NoUpstream(f"the strategy {spec.kind!r} ended without an answer: {chosen.reason}", retry_after_s=None)
    )


class _Spent:
    """What calls may have been charged at most, said, and failed of; a cap that counts the unknown as zero is none."""

    __slots__ = ("_exchange", "_told", "answers", "failures", "judge")

    def __init__(self, exchange: Served, judge: _Judge) -> None:
        self._exchange = exchange
        self.judge = judge
        self._told = 0
        self.answers: list[_Taken] = []
        self.failures: list[OwnwardError] = []

    def find_told(self) -> _Taken | None:
        """Return the newest answer, else the newest refusal of an upstream; None where none said anything."""
        newest = self.answers[-1] if self.answers else None
        return next((answer for answer in reversed(self.answers) if answer.status == _SUCCESS), newest)

    def take_usd(self) -> Decimal:
        """Return, in dollars, what has come since it was asked last: of retries and failed calls too."""
        ended, self._told = self._exchange.calls[self._told :], len(self._exchange.calls)
        return sum(map(_most_usd, ended), Decimal(0))


def _most_usd(ended: CallEnd) -> Decimal:
    if ended.state == "failed":
        return Decimal(0)
    most = ended.charge_high_picousd if ended.charge_picousd is None else ended.charge_picousd
    if most is not None:
        return picousd_to_usd(most)
    return Decimal(0) if ended.target.tier.kind == "owned" else Decimal("Infinity")


async def _call(exchange: Served, choice: Choice, ask: Ask, top: RawMembers, spent: _Spent) -> Reply:
    from ownward.strategies import Reply

    started_s = exchange.gateway.clock.monotonic_s()
    taken = _Taken()
    targets = [target for target in choice.targets if target.tier.name == ask.tier]
    attempt: Attempt | None = None
    if targets:
        try:
            attempt = await Failover(exchange, targets, _body_of(ask, top), taken).run()
        except LedgerError:
            raise
        except OwnwardError as error:
            forget_frames(error)
            spent.failures.append(error)
    elapsed_s = exchange.gateway.clock.monotonic_s() - started_s
    if taken.status:
        taken.target = exchange.target if attempt is None else attempt.target
        spent.answers.append(taken)
    if attempt is None:
        return Reply(text=None, elapsed_s=elapsed_s)  # what it cost counts with the next one: no cap holds up a retry
    if taken.text is not None:
        await spent.judge.look_at(taken.text)
    usage = attempt.entry.usage
    return Reply(
        text=taken.text,
        output_tokens=None if usage is None else usage.output_tokens,
        usd=spent.take_usd(),
        elapsed_s=elapsed_s,
        payload=taken,
    )


class _Judge:
    """A strategy's judge, of answers that it has looked at: `unread` counts those that took it too long."""

    __slots__ = ("_exchange", "_found", "_strategy", "unread")

    def __init__(self, strategy: CompiledStrategy, exchange: Served) -> None:
        self._strategy = strategy
        self._exchange = exchange
        self._found: dict[str, Read] = {}
        self.unread = 0

    async def look_at(self, text: str) -> None:
        """Read an answer, aside where that may take long: others are served meanwhile."""
        strategy, exchange = self._strategy, self._exchange
        if strategy.judge is None or text in self._found:
            return
        if strategy.is_bounded and len(text) <= _READ_AT_ONCE_CHARACTERS:
            self._found[text] = strategy.judge.extract(text), strategy.judge.verify(text)
            return
        try:
            self._found[text] = await exchange.gateway.judging.read(strategy.rule, text)
        except AnswerUnread as error:
            forget_frames(error)
            self._found[text] = UNREAD
            self.unread += 1
            exchange.gateway.fault_log.say("an answer to %s counts as unread", exchange.request_id, error)

    def extract(self, text: str) -> str | None:
        return self._found[text][0]

    def verify(self, text: str) -> float | None:
        return self._found[text][1]


class _Taken:
    """An answer that a strategy looks at before anybody else does."""

    takes_hedge = False

    __slots__ = ("body", "content_type", "has_begun", "headers", "status", "target", "text")

    def __init__(self) -> None:
        self.has_begun = False
        self.status = 0
        self.content_type = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.text: str | None = None
        self.target: Target | None = None

    def body_for(self, _target: Target, body: bytes) -> bytes:
        """Return the strategy's call as it is."""
        return body

    async def answer(self, status: int, content_type: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.content_type, self.headers, self.body = status, content_type, headers, body
        if status == _SUCCESS:
            self.text = _text_in(body)

    async def begin(self, status: int, content_type: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        self.status, self.content_type, self.headers = status, content_type, headers

    async def write(self, data: bytes) -> None:
        """Drop it: a stream was not asked for, and is no answer that could be compared."""

    def lead(self, response: Response) -> None:
        """Have every piece written."""

    async def end(self, data: bytes = b"") -> None:
        """Do nothing."""

    async def end_broken(self, error: OwnwardError) -> None:
        """Do nothing."""


async def _all_of(calls: Iterable[Awaitable[Reply]]) -> tuple[Reply, ...]:
    """Return the replies of calls made side by side; none is left running when one raises."""
    replies = await asyncio.gather(*calls, return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return tuple(reply for reply in replies if not isinstance(reply, BaseException))


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


def _body_of(ask: Ask, top: RawMembers) -> bytes:
    """Return the request as one call of the strategy: whole, with what the strategy says besides."""
    members: dict[str, Any] = {name: raw for name, raw in top.items() if name not in {"stream", "stream_options"}}
    if ask.temperature is not None:
        members["temperature"] = ask.temperature
    if ask.extra_messages:
        stated = json_body.written(top, "messages") or b"[]"
        try:
            messages = msgspec.json.decode(stated, type=list[msgspec.Raw])
        except msgspec.DecodeError:  # it holds half a surrogate pair, and is spelled anew
            messages = [msgspec.Raw(json_body.write(message)) for message in json.loads(stated)]
        members["messages"] = [*messages, *ask.extra_messages]
    return msgspec.json.encode(members)


def _text_in(body: bytes) -> str | None:
    try:
        answer = json.loads(body)
        content = answer["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return _with_whole_characters(content) if isinstance(content, str) else None


def _with_whole_characters(text: str) -> str:
    """Return a text that may be told to others: half a surrogate pair becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _pass_on(exchange: Served, taken: _Taken, top: RawMembers) -> None:
    """Send an answer as it is; one that is no refusal as a stream of one piece, where the client asked for a stream."""
    exchange.target = taken.target
    if not exchange.is_stream or taken.status != _SUCCESS:
        await exchange.answer(taken.status, taken.content_type, taken.headers, taken.body)
        return
    options = json.loads(json_body.written(top, "stream_options") or b"null") or {}
    await exchange.begin(taken.status, b"text/event-stream", taken.headers)
    with_usage = isinstance(options, dict) and options.get("include_usage") is True
    await exchange.end(chat_as_stream(taken.body, with_usage=with_usage))
