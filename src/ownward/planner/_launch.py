"""What an engine is told when it starts, so that it serves as a deployment was worked out. It starts none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ownward.perf import Deployment
from ownward.planner._placement import longest_context
from ownward.planner._sizing import Sizing


def vllm_options(deployment: Deployment, *, sequences: int, batch_tokens: int) -> dict[str, Any]:
    """Return the options of vLLM that say how a deployment lies over its devices, and its limits of a step.

    Where attention is cut by sequences each device runs its share of them.
    """
    memory, usable = deployment.memory_bytes, deployment.usable_bytes
    apart = deployment.tensor_parallel if deployment.attention_data_parallel else 1
    has_experts = deployment.anatomy.experts > 0
    return {
        "slots": math.ceil(sequences / apart),
        "batch_tokens": batch_tokens,
        "tensor_parallel": deployment.tensor_parallel // apart,
        "pipeline_parallel": deployment.pipeline_parallel,
        "expert_parallel": has_experts and max(apart, deployment.expert_parallel) > 1,
        "memory_fraction": round(usable / (memory * deployment.machines_count), 2) if memory and usable else 0.9,
        "kv_type": "fp8" if deployment.kv_type == "fp8" else "auto",
    }


def engine_options(sizings: Sequence[Sizing]) -> dict[str, Any]:
    """Return the options of an engine that serves all workloads that were sized on it.

    Its limits are the narrowest of them, so that each has its service level. Each slot of llama.cpp has room of its
    own, as long as the longest request; vLLM's sequences share theirs, which a single one may fill.
    """
    deployment = sizings[0].deployment
    sequences = min(one.scheduler.max_batch for one in sizings)
    batch_tokens = max(min(one.scheduler.token_budget for one in sizings), sequences)
    if deployment.is_llama_like:
        longest = max(one.longest_tokens for one in sizings)
        return {"slots": sequences, "context_tokens": longest, "batch_tokens": batch_tokens}
    options = vllm_options(deployment, sequences=sequences, batch_tokens=batch_tokens)
    options["max_context_tokens"] = longest_context(deployment, concurrency=1)
    if deployment.weights == "fp8" and deployment.anatomy.recipe is None:
        options["quantization"] = "fp8"  # vLLM makes it of the release as it loads it
    return options
