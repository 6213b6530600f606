"""What a record refuses."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from ownward import ledger
from ownward.core import LedgerError, MissingExtra
from ownward.ledger import Outcome, Settlement
from ownward.ledger._statements import settlement_values
from ownward.ledger._times import from_us, iso_text, to_us
from ownward.pricing import Usage

NOW = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "settled"}, "usage is not known"),
        ({"state": "settled", "usage": USAGE}, "usage is not known"),
        ({"state": "unsettled", "charge_picousd": 1}, "states one charge"),
        ({"state": "failed", "charge_high_picousd": 1}, "states a charge"),
        ({"state": "refused", "charge_picousd": 1}, "states a charge"),
        ({"state": "unsettled", "charge_low_picousd": 2, "charge_high_picousd": 1}, "bounds"),
        ({"state": "unsettled", "charge_low_picousd": -1}, "is -1"),
        ({"state": "lost"}, "'lost'"),
    ],
)
def test_a_settlement_that_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(LedgerError, match=words):
        Settlement(request_id="r", attempt=1, settled_at=NOW, **changes)  # type: ignore[arg-type]


def test_attempt_zero_cannot_be_settled() -> None:
    settlement = Settlement(request_id="r", attempt=0, state="failed", settled_at=NOW)
    with pytest.raises(LedgerError, match="refuse"):
        settlement_values(settlement)


def test_an_outcome_of_an_unknown_source_is_refused() -> None:
    with pytest.raises(LedgerError, match="'oracle'"):
        Outcome(task_id="t", completed=True, source="oracle", recorded_at=NOW)  # type: ignore[arg-type]


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(LedgerError, match="no time zone"):
        to_us(NOW.replace(tzinfo=None))


def test_times_come_back_to_the_microsecond() -> None:
    assert from_us(to_us(NOW)) == NOW
    assert iso_text(to_us(NOW)) == "2026-11-01T12:30:15.123456Z"


def test_all_is_what_is_there() -> None:
    assert (
        sorted(ledger.__all__, key=lambda name: (name != name.upper(), not name[0].isupper(), name)) == ledger.__all__
    )
    assert all(hasattr(ledger, name) for name in ledger.__all__)


def test_loading_the_ledger_loads_no_optional_or_heavy_package() -> None:
    heavy = {"numpy", "psutil", "psycopg", "tomlkit", "rich"}
    program = f"import sys, ownward.ledger; print(sorted({heavy!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_postgres_address_without_psycopg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"ownward\[postgres\]"):
        ledger.open("postgresql://host/books")
