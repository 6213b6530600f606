"""A deployment under load: TTFT, TPOT and throughput of requests that come in turn, together, or at a rate."""

from __future__ import annotations

import re
from typing import NamedTuple

from ownward.perf._deployment import Deployment

# How many sequences an engine runs at a time unless told otherwise (max_num_seqs and its kin).
_MOST_SEQUENCES = {"vllm": 256, "sglang": 1024, "tensorrt-llm": 2048, "transformers": 64, "ktransformers": 64}
_LLAMA_MOST_SEQUENCES = 256
# vLLM's own default for its server on a device of 70 GiB or more.
_LARGE_MEMORY_BYTES = 70 << 30
_LARGE_MOST_SEQUENCES = 1024
_CHUNK_TOKENS = 2048
# An overloaded queue grows as long as requests come: the length of a run that nobody stated.
_RUN_S = 600.0
_FIXED_POINT_ROUNDS = 40
_FULL = 0.98


class Speculation(NamedTuple):
    """Drafted tokens a step and the share that is accepted: a step gives 1 + drafted x accepted tokens."""

    drafted: int
    accepted: float


class Served(NamedTuple):
    """What a deployment gives: seconds, and output tokens a second of the whole."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


# Accepted share of drafted tokens where not stated. Source: MTP 0.73 to 0.82 on Strix Halo (kyuz0); others assumed.
_ACCEPTED = {"mtp": 0.75, "draft": 0.5, "ngram": 0.35, "dflash": 0.4, "eagle": 0.6}
_ANY_ACCEPTED = 0.6
_ANY_DRAFTED = 3
# What a drafted token adds to a step: a step with 3 costs 1.5 of a plain one for dense models and 2.3 for mixtures.
_DRAFT_COST = {False: 0.17, True: 0.43}


def read_speculation(given: bool | str | None) -> Speculation | None:
    """Return what is meant by `speculative`: a method with a depth as in `mtp-3`, or only that there is one.

    >>> read_speculation("spec:mtp-3"), read_speculation(False)
    (Speculation(drafted=3, accepted=0.75), None)
    """
    if not given:
        return None
    text = given.lower() if isinstance(given, str) else ""
    depth = re.search(r"(?:mtp|eagle|ngram|dflash)-?k?(\d+)|\bk['\"]?[:= ]+(\d+)", text)
    drafted = int(depth[1] or depth[2]) if depth else _ANY_DRAFTED
    accepted = next((share for method, share in _ACCEPTED.items() if method in text), _ANY_ACCEPTED)
    return Speculation(min(drafted, 16), accepted)


def serve_together(
    deployment: Deployment,
    *,
    concurrency: int,
    input_tokens: int,
    output_tokens: int,
    context_depth: int = 0,
    speculation: Speculation | None = None,
) -> Served:
    """Return what each of `concurrency` users gets who sends the next request when the last is answered.

    More than the engine or its memory holds wait in turns.
    """
    efficiency = deployment.efficiency
    batch = _batch(deployment, concurrency, context_depth + input_tokens + output_tokens)
    step_s = _step_s(deployment, batch, context_depth + input_tokens + output_tokens / 2, speculation)
    prompt_s = _prompt_s(deployment, input_tokens, context_depth, batch)
    alone_s = deployment.compute_prefill_s(tokens=max(input_tokens, 1), context_before=context_depth)
    first_s = efficiency.first_s + alone_s
    if concurrency == 1:
        return Served(first_s, step_s, output_tokens / (first_s + step_s * output_tokens))
    load = efficiency.load ** (1 - 1 / batch)
    tpot_s = load * (step_s + efficiency.interference * (batch - 1) * prompt_s / max(output_tokens, 1))
    turn_s = load * (output_tokens * step_s + batch * prompt_s)
    ttft_s = first_s + load * efficiency.queue * (batch - 1) * prompt_s
    if concurrency > batch:
        ttft_s += turn_s * (concurrency / batch - 1) / 2
    return Served(ttft_s, tpot_s, batch * output_tokens / turn_s)


def serve_arrivals(
    deployment: Deployment,
    *,
    arrivals_per_s: float,
    input_tokens: int,
    output_tokens: int,
    speculation: Speculation | None = None,
) -> Served:
    """Return the mean of requests that arrive at a rate: the batch is the one that keeps up, by fixed point.

    Where none keeps up the queue grows for ten minutes.
    """
    efficiency = deployment.efficiency
    context = input_tokens + output_tokens
    most = _batch(deployment, 1 << 20, context)
    prompt_s = _prompt_s(deployment, input_tokens, 0, 4)
    busy = min(arrivals_per_s * prompt_s, _FULL)
    batch = 1.0
    tpot_s = 0.0
    for _ in range(_FIXED_POINT_ROUNDS):
        step_s = _step_s(deployment, batch, input_tokens + output_tokens / 2, speculation)
        tpot_s = step_s / (1 - min(efficiency.interference * busy, _FULL))
        wanted = min(max(arrivals_per_s * output_tokens * tpot_s, 1.0), float(most))
        batch = (batch + wanted) / 2
    alone_s = deployment.compute_prefill_s(tokens=max(input_tokens, 1))
    ttft_s = efficiency.first_s + alone_s / (1 - busy) + tpot_s / 2
    served_per_s = batch / (output_tokens * tpot_s)
    if served_per_s < _FULL * arrivals_per_s:
        ttft_s += _RUN_S / 2 * (1 - served_per_s / arrivals_per_s)
        return Served(ttft_s, tpot_s, served_per_s * output_tokens)
    return Served(ttft_s, tpot_s, arrivals_per_s * output_tokens)


def _batch(deployment: Deployment, concurrency: int, context_tokens: int) -> int:
    most = deployment.most_sequences(context_tokens)
    default = _MOST_SEQUENCES.get(deployment.traits.engine, _LLAMA_MOST_SEQUENCES)
    if deployment.traits.engine == "vllm" and (deployment.memory_bytes or 0) >= _LARGE_MEMORY_BYTES:
        default = _LARGE_MOST_SEQUENCES
    return max(min(concurrency, default, concurrency if most is None else max(most, 1)), 1)


def _step_s(deployment: Deployment, batch: float, context_tokens: float, speculation: Speculation | None) -> float:
    step_s = deployment.compute_decode_step_s(sequences=batch, context_tokens=context_tokens)
    if speculation is None:
        return step_s
    cost = 1 + speculation.drafted * _DRAFT_COST[bool(deployment.anatomy.experts)]
    return step_s * deployment.efficiency.speculation * cost / (1 + speculation.drafted * speculation.accepted)


def _prompt_s(deployment: Deployment, input_tokens: int, before: int, batch: int) -> float:
    """Return what one prompt costs when several short ones share a chunk."""
    tokens = max(input_tokens, 1)
    together = max(min(_CHUNK_TOKENS // tokens, batch), 1)
    if together == 1 or before:
        return deployment.compute_prefill_s(tokens=tokens, context_before=before)
    return deployment.compute_prefill_s(tokens=tokens * together) / together
