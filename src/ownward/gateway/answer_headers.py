"""The headers that the gateway adds to an answer: what was done (`x-ownward-…`), and what is left of a key's limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ownward.gateway.asgi import Headers
from ownward.gateway.cross_origin import readable_by_page
from ownward.gateway.headers import ascii_of
from ownward.gateway.holding.limits import limit_headers

if TYPE_CHECKING:
    from ownward.gateway.calling.served import Served

OF_STREAM: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""What keeps proxies from holding a stream back."""
_SHOWN_HINTS = 32


def answer_headers(exchange: Served) -> Headers:
    """Return the headers of an answer that goes to the client now."""
    headers = [
        (b"x-ownward-request-id", exchange.request_id.encode("ascii")),
        (b"x-ownward-attempts", b"%d" % exchange.attempts),
    ]
    choice, target = exchange.choice, exchange.target
    if choice is not None:
        headers += choice.answer_headers
        if exchange.outcome:  # more than was known when it was chosen
            headers[-1] = (b"x-ownward-reason", ascii_of(choice.reason + exchange.outcome))
    if target is not None:
        headers += target.answer_headers
        translated = exchange.translated.get(target.key)
        if translated is not None:
            headers.append((b"x-ownward-translated", translated.direction.encode("ascii")))
            if translated.assumed_max_tokens is not None:
                headers.append((b"x-ownward-assumed", b"max_tokens=%d" % translated.assumed_max_tokens))
            if translated.dropped:
                headers.append((b"x-ownward-left-out", ascii_of(_listed(translated.dropped))))
    if exchange.hedge is not None:
        headers.append((b"x-ownward-hedge", exchange.hedge.encode("ascii")))
    if len(exchange.calls) > 1:
        headers += _total_headers(exchange)
    if b"origin" in exchange.headers:
        headers += readable_by_page(exchange.headers, demands_keys=exchange.gateway.keys is not None)
    if exchange.limit_states:
        at = exchange.gateway.clock.now()
        headers += limit_headers(exchange.limit_states, exchange.endpoint.dialect, at=at)
    return headers


def headers_before_answer(exchange: Served) -> Headers:
    """Return the headers of a stream that begins before it is known who answers."""
    headers = [(b"content-type", b"text/event-stream"), *OF_STREAM]
    headers.append((b"x-ownward-request-id", exchange.request_id.encode("ascii")))
    if b"origin" in exchange.headers:
        headers += readable_by_page(exchange.headers, demands_keys=exchange.gateway.keys is not None)
    return headers


def _listed(hints: Sequence[str]) -> str:
    shown = ", ".join(hints[:_SHOWN_HINTS])
    return shown if len(hints) <= _SHOWN_HINTS else f"{shown} and {len(hints) - _SHOWN_HINTS} more"


def _total_headers(exchange: Served) -> Headers:
    """Return what all calls so far used: the answer's own usage is that of the one it came from.

    Nothing where one of them is unsettled: what that used is not known, and the others are not all.
    """
    if any(call.state == "unsettled" for call in exchange.calls):
        return []
    used = [call.usage for call in exchange.calls if call.usage is not None]
    return [
        (b"x-ownward-total-input-tokens", b"%d" % sum(usage.input_tokens for usage in used)),
        (b"x-ownward-total-output-tokens", b"%d" % sum(usage.output_tokens for usage in used)),
    ]
