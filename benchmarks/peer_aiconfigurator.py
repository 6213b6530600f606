"""One predictor of others asked by its own interface: run by the Python that has `aiconfigurator-core` installed.

Reads questions as JSON Lines from standard input and writes an answer or a refusal for each; `benchmarks.peers` poses
them. A load is its "aggregated" estimate at the largest batch, up to the concurrency, that its own memory check lets
pass; what it has no data for it refuses.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from functools import cache
from typing import Any

_BATCHES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
_CHUNKS = {"vllm": 2048, "sglang": 8192, "trtllm": 8192}
# weights of a question -> how dense layers, experts and the cache are computed; none: as the model's own config says
_MODES = {
    "native": (None, None, None),
    "bf16": ("bfloat16", "bfloat16", None),
    "fp8": ("fp8", "fp8", None),
    "nvfp4": ("nvfp4", "nvfp4", "fp8"),
    "int4": ("int4_wo", "int4_wo", None),
    "mxfp4": (None, None, None),
}


@cache
def _database(system: str, backend: str) -> Any:
    from aiconfigurator_core.sdk import perf_database

    version = perf_database.get_latest_database_version(system, backend)
    return None if version is None else perf_database.get_database(system, backend, version)


@cache
def _model(  # noqa: PLR0917 -- the key under which it is kept
    path: str, backend: str, tensor: int, pipeline: int, expert: int, weights: str, cache_type: str
) -> Any:
    from aiconfigurator_core.sdk import models
    from aiconfigurator_core.sdk.config_builders import build_model_config

    dense, experts, kept = _MODES[weights]
    if cache_type == "fp8":
        kept = "fp8"
    config = build_model_config(
        tensor, pipeline, 1, tensor // expert, expert,
        gemm_quant_mode=dense, moe_quant_mode=experts, kvcache_quant_mode=kept,
    )  # fmt: skip
    return models.get_model(path, config, backend)


def answer(asked: dict[str, Any]) -> float:
    """Return what it predicts, in the unit of the metric.

    Raises: ValueError and whatever else it raises, where it has no answer.
    """
    from aiconfigurator_core.sdk.backends.factory import get_backend
    from aiconfigurator_core.sdk.config import RuntimeConfig

    database = _database(asked["system"], asked["backend"])
    if database is None:
        raise ValueError("no data of this engine on this system")
    model = _model(
        asked["path"], asked["backend"], asked["tensor_parallel"], asked["pipeline_parallel"], asked["expert_parallel"],
        asked["weights"], asked["kv_type"],
    )  # fmt: skip
    backend = get_backend(asked["backend"])
    for batch in _BATCHES:
        if batch > asked["concurrency"]:
            continue
        runtime = RuntimeConfig(
            batch_size=batch, isl=asked["input_tokens"], osl=max(asked["output_tokens"], 2), prefix=0
        )
        summary = backend.run_agg(model, database, runtime, ctx_tokens=_CHUNKS[asked["backend"]])
        if summary.check_oom() or summary.check_kv_cache_oom():
            continue
        row = summary.get_summary_df().iloc[0]
        match asked["metric"]:
            case "decode_tok_s_total":
                return float(row["tokens/s"]) * asked["replicas"]
            case "decode_tok_s_per_user":
                return float(row["tokens/s/user"])
            case "tpot_ms":
                return float(row["tpot"])
            case "ttft_ms":
                return float(row["ttft"])
            case _:
                return float(row["request_latency"])
    raise ValueError("it does not fit in memory")


def main() -> None:
    """Answer every line."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said: dict[str, Any] = {"id": asked["id"], "value": answer(asked), "refused": None}
        except Exception as error:  # noqa: BLE001 -- another program's faults are its refusals, counted by their text
            said = {"id": asked["id"], "value": None, "refused": f"{type(error).__name__}: {error}"[:160]}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
