"""The transport for ways that ours does not go: through an HTTP proxy, by aiohttp.

One connection a call, closed after it: a tunnel that is never used again cannot
have been closed under a request, nor hold an answer that nobody asked for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from ownward.core import BadInput, MissingExtra, PolicyRefusal
from ownward.policy import Origin, Reach, is_forbidden_address, is_private_address
from ownward.upstreams._destination import Destination
from ownward.upstreams._lookups import Lookups, Resolver, resolve
from ownward.upstreams._proxied_call import CallRequest, ProxiedCall
from ownward.upstreams._request import carried_headers, compose_request
from ownward.upstreams.response import Response
from ownward.upstreams.timeouts import DoorLimits, Timeouts
from ownward.upstreams.transport import Headers
from ownward.upstreams.ways import DIRECT, Way, make_tls_context

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

_MOST_HEADERS = 256
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
        self._resolver = Lookups(resolver)
        self._tls = make_tls_context(way)
        self._calls: set[ProxiedCall] = set()
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
        loop, to = asyncio.get_running_loop(), Destination(upstream, origin, reach)
        response = Response(
            upstream=upstream,
            origin=str(origin),
            loop=loop,
            stall_s=timeouts.stall_s,
            buffer_bytes=self._limits.buffer_bytes,
        )
        call = ProxiedCall(
            response,
            way=self._way,
            to=to,
            request=CallRequest(method=method, target=target, headers=wire_headers, body=body),
            header_limit=self._limits.header_bytes,
        )
        try:
            try:
                async with asyncio.timeout(timeouts.connect_s):
                    turn = await self._take_turn(to)
                    try:
                        addresses = await self._find_addresses(to)
                    except BaseException:
                        turn.release()
                        raise
                    self._calls.add(call)
                    call.start(self._make_session(call, addresses), lambda: self._end(call, turn))
                    await call.sent
            except TimeoutError:
                call.abort()
                if not call.is_sent:
                    why = f"gave no connection{self._way.through} within {timeouts.connect_s:g} s"
                    raise to.unreachable(why) from None
            while not response.status:
                await response.wait(timeouts.first_byte_s)
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

    async def _take_turn(self, to: Destination) -> asyncio.Semaphore:
        """Wait until fewer than the most connections of this origin are open."""
        if self._is_closed:
            raise to.unreachable("was not called: the door is closed")
        turn = self._turns.get(to.origin)
        if turn is None:
            turn = self._turns[to.origin] = asyncio.Semaphore(self._limits.connections_per_origin)
        if turn.locked() and self._waiting >= self._limits.waiting_per_origin:
            raise to.unreachable(f"has {self._waiting} calls waiting for a connection already")
        self._waiting += 1
        try:
            await turn.acquire()
        finally:
            self._waiting -= 1
        return turn

    async def _find_addresses(self, to: Destination) -> list[str]:
        """Return the checked addresses to connect to: the proxy's, or without one the origin's."""
        proxy = self._way.proxy
        nearest = to.origin if proxy is None else proxy.origin
        if proxy is not None:
            self._check_way(to)
        try:
            addresses = await self._resolver(nearest.host, nearest.port)
        except OSError as error:
            what = "a host without address" if proxy is None else f"a proxy {proxy} without address"
            raise to.unreachable(f"has {what} ({error.strerror or error})") from None
        for address in addresses:
            if proxy is None:
                to.check(address)
            else:
                self._check_proxy_address(address, to)
        return addresses

    def _check_way(self, to: Destination) -> None:
        """Refuse what no proxy can be trusted with, since where it connects to cannot be checked."""
        upstream, origin = to.upstream, to.origin
        if to.reach != "anywhere":
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
            raise to.refused()

    def _check_proxy_address(self, address: str, to: Destination) -> None:
        proxy = self._way.proxy
        assert proxy is not None
        if is_forbidden_address(address):
            raise PolicyRefusal(
                f'the proxy of upstream "{to.upstream}" resolves to {address}, where none may be',
                where=str(proxy),
                next_step="Nothing was sent. Check the proxy's url and what its host name resolves to",
            )
        if is_private_address(address) or proxy.origin.scheme == "https":
            return
        if to.origin.scheme == "http" or proxy.authorization is not None:
            what = "the request" if to.origin.scheme == "http" else "its password"
            raise PolicyRefusal(
                f'the proxy of upstream "{to.upstream}" is remote, and {what} would travel to it unencrypted',
                where=str(proxy),
                allowed="http to proxies at loopback and private addresses, https to everywhere",
                next_step="Nothing was sent. Write the proxy's url with https://, if it speaks TLS",
            )

    def _make_session(self, call: ProxiedCall, addresses: list[str]) -> aiohttp.ClientSession:
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_held_weakly(call.on_connecting))
        trace.on_request_headers_sent.append(_held_weakly(call.on_sending))
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

    def _end(self, call: ProxiedCall, turn: asyncio.Semaphore) -> None:
        self._calls.discard(call)
        turn.release()


def _held_weakly(method: Callable[[], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return what asks a call's method: traces hold themselves, and would keep the request until they are collected."""
    held = weakref.WeakMethod(method)

    async def ask(*_: object) -> None:
        asked = held()
        if asked is not None:
            await asked()

    return ask


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
