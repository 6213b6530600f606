"""One inference request from its first byte to its last: read, authorised, routed, called for, answered, recorded.

What is asked and where it may go stands in `question`; the client's connection in `client`; the candidates one after
another in `calling.failover`; one call to an upstream in `calling.attempt`, its rows in `calling.ledger_entry`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from ownward.core import LedgerError, OwnwardError, UpstreamError
from ownward.gateway import json_body, peeking
from ownward.gateway.answer_headers import OF_STREAM, answer_headers, headers_before_answer
from ownward.gateway.asgi import Headers
from ownward.gateway.calling.capped import begin_allowance, limit_output, within_time
from ownward.gateway.calling.continuing import BARRED, Continuing
from ownward.gateway.calling.failover import Failover
from ownward.gateway.calling.sink import forget_frames
from ownward.gateway.calling.strategy_run import run_strategy
from ownward.gateway.calling.translating import STEPWISE_FROM_BYTES
from ownward.gateway.client import CLIENT_GONE, Client, ClientGone
from ownward.gateway.cross_origin import is_foreign_origin
from ownward.gateway.endpoints import CHAT, RESPONSES, Endpoint
from ownward.gateway.error_answers import body_of, headers_of_error, refusal_event_of, status_of, stream_event_of
from ownward.gateway.errors import (
    Draining,
    ForeignPage,
    InternalError,
    Rejected,
    TooManyInFlight,
)
from ownward.gateway.holding.limits import without_limits
from ownward.gateway.keeping.bodies import Capturing, begin_capture
from ownward.gateway.keeping.responses import begin_keeping
from ownward.gateway.placing.choice import Asked, Choice
from ownward.gateway.placing.routing import Target
from ownward.gateway.question import Question
from ownward.gateway.watching.metrics import CallEnd
from ownward.ledger import LimitState

if TYPE_CHECKING:
    from ownward.gateway.calling.allowance import Allowance
    from ownward.gateway.calling.translating import TranslatedCall
    from ownward.gateway.commons import Commons
    from ownward.gateway.listening.asgi_call import AnyCall
    from ownward.upstreams import Response

_LOG = logging.getLogger("ownward.gateway")


class Exchange(Question):
    """One request; `run` returns when the client has its answer and the ledger's rows are queued."""

    takes_hedge = True

    __slots__ = (
        "_capturing",
        "_held_bytes",
        "_row_awaited",
        "allowance",
        "attempts",
        "broken_id",
        "call_note",
        "calls",
        "client",
        "error_kind",
        "has_begun",
        "has_broken",
        "hedge",
        "is_known",
        "limit_states",
        "queue_s",
        "row_written",
        "status",
        "target",
    )

    def __init__(self, gateway: Commons, endpoint: Endpoint, call: AnyCall) -> None:
        """Begin; nothing is read yet."""
        Question.__init__(self, gateway, endpoint, call.scope)
        self.client = Client(call, gateway.settings)
        self.attempts = 0
        self.allowance: Allowance | None = None  # where caps of its strategy hold it
        self.status = 0
        self.call_note: str | None = None  # for the settlement of a call
        self.target: Target | None = None
        self.limit_states: tuple[LimitState, ...] = ()
        self.is_known = (
            False  # whether its key was accepted, or none is demanded: refusals before that are not recorded
        )
        self.hedge: Literal["won", "lost"] | None = None
        self.row_written: bool | None = None  # False while the request's row is being written
        self._row_awaited: asyncio.Future[None] | None = None
        self.calls: list[CallEnd] = []
        self.queue_s = 0.0  # spent waiting for slots
        self.error_kind: str | None = None
        self.has_begun = False
        self.has_broken = False
        self.broken_id: str | None = None  # the upstream's id of an answer whose stream broke
        self._capturing: Capturing | None = None
        self._held_bytes = 0

    async def run(self) -> None:
        """Serve the request; every error becomes an answer, and a client that left is no error."""
        gateway = self.gateway
        gateway.exchanges.add(self)
        try:
            try:  # here and not in a coroutine of its own, which each turn of the event loop would pass through
                asking = await self._take_question()
                await asking
            except OwnwardError as error:
                forget_frames(error)
                await self.answer_error(error)
            except ClientGone:
                self.status = CLIENT_GONE
            except Exception:  # noqa: BLE001 - the outermost frame of a request
                _LOG.exception("request %s failed", self.request_id)
                await self.answer_error(InternalError())
        except asyncio.CancelledError:
            if self.client.is_gone:
                self.status = CLIENT_GONE
            else:
                await self._answer_cut_short()
        finally:
            self.client.let_go()
            gateway.exchanges.discard(self)
            gateway.body_bytes -= self._held_bytes
            gateway.counting.request_ended(self)
            self.keeping = self._translations = None  # they lead back here
            if self._capturing is not None:
                gateway.aside(self._capturing.keep(self))

    async def _take_question(self) -> Awaitable[object]:
        """Read the request and choose its candidates; return what asks them."""
        gateway = self.gateway
        if gateway.has_stopped:
            raise Draining
        if len(gateway.exchanges) > gateway.most_in_flight:
            raise TooManyInFlight(limit=gateway.most_in_flight)
        if gateway.keys is not None:
            self.key = gateway.keys.recall(self.head.key_digest) or await gateway.keys.find(self.headers)
        elif b"origin" in self.headers and is_foreign_origin(self.headers[b"origin"]):
            raise ForeignPage
        self.is_known = True
        body = self.client.take_body(self.headers)
        if body is None:
            body = await self.client.read_body(self._hold)
        else:
            self._hold(len(body))
        self.body = body
        is_long = len(body) >= json_body.LONG_BYTES
        peeked = peeking.peek(self.body, self.headers)
        if is_long:
            await asyncio.sleep(0)
        if self.endpoint is RESPONSES:
            self.keeping = await begin_keeping(self)
            peeked = peeked if self.keeping is None else peeking.peek(self.body, self.headers)
        asked = self.read(peeked)
        if self.table.detection:
            asked = await self.detect(asked, self.table)
        if is_long:
            await asyncio.sleep(0)
        if len(self.body) >= STEPWISE_FROM_BYTES:
            await self.translate_ahead(asked)
        choice = self.choose(asked, peeked)
        if self.keeping is not None:
            self.keeping.decide(choice)
        self._capturing = begin_capture(gateway, choice, self.body)
        self.client.watch(self._headers_before_answer if self.is_stream else None)
        gateway.retries.deposit()
        plan = None if choice.declared is None or choice.is_pinned else self.table.strategies.get(choice.declared.name)
        if plan is None:
            return self._ask_directly(asked, choice)
        if plan.spec.kind == "direct":
            begin_allowance(self, plan.spec)
            limit_output(self, choice.targets)
            return within_time(self, self._ask_directly(asked, choice))
        return run_strategy(plan, self, choice)

    def _ask_directly(self, asked: Asked, choice: Choice) -> Awaitable[object]:
        """Return what asks the candidates, one after another: no coroutine of its own."""
        if self._may_continue(asked, choice):
            return Failover(self, choice.targets, self.body, Continuing(self)).run()
        if self.keeping is not None:
            return self.keeping.carry_out(choice.targets)
        return Failover(self, choice.targets, self.body, self).run()

    def _headers_before_answer(self) -> Headers:
        return headers_before_answer(self)

    def _hold(self, size: int) -> None:
        """Count bytes of the body among those of all requests, until this one is over.

        Raises: TooManyInFlight.
        """
        gateway = self.gateway
        self._held_bytes += size
        gateway.body_bytes += size
        if gateway.body_bytes > gateway.most_body_bytes:
            raise TooManyInFlight(
                limit=gateway.most_body_bytes, what="bytes of requests' bodies", setting="max_bodies_bytes"
            )

    def _may_continue(self, asked: Asked, choice: Choice) -> bool:
        if choice.declared is None or not choice.declared.continues_streams:
            return False
        return self.is_stream and self.endpoint is CHAT and not asked.needs & BARRED

    def note_limits(self, states: tuple[LimitState, ...]) -> None:
        """Keep what is left of the key's limits, for the answer's headers: calls after the first take tokens only."""
        if states:
            told = {state.kind for state in states}
            self.limit_states = (*(state for state in self.limit_states if state.kind not in told), *states)

    async def wait_for_row(self) -> None:
        """Return when another call has written the request's row, or could not."""
        if self._row_awaited is None:
            self._row_awaited = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._row_awaited)

    def note_row(self, *, is_written: bool | None) -> None:
        """Note that the request's row is written; None, that another call has to write it."""
        self.row_written = is_written
        awaited, self._row_awaited = self._row_awaited, None
        if awaited is not None:
            awaited.set_result(None)

    # The request as a `Sink` for its own answer: a strategy, which reads answers first, has sinks of its own.

    def body_for(self, _target: Target, body: bytes) -> bytes:
        """Return the request as a target is asked: as it is."""
        return body

    # What these note is noted at once; the client's coroutine is returned as it is, to be awaited.

    def answer(
        self,
        status: int,
        content_type: bytes,
        headers: Headers,
        body: bytes,
    ) -> Coroutine[Any, Any, None]:
        """Send a whole answer."""
        if self._capturing is not None:
            self._capturing.add(body)
        if self.is_stream and self.client.has_head:
            return self._end_refused(status, body)
        self.has_begun = True
        self.status = status
        if self.limit_states:
            headers = without_limits(headers)
        return self.client.answer(status, [(b"content-type", content_type), *answer_headers(self), *headers], body)

    def begin(self, status: int, content_type: bytes, headers: Headers) -> Coroutine[Any, Any, None]:
        """Send the head of a stream."""
        self.has_begun = True
        self.status = status
        if self.limit_states:
            headers = without_limits(headers)
        sent = [(b"content-type", content_type), *OF_STREAM, *answer_headers(self), *headers]
        return self.client.begin(status, sent)

    def write(self, data: bytes) -> Coroutine[Any, Any, None]:
        """Pass on a piece of a stream."""
        if self._capturing is not None:
            self._capturing.add(data)
        return self.client.write(data)

    def direct_writer(self, response: Response) -> Callable[[bytes], None] | None:
        """Return a function that writes pieces of `response` as they arrive; None where each has to be awaited."""
        write, capturing = self.client.direct_writer(response), self._capturing
        if capturing is None or write is None:
            return write

        def take(data: bytes) -> None:
            capturing.add(data)
            write(data)

        return take

    def end(self, data: bytes = b"") -> Coroutine[Any, Any, None]:
        """End a stream."""
        if self._capturing is not None:
            self._capturing.add(data)
        return self.client.end(data)

    def _end_refused(self, status: int, body: bytes) -> Coroutine[Any, Any, None]:
        """End a stream that held nothing but comments with an upstream's refusal, which has no other place left."""
        response = self._begun_response(None)
        self.has_begun = self.has_broken = True
        self.status = status
        at = self.endpoint
        return self.client.end(refusal_event_of(status, body, at.dialect, endpoint=at.path, response=response))

    async def end_broken(self, error: OwnwardError) -> None:
        """End a stream with an error event in the client's dialect."""
        self.has_broken = True
        self.error_kind = error.kind
        translated = None if self.target is None else self.translated.get(self.target.key)
        await self.end(
            stream_event_of(
                error,
                self.endpoint.dialect,
                endpoint=self.endpoint.path,
                request_id=self.request_id,
                sequence_number=None if translated is None else translated.sequence_number,
                response=self._begun_response(translated),
            )
        )

    def _begun_response(self, translated: TranslatedCall | None) -> dict[str, Any] | None:
        """Return the response whose stream breaks, of its own id behind nothing but comments.

        None at another endpoint, or where nothing tells its id.
        """
        if self.endpoint is not RESPONSES:
            return None
        begun = None if translated is None else translated.begun_response
        name = self.broken_id if self.has_begun else self.request_id
        if begun is None and name is not None and (translated is None or not self.has_begun):
            begun = {
                "id": name,
                "object": "response",
                "created_at": int(self.gateway.clock.now().timestamp()),
                "model": self.route,
                "output": [],
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
            }
        if begun is not None and self.keeping is not None:
            begun["id"] = self.keeping.name
        return begun

    async def answer_error(self, error: OwnwardError) -> None:
        """Answer with an error, or end the stream with it; record a refusal where nothing was dispatched."""
        status = status_of(error)
        self.error_kind = error.kind
        if self.row_written is None and self.is_known and not isinstance(error, LedgerError):
            self._record_refusal(error, status)
        if status >= 500 and not isinstance(error, Rejected | UpstreamError | InternalError):  # noqa: PLR2004 - our own faults
            self.gateway.fault_log.say("request %s failed", self.request_id, error)
        if self.has_begun or self.client.has_head:
            self.status = self.status or status
            await self.end_broken(error)
            return
        body = body_of(error, self.endpoint.dialect, request_id=self.request_id)
        await self.answer(status, b"application/json", headers_of_error(error), body)

    async def _answer_cut_short(self) -> None:
        """Answer a request that is still running at the end of the drain."""
        error = Draining(was_sent=self.attempts > 0)
        if self.has_begun:
            await self.end_broken(error)
        else:
            self.client.close_after_answer()
            await self.answer_error(error)

    def _record_refusal(self, error: OwnwardError, status: int) -> None:
        try:
            request = self.request or self.ledger_request("")
            self.gateway.ledger.refuse(request, reason=str(error), status=status)
        except LedgerError as failure:
            self.gateway.fault_log.say("the refusal of %s could not be recorded", self.request_id, failure)
