"""What both databases must do alike."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from ownward import ledger
from ownward.core import LedgerError, ManualClock, SchemaTooNew, SystemClock
from ownward.ledger import BudgetCheck, ImportCount, Intent, LimitTake, Outcome, Request, Settlement, TrafficRow
from ownward.pricing import Price, Usage

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def request(number: int = 1, *, task: str | None = None, workload: str = "support", **changes: object) -> Request:
    fields: dict[str, object] = {
        "request_id": f"req-{number}",
        "task_id": task or f"task-{number}",
        "task_basis": "explicit" if task else "single",
        "workload": workload,
        "route": "gpt-4o",
        "key_id": None,
        "label": "any",
        "dialect": "openai",
        "is_stream": False,
        "plan_sha256": "f" * 64,
        "reason": "first of the plan",
        "started_at": NOW + timedelta(seconds=number),
    }
    return Request(**(fields | changes))  # type: ignore[arg-type]


def intent(number: int = 1, attempt: int = 1, *, high: int | None = 5_000, **changes: object) -> Intent:
    fields: dict[str, object] = {
        "request_id": f"req-{number}",
        "attempt": attempt,
        "tier": "cloud",
        "upstream": "rented-a",
        "model": "gpt-4o-2024",
        "price_id": "p1",
        "input_tokens_high": 100,
        "output_tokens_high": 50,
        "charge_high_picousd": high,
        "body_sha256": "0" * 64,
        "started_at": NOW + timedelta(seconds=number, milliseconds=attempt),
    }
    return Intent(**(fields | changes))  # type: ignore[arg-type]


def settled(number: int = 1, attempt: int = 1, *, charge: int | None = 1_000, **changes: object) -> Settlement:
    fields: dict[str, object] = {
        "request_id": f"req-{number}",
        "attempt": attempt,
        "state": "settled",
        "settled_at": NOW + timedelta(seconds=number + 1),
        "usage": Usage(input_tokens=90, output_tokens=20, cached_input_tokens=30, cache_write_tokens=5),
        "usage_basis": "upstream",
        "charge_picousd": charge,
        "upstream_request_id": f"chatcmpl-{number}",
        "ttft_s": 0.25,
        "latency_s": 1.5,
        "status": 200,
    }
    return Settlement(**(fields | changes))  # type: ignore[arg-type]


def settle_as(state: str, number: int = 1, attempt: int = 1, **changes: object) -> Settlement:
    fields: dict[str, object] = {"usage": None, "usage_basis": None, "charge_picousd": None, "state": state}
    return settled(number, attempt, **(fields | changes))


def begin_all(book: ledger.Ledger, *pairs: tuple[Request, Intent]) -> None:
    async def main() -> None:
        await asyncio.gather(*(book.begin(*pair) for pair in pairs))

    asyncio.run(main())


def test_a_settled_attempt_is_exported_exactly(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.settle(settled(charge=1_340_000_000))
        book.flush_blocking()
        assert list(book.export_rows()) == [
            {
                "request_id": "req-1",
                "attempt": 1,
                "task_id": "task-1",
                "workload": "support",
                "tier": "cloud",
                "upstream": "rented-a",
                "upstream_request_id": "chatcmpl-1",
                "state": "settled",
                "input_tokens": 90,
                "cached_input_tokens": 30,
                "cache_write_tokens": 5,
                "output_tokens": 20,
                "usage_basis": "upstream",
                "charge_usd": "0.001340",
                "charge_low_usd": "0.001340",
                "charge_high_usd": "0.001340",
                "price_id": "p1",
                "plan_sha256": "f" * 64,
                "key_id": None,
                "label": "any",
                "started_at": "2026-11-01T12:00:01.001000Z",
                "ttft_s": 0.25,
                "latency_s": 1.5,
                "status": 200,
            }
        ]


def test_an_attempt_in_flight_is_an_intent_with_bounds(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent(high=5_000)), (request(2), intent(2, high=None)))
        first, second = book.export_rows()
        assert (first["state"], first["charge_usd"]) == ("intent", None)
        assert (first["charge_low_usd"], first["charge_high_usd"]) == ("0.000000", "0.000000005")
        assert second["charge_high_usd"] is None, "an unknown bound stays unknown"


def test_what_a_closed_run_left_open_is_unsettled_and_reconciled_once(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()), (request(2), intent(2)))
        book.settle(settled(2))
    with ledger.open(target) as book:
        assert [row["state"] for row in book.export_rows()] == ["unsettled", "settled"]
        before = list(book.export_rows())
        assert [book.reconcile(), book.reconcile()] == [1, 0]
        assert list(book.export_rows()) == before
        (row,) = book.query_requests(request_id="req-1")
        assert (row.state, row.charge_low_picousd, row.charge_high_picousd) == ("unsettled", 0, 5_000)
        assert row.error is not None


def test_reconciling_leaves_a_living_run_alone(target: str) -> None:
    with ledger.open(target) as gateway, ledger.open(target) as other:
        begin_all(gateway, (request(), intent()))
        assert other.reconcile() == 0
        assert [row["state"] for row in other.export_rows()] == ["intent"]


def test_another_hosts_run_lives_by_its_heartbeat(target: str) -> None:
    clock = ManualClock(NOW)
    with ledger.open(target, clock=clock) as gateway:
        begin_all(gateway, (request(), intent()))
        gateway._writer.run(lambda c: c.execute("UPDATE runs SET host_id = 'elsewhere'"))
        assert [row["state"] for row in gateway.export_rows()] == ["intent"]
        clock.advance(61)
        assert [row["state"] for row in gateway.export_rows()] == ["unsettled"]


def test_looking_for_what_ended_processes_left_waits_for_no_writer_and_holds_up_none(target: str) -> None:
    """It reads the whole ledger, each time that a process of a gateway starts."""
    with ledger.open(target, busy_timeout_s=1) as book, ledger.open(target, busy_timeout_s=1) as other:
        begin_all(book, (request(), intent()))
        connection = other._store.connect()
        try:
            connection.begin()
            other._store.lock_budgets(connection)
            other._store.lock_rows(connection, "settlements")
            assert book.reconcile() == 0
        finally:
            connection.rollback()
            connection.close()


def test_sums_stand_in_one_order_in_both_databases(target: str) -> None:
    """By code points, what is unknown first: databases have rules of their own for either."""
    with ledger.open(target) as book:
        begin_all(book, *((request(n, workload=name), intent(n)) for n, name in enumerate(("zoo", "Zeta", "élan"))))
        book.refuse(request(9, workload="Zeta"), reason="no", status=403)
        book.flush_blocking()
        groups = [tuple(row.group.values()) for row in book.query_spend(by=("workload", "tier"))]
        assert [(name, tier is None) for name, tier in groups] == [
            ("Zeta", True),
            ("Zeta", False),
            ("zoo", False),
            ("élan", False),
        ]


def test_a_late_settlement_corrects_the_reconciled_one(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
    with ledger.open(target) as book:
        book.reconcile()
        book.settle(settled(charge=7))
        book.flush_blocking()
        (row,) = book.export_rows()
        assert (row["state"], row["charge_usd"]) == ("settled", "0.000000000007")
        assert book.reconcile() == 0


def test_the_newest_settlement_counts_everywhere(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        for charge in (1, 2, 3):
            book.settle(settled(charge=charge))
        book.flush_blocking()
        assert [row["charge_usd"] for row in book.export_rows()] == ["0.000000000003"]
        assert [row.spend.settled_picousd for row in book.query_spend()] == [3]
        assert [row.spend.settled_picousd for row in book.query_tasks()] == [3]


def test_a_refused_request_is_one_row_of_attempt_zero(target: str) -> None:
    with ledger.open(target) as book:
        book.refuse(request(), reason="the label forbids it", status=403)
        book.flush_blocking()
        (row,) = book.export_rows()
        assert (row["attempt"], row["state"], row["status"]) == (0, "refused", 403)
        assert (row["tier"], row["charge_usd"]) == (None, "0.000000")
        (read,) = book.query_requests()
        assert read.error == "the label forbids it"


@pytest.mark.parametrize("state", ["failed", "refused"])
def test_a_failed_attempt_is_a_known_zero(target: str, state: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.settle(settle_as(state, status=429, error="slow down"))
        book.flush_blocking()
        (row,) = book.export_rows()
        assert (row["state"], row["charge_usd"], row["charge_high_usd"]) == (state, "0.000000", "0.000000")


def test_an_unknown_price_is_never_zero(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent(high=None)))
        book.settle(settled(charge=None))
        book.flush_blocking()
        (row,) = book.export_rows()
        assert row["charge_usd"] is None
        (spend,) = book.query_spend()
        assert (spend.spend.unpriced_attempts, spend.spend.high_usd) == (1, None)


@pytest.mark.parametrize(("stated", "at_most"), [(700, Decimal("1.7e-9")), (None, None)])
def test_a_settled_call_of_unknown_charge_is_bounded_by_what_it_states_and_not_by_its_intent(
    target: str, stated: int | None, at_most: Decimal | None
) -> None:
    """What was asked for may have been served by other terms than the intent was bounded by."""
    with ledger.open(target) as book:
        begin_all(book, (request(1), intent(1, high=900)), (request(2), intent(2, high=5_000)))
        book.settle(settled(1, charge=None, charge_low_picousd=200, charge_high_picousd=stated))
        book.settle(settled(2, charge=1_000))
        book.flush_blocking()
        (spend,) = book.query_spend()
        assert (spend.spend.unpriced_attempts, spend.spend.unbounded_attempts) == (1, 0 if stated else 1)
        assert (spend.spend.low_usd, spend.spend.high_usd) == (Decimal("1.2e-9"), at_most)
        assert {task.spend.high_usd for task in book.query_tasks()} == {at_most and Decimal("0.7e-9"), Decimal("1e-9")}


def test_a_second_intent_of_one_attempt_is_refused_alone(target: str) -> None:
    with ledger.open(target) as book:

        async def main() -> list[BaseException | None]:
            await book.begin(request(), intent())
            return await asyncio.gather(
                book.begin(request(2), intent(2)),
                book.begin_attempt(intent(1, 1)),
                book.begin_attempt(intent(1, 2)),
                book.begin(request(1), intent(1, 3)),
                book.begin(request(3), intent(3)),
                return_exceptions=True,
            )

        results = asyncio.run(main())
        assert [type(result) for result in results] == [tuple, LedgerError, tuple, LedgerError, tuple]
        keys = [(row["request_id"], row["attempt"]) for row in book.export_rows()]
        assert keys == [("req-1", 1), ("req-1", 2), ("req-2", 1), ("req-3", 1)]


def test_a_settlement_without_an_intent_is_reported_by_flush(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.settle(settled(9))
        book.settle(settled(1))
        with pytest.raises(LedgerError, match="refused"):
            book.flush_blocking()
        book.flush_blocking()
        assert [row["state"] for row in book.export_rows()] == ["settled"]


def test_many_begins_share_few_commits(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, *((request(number), intent(number)) for number in range(500)))
        assert book.commit_count < 50
        assert sum(1 for _ in book.export_rows()) == 500


def test_a_full_queue_holds_who_begins_and_loses_nothing(target: str) -> None:
    with ledger.open(target) as opened:
        book = ledger.Ledger(opened._store, clock=ManualClock(NOW), queue_rows=4)

        async def main() -> None:
            async def one(number: int) -> None:
                await book.begin(request(number), intent(number))
                book.settle(settled(number))

            await asyncio.gather(*(one(number) for number in range(200)))
            await book.flush()

        asyncio.run(main())
        assert [row["state"] for row in book.export_rows()] == ["settled"] * 200
        book.close()


def test_a_cancelled_begin_was_not_dispatched(target: str) -> None:
    with ledger.open(target) as book:

        async def main() -> None:
            task = asyncio.create_task(book.begin(request(), intent()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await book.flush()

        asyncio.run(main())
        states = [(row["state"], row["charge_usd"]) for row in book.export_rows()]
        assert states == [("failed", "0.000000")]


def test_a_cancelled_repetition_does_not_touch_what_is_settled(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.settle(settled())

        async def main() -> None:
            task = asyncio.create_task(book.begin_attempt(intent()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await book.flush()

        asyncio.run(main())
        assert [row["state"] for row in book.export_rows()] == ["settled"]


def test_spend_adds_up_by_workload_and_tier(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(
            book,
            (request(1), intent(1)),
            (request(2), intent(2, tier="box")),
            (request(3, workload="code"), intent(3, high=9_000)),
        )
        book.settle(settled(1, charge=1_000))
        book.settle(settled(2, charge=500))
        book.refuse(request(4, workload="code"), reason="no", status=403)
        book.flush_blocking()
        by_group = {tuple(row.group.values()): row for row in book.query_spend()}
        assert by_group["support", "cloud"].spend.settled_picousd == 1_000
        assert by_group["support", "box"].output_tokens == 20
        in_flight = by_group["code", "cloud"]
        assert (in_flight.spend.unsettled_attempts, in_flight.spend.high_picousd) == (1, 9_000)
        assert by_group["code", None].refused_requests == 1
        (total,) = book.query_spend(by=())
        assert (total.requests, total.attempts) == (4, 3)
        assert (total.spend.low_picousd, total.spend.high_picousd) == (1_500, 10_500)
        assert [row.group for row in book.query_spend(by=("day",))] == [{"day": "2026-11-01"}]
        assert book.query_spend(by=(), since=NOW + timedelta(days=1)) == []
        (keyed,) = book.query_spend(by=("model",), workload="support", tier="box")
        assert keyed.attempts == 1


def test_a_tasks_cost_is_all_its_attempts(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(1, task="agent"), intent(1)))
        begin_all(book, (request(2, task="agent"), intent(2)))

        async def retry() -> None:
            await book.begin_attempt(intent(1, 2))

        asyncio.run(retry())
        book.settle(settle_as("failed", 1, 1))
        book.settle(settled(1, 2, charge=10))
        book.settle(settle_as("unsettled", 2, 1, charge_low_picousd=2, charge_high_picousd=30))
        book.flush_blocking()
        (task,) = book.query_tasks()
        assert (task.task_id, task.basis, task.requests, task.attempts) == ("agent", "explicit", 2, 3)
        assert (task.spend.settled_picousd, task.spend.low_picousd, task.spend.high_picousd) == (10, 12, 40)
        assert task.outcome is None


def test_the_outcome_of_the_highest_source_counts(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))

        def say(source: str, *, completed: bool, minutes: float | None = None) -> None:
            when = NOW + timedelta(days=30)
            book.record_outcome(
                Outcome(
                    task_id="task-1",
                    completed=completed,
                    source=source,  # type: ignore[arg-type]
                    recorded_at=when,
                    human_minutes=minutes,
                )
            )

        say("user", completed=True)
        say("user", completed=True)
        say("system", completed=False)
        assert [(o.source, o.completed) for o in book.query_outcomes()] == [("user", True), ("system", False)]
        say("human", completed=False, minutes=2)
        say("user", completed=True)
        say("human", completed=True, minutes=3)
        (task,) = book.query_tasks()
        assert task.outcome is not None
        assert (task.outcome.source, task.outcome.completed, task.outcome.human_minutes) == ("human", True, 3.0)


def test_an_outcome_without_a_task_is_refused(target: str) -> None:
    with ledger.open(target) as book, pytest.raises(LedgerError, match="no task 'nowhere'"):
        book.record_outcome(Outcome(task_id="nowhere", completed=True, source="user", recorded_at=NOW))


def test_imported_and_own_traffic_come_in_order_of_arrival(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(10), intent(10)), (request(11, task="agent"), intent(11)), (request(12), intent(12)))
        book.settle(settled(10))
        book.settle(settled(11))
        rows = [
            TrafficRow(
                input_tokens=7,
                output_tokens=3,
                started_at=NOW,
                workload="code",
                session="s1",
                model="m",
                charge_usd=Decimal("0.5"),
                completed=True,
                source_row_id="a",
            ),
            TrafficRow(input_tokens=8, output_tokens=4, arrival_s=2.5, cached_input_tokens=1, workload="code"),
        ]
        book.flush_blocking()
        book.import_traffic(rows, "log")
        columns = book.query_traffic()
        assert columns.first_arrival_at == NOW
        assert list(columns.arrival_s) == [0.0, 2.5, 10.001, 11.001]
        assert list(columns.input_tokens) == [7, 8, 90, 90]
        assert list(columns.cached_is_known) == [0, 1, 1, 1]
        assert list(columns.cached_input_tokens) == [0, 1, 30, 30]
        assert [columns.session.value(row) for row in range(4)] == ["s1", None, None, "agent"]
        assert [columns.model.value(row) for row in range(4)] == ["m", None, "gpt-4o-2024", "gpt-4o-2024"]
        assert len(book.query_traffic("code")) == 2
        assert [(w.workload, w.own_requests, w.imported_requests) for w in book.query_workloads()] == [
            ("code", 0, 2),
            ("support", 3, 0),
        ]


def test_what_imported_requests_wrote_to_a_cache_is_kept_and_added_where_a_file_comes_again(target: str) -> None:
    with ledger.open(target) as book:
        without = TrafficRow(input_tokens=9, output_tokens=1, arrival_s=1.0, source_row_id="a")
        book.import_traffic([without], "log")
        assert list(book.query_traffic().cache_write_tokens) == [0]
        written = replace(without, cache_write_tokens=7, cache_write_1h_tokens=3)
        rows = [written, TrafficRow(input_tokens=1, output_tokens=1, arrival_s=2.0)]
        assert book.import_traffic(rows, "log") == ImportCount(imported=1, duplicates=1)
        assert list(book.query_traffic().cache_write_tokens) == [7, 0]
        assert list(book.query_traffic().cache_write_1h_tokens) == [3, 0]


def test_what_a_served_request_wrote_for_an_hour_is_part_of_the_traffic(target: str) -> None:
    usage = Usage(input_tokens=90, output_tokens=20, cache_write_tokens=7, cache_write_1h_tokens=3)
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.settle(settled(usage=usage))
        book.flush_blocking()
        assert list(book.query_traffic().cache_write_1h_tokens) == [3]


def test_what_trials_asked_is_no_traffic_to_plan_for(target: str) -> None:
    """Both tiers were asked, as fast as they answered: a month made of that is nobody's."""
    with ledger.open(target) as book:
        for number, task in enumerate(["trial_01M83SVRV51A293W2F32A9FNDC/api/0", "trial_of_a_client/7"], start=1):
            begin_all(book, (request(number, task_id=task, task_basis="explicit"), intent(number)))
            book.settle(settled(number))
        book.flush_blocking()
        assert [book.query_traffic().session.value(row) for row in range(len(book.query_traffic()))] == [
            "trial_of_a_client/7"
        ]


def test_a_retried_request_arrives_once_in_the_traffic(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        asyncio.run(book.begin_attempt(intent(1, 2)))
        asyncio.run(book.begin_attempt(intent(1, 3)))
        book.settle(settle_as("failed", 1, 1))
        book.settle(settled(1, 2))
        book.settle(settled(1, 3))
        book.flush_blocking()
        assert len(book.query_traffic()) == 1


def test_importing_again_counts_duplicates_exactly(target: str) -> None:
    same = TrafficRow(input_tokens=1, output_tokens=2, started_at=NOW)
    named = [TrafficRow(input_tokens=n, output_tokens=1, source_row_id=f"row-{n}") for n in range(100)]
    with ledger.open(target) as book:
        counts = [
            book.import_traffic([same, same, *named], "file"),
            book.import_traffic([same, same, same, *named[50:], *named[50:]], "file"),
            book.import_traffic([same], "another file"),
        ]
        assert [(count.imported, count.duplicates) for count in counts] == [(102, 0), (1, 102), (1, 0)]
        assert len(book.query_traffic()) == 104


def test_a_request_that_another_export_of_the_log_has_too_is_imported_once(target: str) -> None:
    def row(number: int, **changed: Any) -> TrafficRow:
        stated: dict[str, Any] = {
            "source_row_id": f"r{number}",
            "started_at": NOW,
            "input_tokens": 9,
            "output_tokens": 1,
        }
        return TrafficRow(**stated | {"cache_write_tokens": 3} | changed)

    other = [
        row(1, started_at=NOW + timedelta(seconds=1)),  # a number that two logs give to requests of their own
        row(2, output_tokens=2),
        row(3, started_at=None),
        row(4, source_row_id="row-4"),  # no id but the row's content
    ]
    with ledger.open(target) as book:
        counts = [
            book.import_traffic([*map(row, range(4)), row(4, source_row_id="row-4")], "first week"),
            book.import_traffic([*map(row, range(6))], "both weeks"),
            book.import_traffic([*map(row, range(6))], "both weeks"),
            book.import_traffic(other, "another log"),
        ]
        assert [(count.imported, count.duplicates) for count in counts] == [(5, 0), (2, 4), (0, 6), (4, 0)]
        assert sum(book.query_traffic().cache_write_tokens) == 3 * 11


def test_an_import_that_breaks_leaves_nothing(target: str) -> None:
    class Broken(Exception):
        pass

    def rows() -> object:
        yield from (TrafficRow(input_tokens=n, output_tokens=1) for n in range(20_000))
        raise Broken

    with ledger.open(target) as book:
        with pytest.raises(Broken):
            book.import_traffic(rows(), "file")  # type: ignore[arg-type]
        assert len(book.query_traffic()) == 0
        assert book.import_traffic([], "file").imported == 0


def test_begins_go_on_while_a_slow_reader_is_imported(target: str) -> None:
    with ledger.open(target, busy_timeout_s=2) as book:

        def rows() -> object:
            for number in range(5):
                begin_all(book, (request(number), intent(number)))
                yield TrafficRow(input_tokens=number, output_tokens=1)

        assert book.import_traffic(rows(), "file").imported == 5  # type: ignore[arg-type]


def test_keys_are_kept_as_hashes_and_can_be_revoked(target: str) -> None:
    with ledger.open(target) as book:
        secret = book.create_key("ada", {"workloads": ["support"]})
        assert secret.startswith("ow-")
        key = book.verify_key(secret)
        assert key is not None
        assert (key.name, key.scopes) == ("ada", {"workloads": ["support"]})
        assert key.secret_hash == ledger.hash_secret(secret)
        assert secret not in repr(key)
        assert key.secret_hash not in repr(key)
        assert book.verify_key(secret + "x") is None
        book.revoke_key(key.key_id)
        book.revoke_key(key.key_id)
        assert book.verify_key(secret) is None
        assert [listed.revoked_at is not None for listed in book.list_keys()] == [True]
        with pytest.raises(LedgerError, match="no key"):
            book.revoke_key("key_nobody")


def test_plans_prices_and_certificates_come_back(target: str) -> None:
    price = Price(
        provider="p",
        model="m",
        input_usd_per_mtok=Decimal("0.15"),
        output_usd_per_mtok=Decimal("0.6"),
        basis="price page",
        source="page",
        checked_on=NOW.date(),
    )
    with ledger.open(target) as book:
        for text in ("schema = 1\n", "another text\n"):
            book.snapshot_plan("a" * 64, text)
        book.snapshot_price(price)
        book.snapshot_price(price)
        book.record_certificate({"workload": "support", "state": "certified", "expires_at": NOW, "e_value": 31.5})
        book.record_certificate({"workload": "code", "state": "refuted", "expires_at": None})
        book.record_certificate({"workload": "day", "state": "certified", "expires_at": "2026-12-01"})
        book.record_workload("support", {"fingerprint": "ab"})
        book.record_workload("support", {"fingerprint": "cd"})
        assert book.query_plan("a" * 64) == "schema = 1\n"
        assert book.query_plan("b" * 64) is None
        stored = book.query_price(price.price_id)
        assert stored is not None
        assert Decimal(stored["input_usd_per_mtok"]) == Decimal("0.15")
        assert [c.state for c in book.query_certificates()] == ["certified", "refuted", "certified"]
        assert book.query_certificates("day")[0].expires_at == datetime(2026, 12, 1, tzinfo=UTC)
        (mine,) = book.query_certificates("support")
        assert (mine.expires_at, mine.certificate["e_value"]) == (NOW, 31.5)
        assert [w.details for w in book.query_workloads()] == [{"fingerprint": "cd"}]


def test_bodies_are_deleted_when_their_time_is_over(target: str) -> None:
    clock = ManualClock(NOW)
    with ledger.open(target, clock=clock) as book:
        begin_all(book, (request(), intent()))
        for days in (1, 3):
            book.capture_body(
                request_id="req-1",
                attempt=None,
                kind="request",
                content=b"\x00\xffbody",
                expires_at=NOW + timedelta(days=days),
            )
        assert [body.content for body in book.query_bodies(workload="support")] == [b"\x00\xffbody"] * 2
        clock.advance(2 * 86_400)
        assert book.delete_expired_bodies() == 1
        assert len(list(book.query_bodies(request_id="req-1"))) == 1


def test_texts_from_clients_that_no_database_takes_are_recorded_all_the_same(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(1, task="t\x00\ud800", workload="w\x00", route="\udfff"), intent()))
        book.settle(settle_as("unsettled", error="bad \x00 byte \ud83d"))
        book.record_outcome(
            Outcome(task_id="t\x00\ud800", completed=True, source="user", recorded_at=NOW, comment="\x00")
        )
        book.flush_blocking()
        (task,) = book.query_tasks()
        assert task.outcome is not None


def test_streaming_readers_do_not_hold_up_the_writer(target: str) -> None:
    with ledger.open(target, busy_timeout_s=2) as book:
        begin_all(book, *((request(number), intent(number)) for number in range(2_000)))
        rows = book.export_rows()
        next(rows)
        book.settle(settled(1))
        book.flush_blocking()
        assert sum(1 for _ in rows) == 1_999
        abandoned = book.query_requests()
        next(abandoned)
        abandoned.close()


def test_two_ledgers_write_at_once(target: str) -> None:
    def work(book: ledger.Ledger, numbers: range) -> None:
        async def main() -> None:
            for number in numbers:
                await book.begin(request(number), intent(number))
                book.settle(settled(number))
            await book.flush()

        asyncio.run(main())

    with ledger.open(target) as one, ledger.open(target) as two:
        threads = [Thread(target=work, args=pair) for pair in ((one, range(100)), (two, range(100, 200)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [row["state"] for row in one.export_rows()] == ["settled"] * 200


def test_writers_that_meet_at_the_same_tasks_do_not_block_each_other(target: str) -> None:
    faults: list[LedgerError] = []

    def work(book: ledger.Ledger, name: int, order: int) -> None:
        async def main() -> None:
            for turn in range(15):
                numbers = range(20)[::order]
                await asyncio.gather(
                    *(
                        book.begin(
                            request(1_000 * name + 20 * turn + number, task=f"shared-{turn}-{number}"),
                            intent(1_000 * name + 20 * turn + number),
                        )
                        for number in numbers
                    )
                )

        try:
            asyncio.run(main())
        except LedgerError as error:
            faults.append(error)

    with ledger.open(target) as one, ledger.open(target) as two:
        threads = [Thread(target=work, args=arguments) for arguments in ((one, 1, 1), (two, 2, -1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert {task.requests for task in one.query_tasks()} == {2}


def test_opening_at_once_migrates_once(target: str) -> None:
    faults: list[LedgerError] = []

    def opened() -> None:
        try:
            ledger.open(target).close()
        except LedgerError as error:
            faults.append(error)

    threads = [Thread(target=opened) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_later_schema_is_refused_unchanged(target: str) -> None:
    with ledger.open(target) as book:
        book._writer.run(lambda c: c.execute("INSERT INTO migrations VALUES ('9999_from_the_future', 0)"))
    for is_read_only in (False, True):
        with pytest.raises(SchemaTooNew, match="9999_from_the_future"):
            ledger.open(target, is_read_only=is_read_only)


def test_columns_that_a_later_version_adds_refuse_nothing_to_a_gateway_that_runs(target: str) -> None:
    """A rolling upgrade: the new version has migrated the ledger while an old gateway still writes it."""
    is_postgres = target.startswith("postgres")
    listed = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    in_file = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    price = Price(
        provider="p",
        model="m",
        input_usd_per_mtok=Decimal(1),
        output_usd_per_mtok=Decimal(1),
        basis="price page",
        source="page",
        checked_on=NOW.date(),
    )
    budget = BudgetCheck(
        kind="workload", name="support", limit_picousd=10**9, starts_at=NOW, ends_at=NOW + timedelta(days=1)
    )
    limits = [
        LimitTake(key_id="k", kind="requests", amount=1, per_minute=9, is_bucket=True),
        LimitTake(key_id="k", kind="tokens", amount=1, per_minute=9, is_bucket=False),
    ]
    with ledger.open(target) as old, ledger.open(target) as new:
        tables = [name for (name,) in new._writer.run(lambda c: c.rows(listed if is_postgres else in_file))]
        assert {"tasks", "requests", "intents", "settlements", "runs", "keys", "budget_accounts"} <= set(tables)
        for table in tables:
            new._writer.run(lambda c, sql=f"ALTER TABLE {table} ADD COLUMN later TEXT DEFAULT 'x'": c.execute(sql))
        old.open_budgets([budget])
        asyncio.run(old.begin(request(), intent(), budgets=[budget], limits=limits))
        old.settle(settled())
        old.refuse(request(2), reason="no room", status=503)
        old.flush_blocking()
        assert old.verify_key(old.create_key("ada", {})) is not None
        old.snapshot_plan("a" * 64, "text")
        old.snapshot_price(price)
        old.record_workload("support", {})
        old.record_certificate({"workload": "support", "state": "refuted", "expires_at": None})
        old.record_outcome(Outcome(task_id="task-1", completed=True, source="verifier", recorded_at=NOW))
        old.capture_body(request_id="req-1", attempt=None, kind="request", content=b"", expires_at=NOW)
        old.import_traffic([TrafficRow(input_tokens=1, output_tokens=1, arrival_s=1.0, cache_write_tokens=1)], "log")
        assert [row["state"] for row in old.export_rows()] == ["settled", "refused"]
        with ledger.open(target) as another:  # with a run of its own
            begin_all(another, (request(3), intent(3)))


def test_reading_only_makes_and_changes_nothing(target: str) -> None:
    with pytest.raises(LedgerError, match="no"):
        ledger.open(target, is_read_only=True)
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
    with ledger.open(target, is_read_only=True) as book:
        assert len(list(book.export_rows())) == 1
        with pytest.raises(LedgerError, match="reading only"):
            book.settle(settled())
        with pytest.raises(LedgerError, match="reading only"):
            book.create_key("ada")
        with pytest.raises(LedgerError, match="reading only"):
            book.import_traffic([], "file")


def test_a_closed_ledger_refuses_and_closing_again_is_harmless(target: str) -> None:
    book = ledger.open(target)
    begin_all(book, (request(), intent()))
    book.close()
    book.close()
    with pytest.raises(LedgerError, match="closed"):
        book.settle(settled())
    with pytest.raises(LedgerError, match="closed"):
        begin_all(book, (request(2), intent(2)))


def test_exported_rows_are_json(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, (request(), intent()))
        book.refuse(request(2), reason="no", status=403)
        book.flush_blocking()
        assert all(json.loads(json.dumps(row)) == row for row in book.export_rows())


def test_filters_of_requests_and_tasks(target: str) -> None:
    with ledger.open(target) as book:
        begin_all(book, *((request(number, key_id=f"key-{number % 2}"), intent(number)) for number in range(6)))
        newest = [row.request_id for row in book.query_requests(newest_first=True, limit=2)]
        assert newest == ["req-5", "req-4"]
        assert len(list(book.query_requests(key_id="key-1"))) == 3
        assert len(list(book.query_requests(since=NOW + timedelta(seconds=2), until=NOW + timedelta(seconds=4)))) == 2
        assert [t.task_id for t in book.query_tasks(newest_first=True, limit=1)] == ["task-5"]
        assert [t.task_id for t in book.query_tasks(task_id="task-2")] == ["task-2"]
        with pytest.raises(LedgerError, match="grouped by"):
            book.query_spend(by=("colour",))  # type: ignore[arg-type]


@pytest.mark.postgres
def test_a_cut_connection_is_made_again(postgres_server: str, new_postgres: Callable[[], str]) -> None:
    import psycopg

    def cut() -> None:
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ownward'")

    with ledger.open(new_postgres()) as book:
        begin_all(book, (request(), intent()))
        cut()
        book.settle(settled())
        book.flush_blocking()
        assert [row["state"] for row in book.export_rows()] == ["settled"]
        cut()
        begin_all(book, (request(2), intent(2)))
        assert len(list(book.export_rows())) == 2


@pytest.mark.postgres
def test_readers_that_the_server_cut_meanwhile_are_replaced_unnoticed(
    postgres_server: str, new_postgres: Callable[[], str]
) -> None:
    import psycopg

    with ledger.open(new_postgres()) as book:
        secret = book.create_key("k")
        assert book.verify_key(secret) is not None
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ownward' AND pid <> pg_backend_pid()"
            )
            alive = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ownward'"
            while admin.execute(alive).fetchall():
                time.sleep(0.01)
        time.sleep(0.05)  # the end of a connection that the server has forgotten is on its way
        assert book.verify_key(secret) is not None


def encoded(postgres_server: str, address: str, encoding: str) -> str:
    """Makes the empty database of an address anew."""
    import psycopg

    name = address.rpartition("/ledger_")[2].partition("?")[0]
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE ledger_{name}")  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE ledger_{name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")  # type: ignore[arg-type]
    return address


@pytest.mark.postgres
def test_a_database_that_lacks_characters_is_refused_before_their_rows_are_lost(
    postgres_server: str, new_postgres: Callable[[], str]
) -> None:
    import psycopg

    address = encoded(postgres_server, new_postgres(), "LATIN1")
    with pytest.raises(LedgerError, match="LATIN1") as refused:
        ledger.open(address)
    assert "--encoding UTF8" in str(refused.value)
    with psycopg.connect(address) as admin:
        assert not admin.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'ownward'").fetchall()


@pytest.mark.postgres
def test_a_database_of_no_encoding_keeps_texts_as_texts(postgres_server: str, new_postgres: Callable[[], str]) -> None:
    address = encoded(postgres_server, new_postgres(), "SQL_ASCII")
    with ledger.open(address) as book:
        secret = book.create_key("Zoë")
        begin_all(book, (request(workload="größe"), intent()))
        assert [row["workload"] for row in book.export_rows()] == ["größe"]
        key = book.verify_key(secret)
        assert key is not None
        assert key.name == "Zoë"


@pytest.mark.postgres
def test_a_user_without_rights_on_the_database_writes_in_a_schema_that_was_made_for_it(
    new_postgres: Callable[[], str],
) -> None:
    import psycopg

    address = new_postgres()
    name = f"clerk_{secrets.token_hex(4)}"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")  # type: ignore[arg-type]
        with pytest.raises(LedgerError, match="permission denied"):
            ledger.open(address.replace("owner@", f"{name}@"))
        admin.execute(f"CREATE SCHEMA ownward; GRANT USAGE, CREATE ON SCHEMA ownward TO {name}")  # type: ignore[arg-type]
    with ledger.open(address.replace("owner@", f"{name}@")) as book:
        begin_all(book, (request(), intent()))
        assert [row["state"] for row in book.export_rows()] == ["intent"]


@pytest.mark.postgres
def test_power_insists_on_a_flushed_commit(new_postgres: Callable[[], str]) -> None:
    address = new_postgres() + "&options=-csynchronous_commit%3Doff"
    for durability, setting in (("process", "off"), ("power", "on")):
        with ledger.open(address, durability=durability) as book:  # type: ignore[arg-type]
            assert book._writer.run(lambda c: c.rows("SHOW synchronous_commit")) == [(setting,)]


@pytest.mark.postgres
def test_a_host_that_is_gone_without_a_word_is_waited_for_half_a_minute_unless_the_address_says_otherwise(
    new_postgres: Callable[[], str],
) -> None:
    address = new_postgres()
    for stated, waited_ms in (("", "30000"), ("&tcp_user_timeout=5000", "5000")):
        with ledger.open(address + stated) as book:
            raw = book._writer.run(lambda c: c.raw)  # type: ignore[attr-defined]
            assert raw.info.get_parameters()["tcp_user_timeout"] == waited_ms


@pytest.mark.postgres
def test_sums_over_a_whole_ledger_in_postgres_join_newest_settlements_once_and_say_what_the_view_says(
    new_postgres: Callable[[], str],
) -> None:
    """For each attempt a look for the greatest id took twice as long."""
    with ledger.open(new_postgres()) as book:
        for number in range(1, 5):
            begin_all(book, (request(number), intent(number)))
        for charge in (1_000, 2_000):
            book.settle(settled(1, charge=charge))
        book.settle(settled(2, charge=None))
        book.refuse(request(9), reason="no", status=400)
        book.flush_blocking()
        with book._store.reading() as reader:
            read, view = book._store.attempts, "attempts"
            both = [sorted(reader.rows(f"SELECT * FROM {source} a"), key=str) for source in (read, view)]
            assert both[0] == both[1]
            assert len(both[0]) == 5
            plans = [str(reader.rows(f"EXPLAIN SELECT SUM(charge_picousd) FROM {source} a")) for source in (read, view)]
            assert ["SubPlan" in plan for plan in plans] == [False, True]
            assert reader.rows("SHOW cursor_tuple_fraction") == [("1",)]


class _ShiftedClock(SystemClock):
    """This machine's clock, so far from what it says."""

    def __init__(self, by_s: float) -> None:
        self.now = lambda: datetime.now(UTC) + timedelta(seconds=by_s)  # type: ignore[method-assign,misc]


@pytest.mark.parametrize("by_s", [180.0, -180.0])
def test_how_far_the_clock_is_from_the_servers_is_known_and_a_file_has_none(target: str, by_s: float) -> None:
    with ledger.open(target, clock=_ShiftedClock(by_s)) as book:
        lead_s = book.query_clock_lead_s()
    assert lead_s == (0.0 if target.endswith(".db") else pytest.approx(by_s, abs=1.0))


@pytest.mark.postgres
def test_clocks_that_agree_are_not_told_apart_by_a_slow_answer(
    new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownward.ledger._postgres import PostgresStore

    ask = PostgresStore.time_us

    def ask_slowly(store: PostgresStore) -> int:
        time.sleep(0.2)
        now_us = ask(store)
        time.sleep(0.2)
        return now_us

    monkeypatch.setattr(PostgresStore, "time_us", ask_slowly)
    with ledger.open(new_postgres()) as book:
        assert book.query_clock_lead_s() == 0.0


@pytest.mark.postgres
def test_a_wrong_address_is_our_error_without_the_password() -> None:
    with pytest.raises(LedgerError) as caught:
        ledger.open("postgresql://ada:hunter2@127.0.0.1:1/books")
    assert "hunter2" not in str(caught.value)
    assert caught.value.where == "postgresql://127.0.0.1:1/books"
    assert caught.value.next_step
