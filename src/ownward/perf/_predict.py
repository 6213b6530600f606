"""Cases in, predictions out: one number with a band, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.core import Basis, UnknownQuantization
from ownward.perf._deployment import Deployment, deploy
from ownward.perf._weights import weight_format

Metric = Literal[
    "prefill_tok_s", "decode_tok_s_per_user", "decode_tok_s_total", "ttft_ms", "tpot_ms", "e2e_ms", "e2e_total_tok_s"
]
METRICS: tuple[Metric, ...] = get_args(Metric)
_LARGEST_BAND = 0.9
# What memory alone decides at a small batch, so that a device of unknown compute rate can still be answered.
_MEMORY_BOUND = frozenset({"decode_tok_s_per_user", "tpot_ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: a metric of a model under an engine on some machines, at a load.

    `context_depth`: tokens already in the cache before the prompt. None is "as usual":
    concurrency 1, a prompt of 512, an answer of 128, no depth.
    """

    id: str
    anatomy: Anatomy
    machine: Machine
    machines_count: int = 1
    engine: str = "llama.cpp"
    weights: str = "bf16"
    kv_type: str = "bf16"
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    expert_parallel: int | None = None
    cpu_offload: bool = False
    speculative: bool = False
    concurrency: int = 1
    input_tokens: int = 512
    output_tokens: int = 128
    context_depth: int = 0
    metric: str = "decode_tok_s_per_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A value in its metric's unit with its 80% band, or None and the reason in `refused`."""

    id: str
    value: float | None
    low80: float | None
    high80: float | None
    basis: Basis | None
    class_: str
    memory_bytes: int | None
    fits: bool | None
    refused: str | None


def predict(case: Case) -> Prediction:
    """Return the prediction of `case`; it never raises for a case it cannot answer, it says why."""
    reason = _refusal(case)
    if reason is not None:
        return _refused(case, reason)
    try:
        weights = weight_format(case.weights)
    except UnknownQuantization as unknown:
        return _refused(case, str(unknown))
    deployment = deploy(
        case.anatomy,
        machine=case.machine,
        machines_count=case.machines_count,
        engine=case.engine,
        weights=weights,
        kv_type=case.kv_type.lower() or "bf16",
    )
    if isinstance(deployment, str):
        return _refused(case, deployment)
    context = case.context_depth + case.input_tokens + case.output_tokens
    memory = deployment.compute_memory(concurrency=case.concurrency, context_tokens=context)
    usable = deployment.usable_bytes
    fits = None if usable is None else memory.total <= usable
    if fits is False:
        return _refused(case, "it does not fit in this memory", memory_bytes=memory.total, fits=False)
    if deployment.flop_per_s is None and case.metric not in _MEMORY_BOUND:
        return _refused(case, f"the compute rate of {case.machine.name!r} is not known", memory_bytes=memory.total)
    value, half_width = _value(case, deployment)
    reach = min(half_width, _LARGEST_BAND)
    return Prediction(
        id=case.id,
        value=value,
        low80=value * (1 - reach),
        high80=value * (1 + reach),
        basis=deployment.basis,
        class_=_class_name(case, deployment),
        memory_bytes=memory.total,
        fits=fits,
        refused=None,
    )


def _refusal(case: Case) -> str | None:
    if case.metric not in METRICS:
        return f"metric {case.metric!r} is none of {', '.join(METRICS)}"
    if case.speculative:
        return "speculative decoding is not predicted"
    if case.cpu_offload:
        return "weights over two memories are not predicted"
    if case.machines_count < 1 or case.concurrency < 1:
        return "machines_count and concurrency are at least 1"
    return None


def _value(case: Case, deployment: Deployment) -> tuple[float, float]:
    efficiency = deployment.efficiency
    middle = case.context_depth + case.input_tokens + case.output_tokens / 2
    step_s = deployment.compute_decode_step_s(sequences=case.concurrency, context_tokens=middle)
    if case.metric in _MEMORY_BOUND:
        loaded = 0.3 if case.concurrency > 1 else 0.0
        value = 1 / step_s if case.metric == "decode_tok_s_per_user" else 1e3 * step_s
        return value, max(efficiency.decode_error, loaded)
    prefill_s = deployment.compute_prefill_s(tokens=max(case.input_tokens, 1), context_before=case.context_depth)
    latency_s = prefill_s * case.concurrency + step_s * case.output_tokens
    match case.metric:
        case "prefill_tok_s":
            return case.input_tokens / prefill_s, efficiency.prefill_error
        case "decode_tok_s_total":
            return case.concurrency * case.output_tokens / latency_s, max(efficiency.decode_error, 0.4)
        case "ttft_ms":
            return 1e3 * prefill_s * (case.concurrency + 1) / 2, max(efficiency.prefill_error, 0.6)
        case "e2e_ms":
            return 1e3 * latency_s, max(efficiency.decode_error, 0.4)
        case _:
            tokens = case.concurrency * (case.input_tokens + case.output_tokens)
            return tokens / latency_s, max(efficiency.decode_error, 0.4)


def _class_name(case: Case, deployment: Deployment) -> str:
    shape = "moe" if case.anatomy.experts else "dense"
    return f"{deployment.efficiency.engine}/{case.machine.kind}/{shape}/{case.metric}"


def _refused(case: Case, reason: str, *, memory_bytes: int | None = None, fits: bool | None = None) -> Prediction:
    return Prediction(
        id=case.id,
        value=None,
        low80=None,
        high80=None,
        basis=None,
        class_="refused",
        memory_bytes=memory_bytes,
        fits=fits,
        refused=reason,
    )
