"""A calibration brings what was measured nearer, whatever was measured, and what was not fitted to as well."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path

import pytest

from ownward import anatomy
from ownward.catalog import Machine
from ownward.cli._bench_engine import EngineSpeed
from ownward.cli._calibration import CALIBRATION_SCHEMA, calibrated, fit_effects, load_calibration, predict_speed
from ownward.core import GIB, Sourced
from ownward.perf import load_coefficients

DAY = date(2026, 11, 21)
MACHINE = Machine(
    id="this-machine", name="a processor", kind="cpu-platform", vendor="",
    memory_bytes=Sourced(value=16 * GIB, basis="measured", source="a test", checked_on=DAY),
    bandwidth_bytes_per_s=Sourced(value=40e9, basis="measured", source="a test", checked_on=DAY),
)  # fmt: skip
MODEL = anatomy.from_config(
    {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "tie_word_embeddings": True, "max_position_embeddings": 8192,
    },
    name="small",
)  # fmt: skip


def speed(metric: str, users: int, tokens: int, rate: float) -> EngineSpeed:
    return EngineSpeed(metric=metric, concurrency=users, prompt_tokens=tokens, low=rate, median=rate, high=rate)


def measured(one: float, eight: float, prompt: float) -> list[EngineSpeed]:
    four = math.sqrt(one * eight)
    return [
        speed("prefill_tok_s", 1, 128, prompt * 0.9),
        speed("prefill_tok_s", 1, 512, prompt),
        speed("decode_tok_s_per_user", 1, 8, one),
        speed("decode_tok_s_per_user", 4, 8, four),
        speed("decode_tok_s_per_user", 8, 8, eight),
    ]


def off(found: EngineSpeed, effects: dict[str, float] | None) -> float:
    said = predict_speed(found, MODEL, MACHINE, effects)
    assert said is not None
    return abs(math.log(found.median / said))


@pytest.mark.parametrize(("one", "eight", "prompt"), [(75, 16, 180), (160, 40, 440), (20, 5, 60), (10, 1, 1000)])
def test_a_calibrated_prediction_is_nearer_to_what_was_measured(one: float, eight: float, prompt: float) -> None:
    speeds = measured(one, eight, prompt)
    effects = fit_effects(MODEL, MACHINE, speeds)
    before = sum(off(found, None) for found in speeds)
    after = sum(off(found, effects) for found in speeds)
    assert after < before
    assert all(abs(effect) < 6 for effect in effects.values())


def test_a_usual_machine_is_met_within_15_percent() -> None:
    speeds = measured(75, 16, 180)
    effects = fit_effects(MODEL, MACHINE, speeds)
    assert off(speeds[2], effects) < 0.15
    assert off(speeds[1], effects) < 0.15


def test_what_the_shipped_coefficients_say_of_others_is_left_alone() -> None:
    found = calibrated({"weight_mbu|e/d|llama.cpp|this-machine": 0.5})
    shipped = load_coefficients()
    assert {key: found.effects[key] for key in shipped.effects} == dict(shipped.effects)


def test_a_machine_that_was_measured_here_has_the_band_of_measured_ones() -> None:
    assert "this-machine" not in load_coefficients().devices
    assert "this-machine" in calibrated({"weight_mbu|e/d|llama.cpp|this-machine": 0.5}).devices


def test_a_calibration_of_another_schema_or_a_broken_file_is_no_calibration(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert load_calibration(path) is None
    path.write_text("{", encoding="utf-8")
    assert load_calibration(path) is None
    path.write_text(json.dumps({"schema": "ownward.calibration/1"}), encoding="utf-8")
    assert load_calibration(path) is None
    path.write_text(json.dumps({"schema": CALIBRATION_SCHEMA, "effects": {}}), encoding="utf-8")
    assert load_calibration(path) is not None
