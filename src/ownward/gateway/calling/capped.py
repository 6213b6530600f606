"""What the caps of a strategy do to a request beside holding each of its calls: limits on output, an end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from math import inf
from typing import TYPE_CHECKING

from ownward.gateway.calling.allowance import Allowance, limited_body
from ownward.gateway.calling.translating import takes_newer_limit
from ownward.gateway.endpoints import CHAT, RESPONSES, Endpoint

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served
    from ownward.gateway.placing.routing import Target
    from ownward.strategies import StrategySpec


def begin_allowance(exchange: Served, spec: StrategySpec) -> Allowance:
    """Have all further calls of a request held to the caps of its strategy, from now on."""
    gateway = exchange.gateway
    allowance = exchange.allowance = Allowance(
        spec.caps, exchange.workload, exchange.calls, began_s=gateway.clock.monotonic_s()
    )
    return allowance


def limit_output(exchange: Served, targets: Iterable[Target]) -> None:
    """Have what a request's answer may have be no more than its strategy's cap leaves.

    A response that is kept is put together elsewhere: where it states more than is left, or nothing, it is refused.
    """
    left = None if exchange.allowance is None else exchange.allowance.compute_tokens_left()
    if left and exchange.endpoint.has_output:
        exchange.body = limited_body(exchange.body, left, otherwise=limit_name(exchange.endpoint, targets))


def limit_name(endpoint: Endpoint, targets: Iterable[Target]) -> str:
    """Return the member by which a request says how many tokens its answer may have."""
    if endpoint is RESPONSES:
        return "max_output_tokens"
    return "max_completion_tokens" if endpoint is CHAT and any(map(takes_newer_limit, targets)) else "max_tokens"


async def within_time(exchange: Served, work: Awaitable[object]) -> None:
    """Have work done within the time that a request's strategy grants; what runs then is cancelled, upstreams too.

    Raises: UpstreamTimeout, if it was not done by then.
    """
    allowance = exchange.allowance
    assert allowance is not None
    left_s = allowance.ends_s - exchange.gateway.clock.monotonic_s()
    try:
        async with asyncio.timeout(None if left_s == inf else max(left_s, 0)):
            await work
    except TimeoutError:
        raise allowance.describe_end() from None
