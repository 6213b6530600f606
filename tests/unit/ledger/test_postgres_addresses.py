"""An address of PostgreSQL never tells its password, and what stays on this machine is told by where it leads."""

from __future__ import annotations

from pathlib import Path

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
