"""Prompts read by some copies of a deployment and answers decoded by others, with the caches sent between them."""

from __future__ import annotations

from ownward.perf._load import Load
from ownward.perf._network import Network
from ownward.perf._serving import Served

_ROUNDS = 40
_FULL = 0.999


def transfer_s(load: Load, network: Network) -> float:
    """Return the seconds in which the cache and state of one prompt reach the decoding copy.

    Every device sends its own part; of a cache that each device keeps whole one copy is sent.
    """
    deployment = load.deployment
    sent = (
        deployment.cache_bytes(load.context_depth + load.input_tokens)
        + deployment.anatomy.recurrent_state_bytes_per_seq
    )
    senders = (
        deployment.tensor_parallel * deployment.pipeline_parallel
        if deployment.cache_copies == 1
        else deployment.pipeline_parallel
    )
    return network.latency_s + sent / (network.bytes_per_s * senders)


def serve_disaggregated(
    load: Load,
    network: Network,
    *,
    prefill_replicas: int,
    decode_replicas: int = 1,
    concurrency: int | None = None,
    arrivals_per_s: float | None = None,
) -> Served:
    """Return what users get where `prefill_replicas` copies only read prompts and `decode_replicas` only decode.

    The slower of the two pools, and the links between them, set the rate; who waits, waits before the slower one.
    Throughput is that of all copies together. Decoding sees no prompts; a cache on its way delays the second token.
    `concurrency` users at a time, or requests that arrive at a rate.
    """
    reading_s = load.alone_s
    sent_s = transfer_s(load, network)
    read_rate = prefill_replicas / max(reading_s, 1e-9)
    link_rate = min(prefill_replicas, decode_replicas) / sent_s
    most = float(load.max_batch)
    wanted = min(read_rate, link_rate) if arrivals_per_s is None else min(read_rate, link_rate, arrivals_per_s)

    def decoded(batch: float) -> float:
        return decode_replicas * batch / (load.decoded_tokens * load.congestion(batch) * load.token_s(batch))

    first_s = load.deployment.efficiency.first_s
    if arrivals_per_s is None:
        users = float(concurrency or 1)
        batch = min(max(users / decode_replicas, 1e-6), most)
    else:
        batch = most
    low, high = 1e-6, batch
    for _ in range(_ROUNDS):  # the batch that decodes as much as is wanted, and that its users can fill
        middle = (low + high) / 2
        rate = decoded(middle)
        away = rate * (reading_s + sent_s) if arrivals_per_s is None else 0.0
        if rate > wanted or (arrivals_per_s is None and decode_replicas * middle + away > users):
            high = middle
        else:
            low = middle
    batch = max(high, 1e-6)
    rate = decoded(batch)
    step_s = load.congestion(batch) * load.token_s(batch)
    if arrivals_per_s is None:
        in_answers = rate * (load.decoded_tokens * step_s + sent_s)
        ttft_s = max((users - in_answers) / rate, reading_s) + first_s
    else:
        busy = min(arrivals_per_s / read_rate, _FULL)
        ttft_s = first_s + reading_s * (1 + busy / (2 * (1 - busy)))  # M/D/1 before each copy that reads
    return Served(ttft_s, step_s + sent_s / load.decoded_tokens, rate * load.output_tokens)
