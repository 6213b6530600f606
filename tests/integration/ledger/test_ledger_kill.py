"""kill -9 at random points while requests begin and settle as fast as they can."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

from ownward import ledger
from ownward.core import picousd_to_usd

PROGRAM = r"""
import asyncio, itertools, sys
from datetime import UTC, datetime
from ownward import ledger
from ownward.ledger import Intent, Request, Settlement
from ownward.pricing import Usage

target, name = sys.argv[1:]
book = ledger.open(target)
numbers = itertools.count()

def say(word, request_id, attempt):
    sys.stdout.write(f"{word} {request_id} {attempt}\n")

def intent(request_id, attempt, number):
    return Intent(request_id=request_id, attempt=attempt, tier="t", upstream="u", model="m", price_id=None,
        input_tokens_high=10**6, output_tokens_high=10**6, charge_high_picousd=10**9 + number, body_sha256="",
        started_at=datetime.now(UTC))

async def client():
    while True:
        number = next(numbers)
        request_id = f"{name}-{number}"
        now = datetime.now(UTC)
        request = Request(request_id=request_id, task_id=f"{name}-task-{number // 3}", task_basis="explicit",
            workload="w", route="m", key_id=None, label="any", dialect="openai", is_stream=True, plan_sha256=None,
            reason="test", started_at=now)
        await book.begin(request, intent(request_id, 1, number))
        say("begun", request_id, 1)
        attempt = 1
        if number % 5 == 0:
            book.settle(Settlement(request_id=request_id, attempt=1, state="failed", settled_at=now, status=429))
            await book.begin_attempt(intent(request_id, 2, number))
            say("begun", request_id, 2)
            attempt = 2
        if number % 7 == 0:
            await asyncio.sleep(0.002)  # in flight for longer
        book.settle(Settlement(request_id=request_id, attempt=attempt, state="settled", settled_at=now,
            usage=Usage(input_tokens=number, output_tokens=number % 1000), usage_basis="upstream",
            charge_picousd=number * 7))
        if number % 4 == 0:
            await book.flush()
            say("settled", request_id, attempt)
            sys.stdout.flush()

async def main():
    await asyncio.gather(*(client() for _ in range(16)))

asyncio.run(main())
"""


def acknowledged_until_killed(target: str, name: str, after_s: float) -> list[tuple[str, str, int]]:
    """Run the program, kill it, and return what it had printed: each line followed a commit."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, target, name], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        first = child.stdout.readline()
        assert first, "the program ended before its first commit"
        time.sleep(after_s)  # the point in the middle of its work at which it dies
    finally:
        child.kill()
        rest, _ = child.communicate()
    assert child.returncode == -9
    words = (line.split() for line in (first + rest).splitlines(keepends=True) if line.endswith("\n"))
    return [(word, request_id, int(attempt)) for word, request_id, attempt in words]


def test_kill_9_loses_nothing_that_was_acknowledged(target: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    acknowledged: list[tuple[str, str, int]] = []
    for life in range(4):
        acknowledged += acknowledged_until_killed(target, f"life{life}", generator.uniform(0, 0.4))
    with ledger.open(target) as book:
        rows = {(row["request_id"], row["attempt"]): row for row in book.export_rows()}
        states = Counter(row["state"] for row in rows.values())
        assert states["settled"] > 10
        assert "intent" not in states, "no writer lives any more"
        for word, request_id, attempt in acknowledged:
            row = rows[request_id, attempt]
            if word == "settled":
                assert row["state"] == "settled"
        for (request_id, attempt), row in rows.items():
            number = int(request_id.partition("-")[2])
            if row["state"] == "settled":
                assert (row["input_tokens"], row["output_tokens"]) == (number, number % 1000)
                assert Decimal(row["charge_usd"]) == picousd_to_usd(number * 7), "exact to the picodollar"
            elif row["state"] == "unsettled":
                assert (row["charge_usd"], row["charge_low_usd"]) == (None, "0.000000")
                assert Decimal(row["charge_high_usd"]) == picousd_to_usd(10**9 + number)
            assert attempt == 1 or (request_id, 1) in rows
        assert book.reconcile() == states["unsettled"]
        assert book.reconcile() == 0
        after = {(row["request_id"], row["attempt"]): row for row in book.export_rows()}
        assert after == rows
        if book._store.kind == "sqlite":
            assert book._writer.run(lambda c: c.rows("PRAGMA integrity_check")) == [("ok",)]


def test_no_attempt_has_two_intents(target: str) -> None:
    """The database itself refuses it, whichever process tries."""
    acknowledged_until_killed(target, "life", 0.1)
    with ledger.open(target) as book:
        doubles = book._writer.run(
            lambda c: c.rows("SELECT request_id FROM intents GROUP BY request_id, attempt HAVING COUNT(*) > 1")
        )
        assert doubles == []


def test_an_import_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ledger.db"
    program = """
import itertools, sys
from ownward import ledger
from ownward.ledger import TrafficRow
def rows():
    for number in itertools.count():
        if number == 30_000:
            print("reading", flush=True)
        yield TrafficRow(input_tokens=number, output_tokens=1)
ledger.open(sys.argv[1]).import_traffic(rows(), "file")
"""
    child = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "reading\n"
    child.kill()
    child.communicate()
    with ledger.open(target) as book:
        assert len(book.query_traffic()) == 0
