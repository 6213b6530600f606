"""`ownward report --last`: the calls of a time, and no others."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from ledger_rows import usual_intent, usual_request, usual_settlement
from ownward import ledger
from ownward.cli import run


async def begin(opened, asked, intent):
    await opened.begin(asked, intent)


@pytest.fixture
def book(tmp_path):
    """A ledger with a call of now and one of ten days ago."""
    target = str(tmp_path / "l.db")
    now = datetime.now(UTC)
    with ledger.open(target) as opened:
        for name, at in (("old", now - timedelta(days=10)), ("new", now)):
            asked, intent = usual_request(name, at=at), usual_intent(name, at=at)
            asyncio.run(begin(opened, asked, intent))
            opened.settle(usual_settlement(name, at=at, charge=10**12))
        opened.flush_blocking()
    return target


@pytest.mark.parametrize(("last", "requests"), [((), 2), (("--last", "24h"), 1), (("--last", "30d"), 2)])
def test_only_calls_of_the_time_that_is_asked_for_are_reported(book, capsys, last, requests):
    assert run(["report", "--ledger", book, "--json", *last]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["workloads"][0]["tiers"][0]["requests"] == requests


@pytest.mark.parametrize("command", [("report",), ("ledger", "export")])
@pytest.mark.parametrize("text", ["soon", "9999999d", ""])
def test_a_time_that_cannot_be_is_said_to_be_none(book, capsys, command, text):
    assert run([*command, "--ledger", book, "--last", text]) == 2
    assert "--last" in capsys.readouterr().err
