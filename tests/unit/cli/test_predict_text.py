"""What `ownward predict` says to a person: each metric in its own unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ownward.cli._predict import predict

CASE = {
    "model": "qwen3-8b",
    "machine": "h100-sxm5-80gb",
    "engine": "vllm",
    "weights": "bf16",
    "concurrency": 8,
    "input_tokens": 1000,
    "output_tokens": 100,
}


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("ttft_ms", "ms"), ("tpot_ms", "ms"), ("decode_tok_s_total", "tok/s"), ("prefill_tok_s", "tok/s")],
)
def test_a_prediction_is_told_in_the_unit_of_its_metric(tmp_path: Path, metric: str, unit: str):
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps({"id": "one", "metric": metric, **CASE}))
    said = CliRunner().invoke(predict, ["--cases", str(cases)], catch_exceptions=False).output.split()
    assert said[0] == "one:"
    assert said[2] == unit
    low, value, high = float(said[3].lstrip("(")), float(said[1]), float(said[5].rstrip(")"))
    assert low <= value <= high
