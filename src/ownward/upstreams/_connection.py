"""One keep-alive HTTP/1.1 connection: writes a request, feeds its answer, says when it is free again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import ssl
import weakref
from collections.abc import Callable
from typing import cast

import httptools

from ownward.core import BrokenStream
from ownward.policy import Reach
from ownward.upstreams import _low_water
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._low_water import LowWater
from ownward.upstreams.response import Response

_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d{1,6})", re.IGNORECASE)
_INFORMATIONAL = range(100, 200)
_BODILESS = (204, 304)
_MOST_HEADERS = 256
_SURELY_KEPT = 3  # answers after which a server has shown that it keeps a connection
_JUST_FREED_S = 0.002  # too short for it to have thought better of it
_RESTING_BYTES = 16 * 1024
_CARRIAGE_RETURN = 0x0D


class Connection(asyncio.Protocol):
    """One connection; it is either closed, busy with exactly one answer, or idle.

    Any byte that arrives while it is idle, and any byte after the end of an
    answer, closes it: an answer nobody asked for must never meet the next request.
    """

    __slots__ = (
        "_alarm",
        "_answer",
        "_at_head",
        "_beginning",
        "_bodiless_bytes",
        "_has_length",
        "_head_bytes",
        "_header_limit",
        "_headers",
        "_is_head_request",
        "_is_paused",
        "_is_resting",
        "_is_spent",
        "_low_water",
        "_on_free",
        "_parser",
        "_parts",
        "_poll",
        "_transport",
        "freed_at",
        "idle_until",
        "is_closed",
        "keep_alive_s",
        "on_body",
        "reaches",
        "served",
        "tls",
        "was_aborted",
        "was_chunked",
        "was_lost_again",
        "was_lost_unused",
    )

    def __init__(self, *, header_limit: int, on_free: Callable[[Connection], None], alarm: Alarm) -> None:
        """Keep whom to tell when an answer is whole or the connection is gone; `alarm` is lent to its answers."""
        self._header_limit = header_limit
        self._on_free = on_free
        self._transport: asyncio.Transport | None = None
        self._alarm = alarm
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # the pieces of one read are handed on together
        self._parser = httptools.HttpResponseParser(self)
        self._answer: weakref.ref[Response] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._poll: select.poll | None = None
        self._at_head = False
        self._beginning: bytes | None = None  # of an answer whose first line has not ended
        self._head_bytes = 0
        self._bodiless_bytes = 0  # since the last piece of a body: what chunks and trailers say beside it
        self._is_head_request = False
        self._has_length = False
        self._is_paused = False
        self._is_resting = False
        self._is_spent = False
        self._low_water: LowWater | None = None
        self.freed_at = 0.0
        self.idle_until = 0.0
        self.is_closed = False
        self.reaches: frozenset[Reach] = frozenset()  # of which calls may go where it ends
        self.was_aborted = False
        self.was_chunked = False
        self.was_lost_again = False
        self.was_lost_unused = False
        self.keep_alive_s: float | None = None
        self.served = 0
        self.tls: ssl.SSLContext | None = None

    # The pool's side.

    def start(self, request: bytes, response: Response, *, is_head_request: bool) -> None:
        """Write a request whose answer goes to `response`."""
        assert self._answer is None
        assert self._transport is not None
        self._answer = weakref.ref(response)
        self._at_head = True
        self._beginning = b""
        self._head_bytes = self._bodiless_bytes = 0
        self._is_head_request = is_head_request
        response.attach(self, self._alarm)
        self._transport.write(request)

    def is_busy(self) -> bool:
        """Tell whether an answer is outstanding."""
        return self._answer is not None

    def was_closed_by_peer(self, now: float) -> bool:
        """Tell whether anything (an end, a reset, stray bytes) waits unread on an idle connection.

        It asks the kernel, so that an end which the event loop has not yet seen counts too. Not where the connection
        was in use a moment ago, by a server that has kept it after several answers: the question costs others the
        interpreter's lock.
        """
        if self.is_closed:
            return True
        if self.served >= _SURELY_KEPT and now - self.freed_at < _JUST_FREED_S:
            return False
        return self._poll is not None and bool(self._poll.poll(0))

    def pause(self) -> None:
        """Stop reading from the socket."""
        if not self._is_paused and self._transport is not None and not self.is_closed:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the socket again."""
        if self._is_paused and self._transport is not None and not self.is_closed:
            self._is_paused = False
            self._transport.resume_reading()

    def rest(self) -> bool:
        """Have the kernel keep what comes until it is much, an end, or `end_rest`; False where it cannot.

        Unlike `pause` that costs nothing for what comes meanwhile, also under TLS, and an end is seen at once.
        """
        if self.is_closed or self._low_water is None:
            return False
        self._is_resting = self._low_water.put_at(_RESTING_BYTES)
        return self._is_resting

    def end_rest(self) -> None:
        """Have the kernel tell of every byte, at once where some wait."""
        if self._is_resting and self._low_water is not None:
            self._is_resting = False
            self._low_water.put_at(1)

    def abort(self) -> None:
        """Close at once, without waiting for what is still to be written."""
        self.is_closed = self.was_aborted = True
        if self._transport is not None:
            self._transport.abort()

    def discard(self) -> None:
        """Hold nothing any more: nobody will use it, and it may never be told that it is lost."""
        self.abort()
        self._let_go()

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and watch its socket."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN | select.POLLERR | select.POLLHUP)
        if sock is not None and _low_water.IS_HEEDED:
            self._low_water = LowWater(sock.fileno())

    def data_received(self, data: bytes) -> None:
        """Parse what arrived and hand the body's bytes on as one piece."""
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked for it
            return
        if self._at_head:
            self._head_bytes += len(data)
            if self._beginning is not None:
                data = self._with_line_ends(self._beginning + data)
        try:
            if data:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("switched protocols unasked")
            return
        except httptools.HttpParserError as error:
            # An answer that is whole has been handed on; what follows it only costs the connection.
            if self.is_busy():
                self._break(_describe(error))
            else:
                self.abort()
            return
        if self._answer is not answer:
            return  # it is whole, or given up
        if self._at_head:
            if self._head_bytes > self._header_limit:
                self._break(f"sent more than {self._header_limit} bytes of headers")
        elif self._parts:
            self._bodiless_bytes = 0
            self._hand_on()
        else:
            self._bodiless_bytes += len(data)
            if self._bodiless_bytes > self._header_limit:
                self._break(f"sent more than {self._header_limit} bytes beside its chunks")

    def _with_line_ends(self, begun: bytes) -> bytes:
        """Return what is to be parsed of an answer's beginning: nothing, while its first line, or such a head, goes on.

        A head that ends all its lines with bare line feeds, as a few servers write, is read as if it had carriage
        returns, and its connection is not used again. Where only some lines lack them, what looks like one may be a
        value that a client made the server repeat: the parser refuses that, as it refuses such lines between chunks.

        Source: RFC 9112, section 2.2.
        """
        end = begun.find(b"\n")
        self._beginning = None
        if (end > 0 and begun[end - 1] == _CARRIAGE_RETURN) or begun[:5] != b"HTTP/"[: len(begun)]:
            return begun
        head, blank, rest = begun.partition(b"\n\n")
        if head.find(b"\r") >= 0:
            return begun
        if not blank:
            self._beginning = begun
            return b""
        self._is_spent = True
        return b"%b\r\n\r\n%b" % (head.replace(b"\n", b"\r\n"), rest)

    def eof_received(self) -> None:
        """Let the transport close; `connection_lost` tells what it means."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End an answer that runs until the end, break any other."""
        self.is_closed = True
        self.was_lost_unused = not self.was_aborted and (self._answer is None or not self._head_bytes)
        if self._answer is not None:
            runs_to_the_end = not (self._at_head or self._has_length or self.was_chunked)
            if runs_to_the_end and exc is None:
                self._finish()
            else:
                self._break("closed the connection" if exc is None else "reset the connection", abort=False)
        self._let_go()
        self._on_free(self)

    def _let_go(self) -> None:
        self._transport = None
        self._poll = None
        self._alarm.close()
        if self._low_water is not None:
            self._low_water.let_go()
            self._low_water = None
        with contextlib.suppress(AttributeError):  # it is gone already
            del self._parser  # which holds us: what is left would live until the garbage collector runs

    # httptools' side.

    def on_message_begin(self) -> None:
        """Close the connection where another answer starts that nobody asked for."""
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        if self._at_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Hand on the head; informational heads are passed over."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status in _INFORMATIONAL:
            return  # the parser itself stops at 101
        if len(headers) > _MOST_HEADERS:
            raise _TooManyHeaders
        self._at_head = False
        found = dict(headers)
        self._has_length = b"content-length" in found
        coding = found.get(b"transfer-encoding")
        self.was_chunked = coding is not None and b"chunked" in coding.lower()
        stated = found.get(b"keep-alive")
        timeout = None if stated is None else _KEEP_ALIVE_TIMEOUT.search(stated)
        self.keep_alive_s = None if timeout is None else float(timeout[1])
        response = self._answer() if self._answer is not None else None
        if response is None:
            self.abort()
            return
        response.begin(status, headers, coding=found.get(b"content-encoding"))
        if self._is_head_request and status not in _BODILESS:
            # The parser would wait for a body that does not come; the connection is given up.
            self._finish()
            self.abort()

    def on_message_complete(self) -> None:
        """End the answer, unless it was only informational."""
        if self._at_head or self._answer is None:
            return
        if self._parts:
            self._hand_on()
        if self._is_paused:
            self.resume()
        if self._is_resting:
            self.end_rest()
        transport = self._transport
        self._is_spent |= not self._parser.should_keep_alive()
        if self._is_spent or transport is None or transport.get_write_buffer_size():
            # An end announced, or an answer before the request was out: this connection is spent.
            self._finish()
            self.abort()
            return
        self._finish()
        self.served += 1
        self._on_free(self)

    def _hand_on(self) -> None:
        parts = self._parts
        count = len(parts)
        data = parts[0] if count == 1 else b"".join(parts)
        parts.clear()
        response = self._answer() if self._answer is not None else None
        if response is None:
            self.abort()  # nobody will read it
            return
        response.feed(data, count if self.was_chunked else 0)

    def _finish(self) -> None:
        response = self._answer() if self._answer is not None else None
        self._answer = None
        if response is not None:
            response.finish()

    def _break(self, what: str, *, abort: bool = True) -> None:
        if self._parts:
            self._hand_on()
        response = self._answer() if self._answer is not None else None
        self._answer = None
        if abort:
            self.abort()
        if response is not None:
            error = BrokenStream(
                f'upstream "{response.upstream}" {what} after {response.bytes_received} bytes of its answer',
                where=response.origin,
                next_step="It may have accepted the request and charge for it",
            )
            error.was_kept = self.was_lost_again = bool(self.served) and self._at_head and not self._head_bytes
            response.fail(error)


class _TooManyHeaders(Exception):
    """Raised through the parser to stop it."""


def _describe(error: httptools.HttpParserError) -> str:
    if isinstance(error.__context__, _TooManyHeaders):
        return f"sent more than {_MOST_HEADERS} headers"
    return "did not answer in HTTP/1.1"
