"""One client's connection: bytes into requests by httptools, answers into bytes, limits kept on the way.

A request that can be read in two ways is refused and the connection closed: what stands before us or behind us
may read it the other way.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import unquote

import httptools

from ownward.gateway.asgi import Headers, address_of
from ownward.gateway.listening.call import READ_AHEAD_BYTES, Call
from ownward.gateway.listening.known_head import KnownHead
from ownward.gateway.listening.refused import BUSY, MALFORMED, MISLED, TIMED_OUT, TOO_LARGE, Refused

if TYPE_CHECKING:
    from ownward.gateway.listening.listener import Listener

_MOST_HEADERS = 256
_MOST_WAITING = 32
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
"""The letters of a host and its port, as RFC 3986 has them in section 3.2.2."""
_FRAMING = (b"content-length", b"transfer-encoding")
_UNREAD_BYTES = 16 * 1024 * 1024
_ASGI = {"version": "3.0", "spec_version": "2.3"}

Waits = Literal["head", "next", "rest"]


class HttpConnection(asyncio.Protocol):
    """One connection. Requests are answered one after the other, in the order in which they came.

    `waits` and `deadline_s` say what is waited for, and until when: the listener looks at them now and then, so that
    a request sets no timer of its own.
    """

    __slots__ = (
        "_bodiless_bytes",
        "_call",
        "_coming",
        "_drains",
        "_expects_continue",
        "_fed_bytes",
        "_has_head",
        "_head_bytes",
        "_headers",
        "_hosts",
        "_is_closing",
        "_is_reading_paused",
        "_is_reframing",
        "_known_head",
        "_listener",
        "_offers_upgrade",
        "_parser",
        "_peer",
        "_transport",
        "_unread_bytes",
        "_url",
        "_waiting",
        "deadline_s",
        "is_write_paused",
        "waits",
    )

    def __init__(self, listener: Listener) -> None:
        """Begin before the connection is made."""
        self._listener = listener
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._peer: tuple[str, int] | None = None
        self._call: Call | None = None  # being answered
        self._coming: Call | None = None  # whose body is still to come
        self._waiting: deque[Call] = deque()
        self._drains: list[asyncio.Future[None]] = []
        self._url = b""
        self._headers: Headers = []
        self._hosts = 0
        self._head_bytes = 0
        self._fed_bytes = 0
        self._bodiless_bytes = 0  # since the last piece of a body: what chunks and trailers say beside it
        self._has_head = False
        self._expects_continue = False
        self._is_closing = False
        self._is_reading_paused = False
        self._is_reframing = False
        self._offers_upgrade = False
        self._known_head = KnownHead()
        self._unread_bytes = 0
        self.is_write_paused = False
        self.waits: Waits | None = "head"
        self.deadline_s = 0.0

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse a connection too many; begin the time for the first head."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)  # not before: a handshake that fails is not told as lost
        self._peer = address_of(transport.get_extra_info("peername"))
        listener = self._listener
        listener.connections.add(self)
        more = len(listener.connections) - listener.most_connections
        if more > 0:
            self._refuse(BUSY)
            if more > listener.most_refused:  # nobody stays until it has heard so: a reset can overtake it
                self.close()
            return
        self.deadline_s = listener.deadline_s(listener.limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Tell who answers, and who waits until the client reads."""
        self._is_closing = True
        self.waits = None
        self._listener.connections.discard(self)
        self._let_go()
        for call in (self._call, self._coming, *self._waiting):
            if call is not None:
                call.leave()
        self._waiting.clear()
        self._call = self._coming = None  # they lead back here, and hold their bodies
        del self._parser  # which holds us: what is left would live until the garbage collector runs

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._is_closing:
            if self.waits == "rest":
                self._pass_over(len(data))
            return
        is_at_start = self._call is None and self._coming is None and not self._head_bytes
        if is_at_start and self._answer_known(data):
            return
        if not self._has_head:
            self._count_head(data)
        self._fed_bytes = self._head_bytes + len(data)
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._offers_upgrade:
                self._stay_with_http(data[offer.args[0] :])
            else:
                self._close_after_answers()
        except httptools.HttpParserError as error:
            context = error.__context__
            self._refuse(context.answer if isinstance(context, Refused) else MALFORMED)
        else:
            held_bytes = self._bodiless_bytes if self._has_head else self._head_bytes
            if held_bytes > self._listener.limits.max_header_bytes:
                self._refuse(TOO_LARGE)
            elif is_at_start and not self._waiting and not self._head_bytes:  # nothing stands behind it
                call = self._call
                if call is not None and call.is_body_whole and call.keeps_alive:
                    self._known_head.learn(data, call.scope, most_bytes=self._listener.limits.max_header_bytes)

    def _answer_known(self, data: bytes) -> bool:
        """Begin a call without the parser, which stands between two requests; False where it is needed."""
        known = self._known_head.read(data)
        if known is None:
            return False
        scope, body = known
        self.waits = None
        call = self._call = Call(self, scope, body)
        self._listener.answer(call)
        return True

    def _stay_with_http(self, rest: bytes) -> None:
        """Read on as HTTP/1.1, though another protocol was offered (as Java's client does): the parser stops at this.

        Another parser takes the rest, which is told of the body's length by a head of our own.
        """
        framing = [b"%b: %b\r\n" % header for header in self._headers if header[0] in _FRAMING]
        self._parser = httptools.HttpRequestParser(self)
        self._is_reframing = True
        self._offers_upgrade = False
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
        if rest:
            self.data_received(rest)

    def eof_received(self) -> None:
        """Take a client that stops sending for one that left, and let the transport close."""

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.is_write_paused = True
        if self._call is not None and self._call.on_write_pause is not None:
            self._call.on_write_pause()

    def resume_writing(self) -> None:
        """Note that it reads again."""
        self.is_write_paused = False
        self._let_go()
        if self._call is not None and self._call.on_write_pause is not None:
            self._call.on_write_pause()

    def _let_go(self) -> None:
        waiting, self._drains = self._drains, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # httptools' side.

    def on_message_begin(self) -> None:
        """Start a head."""
        if self._is_reframing:
            return
        self._url = b""
        self._headers = []
        self._hosts = 0
        self._expects_continue = False
        self._offers_upgrade = False
        self._has_head = False
        if not self._head_bytes:
            self._head_bytes = 1  # behind another request: what arrived with it counts as this much

    def on_url(self, url: bytes) -> None:
        """Keep the target, which may come in pieces."""
        if self._is_reframing:
            return
        self._url += url
        if len(self._url) > self._listener.limits.max_header_bytes:
            raise Refused(TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        if self._has_head:
            return  # also where a parser is told of a body that is being read
        lowered = name.lower()
        value = value.rstrip(b" \t")  # no part of it (RFC 9112, section 5.1); the parser leaves out what stands before
        if lowered == b"host":
            self._hosts += 1
            if _HOST.fullmatch(value.strip()) is None:
                raise Refused(MALFORMED)
        elif lowered == b"upgrade":
            self._offers_upgrade = True
        elif lowered == b"expect":
            if value.lower() != b"100-continue":
                raise Refused(MISLED)
            self._expects_continue = True
        elif lowered == b"transfer-encoding" and value.lower() != b"chunked":
            raise Refused(MALFORMED)  # of `gzip, chunked` packed bytes would be left
        self._headers.append((lowered, value))

    def on_headers_complete(self) -> None:
        """Begin a call."""
        if self._is_reframing:
            self._is_reframing = False
            return
        self._has_head = True
        headers = self._headers
        limit = self._listener.limits.max_header_bytes
        if len(headers) > _MOST_HEADERS or (self._fed_bytes > limit and _size(headers, self._url) > limit):
            raise Refused(TOO_LARGE)
        parser = self._parser
        version = parser.get_http_version()
        if version not in {"1.1", "1.0"} or self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise Refused(MALFORMED)
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in headers):
            raise Refused(MALFORMED)  # who speaks it may take chunks for requests (RFC 9112, section 6.1)
        if len(self._waiting) >= _MOST_WAITING:
            raise Refused(BUSY)
        call = self._coming = Call(
            self,
            self._scope(parser.get_method().decode("ascii"), version),
            keeps_alive=parser.should_keep_alive() and not self._listener.is_stopping,
            expects_continue=self._expects_continue and version == "1.1",
        )
        self._head_bytes = 0
        self.waits = None
        if self._call is None:
            self._call = call
            self._listener.answer(call)
        else:
            self._waiting.append(call)

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._bodiless_bytes = 0
        call = self._coming
        if call is None:
            return
        call.feed(body)
        if call.is_over:
            self._pass_over(len(body))
        elif self._waiting and sum([waiting.unread_body_bytes for waiting in self._waiting]) > READ_AHEAD_BYTES:
            self.pause_reading()  # until the one before them is answered: nobody counts their bytes yet

    def on_message_complete(self) -> None:
        """End a request; the answer may be over already."""
        if self._offers_upgrade and self._parser.should_upgrade():
            return  # its body was not read
        self._has_head = False
        self._head_bytes = self._bodiless_bytes = 0
        call, self._coming = self._coming, None
        if call is None:
            return
        call.finish_body()
        if call.is_over:
            self._go_on(call)

    # The call's side.

    @property
    def date_line(self) -> bytes:
        """The `date` header of now."""
        return self._listener.date_line

    @property
    def unread_bytes(self) -> int:
        """How many bytes the transport still holds."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport, unless the client has left."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Return when most of what waits has been read, or the client has left."""
        if self.is_write_paused and not self._is_closing:
            waiter = asyncio.get_running_loop().create_future()
            self._drains.append(waiter)
            await waiter

    def pause_reading(self) -> None:
        """Let the client wait with the rest of its request."""
        if not (self._is_reading_paused or self._transport.is_closing()):
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection: what waits for the client is dropped."""
        self._is_closing = True
        self._transport.abort()

    def on_answered(self, call: Call) -> None:
        """Go on to the next request, once this one was read to its end."""
        if self._is_reading_paused:
            self.resume_reading()
        if call.is_body_whole:
            self._go_on(call)
        elif not call.keeps_alive:
            self._close_reading()
        else:  # what follows of the body is passed over
            self._unread_bytes = 0
            self.waits, self.deadline_s = "rest", self._listener.deadline_s(self._listener.limits.header_timeout_s)

    # The listener's side.

    def expire(self) -> None:
        """Give up waiting; without an answer where nothing came, as it would be taken for one to a first request."""
        if self.waits == "head" and self._head_bytes:
            self._refuse(TIMED_OUT)
        else:
            self.close()

    @property
    def is_between(self) -> bool:
        """Whether it waits for a request, or for the rest of its head."""
        return self.waits in {"head", "next"}

    def shut_down(self) -> None:
        """Take one request more that may be on its way; close when it is answered, or none comes for a moment.

        Who has a head already that says nothing of an end may have sent the next request before hearing of it.
        """
        self._known_head = KnownHead()  # so that each head is read to the end, where it is told that it is the last
        last = self._waiting[-1] if self._waiting else self._call
        if last is not None and not last.has_begun:
            last.keeps_alive = False
        if self.is_between:
            limits = self._listener.limits
            most_s = limits.keep_alive_s if self.waits == "next" else limits.header_timeout_s
            self.deadline_s = min(self.deadline_s, self._listener.deadline_s(most_s))

    def close(self) -> None:
        """Close once what was written is out."""
        self._is_closing = True
        self.waits = None
        self._transport.close()

    # Between requests.

    def _go_on(self, call: Call) -> None:
        if self._call is not call:
            return
        self._call = None
        if self._is_closing and not self._waiting:
            self.close()
            return
        if not call.keeps_alive:
            self._waiting.clear()
            self.close()
            return
        if self._waiting:
            self._call = self._waiting.popleft()
            self._listener.answer(self._call)
            return
        listener = self._listener
        if self._head_bytes:
            self.waits, self.deadline_s = "head", listener.deadline_s(listener.limits.header_timeout_s)
        else:
            self.waits, self.deadline_s = "next", listener.deadline_s(listener.limits.keep_alive_s)

    def _count_head(self, data: bytes) -> None:
        """Begin the time for a head with its first byte."""
        if not self._head_bytes and self._call is None:
            listener = self._listener
            self.waits, self.deadline_s = "head", listener.deadline_s(listener.limits.header_timeout_s)
        self._head_bytes += len(data)

    def _pass_over(self, size: int) -> None:
        """Drop bytes of a body that nobody wants any more; not for ever."""
        self._unread_bytes += size
        if self._unread_bytes > _UNREAD_BYTES:
            self.abort()

    def _refuse(self, answer: bytes) -> None:
        """Close, with an answer where none is under way that it would be mistaken for."""
        if self._is_closing:
            return
        call, coming = self._call, self._coming
        if call is None:
            self.write(answer)
            self._close_reading()
        elif coming is not call:
            if coming is not None:  # it waits in line and can never be whole
                self._waiting.pop()
                coming.leave()
            self._close_after_answers()
        elif call.has_begun:
            self.abort()
        else:
            self._call = self._coming = None
            call.leave()
            self.write(answer)
            self._close_reading()

    def _close_reading(self) -> None:
        """Say that nothing follows and pass over what still comes: a reset could overtake the answer."""
        self._is_closing = True
        self._unread_bytes = 0
        self.waits, self.deadline_s = "rest", self._listener.deadline_s(min(self._listener.limits.header_timeout_s, 2))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self.close()

    def _close_after_answers(self) -> None:
        """Read no further request; answer what came before."""
        if self._call is None:
            self.close()
            return
        self._is_closing = True
        last = self._waiting[-1] if self._waiting else self._call
        last.keeps_alive = False

    def _scope(self, method: str, version: str) -> dict[str, Any]:
        url = self._url
        if url[:1] == b"/" or url == b"*":
            raw_path, _, query = url.partition(b"?")
        else:  # the absolute form, which a proxy is asked with
            try:
                parsed = httptools.parse_url(url)
            except httptools.HttpParserInvalidURLError:
                raise Refused(MALFORMED) from None
            raw_path, query = parsed.path or b"/", parsed.query or b""
        if not raw_path.isascii():
            raise Refused(MALFORMED)
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self._listener.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "client": self._peer,
            "server": self._listener.address,
        }


def _size(headers: Headers, url: bytes) -> int:
    return len(url) + sum([len(name) + len(value) for name, value in headers])
