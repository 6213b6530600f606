"""A budget holds to the picodollar, whoever writes: many tasks, several ledgers, killed processes, late corrections."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import ledger_rows
from ledger_rows import USAGE, usual_intent, usual_request
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck, BudgetSpent, BudgetState, Intent, Ledger, Request, Settlement

DAY = datetime(2026, 11, 21, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)


def budget(limit: int, *, kind: str = "workload", name: str = "chat", day: datetime = DAY) -> BudgetCheck:
    return BudgetCheck(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        limit_picousd=limit,
        starts_at=day,
        ends_at=day + timedelta(days=1),
    )


def request(name: str, *, workload: str = "chat", at: datetime = NOON, **more: Any) -> Request:
    return usual_request(name, at=at, workload=workload, **more)


def intent(name: str, high: int | None, *, attempt: int = 1, at: datetime = NOON) -> Intent:
    return usual_intent(name, at=at, high=high, attempt=attempt)


def settlement(name: str, state: str, charge: int | None = None, **more: Any) -> Settlement:
    stated: dict[str, Any] = {"charge_picousd": charge}
    if state == "settled":
        stated |= {"usage": USAGE, "usage_basis": "upstream"}
    return Settlement(
        request_id=name,
        attempt=more.pop("attempt", 1),
        state=state,  # type: ignore[arg-type]
        settled_at=NOON,
        **{**stated, **more},
    )


async def begin(book: Ledger, name: str, high: int | None, *checks: BudgetCheck, **more: Any) -> bool:
    at = more.get("at", NOON)
    try:
        await book.begin(request(name, **more), intent(name, high, at=at), budgets=checks)
    except BudgetSpent:
        return False
    return True


def state(book: Ledger, check: BudgetCheck) -> tuple[int, int, int]:
    book.flush_blocking()
    (found,) = book.query_budgets([check])
    return found.spent_picousd, found.reserved_picousd, found.unknown_calls


def test_of_many_at_once_exactly_as_many_begin_as_fit(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            begun = await asyncio.gather(*(begin(book, f"r{n}", 10, budget(995)) for n in range(1000)))
            assert sum(begun) == 99
            assert state(book, budget(995)) == (0, 990, 0)
            assert await begin(book, "last", 5, budget(995))
            assert not await begin(book, "none", 1, budget(995))
            assert sum(1 for _ in book.query_requests()) == 100

    asyncio.run(main())


@pytest.mark.parametrize(("kind", "name"), [("workload", "chat"), ("key", "k"), ("tier", "t"), ("task", "run")])
def test_of_a_thousand_at_once_exactly_as_many_begin_as_fit_into_a_budget_of_every_scope(
    target: str, kind: str, name: str
) -> None:
    check = budget(995, kind=kind, name=name)
    if kind == "task":
        check = replace(check, starts_at=datetime(1970, 1, 1, tzinfo=UTC), ends_at=None)

    async def main() -> None:
        with ledger.open(target) as one, ledger.open(target) as other:

            async def ask(number: int) -> bool:
                row = structs.replace(request(f"r{number}", key_id="k"), task_id="run")
                try:
                    await (one, other)[number % 2].begin(row, intent(row.request_id, 10), budgets=[check])
                except BudgetSpent:
                    return False
                return True

            begun = await asyncio.gather(*(ask(number) for number in range(1000)))
            assert sum(begun) == 99
            first = begun.index(True)
            one.settle(settlement(f"r{first}", "settled", 4))
            assert state(one, check) == state(other, check) == (4, 980, 0)
            assert await ask(1001)
            assert not await ask(1002)

    asyncio.run(main())


def test_two_ledgers_on_one_database_share_a_budget_exactly(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as one, ledger.open(target) as other:
            begun = await asyncio.gather(
                *(begin((one, other)[n % 2], f"r{n}", 7 + n % 5, budget(1_000)) for n in range(400))
            )
            reserved = sum(7 + n % 5 for n in range(400) if begun[n])
            assert 1_000 - 7 < reserved <= 1_000
            assert state(one, budget(1_000)) == state(other, budget(1_000)) == (0, reserved, 0)

    asyncio.run(main())


def test_settling_replaces_the_bound_by_the_charge_and_failing_gives_it_back(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            for name in ("a", "b", "c"):
                assert await begin(book, name, 30, budget(100))
            assert not await begin(book, "d", 30, budget(100))
            book.settle(settlement("a", "settled", 12))
            book.settle(settlement("b", "failed"))
            book.settle(settlement("c", "unsettled", charge_low_picousd=0, charge_high_picousd=25))
            assert state(book, budget(100)) == (12, 25, 0)
            assert await begin(book, "e", 63, budget(100))
            assert not await begin(book, "f", 1, budget(100))

    asyncio.run(main())


def test_a_correction_counts_in_place_of_what_it_corrects(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            await begin(book, "a", 30, budget(100))
            book.settle(settlement("a", "unsettled", charge_high_picousd=30))
            book.settle(settlement("a", "settled", 12))
            assert state(book, budget(100)) == (12, 0, 0)
            book.settle(settlement("a", "settled", 17))
            assert state(book, budget(100)) == (17, 0, 0)

    asyncio.run(main())


def test_what_was_charged_before_there_was_a_budget_counts(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book, ledger.open(target) as unaware:
            yesterday = {"at": DAY - timedelta(seconds=1)}
            for name, more in (("a", {}), ("b", {}), ("c", yesterday), ("d", {"workload": "other"}), ("u", {})):
                assert await begin(book, name, None if name == "u" else 30, **more)
            book.settle(settlement("a", "settled", 12))
            await book.flush()
            assert not await begin(book, "e", 59, budget(100))
            assert state(book, budget(100)) == (12, 30, 1)
            assert await begin(unaware, "late", 40)  # by a process that knows nothing of the budget
            assert state(book, budget(100)) == (12, 70, 1)
            unaware.settle(settlement("late", "settled", 39))
            await unaware.flush()
            assert not await begin(book, "f", 20, budget(100))
            assert await begin(book, "g", 19, budget(100))

    asyncio.run(main())


@pytest.mark.parametrize(("was_held", "waited_for"), [(False, timedelta(hours=20)), (True, timedelta(minutes=50))])
def test_a_call_that_began_in_the_period_counts_though_its_request_came_before_it(
    target: str, was_held: bool, waited_for: timedelta
) -> None:
    """Where there was an account before, not all of yesterday's requests are read again for it."""

    async def main() -> None:
        with ledger.open(target) as book:
            if was_held:
                book.open_budgets([budget(100, day=DAY - timedelta(days=1))])
            waited = request("waited", at=DAY - waited_for)
            await book.begin(waited, intent("waited", 40, at=DAY + timedelta(seconds=1)))
            before = request("before", at=DAY - timedelta(minutes=10))
            await book.begin(before, intent("before", 50, at=DAY - timedelta(seconds=1)))
            book.flush_blocking()
            book.open_budgets([budget(100)])
            assert state(book, budget(100)) == (0, 40, 0)

    asyncio.run(main())


def test_a_repetition_that_is_cancelled_gives_back_nothing_of_what_is_settled(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            assert await begin(book, "a", 30, budget(100))
            book.settle(settlement("a", "settled", 12))
            task = asyncio.create_task(book.begin_attempt(intent("a", 30), budgets=[budget(100)]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert state(book, budget(100)) == (12, 0, 0)

    asyncio.run(main())


def test_accounts_of_periods_that_are_long_over_go_when_a_new_one_is_opened(target: str) -> None:
    with ledger.open(target) as book:
        for days in (0, 1, 5):
            day = DAY + timedelta(days=days)
            book.open_budgets([budget(100, day=day), budget(100, name="other", day=day)])
        kept = book._writer.run(
            lambda connection: connection.rows("SELECT subject, COUNT(*) FROM budget_accounts GROUP BY subject")
        )
        assert sorted(kept) == [("workload:chat", 1), ("workload:other", 1)]


def test_a_new_period_begins_with_nothing_spent_and_the_old_one_keeps_its_calls(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            tomorrow = DAY + timedelta(days=1)
            assert await begin(book, "a", 100, budget(100))
            assert not await begin(book, "b", 1, budget(100))
            assert await begin(book, "c", 100, budget(100, day=tomorrow), at=tomorrow)
            book.settle(settlement("a", "settled", 40))
            assert state(book, budget(100)) == (40, 0, 0)
            assert state(book, budget(100, day=tomorrow)) == (0, 100, 0)
            assert await begin(book, "d", 60, budget(100))

    asyncio.run(main())


def test_waiting_helps_where_calls_run_and_not_where_they_are_over_and_unsettled(target: str) -> None:
    async def main() -> None:
        async def refused(book: ledger.Ledger, name: str) -> BudgetSpent:
            with pytest.raises(BudgetSpent) as caught:
                await book.begin_attempt(intent("a", 50, attempt=int(name)), budgets=[budget(100)])
            return caught.value

        with ledger.open(target) as book:
            assert await begin(book, "a", 60, budget(100))
            assert (await refused(book, "2")).fits_later
            book.settle(settlement("a", "unsettled", charge_low_picousd=0, charge_high_picousd=55))
            error = await refused(book, "3")
            assert not error.fits_later
            assert error.state == BudgetState(reserved_picousd=55, unsettled_picousd=55)
            book.settle(settlement("a", "settled", 50))
            await book.begin_attempt(intent("a", 50, attempt=4), budgets=[budget(100)])
        with ledger.open(target) as again:
            (found,) = again.query_budgets([budget(100)])
            assert found == BudgetState(spent_picousd=50, reserved_picousd=50)

    asyncio.run(main())


def test_a_workload_and_a_key_are_both_held_to_or_neither_is_charged(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            both = (budget(100), budget(50, kind="key", name="k"))
            assert await begin(book, "a", 40, *both, key_id="k")
            assert not await begin(book, "b", 40, *both, key_id="k")
            assert state(book, both[0]) == state(book, both[1]) == (0, 40, 0)
            assert await begin(book, "c", 60, both[0], key_id="other")
            assert not await begin(book, "d", 10, *both, key_id="k")

    asyncio.run(main())


def test_a_further_attempt_is_held_to_the_budget_too(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            assert await begin(book, "a", 60, budget(100))
            with pytest.raises(BudgetSpent) as caught:
                await book.begin_attempt(intent("a", 50, attempt=2), budgets=[budget(100)])
            assert caught.value.state == BudgetState(reserved_picousd=60)
            assert caught.value.fits_later
            assert not caught.value.never_fits
            book.settle(settlement("a", "failed"))
            await book.begin_attempt(intent("a", 50, attempt=2), budgets=[budget(100)])
            assert state(book, budget(100)) == (0, 50, 0)

    asyncio.run(main())


def test_a_cancelled_begin_gives_its_bound_back(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            await begin(book, "first", 1, budget(100))
            task = asyncio.create_task(begin(book, "a", 60, budget(100)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await book.flush()
            assert state(book, budget(100)) == (0, 1, 0)

    asyncio.run(main())


def test_a_call_that_cannot_be_held_against_the_budget_is_not_begun(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            for high, more in ((None, {}), (5, {"workload": "other"}), (5, {"at": DAY + timedelta(days=1)})):
                with pytest.raises(LedgerError, match="cannot be held against the budget"):
                    await begin(book, "a", high, budget(100), **more)
            assert list(book.query_requests()) == []

    asyncio.run(main())


def test_a_faulty_row_beside_budgeted_ones_moves_no_account(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            assert await begin(book, "a", 10, budget(100))
            results = await asyncio.gather(
                begin(book, "b", 20, budget(100)),
                book.begin(request("a"), intent("a", 50), budgets=[budget(100)]),  # its id is taken
                begin(book, "c", 30, budget(100)),
                return_exceptions=True,
            )
            assert results[0] is results[2] is True
            assert isinstance(results[1], LedgerError)
            assert state(book, budget(100)) == (0, 60, 0)

    asyncio.run(main())


MILLION = 10**6 * 10**12


def test_a_budget_above_what_an_account_counts_is_held_at_that(target: str) -> None:
    """2 to the power of 63 picodollars are 9.2 million dollars; what calls cost up to there is never lost."""
    most = budget(1000 * MILLION)

    async def main(book: Ledger) -> None:
        for number in range(12):
            if await begin(book, f"r{number}", MILLION, most):
                book.settle(settlement(f"r{number}", "settled", MILLION))

    with ledger.open(target) as book:
        asyncio.run(main(book))
        assert state(book, most) == (9 * MILLION, 0, 0)
        assert [row["state"] for row in book.export_rows()] == ["settled"] * 9
        with pytest.raises(BudgetSpent, match=r"has a budget of \$9,223,372\.04, of which \$9,000,000\.00 is spent"):
            asyncio.run(book.begin(request("r"), intent("r", MILLION), budgets=(most,)))


def test_calls_that_no_budget_holds_are_all_settled_however_much_their_accounts_would_count(target: str) -> None:
    held, later = budget(1000 * MILLION), budget(1000 * MILLION, kind="tier", name="t")

    async def main(book: Ledger) -> None:
        assert await begin(book, "first", 0, held)  # there is an account from now on
        for number in range(12):
            await begin(book, f"r{number}", MILLION)
            if number < 11:
                book.settle(settlement(f"r{number}", "settled", MILLION))
        await book.flush()
        for one in (held, later):
            assert not await begin(book, f"held {one.kind}", MILLION, one)

    with ledger.open(target) as book:
        asyncio.run(main(book))
        assert Counter(row["state"] for row in book.export_rows()) == {"settled": 11, "intent": 2}
        assert state(book, held) == state(book, later) == ((1 << 63) - 1, MILLION, 0)


_CHILD = """
import asyncio, sys, time
sys.path[:0] = sys.argv[2:]
from test_budgets import begin, budget
from ownward import ledger

async def main():
    book = ledger.open(sys.argv[1])
    assert all(await asyncio.gather(*(begin(book, f"child{n}", 10, budget(100)) for n in range(7))))
    print("begun", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_process_had_in_flight_stays_counted_at_its_upper_bound(target: str) -> None:
    folders = [str(Path(file).parent) for file in (__file__, ledger_rows.__file__)]
    child = subprocess.Popen([sys.executable, "-c", _CHILD, target, *folders], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

    async def main() -> None:
        with ledger.open(target) as book:
            assert state(book, budget(100)) == (0, 70, 0)
            assert not await begin(book, "a", 31, budget(100))
            assert book.reconcile() == 7
            assert state(book, budget(100)) == (0, 70, 0)
            with pytest.raises(BudgetSpent) as caught:
                await book.begin(request("a"), intent("a", 31), budgets=[budget(100)])
            assert caught.value.state.unsettled_picousd == 70
            assert not caught.value.fits_later
            assert await begin(book, "b", 30, budget(100))

    asyncio.run(main())
