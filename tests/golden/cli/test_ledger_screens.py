"""`ownward ledger show` at 80 columns: sums from millionths of a cent to thousands of dollars, none of them cut."""

from __future__ import annotations

import asyncio
import io
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ownward import ledger
from ownward.cli._ledger_screen import render_ledger
from ownward.core import ManualClock
from ownward.ledger import Intent, Request, Settlement, Spend, SpendRow
from ownward.pricing import Usage

AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
SERVED = (
    ("chat", "desk", 7_560_000, 1_200, 340),
    ("summaries-of-support", "rented-large", 123_456_000_000, 98_765_432, 1_234_567),
    ("summaries-of-support", "rented-small", None, 2_000_000, 10_000),
)


@pytest.fixture
def book(at_home):
    """A ledger with a call that costs next to nothing, dear ones, and one that is cut."""
    with ledger.open(at_home / "ledger.db", clock=ManualClock(AT)) as opened:
        for number, (workload, tier, charge, given, taken) in enumerate(SERVED):
            request_id = f"req-{number}"
            request = Request(
                request_id=request_id, task_id=request_id, task_basis="single", workload=workload, route="m",
                key_id=None, label="any", dialect="openai", is_stream=False, plan_sha256=None, reason="",
                started_at=AT,
            )  # fmt: skip
            intent = Intent(
                request_id=request_id, attempt=1, tier=tier, upstream=tier, model="m", price_id=None,
                input_tokens_high=given, output_tokens_high=taken, charge_high_picousd=56_700, body_sha256="0" * 64,
                started_at=AT,
            )  # fmt: skip
            asyncio.run(opened.begin(request, intent))
            is_settled = charge is not None
            opened.settle(
                Settlement(
                    request_id=request_id, attempt=1, state="settled" if is_settled else "unsettled", settled_at=AT,
                    usage=Usage(input_tokens=given, output_tokens=taken) if is_settled else None,
                    usage_basis="upstream" if is_settled else None, charge_picousd=charge,
                )
            )  # fmt: skip
        opened.flush_blocking()
    return at_home / "ledger.db"


def test_ledger_show(book, shown, golden):
    golden("ledger-show.txt", shown(f"ledger show --ledger {book}"))


def row(workload: str, tier: str, **figures: int) -> SpendRow:
    spend = Spend(
        settled_picousd=figures["picousd"], low_picousd=figures["picousd"], high_picousd=figures["picousd"] + 1_230_000,
        unsettled_attempts=12_345_678, unpriced_attempts=0, unbounded_attempts=0,
    )  # fmt: skip
    return SpendRow(
        group={"workload": workload, "tier": tier}, requests=98_765_432, attempts=111_111_111,
        settled_attempts=98_765_432, failed_attempts=0, refused_requests=0, input_tokens=987_654_321_012,
        cached_input_tokens=0, cache_write_tokens=0, output_tokens=123_456_789_012, spend=spend,
    )  # fmt: skip


@pytest.mark.parametrize("width", [70, 80, 100, 120, 160])
def test_no_figure_is_cut_at_any_width(width):
    rows = [
        row("a-workload-of-long-name" * 3, "a-tier" * 9, picousd=picousd) for picousd in (1_234, 98_765_432_109_876_543)
    ]
    console = Console(width=width, file=io.StringIO())
    console.print(render_ledger(rows, [], []))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    figures = re.findall(r"[$]?[0-9][0-9,.]+", text)
    for expected in ("98,765,432", "12,345,678", "987,654,321,012", "123,456,789,012", "$0.00000000123", "$98,765.43"):
        assert expected in figures
