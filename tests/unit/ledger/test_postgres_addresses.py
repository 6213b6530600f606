"""An address of PostgreSQL never tells its password, and what stays on this machine is told by where it leads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from ownward import ledger
from ownward.core import LedgerError

pytest.importorskip("psycopg")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ada:pa%ss-hunter2@127.0.0.1:1/books",
        "postgresql://ada:hunter2 x@127.0.0.1:1/books",
        "postgresql://ada:12/hunter2@127.0.0.1:1/books",
        "postgresql://ada:x@hunter2@127.0.0.1:1/books",
        "postgresql://ada:hunter2@[::1:1/books",
        "postgresql://ada@127.0.0.1:1/books?password=hunter2%zz",
        "postgresql://ada@127.0.0.1:1/books?hunter2",
        "postgresql://ada:hunter2@127.0.0.1:1,127.0.0.1:2/books",
        "postgresql+psycopg://ada:hunter2@127.0.0.1:1/books",
        "POSTGRESQL://ada:hunter2@127.0.0.1:1/books",
        "mysql://ada:hunter2@127.0.0.1:1/books",
        "host=127.0.0.1 port=1 password=hunter2",
        "password = hunter2 host = 127.0.0.1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerError) as caught:
        ledger.open(address)
    told: BaseException | None = caught.value
    while told is not None and not told.__suppress_context__:
        assert "hunter2" not in f"{told}{told!r}{getattr(told, 'where', '')}"
        told = told.__cause__ or told.__context__
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == [], "no file is made that is called like an address"


@pytest.mark.parametrize(
    ("address", "environment", "stays"),
    [
        ("postgresql:///books", {}, True),
        ("postgresql:///books?host=/run/postgresql", {}, True),
        ("postgresql://%2Frun%2Fpostgresql/books", {}, True),
        ("postgresql://localhost/books", {}, True),
        ("postgresql://[::1]:5433/books", {}, True),
        ("postgresql://127.0.0.1,127.0.0.2/books", {}, True),
        ("postgresql://db.internal/books", {}, False),
        ("postgresql:///books?hostaddr=10.0.0.7", {}, False),
        ("postgresql://localhost/books?hostaddr=10.0.0.7", {}, False),
        ("postgresql:///books?host=/run/postgresql,db.internal", {}, False),
        ("postgresql://localhost,db.internal/books", {}, False),
        ("postgresql:///books?service=prod", {}, False),
        ("postgresql:///books", {"PGHOST": "db.internal"}, False),
        ("postgresql://localhost/books", {"PGHOSTADDR": "10.0.0.7"}, False),
        ("postgresql://localhost/books", {"PGHOST": "db.internal"}, True),
    ],
)
def test_what_is_written_stays_here_only_where_every_server_of_the_address_is_here(
    address: str, environment: dict[str, str], stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownward.ledger._postgres import PostgresStore

    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = PostgresStore(address, durability="process", busy_timeout_s=1)
    assert store.is_on_this_machine is stays


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("postgresql://ada:hunter2@db.internal:5433/books?sslmode=require", "postgresql://db.internal:5433/books"),
        ("postgresql://ada:hunter2@[2001:db8::1]:5433/books", "postgresql://[2001:db8::1]:5433/books"),
        ("postgresql://ada@a:1,b:2/books", "postgresql://a:1,b:2/books"),
        ("postgresql://ada:p%40ss@/books?host=/run/postgresql&port=5433", "postgresql:///books"),
    ],
)
def test_a_ledger_is_named_by_its_servers_and_its_database(address: str, name: str) -> None:
    from ownward.ledger._postgres import PostgresStore

    assert PostgresStore(address, durability="process", busy_timeout_s=1).name == name


class _Client:
    """A connection whose client was told one process of the server, and which others answer, by turns."""

    def __init__(self, *, told: int, answers: Sequence[int]) -> None:
        self.info = SimpleNamespace(backend_pid=told)
        self._answers = itertools.cycle(answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, sql: str) -> SimpleNamespace:
        assert sql == "SELECT pg_backend_pid()"
        return SimpleNamespace(fetchall=lambda: [(next(self._answers),)])


@pytest.mark.parametrize(
    ("clients", "is_refused"),
    [
        ([(7, [7])], False),  # the server itself
        ([(901, [7]), (902, [8])], False),  # a pooler that gives each a session
        ([(901, [7]), (902, [7])], True),  # one that shares a session among transactions
        ([(901, [7, 8]), (902, [9, 6])], True),  # one that has its sessions take turns
        ([(901, [7]), (902, [8, 9])], True),  # one whose other clients take some between
    ],
)
def test_a_pooler_that_shares_sessions_among_its_clients_is_refused_by_name(
    clients: list[tuple[int, list[int]]], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownward.ledger._postgres import PostgresStore

    store = PostgresStore("postgresql://db.internal/books", durability="process", busy_timeout_s=1)
    waiting = [_Client(told=told, answers=answers) for told, answers in clients]
    monkeypatch.setattr(PostgresStore, "_connect", lambda _: waiting.pop(0))
    with pytest.raises(LedgerError, match="pooler") if is_refused else nullcontext():
        store._refuse_shared_sessions()
    assert not waiting
