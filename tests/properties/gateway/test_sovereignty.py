"""A slice of `python -m benchmarks.sovereignty`: the real gateway on a network in memory, everything going wrong."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sovereignty(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.sovereignty.{name}")


def test_words_arrive_only_where_their_label_lets_them_and_stay_out_of_logs_pages_and_ledger(sovereignty):
    counts = sovereignty("running").run_cases(
        2000, first_seed=2, steps=40, shrinks=False
    )  # 44 second calls; 1 has none
    for what in (
        "requests heard by upstreams", "cases whose label forbids a tier", "cases that reached several places",
        "expected: served", "expected: refused", "knocks refused", "plans reloaded", "names moved", "keys revoked",
        "responses kept", "cases that continue others", "cases whose earlier turns forbid a tier",
        "cases that spilled whose label forbids a tier", "cases that probed early whose label forbids a tier",
        "pages read", "ledger rows read",
    ):  # fmt: skip
        assert counts[what] > 0, f"nothing was tried of: {what}"
    assert counts["second calls that won"] + counts["second calls that lost"] > 0, "no second call was made"


def test_every_mutant_still_fits_the_source(sovereignty):
    assert sovereignty("mutants").check() == []
