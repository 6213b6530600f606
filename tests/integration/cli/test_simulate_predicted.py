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


def simulate(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *more: str,
    gap_s: float,
    count: int,
    tokens: dict[str, int] | None = None,
) -> Any:
    asked = tokens or {"input_tokens": 64, "output_tokens": 200}
    rows = [{"arrival_s": gap_s * number, **asked} for number in range(count)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(map(json.dumps, rows)))
    flags = [word for name, value in DEPLOYED.items() for word in (f"--{name}", value)]
    assert run(["simulate", "--trace", str(trace), *flags, *more, "--json"]) == 0
    shown = capsys.readouterr()
    return json.loads(shown.out) | {"said": shown.err}


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


def test_input_that_was_cached_where_it_was_logged_is_computed_unless_a_share_of_it_is_stated_and_that_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tokens = {"input_tokens": 2000, "cached_input_tokens": 1500, "output_tokens": 10}
    whole = simulate(capsys, tmp_path, gap_s=2, count=50, tokens=tokens)
    assert "75% of the input was cached where it was logged" in whole["said"]
    assert whole["cached_input_tokens"] == 0
    reused = simulate(capsys, tmp_path, "--cache-reuse", "0.8", gap_s=2, count=50, tokens=tokens)
    assert "cached" not in reused["said"]
    assert reused["cached_input_tokens"] == 50 * 1200
    assert reused["prefill_s"] == pytest.approx(0.4 * whole["prefill_s"], rel=0.1)


def test_the_energy_is_that_of_the_machines_stated_power_as_in_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = simulate(capsys, tmp_path, "--replicas", "2", gap_s=1, count=40)
    watts = catalog.machine(DEPLOYED["machine"]).tdp_watts
    assert watts is not None
    whole_s = 2 * found["makespan_s"]
    busy_s = found["utilisation_fraction"] * whole_s
    assert found["energy_joules"] == pytest.approx(watts.value * (busy_s + 0.15 * (whole_s - busy_s)))


def test_the_energy_of_a_machine_without_a_stated_power_is_unknown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert simulate(capsys, tmp_path, "--machine", "Apple M3 Ultra", gap_s=60, count=2)["energy_joules"] is None
    trace = str(tmp_path / "trace.jsonl")
    assert run(["simulate", "--trace", trace, "--model", "qwen3-8b", "--machine", "Apple M3 Ultra"]) == 0
    assert "energy ?: nobody has stated the power" in capsys.readouterr().out


def test_a_machine_whose_memory_nobody_stated_refuses_no_requests_but_the_question(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    simulate(capsys, tmp_path, gap_s=60, count=2)
    asked = ["--model", "qwen3-8b", "--machine", "Desktop 2ch DDR5-5600", "--weights", "q4_k_m"]
    assert run(["simulate", "--trace", str(tmp_path / "trace.jsonl"), *asked]) == 3
    assert "the memory of 'Desktop 2ch DDR5-5600' is not known" in capsys.readouterr().err
