"""A ledger that another process has locked: who waits says for whom."""

import logging
import re
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from ledger_rows import usual_request
from ownward import ledger
from ownward.core import LedgerLocked
from ownward.ledger import _sqlite_locks

NOW = datetime(2026, 11, 1, tzinfo=UTC)
_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    held.execute(statement)
print("held", flush=True)
sys.stdin.readline()
"""


def refuse_one(book):
    """Write as the gateway does, by the writer."""
    book.refuse(usual_request("r", at=NOW), reason="no", status=403)
    book.flush_blocking()


def make_a_key(book):
    """Write by a transaction of its own."""
    book.create_key("k")


def end(process):
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def hold(tmp_path):
    """Starts a process that runs statements on a ledger and keeps their locks; returns it."""
    started = []

    def start(path, *statements):
        arguments = [sys.executable, "-c", _HOLD, str(path), *statements]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        end(process)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists who holds which lock")
@pytest.mark.parametrize("write", [refuse_one, make_a_key])
def test_a_writer_that_waits_for_another_process_names_it(tmp_path, monkeypatch, caplog, hold, write):
    monkeypatch.setattr(_sqlite_locks, "QUIET_S", 0.05)
    path = tmp_path / "l.db"
    with ledger.open(path, busy_timeout_s=0.3) as book:
        other = hold(path, "BEGIN IMMEDIATE")
        with caplog.at_level(logging.WARNING, "ownward.ledger"), pytest.raises(LedgerLocked) as told:
            write(book)
        assert f"is locked by process {other.pid} (" in caplog.text
        assert re.search(rf"process {other.pid} \(.+\), which holds it", str(told.value))
        end(other)
        book.flush_blocking()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists who holds which lock")
def test_a_ledger_that_another_process_keeps_to_itself_is_waited_for_by_name(tmp_path, monkeypatch, caplog, hold):
    monkeypatch.setattr(_sqlite_locks, "QUIET_S", 0.05)
    path = tmp_path / "l.db"
    ledger.open(path).close()
    other = hold(path, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN IMMEDIATE", "CREATE TABLE of_its_own (x)")
    with pytest.raises(LedgerLocked) as told:
        ledger.open(path, busy_timeout_s=0.3)
    assert f"is locked by process {other.pid} (" in caplog.text
    assert f"process {other.pid} (" in str(told.value)


def test_a_short_wait_is_not_worth_a_word(tmp_path, caplog, hold):
    path = tmp_path / "l.db"
    with ledger.open(path, busy_timeout_s=5) as book:
        other = hold(path, "BEGIN IMMEDIATE")
        other.stdin.close()
        book.create_key("k")
    assert "locked" not in caplog.text


def test_a_process_that_ends_waits_for_a_lock_no_longer_than_it_may(tmp_path, hold):
    """Whoever ends it kills it after a while; the usual wait is half a minute."""
    book = ledger.open(tmp_path / "l.db")
    book.create_key("k")
    hold(tmp_path / "l.db", "BEGIN IMMEDIATE")
    book.refuse(usual_request("r", at=NOW), reason="no", status=403)
    began_s = time.monotonic()
    time.sleep(0.2)
    book.hurry(0.5)
    with pytest.raises(LedgerLocked):
        book.close()
    assert time.monotonic() - began_s < 10
