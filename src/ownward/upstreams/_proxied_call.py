"""One call by aiohttp: a task that fills its answer, the sockets to cut when it is given up, and what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ownward.core import BrokenStream, OwnwardError
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._destination import Destination
from ownward.upstreams.response import Response
from ownward.upstreams.ways import Way

if TYPE_CHECKING:
    import aiohttp

_PROXY_AUTHENTICATION_REQUIRED = 407
_FIRST_FINAL_STATUS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What is asked."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


class ProxiedCall:
    """One call: a task that fills its response, and the sockets to cut when it is given up."""

    def __init__(
        self, response: Response, *, way: Way, to: Destination, request: CallRequest, header_limit: int
    ) -> None:
        """Begin; nothing is connected yet."""
        self._response = weakref.ref(response)  # dropping the answer ends the call
        self._way = way
        self._to = to
        self._request = request
        self._header_limit = header_limit
        self._sockets: list[socket.socket] = []
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._received = 0
        loop = asyncio.get_running_loop()
        self._alarm = Alarm(loop)
        self.sent: asyncio.Future[None] = loop.create_future()
        self.is_sent = False
        self.task: asyncio.Task[None] | None = None

    def start(self, session: aiohttp.ClientSession, on_end: Callable[[], None]) -> None:
        """Connect and send; `on_end` is called when the call is over."""
        response = self._response()
        assert response is not None
        response.attach(self, self._alarm)
        self.task = asyncio.create_task(self._run(session), name=f"call to {self._to.origin}")
        self.task.add_done_callback(self._close)
        self.task.add_done_callback(lambda _: on_end())

    def _close(self, _: asyncio.Task[None]) -> None:
        self._alarm.close()
        self.task = None  # which holds us where it was cancelled

    # The answer's side.

    def pause(self) -> None:
        """Take in no more; aiohttp then holds 128 KiB at most and stops reading."""
        self._resumed.clear()

    def resume(self) -> None:
        """Take in bytes again."""
        self._resumed.set()

    def rest(self) -> bool:
        """Say that only `pause` rests."""
        return False

    def end_rest(self) -> None:
        """Do nothing: `resume` follows."""

    def abort(self) -> None:
        """Cut the connection now; the task ends in its next turn and sends nothing more."""
        if self.task is not None:
            self.task.cancel()
        self._cut()

    def _cut(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # aiohttp's side.

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket that `abort` knows."""
        family, kind, protocol, _, _ = info
        sock = socket.socket(family, kind, protocol)
        self._sockets.append(sock)
        return sock

    async def on_connecting(self, *_: object) -> None:
        """Let aiohttp connect once: it would send a GET again on its own."""
        if self.is_sent:
            raise _SentAlready

    async def on_sending(self, *_: object) -> None:
        """Note that from here on the upstream may accept the request (told before the first byte is written)."""
        self.is_sent = True
        self._note_sent()

    def _note_sent(self) -> None:
        if not self.sent.done():
            self.sent.set_result(None)

    async def _run(self, session: aiohttp.ClientSession) -> None:
        from aiohttp import ClientError

        failure: OwnwardError | None = None
        try:
            try:
                await self._carry(session)
            finally:
                self._cut()  # without waiting for the other side's farewell
                await session.close()
        except (ClientError, OSError, _SentAlready) as error:
            failure = self._explain(error)
            _forget_frames(error)
        finally:
            # Of an answer that has failed before, or was given up, the first failure counts.
            self._fail(failure or self._broken("was given up"))
            self._note_sent()

    async def _carry(self, session: aiohttp.ClientSession) -> None:
        async with await self._send(session) as answer:
            if answer.status < _FIRST_FINAL_STATUS:
                self._fail(self._broken("switched protocols unasked"))
                return
            if (
                self._way.proxy is not None
                and self._to.origin.scheme == "http"
                and answer.status == _PROXY_AUTHENTICATION_REQUIRED
            ):
                self._fail(self._refused_by_proxy(answer.status))
                return
            if sum(len(name) + len(value) + 4 for name, value in answer.raw_headers) > self._header_limit:
                self._fail(self._broken(f"sent more than {self._header_limit} bytes of headers"))
                return
            response = self._response()
            if response is None:
                return
            headers = [(name.lower(), value) for name, value in answer.raw_headers]
            coding = next((value for name, value in headers if name == b"content-encoding"), None)
            response.begin(answer.status, headers, coding=coding)
            while True:
                del response
                chunk = await answer.content.readany()
                response = self._response()
                if response is None:
                    return
                if not chunk:
                    response.finish()
                    return
                self._received += len(chunk)
                response.feed(chunk)
                if not self._resumed.is_set():
                    del response
                    await self._resumed.wait()
                    response = self._response()

    async def _send(self, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        from yarl import URL

        proxy, request = self._way.proxy, self._request
        headers = [("host", self._to.origin.host_header), *request.headers, ("accept-encoding", "identity")]
        if request.body or request.method not in {"GET", "HEAD"}:
            headers.append(("content-length", str(len(request.body))))
        options: dict[str, Any] = {}
        if proxy is not None:
            options["proxy"] = URL(str(proxy), encoded=True)
            if proxy.authorization is not None and self._to.origin.scheme == "https":
                options["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
            elif proxy.authorization is not None:
                headers.append(("proxy-authorization", proxy.authorization))
        return await session.request(
            request.method,
            URL(f"{self._to.origin}{request.target}", encoded=True),
            headers=headers,
            data=io.BytesIO(request.body) if request.body else None,
            allow_redirects=False,
            **options,
        )

    # What went wrong.

    def _fail(self, error: OwnwardError) -> None:
        response = self._response()
        if response is not None and not response.is_complete:
            response.fail(error)

    def _broken(self, what: str) -> BrokenStream:
        return BrokenStream(
            f'upstream "{self._to.upstream}" {what} after {self._received} bytes of its answer',
            where=str(self._to.origin),
            next_step="It may have accepted the request and charge for it",
        )

    def _refused_by_proxy(self, status: int) -> OwnwardError:
        proxy = self._way.proxy
        asks = " and asks for user and password" if status == _PROXY_AUTHENTICATION_REQUIRED else ""
        return self._to.unreachable(f"is behind the proxy {proxy}, which answered {status}{asks}")

    def _explain(self, error: BaseException) -> OwnwardError:
        """Say what happened in our words: aiohttp's own may quote headers."""
        import aiohttp

        if self.is_sent:
            if isinstance(error, aiohttp.ClientResponseError):
                return self._broken("did not answer in HTTP/1.1 within the limits")
            if isinstance(error, ConnectionResetError) or isinstance(error.__cause__, ConnectionResetError):
                return self._broken("reset the connection")
            return self._broken("closed the connection")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self._refused_by_proxy(error.status)
        return self._to.unreachable(self._describe_connecting(error))

    def _describe_connecting(self, error: BaseException) -> str:
        import aiohttp

        proxy, through = self._way.proxy, self._way.through
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"showed a certificate that is not trusted{through} ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"does not speak TLS as it should{through} ({cause.reason or 'handshake failed'})"
        why = (cause.strerror if isinstance(cause, OSError) else None) or type(cause or error).__name__
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return f"is behind the proxy {proxy}, which gave no connection ({why})"
        if isinstance(error, aiohttp.ClientResponseError):
            return f"is behind the proxy {proxy}, which did not answer in HTTP/1.1"
        return f"gave no connection{through} ({why})"


def _forget_frames(error: BaseException | None) -> None:
    """Have an error that aiohttp keeps, and what led to it, hold nothing of the request that was under way."""
    while error is not None:
        before = error.__cause__ or error.__context__
        error.__traceback__ = error.__context__ = error.__cause__ = None
        error = before


class _SentAlready(Exception):
    """Raised through aiohttp to keep it from sending twice."""
