"""The page about benchmarks names every one, and its tables are the results that are kept."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()


def newest(name: str) -> dict:
    return json.loads(max((ROOT / "benchmarks" / "results").glob(f"{name}-????-??-??.json")).read_text())


def between(mark: str) -> str:
    return TEXT.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0].strip()


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.gateway")


def test_every_benchmark_has_its_line():
    programs = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text()]
    assert [name for name in programs if f"`{name}`" not in TEXT] == []


def test_the_table_of_gateways_is_the_newest_result(gateway):
    assert between("gateway") == gateway.table(newest("gateway")).strip()


def test_the_table_of_the_open_loop_is_the_newest_result(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    open_loop = importlib.import_module("benchmarks.open_loop")
    assert between("open_loop") == open_loop.table(newest("open_loop")).strip()


def test_what_is_said_of_chaos_is_the_newest_result():
    record, said = newest("chaos"), between("chaos")
    assert record["faults_count"] == 0
    ends = {name: f"{count:,}" for name, count in record["how_requests_ended"].items()}
    assert re.search(rf"{record['requests']:,} requests", said)
    for name, count in ends.items():
        assert f"{count} {name}" in said
    for name, count in record["ledger_rows"].items():
        assert f"{count:,} {name}" in said


def test_the_table_of_second_calls_is_the_newest_result(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    hedging, record = importlib.import_module("benchmarks.hedging"), newest("hedging")
    assert between("hedging") == hedging.table(record)
    assert not any(figures["faults_count"] for rounds in record["arms"].values() for figures in rounds)


def test_what_is_said_of_starting_is_the_newest_result():
    record, said = newest("startup"), between("startup")
    for name, figures in record["results"].items():
        assert f"| {figures['median']:.3f} ({figures['lowest']:.3f} to {figures['highest']:.3f}) |" in said, name
    assert f"{record['base_install']['bytes'] / 1e6:.1f} MB" in said


def test_the_table_of_how_long_predictions_take_is_the_newest_result(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    fit_speed, record = importlib.import_module("benchmarks.fit_speed"), newest("fit_speed")
    assert between("fit_speed") == fit_speed.table(record)
    assert fit_speed.missed(record) == []


def test_the_table_of_models_larger_than_memory_is_the_newest_result(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    moe_memory = importlib.import_module("benchmarks.moe_memory")
    assert between("moe_memory") == moe_memory.table(newest("moe_memory")).strip()


def test_what_is_said_of_real_clients_is_the_newest_result():
    record, said = newest("real_clients"), between("real_clients")
    results = record["results"]
    left = sorted(int(found["note"].split()[0]) for found in results if " ms" in (found["note"] or ""))
    assert said.startswith(
        f"{record['cells'] - record['failed']} of {record['cells']} cells,"
        f" {sum(found['refused'] for found in results)} of them refusals by name;"
    )
    assert f"{left[0]} to {left[-1]} ms after a client had left ({record['measured_at'][:10]})" in said
