"""PostgreSQL goes away in the middle: what was begun and settled stands once, and nothing is held that nobody sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.core import LedgerError
from ownward.ledger import BudgetCheck, Ledger, LimitTake
from ownward.ledger._connection import Connection

pytestmark = pytest.mark.postgres
psycopg = pytest.importorskip("psycopg")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BUDGET = BudgetCheck(kind="workload", name="w", limit_picousd=10**6, starts_at=NOON, ends_at=NOON + timedelta(days=1))


class Server:
    """A server that is lost at commits of calls, of which `is_made` says whether it makes them all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ownward.ledger._postgres import PostgresConnection, PostgresStore

        self.is_made = True
        self.losses = 0  # commits that will not be answered
        self.is_away = False  # cannot be connected to
        commit, connect = PostgresConnection.commit, PostgresStore.connect

        def commit_or_lose(connection: PostgresConnection) -> None:
            if not self.losses:
                commit(connection)
                return
            self.losses -= 1
            if self.is_made:
                commit(connection)
            connection.raw.close()
            self.is_away = self.is_away_afterwards
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        def connect_or_fail(store: PostgresStore) -> PostgresConnection:
            if self.is_away:
                raise psycopg.OperationalError("connection refused")
            return connect(store)

        self.is_away_afterwards = False
        monkeypatch.setattr(PostgresConnection, "commit", commit_or_lose)
        monkeypatch.setattr(PostgresStore, "connect", connect_or_fail)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def take(amount: int) -> LimitTake:
    return LimitTake(key_id="k", kind="tokens", amount=amount, per_minute=100, is_bucket=True)


async def begin(book: Ledger, name: str, held: LimitTake) -> bool:
    try:
        await book.begin(
            usual_request(name, at=NOON, key_id="k"),
            usual_intent(name, at=NOON, high=9),
            budgets=(BUDGET,),
            limits=(held,),
        )
    except LedgerError:
        return False
    return True


def remaining(book: Ledger) -> int:
    async def ask() -> int:
        (state,) = await book.begin(
            usual_request("asks", at=NOON, key_id="k"), usual_intent("asks", at=NOON, high=0), limits=(take(0),)
        )
        return state.remaining

    return asyncio.run(ask())


def states(book: Ledger) -> Counter[str]:
    return Counter(row["state"] for row in book.export_rows())


@pytest.mark.parametrize("is_made", [False, True])
def test_calls_whose_commit_was_never_answered_are_begun_once_and_refused_to_nobody(
    new_postgres: Callable[[], str], server: Server, is_made: bool
) -> None:
    async def main(book: Ledger) -> None:
        assert await begin(book, "before", take(10))
        server.losses, server.is_made = 1, is_made
        assert all(await asyncio.gather(*(begin(book, f"r{number}", take(10)) for number in range(6))))

    with ledger.open(new_postgres()) as book:
        asyncio.run(main(book))
        assert server.losses == 0
        assert states(book) == {"intent": 7}
        assert book.query_budgets([BUDGET])[0].reserved_picousd == 7 * 9
        assert remaining(book) == 30


@pytest.mark.parametrize("is_made", [False, True])
def test_a_call_that_was_refused_for_a_lost_commit_holds_nothing_once_the_server_is_back(
    new_postgres: Callable[[], str], server: Server, is_made: bool
) -> None:
    """Nothing was sent for it, and its own process would be the only one to give back what it holds."""
    with ledger.open(new_postgres()) as book:
        held = take(10)
        assert asyncio.run(begin(book, "before", held))
        server.losses, server.is_made, server.is_away_afterwards = 1, is_made, True
        assert not asyncio.run(begin(book, "lost", take(50)))
        book.settle(usual_settlement("before", at=NOON, charge=4), releases=((held, 2),))
        server.is_away = False
        book.flush_blocking()
        expected = {"settled": 1, "failed": 1} if is_made else {"settled": 1}
        deadline = time.monotonic() + 10
        while states(book) != expected:
            assert time.monotonic() < deadline, states(book)
            time.sleep(0.05)
        (state,) = book.query_budgets([BUDGET])
        assert (state.spent_picousd, state.reserved_picousd) == (4, 0)
        assert remaining(book) == 98


@pytest.mark.parametrize("is_made", [False, True])
def test_a_settlement_whose_commit_was_never_answered_is_written_and_counted_once(
    new_postgres: Callable[[], str], server: Server, is_made: bool
) -> None:
    with ledger.open(new_postgres()) as book:
        held, other = take(40), take(40)
        assert asyncio.run(begin(book, "r", held))
        assert asyncio.run(begin(book, "other", other))
        server.losses, server.is_made, server.is_away_afterwards = 1, is_made, True
        book.settle(usual_settlement("r", at=NOON, charge=4), releases=((held, 5),))
        with pytest.raises(LedgerError):
            book.flush_blocking()
        server.is_away = False
        deadline = time.monotonic() + 10
        while states(book) != {"settled": 1, "intent": 1}:
            assert time.monotonic() < deadline, states(book)
            time.sleep(0.05)
        book.flush_blocking()
        rows = book._writer.run(lambda connection: connection.rows("SELECT COUNT(*) FROM settlements"))
        assert rows == [(1,)]
        assert remaining(book) == 55


def test_calls_are_refused_to_nobody_while_an_operator_ends_connections(
    postgres_server: str, new_postgres: Callable[[], str]
) -> None:
    async def main(book: Ledger) -> None:
        answers: list[bool] = []

        async def client(number: int) -> None:
            for turn in range(40):
                name, held = f"r{number}-{turn}", take(0)
                answers.append(await begin(book, name, held))
                book.settle(usual_settlement(name, at=NOON, charge=1), releases=((held, 0),))

        def end_connections() -> None:
            with psycopg.connect(postgres_server, autocommit=True) as admin:
                for _ in range(6):
                    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'ledger%'")
                    time.sleep(0.2)

        await asyncio.gather(asyncio.to_thread(end_connections), *(client(number) for number in range(8)))
        await book.flush()
        assert answers == [True] * 320

    with ledger.open(new_postgres()) as book:
        asyncio.run(main(book))
        assert states(book) == {"settled": 320}
        (state,) = book.query_budgets([BUDGET])
        assert (state.spent_picousd, state.reserved_picousd) == (320, 0)


def test_a_key_is_found_by_who_reads_while_an_operator_ends_the_connection(
    new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = new_postgres()
    with ledger.open(address) as book:
        secret = book.create_key("k")
        from ownward.ledger._postgres import PostgresConnection

        rows, ended = PostgresConnection.rows, []

        def rows_or_end(connection: PostgresConnection, sql: str, params: Sequence[object] = ()) -> list[Any]:
            if not ended:
                ended.append(connection)
                with psycopg.connect(address, autocommit=True) as admin:
                    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.raw.info.backend_pid,))
            return rows(connection, sql, params)

        monkeypatch.setattr(PostgresConnection, "rows", rows_or_end)
        assert book.verify_key(secret) is not None
        assert ended


def test_a_connection_that_ends_within_a_batch_refuses_nobody(
    new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg says that it cannot leave the batch, and holds the connection to be open until its end arrives."""
    from ownward.ledger._postgres import PostgresConnection

    execute_many, ended = PostgresConnection.execute_many, []

    def execute_or_end(connection: PostgresConnection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if ended:
            execute_many(connection, sql, rows)
            return
        ended.append(connection)
        connection.raw.pgconn.enter_pipeline_mode()
        raise psycopg.OperationalError("cannot exit pipeline mode while busy")

    with ledger.open(new_postgres()) as book:
        monkeypatch.setattr(PostgresConnection, "execute_many", execute_or_end)
        assert asyncio.run(begin(book, "r", take(10)))
        assert ended[0].is_lost


def test_a_server_that_only_read_for_a_while_is_written_again(new_postgres: Callable[[], str]) -> None:
    """A standby that is met before it is promoted takes connections, which would refuse each call until they end."""
    address = new_postgres()
    name = psycopg.conninfo.conninfo_to_dict(address)["dbname"]

    async def main() -> None:
        with ledger.open(address) as book, psycopg.connect(address, autocommit=True) as operator:
            await book.begin(usual_request("a", at=NOON), usual_intent("a", at=NOON))
            operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ownward'"
            )
            with pytest.raises(LedgerError, match="session is read-only") as caught:
                await book.begin(usual_request("b", at=NOON), usual_intent("b", at=NOON))
            assert "Name the server that can be written" in str(caught.value)
            with ledger.open(address, is_read_only=True) as standby:
                assert states(standby) == Counter(intent=1)
            operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await book.begin(usual_request("c", at=NOON), usual_intent("c", at=NOON))
            assert states(book) == Counter(intent=2)

    asyncio.run(main())


def test_a_statement_that_the_server_gave_no_time_says_what_to_set(new_postgres: Callable[[], str]) -> None:
    address = new_postgres()
    ledger.open(address).close()
    with (
        psycopg.connect(address) as other,
        ledger.open(f"{address}&options=-c%20statement_timeout%3D50", is_read_only=True) as book,
    ):
        other.execute("LOCK TABLE ownward.intents IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerError, match=r"SET statement_timeout = 0"):
            states(book)


def test_a_host_that_falls_silent_within_a_transaction_does_not_hold_up_the_others(
    new_postgres: Callable[[], str],
) -> None:
    """It has lost its power or its network: nothing would end its transaction for two hours."""
    address = new_postgres()
    with ledger.open(address, busy_timeout_s=3) as silent, ledger.open(address, busy_timeout_s=3) as book:
        connection = silent._store.connect_writer()
        try:
            connection.begin()
            silent._store.lock_budgets(connection)
            assert asyncio.run(begin(book, "r", take(10)))
        finally:
            connection.close()


def test_a_run_is_closed_on_a_connection_of_its_own_where_the_server_has_ended_the_writers(
    postgres_server: str, new_postgres: Callable[[], str]
) -> None:
    address = new_postgres()
    with ledger.open(address) as book:
        assert asyncio.run(begin(book, "r", take(10)))
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'ledger%'")
    with ledger.open(address) as book:
        rows = book._writer.run(lambda connection: connection.rows("SELECT COUNT(closed_at_us) FROM runs"))
        assert rows == [(1,)]


def test_a_server_that_is_set_to_serializable_transactions_is_asked_for_those_that_wait_and_do_not_fail(
    new_postgres: Callable[[], str],
) -> None:
    """Several hosts under load would fail five times in a row, and refuse calls for it."""
    address = new_postgres()
    database = address.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")

    def level(connection: Connection) -> object:
        return connection.rows("SHOW transaction_isolation")

    with ledger.open(address) as book, book._store.reading() as reader:
        assert book._writer.run(level) == level(reader) == [("read committed",)]


@pytest.mark.parametrize("is_made", [False, True])
def test_a_run_is_closed_where_the_connection_ends_as_it_says_so(
    new_postgres: Callable[[], str], server: Server, is_made: bool
) -> None:
    address = new_postgres()
    with ledger.open(address) as book:
        assert asyncio.run(begin(book, "r", take(10)))
        server.losses, server.is_made = 1, is_made
    assert server.losses == 0
    with ledger.open(address) as book:
        rows = book._writer.run(lambda connection: connection.rows("SELECT COUNT(closed_at_us) FROM runs"))
        assert rows == [(1,)]


def test_a_settlement_outlives_a_table_that_cannot_be_written_for_a_while(new_postgres: Callable[[], str]) -> None:
    """A right that was taken away, or a schema that was moved, is no fault of the row."""
    address = new_postgres()
    with psycopg.connect(address, autocommit=True) as admin, ledger.open(address) as book:
        assert asyncio.run(begin(book, "r", take(10)))
        admin.execute("ALTER TABLE ownward.settlements RENAME TO moved")
        book.settle(usual_settlement("r", at=NOON, charge=4))
        with pytest.raises(LedgerError, match="settlements"):
            book.flush_blocking()
        admin.execute("ALTER TABLE ownward.moved RENAME TO settlements")
        deadline = time.monotonic() + 10
        while states(book) != {"settled": 1}:
            assert time.monotonic() < deadline, states(book)
            time.sleep(0.05)


class Relay:
    """What stands between us and the server, and can stop passing anything on while it takes connections and bytes."""

    def __init__(self, server_socket: str) -> None:
        self.server_socket = server_socket
        self.flows = threading.Event()
        self.flows.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.server_socket)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.flows.wait()
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_frozen_is_given_up_and_nobody_waits_for_it_in_a_row(
    new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It acknowledges what it is sent, so that no time-out of TCP says anything."""
    monkeypatch.setattr("ownward.ledger._postgres_watch._SILENCE_S", 0.5)
    monkeypatch.setattr("ownward.ledger._postgres_watch._ANEW_S", 2)
    address = new_postgres()
    folder = address.partition("host=")[2]
    relay = Relay(f"{folder}/.s.PGSQL.5432")
    through = address.replace("@/", f"@127.0.0.1:{relay.port}/").partition("?")[0] + "?connect_timeout=3"
    with ledger.open(through) as book:
        secret = book.create_key("k")
        assert asyncio.run(begin(book, "r", take(10)))
        relay.flows.clear()
        began_s = time.monotonic()
        assert not asyncio.run(begin(book, "frozen", take(10)))
        assert time.monotonic() - began_s < 20
        assert book.is_failing
        with pytest.raises(LedgerError):
            book.verify_key(secret)
        book.settle(usual_settlement("r", at=NOON, charge=4))  # is tried again and again, which takes 3 s each
        deadline = time.monotonic() + 10
        while not book._writer._thread.takes_long:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        began_s = time.monotonic()
        assert not any(asyncio.run(begin(book, f"next{number}", take(1))) for number in range(10))
        assert time.monotonic() - began_s < 5, "and not 3 s each"
        relay.flows.set()
        deadline = time.monotonic() + 30
        while book.is_failing:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert asyncio.run(begin(book, "after", take(10)))
        book.flush_blocking()
    relay.listener.close()
    with ledger.open(address) as book:
        assert states(book)["settled"] == 1


def test_a_process_that_ends_does_not_wait_for_a_frozen_server_and_says_what_was_not_written(
    new_postgres: Callable[[], str],
) -> None:
    """Whoever ends it kills it after a while, and it would have said nothing."""
    address = new_postgres()
    folder = address.partition("host=")[2]
    relay = Relay(f"{folder}/.s.PGSQL.5432")
    book = ledger.open(address.replace("@/", f"@127.0.0.1:{relay.port}/").partition("?")[0])
    assert asyncio.run(begin(book, "r", take(10)))
    book.query_workloads()
    relay.flows.clear()

    def read() -> None:
        with pytest.raises(LedgerError):
            book.query_workloads()

    reading = threading.Thread(target=read)
    reading.start()
    book.settle(usual_settlement("r", at=NOON, charge=4))
    began_s = time.monotonic()
    book.hurry(1.0)
    with pytest.raises(LedgerError, match="what became of 1 call was not written"):
        book.close()
    reading.join()
    assert time.monotonic() - began_s < 5
    relay.flows.set()
    relay.listener.close()
    with ledger.open(address) as other:
        assert states(other) == {"intent": 1}, "and a gateway that starts settles it with its bounds"
