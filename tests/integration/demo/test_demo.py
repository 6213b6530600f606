"""The demo, whole, as a user runs it: real model, real client, real data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ownward import plan as plan_room

pytestmark = pytest.mark.engine
pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

README = (Path(__file__).resolve().parents[3] / "README.md").read_text("utf-8")


def mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("OWNWARD_TEST_MARK")
    except psutil.Error:
        return None


def test_the_demo_runs_the_whole_loop_and_leaves_nothing_running(tmp_path: Path) -> None:
    mark = str(tmp_path / "demo")
    done = subprocess.run(
        [sys.executable, "-m", "ownward", "demo", "--out", mark, "--json"],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=tmp_path,
        env={**os.environ, "OWNWARD_TEST_MARK": mark},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["schema"] == "ownward.demo/1"

    # (d) real tasks, streamed and not, graded and on the ledger
    trials = {line["workload"]: line for line in result["trials"]}
    assert {name: line["tasks"] for name, line in trials.items()} == {"intents": 24, "slots": 16}
    assert {line["is_stream"] for line in trials.values()} == {True, False}
    served = {line["workload"]: line["tiers"][0] for line in result["report"]["workloads"]}
    for name, line in trials.items():
        assert served[name]["settled"] == served[name]["graded"] == line["tasks"]
        assert served[name]["completed"] == line["completed"]

    # (e) a production trace on three owned machines and three APIs
    (comparison,) = result["comparison"]
    assert len(comparison["owned"]) == 3
    assert len(comparison["rented"]) == 3
    assert len(comparison["break_evens"]) == 9
    for cost in comparison["owned"]:
        assert float(cost["marginal_usd"]) < float(cost["loaded_usd"])

    # (e) is what the README shows first
    told = {f"own {cost['name']}": (cost["machines"], cost["loaded_usd"]) for cost in comparison["owned"]}
    told |= {f"rent {api['name']}": (None, api["usd"]) for api in comparison["rented"]}
    shown = re.findall(r"^ (own |rent)\s+(\S+) +(\d+)?.*?\$([\d,]+) +\$[\d.]+$", README, re.MULTILINE)
    assert len(shown) >= 4
    for kind, name, machines, usd in shown:
        count, stated = told[f"{kind.strip()} {name}"]
        assert (machines or None, usd) == (count and str(count), f"{float(stated):,.0f}"), name

    # the plan refuses the tiny model
    plan = plan_room.loads(Path(result["plan"]).read_text(), file="plan.toml")
    assert plan.workloads["intents"].strategy.tiers == ("gpt-5-mini",)
    assert any("nothing certifies" in line for line in result["why"])

    # (f) nothing is left of all that inherited the demo's environment
    left = [process for process in psutil.process_iter() if mark_of(process) == mark]
    assert left == []
