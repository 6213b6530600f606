"""What a key may do in a minute: what a call takes of its limits, and what a client is told of them.

The ledger counts, exactly and over all processes; here a key's words become what a call takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ownward.gateway.asgi import Headers
from ownward.gateway.errors import OverLimit
from ownward.gateway.placing.affinity import BYTES_PER_TOKEN
from ownward.ledger import LimitReached, LimitState, LimitTake
from ownward.pricing import Usage

if TYPE_CHECKING:
    from ownward.gateway.errors import Dialect
    from ownward.gateway.placing.choice import KeyScope, LimitsBy

NO_TAKES: Final[tuple[LimitTake, ...]] = ()
_USUAL_OUTPUT_TOKENS: Final = 1024
_MOST: Final = 10**12
"""Above every use, and within what a database counts."""


def compute_takes(
    key: KeyScope,
    *,
    body_bytes: int,
    stated_output_tokens: int | None,
    answers: int,
    output_tokens_high: int,
    is_first: bool,
) -> tuple[LimitTake, ...]:
    """Return what a call takes: a request where it is the first of its own, and an estimate of its tokens.

    The estimate is a quarter of the body's bytes and, for each of its answers, what the request states as its most
    output, else 1,024; never more than a whole minute's worth, which a call that needs more has to find untouched.
    """
    takes = []
    is_bucket = key.limits_by == "bucket"
    if key.requests_per_minute is not None and is_first:
        most = key.requests_per_minute
        takes.append(LimitTake(key_id=key.key_id, kind="requests", amount=1, per_minute=most, is_bucket=is_bucket))
    if key.tokens_per_minute is not None:
        each = _USUAL_OUTPUT_TOKENS if stated_output_tokens is None else stated_output_tokens
        output = min(each * answers, output_tokens_high)
        tokens = -(-body_bytes // BYTES_PER_TOKEN) + output
        most = key.tokens_per_minute
        amount = min(tokens, most)
        takes.append(LimitTake(key_id=key.key_id, kind="tokens", amount=amount, per_minute=most, is_bucket=is_bucket))
    return tuple(takes)


def compute_releases(
    takes: Sequence[LimitTake], *, state: str, usage: Usage | None
) -> tuple[tuple[LimitTake, int], ...]:
    """Return what a call that is over used of the tokens held for it: the estimate, where nothing was counted."""
    held = [take for take in takes if take.kind == "tokens"]
    if not held:
        return ()
    if state == "failed":
        return tuple((take, 0) for take in held)
    if usage is None:
        return tuple((take, take.amount) for take in held)
    return tuple((take, usage.input_tokens + usage.output_tokens) for take in held)


def limit_refusal(error: LimitReached) -> OverLimit:
    """Return what a client is told."""
    return OverLimit(error.message, allowed=error.allowed, wait_s=error.wait_s, states=error.states)


def limit_headers(states: Iterable[LimitState], dialect: Dialect, *, at: datetime) -> Headers:
    """Return the headers that say what is left, as OpenAI's or Anthropic's clients read them.

    >>> [state] = [LimitState(kind="requests", per_minute=60, remaining=59, reset_s=1.0)]
    >>> limit_headers([state], "openai", at=datetime(2026, 11, 21))[2]
    (b'x-ratelimit-reset-requests', b'1s')
    """
    headers = []
    for state in states:
        kind = state.kind.encode("ascii")
        if dialect == "anthropic":
            full_at = (at + timedelta(seconds=state.reset_s)).strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
            parts = ((b"limit", b"%d" % state.per_minute), (b"remaining", b"%d" % state.remaining), (b"reset", full_at))
            headers += [(b"anthropic-ratelimit-%b-%b" % (kind, name), value) for name, value in parts]
        else:
            reset = f"{round(state.reset_s, 3):g}s".encode("ascii")
            parts = ((b"limit", b"%d" % state.per_minute), (b"remaining", b"%d" % state.remaining), (b"reset", reset))
            headers += [(b"x-ratelimit-%b-%b" % (name, kind), value) for name, value in parts]
    return headers


def without_limits(headers: Headers) -> Headers:
    """Return an upstream's headers without what they say of limits that are not the client's."""
    return [(name, value) for name, value in headers if b"ratelimit-" not in name]


def limits_by(scopes: Mapping[str, Any]) -> LimitsBy:
    """Return how a key's minute is counted: by a bucket unless stated; what cannot be read is the stricter way."""
    return "bucket" if scopes.get("limits_by", "bucket") == "bucket" else "window"


def limit_in(scopes: Mapping[str, Any], name: str) -> int | None:
    """Return a limit of a key's scopes; one that cannot be read is one a minute."""
    stated = scopes.get(name)
    if stated is None:
        return None
    return min(stated, _MOST) if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0 else 1
