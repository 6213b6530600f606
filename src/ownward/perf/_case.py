"""The question that a prediction answers, and the metrics it may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.perf._network import Network
from ownward.perf._scenarios import Limits

Metric = Literal[
    "prefill_tok_s", "decode_tok_s_per_user", "decode_tok_s_total", "ttft_ms", "tpot_ms", "e2e_ms", "e2e_total_tok_s"
]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: a metric of a model under an engine on some machines, at a load.

    `expert_parallel` True: experts apart, of any degree; 1: none. `context_depth`: tokens already in the cache before
    the prompt. `cpu_offload`: whether weights lie in the host's memory too, as much as must (all experts where nothing
    must); `gpu_experts=30%` states the share that does not, `gpu_experts=30% frequency` that it is those used most.
    `arrivals_per_s`: requests that come at a rate, instead of `concurrency` users at a time. `limits`: as many as keep
    them. `requests` end a run; 0: it goes on for ever; None: as such loads usually do. `replicas`: whole copies, of
    `machines_count` each. `nodes` hold those devices together, over a `network`. `prefill_replicas`: copies besides
    that only read prompts.
    """

    id: str
    anatomy: Anatomy
    machine: Machine
    machines_count: int = 1
    replicas: int = 1
    engine: str = "llama.cpp"
    weights: str = "bf16"
    kv_type: str = ""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    expert_parallel: int | None = None
    attention_data_parallel: bool = False
    prompt_chunk_tokens: int | None = None
    cpu_offload: bool | str = False
    host_bytes_per_s: float | None = None
    slow_host: bool = False
    speculative: bool | str = False
    concurrency: int = 1
    arrivals_per_s: float | None = None
    input_tokens: int = 512
    output_tokens: int = 128
    context_depth: int = 0
    requests: int | None = None
    limits: Limits | None = None
    unequal_lengths: bool | None = None
    nodes: int = 1
    network: Network | None = None
    prefill_replicas: int = 0
    metric: str = "decode_tok_s_per_user"
