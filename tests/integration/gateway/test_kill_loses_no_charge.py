"""SIGKILL in the middle of 200 concurrent streams: the ledger still knows every call the upstream accepted."""

import importlib.util
import sys
from pathlib import Path

import psutil
import pytest

KILL = Path(__file__).resolve().parents[3] / "benchmarks" / "kill.py"


@pytest.fixture(scope="module")
def kill():
    spec = importlib.util.spec_from_file_location("ownward_kill_benchmark", KILL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_kill_loses_no_charge(kill, tmp_path, seed):
    before = set(psutil.Process().children())
    verdict = kill.run_round(tmp_path, seed=seed)
    assert verdict.faults == []
    assert verdict.accepted > 0
    assert verdict.states["unsettled"] > 0
    assert set(psutil.Process().children()) <= before  # not theirs: the tests' PostgreSQL starts some of its own


def test_the_comparison_sees_a_lost_and_an_invented_charge(kill, tmp_path):
    verdict = kill.run_round(tmp_path, seed=14, streams=20)
    assert verdict.faults == []
    plan = kill.loads((tmp_path / "plan.toml").read_text(), file="plan.toml")
    with kill.ledger.open(tmp_path / "ledger.db") as opened:
        rows = list(opened.export_rows())
    lost, invented = kill.Verdict(killed_after_s=0), kill.Verdict(killed_after_s=0)
    kill.compare(lost, [{"request_id": "r", "attempt": "1", "input_tokens": 1, "output_tokens": 1}], rows, plan)
    assert any("no intent" in fault for fault in lost.faults)
    row = {**rows[0], "state": "settled", "input_tokens": 1, "output_tokens": 1, "charge_usd": "1"}
    kill.compare(invented, [], [row], plan)
    assert any("is no completed call" in fault for fault in invented.faults)
