"""An upstream's answer on its way to the client: whole, or as a stream.

What is passed on was read first, a stream by a tap, for its usage; and translated where the dialects differ. Answers
with an error status are the business of `refused_call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from ownward.core import BrokenStream, UpstreamError
from ownward.gateway.calling.first_call import passing_first_call, with_first_call
from ownward.gateway.calling.refusals import refusal_told_as_answer
from ownward.gateway.calling.refused_call import RefusedCall
from ownward.gateway.calling.sink import Refusal, Retry
from ownward.gateway.calling.stream_as_whole import stream_as_whole
from ownward.gateway.calling.whole_as_stream import chat_as_stream
from ownward.gateway.endpoints import CHAT
from ownward.gateway.errors import UntranslatedAnswer
from ownward.upstreams import Response, Spliced, StreamTap, WholeAnswer

if TYPE_CHECKING:
    from ownward.gateway.calling.attempt import Attempt

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON = b"application/json"
_SHORTEST_SSE_BYTES = 6
_BEGINNING_HELD_S = 5.0
_END_AWAITED_S = 1.0  # behind a stream's last word
_HEARD_OUT_S = 0.08  # behind its finish, where the client left: this ends its upstream's call within 100 ms
_LONGEST_HELD_BYTES = 1 << 14
_ONLY_COMMENTS = re.compile(rb"(?::[^\r\n]*[\r\n]|[\r\n])*(?::[^\r\n]*)?")
_BEGINNING = re.compile(rb"(?::[^\r\n]*[\r\n]|[\r\n])*+[^:\r\n].*?(?:\n\n|\r\r|\r\n\r\n)", re.DOTALL)
"""Comments, and one whole event."""
_EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")
_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")

_GARBLED = "it sent an event that is not JSON"
_TOLD_ERROR = "told an error in the middle of its stream"


class Relay:
    """The answer to one attempt."""

    __slots__ = (
        "_attempt",
        "_endpoint",
        "_entry",
        "_gateway",
        "_is_stream",
        "_response",
        "_sink",
        "_spliced",
        "_target",
        "_translated",
    )

    def __init__(self, attempt: Attempt, response: Response, spliced: Spliced) -> None:
        """Begin, with the answer's head read."""
        self._attempt = attempt
        self._gateway = attempt.exchange.gateway
        self._target = attempt.target
        self._endpoint = attempt.endpoint
        self._translated = attempt.translated
        self._entry = attempt.entry
        self._sink = attempt.sink
        self._response = response
        self._spliced = spliced
        asks_stream = spliced.is_stream and not attempt.streams_whole_answers
        self._is_stream = asks_stream and attempt.exchange.endpoint.has_output  # what is wanted of the call

    def run(self) -> Coroutine[Any, Any, None]:
        """Return what passes the answer on, and settles what it cost.

        Raises: Retry, if nothing was passed on and another upstream may do better; UpstreamError.
        """
        content_type = self._response.header(b"content-type") or _JSON
        is_announced = content_type[:17].lower() == b"text/event-stream"
        if self._is_stream or (is_announced and not self._attempt.streams_whole_answers):
            return self._relay_events(content_type, is_announced=is_announced)
        return self._relay_whole(_JSON if is_announced else content_type, b"", of_stream=is_announced)

    async def _relay_events(self, content_type: bytes, *, is_announced: bool) -> None:
        """Pass on what was asked for as a stream, or comes as one."""
        try:
            if not self._is_stream:
                await self._refuse_stream()
                return
            begun = b"" if is_announced else await self._look_at_beginning()
            if is_announced or begun.startswith(_SSE_STARTS):  # some servers stream without saying so
                await self._relay_stream(content_type if is_announced else b"text/event-stream", begun)
            else:
                await self._relay_whole(content_type, begun)
        except asyncio.CancelledError:
            if self._attempt.exchange.client.is_gone:
                await self._hear_out()
            raise

    async def _look_at_beginning(self) -> bytes:
        """Return the first bytes, if any, of an answer that announces no stream where one was asked for."""
        first = b""
        while len(first) < _SHORTEST_SSE_BYTES and (more := await self._response.next_chunk()):
            first += more
        return first.removeprefix(_BYTE_ORDER_MARK)

    async def _relay_whole(self, content_type: bytes, begun: bytes, *, of_stream: bool = False) -> None:
        gateway, entry, response, translated = self._gateway, self._entry, self._response, self._translated
        most_bytes = gateway.settings.max_answer_bytes
        rest = response.take_whole(most_bytes)  # as most can by the time their head was looked at
        body = begun + (await self._attempt.read_rest(most_bytes) if rest is None else rest)
        if of_stream:
            body = stream_as_whole(self._endpoint.path, body)
        if self._attempt.takes_first_call:
            body = with_first_call(body)
        entry.ttft_s = gateway.clock.monotonic_s() - entry.sent_s
        whole = entry.answer = WholeAnswer(self._endpoint.dialect, body)
        if not whole.is_complete:
            if await self._is_refused(body):
                return
            raise BrokenStream(
                f"upstream {self._target.name!r} answered {response.status} with {len(body)} bytes that are no answer",
                # The upstream's own words may quote the request: they go to the client and not into the ledger.
                allowed=None if whole.error is None else self._quote(whole.error),
                next_step="It may have charged for them",
            )
        if translated is None and (whole.is_choiceless or (whole.has_given_up and not self._is_stream)):
            is_last = not self._is_stream  # where nobody else is left
            answer = (response.status, content_type, self._attempt.headers_for_client(), body) if is_last else None
            self._give_up(whole, answer=answer)
        gateway.health.note_success(self._target.key)
        if self._is_stream:
            entry.settle_by_answer(response.status)
            await self._answer_as_stream(body)
            return
        if translated is not None or self._attempt.exchange.calls:  # the answer tells what all calls used
            entry.settle_by_answer(response.status)
        if translated is not None:
            body = self._translate_whole(translated.answer, body)
        try:
            await self._sink.answer(response.status, content_type, self._attempt.headers_for_client(), body)
        finally:
            if not entry.is_settled:  # else: afterwards, out of the client's way
                entry.settle_by_answer(response.status)

    async def _answer_as_stream(self, body: bytes) -> None:
        """Send a whole answer, which is paid for, as the stream that the client asked for; not all upstreams stream.

        Raises: Retry, of another endpoint than chat that is passed through.
        """
        head = (self._response.status, b"text/event-stream", self._attempt.headers_for_client())
        if self._translated is not None:
            events = self._translate_whole(self._translated.answer_as_stream, body)
            await self._sink.begin(*head)
            await self._sink.end(events)
            return
        if self._attempt.exchange.endpoint is not CHAT:
            why = f"upstream {self._target.name!r} answered whole where a stream was asked for"
            raise Retry(BrokenStream(why, next_step="Ask without stream"))
        try:
            events = chat_as_stream(body, with_usage=self._spliced.asked_usage)
        except BrokenStream as error:
            raise Retry(error) from None
        await self._sink.begin(*head)
        await self._sink.end(events)

    def _translate_whole(self, tell: Callable[..., bytes], body: bytes) -> bytes:
        """Return a whole answer, which is paid for, in the client's dialect.

        Raises: Retry, if the dialect has no words for it.
        """
        try:
            return tell(body, now_s=self._gateway.clock.now().timestamp())
        except UntranslatedAnswer as error:
            raise Retry(error) from None

    async def _refuse_stream(self) -> None:
        """Read a stream that nobody asked for to its end, settle what it cost, and pass nothing on."""
        entry, response = self._entry, self._response
        tap = entry.answer = StreamTap(self._endpoint.dialect)
        left_bytes = self._gateway.settings.max_answer_bytes
        while left_bytes > 0 and (chunk := await response.next_chunk()):
            left_bytes -= len(chunk)
            tap.feed(chunk)
        tap.finish()
        error = BrokenStream(f"upstream {self._target.name!r} answered with a stream where none was asked for")
        if not tap.is_complete:
            raise error
        self._gateway.health.note_failure(self._target.key, error)
        entry.settle_by_answer(response.status)
        raise Retry(error)

    async def _relay_stream(self, content_type: bytes, begun: bytes = b"") -> None:
        gateway, entry, response, translated = self._gateway, self._entry, self._response, self._translated
        tap = entry.answer = StreamTap(self._endpoint.dialect, strip_usage=self._spliced.adds_usage)
        feed = self._feeder(tap)
        chunk = await self._first_chunk(begun)
        passed = feed(chunk)
        if tap.error_data is not None and not tap.has_content and await self._is_refused(tap.error_data):
            return
        self._check_beginning(tap)
        self._attempt.end_prompt()
        await self._sink.begin(response.status, content_type, self._attempt.headers_for_client())
        while chunk:
            if tap.is_garbled:
                raise BrokenStream(_GARBLED)
            if (fault := self._find_giving_up(tap)) is not None:
                raise fault
            if entry.ttft_s is None and tap.has_content:
                self._note_first_content()
            if passed:
                entry.passed_bytes += len(passed)
                await self._sink.write(passed if tap.error is None else self._target.hide_key(passed))
            if tap.has_last_word:
                response.expect_end(_END_AWAITED_S)
            write = self._sink.direct_writer(response)
            if write is not None:
                await self._pass_on(feed, tap, write)
                break
            chunk = await self._next_chunk(tap)
            passed = feed(chunk) if chunk else b""
        rest = tap.finish()
        if tap.is_misspelt and (fault := self._find_giving_up(tap)) is not None:
            raise fault
        if not tap.has_last_word:  # what is left is half an event, which readers pass over at a stream's end
            raise BrokenStream("it ended without its last word")
        if translated is not None:
            rest = translated.feed(rest) + translated.finish()
        if tap.error is None:
            gateway.health.note_success(self._target.key)
        else:  # its words went to the client; they may quote the request
            self._attempt.exchange.has_broken = True
            error = UpstreamError(f"upstream {self._target.name!r} {_TOLD_ERROR}")
            gateway.health.note_failure(self._target.key, error)
        if tap.is_complete:
            entry.settle_by_answer(response.status)
        else:  # the error was its last word, as Anthropic's dialect has it
            entry.settle_unsettled(f"it {_TOLD_ERROR}", status=response.status)
        await self._sink.end(rest)

    def _feeder(self, tap: StreamTap) -> Callable[[bytes], bytes]:
        """Return what takes the next bytes of a stream in, and returns what the client is told of them."""
        translated = self._translated
        read = passing_first_call(tap.feed) if self._attempt.takes_first_call else tap.feed
        if translated is None:
            return read
        translated.begin_stream(now_s=self._gateway.clock.now().timestamp())
        return lambda data: translated.feed(read(data))

    async def _is_refused(self, error: bytes) -> bool:
        """Return whether an error that came with a status of success is a refusal; it is dealt with as one then."""
        answer = self._entry.answer
        has_begun = answer is not None and answer.upstream_request_id is not None
        said = refusal_told_as_answer(error, has_begun=has_begun)
        if said is not None:
            await RefusedCall(self._attempt, self._response, self._spliced, said).run()
        return said is not None

    def _quote(self, words: str) -> str:
        """Return what an upstream says for the client alone: it may quote the request, and must not quote our key."""
        return f"It says: {self._target.hide_key(words.encode('utf-8', 'replace')).decode()}"

    def _check_beginning(self, tap: StreamTap) -> None:
        """Raise BrokenStream where a stream begins with what is no answer, so that another upstream is asked."""
        name = self._target.name
        if tap.error is not None and not tap.has_content:
            # The upstream's own words may quote the request: they go to the client and not into the ledger.
            raise BrokenStream(f"upstream {name!r} began its stream with an error", allowed=self._quote(tap.error))
        if tap.is_garbled:
            raise BrokenStream(f"upstream {name!r} began its stream with an event that is not JSON")
        if (tap.is_complete and tap.is_empty) or (tap.has_given_up and not tap.has_content):
            self._give_up(tap)

    def _find_giving_up(self, tap: StreamTap) -> BrokenStream | None:
        """Return the error of a stream that its upstream gives up, where another one can continue it.

        Where none can, the upstream's own words reach the client, unless it would pass over them.
        """
        if not (tap.has_given_up or tap.error is not None) or (self._sink.has_begun and not tap.is_misspelt):
            return None
        if tap.error is None:
            return BrokenStream(self._why_none(tap))
        return BrokenStream(f"upstream {self._target.name!r} {_TOLD_ERROR}", allowed=self._quote(tap.error))

    def _why_none(self, read: StreamTap | WholeAnswer) -> str:
        name = self._target.name
        if read.has_given_up:
            return f"upstream {name!r} gave its answer up: {read.finish_reason}"
        if isinstance(read, StreamTap):
            return f"upstream {name!r} ended its stream before it had said anything"
        return f"upstream {name!r} answered without a choice"

    def _give_up(self, read: StreamTap | WholeAnswer, *, answer: Refusal | None = None) -> NoReturn:
        """Settle an empty answer by the usage it states, and have another upstream asked.

        Raises: Retry.
        """
        error = BrokenStream(self._why_none(read))
        self._gateway.health.note_failure(self._target.key, error)
        if read.usage is None:
            self._entry.settle_unsettled(error.message, status=self._response.status)
        else:
            self._entry.settle_by_answer(self._response.status)
        raise Retry(error, answer=answer)

    async def _next_chunk(self, tap: StreamTap) -> bytes:
        """Return the next piece of the stream; empty at its end, which is also whatever follows its last word.

        Raises: UpstreamError.
        """
        try:
            return await self._response.next_chunk()
        except (UpstreamError, asyncio.CancelledError) as error:
            if self._breaks(tap, error):
                raise
            return b""

    def _breaks(self, tap: StreamTap, error: BaseException) -> bool:
        """Return whether what ended the wait for more breaks the stream: after its last event, nothing does.

        A client that leaves there has left all the same; the end of a drain takes nothing from one that stays.
        """
        is_left = isinstance(error, asyncio.CancelledError) and self._attempt.exchange.client.is_gone
        return is_left or not tap.has_last_word

    async def _pass_on(self, feed: Callable[[bytes], bytes], tap: StreamTap, write: Callable[[bytes], None]) -> None:
        """Have each piece of the stream go from the upstream's connection to the client's as it arrives.

        A connection that breaks or stalls behind the stream's last word breaks nothing.

        Raises: UpstreamError.
        """
        entry, response = self._entry, self._response
        fault: BrokenStream | None = None

        def take(data: bytes) -> None:
            nonlocal fault
            if fault is not None:
                return
            try:
                passed = feed(data)
            except BrokenStream as error:
                fault = error
            if tap.is_garbled:
                fault = fault or BrokenStream(_GARBLED)
            elif tap.finish_reason is not None or tap.error is not None:
                fault = fault or self._find_giving_up(tap)
            if fault is not None:
                response.abort(fault)
                return
            if entry.ttft_s is None and tap.has_content:
                self._note_first_content()
            if passed:
                entry.passed_bytes += len(passed)
                write(passed if tap.error is None else self._target.hide_key(passed))
            if tap.has_last_word:
                response.expect_end(_END_AWAITED_S)

        try:
            await response.pass_on(take)
        except (UpstreamError, asyncio.CancelledError) as error:
            if self._breaks(tap, error):
                raise
        if fault is not None:  # also in a piece with which the answer was whole
            raise fault

    async def _hear_out(self) -> None:
        """Read a stream on behind its `finish_reason`, where the client left at that: for its usage and its end.

        Nothing is generated for nobody meanwhile. What does not come at once is not waited for.
        """
        entry, response = self._entry, self._response
        tap = entry.answer
        if not isinstance(tap, StreamTap) or tap.finish_reason is None or tap.is_complete or entry.is_settled:
            return
        response.expect_end(_HEARD_OUT_S)
        response.resume()
        with contextlib.suppress(UpstreamError, asyncio.CancelledError):
            while not tap.has_last_word and (more := await response.next_chunk()):
                tap.feed(more)
            tap.finish()

    def _note_first_content(self) -> None:
        """Note the time to the first token; from here on events may be gathered, which would have delayed it."""
        gateway, entry = self._gateway, self._entry
        entry.ttft_s = gateway.clock.monotonic_s() - entry.sent_s
        if gateway.gathering is not None:
            self._response.gather(gateway.gathering)

    async def _first_chunk(self, begun: bytes) -> bytes:
        """Return the beginning of a stream: its first event, where that comes soon, behind the comments before it.

        Until then nothing of use has come, and another upstream may answer. `begun` is what has been read of it.
        """
        response = self._response
        first = begun or await response.next_chunk()
        while 0 < len(first.removeprefix(_BYTE_ORDER_MARK)) < _SHORTEST_SSE_BYTES:
            more = await response.next_chunk()
            if not more:
                break
            first += more
        first = first.removeprefix(_BYTE_ORDER_MARK)  # readers skip it, by the standard
        if first.startswith(b":") or (first.lstrip().startswith(_SSE_STARTS) and not first.endswith(_EVENT_ENDS)):
            first = await self._hold_beginning(first)
        if not first.lstrip().startswith(_SSE_STARTS):
            what = "no stream of events" if first else "nothing"
            raise BrokenStream(
                f"upstream {self._target.name!r} answered {what} where a stream was announced",
                next_step="It may have charged for it",
            )
        return first

    async def _hold_beginning(self, first: bytes) -> bytes:
        """Return the beginning of a stream with its first event, where that comes soon.

        Comments keep a connection alive and say nothing, and half an event says no more. Where nothing comes behind
        comments, nothing is returned.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEGINNING_HELD_S):
                while len(first) < _LONGEST_HELD_BYTES and _BEGINNING.match(first) is None:
                    more = await self._response.next_chunk()
                    if not more:
                        return first if _ONLY_COMMENTS.fullmatch(first) is None else b""
                    first += more
        return first
