"""A ledger is copied whole, between both databases: every row, and nothing that may not travel."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger_rows import usual_intent, usual_request
from ownward import ledger
from ownward.cli import run
from ownward.core import LedgerError
from ownward.ledger import Intent, KeptResponse, Outcome, Request, Settlement, TrafficRow
from ownward.ledger._copying import TABLES
from ownward.pricing import Usage

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)


def fill(target: str, *, rows: int = 5) -> None:
    """Write something into every table that the ledger fills by itself."""
    with ledger.open(target) as book:
        for number in range(rows):
            label = "any" if number % 2 else "local_only"
            name = f"req-{number:06}"
            request = usual_request(name, at=NOW, task_id=f"t ä {number}", label=label, reason="b")
            intent = usual_intent(name, at=NOW, high=1 << 50, output_tokens_high=5)
            asyncio.run(book.begin(request, intent))
            if number:
                book.settle(
                    Settlement(
                        request_id=name,
                        attempt=1,
                        state="settled",
                        settled_at=NOW,
                        charge_picousd=number,
                        usage=Usage(input_tokens=1, output_tokens=2),
                        usage_basis="upstream",
                        ttft_s=0.1 * number,
                    )
                )
            book.capture_body(request_id=name, attempt=None, kind="request", content=b"\x00\xff{}", expires_at=LATER)
            kept = KeptResponse(
                response_id=f"resp_{number}", owner="", request_id=name, previous_id=None, label=label, origin="o",
                items_json=b"[]", answer_json=b"{}", kept_at=NOW, expires_at=LATER,
            )  # fmt: skip
            book.keep_response(kept, most_responses=99_999, most_bytes=1 << 40)
        book.flush_blocking()
        book.snapshot_plan("f" * 64, "a plan")
        book.create_key("a key", {"label": "eu"})
        book.record_workload("w", {"a": 1})
        book.record_outcome(
            Outcome(task_id=f"t ä {rows - 1}", completed=True, source="human", recorded_at=NOW, score=0.5)
        )
        book.record_certificate({"workload": "w", "state": "certified"})
        book.import_traffic([TrafficRow(input_tokens=1, output_tokens=2, workload="i")], "a log")


def everything(target: str) -> dict[str, list[tuple[object, ...]]]:
    with ledger.open(target, is_read_only=True) as book, book._store.reading() as reader:
        return {
            table: sorted(
                (tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                 for row in reader.rows(f"SELECT * FROM {table}")),
                key=repr,
            )
            for table in TABLES
        }  # fmt: skip


def copy(source: str, target: str) -> dict[str, ledger.CopiedTable]:
    with ledger.open(source, is_read_only=True) as old, ledger.open(target) as new:
        return {one.table: one for one in old.copy_to(new)}


@pytest.mark.parametrize("from_", ["sqlite", "the target"])
def test_every_row_of_every_table_arrives(
    target: str, tmp_path: Path, from_: str, request: pytest.FixtureRequest
) -> None:
    here = str(tmp_path / "here.db")
    source, to = (here, target) if from_ == "sqlite" else (target, here)
    fill(source)
    copied = copy(source, to)
    before = everything(source)
    assert everything(to) == before
    assert {table: one.rows for table, one in copied.items()} == {table: len(rows) for table, rows in before.items()}
    assert copied["settlements"].rows == 4
    with ledger.open(to) as book:  # and it is a ledger: numbers go on, what was in flight is settled, readers agree
        assert book.reconcile() == 1
        states = [row["state"] for row in book.export_rows()]
        assert sorted(states) == ["settled"] * 4 + ["unsettled"]
        book.record_outcome(Outcome(task_id="t ä 4", completed=False, source="human", recorded_at=NOW))
        (task,) = book.query_tasks(task_id="t ä 4")
        assert task.outcome is not None
        assert not task.outcome.completed


def test_more_rows_than_a_page_arrive(tmp_path: Path) -> None:
    source, to = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    fill(source, rows=1)
    with sqlite3.connect(source) as raw:
        raw.executemany("INSERT INTO plans VALUES (?, 'p', 0)", [(f"{n}",) for n in range(4321)])
    raw.close()
    assert copy(source, to)["plans"].rows == 4322
    assert everything(to) == everything(source)


def test_bodies_go_beyond_this_machine_only_where_their_label_is_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, to = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    fill(source)
    monkeypatch.setattr("ownward.ledger._sqlite.SqliteStore.is_on_this_machine", property(lambda _: False))
    copied = copy(source, to)
    assert {table: (one.rows, one.left_out) for table, one in copied.items() if one.left_out} == {
        "bodies": (2, 3),
        "kept_responses": (2, 3),
    }
    assert {row[1] for row in everything(to)["bodies"]} == {"req-000001", "req-000003"}


def test_a_row_that_changes_on_its_way_is_noticed_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownward.ledger import _sqlite

    source, to = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    fill(source)
    real = _sqlite.SqliteConnection.execute_many

    def wrong(self, sql, rows):  # type: ignore[no-untyped-def]
        real(self, sql, [(*row[:-1], row[-1] + 1) for row in rows] if "INTO outcomes" in sql else rows)

    monkeypatch.setattr(_sqlite.SqliteConnection, "execute_many", wrong)
    with pytest.raises(LedgerError, match="'outcomes' did not arrive as it was"):
        copy(source, to)
    assert not any(everything(to).values())


def test_a_ledger_in_use_is_not_copied_and_one_that_holds_something_not_copied_into(tmp_path: Path) -> None:
    source, to = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    fill(source)
    copy(source, to)
    with pytest.raises(LedgerError, match="is not empty"):
        copy(source, to)
    with ledger.open(source) as book:
        request = Request(
            request_id="live", task_id="t", task_basis="single", workload="w", route="r", key_id=None, label="any",
            dialect="openai", is_stream=False, plan_sha256=None, reason="b", started_at=NOW,
        )  # fmt: skip
        intent = Intent(
            request_id="live", attempt=1, tier="t", upstream="u", model="m", price_id=None, input_tokens_high=None,
            output_tokens_high=5, charge_high_picousd=1, body_sha256="0", started_at=NOW,
        )  # fmt: skip
        asyncio.run(book.begin(request, intent))
        with pytest.raises(LedgerError, match="still write"):
            copy(source, str(tmp_path / "c.db"))


def test_no_table_is_forgotten(tmp_path: Path) -> None:
    ledger.open(tmp_path / "a.db").close()
    with sqlite3.connect(tmp_path / "a.db") as raw:
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    raw.close()
    assert tables - {"migrations", "sqlite_sequence", "journal_marks"} == set(TABLES)  # who copies posts notes first


def test_the_command_copies_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, to = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    fill(source)
    assert run(["ledger", "copy", "--ledger", source, "--to", to, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "ownward.ledger_copy/1"
    assert {table["table"]: table["rows"] for table in told["tables"]}["requests"] == 5
    assert run(["ledger", "copy", "--ledger", source, "--to", source]) != 0
    assert run(["ledger", "copy", "--ledger", source]) == 2


def test_export_takes_the_last_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(tmp_path / "a.db")
    fill(source, rows=2)
    with sqlite3.connect(source) as raw:
        raw.execute(
            "UPDATE requests SET started_at_us = started_at_us - 7200 * 1000000 WHERE request_id = 'req-000000'"
        )
    raw.close()
    for last, names in (("1h", ["req-000001"]), ("3h", ["req-000000", "req-000001"])):
        assert run(["ledger", "export", "--ledger", source, "--last", last]) == 0
        assert [json.loads(line)["request_id"] for line in capsys.readouterr().out.splitlines()] == names
    assert run(["ledger", "export", "--ledger", source, "--last", "soon"]) == 2
