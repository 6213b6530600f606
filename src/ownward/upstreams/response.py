"""An upstream's answer: status and headers at once, the body as it arrives, closed at a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Protocol, Self

from ownward.core import BrokenStream, OwnwardError, UpstreamTimeout
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._coding import Unpacker, find_unpacker
from ownward.upstreams.gathering import Gathering

_AWAY_S = 1.0
"""An alarm that rings later than this found nobody who ran: stopped, frozen, or asleep with the machine."""

_LONG_PIECE_BYTES = 128 * 1024
"""After such a piece of a stream others come first: uvloop reads on at once, up to 8 MB, while more has come."""


class Channel(Protocol):
    """What an answer asks of the connection it arrives on."""

    def pause(self) -> None:
        """Stop taking in bytes."""
        ...

    def resume(self) -> None:
        """Take in bytes again."""
        ...

    def rest(self) -> bool:
        """Take in nothing until much has come, the end, or `end_rest`; False where only `pause` does."""
        ...

    def end_rest(self) -> None:
        """Take in whatever comes."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Response:
    """One answer, made by a transport and read once.

    `headers` are pairs of lower-case names and values as received;
    `bytes_received` counts body bytes taken in so far, also after a failure.
    Leaving `async with` before the end closes the connection at once.
    """

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_buffer",
        "_channel",
        "_ends_at",
        "_failure",
        "_fed_at",
        "_gathering",
        "_has_rested",
        "_held",
        "_is_paused",
        "_is_resting",
        "_limit",
        "_loop",
        "_stall_s",
        "_take",
        "_unpacker",
        "_wait_limit_s",
        "_waiter",
        "_wake_at",
        "bytes_received",
        "headers",
        "is_complete",
        "origin",
        "status",
        "upstream",
    )

    def __init__(
        self, upstream: str, origin: str, loop: asyncio.AbstractEventLoop, stall_s: float, buffer_bytes: int
    ) -> None:
        """Start empty; the transport fills it."""
        self.upstream = upstream
        self.origin = origin
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.bytes_received = 0
        self.is_complete = False
        self._channel: Channel | None = None
        self._buffer: list[bytes] = []
        self._held = 0
        self._limit = buffer_bytes
        self._failure: OwnwardError | None = None
        self._take: Callable[[bytes], None] | None = None
        self._is_paused = False
        self._gathering: Gathering | None = None
        self._fed_at = 0.0
        self._has_rested = False
        self._is_resting = False
        self._loop = loop
        self._stall_s = stall_s
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: Alarm  # the connection's
        self._unpacker: Unpacker | None = None
        self._wake_at = self._wait_limit_s = 0.0
        self._ends_at = inf

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, asked for in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def next_chunk(self) -> bytes:
        """Return what has arrived since the last call, waiting for at least a byte; empty at the end.

        Raises: UpstreamTimeout, if nothing arrives in time; BrokenStream, if the
        upstream breaks off. What arrived before a break is given out first.
        """
        while not self._buffer:
            if self.is_complete:
                return b""
            await self.wait(self._stall_s)
        buffer = self._buffer
        chunk = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._held = 0
        self._resume_channel()
        return chunk

    async def pass_on(self, take: Callable[[bytes], None]) -> None:
        """Hand each piece to `take` in the very moment it arrives, and return at the end.

        No task is woken for a piece. `take` must be quick; while it cannot take more, call `pause`.

        Raises: as `next_chunk` does; what arrived before a break was handed on.
        """
        held = b"".join(self._buffer)
        self._buffer.clear()
        self._held = 0
        self._take = take
        if held:
            take(held)
        self._resume_channel()
        try:
            while not self.is_complete:
                await self.wait(self._stall_s)
        finally:
            self._take = None  # it often leads back here: a cycle would keep both alive

    def pause(self) -> None:
        """Take in nothing until `resume`; this time is no stall of the upstream."""
        self._is_paused = True
        if self._channel is not None:
            self._channel.pause()

    def resume(self) -> None:
        """Take in what comes again."""
        self._is_paused = False
        self._wake_at = self._loop.time() + self._stall_s
        self._resume_channel()

    def expect_end(self, within_s: float) -> None:
        """Wait no longer than this, whatever still comes: what there was to say has been said."""
        self._ends_at = min(self._ends_at, self._loop.time() + within_s)
        if self._waiter is not None:
            self._alarm.set(self._ends_at, self)

    def gather(self, gathering: Gathering) -> None:
        """From here on, where many events come, have this stream read now and then."""
        self._gathering = gathering

    def rest(self) -> None:
        """Take in little until `end_rest`, which comes soon; this time is no stall of the upstream."""
        self._is_resting = True
        self._fed_at = self._loop.time()
        if self._channel is not None and not self._channel.rest():
            self._channel.pause()

    def end_rest(self) -> None:
        """Take in what came meanwhile, unless it is held up."""
        self._is_resting = False
        self._wake_at += self._loop.time() - self._fed_at
        if self._channel is not None:
            self._channel.end_rest()
            self._resume_channel()

    def _resume_channel(self) -> None:
        if self._channel is not None and not self._is_paused and not self._is_resting:
            self._channel.resume()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces as they arrive; raises as `next_chunk` does."""
        while chunk := await self.next_chunk():
            yield chunk

    def take_whole(self, limit: int) -> bytes | None:
        """Return the rest of the body, where all of it is there and no longer than `limit`."""
        if not self.is_complete or self._held > limit:
            return None
        buffer, self._buffer, self._held = self._buffer, [], 0
        return buffer[0] if len(buffer) == 1 else b"".join(buffer)

    async def read(self, limit: int) -> bytes:
        """Return the whole rest of the body.

        Raises: BrokenStream, if it is longer than `limit` bytes (the connection
        is then closed) or breaks off; UpstreamTimeout, if it stalls.
        """
        whole = self.take_whole(limit)
        if whole is not None:
            return whole
        parts: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            size += len(chunk)
            if size > limit:
                self.abort()
                raise BrokenStream(
                    f'upstream "{self.upstream}" answered more than {limit} bytes',
                    where=self.origin,
                    next_step="The connection was closed; the upstream may have charged for the answer",
                )
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abort(self, why: OwnwardError | None = None) -> None:
        """Close the connection at once, which makes the upstream stop; nothing happens where all has arrived.

        Who reads the answer is told `why`.
        """
        if self.is_complete or self._failure is not None:
            return
        channel = self._channel
        self.fail(
            why
            or BrokenStream(
                f'the call to upstream "{self.upstream}" was given up after {self.bytes_received} bytes of its answer',
                where=self.origin,
            )
        )
        if channel is not None:
            channel.abort()

    async def __aenter__(self) -> Self:
        """Return the answer itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connection unless all has arrived."""
        self.abort()

    def __del__(self) -> None:
        """Close the connection of an answer that nobody will read to its end."""
        if self._channel is not None and not self.is_complete and not self._loop.is_closed():
            self._channel.abort()

    def __repr__(self) -> str:
        """Return whose answer it is and its status, without headers or body."""
        return f"<Response {self.status} from {self.upstream!r} {self.origin}>"

    # What follows is the transport's side.

    def attach(self, channel: Channel, alarm: Alarm) -> None:
        """Name the connection the answer arrives on, and the alarm that it lends."""
        self._channel = channel
        self._alarm = alarm

    def begin(self, status: int, headers: list[tuple[bytes, bytes]], *, coding: bytes | None = None) -> None:
        """Take in the head; `coding` is how its body is packed."""
        if coding is not None:
            try:
                self._unpacker = find_unpacker(coding, upstream=self.upstream, origin=self.origin)
            except BrokenStream as error:
                self.abort(error)
                return
        self.status = status
        self.headers = headers
        self._wake()

    def feed(self, data: bytes, pieces: int = 0) -> None:
        """Take in a part of the body; past the limit the connection is paused until it is read.

        `pieces` is in how many the upstream sent it, where that is known.
        """
        self.bytes_received += len(data)
        if self._unpacker is not None:
            data = self._unpack(self._unpacker, data)
            if not data:
                return
        take = self._take
        if take is not None:
            now = self._loop.time()
            self._wake_at = now + self._stall_s
            take(data)
            gathering = self._gathering
            if gathering is not None:
                events = pieces or data.count(b"\n\n") or 1
                gathering.count(events, now)
                if gathering.rest_s:
                    self._rest_or_not(gathering, events, now)
                self._fed_at = now
            if len(data) >= _LONG_PIECE_BYTES and self._channel is not None:
                self._channel.pause()
                self._loop.call_soon(self._resume_channel)
            return
        self._buffer.append(data)
        self._held += len(data)
        if self._held > self._limit and self._channel is not None:
            self._channel.pause()
        gathering = self._gathering
        if gathering is not None:
            now = self._loop.time()
            events = pieces or data.count(b"\n\n") or 1
            gathering.count(events, now)
            self._rest_or_not(gathering, events, now)
            self._fed_at = now
        self._wake()

    def _rest_or_not(self, gathering: Gathering, events: int, now: float) -> None:
        """Rest after a piece, where more of them would come meanwhile."""
        if not gathering.rest_s or self._is_resting or self._channel is None:
            return
        rests = gathering.wants(events, now - self._fed_at, has_rested=self._has_rested)
        if rests:
            gathering.hold(self, self._loop, has_rested=self._has_rested)
        self._has_rested = rests

    def _unpack(self, unpacker: Unpacker, data: bytes) -> bytes:
        try:
            return unpacker.unpack(data)
        except ValueError as error:
            self.abort(BrokenStream(f'upstream "{self.upstream}" sent a body {error}', where=self.origin))
            return b""

    def finish(self) -> None:
        """Note that the body is whole."""
        if self._failure is not None:
            return
        if self._unpacker is not None and self.bytes_received and not self._unpacker.is_whole:
            self.fail(
                BrokenStream(f'upstream "{self.upstream}" broke off in the middle of a packed body', where=self.origin)
            )
            return
        self.is_complete = True
        self._channel = None
        self._wake()

    def fail(self, error: OwnwardError) -> None:
        """Note why no more will come."""
        if self._failure is None:
            self._failure = error
        self._channel = None
        self._wake()

    def wait(self, limit_s: float) -> asyncio.Future[None]:
        """Return what is done once the whole head, or more of the body, is there, or something went wrong.

        That it has after `limit_s`. Raises: what has gone wrong already.
        """
        if self._failure is not None:
            raise self._failure
        self._wait_limit_s = limit_s
        self._wake_at = self._loop.time() + limit_s
        self._alarm.set(min(self._wake_at, self._ends_at), self)
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
            self._alarm.unset()  # or it would keep an answer alive that nobody waits for

    def ring(self) -> None:
        """Give up waiting, if the time is up and this is no pause that was asked for."""
        if self._waiter is None or self._waiter.done():
            return
        now, limit_s = self._loop.time(), self._wait_limit_s
        if self._is_paused or self._is_resting:
            self._wake_at = now + limit_s
        if now - self._wake_at > _AWAY_S and now < self._ends_at:
            self._wake_at = now + limit_s  # nobody ran here who could have read: what came is there, and read next
        rings_at = min(self._wake_at, self._ends_at)
        if now < rings_at:
            self._alarm.set(rings_at, self)
            return
        channel = self._channel
        waited_for = "further byte" if self.status else "head of an answer"
        self.fail(
            UpstreamTimeout(
                f'upstream "{self.upstream}" sent no {waited_for} within {limit_s:g} s, '
                f"after {self.bytes_received} bytes of its answer",
                where=self.origin,
                next_step="The connection was closed; the upstream may have accepted the request",
            )
        )
        if channel is not None:
            channel.abort()
