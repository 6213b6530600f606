"""What no run can pass, whatever a band says: weights read at memory's full rate, prompts multiplied at the peak."""

from __future__ import annotations

from typing import get_args

from ownward.catalog import Dtype
from ownward.perf._case import Case
from ownward.perf._deployment import Deployment

# llama.cpp multiplies in 8 bits where the chip can, at up to twice the rate that its 16 bits reach.
_NARROW_KERNELS = 2.0


def within_roofline(
    case: Case, deployment: Deployment, *, value: float, low: float, high: float
) -> tuple[float, float]:
    """Return the ends of the band of `value`, none of them faster than the device could ever be.

    Bounds are of single sequences and hold for each of many. None is known of weights over two memories, of drafted
    tokens, of processors (whose caches may hold a small model) and of chips whose rates nobody states.
    """
    if deployment.offloaded_fraction or deployment.machine.kind == "cpu-platform":
        return low, high
    match case.metric:
        case "prefill_tok_s":
            least_s = _reading_s(case, deployment)
            fastest = case.replicas * max(case.input_tokens, 1) / least_s if least_s else high
        case "ttft_ms":
            return min(max(low, 1e3 * _reading_s(case, deployment)), value), high
        case "decode_tok_s_per_user" if not case.speculative:
            fastest = 1 / _token_s(case, deployment)
        case "tpot_ms" if not case.speculative:
            return min(max(low, 1e3 * _token_s(case, deployment)), value), high
        case _:
            return low, high
    return low, max(min(high, fastest), value)


def _token_s(case: Case, deployment: Deployment) -> float:
    """Return the least seconds of a sequence's token: what it reads of weights, cache and state, once."""
    read = deployment.counted.dense_read
    if deployment.counted.routed:
        read += deployment.counted.routed * deployment.touched_fraction(1)
    read += deployment.cache_bytes(case.context_depth + case.input_tokens)
    read += 2.0 * deployment.anatomy.recurrent_state_bytes_per_seq
    return read / (deployment.bandwidth_bytes_per_s * deployment.tensor_parallel)


def _reading_s(case: Case, deployment: Deployment) -> float:
    """Return the least seconds to multiply a prompt's tokens with the weights they pass; 0 where no rate is known."""
    rates = [rate.value for dtype in get_args(Dtype) if (rate := deployment.machine.rate(dtype)) is not None]
    if not rates:
        return 0.0
    peak = max(*rates, deployment.flop_per_s) * (_NARROW_KERNELS if deployment.is_llama_like else 1.0)
    flop = deployment.prompt_flop(max(case.input_tokens, 1), case.context_depth)
    return flop / (peak * deployment.machines_count)
