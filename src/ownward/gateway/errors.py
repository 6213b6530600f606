"""What the gateway itself says of a request, as errors; `error_answers` turns them, and all others, into answers.

Rejected                     the gateway itself says no, before any dispatch
├─ UnknownPath               404  no such endpoint, or not with this method (405)
├─ MalformedRequest          400  the body or a header cannot be read
├─ PackedBody                415  the body is compressed
├─ BodyTooLate               408
├─ BodyTooLarge              413
├─ Unauthorized              401  always the same words, whatever was wrong with the key
├─ ForeignPage               403  a web page of another place, where no keys are demanded
├─ OutOfScope                403  the key may not use this workload or tier
├─ UnknownRoute              404  no workload, tier or model of the plan has this name
├─ UnknownTask               404  no task of this id is on the ledger
├─ UnknownResponse           404  no response of this id is kept for this key
├─ UnknownPreviousResponse   400  the same, of one that a request continues
├─ GapInConversation         400  an earlier response of the conversation is gone
├─ OverBudget                429  what the call may cost does not fit into a budget
├─ OverLimit                 429  the key has used up its requests or tokens of this minute
├─ UnboundedCharge           403  a budget holds the call, and nothing is known of what it may cost
├─ Incapable                 400  no tier of the workload can do what the request needs
│  └─ Threadless             400  a tier of the workload does not hold conversations, as a `thread` asks
├─ Overloaded                503  every slot and the queue are taken
├─ TooManyInFlight           503  so many requests are in flight, or bytes of their bodies, as may be
├─ WorkersSilent             503  the other workers' metrics cannot be had
├─ NoUpstream                503  every candidate is down, or the time is over
└─ Draining                  503  the gateway is stopping
InternalError                500  a fault of ours
UntranslatedAnswer           502  an upstream answered what the client's dialect has no words for
UpstreamError                502  of core
└─ UpstreamCredentials       502  the upstream does not accept our key
   └─ UpstreamUnpaid         502  the account behind it is empty, overdue or at a limit of its own
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, ClassVar, Literal

from ownward.core import (
    OwnwardError,
    UpstreamError,
    closest,
)

if TYPE_CHECKING:
    from ownward.ledger import LimitState

Dialect = Literal["openai", "anthropic"]

_LONGEST_CODING = 64
"""As it is quoted."""


class Rejected(OwnwardError):
    """The gateway itself says no; nothing was sent to any upstream."""

    status: ClassVar[int] = 400
    field: str | None = None
    retry_after_s: float | None = None


class UnknownPath(Rejected):
    """No such endpoint."""

    status = 404

    def __init__(
        self, method: str, path: str, *, allowed_methods: Sequence[str], paths: Sequence[str], remedy: str | None = None
    ) -> None:
        """Say what is there instead; `remedy` is what to do instead of an operation that others serve there."""
        near = closest(path, paths)
        pages = "On loopback, with the extra pages, there are pages at /dashboard. " if path == "/" else ""
        super().__init__(
            f"{method} {path!r} is not served here",
            allowed=f"{path} takes {', '.join(allowed_methods)}" if allowed_methods else _closest_text(near),
            next_step=remedy or f"{pages}See docs/reference/gateway.md for all endpoints",
        )
        self.allowed_methods = tuple(allowed_methods)


class MalformedRequest(Rejected):
    """The body or a header cannot be read."""


class PackedBody(Rejected):
    """The body is compressed, and cannot be read."""

    status = 415

    def __init__(self, coding: bytes) -> None:
        """Name how it is."""
        named = coding[:_LONGEST_CODING].decode("latin-1")
        super().__init__(
            f"the request body has the content-encoding {named!r}, which is not accepted",
            allowed="A body as it is (identity): bodies of requests are not unpacked here",
            next_step="Switch the compression of requests off in the client, or in the proxy that packs them",
        )


class BodyTooLate(Rejected):
    """The body did not arrive in time."""

    status = 408

    def __init__(self, *, limit_s: float) -> None:
        """Name the limit."""
        super().__init__(
            "the request body did not arrive in time",
            allowed=f"{limit_s:g} s for the whole body",
            next_step="Raise body_timeout_s under [gateway] in ownward.toml, or send faster",
        )


class BodyTooLarge(Rejected):
    """The body is above the limit."""

    status = 413

    def __init__(self, *, limit_bytes: int, what: str = "the request body", is_fixed: bool = False) -> None:
        """Name the limit; `is_fixed`: no setting raises it."""
        super().__init__(
            f"{what} is too large",
            allowed=f"At most {limit_bytes} bytes",
            next_step="Send less" if is_fixed else "Raise max_body_bytes under [gateway] in ownward.toml, or send less",
        )


class Unauthorized(Rejected):
    """No key, or none that is valid: the same words for both."""

    status = 401

    def __init__(self) -> None:
        """Say how to authenticate, and nothing of the key that came."""
        super().__init__(
            "this gateway needs a valid key",
            allowed='Send it as "Authorization: Bearer KEY" or "x-api-key: KEY"',
            next_step="Make one with: ownward keys create NAME",
        )


class ForeignPage(Rejected):
    """A web page of another place asks a gateway that demands no key, or may be the one that does."""

    status = 403

    def __init__(self) -> None:
        """Say why."""
        super().__init__(
            "a web page of another place sends this request, or may send it by a name that was made to lead here, and"
            " this gateway asks for no key",
            allowed="Pages served from this machine, and programs that send no origin and reach the gateway by"
            " localhost, an address or a name of their own network (host.docker.internal)",
            next_step="Set requires_keys = true under [gateway] in ownward.toml and give the page or program a key",
        )


class InternalError(OwnwardError):
    """A fault of ours; the log has the traceback."""

    def __init__(self) -> None:
        """Say where to look."""
        super().__init__(
            "the gateway failed at this request, which is a fault of its own",
            next_step="The log holds the traceback under this request's id; please report it",
        )


class OutOfScope(Rejected):
    """The key is valid and may not use what was asked for."""

    status = 403


_SHOWN = 8
_MOST_COMPARED = 100
_PIECE, _MOST_PIECES = 3, 32


def _narrowed(name: str, known: Sequence[str]) -> Sequence[str]:
    """Return those of many names that have the most pieces of this one: comparing with all would hold others up."""
    if len(known) <= _MOST_COMPARED:
        return known
    ends = range(_PIECE, min(len(name), _MOST_PIECES + _PIECE) + 1)
    pieces = {name[end - _PIECE : end].lower() for end in ends} or {name.lower()}
    return nlargest(_MOST_COMPARED, known, key=lambda other: sum(map(other.lower().__contains__, pieces)))


class UnknownRoute(Rejected):
    """No workload, tier or model of the plan has the name that was asked for."""

    status = 404

    def __init__(self, name: str | None, known: Sequence[str], *, what: str = "model") -> None:
        """Name it with the closest."""
        near = closest(name, _narrowed(name, known)) if name else ()
        listed = ", ".join(repr(item) for item in known[:_SHOWN])
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        if what == "tier":
            message = f"the header x-ownward-tier names {name!r}, and the plan has no such tier"
            next_step = "Leave the header out, or name a tier of the plan"
        elif what == "workload":
            message = f"the header x-ownward-workload names {name!r}, and the plan has no such workload"
            next_step = "Name a workload of the plan, write this one under [workloads] there, or leave the header out"
        else:
            message = f"the plan has no workload, tier or model {name!r}" if name else f"the request names no {what}"
            next_step = 'See them all with GET /v1/models, or add the name to "models" of a workload in plan.toml'
        super().__init__(
            message, allowed=_closest_text(near) or f"Known: {listed or 'none'}{more}", next_step=next_step
        )


class UnknownTask(Rejected):
    """The ledger has no task of this id, or none in the key's scope, so that nothing can be said of its outcome."""

    status = 404

    def __init__(self, task_id: str) -> None:
        """Name it."""
        super().__init__(
            f"the ledger has no task {task_id!r}",
            allowed="A task is named by the header x-ownward-task of its requests; else it is trace_ and the trace id"
            " of their traceparent, else the request's own id",
            next_step="The header x-ownward-request-id of an answer is the request's own id",
        )


class UnknownResponse(Rejected):
    """No response of this id is kept for whoever asks: the same words where it is another's."""

    status = 404

    def __init__(self, response_id: str, *, keeps: bool) -> None:
        """Name it; `keeps` says whether this gateway keeps responses at all."""
        super().__init__(
            f"response with id {_shown_id(response_id)} not found",
            allowed="A response that this key was answered, kept and not yet expired",
            next_step=_KEPT_AGAIN if keeps else _KEEP_RESPONSES,
        )


class UnknownPreviousResponse(Rejected):
    """A request continues a response that is not kept for whoever asks."""

    field = "previous_response_id"

    def __init__(self, response_id: str) -> None:
        """Name it."""
        super().__init__(
            f"previous response with id {_shown_id(response_id)} not found",
            allowed="A response that this key was answered, kept and not yet expired",
            next_step="Send the whole input instead; one that was answered with store false cannot be continued",
        )


class GapInConversation(Rejected):
    """A request continues a response whose own beginning was deleted: it would be answered out of context."""

    field = "previous_response_id"

    def __init__(self, response_id: str) -> None:
        """Name it."""
        super().__init__(
            f"an earlier response of the conversation that {_shown_id(response_id)} belongs to is gone",
            allowed="A response of which everything before is kept",
            next_step="It was deleted, or the key's share was full. Send the whole input instead",
        )


_LONGEST_ID = 64
_KEPT_AGAIN = "One that was answered with store false, deleted or expired is gone for good"
_KEEP_RESPONSES = "This gateway keeps none: give them a time with keep_responses_s under [gateway] in ownward.toml"


def _shown_id(response_id: str) -> str:
    return repr(response_id if len(response_id) <= _LONGEST_ID else f"{response_id[:_LONGEST_ID]}…")


class Incapable(Rejected):
    """No tier of the workload can do what the request needs; `field` is the first member that none can take."""

    def __init__(
        self, message: str, *, allowed: str | None = None, next_step: str | None = None, field: str | None = None
    ) -> None:
        """Keep what stands in the way."""
        super().__init__(message, allowed=allowed, next_step=next_step)
        self.field = field


class Threadless(Incapable):
    """A tier of the workload does not hold conversations, as Anthropic's `thread` asks; clients go on without.

    So each of their requests can be served by every tier, in the order of the plan.
    """

    details: ClassVar = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    """What Anthropic's clients look for: anthropic 2.11.0, `lib/threads/_thread_state.py`."""

    def __init__(self, workload: str, tier: str) -> None:
        """Name the tier."""
        super().__init__(
            f"a thread would be held by one tier alone, and tier {tier!r} of workload {workload!r} holds none",
            allowed="thread, where all tiers that can serve the request are rented and speak anthropic",
            next_step="Send the whole conversation, without thread",
            field="thread",
        )


class OverBudget(Rejected):
    """What the call may cost does not fit into what is left of a budget."""

    status = 429

    def __init__(
        self, message: str, *, allowed: str | None, next_step: str, retry_after_s: float | None, of: str
    ) -> None:
        """Keep when another try makes sense, None where waiting does not help; `of` says whose budget it is."""
        super().__init__(message, allowed=allowed, next_step=f"Nothing was sent. {next_step}")
        self.of = of
        self.retry_after_s = retry_after_s


class OverLimit(Rejected):
    """The key has used up what it may do in a minute."""

    status = 429

    def __init__(self, message: str, *, allowed: str | None, wait_s: float, states: Sequence[LimitState]) -> None:
        """Keep when the call will fit and what is left."""
        next_step = f"Nothing was sent. Try again in {wait_s:.1f} s"
        super().__init__(message, allowed=allowed, next_step=next_step)
        self.retry_after_s = wait_s
        self.states = tuple(states)


class UnboundedCharge(Rejected):
    """A budget holds the call, and no upper bound of its charge is known: a budget that guesses is none."""

    status = 403

    def __init__(self, kind: str, name: str, *, tier: str, why: str | None = None) -> None:
        """Name the budget and the tier; `why` the price does not say it, where there is one."""
        self.of = kind
        said = "" if why is None else f": {why}"
        then = f"Write price, max_context_tokens and max_output_tokens under [tiers.{tier}], or send max_tokens"
        if why is not None:
            then = f"Ask without what the price does not cover, or write one that does under [tiers.{tier}.price]"
        super().__init__(
            f"the {kind} {name!r} has a budget, and it is not known what this call of tier {tier!r} may cost{said}",
            allowed="A call whose charge the tier's price bounds",
            next_step=f"Nothing was sent. {then}",
        )


class Overloaded(Rejected):
    """Every slot is taken and the queue is full, or the wait in it was too long."""

    status = 503

    def __init__(self, tier: str, *, queued: int, limit: int | None, waited_s: float) -> None:
        """Say what is full."""
        waited = f" for {waited_s:g} s" if waited_s else ""
        super().__init__(
            f"tier {tier!r} is full{waited}: {limit} requests run and {queued} wait",
            allowed="Nothing was sent to any upstream, and nothing was charged",
            next_step=f"Try again in a second, or raise max_concurrency of [tiers.{tier}] in plan.toml",
        )
        self.retry_after_s = 1.0


class TooManyInFlight(Rejected):
    """The gateway's own limit on requests in flight, or on the bytes of their bodies, is reached."""

    status = 503

    def __init__(self, *, limit: int, what: str = "requests", setting: str = "max_in_flight_requests") -> None:
        """Name the limit."""
        super().__init__(
            f"{limit} {what} are in flight, which is this gateway's limit",
            allowed="Nothing was sent to any upstream, and nothing was charged",
            next_step=f"Try again in a second, or raise {setting} under [gateway] in ownward.toml",
        )
        self.retry_after_s = 1.0


class WorkersSilent(Rejected):
    """The other workers' metrics cannot be had: those of one alone would be taken for counters that began anew."""

    status = 503

    def __init__(self, *, waited_s: float) -> None:
        """Say how long they were waited for."""
        super().__init__(
            f"the parent of these workers has not told their metrics for {waited_s:g} s",
            allowed="Metrics are those of all workers together",
            next_step="Try again in a second; where it stays so, look whether the parent process is stopped",
        )
        self.retry_after_s = 1.0


class NoUpstream(Rejected):
    """Every candidate is down or was tried."""

    status = 503

    def __init__(self, message: str, *, retry_after_s: float | None, next_step: str | None = None) -> None:
        """Keep when another try makes sense."""
        super().__init__(message, next_step=next_step)
        self.retry_after_s = retry_after_s


class Draining(Rejected):
    """The gateway is stopping: it takes no new request, or has cut this one."""

    status = 503

    def __init__(self, *, was_sent: bool = False) -> None:
        """Ask to come back; `was_sent` says that an upstream had been asked already."""
        super().__init__(
            "this gateway is stopping, and what an upstream had begun to answer was cut: it may be charged"
            if was_sent
            else "this gateway is stopping and takes no new request",
            next_step="Try again in a few seconds",
        )
        self.retry_after_s = 5.0


class UntranslatedAnswer(OwnwardError):
    """An upstream answered what the client's dialect has no words for; it was charged."""

    def __init__(self, upstream: str, why: OwnwardError) -> None:
        """Name the upstream."""
        super().__init__(
            f"the answer of upstream {upstream!r} cannot be told in your dialect: {why.message}",
            allowed="The upstream charged for it, and the ledger has it as settled",
            next_step=why.next_step or "Ask in the upstream's own dialect, or another tier",
        )


class UpstreamCredentials(UpstreamError):
    """The upstream does not accept our key: the operator's fault, not the client's."""


class UpstreamUnpaid(UpstreamCredentials):
    """The account behind our key is empty, overdue or at a limit of its own: the operator's to mend."""


def _closest_text(near: Sequence[str]) -> str | None:
    return f"Closest: {', '.join(repr(item) for item in near)}" if near else None
