"""The transport for ways that ours does not go: through an HTTP proxy, by aiohttp.

One connection a call, closed after it: a tunnel that is never used again cannot
have been closed under a request, nor hold an answer that nobody asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ownward.core import BadInput, BrokenStream, MissingExtra, OwnwardError, PolicyRefusal
from ownward.policy import Origin, Reach, is_forbidden_address, is_private_address
from ownward.upstreams._refusals import check_address, refuse_address, unreachable
from ownward.upstreams.http1 import Resolver, carried_headers, compose_request, resolve
from ownward.upstreams.response import Response
from ownward.upstreams.timeouts import DoorLimits, Timeouts
from ownward.upstreams.transport import Headers
from ownward.upstreams.ways import DIRECT, Way, make_tls_context

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

_MOST_HEADERS = 256
_PROXY_AUTHENTICATION_REQUIRED = 407
_FIRST_FINAL_STATUS = 200
_NOT_AUTOMATIC = ("accept", "accept-encoding", "content-type", "user-agent")
_NEVER_S = 10.0**9


class AiohttpTransport:
    """Carries calls on one way, each on a connection of its own.

    An https origin is reached through a tunnel (`CONNECT`), so that the proxy sees
    host, port and sizes; an http origin by a request in absolute form, which the
    proxy reads. What cannot be checked through a proxy is refused: see `_check_way`.
    """

    def __init__(self, way: Way = DIRECT, *, limits: DoorLimits | None = None, resolver: Resolver = resolve) -> None:
        """Read the certificates of the way.

        Raises: MissingExtra, if aiohttp is not installed; ConfigError, naming a file that cannot be used.
        """
        try:
            import aiohttp  # noqa: F401 - so that its want is told at the start and not at the first call
        except ImportError:
            raise MissingExtra(needed_for="a proxy", package="aiohttp", extra="proxy") from None
        self._way = way
        self._limits = limits or DoorLimits()
        self._resolver = resolver
        self._tls = make_tls_context(way)
        self._calls: set[_Call] = set()
        self._turns: dict[Origin, asyncio.Semaphore] = {}
        self._waiting = 0
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    async def exchange(
        self,
        origin: Origin,
        *,
        upstream: str,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        timeouts: Timeouts,
        reach: Reach,
    ) -> Response:
        """Return the answer once its head is there; raises as `Transport.exchange` says."""
        compose_request(origin, method, target, headers, b"")  # refuses what could end a line early
        wire_headers = _as_text(carried_headers(headers))
        loop = asyncio.get_running_loop()
        response = Response(
            upstream=upstream,
            origin=str(origin),
            loop=loop,
            stall_s=timeouts.stall_s,
            buffer_bytes=self._limits.buffer_bytes,
        )
        call = _Call(
            response,
            way=self._way,
            origin=origin,
            request=_Request(method=method, target=target, headers=wire_headers, body=body),
            header_limit=self._limits.header_bytes,
        )
        try:
            try:
                async with asyncio.timeout(timeouts.connect_s):
                    turn = await self._take_turn(origin, upstream)
                    try:
                        addresses = await self._find_addresses(origin, upstream, reach=reach)
                    except BaseException:
                        turn.release()
                        raise
                    self._calls.add(call)
                    call.start(self._make_session(call, addresses), lambda: self._end(call, turn))
                    await call.sent
            except TimeoutError:
                call.abort()
                if not call.is_sent:
                    raise unreachable(
                        upstream, origin, f"gave no connection{self._through} within {timeouts.connect_s:g} s"
                    ) from None
            await response.wait_for_head(timeouts.first_byte_s)
        except BaseException:
            response.abort()
            call.abort()
            raise
        return response

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Connect by `tls` from now on: no connection outlives its call."""
        self._tls = tls

    async def close(self) -> None:
        """Close every connection at once; later calls are refused."""
        self._is_closed = True
        calls = list(self._calls)
        for call in calls:
            call.abort()
        await asyncio.gather(*(call.task for call in calls if call.task), return_exceptions=True)

    @property
    def _through(self) -> str:
        return _describe_through(self._way)

    async def _take_turn(self, origin: Origin, upstream: str) -> asyncio.Semaphore:
        """Wait until fewer than the most connections of this origin are open."""
        if self._is_closed:
            raise unreachable(upstream, origin, "was not called: the door is closed")
        turn = self._turns.get(origin)
        if turn is None:
            turn = self._turns[origin] = asyncio.Semaphore(self._limits.connections_per_origin)
        if turn.locked() and self._waiting >= self._limits.waiting_per_origin:
            raise unreachable(upstream, origin, f"has {self._waiting} calls waiting for a connection already")
        self._waiting += 1
        try:
            await turn.acquire()
        finally:
            self._waiting -= 1
        return turn

    async def _find_addresses(self, origin: Origin, upstream: str, *, reach: Reach) -> list[str]:
        """Return the checked addresses to connect to: the proxy's, or without one the origin's."""
        proxy = self._way.proxy
        nearest = origin if proxy is None else proxy.origin
        if proxy is not None:
            self._check_way(origin, upstream, reach=reach)
        try:
            addresses = await self._resolver(nearest.host, nearest.port)
        except OSError as error:
            what = "a host without address" if proxy is None else f"a proxy {proxy} without address"
            raise unreachable(upstream, origin, f"has {what} ({error.strerror or error})") from None
        for address in addresses:
            if proxy is None:
                check_address(address, upstream, origin, reach=reach)
            else:
                self._check_proxy_address(address, origin, upstream)
        return addresses

    def _check_way(self, origin: Origin, upstream: str, *, reach: Reach) -> None:
        """Refuse what no proxy can be trusted with, since where it connects to cannot be checked."""
        if reach != "anywhere":
            raise PolicyRefusal(
                f'upstream "{upstream}" is stated to be local and to be reached through a proxy',
                where=str(origin),
                allowed="Local upstreams are called directly: what a proxy does with a request cannot be checked",
                next_step="Nothing was sent. Take the proxy out, or state the tier's region and provider in the plan",
            )
        if _looks_like_address(origin.host) and is_forbidden_address(origin.host):
            raise PolicyRefusal(
                f'upstream "{upstream}" is at {origin.host}, where no upstream may be',
                where=str(origin),
                allowed="Host names, and loopback, private and public addresses in their usual spelling",
                next_step="Nothing was sent. Check the url in the plan",
            )
        if origin.scheme == "http" and not is_private_address(origin.host):
            raise refuse_address(upstream, origin, reach="anywhere")

    def _check_proxy_address(self, address: str, origin: Origin, upstream: str) -> None:
        proxy = self._way.proxy
        assert proxy is not None
        if is_forbidden_address(address):
            raise PolicyRefusal(
                f'the proxy of upstream "{upstream}" resolves to {address}, where none may be',
                where=str(proxy),
                next_step="Nothing was sent. Check the proxy's url and what its host name resolves to",
            )
        if is_private_address(address) or proxy.origin.scheme == "https":
            return
        if origin.scheme == "http" or proxy.authorization is not None:
            what = "the request" if origin.scheme == "http" else "its password"
            raise PolicyRefusal(
                f'the proxy of upstream "{upstream}" is remote, and {what} would travel to it unencrypted',
                where=str(proxy),
                allowed="http to proxies at loopback and private addresses, https to everywhere",
                next_step="Nothing was sent. Write the proxy's url with https://, if it speaks TLS",
            )

    def _make_session(self, call: _Call, addresses: list[str]) -> aiohttp.ClientSession:
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(call.on_connecting)
        trace.on_request_headers_sent.append(call.on_sending)
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            resolver=cast("AbstractResolver", _Resolved(addresses)),
            use_dns_cache=False,
            force_close=True,
            socket_factory=call.make_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_AUTOMATIC,
            auto_decompress=False,
            trust_env=False,
            trace_configs=[trace],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None, ceil_threshold=_NEVER_S),
            max_line_size=self._limits.header_bytes,
            max_field_size=self._limits.header_bytes,
            max_headers=_MOST_HEADERS,
        )

    def _end(self, call: _Call, turn: asyncio.Semaphore) -> None:
        self._calls.discard(call)
        turn.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


class _Call:
    """One call: a task that fills its response, and the sockets to cut when it is given up."""

    def __init__(self, response: Response, *, way: Way, origin: Origin, request: _Request, header_limit: int) -> None:
        self._response = weakref.ref(response)  # dropping the answer ends the call
        self._way = way
        self._origin = origin
        self._upstream = response.upstream
        self._request = request
        self._header_limit = header_limit
        self._sockets: list[socket.socket] = []
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._received = 0
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_sent = False
        self.task: asyncio.Task[None] | None = None

    def start(self, session: aiohttp.ClientSession, on_end: Callable[[], None]) -> None:
        """Connect and send; `on_end` is called when the call is over."""
        response = self._response()
        assert response is not None
        response.attach(self)
        self.task = asyncio.create_task(self._run(session), name=f"call to {self._origin}")
        self.task.add_done_callback(lambda _: on_end())

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
                and self._origin.scheme == "http"
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
        headers = [("host", self._origin.host_header), *request.headers, ("accept-encoding", "identity")]
        if request.body or request.method not in {"GET", "HEAD"}:
            headers.append(("content-length", str(len(request.body))))
        options: dict[str, Any] = {}
        if proxy is not None:
            options["proxy"] = URL(str(proxy), encoded=True)
            if proxy.authorization is not None and self._origin.scheme == "https":
                options["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
            elif proxy.authorization is not None:
                headers.append(("proxy-authorization", proxy.authorization))
        return await session.request(
            request.method,
            URL(f"{self._origin}{request.target}", encoded=True),
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
            f'upstream "{self._upstream}" {what} after {self._received} bytes of its answer',
            where=str(self._origin),
            next_step="It may have accepted the request and charge for it",
        )

    def _refused_by_proxy(self, status: int) -> OwnwardError:
        proxy = self._way.proxy
        asks = " and asks for user and password" if status == _PROXY_AUTHENTICATION_REQUIRED else ""
        return unreachable(self._upstream, self._origin, f"is behind the proxy {proxy}, which answered {status}{asks}")

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
        return unreachable(self._upstream, self._origin, self._describe_connecting(error))

    def _describe_connecting(self, error: BaseException) -> str:
        import aiohttp

        proxy, through = self._way.proxy, _describe_through(self._way)
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


def _describe_through(way: Way) -> str:
    return "" if way.proxy is None else f" through its proxy {way.proxy}"


class _SentAlready(Exception):
    """Raised through aiohttp to keep it from sending twice."""


class _Resolved:
    """Gives aiohttp the addresses that were checked, and no others."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        del family
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self._addresses
        ]

    async def close(self) -> None:
        return


def _as_text(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as aiohttp takes them; it writes UTF-8, which gives back the same bytes."""
    try:
        return [(name.decode("ascii"), value.decode("utf-8")) for name, value in headers]
    except UnicodeDecodeError:
        raise BadInput("a header is not UTF-8, which no call through a proxy can carry") from None


def _looks_like_address(host: str) -> bool:
    """Tell whether a proxy may read `host` as an address, in whatever spelling: 0x7f.1 and 2130706433 are some."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last.isdigit() or last.startswith("0x")
