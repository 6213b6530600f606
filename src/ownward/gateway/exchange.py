"""One inference request from its first byte to its last: read, choose, attempt, answer.

What one attempt owes the ledger stands in `attempt`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ownward.core import LedgerError, OwnwardError, UpstreamError, new_id
from ownward.gateway import wire
from ownward.gateway._call import CALL, Call
from ownward.gateway.admission import Slots
from ownward.gateway.affinity import Prompt
from ownward.gateway.attempt import Attempt, Retry, Sink
from ownward.gateway.budgets import task_check
from ownward.gateway.capturing import Capturing, begin_capture
from ownward.gateway.choosing import UNASSIGNED, Asked, Choice, Found, KeyScope, choose, find_detection, name_refused
from ownward.gateway.continuing import BARRED, Continuing
from ownward.gateway.crossing import Crossed, Crosser
from ownward.gateway.endpoints import CHAT, Endpoint
from ownward.gateway.errors import (
    BodyTooLarge,
    Draining,
    ForeignPage,
    Incapable,
    InternalError,
    MalformedRequest,
    NoUpstream,
    OverBudget,
    OverLimit,
    Overloaded,
    Rejected,
    TooManyInFlight,
    UnboundedCharge,
    body_of,
    retry_after_s,
    status_of,
    stream_event_of,
)
from ownward.gateway.limits import headers_of, without_limits
from ownward.gateway.metrics import CallEnd
from ownward.gateway.routing import RoutingTable, Target
from ownward.ledger import BudgetCheck, LimitState, Request, TaskBasis
from ownward.policy import LOCAL_ONLY, Label
from ownward.upstreams import Response

if TYPE_CHECKING:
    from ownward.gateway.app import Gateway, Receive, Scope, Send

_LOG = logging.getLogger("ownward.gateway")
_CLIENT_GONE = 499
_SHOWN_HINTS = 32
_ALL_WENT_DOWN = "every upstream that could serve the request went down while it waited"


class ClientGone(Exception):
    """The client left before its request was whole."""


class Exchange:
    """One request; `run` returns when the client has its answer and the ledger's rows are queued."""

    __slots__ = (
        "_call",
        "_capturing",
        "_crosser",
        "_is_over",
        "_listed",
        "_receive",
        "_send",
        "_task",
        "_waiting",
        "_watch",
        "attempts",
        "body",
        "call_note",
        "calls",
        "choice",
        "crossed",
        "endpoint",
        "error_kind",
        "gateway",
        "has_begun",
        "has_broken",
        "headers",
        "is_gone",
        "is_known",
        "is_stream",
        "key",
        "label",
        "limit_states",
        "must_close",
        "needs",
        "outcome",
        "paused_since_s",
        "prompt",
        "queue_s",
        "request",
        "request_id",
        "route",
        "row_written",
        "started_s",
        "status",
        "table",
        "target",
        "task_basis",
        "task_budget",
        "task_id",
        "workload",
    )

    def __init__(self, gateway: Gateway, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin; nothing is read yet."""
        self.gateway = gateway
        self.table: RoutingTable = gateway.table
        self.endpoint = endpoint
        self._listed: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: Mapping[bytes, bytes] = dict(self._listed)
        self.request_id = new_id("req_", random_bits=gateway.random_bits(80))
        self.started_s = gateway.clock.monotonic_s()
        self.attempts = 0
        self.status = 0
        self.body = b""
        self.call_note: str | None = None
        self.key: KeyScope | None = None
        self.request: Request | None = None
        self.choice: Choice | None = None
        self.target: Target | None = None
        self.task_id = self.request_id
        self.task_budget: BudgetCheck | None = None
        self.limit_states: tuple[LimitState, ...] = ()
        self.task_basis: TaskBasis = "single"
        self.route = ""
        self.workload = UNASSIGNED
        self.label: Label = LOCAL_ONLY
        self.is_stream = False
        self.is_known = False
        self.outcome = ""
        self.needs: frozenset[str] = frozenset()
        self.crossed: dict[str, Crossed] = {}  # by target, the last call of each that was made in another dialect
        self._crosser: Crosser | None = None
        self.prompt: Prompt | None = None
        self.row_written: asyncio.Event | None = None
        self.calls: list[CallEnd] = []
        self.queue_s = 0.0
        self.error_kind: str | None = None
        self.has_begun = False
        self.has_broken = False
        self.must_close = False
        self.is_gone = False
        self.paused_since_s: float | None = None
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._waiting: tuple[Target, int] | None = None
        self._watch: asyncio.Future[Any] | None = None
        self._call: Call | None = scope.get("extensions", {}).get(CALL)
        self._is_over = False
        self._capturing: Capturing | None = None

    async def run(self) -> None:
        """Serve the request; every error becomes an answer, and a client that left is no error."""
        gateway = self.gateway
        gateway.exchanges.add(self)
        try:
            await self._serve_or_explain()
        except asyncio.CancelledError:
            self.status = _CLIENT_GONE
            if not self.is_gone:
                await self._answer_cut_short()
        finally:
            self._is_over = True
            if self._call is not None:
                self._call.on_gone = None
            if self._watch is not None:
                self._watch.cancel()
            gateway.exchanges.discard(self)
            gateway.counting.request_ended(self)
            if self._capturing is not None:
                gateway.aside(asyncio.to_thread(self._capturing.keep, self))

    async def _serve_or_explain(self) -> None:
        try:
            await self._serve()
        except OwnwardError as error:
            await self.answer_error(error)
        except ClientGone:
            self.status = _CLIENT_GONE
        except Exception:  # noqa: BLE001 - the outermost frame of a request
            _LOG.exception("request %s failed", self.request_id)
            await self.answer_error(InternalError())

    async def _serve(self) -> None:
        gateway = self.gateway
        if gateway.is_draining:
            raise Draining
        if len(gateway.exchanges) > gateway.most_in_flight:
            raise TooManyInFlight(limit=gateway.most_in_flight)
        if gateway.keys is not None:
            self.key = await gateway.keys.find(self.headers)
        elif b"origin" in self.headers and wire.is_foreign(self.headers):
            raise ForeignPage
        self.is_known = True
        self.body = await self._read_body()
        peeked = wire.peek(self.body)
        asked = self._ask(peeked)
        if self.table.detection:
            asked = await self._look_into(asked)
        choice = self._choose(asked, peeked)
        self._capturing = begin_capture(gateway, choice, self.body)
        self._watch_client()
        gateway.retries.deposit()
        plan = None if choice.declared is None or choice.is_pinned else self.table.strategies.get(choice.declared.name)
        if plan is None and self._may_continue(asked, choice):
            sink = Continuing(self)
            await self.attempt_each(sink.choose(choice.targets), self.body, sink)
        elif plan is None:
            await self.attempt_each(choice.targets, self.body, self)
        else:
            await plan.carry_out(self, choice)

    def _may_continue(self, asked: Asked, choice: Choice) -> bool:
        if choice.declared is None or not choice.declared.continues_streams:
            return False
        return self.is_stream and self.endpoint is CHAT and not asked.needs & BARRED

    # Reading and choosing.

    def _ask(self, peeked: wire.Peeked) -> Asked:
        headers, table = self.headers, self.table
        self.route = peeked.model or ""
        self.is_stream = peeked.stream is True and self.endpoint.has_output
        self.task_id, self.task_basis = wire.task_of(headers, self.request_id)
        self.workload = wire.name_in(headers, b"x-ownward-workload") or UNASSIGNED
        self.needs = peeked.needs(self.body)
        return Asked(
            endpoint=self.endpoint,
            model=self.route,
            workload=None if self.workload == UNASSIGNED else self.workload,
            tier=wire.name_in(headers, b"x-ownward-tier"),
            label=wire.label_in(headers, self._listed),
            key=self.key,
            headers=wire.texts_of(headers) if table.needs_headers else None,
            metadata=peeked.texts_of_metadata() if table.needs_metadata else None,
            fingerprint=self._fingerprint() if table.needs_fingerprint else None,
            needs=self.needs,
            carries=self._why_not,
        )

    async def _look_into(self, asked: Asked) -> Asked:
        """Return the request with what its workload's detectors find in it; others are served between pieces."""
        found = []
        for detection in find_detection(asked, self.table):
            for name in detection.detectors.scan(self.body):
                if name is None:
                    await asyncio.sleep(0)
                    continue
                found.append(Found(name=name, label=detection.label))
                self.gateway.counting.metrics.detected.add((name,))
        return msgspec.structs.replace(asked, found=tuple(found)) if found else asked

    def _choose(self, asked: Asked, peeked: wire.Peeked) -> Choice:
        gateway, headers, table = self.gateway, self.headers, self.table
        if table.prefix_tiers:
            self.prompt = Prompt(*peeked.parts_of_prompt())
        try:
            choice = choose(
                asked,
                table,
                breakers=gateway.breakers,
                in_flight=gateway.in_flight,
                full_tiers=gateway.full_tiers,
                now_s=self.started_s,
                by_prefix=None if self.prompt is None else self._order,
            )
        except OwnwardError:
            self.workload, self.label = name_refused(asked, table)
            raise
        self.choice = choice
        self.workload = choice.workload
        self.label = choice.label
        self.task_budget = task_check(
            self.task_id, declared=choice.declared, asked_usd=wire.usd_in(headers, b"x-ownward-task-budget")
        )
        self.request = self._ledger_request(choice.reason)
        return choice

    def _why_not(self, target: Target) -> Any:
        if self._crosser is None:
            self._crosser = Crosser(self.endpoint, self.body, self.needs)
        return self._crosser.why_not(target)

    def cross(self, target: Target, body: bytes) -> Crossed:
        """Return the request as an upstream of another dialect is asked.

        Raises: Incapable.
        """
        if self._crosser is None:
            self._crosser = Crosser(self.endpoint, self.body, self.needs)
        crossed = self.crossed[target.key] = self._crosser.cross(target, body)
        return crossed

    def _fingerprint(self) -> str | None:
        try:
            body = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None
        return self.gateway.sketcher.fingerprint(body) if isinstance(body, dict) else None

    def note_limits(self, states: tuple[LimitState, ...]) -> None:
        """Keep what is left of the key's limits, for the client to be told."""
        if states:
            self.limit_states = states

    def _order(self, targets: Sequence[Target]) -> tuple[list[Target], str]:
        assert self.prompt is not None
        return self.gateway.prefixes.order(targets, self.prompt, self.gateway.in_flight)

    def _ledger_request(self, reason: str) -> Request:
        return Request(
            request_id=self.request_id,
            task_id=self.task_id,
            task_basis=self.task_basis,
            workload=self.workload,
            route=self.route,
            key_id=None if self.key is None else self.key.key_id,
            label=str(self.label),
            dialect=self.endpoint.dialect,
            is_stream=self.is_stream,
            plan_sha256=self.table.plan_sha256,
            reason=reason,
            started_at=self.gateway.clock.now(),
        )

    async def _read_body(self) -> bytes:
        limit = self.gateway.settings.max_body_bytes
        stated = self.headers.get(b"content-length")
        if stated is not None and int(stated) > limit:
            self.must_close = True
            raise BodyTooLarge(limit_bytes=limit)
        whole = None if self._call is None else self._call.take_body()
        if whole is not None:
            if len(whole) > limit:
                raise BodyTooLarge(limit_bytes=limit)
            return whole
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message["body"]
        if message["more_body"]:
            return await self._read_rest(body, limit)
        if len(body) > limit:
            raise BodyTooLarge(limit_bytes=limit)
        return body

    async def _read_rest(self, first: bytes, limit: int) -> bytes:
        parts, size, is_whole = [first], len(first), False
        seconds = self.gateway.settings.body_timeout_s
        try:
            async with asyncio.timeout(seconds):
                while size <= limit:
                    if is_whole:
                        return b"".join(parts)
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message["body"])
                    size += len(message["body"])
                    is_whole = not message["more_body"]
        except TimeoutError:
            self.must_close = True
            raise MalformedRequest(
                "the request body did not arrive in time", allowed=f"{seconds:g} s for the whole body"
            ) from None
        self.must_close = True
        raise BodyTooLarge(limit_bytes=limit)

    def _watch_client(self) -> None:
        """Have this task cancelled when the client leaves."""
        call = self._call
        self._task = asyncio.current_task() if call is None else call.task
        if call is None:
            self._watch = asyncio.ensure_future(self._receive())
            self._watch.add_done_callback(self._on_gone)
            return
        if call.is_gone:
            raise ClientGone
        call.on_gone = self._on_gone

    def _on_gone(self, _: object = None) -> None:
        if not self._is_over and self._task is not None:
            self.is_gone = True
            self._task.cancel("the client left")

    def check_client(self, now_s: float, most_s: float) -> None:
        """Cut a client for which bytes have been waiting longer than `most_s`."""
        call = self._call
        if call is None or not call.is_write_paused:
            self.paused_since_s = None
        elif self.paused_since_s is None:
            self.paused_since_s = now_s
        elif now_s - self.paused_since_s > most_s:
            call.cut()

    # Attempts.

    async def attempt_each(self, targets: Iterable[Target], body: bytes, sink: Sink) -> Attempt | None:
        """Try `targets` in order until one has answered; return that attempt, or None where `sink` has a refusal.

        Raises: what to tell the client, if none has answered.
        """
        gateway = self.gateway
        last: Retry | None = None
        full: Overloaded | None = None
        untold: Incapable | None = None
        failed: Target | None = None
        over: OverBudget | UnboundedCharge | OverLimit | None = None
        tried = 0
        for target in targets:
            if tried and not self._may_retry(tried):
                break
            slots = gateway.slots[target.tier.name]
            if not slots.try_acquire():
                try:
                    await self._wait_for_place(slots)
                except Overloaded as error:
                    full = error
                    continue
            try:
                if not self._may_be_sent(target):
                    continue
                if tried:
                    gateway.counting.retried(self, target)
                tried += 1
                number = self.attempts = self.attempts + 1
                self.target = target
                sent = sink.body_for(target, body) if isinstance(sink, Continuing) else body
                attempt = Attempt(self, target, number=number, body=sent, sink=sink)
                await self._run(attempt, target, sink)
            except Retry as retry:
                last, failed = retry, target
                continue
            except Incapable as error:  # its dialect has no words for the request, and nothing was sent
                tried -= 1
                self.attempts -= number == self.attempts
                untold, self.target = error, failed  # the words that are passed on are still the other's
                continue
            except (OverBudget, UnboundedCharge, OverLimit) as error:
                tried -= 1
                self.attempts -= number == self.attempts  # it was none; beside later ones its number stays unused
                if not self._goes_on_after(error):
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

    async def _run(self, attempt: Attempt, target: Target, sink: Sink) -> None:
        in_flight = self.gateway.in_flight
        in_flight[target.key] = in_flight.get(target.key, 0) + 1
        waiting = self._begin_prompt(target, sink)
        self.gateway.learn_dispatch(target.key)  # now: others may ask while the intent is written
        try:
            await attempt.run()
        finally:
            if not attempt.was_sent:
                self.gateway.learn_nothing(target.key)
            in_flight[target.key] -= 1
            self._end_prompt(target, waiting)

    def _begin_prompt(self, target: Target, sink: Sink) -> int:
        """Note that the prompt is sent; return how many bytes of it wait until the attempt ends."""
        if self.prompt is None or target.tier.name not in self.table.prefix_tiers:
            return 0
        waiting = self.gateway.prefixes.begin(target, self.prompt)
        if sink is not self:
            return waiting
        self._waiting = (target, waiting)  # until a stream's first token, where there is one
        return 0

    def _end_prompt(self, target: Target, waiting: int) -> None:
        if waiting:
            self.gateway.prefixes.end(target, waiting)
        elif self._waiting is not None:
            self.gateway.prefixes.end(*self._waiting)
            self._waiting = None

    async def _wait_for_place(self, slots: Slots) -> None:
        clock = self.gateway.clock
        began_s = clock.monotonic_s()
        try:
            await slots.acquire(timeout_s=self.gateway.settings.queue_timeout_s)
        finally:
            waited_s = clock.monotonic_s() - began_s
            self.queue_s += waited_s
            self.gateway.counting.metrics.observe_queue(slots.name, waited_s)

    def _goes_on_after(self, error: OverBudget | UnboundedCharge | OverLimit) -> bool:
        """Return whether another tier may still take what a budget did not admit."""
        if isinstance(error, OverLimit):
            self.limit_states = error.states
            return False
        if error.of == "tier":
            return True
        declared = None if self.choice is None else self.choice.declared
        budget = None if declared is None else declared.budget
        return error.of == "workload" and budget is not None and budget.when_spent == "owned_only"

    def _may_be_sent(self, target: Target) -> bool:
        """Return whether the target is still up after a wait for its slot."""
        breaker = self.gateway.breakers.get(target.key)
        if breaker is None:
            return True
        is_last = self.choice is not None and self.choice.is_last_resort
        now_s = self.gateway.clock.monotonic_s()
        return breaker.allows_last(now_s) if is_last else breaker.allows(now_s)

    def _may_retry(self, tried: int) -> bool:
        gateway = self.gateway
        settings = gateway.settings
        return (
            tried < settings.max_attempts
            and gateway.clock.monotonic_s() - self.started_s < settings.deadline_s
            and gateway.retries.try_take()
        )

    # Answering.

    async def answer(
        self,
        status: int,
        content_type: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Send a whole answer."""
        if self._capturing is not None:
            self._capturing.add(body)
        self.has_begun = True
        self.status = status
        if self.limit_states:
            headers = without_limits(headers)
        call = self._call
        if call is not None and not call.has_begun:
            if self.must_close:
                call.keeps_alive = False
            lines = [b"content-type: %b\r\n%b" % (content_type, self._own_lines())]
            lines += [b"%b: %b\r\n" % header for header in headers]
            call.answer(status, b"".join(lines), body)
            if call.is_write_paused:
                await call.drained()
            return
        sent = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *self._own_headers(), *headers]
        if self.must_close:
            sent.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def begin(self, status: int, content_type: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of a stream."""
        self.has_begun = True
        self.status = status
        if self._waiting is not None:
            self._end_prompt(self._waiting[0], 0)
        if self.limit_states:
            headers = without_limits(headers)
        sent = [
            (b"content-type", content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *self._own_headers(),
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": sent})

    async def write(self, data: bytes) -> None:
        """Pass on a piece of a stream."""
        if self._capturing is not None:
            self._capturing.add(data)
        call = self._call
        if call is not None:
            call.write(data)
            if call.is_write_paused:
                await call.drained()
            return
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def lead(self, response: Response) -> Callable[[bytes], None] | None:
        """Return how pieces of `response` go to the client at once; None where that takes a task.

        While the client does not read, the upstream's connection is not read either.
        """
        if self._capturing is not None:
            return None
        call = self._call
        if call is None:
            return None

        def on_flow() -> None:
            if call.is_write_paused:
                response.hold_up()
            else:
                response.go_on()

        call.on_flow = on_flow
        if call.is_write_paused:
            response.hold_up()
        return call.write

    async def end(self, data: bytes = b"") -> None:
        """End a stream."""
        if self._capturing is not None:
            self._capturing.add(data)
        if self._call is not None:
            self._call.on_flow = None
            self._call.end(data)
            return
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def end_broken(self, error: OwnwardError) -> None:
        """End a stream with an error event in the client's dialect."""
        self.has_broken = True
        self.error_kind = error.kind
        crossed = None if self.target is None else self.crossed.get(self.target.key)
        await self.end(
            stream_event_of(
                error,
                self.endpoint.dialect,
                endpoint=self.endpoint.path,
                request_id=self.request_id,
                sequence_number=None if crossed is None else crossed.sequence_number,
            )
        )

    async def answer_error(self, error: OwnwardError) -> None:
        """Tell the client, and the ledger where nothing was dispatched."""
        status = status_of(error)
        self.error_kind = error.kind
        is_unwritten = self.attempts == 0 or (self.row_written is None and not isinstance(error, LedgerError))
        if is_unwritten and self.is_known:
            self._record_refusal(error, status)
        if status >= 500 and not isinstance(error, Rejected | UpstreamError | InternalError):  # noqa: PLR2004 - our own faults
            _LOG.error("request %s failed: %s", self.request_id, error)
        if self.has_begun:
            await self.end_broken(error)
            return
        body = body_of(error, self.endpoint.dialect, request_id=self.request_id)
        wait_s = retry_after_s(error)
        headers = [] if wait_s is None else [(b"retry-after", b"%d" % max(1, round(wait_s)))]
        await self.answer(status, b"application/json", headers, body)

    async def _answer_cut_short(self) -> None:
        """Tell a client whose request outlived the gateway."""
        error = Draining()
        if self.has_begun:
            await self.end_broken(error)
        else:
            self.must_close = True
            await self.answer_error(error)

    def _record_refusal(self, error: OwnwardError, status: int) -> None:
        try:
            request = self.request or self._ledger_request("")
            self.gateway.ledger.refuse(request, reason=str(error), status=status)
        except LedgerError as failure:
            _LOG.error("the refusal of %s could not be recorded: %s", self.request_id, failure)

    def _own_lines(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % header for header in self._own_headers()])

    def _total_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what all calls so far used: the answer's own usage is that of the one it came from."""
        used = [call.usage for call in self.calls if call.usage is not None]
        return [
            (b"x-ownward-total-input-tokens", b"%d" % sum(usage.input_tokens for usage in used)),
            (b"x-ownward-total-output-tokens", b"%d" % sum(usage.output_tokens for usage in used)),
        ]

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"x-ownward-request-id", self.request_id.encode("ascii")),
            (b"x-ownward-attempts", b"%d" % self.attempts),
        ]
        choice, target = self.choice, self.target
        if choice is not None:
            headers.append((b"x-ownward-workload", wire.ascii_of(choice.workload)))
            headers.append((b"x-ownward-reason", wire.ascii_of(choice.reason + self.outcome)))
        if target is not None:
            headers.append((b"x-ownward-tier", wire.ascii_of(target.tier.name)))
            headers.append((b"x-ownward-upstream", wire.ascii_of(target.name)))
            crossed = self.crossed.get(target.key)
            if crossed is not None:
                headers.append((b"x-ownward-translated", crossed.direction.encode("ascii")))
                if crossed.dropped:
                    headers.append((b"x-ownward-left-out", wire.ascii_of(", ".join(crossed.dropped[:_SHOWN_HINTS]))))
        if len(self.calls) > 1:
            headers += self._total_headers()
        if self.limit_states:
            headers += headers_of(self.limit_states, self.endpoint.dialect, at=self.gateway.clock.now())
        return headers


async def _tell(last: Retry, sink: Sink) -> None:
    """Pass on what the last upstream said; where it had no words of its own, raise what to say."""
    if last.answer is None:
        raise last.error
    status, content_type, words = last.answer
    wait_s = retry_after_s(last.error)
    headers = [] if wait_s is None else [(b"retry-after", b"%d" % max(1, round(wait_s)))]
    await sink.answer(status, content_type, headers, words)
