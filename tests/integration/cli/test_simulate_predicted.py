"""A trace replayed against a predicted deployment: its steps are those of the sequences that really run together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownward import catalog
from ownward.anatomy import read
from ownward.cli import run
from ownward.perf import deploy

DEPLOYED = {"model": "qwen3-30b-a3b", "machine": "RTX 5090", "weights": "q4_k_m"}


def simulate(capsys: pytest.CaptureFixture[str], tmp_path: Path, *, gap_s: float, count: int) -> Any:
    rows = [{"arrival_s": gap_s * number, "input_tokens": 64, "output_tokens": 200} for number in range(count)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(map(json.dumps, rows)))
    flags = [word for name, value in DEPLOYED.items() for word in (f"--{name}", value)]
    assert run(["simulate", "--trace", str(trace), *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_request_at_a_time_takes_the_time_a_token_that_is_predicted_for_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A mixture of experts reads most of them for 32 sequences, and few for one: five times as long a step."""
    release = catalog.model(DEPLOYED["model"])
    assert release.config_path is not None
    deployment = deploy(
        read(release.config_path),
        machine=catalog.machine(DEPLOYED["machine"]),
        machines_count=1,
        engine="llama.cpp",
        weights=DEPLOYED["weights"],
    )
    assert not isinstance(deployment, str)
    found = simulate(capsys, tmp_path, gap_s=60, count=40)
    assert found["sequences_at_once"] == pytest.approx(1)
    alone_s = deployment.compute_decode_step_s(sequences=1, context_tokens=164)
    assert found["tpot_s"]["p50"] == pytest.approx(alone_s, rel=0.05)


def test_many_requests_at_once_take_the_steps_of_many(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = simulate(capsys, tmp_path, gap_s=0.05, count=2000)
    assert found["sequences_at_once"] > 16
    assert found["tpot_s"]["p50"] > 3 * simulate(capsys, tmp_path, gap_s=60, count=40)["tpot_s"]["p50"]
