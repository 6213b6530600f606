"""Cases in, predictions out: one number with a band, or the reason why there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ownward.core import Basis, UnknownQuantization
from ownward.perf._case import METRICS, Case
from ownward.perf._deploy import as_run, deploy
from ownward.perf._deployment import LLAMA_LIKE, ROUTING_SKEW, Deployment, Memory
from ownward.perf._disaggregation import serve_disaggregated
from ownward.perf._efficiency import Coefficients, load_coefficients
from ownward.perf._formats import NATIVE, resident_bytes, weight_format
from ownward.perf._load import Load
from ownward.perf._network import read_network
from ownward.perf._parallel import parallel_degrees
from ownward.perf._roofline import within_roofline
from ownward.perf._scenarios import serve_within
from ownward.perf._serving import Run, Served, serve_arrivals, serve_together
from ownward.perf._speculation import read_speculation
from ownward.perf._traits import engine_family
from ownward.perf._usual import is_mean_length, usual_requests

# What somebody ran who did not say, where the release's own weights do not fit.
_NARROWER = ("fp8", "nvfp4")
_FILLING = 16
_WEIGHT_SHARE = 0.6
_SHARE = re.compile(r"gpu_experts=(\d+(?:\.\d+)?)%")
_PLACING = re.compile(r"gpu_experts=\S+ (frequency|dynamic)")


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


def predict(case: Case, coefficients: Coefficients | None = None) -> Prediction:
    """Return the prediction of `case`; it never raises for a case it cannot answer, it says why.

    `coefficients` replace the shipped ones. What does not fit in a card's memory is predicted with the rest in the
    host's, where the engine can do that, and refused otherwise; `fits` says so.
    """
    reason = _refusal(case)
    if reason is not None:
        return _refused(case, reason)
    case = with_usual_parallelism(without_repeated_depth(case))
    try:
        weights = weight_format(case.weights)
    except UnknownQuantization as unknown:
        return _refused(case, str(unknown))
    placed = deploy_case(case, weights, coefficients)
    if isinstance(placed, Prediction):
        return placed
    deployment, memory_bytes, fits = placed
    if fits is not False:
        memory_bytes = _memory_of_load(case, deployment)
    return predict_deployed(case, deployment, coefficients, memory_bytes=memory_bytes, fits=fits)


def _memory_of_load(case: Case, deployment: Deployment) -> int:
    """Return the bytes of a replica with as many of the load's sequences as run at a time; the others wait outside."""
    context = case.context_depth + case.input_tokens + case.output_tokens
    running = min(max(round(case.concurrency / case.replicas), 1), deployment.admitted_sequences)
    held = deployment.most_sequences(context)
    if held is not None:
        running = min(running, max(held, 1))
    return deployment.compute_memory(concurrency=running, context_tokens=context).total


def predict_deployed(
    case: Case,
    deployment: Deployment,
    coefficients: Coefficients | None = None,
    *,
    memory_bytes: int | None = None,
    fits: bool | None = True,
) -> Prediction:
    """Return the prediction of `case` on a deployment as it stands, its class's band held within the roofline."""
    value = compute_value(case, deployment)
    class_ = calibration_class(case, deployment)
    low, high = (coefficients or load_coefficients()).band(class_, deployment.traits.device)
    low80, high80 = within_roofline(
        case, deployment, value=value, low=value * math.exp(low), high=value * math.exp(high)
    )
    return Prediction(
        id=case.id,
        value=value,
        low80=low80,
        high80=high80,
        basis=deployment.basis,
        class_=class_,
        memory_bytes=memory_bytes,
        fits=fits,
        refused=None,
    )


def without_repeated_depth(case: Case) -> Case:
    """Return the case with a prompt that is also stated as depth counted once: cached for decode, new otherwise."""
    if not case.context_depth or case.context_depth != case.input_tokens or case.metric == "prefill_tok_s":
        return case
    if case.metric.startswith("decode"):
        return replace(case, input_tokens=0)
    return replace(case, context_depth=0)


def with_usual_parallelism(case: Case) -> Case:
    """Return the case with the degrees of parallelism that people use who state none: as many share a layer as can.

    Under a load that fills every device, as few as hold the weights in 0.6 of their memory; the rest are replicas, or
    take turns where fewer cannot hold the weights.
    """
    case = _over_nodes(_with_all_devices(case))
    devices = case.machines_count
    if _attends_apart(case):
        case = replace(case, attention_data_parallel=True, expert_parallel=case.expert_parallel or True)
    if devices == 1 or case.tensor_parallel or case.pipeline_parallel or case.cpu_offload:
        return case
    if engine_family(case.engine) in LLAMA_LIKE:
        return case
    most, turns = parallel_degrees(devices, _can_share(case))
    usable = case.machine.usable_memory
    if usable is not None:
        try:
            resident = resident_bytes(case.anatomy, as_run(weight_format(case.weights), case.machine))
        except UnknownQuantization:
            return case
        if resident > usable.value * most:
            return replace(case, tensor_parallel=most, pipeline_parallel=turns)
        if case.concurrency >= _FILLING * devices:
            degree = 1
            while degree < most and resident > _WEIGHT_SHARE * usable.value * degree:
                degree *= 2
            most = degree
    return replace(case, machines_count=most, tensor_parallel=most, replicas=case.replicas * (devices // most))


def _can_share(case: Case) -> Callable[[int], bool]:
    return bool if case.attention_data_parallel else case.anatomy.can_share_layers


def _with_all_devices(case: Case) -> Case:
    """Return the case with the devices that its degrees need, or in a pipeline where fewer cannot hold the weights."""
    if engine_family(case.engine) in LLAMA_LIKE:
        return case
    shared = case.tensor_parallel or 1
    needed = shared * (case.pipeline_parallel or 1)
    if needed > case.machines_count:
        return replace(case, machines_count=needed)
    usable = case.machine.usable_memory
    if not case.tensor_parallel or case.pipeline_parallel or needed == case.machines_count or usable is None:
        return case
    try:
        resident = resident_bytes(case.anatomy, as_run(weight_format(case.weights), case.machine))
    except UnknownQuantization:
        return case
    return replace(case, pipeline_parallel=case.machines_count // shared) if resident > usable.value * shared else case


def _over_nodes(case: Case) -> Case:
    """Return the case with layers shared inside a node and nodes in turn, where degrees are not stated."""
    if case.nodes == 1 or case.tensor_parallel or case.pipeline_parallel or engine_family(case.engine) in LLAMA_LIKE:
        return case
    sharing, turns = parallel_degrees(case.machines_count // case.nodes, _can_share(case))
    return replace(case, tensor_parallel=sharing, pipeline_parallel=turns * case.nodes)


def _attends_apart(case: Case) -> bool:
    """Return whether attention is cut by sequences though nobody says so: TensorRT-LLM's mixtures under a full load.

    Source: TensorRT-LLM 1.0, docs/source/performance/perf-overview.md, options for MoE models (enable_attention_dp).
    """
    shared = case.tensor_parallel or case.machines_count // (case.pipeline_parallel or 1)
    is_full = case.concurrency >= _FILLING * case.machines_count
    return is_full and shared > 1 and bool(case.anatomy.experts) and engine_family(case.engine) == "tensorrt-llm"


def calibration_class(case: Case, deployment: Deployment) -> str:
    """Return the class whose residuals give the band: metric, engine family, load, device family, model shape."""
    traits = deployment.traits
    load = "offload" if deployment.offloaded_fraction else "spec" if case.speculative else "one"
    if load == "one" and (case.concurrency > 1 or case.arrivals_per_s or case.limits):
        load = "many"
    return f"{case.metric}/{traits.engine}/{load}/{traits.family}/{traits.shape}"


def _refusal(case: Case) -> str | None:
    if case.metric not in METRICS:
        return f"metric {case.metric!r} is not one of {', '.join(METRICS)}"
    if min(case.machines_count, case.concurrency, case.replicas, case.nodes) < 1:
        return "machines_count, replicas, nodes and concurrency are at least 1"
    if case.machines_count % case.nodes:
        return f"{case.machines_count} devices are not the same number in each of {case.nodes} nodes"
    if case.input_tokens < 0 or case.output_tokens < 0 or case.context_depth < 0:
        return "tokens are counts, none below 0"
    return None


def deploy_case(
    case: Case, weights: str, coefficients: Coefficients | None = None
) -> tuple[Deployment, int, bool | None] | Prediction:
    """Return the deployment, its memory in bytes and whether it fits; or a refused prediction.

    Weights that nobody named are the release's, or narrower ones where those do not fit. They lie over two memories
    where the case asks for that, or where they must and the engine can.
    """

    def with_offload(named: str, offloaded: float | None) -> Deployment | str:
        return deploy(
            case.anatomy,
            machine=case.machine,
            machines_count=case.machines_count,
            engine=case.engine,
            weights=named,
            kv_type=case.kv_type,
            tensor_parallel=case.tensor_parallel,
            pipeline_parallel=case.pipeline_parallel,
            expert_parallel=case.expert_parallel,
            attention_data_parallel=case.attention_data_parallel,
            prompt_chunk_tokens=case.prompt_chunk_tokens,
            nodes=case.nodes,
            network=case.network,
            offloaded_fraction=offloaded,
            host_bytes_per_s=case.host_bytes_per_s,
            slow_host=case.slow_host,
            coefficients=coefficients,
        )

    context = case.context_depth + case.input_tokens + case.output_tokens
    # who says FP8 of a release that keeps its experts in 4 bits means the release
    released = (NATIVE,) if weights == "fp8" and case.anatomy.recipe is not None else ()
    for named in (weights, *(_NARROWER if weights == NATIVE else released)):
        found = with_offload(named, None)
        if isinstance(found, str):
            return _refused(case, found)
        deployment = found
        memory = deployment.compute_memory(concurrency=1, context_tokens=context)
        usable = deployment.usable_bytes
        fits = None if usable is None else memory.total <= usable
        if fits is not False:
            break
    if fits is not False and not case.cpu_offload:
        return deployment, memory.total, fits
    if case.machine.is_whole_computer or not (case.cpu_offload or deployment.is_llama_like):
        if fits is False:
            return _refused(case, "it does not fit in this memory", memory_bytes=memory.total, fits=False)
        return deployment, memory.total, fits
    offloaded = with_offload(deployment.weights, _offloaded_fraction(case, deployment, memory))
    assert not isinstance(offloaded, str)  # the same choices were deployed before
    return offloaded, memory.total, fits


def _offloaded_fraction(case: Case, deployment: Deployment, memory: Memory) -> float:
    """Return the share of the layers, or of the experts where there are any, that goes to the host's memory."""
    stated = _stated_offload(case)
    if stated is not None:
        return min(max(stated, 0.0), 1.0)
    usable = deployment.usable_bytes
    movable = deployment.counted.routed or deployment.counted.resident + memory.cache  # layers take caches along
    missing = 0.0 if usable is None else (memory.total - usable) / max(movable, 1)
    if case.cpu_offload and case.anatomy.experts and missing <= 0:  # none has to go, so all of them are meant
        return 1.0
    return min(max(missing, 0.0), 1.0)


def _stated_offload(case: Case) -> float | None:
    """Return the share that is read from the host's memory, where the case states what the card keeps.

    Placing by frequency keeps the experts that are used most: by the routing's own skew, a share of them gets more
    than that of the tokens.
    """
    found = _SHARE.search(case.cpu_offload) if isinstance(case.cpu_offload, str) else None
    if found is None:
        return None
    kept = min(float(found[1]) / 100, 1.0)
    return 1 - (kept ** (1 - ROUTING_SKEW) if _PLACING.search(str(case.cpu_offload)) else kept)


def compute_value(case: Case, deployment: Deployment) -> float:
    """Return what `case` asks of `deployment`, in the unit of its metric."""
    if case.metric == "prefill_tok_s":
        tokens = max(case.input_tokens, 1)
        prompts = max(round(case.concurrency / case.replicas), 1)
        read_s = deployment.compute_prefill_s(tokens=tokens, context_before=case.context_depth, prompts=prompts)
        return case.replicas * prompts * tokens / read_s
    served = _serve(case, deployment)
    output = max(case.output_tokens, 1)
    match case.metric:
        case "decode_tok_s_per_user":
            return 1 / served.tpot_s
        case "decode_tok_s_total":
            if case.concurrency == 1 and case.arrivals_per_s is None:
                return case.replicas / served.tpot_s
            return served.output_tokens_per_s * case.replicas
        case "ttft_ms":
            return 1e3 * served.ttft_s
        case "tpot_ms":
            return 1e3 * served.tpot_s
        case "e2e_ms":
            return 1e3 * (served.ttft_s + served.tpot_s * (output - 1))
        case _:
            each_s = served.ttft_s + served.tpot_s * output
            return case.replicas * case.concurrency * (case.input_tokens + output) / each_s


def _serve(case: Case, deployment: Deployment) -> Served:
    speculation = read_speculation(case.speculative)
    if case.prefill_replicas:
        return _share(
            serve_disaggregated(
                Load(deployment, case.input_tokens, max(case.output_tokens, 1), case.context_depth, speculation),
                case.network or read_network(None),
                prefill_replicas=case.prefill_replicas,
                decode_replicas=case.replicas,
                concurrency=case.concurrency,
                arrivals_per_s=case.arrivals_per_s,
            ),
            case.replicas,
        )
    if case.limits is not None:
        load = Load(deployment, case.input_tokens, max(case.output_tokens, 1), case.context_depth, speculation)
        return serve_within(load, case.limits, slots=Run(load, 1 << 30).slots)
    if case.arrivals_per_s is not None:
        return serve_arrivals(
            deployment,
            arrivals_per_s=case.arrivals_per_s / case.replicas,
            input_tokens=case.input_tokens,
            output_tokens=max(case.output_tokens, 1),
            context_depth=case.context_depth,
            speculation=speculation,
            requests=max(round(case.requests / case.replicas), 1) if case.requests else None,
        )
    requests = usual_requests(case.concurrency) if case.requests is None else case.requests
    return serve_together(
        deployment,
        concurrency=max(round(case.concurrency / case.replicas), 1),
        input_tokens=case.input_tokens,
        output_tokens=max(case.output_tokens, 1),
        context_depth=case.context_depth,
        speculation=speculation,
        requests=max(round(requests / case.replicas), 1) if requests else None,
        unequal=is_mean_length(case.input_tokens) if case.unequal_lengths is None else case.unequal_lengths,
    )


def _share(served: Served, copies: int) -> Served:
    return served._replace(output_tokens_per_s=served.output_tokens_per_s / copies)


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
