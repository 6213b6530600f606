"""The door: every outbound call shows a permit here, or stays."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, Self

from ownward.core import ConfigError, Fault, MissingExtra, PolicyRefusal, UpstreamUnreachable
from ownward.policy import Permit
from ownward.upstreams.http1 import Http1Transport
from ownward.upstreams.response import Response
from ownward.upstreams.timeouts import DoorLimits, Timeouts
from ownward.upstreams.transport import Headers, Transport
from ownward.upstreams.ways import DIRECT, Way, make_tls_context

_DEFAULT_TIMEOUTS = Timeouts()


class Door:
    """The one way out. It checks the permit of each call and hands it to the transport of its way."""

    def __init__(self, *, limits: DoorLimits | None = None, transport: Transport | None = None) -> None:
        """Use our own HTTP/1.1 transport for what is reached directly, unless another is given."""
        self._limits = limits
        self._transport = transport or Http1Transport(limits=limits)
        self._others: dict[Way, Transport] = {}

    def send(
        self,
        permit: Permit,
        *,
        method: str,
        target: str,
        headers: Headers,
        body: bytes = b"",
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        way: Way = DIRECT,
    ) -> Coroutine[Any, Any, Response]:
        """Return, once it is awaited, the answer of the permit's origin as soon as its head is there.

        `headers` hold the caller's and the upstream's key; they are shown nowhere.
        `way` says how the upstream is reached where not simply directly.

        Raises: PolicyRefusal, if `permit` is none, was issued for another body
        or a place its label forbids, or its address is not what it should be:
        nothing was sent; UpstreamUnreachable: certainly nothing was accepted;
        UpstreamTimeout, BrokenStream: the upstream may have accepted and charge.
        """
        if type(permit) is not Permit:
            raise PolicyRefusal("a call without a permit was stopped at the door", next_step=_ISSUE)
        if not permit.covers(body):
            raise PolicyRefusal(
                f'the body for upstream "{permit.upstream}" is not the one its permit was issued for', next_step=_ISSUE
            )
        if not permit.label.permits(permit.place):
            raise PolicyRefusal(
                f'label "{permit.label}" does not permit upstream "{permit.upstream}" ({permit.place})',
                next_step=_ISSUE,
            )
        transport = self._transport if way is DIRECT or way.is_direct else self._transport_of(way, permit)
        return transport.exchange(
            permit.origin,
            upstream=permit.upstream,
            method=method,
            target=target,
            headers=headers,
            body=body,
            timeouts=timeouts,
            reach=permit.place.reach,
        )

    async def read_certificates(self, ways: Collection[Way]) -> None:
        """Read the authorities and client certificates of `ways` anew, where they are in use.

        New connections use them; those that are open end with the calls on them.
        Raises: ConfigError, naming each file that cannot be used, whose way keeps what it had; the others are renewed.
        """
        faults: list[Fault] = []
        for way, transport in ((DIRECT, self._transport), *self._others.items()):
            if way not in ways:
                continue
            try:
                transport.use_tls(await asyncio.to_thread(make_tls_context, way))
            except ConfigError as error:
                faults += error.faults
        if faults:
            raise ConfigError(faults)

    async def close(self) -> None:
        """Close every connection at once."""
        await self._transport.close()
        for transport in self._others.values():
            await transport.close()

    def _transport_of(self, way: Way, permit: Permit) -> Transport:
        """Return the transport that goes this way, made at its first call."""
        transport = self._others.get(way)
        if transport is None:
            try:
                transport = self._others[way] = make_transport(way, limits=self._limits)
            except (ConfigError, MissingExtra) as error:
                raise UpstreamUnreachable(
                    f'upstream "{permit.upstream}" was not called: {error}', where=str(permit.origin)
                ) from None
        return transport

    async def __aenter__(self) -> Self:
        """Return the door itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection at once."""
        await self.close()


def make_transport(way: Way, *, limits: DoorLimits | None = None) -> Transport:
    """Return a transport that goes this way: aiohttp's through a proxy, ours with its own TLS settings elsewhere.

    Raises: ConfigError, naming a certificate file that cannot be used; MissingExtra,
    if a proxy is stated and aiohttp is not installed.
    """
    if way.proxy is not None:
        from ownward.upstreams.proxied import AiohttpTransport

        return AiohttpTransport(way, limits=limits)
    return Http1Transport(limits=limits, tls=make_tls_context(way))


_ISSUE = "Nothing was sent. Permits come from ownward.policy.issue_permit, one for each body and upstream"
