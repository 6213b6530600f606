"""The simulated engine against vLLM 0.19: requests that the coefficients were not fitted to.

Three recorded runs of 300 requests at ten a second, which overload their machines. For each, six coefficients (a step's
and the number of blocks) were fitted to the times of the first 150 requests by `python -m benchmarks.simulation`; here
the other 150 are compared, which met another load: longer queues and, on the RTX 4090, preemption.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from ownward.perf import StepModel
from ownward.simulation import Scheduler, simulate
from ownward.traffic import Trace

FITTED_TO = 150

# run: replicas, sequences, seconds (fixed, per prompt token, per prompt token and context, per sequence, per cached
# token), blocks
RUNS = {
    "RTX4090__Llama-3.1-8B": (1, 256, (1.2589e-2, 9.0417e-5, 3.4737e-11, 2.2444e-5, 2.6457e-7), 2594),
    "RTXPRO6000__Llama-3.1-8B": (1, 128, (1.1640e-2, 4.3136e-5, 1.7338e-11, 8.0060e-6, 1.0655e-7), 36667),
    "RTXPRO6000__Qwen3-30B-A3B-Instruct-2507": (
        2,
        128,
        (2.6206e-2, 5.5888e-5, 2.2541e-10, 2.8459e-5, 1.1753e-7),
        23596,
    ),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", RUNS)
def test_the_requests_not_fitted_to(name, shared_data) -> None:
    replicas, sequences, seconds, blocks = RUNS[name]
    path = shared_data / "measured" / "traces_vllm" / f"{name}.requests.jsonl"
    rows = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda row: row["queued_ts"])
    queued = np.array([row["queued_ts"] for row in rows])
    trace = Trace.from_columns(
        arrival_s=queued - queued[0],
        input_tokens=[row["input_toks"] for row in rows],
        output_tokens=[row["output_toks"] for row in rows],
    )
    model = StepModel(
        fixed_s=seconds[0],
        per_prefill_token_s=seconds[1],
        per_prefill_token_context_s=seconds[2],
        per_decode_sequence_s=seconds[3],
        per_kv_byte_s=seconds[4],
        kv_bytes_per_token=1.0,
        capacity_blocks=blocks,
    )
    found = simulate(trace, model, Scheduler(max_batch=sequences, token_budget=2048), replicas=replicas).per_request
    ttft_s = np.array([row["first_token_ts"] for row in rows]) - queued
    latency_s = np.array([row["last_token_ts"] for row in rows]) - queued
    tpot_s = (latency_s - ttft_s) / (trace.output_tokens - 1)
    later = slice(FITTED_TO, None)
    error = np.abs(found.latency_s / latency_s - 1)[later]
    assert np.median(error) < 0.04
    assert np.mean(found.tpot_s[later]) == pytest.approx(np.mean(tpot_s[later]), rel=0.06)
    assert np.median(found.ttft_s[later]) == pytest.approx(np.median(ttft_s[later]), rel=0.25)
    assert np.percentile(found.ttft_s[later], 90) == pytest.approx(np.percentile(ttft_s[later], 90), rel=0.15)
