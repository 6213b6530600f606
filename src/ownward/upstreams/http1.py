"""The transport we use: keep-alive HTTP/1.1 on asyncio and httptools, TLS verified, no redirects."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from math import inf

from ownward.core import sleepless_s
from ownward.policy import Origin, Reach
from ownward.upstreams._alarm import Alarm
from ownward.upstreams._connection import Connection
from ownward.upstreams._destination import Destination, reaches_of
from ownward.upstreams._lookups import Lookups, Resolver, resolve
from ownward.upstreams._pool import Pool
from ownward.upstreams._request import compose_request
from ownward.upstreams._sockets import connect_first
from ownward.upstreams.response import Response
from ownward.upstreams.timeouts import DoorLimits, Timeouts
from ownward.upstreams.transport import Headers
from ownward.upstreams.ways import DIRECT, make_tls_context

_KEEP_ALIVE_MARGIN_S = 1.0
_CLOSED_AFTER_S = 1.0
_DISTRUST_S = 60.0
_SLEPT_S = 5.0  # far above what clocks that are looked at one after the other differ by
_REST_S = 0.25
"""How long a connection rests after its origin's first stream. A server that closes after each stream without
saying so (llama.cpp) does it within a millisecond; a request written in that moment would be lost and could
not be told from one that was accepted."""


class Http1Transport:
    """Keep-alive connections to any number of origins, each origin's bounded."""

    def __init__(
        self,
        *,
        limits: DoorLimits | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        """Trust the system's authorities, unless `tls` says otherwise."""
        self._limits = limits or DoorLimits()
        self._resolver = Lookups(resolver)
        self._tls = tls
        self._pools: dict[str, Pool] = {}  # by origin
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._asleep_s = inf  # how far the clock that never sleeps is ahead of the event loop's
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        """How many connections are open, busy and idle."""
        return len(self._connections)

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
        request = compose_request(origin, method, target, headers, body)
        where = str(origin)
        pool = self._pools.get(where)
        if pool is None:
            pool = self._pools[where] = Pool(self._limits.connections_per_origin, asyncio.get_running_loop())
        response = Response(upstream, where, pool.loop, timeouts.stall_s, self._limits.buffer_bytes)
        now = pool.loop.time()
        asleep_s = sleepless_s() - now
        if asleep_s - self._asleep_s > _SLEPT_S:
            self._close_what_slept()
        self._asleep_s = asleep_s
        connection = pool.take_idle(now) if not pool.waiting else None
        if connection is None:
            connection = await self._connect_in_time(pool, Destination(upstream, origin, reach), timeouts.connect_s)
        elif reach not in connection.reaches:
            self._put_back(pool, connection)
            raise Destination(upstream, origin, reach).refused()
        try:
            connection.start(request, response, is_head_request=method == "HEAD")
            while not response.status:
                await response.wait(timeouts.first_byte_s)
        except BaseException:
            response.abort()
            raise
        return response

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Connect by `tls` from now on; what was connected by another is closed, if busy, once its answer is whole."""
        self._tls = tls
        for pool in self._pools.values():
            for connection in tuple(pool.idle):
                if connection.tls is not None:
                    connection.abort()  # which takes it out of the pool

    async def close(self) -> None:
        """Close every connection at once; later calls are refused."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for pool in self._pools.values():
            pool.idle.clear()
            while pool.waiting:
                pool.wake_one()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the event loop closes aborted sockets in its next turn

    async def _connect_in_time(self, pool: Pool, to: Destination, connect_s: float) -> Connection:
        try:
            async with asyncio.timeout(connect_s):
                return await self._take_or_open(pool, to, connect_s)
        except TimeoutError:
            raise to.unreachable(f"gave no connection within {connect_s:g} s") from None

    async def _take_or_open(self, pool: Pool, to: Destination, connect_s: float) -> Connection:
        while not pool.reserve():
            if len(pool.waiting) >= self._limits.waiting_per_origin:
                raise to.unreachable(f"has {len(pool.waiting)} calls waiting for a connection already")
            await pool.wait_turn()
            connection = pool.take_idle(pool.loop.time())
            if connection is not None:
                if to.reach not in connection.reaches:
                    self._put_back(pool, connection)
                    raise to.refused()
                return connection
        try:
            connection = await self._open(pool, to, connect_s)
        except BaseException:
            pool.forget()
            raise
        if connection.is_closed:
            pool.forget()
            raise to.unreachable("closed the new connection before anything was sent")
        self._connections.add(connection)
        if self._is_closed:
            connection.abort()
            raise to.unreachable("was not called: the door is closed")
        return connection

    async def _open(self, pool: Pool, to: Destination, connect_s: float) -> Connection:
        if self._is_closed:
            raise to.unreachable("was not called: the door is closed")
        origin = to.origin
        tls = self._tls_context() if origin.scheme == "https" else None
        try:
            addresses = await self._resolver(origin.host, origin.port)
        except OSError as error:
            raise to.unreachable(f"has a host without address ({error.strerror or error})") from None
        for address in addresses:
            to.check(address)
        failure = "has a host without address"
        left = addresses
        while left:
            try:
                connected, address = (None, left[0]) if len(left) == 1 else await connect_first(left, origin.port)
            except OSError as error:
                raise to.unreachable(f"gave no connection ({error.strerror or type(error).__name__})") from None
            left = [other for other in left if other != address]
            try:
                async with asyncio.timeout(connect_s / (len(left) + 1) if left else None):
                    connection = await self._connect(pool, origin, connected or address, tls)
            except ssl.SSLCertVerificationError as error:
                failure = f"showed a certificate that is not trusted ({error.verify_message})"
            except ssl.SSLError as error:
                failure = f"does not speak TLS as it should ({error.reason or 'handshake failed'})"
            except TimeoutError:
                failure = "gave no connection in time"
            except OSError as error:
                failure = f"gave no connection ({error.strerror or type(error).__name__})"
            else:
                connection.reaches = reaches_of(origin, address)
                return connection
        raise to.unreachable(failure)

    async def _connect(
        self, pool: Pool, origin: Origin, to: str | socket.socket, tls: ssl.SSLContext | None
    ) -> Connection:
        """Return a connection to one address, or on a socket that is connected; raises as the event loop does.

        One that does not come about, or that nobody waits for any more, is not told that it is lost.
        """
        connection = Connection(
            header_limit=self._limits.header_bytes, on_free=partial(self._on_free, pool), alarm=Alarm(pool.loop)
        )
        host = None if tls is None else origin.host
        create = partial(pool.loop.create_connection, lambda: connection, ssl=tls, server_hostname=host)
        try:
            await (create(host=to, port=origin.port) if isinstance(to, str) else create(sock=to))
        except BaseException:
            connection.discard()
            if not isinstance(to, str):
                to.close()
            raise
        connection.tls = tls
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = make_tls_context(DIRECT)
        return self._tls

    def _on_free(self, pool: Pool, connection: Connection) -> None:
        """Take back a connection whose answer is whole, or note that one is gone."""
        now = pool.loop.time()
        if connection.is_closed:
            if connection in self._connections:
                self._connections.discard(connection)
                if connection in pool.idle:
                    pool.idle.remove(connection)
                kept_s = now - connection.freed_at
                if connection.was_chunked and connection.was_lost_unused and kept_s < _CLOSED_AFTER_S:
                    pool.keeps_after_stream = False
                pool.forget()
                if connection.was_lost_again:
                    self._distrust(pool, kept_s)
            return
        connection.freed_at = now
        if connection.was_chunked and not pool.keeps_after_stream:
            if pool.keeps_after_stream is None:
                pool.loop.call_later(_REST_S, self._end_rest, pool, connection)
            else:
                connection.abort()
            return
        self._keep(pool, connection)

    def _close_what_slept(self) -> None:
        """Close what was idle when the machine fell asleep: servers went on, and the network may be another since.

        A request on such a connection could wait for as long as an answer may take, as nobody hears it.
        """
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.abort()
            pool.idle.clear()

    def _distrust(self, pool: Pool, kept_s: float) -> None:
        """Close what is kept where a connection was lost as it was used again: another try might meet the next one."""
        for kept in tuple(pool.idle):
            kept.abort()
        pool.idle.clear()
        if kept_s < _CLOSED_AFTER_S:
            pool.keeps_none_until = pool.loop.time() + _DISTRUST_S

    def _end_rest(self, pool: Pool, connection: Connection) -> None:
        """Use a connection again that the server has kept for a while after a stream."""
        if not connection.is_closed:
            pool.keeps_after_stream = pool.keeps_after_stream is not False
            self._keep(pool, connection)

    def _keep(self, pool: Pool, connection: Connection) -> None:
        """Keep an idle connection for as long as the server surely does."""
        if pool.keeps_none_until > connection.freed_at:
            connection.abort()
            return
        kept_s = self._limits.idle_s
        if connection.keep_alive_s is not None:
            kept_s = min(connection.keep_alive_s - _KEEP_ALIVE_MARGIN_S, self._limits.idle_most_s)
        is_outdated = connection.tls is not None and connection.tls is not self._tls
        if kept_s <= 0 or is_outdated or self._is_closed:
            connection.abort()
            return
        connection.idle_until = connection.freed_at + kept_s
        self._put_back(pool, connection)

    def _put_back(self, pool: Pool, connection: Connection) -> None:
        pool.idle.append(connection)
        if pool.waiting:
            pool.wake_one()
        if self._sweeper is None:
            self._sweeper = pool.loop.call_later(self._limits.idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close connections that have been idle for too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweeper = None
        for pool in self._pools.values():
            stale = [connection for connection in pool.idle if connection.idle_until <= now]
            if stale:
                pool.idle[:] = [connection for connection in pool.idle if connection.idle_until > now]
                for connection in stale:
                    connection.abort()
        if any(pool.idle for pool in self._pools.values()):
            self._sweeper = loop.call_later(self._limits.idle_s, self._sweep)
