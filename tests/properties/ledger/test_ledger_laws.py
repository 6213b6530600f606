"""Whatever order begins, retries, settlements, corrections, crashes and reopenings come in, the books add up."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger_rows import usual_intent, usual_request
from ownward import ledger
from ownward.core import picousd_to_usd
from ownward.ledger import Intent, Request, Settlement
from ownward.pricing import Usage

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MONEY = st.integers(min_value=0, max_value=10**15)
TOKENS = st.integers(min_value=0, max_value=10**7)


@dataclass
class Attempt:
    """What the model of the ledger knows of one attempt."""

    high: int
    settlements: list[tuple[str, int, int, int]] = field(default_factory=list)  # state, charge, input, output
    was_abandoned: bool = False

    @property
    def state(self) -> str:
        if self.settlements:
            return self.settlements[-1][0]
        return "unsettled" if self.was_abandoned else "intent"


class LedgerMachine(RuleBasedStateMachine):
    """A ledger beside a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.refusals = 0
        self.requests = 0

    @initialize()
    def open(self) -> None:
        self.book = ledger.open(Path(self.folder.name) / "ledger.db")

    def request(self, workload: str) -> Request:
        self.requests += 1
        return usual_request(
            f"r{self.requests}",
            at=NOW + timedelta(seconds=self.requests),
            task_id=f"t{self.requests // 3}",
            task_basis="explicit",
            workload=workload,
        )

    def intent(self, request_id: str, attempt: int, high: int) -> Intent:
        self.attempts[request_id, attempt] = Attempt(high)
        return usual_intent(request_id, at=NOW, high=high, attempt=attempt)

    @rule(highs=st.lists(MONEY, min_size=1, max_size=5), workload=st.sampled_from(["a", "b"]))
    def begin(self, highs: list[int], workload: str) -> None:
        pairs = []
        for high in highs:
            request = self.request(workload)
            pairs.append((request, self.intent(request.request_id, 1, high)))

        async def main() -> None:
            await asyncio.gather(*(self.book.begin(*pair) for pair in pairs))

        asyncio.run(main())

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), high=MONEY)
    def retry(self, data: st.DataObject, high: int) -> None:
        request_id, _ = data.draw(st.sampled_from(sorted(self.attempts)))
        attempt = 1 + max(number for known, number in self.attempts if known == request_id)
        asyncio.run(self.book.begin_attempt(self.intent(request_id, attempt, high)))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), state=st.sampled_from(["settled", "failed"]), charge=MONEY, given=TOKENS, taken=TOKENS)
    def settle(self, data: st.DataObject, state: str, charge: int, given: int, taken: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.attempts)))
        is_settled = state == "settled"
        self.book.settle(
            Settlement(
                request_id=key[0],
                attempt=key[1],
                state=state,  # type: ignore[arg-type]
                settled_at=NOW,
                usage=Usage(input_tokens=given, output_tokens=taken) if is_settled else None,
                usage_basis="upstream" if is_settled else None,
                charge_picousd=charge if is_settled else None,
            )
        )
        self.attempts[key].settlements.append((state, charge if is_settled else 0, given, taken))

    @rule()
    def refuse(self) -> None:
        self.book.refuse(self.request("a"), reason="no", status=403)
        self.refusals += 1

    @rule(reconciles=st.booleans())
    def end_and_reopen(self, *, reconciles: bool) -> None:
        """Another process finds what this one left."""
        self.book.close()
        for attempt in self.attempts.values():
            attempt.was_abandoned = True
        self.open()
        if reconciles:
            self.book.reconcile()
            assert self.book.reconcile() == 0

    @invariant()
    def the_books_add_up(self) -> None:
        self.book.flush_blocking()
        rows = list(self.book.export_rows())
        refused = [row for row in rows if row["attempt"] == 0]
        begun = {(row["request_id"], row["attempt"]): row for row in rows if row["attempt"]}
        assert len(rows) == len(begun) + len(refused), "no attempt appears twice"
        assert len(refused) == self.refusals
        assert {key: row["state"] for key, row in begun.items()} == {
            key: attempt.state for key, attempt in self.attempts.items()
        }
        known = sum((Decimal(row["charge_usd"]) for row in rows if row["charge_usd"]), Decimal(0))
        newest = [attempt.settlements[-1] for attempt in self.attempts.values() if attempt.settlements]
        assert known == picousd_to_usd(sum(charge for _, charge, _, _ in newest))
        settled = [(given, taken) for state, _, given, taken in newest if state == "settled"]
        totals = self.book.query_spend(by=())
        assert sum(row.input_tokens for row in totals) == sum(given for given, _ in settled)
        assert sum(row.output_tokens for row in totals) == sum(taken for _, taken in settled)
        open_highs = sum(attempt.high for attempt in self.attempts.values() if not attempt.settlements)
        assert sum(row.spend.low_usd for row in totals) == known
        assert sum(row.spend.high_usd or 0 for row in totals) == known + picousd_to_usd(open_highs)
        assert sum(task.spend.settled_usd for task in self.book.query_tasks()) == known, "tasks and attempts agree"
        assert sum(task.attempts for task in self.book.query_tasks()) == len(begun)
        assert len(self.book.query_traffic()) == len(
            {key[0] for key, row in begun.items() if row["state"] == "settled"}
        )

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self.book.close()
        self.folder.cleanup()


TestLedgerLaws = LedgerMachine.TestCase
TestLedgerLaws.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
