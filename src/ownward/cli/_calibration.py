"""What `ownward bench` measured of this machine, kept in a file and laid over the shipped coefficients."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownward.cli._bench_engine import ANSWER_TOKENS, EngineSpeed

if TYPE_CHECKING:
    from ownward.anatomy import Anatomy
    from ownward.catalog import Machine
    from ownward.perf import Coefficients

CALIBRATION_SCHEMA = "ownward.calibration/2"
_FIRST_STEP, _LAST_STEP = 0.8, 0.005
_PULL = 0.002
_LARGEST_EFFECT = 3.0  # on a log scale: a factor of twenty
# Which coefficients a measurement decides: a single stream reads weights, a long prompt computes, and many streams show
# how fast computing sets in. Signs: +1 makes it faster.
_DECIDES: dict[str, tuple[tuple[str, str, float], ...]] = {
    "one": (("weight_mbu", "e/d", 1.0), ("kv_mbu", "e/f", 1.0), ("layer_s", "e/f", -1.0), ("step_s", "e/f", -1.0)),
    "prompt": (("mfu", "e/d", 1.0), ("attention_mfu", "e/f", 1.0)),
    "many": (("half_tokens", "e/f", -1.0), ("sequence_s", "e/f", -1.0)),
}


def calibration_path() -> Path:
    """Return where the calibration of this machine is kept: beside the store of weights."""
    from ownward.cli._context import load_settings

    cache_dir = load_settings().engine.cache_dir
    assert cache_dir is not None  # filled in by config.load
    return cache_dir / "calibration.json"


def load_calibration(path: Path | None = None) -> dict[str, Any] | None:
    """Return the calibration of this machine, None where `bench` has not run or its file cannot be read."""
    try:
        found = json.loads((path or calibration_path()).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == CALIBRATION_SCHEMA else None


def calibrated(effects: dict[str, float]) -> Coefficients:
    """Return the shipped coefficients with what was measured here laid over them."""
    from ownward.perf import load_coefficients

    shipped = load_coefficients()
    measured = {key.rsplit("|", 1)[1] for key in effects if key.split("|")[1] == "e/d"}
    return replace(
        shipped,
        effects={**shipped.effects, **effects},
        devices=shipped.devices | measured,
        source=f"{shipped.source}; calibrated on this machine",
    )


def predict_speed(
    speed: EngineSpeed, model: Anatomy, machine: Machine, effects: dict[str, float] | None
) -> float | None:
    """Return what is predicted for what was measured, with shipped coefficients or with `effects` over them."""
    from ownward.perf import Case, load_coefficients, predict

    is_prompt = speed.metric == "prefill_tok_s"
    case = Case(
        id=speed.metric,
        anatomy=model,
        machine=machine,
        engine="llama.cpp",
        weights="native",
        kv_type="f16",
        concurrency=speed.concurrency,
        input_tokens=speed.prompt_tokens if is_prompt else 0,
        context_depth=0 if is_prompt else speed.prompt_tokens,
        output_tokens=ANSWER_TOKENS,
        metric=speed.metric,
    )
    return predict(case, load_coefficients() if effects is None else calibrated(effects)).value


def fit_effects(model: Anatomy, machine: Machine, speeds: list[EngineSpeed]) -> dict[str, float]:
    """Return the effects that bring a single stream, the longest prompt and the most users nearest to the measured.

    Where they cannot all be met, the single stream goes first, then the prompt. What is in between is not fitted to: it
    shows what the calibration is worth.
    """
    decodes = [speed for speed in speeds if speed.metric != "prefill_tok_s"]
    prompts = [speed for speed in speeds if speed.metric == "prefill_tok_s"]
    anchors = (
        (4.0, min(decodes, key=lambda speed: speed.concurrency)),
        (2.0, max(prompts, key=lambda speed: speed.prompt_tokens)),
        (1.0, max(decodes, key=lambda speed: speed.concurrency)),
    )

    def miss(moves: dict[str, float]) -> float:
        effects = _effects_of(moves, machine)
        total = _PULL * sum(move**2 for move in moves.values())  # what was measured elsewhere stands where this is mute
        for weight, speed in anchors:
            said = predict_speed(speed, model, machine, effects)
            total += weight * (math.log(speed.median / said) ** 2 if said else 1.0)
        return total

    best = dict.fromkeys(_DECIDES, 0.0)
    least, step = miss(best), _FIRST_STEP
    while step > _LAST_STEP:
        tried = [
            {**best, what: max(min(best[what] + sign * step, _LARGEST_EFFECT), -_LARGEST_EFFECT)}
            for what in _DECIDES
            for sign in (1.0, -1.0)
        ]
        nearest = min(tried, key=miss)
        if miss(nearest) < least:
            best, least = nearest, miss(nearest)
        else:
            step /= 2
    return _effects_of(best, machine)


def _effects_of(moves: dict[str, float], machine: Machine) -> dict[str, float]:
    """Return the effects of this machine: the shipped ones, each moved by what its measurement says."""
    from ownward.perf import load_coefficients

    shipped = load_coefficients().effects
    found: dict[str, float] = {}
    for what, move in moves.items():
        for name, level, sign in _DECIDES[what]:
            key = f"{name}|{level}|llama.cpp|{machine.id if level == 'e/d' else 'cpu'}"
            found[key] = shipped.get(key, 0.0) + sign * move
    return found
