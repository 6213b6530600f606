"""What may become a ledger, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from ownward import ledger
from ownward.core import LedgerError, LedgerLocked, SchemaTooNew
from ownward.ledger import _schema, _sqlite, _sqlite_file, _store


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(target: Path, **options: bool) -> LedgerError:
    """Open what must be refused, check that nothing changed and that the error has its parts."""
    root = target if target.is_dir() else target.parent
    before = contents(root) if root.is_dir() else {}
    with pytest.raises(LedgerError) as caught:
        ledger.open(target, **options)  # type: ignore[arg-type]
    assert (contents(root) if root.is_dir() else {}) == before
    assert caught.value.exit_code == 5
    assert caught.value.where == str(target)
    assert caught.value.next_step
    return caught.value


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "folder" in refused(tmp_path).message


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    error = refused(tmp_path / "not" / "there.db")
    assert "mkdir -p" in str(error)


@pytest.mark.parametrize("text", [b"schema = 1\n", b"\x00" * 4096, b"SQLite format 2\x00"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(text)
    assert "not a SQLite database" in refused(path).message


def test_a_cut_off_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\x07" * 200)
    refused(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE migrations (name TEXT)")
    connection.close()
    assert "another program" in refused(path).message


def test_a_missing_file_is_not_made_for_reading(tmp_path: Path) -> None:
    refused(tmp_path / "ledger.db", is_read_only=True)


def test_a_place_without_write_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)  # root may write anywhere
    assert "not writable" in refused(tmp_path / "ledger.db").message


def test_a_folder_that_may_not_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_options: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(LedgerError, match="cannot be opened: Permission denied"):
        ledger.open(tmp_path / "ledger.db")


def test_a_ledger_in_a_read_only_place_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    ledger.open(path).close()
    before = contents(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)
    with ledger.open(path, is_read_only=True) as book:
        assert list(book.export_rows()) == []
        assert contents(tmp_path) == before, "not even the log's files beside it"


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    ledger.open(path).close()
    with ledger.open(path, is_read_only=True) as book:
        assert list(book.export_rows()) == []


def test_a_path_with_odd_letters_is_that_path(tmp_path: Path) -> None:
    path = tmp_path / "a ?mode=memory&x#é%41.db"
    ledger.open(path).close()
    assert path.is_file()


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="durability"):
        ledger.open(tmp_path / "ledger.db", durability="for ever")  # type: ignore[arg-type]
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_is_sqlites_synchronous(tmp_path: Path, durability: str, synchronous: int) -> None:
    with ledger.open(tmp_path / "ledger.db", durability=durability) as book:  # type: ignore[arg-type]
        pragma = book._writer.run(lambda c: (c.rows("PRAGMA synchronous"), c.rows("PRAGMA journal_mode")))
    assert pragma == ([(synchronous,)], [("wal",)])


def test_a_migration_that_fails_half_way_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    ledger.open(path).close()
    broken = _schema.Migration(name="0002_broken", statements=("CREATE TABLE extra (a {int})", "CREATE GARBAGE"))
    for module in (_schema, _store, _sqlite_file):
        monkeypatch.setattr(module, "MIGRATIONS", (*_schema.MIGRATIONS, broken))
    with pytest.raises(LedgerError, match="GARBAGE"):
        ledger.open(path)
    monkeypatch.undo()
    with ledger.open(path) as book:
        tables = book._writer.run(lambda c: c.rows("SELECT name FROM sqlite_master WHERE name = 'extra'"))
    assert tables == []


def test_a_new_migration_is_applied_to_an_old_ledger_and_then_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    ledger.open(path).close()
    with monkeypatch.context() as later:
        added = _schema.Migration(name="9999_more", statements=("CREATE TABLE extra (a {int})",))
        known = _schema.MIGRATIONS
        for module in (_schema, _store, _sqlite_file):
            later.setattr(module, "MIGRATIONS", (*known, added))
        with pytest.raises(LedgerError, match="9999_more"):
            ledger.open(path, is_read_only=True)
        ledger.open(path).close()
        ledger.open(path, is_read_only=True).close()
    with pytest.raises(SchemaTooNew, match="9999_more"):
        ledger.open(path)


def test_a_copy_that_came_without_a_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    """As VACUUM INTO makes it: whoever read would keep out whoever writes."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    ledger.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()
    with ledger.open(copy) as book, sqlite3.connect(copy) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM keys").fetchall()
        book.create_key("ben", scopes={})
        assert [key.name for key in book.list_keys()] == ["ben"]
    reader.close()


def test_a_ledger_locked_by_another_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with ledger.open(path, busy_timeout_s=0.05) as book:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerLocked, match="locked"):
            book.create_key("ada")
        other.execute("ROLLBACK")
        other.close()
        book.create_key("ada")


def test_the_schema_text_is_what_sqlite_has(tmp_path: Path) -> None:
    """The reference page shows it, so it must be the real one."""
    with ledger.open(tmp_path / "ledger.db") as book:
        real = book._writer.run(lambda c: c.rows("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))
    assert {sql for (sql,) in real} == {
        "\n".join(line for line in part.splitlines() if not line.startswith("-- 0")).strip()
        for part in ledger.schema_text().split(";\n")
        if part.strip()
    }


def test_no_secret_is_in_the_files(tmp_path: Path) -> None:
    with ledger.open(tmp_path / "ledger.db") as book:
        secret = book.create_key("ada")
        everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert secret.encode() not in everything
        assert secret.removeprefix("ow-").encode() not in everything


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 11])
def test_rows_written_several_at_a_time_are_all_written_once_and_in_order(count: int) -> None:
    with sqlite3.connect(":memory:", isolation_level=None) as raw:
        raw.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        rows = [(number, f"row {number}") for number in range(count)]
        _sqlite.SqliteConnection(raw).execute_many("INSERT INTO t VALUES (?, ?) ON CONFLICT DO NOTHING", rows * 2)
        assert raw.execute("SELECT a, b FROM t ORDER BY rowid").fetchall() == rows
    raw.close()


def test_a_statement_that_inserts_otherwise_takes_one_row_at_a_time() -> None:
    with sqlite3.connect(":memory:", isolation_level=None) as raw:
        raw.execute("CREATE TABLE t (a INTEGER)")
        _sqlite.SqliteConnection(raw).execute_many("INSERT INTO t SELECT ? + 1", [(number,) for number in range(9)])
        assert raw.execute("SELECT count(*), sum(a) FROM t").fetchall() == [(9, 45)]
    raw.close()
