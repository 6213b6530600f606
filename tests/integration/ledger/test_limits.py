"""Limits hold over ledgers of one database, through failures of rows, and give up what a killed process held."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ledger_rows
from ledger_rows import usual_intent, usual_request
from ownward import ledger
from ownward.ledger import Intent, Ledger, LimitReached, LimitState, LimitTake, Request, Settlement

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def rows(name: str, at: datetime) -> tuple[Request, Intent]:
    return usual_request(name, at=at, key_id="k"), usual_intent(name, at=at)


def take(kind: str, amount: int, per_minute: int = 100, *, is_bucket: bool = False) -> LimitTake:
    return LimitTake(key_id="k", kind=kind, amount=amount, per_minute=per_minute, is_bucket=is_bucket)  # type: ignore[arg-type]


async def begin(
    book: Ledger, name: str, *takes: LimitTake, at: datetime = NOON
) -> tuple[LimitState, ...] | LimitReached:
    try:
        return await book.begin(*rows(name, at), limits=takes)
    except LimitReached as error:
        return error


def settle(book: Ledger, name: str, *releases: tuple[LimitTake, int], at: datetime = NOON) -> None:
    book.settle(Settlement(request_id=name, attempt=1, state="failed", settled_at=at), releases=releases)


@pytest.mark.parametrize(("is_bucket", "more", "wait_s"), [(False, 0, 54), (True, 10, 0.6)])
def test_many_at_once_through_two_ledgers_get_exactly_what_there_is(
    target: str, is_bucket: bool, more: int, wait_s: float
) -> None:
    async def main() -> None:
        with ledger.open(target) as one, ledger.open(target) as other:

            async def ask(name: str, count: int, at: datetime) -> list[tuple[LimitState, ...] | LimitReached]:
                books = (one, other)
                return await asyncio.gather(
                    *(
                        begin(books[n % 2], f"{name}{n}", take("requests", 1, is_bucket=is_bucket), at=at)
                        for n in range(count)
                    )
                )

            results = await ask("r", 400, NOON)
            assert sum(isinstance(result, tuple) for result in results) == 100
            results = await ask("s", 50, NOON + timedelta(seconds=6))
            assert sum(isinstance(result, tuple) for result in results) == more
            (refused,) = {result.wait_s for result in results if isinstance(result, LimitReached)}
            assert refused == pytest.approx(wait_s), "after this one fits"
            results = await ask("t", 200, NOON + timedelta(seconds=126.5))
            assert sum(isinstance(result, tuple) for result in results) == 100

    asyncio.run(main())


@pytest.mark.parametrize(("is_bucket", "full_s", "then_s"), [(False, 61, 60), (True, 48, 6)])
def test_what_is_held_is_not_told_to_be_there_again_at_once(
    target: str, is_bucket: bool, full_s: float, then_s: float
) -> None:
    """It may be used up to what is held, now, and is there again as long after that."""

    async def main() -> None:
        with ledger.open(target) as book:
            held = take("tokens", 80, is_bucket=is_bucket)
            (state,) = await begin(book, "a", held)  # type: ignore[misc]
            assert (state.remaining, state.reset_s) == (20, full_s)
            settle(book, "a", (held, 10))
            await book.flush()
            (state,) = await begin(book, "b", take("tokens", 0, is_bucket=is_bucket))  # type: ignore[misc]
            assert (state.remaining, state.reset_s) == (90, then_s)

    asyncio.run(main())


def test_tokens_are_held_while_a_call_runs_and_taken_when_it_is_settled(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            first = take("tokens", 80)
            (state,) = await begin(book, "a", first)  # type: ignore[misc]
            assert state.remaining == 20
            later = NOON + timedelta(seconds=120)
            refused = await begin(book, "b", take("tokens", 30), at=later)
            assert isinstance(refused, LimitReached), "what is held does not refill"
            settle(book, "a", (first, 10), at=later)
            await book.flush()
            (state,) = await begin(book, "c", take("tokens", 30), at=later)  # type: ignore[misc]
            assert state.remaining == 60

    asyncio.run(main())


@pytest.mark.parametrize(("is_bucket", "wait_s"), [(False, 120), (True, 151 * 0.6)])
def test_a_call_that_used_more_than_was_held_is_paid_back_with_time(
    target: str, is_bucket: bool, wait_s: float
) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            first = take("tokens", 10, is_bucket=is_bucket)
            one = take("tokens", 1, is_bucket=is_bucket)
            await begin(book, "a", first)
            settle(book, "a", (first, 250))
            await book.flush()
            early = NOON + timedelta(seconds=wait_s - 1)
            refused = await begin(book, "b", one, at=early)
            assert isinstance(refused, LimitReached)
            assert refused.wait_s == pytest.approx(1)
            assert isinstance(await begin(book, "c", one, at=early + timedelta(seconds=1)), tuple)

    asyncio.run(main())


def test_a_refused_call_takes_nothing_of_either_bucket(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            for n in range(20):
                assert isinstance(await begin(book, f"r{n}", take("requests", 1), take("tokens", 101)), LimitReached)
            (requests, tokens) = await begin(book, "x", take("requests", 1), take("tokens", 100))  # type: ignore[misc]
            assert (requests.remaining, tokens.remaining) == (99, 0)

    asyncio.run(main())


@pytest.mark.parametrize("is_bucket", [False, True])
def test_a_call_that_is_cancelled_before_its_dispatch_gives_back_what_it_held_and_nothing_else(
    target: str, is_bucket: bool
) -> None:
    async def main() -> None:
        with ledger.open(target) as book:
            used, none = take("tokens", 60, is_bucket=is_bucket), take("tokens", 0, is_bucket=is_bucket)
            await begin(book, "used", used)
            settle(book, "used", (used, 60))
            await book.flush()
            calls = [
                asyncio.create_task(begin(book, f"left{number}", take("tokens", 5, is_bucket=is_bucket)))
                for number in range(6)
            ]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await book.flush()
            assert [row["state"] for row in book.export_rows()] == ["failed"] * 7
            (state,) = await begin(book, "then", none)  # type: ignore[misc]
            assert state.remaining == 40

    asyncio.run(main())


@pytest.mark.parametrize("is_bucket", [False, True])
def test_a_host_whose_clock_is_behind_gives_nothing_back(target: str, is_bucket: bool) -> None:
    async def main() -> None:
        one = take("requests", 1, is_bucket=is_bucket)
        with ledger.open(target) as book:
            await begin(book, "a", take("requests", 100, is_bucket=is_bucket))
            assert isinstance(await begin(book, "b", one, at=NOON - timedelta(seconds=50)), LimitReached)
            assert isinstance(await begin(book, "c", one), LimitReached)

    asyncio.run(main())


@pytest.mark.parametrize("is_bucket", [False, True])
def test_a_clock_that_was_set_back_locks_no_key_out_until_it_is_there_again(target: str, is_bucket: bool) -> None:
    async def main() -> None:
        one = take("requests", 1, is_bucket=is_bucket)
        with ledger.open(target) as book:
            await begin(book, "a", take("requests", 100, is_bucket=is_bucket))
            back = NOON - timedelta(hours=1)
            assert isinstance(await begin(book, "b", one, at=back), LimitReached), "it is not forgotten"
            results = [await begin(book, f"c{n}", one, at=back + timedelta(seconds=61)) for n in range(101)]
            assert sum(isinstance(result, tuple) for result in results) == 100

    asyncio.run(main())


HOLDER = """
import asyncio, sys, time
from datetime import UTC, datetime
sys.path[:0] = {folders!r}
from ownward import ledger
import test_limits
async def main():
    book = ledger.open({target!r})
    await test_limits.begin(book, "held", test_limits.take("tokens", 90))
    print("held", flush=True)
    time.sleep(60)
asyncio.run(main())
"""


def test_what_a_killed_process_held_is_free_once_its_calls_are_reconciled(target: str) -> None:
    folders = [str(Path(file).parent) for file in (__file__, ledger_rows.__file__)]
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(folders=folders, target=target)], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"

        async def main() -> None:
            with ledger.open(target) as book:
                assert isinstance(await begin(book, "a", take("tokens", 20)), LimitReached)
                child.send_signal(signal.SIGKILL)
                child.wait()
                assert book.reconcile() == 1
                assert isinstance(await begin(book, "b", take("tokens", 20)), tuple)

        asyncio.run(main())
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_what_a_silent_process_elsewhere_holds_is_free_after_a_minute(target: str) -> None:
    async def main() -> None:
        with ledger.open(target) as one, ledger.open(target) as other:
            await begin(one, "held", take("tokens", 90))
            assert isinstance(await begin(other, "a", take("tokens", 20)), LimitReached)
            silence = "UPDATE runs SET heartbeat_at_us = heartbeat_at_us - 61000000 WHERE run_id = ?"
            other._writer.run(lambda connection: connection.execute(silence, (one.run_id,)))
            assert isinstance(await begin(other, "b", take("tokens", 20)), tuple)
            assert isinstance(await begin(one, "c", take("tokens", 20)), LimitReached), "its own it knows"

    asyncio.run(main())
