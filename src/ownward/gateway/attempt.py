"""One call to one upstream: its intent, its answer relayed, and its one settlement.

The ledger protocol stands here. The intent is committed before anything is sent; exactly one settlement follows
it, whatever happens: `settled` with the upstream's own usage after a complete answer, `failed` where the upstream
certainly charged nothing, `unsettled` with bounds in every other case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from ownward.core import (
    BrokenStream,
    LedgerError,
    OwnwardError,
    PolicyRefusal,
    RateLimited,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from ownward.gateway import wire
from ownward.gateway._whole_as_stream import chat_as_stream
from ownward.gateway.budgets import compute_checks, refusal_of
from ownward.gateway.crossing import Crossed
from ownward.gateway.endpoints import CHAT, Endpoint
from ownward.gateway.errors import UntranslatedAnswer, UpstreamCredentials, broken_stream
from ownward.gateway.limits import NO_TAKES, compute_releases, compute_takes
from ownward.gateway.limits import refusal_of as limit_refusal_of
from ownward.gateway.metrics import CallEnd
from ownward.gateway.routing import Target
from ownward.ledger import BudgetCheck, BudgetSpent, Intent, LimitReached, LimitTake, Request, Settlement
from ownward.policy import Permit, issue_permit
from ownward.pricing import Usage
from ownward.upstreams import (
    Response,
    Spliced,
    Timeouts,
    UsageTap,
    input_tokens_upper_bound,
    output_tokens_upper_bound,
    splice,
)

if TYPE_CHECKING:
    from ownward.gateway.exchange import Exchange

_LOG = logging.getLogger("ownward.gateway")

_ERROR_BODY_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHORTEST_SSE_BYTES = 6
_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")

_CREDENTIALS = frozenset({401, 403})
_RATE_LIMITED = 429
_SERVER_FAULTS = 500
_NOT_IMPLEMENTED = 501  # says something of the request, not of the upstream's health
_RETRIED = frozenset({401, 403, 404, 408, 429})
_LAST_STATUS = 599
_MAY_HAVE_WORKED = frozenset({408, 504, 522, 524})
"""Statuses by which a proxy gives up waiting: the work behind it may have been done and charged."""

_GARBLED = "it sent an event that is no JSON"
_NO_USAGE = Usage(input_tokens=0, output_tokens=0)


class Retry(Exception):
    """An attempt failed before the first byte reached the client, in a way that another upstream may not.

    `error` is what to say if there is none; `answer` the upstream's own words, where it had any.
    """

    def __init__(self, error: OwnwardError, *, answer: tuple[int, bytes, bytes] | None = None) -> None:
        """Keep what to say."""
        super().__init__(str(error))
        self.error = error
        self.answer = answer


class Sink(Protocol):
    """Where an answer goes: to the client, or to a strategy that wants to look at it first."""

    @property
    def has_begun(self) -> bool:
        """Whether anything was passed on, so that no other upstream can be asked."""
        ...

    async def answer(self, status: int, content_type: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Take a whole answer."""
        ...

    async def begin(self, status: int, content_type: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the head of a stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Take a piece of a stream."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """Take a stream's end."""
        ...

    async def end_broken(self, error: OwnwardError) -> None:
        """Take the news that a stream broke."""
        ...


class Attempt:
    """One call; `run` returns once the answer was passed on, or raises."""

    __slots__ = (
        "_body",
        "_crossed",
        "_endpoint",
        "_exchange",
        "_gateway",
        "_intent",
        "_is_settled",
        "_number",
        "_passed_bytes",
        "_response",
        "_sent_s",
        "_sink",
        "_takes",
        "_tap",
        "_target",
        "_ttft_s",
        "charge_picousd",
        "usage",
    )

    def __init__(self, exchange: Exchange, target: Target, *, number: int, body: bytes, sink: Sink) -> None:
        """Begin; nothing is written yet. After `run`, `usage` and `charge_picousd` say what was settled, if known."""
        self._exchange = exchange
        self._gateway = exchange.gateway
        self._target = target
        self._number = number
        self._body = body
        self._crossed: Crossed | None = None
        self._endpoint: Endpoint = exchange.endpoint  # as the upstream is asked
        self._sink = sink
        self.usage: Usage | None = None
        self.charge_picousd: int | None = None
        self._intent: Intent | None = None
        self._is_settled = False
        self._passed_bytes = 0
        self._response: Response | None = None
        self._sent_s = 0.0
        self._takes: tuple[LimitTake, ...] = NO_TAKES
        self._tap: UsageTap | None = None
        self._ttft_s: float | None = None

    @property
    def was_sent(self) -> bool:
        """Whether the upstream was asked, or was about to be."""
        return self._sent_s > 0

    async def run(self) -> None:
        """Send the request and relay the answer.

        Raises: Incapable, if the upstream's dialect has no words for the request; OverBudget, UnboundedCharge or
        OverLimit, if a budget or a limit does not admit it; Retry, if it failed before the first byte and another
        upstream may do better; PolicyRefusal; LedgerError, if the intent could not be written, so nothing was sent.
        """
        exchange, target = self._exchange, self._target
        instead = target.crossing(self._endpoint, exchange.needs)
        if instead is not None:
            self._crossed = exchange.cross(target, self._body)
            self._endpoint, self._body = instead, self._crossed.body
        spliced = splice(
            self._body, model=target.tier.model, want_stream_usage=True, endpoint=self._endpoint.splices_as
        )
        permit = issue_permit(
            label=exchange.label,
            place=target.place,
            upstream=target.name,
            origin=target.origin,
            body=spliced.body,
            workload=exchange.workload,
        )
        await self._write_intent(spliced, permit)
        try:
            await self._call(spliced, permit)
        finally:
            if self._response is not None:
                self._response.abort()
            if not self._is_settled:  # only a fault of ours leads here; the charge stays open, with its bounds
                self._settle_unsettled("the gateway failed while the call was running")

    async def _write_intent(self, spliced: Spliced, permit: Permit) -> None:
        exchange, gateway, target = self._exchange, self._gateway, self._target
        assert exchange.request is not None
        tier, endpoint = target.tier, self._endpoint
        input_high, output_high, is_assumed = self._token_bounds(spliced)
        charge_high = None
        if endpoint.is_free:
            charge_high = 0
        elif target.bound is not None and input_high is not None:
            charge_high = target.bound.compute_picousd(input_tokens_high=input_high, output_tokens_high=output_high)
        intent = Intent(
            request_id=exchange.request_id,
            attempt=self._number,
            tier=tier.name,
            upstream=target.name,
            model=tier.model,
            price_id=target.price_id,
            input_tokens_high=input_high,
            output_tokens_high=output_high,
            charge_high_picousd=charge_high,
            body_sha256=permit.body_sha256,
            started_at=gateway.clock.now(),
        )
        self._intent = intent
        budgets = compute_checks(
            exchange.choice,
            exchange.key,
            target,
            task=exchange.task_budget,
            charge_high_picousd=None if is_assumed and charge_high else charge_high,
            at=intent.started_at,
        )
        key = exchange.key
        if key is not None and not endpoint.is_free:
            self._takes = compute_takes(
                key,
                body_bytes=len(spliced.body),
                stated_output_tokens=spliced.max_output_tokens,
                output_tokens_high=output_high,
                is_first=self._number == 1,
            )
        try:
            await self._begin(exchange.request, intent, budgets)
        except BudgetSpent as error:
            gateway.counting.over_budget(error.check)
            raise refusal_of(error, at=intent.started_at) from None
        except LimitReached as error:
            gateway.counting.metrics.over_limit.add((error.take.kind,))
            raise limit_refusal_of(error) from None

    async def _begin(self, request: Request, intent: Intent, budgets: tuple[BudgetCheck, ...]) -> None:
        """Write the intent; the request's row goes with the first one that can be written."""
        exchange, ledger = self._exchange, self._gateway.ledger
        # Where these are cancelled, the ledger itself settles the attempt as failed: nothing was sent.
        while (row := exchange.row_written) is not None:
            if row.is_set():
                exchange.note_limits(await ledger.begin_attempt(intent, budgets=budgets, limits=self._takes))
                return
            await row.wait()
        row = exchange.row_written = asyncio.Event()
        try:
            exchange.note_limits(await ledger.begin(request, intent, budgets=budgets, limits=self._takes))
        except LedgerError:
            exchange.row_written = None
            raise
        finally:
            row.set()

    def _token_bounds(self, spliced: Spliced) -> tuple[int | None, int, bool]:
        """Return the most input and output tokens, and whether the latter is assumed because nothing states it."""
        tier, endpoint = self._target.tier, self._endpoint
        input_high = input_tokens_upper_bound(
            spliced, endpoint=endpoint.splices_as, max_context_tokens=tier.max_context_tokens
        )
        if not endpoint.has_output:
            return input_high, 0, False
        output_high = output_tokens_upper_bound(
            spliced, endpoint=endpoint.splices_as, max_output_tokens=tier.max_output_tokens
        )
        if output_high is not None:
            return input_high, output_high, False
        if tier.max_context_tokens is not None:
            return input_high, tier.max_context_tokens * spliced.choices, False
        return input_high, self._gateway.settings.assumed_output_tokens * spliced.choices, True

    # The call.

    async def _call(self, spliced: Spliced, permit: Permit) -> None:
        gateway, target, exchange = self._gateway, self._target, self._exchange
        self._sent_s = gateway.clock.monotonic_s()
        try:
            self._response = await gateway.door.send(
                permit,
                method="POST",
                target=target.paths[self._endpoint.path],
                headers=self._headers(),
                body=spliced.body,
                timeouts=self._timeouts(),
                way=target.way,
            )
            await self._relay(self._response, spliced)
        except UpstreamUnreachable as error:
            gateway.learn_failure(target.key)
            self._settle_failed(error.message)
            raise Retry(error) from None
        except UpstreamError as error:
            gateway.learn_failure(target.key)
            self._settle_unsettled(error.message)
            if not self._sink.has_begun:
                raise Retry(error) from None
            await self._sink.end_broken(self._describe_break(error))
        except PolicyRefusal as error:
            gateway.learn_nothing(target.key)
            self._settle_failed(error.message)
            raise
        except asyncio.CancelledError:
            gateway.learn_nothing(target.key)
            if not self._is_settled and self._has_last_word():
                # Clients leave at `[DONE]`, before the upstream's connection ends: nothing is in doubt then.
                self._settle_by_tap(self._response.status)  # type: ignore[union-attr]
            if not self._is_settled:
                who = "the client left" if exchange.is_gone else "the gateway stopped"
                self._settle_unsettled(f"{who} after {self._progress()}")
            raise

    def _headers(self) -> list[tuple[bytes, bytes]]:
        exchange, target = self._exchange, self._target
        headers = [
            (b"content-type", b"application/json"),
            (b"x-ownward-request-id", exchange.request_id.encode("ascii")),
            (b"x-ownward-attempt", b"%d" % self._number),
        ]
        headers += wire.for_upstream(
            exchange.headers, dialect=self._endpoint.dialect, is_translated=self._crossed is not None
        )
        headers += target.headers
        return headers

    def _client_headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        if self._crossed is None:
            return wire.for_client(response.headers)
        return wire.for_client(response.headers, translated_to=self._exchange.endpoint.dialect)

    def _timeouts(self) -> Timeouts:
        target, settings = self._target, self._gateway.settings
        left_s = settings.deadline_s - (self._sent_s - self._exchange.started_s)
        stated = target.timeouts
        if left_s >= stated.first_byte_s:
            return stated
        left_s = max(left_s, 0.001)
        return Timeouts(
            connect_s=min(stated.connect_s, left_s),
            first_byte_s=min(stated.first_byte_s, left_s),
            stall_s=stated.stall_s,
        )

    async def _relay(self, response: Response, spliced: Spliced) -> None:
        status = response.status
        if not 200 <= status < 300:  # noqa: PLR2004 - the statuses of success
            if status > _LAST_STATUS:
                raise BrokenStream(f"upstream {self._target.name!r} answered with the status {status}, which is none")
            await self._relay_error(response)
            return
        content_type = response.header(b"content-type") or b"application/json"
        if content_type[:17].lower() != b"text/event-stream":
            await self._relay_whole(response, spliced, content_type)
        elif self._is_stream(spliced):
            await self._relay_stream(response, spliced, content_type)
        else:
            await self._refuse_stream(response)

    def _is_stream(self, spliced: Spliced) -> bool:
        """Tell whether a stream was asked for, of an endpoint that has one."""
        return spliced.is_stream and self._exchange.endpoint.has_output

    async def _relay_whole(self, response: Response, spliced: Spliced, content_type: bytes) -> None:
        gateway, crossed = self._gateway, self._crossed
        body = await response.read(gateway.settings.max_answer_bytes)
        self._ttft_s = gateway.clock.monotonic_s() - self._sent_s
        tap = self._tap = UsageTap(self._endpoint.dialect, False)  # noqa: FBT003 - as its owner reads it
        tap.feed(body)
        tap.finish()
        if not tap.is_complete:
            raise BrokenStream(
                f"upstream {self._target.name!r} answered {response.status} with {len(body)} bytes that are no answer",
                next_step="It may have charged for them",
            )
        gateway.learn_success(self._target.key)
        self._settle_by_tap(response.status)
        if self._is_stream(spliced):
            await self._answer_as_stream(response, spliced, body)
            return
        if crossed is not None:
            body = self._tell_crossed(crossed.answer, body)
        await self._sink.answer(response.status, content_type, self._client_headers(response), body)

    async def _answer_as_stream(self, response: Response, spliced: Spliced, body: bytes) -> None:
        """Tell a whole answer, which is paid for, as the stream that the client waits for; not all upstreams stream.

        Raises: Retry, of another endpoint than chat that is passed through.
        """
        head = (response.status, b"text/event-stream", self._client_headers(response))
        if self._crossed is not None:
            events = self._tell_crossed(self._crossed.answer_as_stream, body)
            await self._sink.begin(*head)
            await self._sink.end(events)
            return
        if self._exchange.endpoint is not CHAT:
            why = f"upstream {self._target.name!r} answered whole where a stream was asked for"
            raise Retry(BrokenStream(why, next_step="Ask without stream"))
        try:
            events = chat_as_stream(body, with_usage=spliced.asked_usage)
        except BrokenStream as error:
            raise Retry(error) from None
        await self._sink.begin(*head)
        await self._sink.end(events)

    def _tell_crossed(self, tell: Callable[..., bytes], body: bytes) -> bytes:
        """Return a whole answer, which is paid for, in the client's dialect.

        Raises: Retry, if the dialect has no words for it.
        """
        try:
            return tell(body, now_s=self._gateway.clock.now().timestamp())
        except UntranslatedAnswer as error:
            raise Retry(error) from None

    async def _refuse_stream(self, response: Response) -> None:
        """Read a stream that nobody asked for to its end, settle what it cost, and pass nothing on."""
        tap = self._tap = UsageTap(self._endpoint.dialect)
        left_bytes = self._gateway.settings.max_answer_bytes
        while left_bytes > 0 and (chunk := await response.next_chunk()):
            left_bytes -= len(chunk)
            tap.feed(chunk)
        tap.finish()
        error = BrokenStream(f"upstream {self._target.name!r} answered with a stream where none was asked for")
        if not tap.is_complete:
            raise error
        self._gateway.learn_failure(self._target.key)
        self._settle_by_tap(response.status)
        raise Retry(error)

    async def _relay_stream(self, response: Response, spliced: Spliced, content_type: bytes) -> None:
        exchange, gateway, crossed = self._exchange, self._gateway, self._crossed
        tap = self._tap = UsageTap(self._endpoint.dialect, strip_usage=spliced.adds_usage)
        feed = tap.feed
        if crossed is not None:
            crossed.begin_stream(now_s=gateway.clock.now().timestamp())
            feed = lambda data: crossed.feed(tap.feed(data))  # noqa: E731 - the other is a bound method
        chunk = await self._first_chunk(response)
        passed = feed(chunk)
        if tap.error is not None and not tap.has_content:
            # The upstream's own words may quote the request: they go to the client and not into the ledger.
            raise BrokenStream(
                f"upstream {self._target.name!r} began its stream with an error", allowed=f"It says: {tap.error}"
            )
        if tap.is_garbled:
            raise BrokenStream(f"upstream {self._target.name!r} began its stream with an event that is no JSON")
        await self._sink.begin(response.status, content_type, self._client_headers(response))
        while chunk:
            if self._ttft_s is None and tap.has_content:
                self._ttft_s = gateway.clock.monotonic_s() - self._sent_s
            if passed:
                self._passed_bytes += len(passed)
                await self._sink.write(passed)
            write = exchange.lead(response) if self._sink is exchange and crossed is None else None
            if write is not None:
                await response.pass_on(self._taking(response, tap, write))
                break
            chunk = await response.next_chunk()
            passed = feed(chunk) if chunk else b""
            if tap.is_garbled:
                raise BrokenStream(_GARBLED)
        rest = tap.finish()
        if not tap.is_complete:
            if rest:
                await self._sink.write(rest)
            raise BrokenStream("it ended without its last word")
        if crossed is not None:
            rest = crossed.finish()
        gateway.learn_success(self._target.key)
        self._settle_by_tap(response.status)
        await self._sink.end(rest)

    def _taking(self, response: Response, tap: UsageTap, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Return what takes a piece of the stream from the upstream's connection to the client's."""
        feed, monotonic_s = tap.feed, self._gateway.clock.monotonic_s

        def take(data: bytes) -> None:
            passed = feed(data)
            if tap.is_garbled:
                response.abort(BrokenStream(_GARBLED))
                return
            if self._ttft_s is None and tap.has_content:
                self._ttft_s = monotonic_s() - self._sent_s
            if passed:
                self._passed_bytes += len(passed)
                write(passed)

        return take

    async def _first_chunk(self, response: Response) -> bytes:
        """Return the beginning of a stream, long enough to tell that it is one."""
        first = await response.next_chunk()
        while 0 < len(first.removeprefix(_BYTE_ORDER_MARK)) < _SHORTEST_SSE_BYTES:
            more = await response.next_chunk()
            if not more:
                break
            first += more
        first = first.removeprefix(_BYTE_ORDER_MARK)  # readers skip it, by the standard
        if not first.lstrip().startswith(_SSE_STARTS):
            what = "no stream of events" if first else "nothing"
            raise BrokenStream(
                f"upstream {self._target.name!r} answered {what} where a stream was announced",
                next_step="It may have charged for it",
            )
        return first

    async def _relay_error(self, response: Response) -> None:
        gateway, key = self._gateway, self._target.key
        status = response.status
        try:
            body = await response.read(_ERROR_BODY_BYTES)
        except UpstreamError:
            body = b""
        tap = self._tap = UsageTap(self._endpoint.dialect, False)  # noqa: FBT003 - as its owner reads it
        tap.feed(body)
        tap.finish()
        if tap.usage is not None:
            self._settle_by_tap(status)
        elif status in _MAY_HAVE_WORKED:
            self._settle_unsettled(f"it answered {status}", status=status)
        else:
            self._settle_failed(f"it answered {status}", status=status)
        wait_s = _retry_after(response)
        if status == _RATE_LIMITED:
            gateway.learn_wait(key, wait_s)
        elif (status >= _SERVER_FAULTS and status != _NOT_IMPLEMENTED) or status in _CREDENTIALS:
            gateway.learn_failure(key)
        else:
            gateway.learn_success(key)
        content_type = response.header(b"content-type") or b"application/json"
        told, error = status, body
        if self._crossed is not None:
            (told, error), content_type = self._crossed.error(status, body), b"application/json"
        if status >= _SERVER_FAULTS or status in _RETRIED or status < 400:  # noqa: PLR2004 - a redirect
            is_json = content_type.startswith(b"application/json") and status >= 400 and bool(body)  # noqa: PLR2004
            own_words = (told, content_type, error) if is_json and status not in _CREDENTIALS else None
            raise Retry(self._refusal(status, wait_s), answer=own_words)
        await self._sink.answer(told, content_type, self._client_headers(response), error)

    def _refusal(self, status: int, wait_s: float | None) -> OwnwardError:
        name = self._target.name
        if status in _CREDENTIALS:
            variable = self._target.upstream.api_key_env
            return UpstreamCredentials(
                f"upstream {name!r} does not accept this gateway's key: it answered {status}",
                next_step=f"Check the environment variable {variable}" if variable else "Name its key in api_key_env",
            )
        if status == _RATE_LIMITED:
            asks = "" if wait_s is None else f" and asks to wait {wait_s:g} s"
            return RateLimited(f"upstream {name!r} answered 429{asks}", retry_after_s=wait_s)
        if status >= _SERVER_FAULTS or status < 400:  # noqa: PLR2004 - a redirect is not followed
            return UpstreamError(f"upstream {name!r} answered {status}")
        return UpstreamRefused(f"upstream {name!r} answered {status}", status=status)

    def _describe_break(self, error: UpstreamError) -> BrokenStream:
        events = 0 if self._tap is None else self._tap.content_events
        return broken_stream(self._target.name, passed_bytes=self._passed_bytes, events=events, why=error.message)

    def _has_last_word(self) -> bool:
        return self._response is not None and self._tap is not None and self._tap.is_complete

    def _progress(self) -> str:
        events = 0 if self._tap is None else self._tap.content_events
        return f"{events} content events, {self._passed_bytes} bytes passed on"

    # The one settlement.

    def _settle_by_tap(self, status: int) -> None:
        tap, target = self._tap, self._target
        assert tap is not None
        if self._endpoint.is_free:
            usage: Usage | None = _NO_USAGE
        else:
            usage = tap.usage
        if usage is None:
            self._settle_unsettled("the answer is complete and states no usage", status=status)
            return
        charge = None
        if self._endpoint.is_free:
            charge = 0
        elif target.bound is not None:
            charge = target.bound.compute_charge_picousd(usage)
        self.usage, self.charge_picousd = usage, charge
        self._settle(
            "settled", error=self._exchange.call_note, usage=usage, charge=(charge, charge, charge), status=status
        )

    def _settle_unsettled(self, error: str, *, status: int | None = None) -> None:
        assert self._intent is not None
        if self._passed_bytes and "passed on" not in error:
            error = f"{error}; {self._progress()}"
        self._settle("unsettled", charge=(None, 0, self._intent.charge_high_picousd), status=status, error=error)

    def _settle_failed(self, error: str, *, status: int | None = None) -> None:
        self._settle("failed", charge=(0, 0, 0), status=status, error=error)

    def _settle(
        self,
        state: Literal["settled", "unsettled", "failed"],
        *,
        charge: tuple[int | None, int | None, int | None],
        usage: Usage | None = None,
        status: int | None = None,
        error: str | None = None,
    ) -> None:
        assert not self._is_settled, "an intent is settled once"
        self._is_settled = True
        gateway, tap, response = self._gateway, self._tap, self._response
        now_s = gateway.clock.monotonic_s()
        if status is None and response is not None:
            status = response.status or None
        try:
            gateway.ledger.settle(
                Settlement(
                    request_id=self._exchange.request_id,
                    attempt=self._number,
                    state=state,
                    settled_at=gateway.clock.now(),
                    usage=usage,
                    usage_basis=None if usage is None else "upstream",
                    charge_picousd=charge[0],
                    charge_low_picousd=charge[1],
                    charge_high_picousd=charge[2],
                    upstream_request_id=None if tap is None else tap.upstream_request_id,
                    ttft_s=self._ttft_s,
                    latency_s=now_s - self._sent_s if self._sent_s else None,
                    status=status,
                    error=error,
                ),
                releases=compute_releases(self._takes, state=state, usage=usage) if self._takes else (),
            )
        except LedgerError as failure:
            # The intent stands: without a settlement the ledger lists it as unsettled, with its bounds.
            _LOG.error("a settlement of %s could not be queued: %s", self._exchange.request_id, failure)
        latency_s = now_s - self._sent_s if self._sent_s else 0.0
        ttft_s = self._ttft_s if self._passed_bytes else None  # of a whole answer nobody saw the first token
        tpot_s = None
        if ttft_s is not None and usage is not None and usage.output_tokens > 1:
            tpot_s = (latency_s - ttft_s) / (usage.output_tokens - 1)
        gateway.counting.call_ended(
            self._exchange,
            CallEnd(
                number=self._number,
                target=self._target,
                state=state,
                started_s=self._sent_s or now_s,
                latency_s=latency_s,
                ttft_s=ttft_s,
                tpot_s=tpot_s,
                status=status,
                usage=usage,
                charge_picousd=charge[0],
                charge_high_picousd=charge[2],
            ),
        )


def _retry_after(response: Response) -> float | None:
    """Return the seconds that an answer asks to wait; None where it does not say, or says it as a date."""
    stated = response.header(b"retry-after")
    if stated is None:
        return None
    try:
        wait_s = float(stated)
    except ValueError:
        return None
    return wait_s if 0 <= wait_s < float("inf") else None
