"""One call to one upstream: a permit, an intent, the call itself, and what is made of its failing.

The intent is committed before anything is sent; what became of the call is settled exactly once, whatever happens (see
`ledger_entry`). How its answer reaches the client stands in `relaying`, what becomes of a refusal in `refused_call`.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from ownward.core import BrokenStream, OwnwardError, PolicyRefusal, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from ownward.gateway import json_body
from ownward.gateway.asgi import Headers
from ownward.gateway.calling.adapting import narrow_tools, needs_call_without_form, needs_narrowed_tools, refuse_ignored
from ownward.gateway.calling.first_call import wants_one_call
from ownward.gateway.calling.ledger_entry import LedgerEntry
from ownward.gateway.calling.refused_call import RefusedCall
from ownward.gateway.calling.relaying import Relay
from ownward.gateway.calling.sink import Retry, Sink, forget_frames
from ownward.gateway.calling.stream_as_whole import PATHS
from ownward.gateway.calling.unread_reasoning import with_reasoning_stated
from ownward.gateway.endpoints import CHAT, COMPLETIONS, COUNT_CHATS
from ownward.gateway.headers import NO_BETAS, headers_for_client, without_betas
from ownward.gateway.needs import TOOLS
from ownward.gateway.placing.engine_quirks import is_llama_cpp
from ownward.gateway.placing.no_target import refuse_anew
from ownward.policy import Permit, issue_permit
from ownward.upstreams import Response, Spliced, Timeouts, splice

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.calling.translating import TranslatedCall
    from ownward.gateway.endpoints import Endpoint
    from ownward.gateway.placing.routing import Target

_BETA = "beta=true"
"""What Anthropic's client adds to the address of what is in trial there; nothing else of a query travels on."""


def is_of_kept_connection(error: OwnwardError) -> bool:
    """Return whether a call failed as its connection was closed when it was used again: that says nothing of health."""
    return isinstance(error, BrokenStream) and error.was_kept


class Attempt:
    """One call; `run` returns once the answer was passed on, or raises.

    `endpoint` is the one that the upstream is asked at, and `translated` the request in its dialect where that differs;
    `body` is the request as it goes there, but for what splicing makes of it.
    """

    __slots__ = (
        "_gateway",
        "_response",
        "_waiting_bytes",
        "body",
        "endpoint",
        "entry",
        "exchange",
        "number",
        "sink",
        "spared",
        "streams_whole_answers",
        "takes_first_call",
        "target",
        "translated",
        "without_betas",
    )

    def __init__(self, exchange: Served, target: Target, number: int, body: bytes, sink: Sink) -> None:
        """Begin; nothing is written yet. After `run`, `entry` says what was settled."""
        self.exchange = exchange
        self.target = target
        self.sink = sink
        self.translated: TranslatedCall | None = None
        self.takes_first_call = False  # of several tool calls in an answer, only the first is passed on
        self.streams_whole_answers = False  # the upstream is asked for a stream, the client gets it as a whole answer
        self.spared: tuple[str, ...] = ()  # members without which the upstream is asked again if it refuses them
        self.without_betas = NO_BETAS  # values of the client's `anthropic-beta` that are known not to be known there
        self.endpoint: Endpoint = target.substitute(exchange.endpoint, exchange.needs) or exchange.endpoint
        if self.endpoint is COUNT_CHATS and target.key in exchange.gateway.learned.counts_no_chats:
            self.endpoint = exchange.endpoint
        self.entry = LedgerEntry(exchange, target, number, self.endpoint)
        self._gateway = exchange.gateway
        self.number = number
        self.body = body
        self._response: Response | None = None
        self._waiting_bytes = 0

    @property
    def was_sent(self) -> bool:
        """Whether the upstream was asked, or was about to be."""
        return self.entry.sent_s > 0

    async def run(self) -> None:
        """Send the request and relay the answer, which others see as load meanwhile.

        Raises: Incapable, if the upstream's dialect has no words for the request; OverBudget, UnboundedCharge or
        OverLimit, if a budget or a limit does not admit it; Retry, if it failed before the first byte and another
        upstream may do better; PolicyRefusal; LedgerError, if the intent could not be written, so nothing was sent.
        """
        gateway, exchange, entry, key = self._gateway, self.exchange, self.entry, self.target.key
        in_flight, prompt = gateway.in_flight, exchange.prompt
        in_flight[key] = in_flight.get(key, 0) + 1
        if gateway.on_load is not None:
            gateway.on_load(key)
        if prompt is not None and self.target.tier.name in exchange.table.prefix_tiers:
            self._waiting_bytes = gateway.prefixes.begin(self.target, prompt)
        gateway.health.note_dispatch(key)  # now: others may ask while the intent is written
        try:  # all of it here: each turn of the event loop passes through every coroutine
            if self.endpoint is not exchange.endpoint:
                await self._translate()
            if exchange.needs:
                self._adapt_tools(exchange.needs)
            if key in gateway.learned.demands_reasoning and self.endpoint is CHAT:
                self.body = with_reasoning_stated(self.body) or self.body
            is_long = len(self.body) >= json_body.LONG_BYTES
            if is_long:
                await asyncio.sleep(0)
            spliced = self._splice()
            if is_long:  # its digest alone takes milliseconds, in which others are served
                permit = await asyncio.to_thread(self._issue_permit, spliced.body)
            else:
                permit = self._issue_permit(spliced.body)
            await entry.write_intent(spliced, permit)
            if gateway.table is not exchange.heeded:  # a plan was loaded while the intent was written
                permit = await self._issue_permit_anew(spliced.body)
            await self._call(spliced, permit)
        finally:
            if not entry.sent_s:
                gateway.health.note_nothing(key)
            in_flight[key] -= 1
            if self._waiting_bytes:
                self.end_prompt()
            if gateway.on_load is not None:
                gateway.on_load(key)

    def end_prompt(self) -> None:
        """Note that the prompt waits no longer: its first token is there, or will not come."""
        if self._waiting_bytes:
            self._gateway.prefixes.end(self.target, self._waiting_bytes)
            self._waiting_bytes = 0

    async def _translate(self) -> None:
        """Translate the request into the upstream's dialect, without members that its model is known to refuse."""
        target, refused = self.target, self._gateway.learned.refuses_members
        self.translated = await self.exchange.translate(target, self.body)
        self.body = self.translated.body
        for member in self.translated.spared:
            if (target.key, member) in refused:
                self.body = json_body.without_member(self.body, member)
                self.translated.note_left_out(member)
            else:
                self.spared += (member,)

    def _adapt_tools(self, needs: frozenset[str]) -> None:
        """Rewrite what a chat says of its tools into what the engine obeys."""
        if needs_narrowed_tools(needs, self.target, self.endpoint):
            self.body = narrow_tools(self.body)
        if needs_call_without_form(needs, self.target, self.endpoint):
            self.body = json_body.without_member(self.body, "response_format")

    def _splice(self) -> Spliced:
        """Return the request as it is sent, and note what has to be made of its answer."""
        target, endpoint, quirks = self.target, self.endpoint, self.target.quirks
        asks_usage = target.key not in self._gateway.learned.refuses_stream_options
        if not asks_usage and self.translated is not None:
            # It was ours: the client cannot state it.
            self.body = json_body.without_member(self.body, "stream_options")
        model, splices_as = target.tier.model, endpoint.splices_as
        spliced = splice(self.body, model=model, want_stream_usage=asks_usage, endpoint=splices_as)
        if endpoint is COMPLETIONS and quirks.ignored_members:
            refuse_ignored(spliced.top, target)
        if spliced.choices > 1:
            self.entry.asks_several, self.entry.misses_answers = True, quirks.usage_counts_one_answer
        if quirks.ignores_one_call_limit and TOOLS in self.exchange.needs:
            self.takes_first_call = wants_one_call(spliced.top)
        if target.streams_whole_answers and not spliced.is_stream and endpoint.path in PATHS:
            self.streams_whole_answers = True
            self.body = json_body.with_member(self.body, "stream", b"true")
            spliced = splice(self.body, model=model, want_stream_usage=asks_usage, endpoint=splices_as)
        return spliced

    def _issue_permit(self, body: bytes) -> Permit:
        exchange, target = self.exchange, self.target
        return issue_permit(
            label=exchange.label,
            place=target.place,
            upstream=target.name,
            origin=target.origin,
            body=body,
            workload=exchange.workload,
        )

    async def _issue_permit_anew(self, body: bytes) -> Permit:
        """Return a permit by the label as it is now.

        Raises: Retry, if a plan that was loaded since does not let the request go there; its intent is settled.
        """
        try:
            await self.exchange.heed_new_plan()
        except asyncio.CancelledError:
            self.entry.settle_failed("nothing was sent: it was cancelled before")
            raise
        if self.exchange.may_still_go(self.target):
            return self._issue_permit(body)
        error = refuse_anew(self.exchange.label, self.target)
        self.entry.settle_failed(f"nothing was sent: {error.message}")
        raise Retry(error)

    async def _call(self, spliced: Spliced, permit: Permit) -> None:
        gateway, target, entry = self._gateway, self.target, self.entry
        entry.sent_s = gateway.clock.monotonic_s()
        try:
            response = self._response = await gateway.door.send(
                permit,
                method="POST",
                target=self._path(),
                headers=self._headers(),
                body=spliced.body,
                timeouts=self._timeouts(),
                way=target.way,
            )
            entry.status = response.status or None
            entry.headers = response.headers
            if target.tier.engine == "adopted":
                gateway.health.log.served_by(target.key, response)
            if spliced.choices > 1 and is_llama_cpp(response):
                entry.misses_answers = True
            is_answer = 200 <= response.status < 300  # noqa: PLR2004 - the statuses of success
            await (Relay if is_answer else RefusedCall)(self, response, spliced).run()
        except UpstreamUnreachable as error:
            gateway.health.note_failure(target.key, error)
            entry.settle_failed(error.message)
            raise Retry(error) from None
        except UpstreamError as error:
            if is_of_kept_connection(error):
                gateway.health.note_nothing(target.key)
            else:
                gateway.health.note_failure(target.key, error)
            entry.settle_unsettled(error.message)
            if not self.sink.has_begun:
                raise Retry(error) from None
            forget_frames(error)  # the answer keeps it
            self.exchange.broken_id = None if entry.answer is None else entry.answer.upstream_request_id
            await self.sink.end_broken(self._describe_break(error))
        except PolicyRefusal as error:
            gateway.health.note_nothing(target.key)
            entry.settle_failed(error.message)
            raise
        except asyncio.CancelledError:
            gateway.health.note_nothing(target.key)
            if not entry.is_settled and entry.answer is not None and entry.answer.is_complete:
                # Clients leave at `[DONE]`, before the upstream's connection ends: nothing is in doubt then.
                entry.settle_by_answer(entry.status)
            if not entry.is_settled:
                who = "the client left" if self.exchange.client.is_gone else "the gateway stopped"
                who = "it was cancelled" if entry.is_beaten else who
                allowance = self.exchange.allowance
                if allowance is not None and allowance.is_late(gateway.clock.monotonic_s()):
                    who = f"it was cut at {allowance.why_ends}"
                entry.settle_unsettled(f"{who} after {entry.progress()}")
            raise
        finally:
            if self._response is not None:
                self._response.abort()
            if not entry.is_settled:  # only a fault of ours leads here; the charge stays open, with its bounds
                entry.settle_unsettled("the gateway failed while the call was running")

    async def read_rest(self, limit_bytes: int, *, most_s: float = inf) -> bytes:
        """Return the rest of an answer of which the client has nothing yet, within `most_s` and the request's deadline.

        Raises: UpstreamTimeout, if it comes too slowly, each drip in time; what `Response.read` raises.
        """
        response = self._response
        assert response is not None
        if response.is_complete:
            return await response.read(limit_bytes)
        deadline_s = self._gateway.settings.deadline_s
        left_s = deadline_s - (self._gateway.clock.monotonic_s() - self.exchange.started_s)
        try:
            async with asyncio.timeout(max(min(left_s, most_s), 0.001)):
                return await response.read(limit_bytes)
        except TimeoutError:
            raise UpstreamTimeout(
                f"upstream {self.target.name!r} sent {response.bytes_received} bytes of its answer until the deadline",
                allowed=f"A request has {deadline_s:g} s for all before its answer's first byte",
                next_step="It may have charged for it. Raise deadline_s under [gateway] in ownward.toml, or stream",
            ) from None

    def headers_for_client(self) -> Headers:
        """Return the headers of the answer that travel on."""
        assert self._response is not None
        dialect = None if self.translated is None else self.exchange.endpoint.dialect
        return headers_for_client(self._response.headers, translated_to=dialect)

    def _path(self) -> str:
        path = self.target.paths[self.endpoint.path]
        return f"{path}?{_BETA}" if self.exchange.is_beta and self.translated is None else path

    def _headers(self) -> Headers:
        exchange, target = self.exchange, self.target
        headers = [
            (b"content-type", b"application/json"),
            (b"x-ownward-request-id", exchange.request_id.encode("ascii")),
            (b"x-ownward-attempt", b"%d" % self.number),
        ]
        passed = exchange.head.passed_to(self.endpoint.dialect, is_translated=self.translated is not None)
        refused = self.without_betas = self._gateway.learned.refuses_betas.get(target.key, NO_BETAS)
        headers += without_betas(passed, refused) if refused else passed
        headers += target.headers
        return headers

    def _timeouts(self) -> Timeouts:
        target, settings = self.target, self._gateway.settings
        left_s = settings.deadline_s - (self.entry.sent_s - self.exchange.started_s)
        stated = target.timeouts
        if left_s >= stated.first_byte_s:
            return stated
        left_s = max(left_s, 0.001)
        return Timeouts(
            connect_s=min(stated.connect_s, left_s),
            first_byte_s=min(stated.first_byte_s, left_s),
            stall_s=stated.stall_s,
        )

    def _describe_break(self, error: UpstreamError) -> BrokenStream:
        entry = self.entry
        events = 0 if entry.answer is None else entry.answer.content_events
        says = "" if error.allowed is None else f"{error.allowed}. "
        return BrokenStream(
            f"the stream of upstream {self.target.name!r} broke after {events} events and {entry.passed_bytes} bytes:"
            f" {error.message}",
            allowed=f"{says}What came before stands; the answer is not complete",
            next_step="Ask again; the ledger lists this request as unsettled, with bounds of its charge",
        )
