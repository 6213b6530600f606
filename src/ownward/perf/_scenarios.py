"""Loads with limits on latency: what `server` and `interactive` mean, and what a deployment gives within limits."""

from __future__ import annotations

import math
from typing import NamedTuple

from ownward.anatomy import Anatomy
from ownward.perf._load import Load
from ownward.perf._serving import Served


class Limits(NamedTuple):
    """What 99 of 100 requests keep below, in seconds."""

    ttft_s: float
    tpot_s: float


# MLPerf Inference rules, by billions of parameters of the benchmark's model. Source: mlcommons/inference_policies,
# inference_rules.adoc at ff7edba (2026-08-20): Llama-3.1-8B, Mixtral-8x7B, Llama-2-70B, gpt-oss-120b, Llama-3.1-405B,
# DeepSeek-R1. Mixtral has no interactive category and gets its neighbour's.
_LIMITS: dict[str, dict[float, Limits]] = {
    "server": {
        8.0: Limits(2.0, 0.1), 46.7: Limits(2.0, 0.2), 69.0: Limits(2.0, 0.2), 117.0: Limits(3.0, 0.08),
        405.9: Limits(6.0, 0.175), 671.0: Limits(2.0, 0.08),
    },
    "interactive": {
        8.0: Limits(0.5, 0.03), 69.0: Limits(0.45, 0.04), 117.0: Limits(2.0, 0.02), 405.9: Limits(4.5, 0.08),
        671.0: Limits(1.5, 0.015),
    },
}  # fmt: skip
# Mean prompts of the data sets behind MLPerf Inference v5.1, in tokens, by billions of parameters. Source: MLCommons
# task descriptions (Llama-3.1-8B: CNN/DailyMail; Llama-2-70B: OpenOrca; Llama-3.1-405B: LongBench, RULER, GovReport).
_PROMPTS = {8.0: 778, 69.0: 294, 405.9: 9428}
_SAME_SIZE = 0.05
_ROUNDS = 14
# Of a wait with an exponential tail, 99 of 100 are shorter than this many means.
_TAIL = math.log(100)
# (1 + variance of prompts / their mean squared) / 2, of prompts about half as unequal as exponential ones. Assumed.
_UNEVEN = 0.75


def usual_limits(scenario: str, anatomy: Anatomy) -> Limits:
    """Return the limits of an MLPerf scenario for the benchmark whose model is nearest in size.

    `scenario` is `server` or `interactive`.
    """
    billions = anatomy.checkpoint_params_exact / 1e9
    known = _LIMITS[scenario]
    return known[min(known, key=lambda size: abs(math.log(size / max(billions, 1e-3))))]


def usual_prompt_tokens(anatomy: Anatomy) -> int | None:
    """Return the mean prompt of MLPerf's data set for a model of this size; None where it has no benchmark for one.

    What is meant by a load in MLPerf's words (`server`, `interactive`, `max`) that states no prompt.
    """
    billions = anatomy.checkpoint_params_exact / 1e9
    return next((tokens for size, tokens in _PROMPTS.items() if abs(billions / size - 1) < _SAME_SIZE), None)


def serve_within(load: Load, limits: Limits, *, slots: float) -> Served:
    """Return what is served at the highest rate of Poisson arrivals that keeps the limits; one at a time if none does.

    The more sequences decode, the slower a token; the more of the time prompts are read, the longer the next one
    waits (M/G/1).
    """
    first_s = load.deployment.efficiency.first_s
    low, high = 1.0, max(slots, 1.0)
    if _keeps(load, limits, high, first_s):
        low = high
    for _ in range(_ROUNDS):
        middle = math.sqrt(low * high)
        if _keeps(load, limits, middle, first_s):
            low = middle
        else:
            high = middle
    rate, tpot_s, ttft_s = _at(load, low, first_s)
    return Served(ttft_s, tpot_s, rate * load.output_tokens)


def _keeps(load: Load, limits: Limits, batch: float, first_s: float) -> bool:
    _, tpot_s, ttft_s = _at(load, batch, first_s)
    return tpot_s <= limits.tpot_s and ttft_s <= limits.ttft_s


def _at(load: Load, batch: float, first_s: float) -> tuple[float, float, float]:
    """Return the rate at which `batch` sequences decode, their TPOT, and the first token of the slowest hundredth."""
    prompt_s = load.prompt_s(batch)
    rate = batch / (load.decoded_tokens * load.token_s(batch) + batch * prompt_s)
    busy = min(rate * prompt_s, 0.999)
    waited_s = _TAIL * _UNEVEN * busy * prompt_s / (1 - busy)
    return rate, batch / (rate * load.decoded_tokens), first_s + load.alone_s + waited_s
