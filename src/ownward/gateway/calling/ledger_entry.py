"""One call's entry in the ledger: its intent, committed before anything is sent, and exactly one settlement.

`settled` with the upstream's own usage after a complete answer, `failed` where the upstream certainly charged nothing,
`unsettled` with bounds in every other case.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ownward.core import PICOUSD_PER_USD, LedgerError
from ownward.gateway.calling.sink import forget_frames
from ownward.gateway.holding.budgets import budget_refusal, compute_checks
from ownward.gateway.holding.limits import NO_TAKES, compute_releases, compute_takes, limit_refusal
from ownward.gateway.watching.metrics import CallEnd
from ownward.ledger import BudgetCheck, BudgetSpent, Intent, LimitReached, LimitTake, Request, Settlement
from ownward.pricing import Usage
from ownward.upstreams import (
    NO_TERMS,
    NOTHING_ASKED,
    READ_ONCE,
    Spliced,
    StreamTap,
    WholeAnswer,
    id_in_headers,
    input_tokens_upper_bound,
    output_tokens_upper_bound,
    terms_asked,
)

if TYPE_CHECKING:
    from datetime import date

    from ownward.gateway.calling.served import Served
    from ownward.gateway.endpoints import Endpoint
    from ownward.gateway.placing.routing import Target
    from ownward.policy import Permit

_NO_USAGE = Usage(input_tokens=0, output_tokens=0)
_MOST_PICOUSD = 10**6 * PICOUSD_PER_USD
"""Of one call; what may cost more has no bound, and the ledger's whole numbers hold sums of the others."""


class LedgerEntry:
    """The record of one call, and what was seen of its answer so far.

    Whoever relays the answer notes `answer` (as far as it was read), `headers`, `status`, `ttft_s` and `passed_bytes`.
    Once the call is settled, `usage` and `charge_picousd` are what it was settled for, None where that is not known.
    """

    __slots__ = (
        "_asked",
        "_endpoint",
        "_exchange",
        "_gateway",
        "_intent",
        "_number",
        "_takes",
        "_target",
        "answer",
        "asks_several",
        "charge_picousd",
        "headers",
        "is_beaten",
        "is_hedge",
        "is_settled",
        "misses_answers",
        "note",
        "passed_bytes",
        "sent_s",
        "status",
        "ttft_s",
        "usage",
    )

    def __init__(self, exchange: Served, target: Target, number: int, endpoint: Endpoint) -> None:
        """Begin; nothing is written yet. `endpoint` is the one that the upstream is asked at."""
        self._exchange = exchange
        self._gateway = exchange.gateway
        self._target = target
        self._number = number
        self._endpoint = endpoint
        self._intent: Intent | None = None
        self._takes: tuple[LimitTake, ...] = NO_TAKES
        self._asked = NOTHING_ASKED
        self.is_settled = False
        self.is_hedge = False
        self.is_beaten = False
        self.asks_several = False  # several answers (`n`, or several prompts)
        self.misses_answers = False  # its usage is that of one of several
        self.note: str | None = None
        self.sent_s = 0.0
        self.status: int | None = None
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.answer: StreamTap | WholeAnswer | None = None
        self.ttft_s: float | None = None
        self.passed_bytes = 0
        self.usage: Usage | None = None
        self.charge_picousd: int | None = None

    def write_intent(self, spliced: Spliced, permit: Permit) -> Coroutine[Any, Any, None]:
        """Return what commits the intent: once that is awaited, and not before, the call may be sent.

        Raises: OverBudget, UnboundedCharge or OverLimit, if a budget or a limit does not admit the call; LedgerError.
        """
        exchange, gateway, target = self._exchange, self._gateway, self._target
        assert exchange.request is not None
        tier, endpoint = target.tier, self._endpoint
        if tier.kind == "rented" and not endpoint.is_free:
            self._asked = terms_asked(spliced)
        started_at = gateway.clock.now()
        input_high, output_high, is_assumed = self._token_bounds(spliced)
        charge_high, why_unbounded = self._charge_bound(input_high, output_high, day=started_at.date())
        intent = Intent(
            request_id=exchange.request_id,
            attempt=self._number,
            tier=tier.name,
            upstream=target.name,
            model=tier.model,
            price_id=target.price_id,
            input_tokens_high=input_high,
            output_tokens_high=output_high,
            charge_high_picousd=charge_high,
            body_sha256=permit.body_sha256,
            started_at=started_at,
        )
        self._intent = intent
        budgets = compute_checks(
            exchange.choice,
            exchange.key,
            target,
            task=exchange.task_budget,
            charge_high_picousd=None if is_assumed and charge_high else charge_high,
            at=intent.started_at,
            why_unbounded=why_unbounded,
        )
        allowance = exchange.allowance
        if allowance is not None:
            allowance.hold(
                self._number,
                target,
                charge_high_picousd=charge_high,
                output_tokens_high=output_high,
                is_assumed=is_assumed,
                why_unbounded=why_unbounded,
            )
        key = exchange.key
        if key is not None and (key.requests_per_minute or key.tokens_per_minute) and not endpoint.is_free:
            self._takes = compute_takes(
                key,
                body_bytes=len(spliced.body),
                stated_output_tokens=spliced.max_output_tokens,
                answers=spliced.choices,
                output_tokens_high=output_high,
                is_first=self._number == 1,
            )
        return self._begin(exchange.request, intent, budgets)

    async def _begin(self, request: Request, intent: Intent, budgets: tuple[BudgetCheck, ...]) -> None:
        """Write the intent; the request's row goes with the first one that can be written."""
        exchange, gateway = self._exchange, self._gateway
        ledger = gateway.ledger
        try:
            # Where these are cancelled, the ledger itself settles the attempt as failed: nothing was sent.
            while exchange.row_written is not None:
                if exchange.row_written:
                    exchange.note_limits(await ledger.begin_attempt(intent, budgets=budgets, limits=self._takes))
                    return
                await exchange.wait_for_row()
            exchange.row_written = False
            is_written: bool | None = True
            try:
                exchange.note_limits(
                    await ledger.begin(request, intent, budgets=budgets, limits=self._takes, is_fresh=True)
                )
            except LedgerError:
                is_written = None
                raise
            finally:
                exchange.note_row(is_written=is_written)
        except (BudgetSpent, LimitReached) as error:
            forget_frames(error)
            if exchange.allowance is not None:
                exchange.allowance.give_back(self._number)
            if isinstance(error, BudgetSpent):
                gateway.counting.over_budget(error.check)
                raise budget_refusal(error, at=intent.started_at) from None
            gateway.counting.metrics.over_limit.add((error.take.kind,))
            raise limit_refusal(error) from None

    def _token_bounds(self, spliced: Spliced) -> tuple[int | None, int, bool]:
        """Return the most input and output tokens, and whether the latter is assumed because nothing states it."""
        tier, endpoint = self._target.tier, self._endpoint
        input_high = input_tokens_upper_bound(
            spliced, endpoint=endpoint.splices_as, max_context_tokens=tier.max_context_tokens
        )
        if self._asked is not NOTHING_ASKED and not self._asked.extras <= READ_ONCE:
            input_high = None  # tools and summaries read their input again, as often as they run
        if not endpoint.has_output:
            return input_high, 0, False
        output_high = output_tokens_upper_bound(
            spliced, endpoint=endpoint.splices_as, max_output_tokens=tier.max_output_tokens
        )
        if output_high is not None:
            return input_high, output_high, False
        if tier.max_context_tokens is not None:
            return input_high, tier.max_context_tokens * spliced.choices, False
        return input_high, self._gateway.settings.assumed_output_tokens * spliced.choices, True

    def _charge_bound(self, input_high: int | None, output_high: int, *, day: date) -> tuple[int | None, str | None]:
        """Return the most that so many tokens can be charged, in picodollars, and why a price does not bound them.

        Where there is no price, both are None.
        """
        bound = self._target.bound
        why = None if bound is None else bound.why_unbounded(self._asked, day=day)
        if self._endpoint.is_free:
            return 0, why
        if bound is None or input_high is None or why is not None:
            return None, why
        charge = bound.compute_picousd(input_tokens_high=input_high, output_tokens_high=output_high)
        if charge > _MOST_PICOUSD:
            return None, "so many tokens may cost more than a million dollars"
        return charge, None

    def mark_hedge(self, note: str) -> None:
        """Note that this is a second call beside one that is late."""
        self.is_hedge = True
        self.note = note

    def mark_beaten(self, note: str) -> None:
        """Note that another call has answered first, so that this one is cancelled."""
        self.is_beaten = True
        self.note = note if self.note is None else f"{self.note}; {note}"

    def progress(self) -> str:
        """Return how far the answer had come."""
        events = 0 if self.answer is None else self.answer.content_events
        return f"{events} content events, {self.passed_bytes} bytes passed on"

    def settle_by_answer(self, status: int | None) -> None:
        """Settle by what the answer states of its usage; without that the charge stays open."""
        answer, target = self.answer, self._target
        assert answer is not None
        if self._endpoint.is_free:
            usage: Usage | None = _NO_USAGE
        else:
            usage = answer.usage
        if usage is None or self.misses_answers or (self.asks_several and answer.is_timed):
            stated = "no usage" if usage is None else "the usage of one of its parts alone"
            self.settle_unsettled(f"the answer is complete and states {stated}", status=status)
            return
        charge = low = high = None
        note = self._exchange.call_note
        if self._endpoint.is_free:
            charge = low = high = 0
        elif target.bound is not None:
            terms = answer.terms if target.tier.kind == "rented" else NO_TERMS
            assert self._intent is not None
            day = self._intent.started_at.date()
            charge, low, high, why = target.bound.bracket_picousd(usage, self._asked, terms, day=day)
            if ((low if high is None else high) or 0) > _MOST_PICOUSD:  # a charge is both of them
                self.settle_unsettled("the answer states more tokens than a call can have", status=status)
                return
            if why is not None:
                note = f"its charge is not known: {why}" if note is None else f"{note}; its charge is not known: {why}"
        self.usage, self.charge_picousd = usage, charge
        self._settle("settled", error=note, usage=usage, charge=(charge, low, high), status=status)

    def settle_unsettled(self, error: str, *, status: int | None = None) -> None:
        """Leave the charge open, with its bounds."""
        assert self._intent is not None
        if self.passed_bytes and "passed on" not in error:
            error = f"{error}; {self.progress()}"
        self._settle("unsettled", charge=(None, 0, self._intent.charge_high_picousd), status=status, error=error)

    def settle_failed(self, error: str, *, status: int | None = None) -> None:
        """Settle a call that the upstream certainly did not charge."""
        self._settle("failed", charge=(0, 0, 0), status=status, error=error)

    def _upstream_request_id(self) -> str | None:
        """Return the upstream's own id of the call, unless it holds the key that the upstream is shown."""
        stated = None if self.answer is None else self.answer.upstream_request_id
        if stated is None:
            stated = id_in_headers(self.headers)
        is_quoting = stated is not None and self._target.quotes_key(stated.encode("utf-8", "replace"))
        return None if is_quoting else stated

    def _settle(
        self,
        state: Literal["settled", "unsettled", "failed"],
        *,
        charge: tuple[int | None, int | None, int | None],
        usage: Usage | None = None,
        status: int | None = None,
        error: str | None = None,
    ) -> None:
        assert not self.is_settled, "an intent is settled once"
        self.is_settled = True
        gateway = self._gateway
        if self.note is not None:
            error = self.note if error is None else f"{self.note}; {error}"
        now_s = gateway.clock.monotonic_s()
        if status is None:
            status = self.status
        try:
            gateway.ledger.settle(
                Settlement(
                    request_id=self._exchange.request_id,
                    attempt=self._number,
                    state=state,
                    settled_at=gateway.clock.now(),
                    usage=usage,
                    usage_basis=None if usage is None else "upstream",
                    charge_picousd=charge[0],
                    charge_low_picousd=charge[1],
                    charge_high_picousd=charge[2],
                    upstream_request_id=self._upstream_request_id(),
                    ttft_s=self.ttft_s,
                    latency_s=now_s - self.sent_s if self.sent_s else None,
                    status=status,
                    error=error,
                ),
                releases=compute_releases(self._takes, state=state, usage=usage) if self._takes else (),
            )
        except LedgerError as failure:
            # The intent stands: without a settlement the ledger lists it as unsettled, with its bounds.
            gateway.fault_log.say("a settlement of %s could not be queued", self._exchange.request_id, failure)
        gateway.counting.call_ended(
            self._exchange,
            CallEnd(
                number=self._number,
                target=self._target,
                state=state,
                started_s=self.sent_s or now_s,
                latency_s=now_s - self.sent_s if self.sent_s else 0.0,
                ttft_s=self.ttft_s if self.passed_bytes else None,  # of a whole answer nobody saw the first token
                status=status,
                usage=usage,
                charge_picousd=charge[0],
                charge_high_picousd=charge[2],
                is_hedge=self.is_hedge,
                is_beaten=self.is_beaten,
            ),
        )
