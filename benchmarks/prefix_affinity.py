"""What choosing an upstream by prompt prefix is worth: cache hits and time to first token against round robin.

    python -m benchmarks.prefix_affinity [--spread] [--trace FILE] [--replicas 4 8] [--model M --machine X]

Replays the Mooncake conversation trace (one hour, 12,031 requests, 12,035 input tokens each) over replicas that batch
continuously, prefill in chunks and keep a prefix cache of what their memory leaves; their step times come from
`ownward.perf` for the model and the machine. Each request is a body of bytes, four a token and equal where the trace's
blocks are equal, and is placed by the gateway's own `Prefixes`, which sees nothing of the replicas but what
the gateway sees: what it sent, and what has answered. The requests that each policy gave to a replica are then replayed
through `ownward.simulation`, whose figures are the ones printed. Writes benchmarks/results/prefix_affinity-DATE.json.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.machine_facts import new_record, write_record

from ownward import traffic
from ownward.gateway.placing.affinity import Prefixes, Prompt
from ownward.gateway.placing.peer_load import PeerLoad
from ownward.gateway.placing.routing import Target, compile_plan
from ownward.perf import StepModel, deploy, weight_format
from ownward.plan import Plan, Tier, Upstream
from ownward.simulation import Scheduler, simulate
from ownward.traffic import Trace

TRACE = Path(__file__).resolve().parents[2] / "shared/data/traces/mooncake_conversation.parquet"
BYTES_A_TOKEN = 4
SCHEDULER = Scheduler()
_LAG_S = 0.02


class Replica:
    """One engine, seen from outside: when each of its requests has its first token and when its last.

    It answers the question that a static replay cannot: what is in flight where when the next request comes.
    """

    def __init__(self, trace: Trace, blocks: list[tuple[int, ...]], model: StepModel) -> None:
        """Start idle and empty."""
        self.inputs, self.outputs = trace.input_tokens.tolist(), trace.output_tokens.tolist()
        self.blocks = blocks
        self.model = model
        self.block_tokens = trace.prefix_block_tokens or 512
        self.capacity = model.capacity_blocks * model.block_tokens // self.block_tokens
        self.now_s = 0.0
        self.waiting: deque[int] = deque()
        self.prefilling: deque[list[int]] = deque()
        self.decoding: list[tuple[int, int]] = []
        self.step = self.context = self.used = 0
        self.cache: OrderedDict[int, None] = OrderedDict()

    def add(self, request: int, now_s: float) -> None:
        """Queue a request."""
        if not (self.waiting or self.prefilling or self.decoding):
            self.now_s = max(self.now_s, now_s)
        self.waiting.append(request)

    def advance(self, until_s: float) -> Iterator[tuple[str, int]]:
        """Run steps that begin before `until_s`; yield each first token and each end."""
        while self.now_s < until_s:
            self._admit()
            if self.prefilling:
                yield from self._prefill()
            elif self.decoding:
                self._decode(until_s)
            else:
                return
            while self.decoding and self.decoding[0][0] <= self.step:
                _, request = heapq.heappop(self.decoding)
                self.context -= self.inputs[request] + self.outputs[request]
                yield self._end(request)

    def _admit(self) -> None:
        while self.waiting and len(self.prefilling) + len(self.decoding) < SCHEDULER.max_batch:
            request = self.waiting[0]
            blocks = self.blocks[request]
            if self.used + len(blocks) + 1 > self.capacity and self.used:
                return
            self.waiting.popleft()
            hit = 0
            while hit < len(blocks) and blocks[hit] in self.cache:
                hit += 1
            for block in reversed(blocks):
                self.cache[block] = None
                self.cache.move_to_end(block)
            self.used += len(blocks) + 1
            while len(self.cache) > max(self.capacity, self.used):
                self.cache.popitem(last=False)
            self.prefilling.append([request, min(hit * self.block_tokens, self.inputs[request] - 1)])

    def _prefill(self) -> Iterator[tuple[str, int]]:
        left, tokens, contexts, done = max(SCHEDULER.token_budget - len(self.decoding), 1), 0, 0.0, []
        while self.prefilling and left > 0:
            head = self.prefilling[0]
            count = min(left, self.inputs[head[0]] - head[1])
            contexts += count * (head[1] + count / 2)
            tokens, left, head[1] = tokens + count, left - count, head[1] + count
            if head[1] >= self.inputs[head[0]]:
                done.append(head[0])
                self.prefilling.popleft()
        self.now_s += self.model.compute_step_s(
            prefill_tokens=tokens,
            prefill_token_contexts=contexts,
            decode_sequences=len(self.decoding),
            decode_context_tokens=self.context,
        )
        self.step += 1
        self.context += len(self.decoding)
        for request in done:
            yield "first", request
            if self.outputs[request] > 1:
                heapq.heappush(self.decoding, (self.step + self.outputs[request] - 1, request))
                self.context += self.inputs[request] + 1
            else:
                yield self._end(request)

    def _decode(self, until_s: float) -> None:
        sequences = len(self.decoding)
        step_s = self.model.compute_step_s(
            prefill_tokens=0,
            prefill_token_contexts=0,
            decode_sequences=sequences,
            decode_context_tokens=self.context,
        )
        steps = min(self.decoding[0][0] - self.step, max(1, int((until_s - self.now_s) / step_s) + 1))
        self.now_s += steps * step_s
        self.step += steps
        self.context += steps * sequences

    def _end(self, request: int) -> tuple[str, int]:
        self.used -= len(self.blocks[request]) + 1
        return "end", request


class Policy:
    """Places requests, told what the gateway is told."""

    def __init__(
        self, trace: Trace, blocks: list[tuple[int, ...]], targets: tuple[Target, ...], *, workers: int
    ) -> None:
        """Start with nothing in flight."""
        self.inputs = trace.input_tokens.tolist()
        self.blocks = blocks
        self.targets = targets
        self.workers = workers
        self.cpu_s = self.now_s = 0.0
        self.in_flight = [dict.fromkeys((target.key for target in targets), 0) for _ in range(workers)]

    def place(self, request: int) -> int:
        """Return the replica for a request; worker `request % workers` decides."""
        raise NotImplementedError

    def sent(self, request: int, replica: int) -> None:
        """Note where it went."""
        self.in_flight[request % self.workers][self.targets[replica].key] += 1

    def first_token(self, request: int, replica: int) -> None:
        """Note its first token."""

    def ended(self, request: int, replica: int) -> None:
        """Note its end."""
        self.in_flight[request % self.workers][self.targets[replica].key] -= 1


class RoundRobin(Policy):
    """One after the other."""

    def place(self, request: int) -> int:
        """Take the next replica."""
        return request % len(self.targets)


class LeastOutstanding(Policy):
    """The fewest calls in flight."""

    def place(self, request: int) -> int:
        """Take the least busy replica."""
        in_flight = self.in_flight[request % self.workers]
        return min(range(len(self.targets)), key=lambda one: in_flight[self.targets[one].key])


class LeastOutstandingTold(LeastOutstanding):
    """The fewest calls in flight, where each worker tells the others its own; they hear it 20 ms later."""

    def __init__(self, *given: Any, **more: Any) -> None:
        """Start with nothing told."""
        super().__init__(*given, **more)
        self.peer_load = [PeerLoad() for _ in range(self.workers)]
        self.told: deque[tuple[float, int, dict[str, int]]] = deque()

    def place(self, request: int) -> int:
        """Take the replica with the fewest calls, by what the worker has heard by now."""
        while self.told and self.told[0][0] <= self.now_s:
            _, worker, calls = self.told.popleft()
            for other, elsewhere in enumerate(self.peer_load):
                if other != worker:
                    elsewhere.hear(worker, calls)
        worker = request % self.workers
        own, others = self.in_flight[worker], self.peer_load[worker].totals
        keys = [target.key for target in self.targets]
        return min(range(len(keys)), key=lambda one: own[keys[one]] + others.get(keys[one], 0))

    def sent(self, request: int, replica: int) -> None:
        """Note and tell it."""
        super().sent(request, replica)
        self._tell(request, replica)

    def ended(self, request: int, replica: int) -> None:
        """Note and tell it."""
        super().ended(request, replica)
        self._tell(request, replica)

    def _tell(self, request: int, replica: int) -> None:
        worker, key = request % self.workers, self.targets[replica].key
        self.told.append((self.now_s + _LAG_S, worker, {key: self.in_flight[worker][key]}))


class ByPrefix(Policy):
    """The gateway's."""

    def __init__(self, *given: Any, **more: Any) -> None:
        """Start with nothing seen."""
        super().__init__(*given, **more)
        self.prefixes = [Prefixes() for _ in range(self.workers)]
        self.waiting: dict[int, int] = {}
        self.prompt = Prompt()

    def place(self, request: int) -> int:
        """Ask the gateway's memory."""
        body = _prompt_bytes(self.blocks[request], self.inputs[request])
        started_s = time.process_time()
        self.prompt = Prompt(body)
        worker = request % self.workers
        ordered, _ = self.prefixes[worker].order(self.targets, self.prompt, self.in_flight[worker])
        self.cpu_s += time.process_time() - started_s
        return self.targets.index(ordered[0])

    def sent(self, request: int, replica: int) -> None:
        """Note the prompt as well."""
        super().sent(request, replica)
        started_s = time.process_time()
        self.waiting[request] = self.prefixes[request % self.workers].begin(self.targets[replica], self.prompt)
        self.cpu_s += time.process_time() - started_s

    def first_token(self, request: int, replica: int) -> None:
        """Note that its prompt waits no more."""
        self.prefixes[request % self.workers].end(self.targets[replica], self.waiting.pop(request))


class ByPrefixTold(ByPrefix):
    """The gateway's, where each worker tells the others what it does; they hear it 20 ms later."""

    def __init__(self, *given: Any, **more: Any) -> None:
        """Start with nothing told."""
        super().__init__(*given, **more)
        self.told: list[tuple[float, int, int, Any]] = []
        self.messages = 0
        for prefixes in self.prefixes:
            prefixes.on_news = lambda: None

    def place(self, request: int) -> int:
        """Ask the memory of the worker, which has heard by now what was told long enough ago."""
        while self.told and self.told[0][0] <= self.now_s:
            _, _, worker, told = heapq.heappop(self.told)
            for other, prefixes in enumerate(self.prefixes):
                if other != worker:
                    prefixes.hear(worker, told, self.targets)
        return super().place(request)

    def sent(self, request: int, replica: int) -> None:
        """Note and tell it."""
        super().sent(request, replica)
        self._tell(request)

    def first_token(self, request: int, replica: int) -> None:
        """Note and tell it."""
        super().first_token(request, replica)
        self._tell(request)

    def ended(self, request: int, replica: int) -> None:
        """Note and tell it."""
        super().ended(request, replica)
        self.prefixes[request % self.workers].note_load(self.targets[replica].key)
        self._tell(request)

    def _tell(self, request: int) -> None:
        worker = request % self.workers
        self.messages += 1
        news = self.prefixes[worker].take_news(self.in_flight[worker])
        heapq.heappush(self.told, (self.now_s + _LAG_S, self.messages, worker, news))


class ByPrefixWhole(ByPrefix):
    """The gateway's, where no client streams, so that nothing is known of first tokens."""

    def first_token(self, request: int, replica: int) -> None:
        """Hear nothing."""

    def ended(self, request: int, replica: int) -> None:
        """Note that its prompt waits no more, now."""
        Policy.ended(self, request, replica)
        ByPrefix.first_token(self, request, replica)


POLICIES: dict[str, tuple[type[Policy], int]] = {
    "round_robin": (RoundRobin, 1),
    "least_outstanding": (LeastOutstanding, 1),
    "least_outstanding, four workers": (LeastOutstanding, 4),
    "least_outstanding, four workers that tell each other": (LeastOutstandingTold, 4),
    "prefix": (ByPrefix, 1),
    "prefix, answers not streamed": (ByPrefixWhole, 1),
    "prefix, two workers": (ByPrefix, 2),
    "prefix, four workers": (ByPrefix, 4),
    "prefix, two workers that tell each other": (ByPrefixTold, 2),
    "prefix, four workers that tell each other": (ByPrefixTold, 4),
}


def _prompt_bytes(blocks: tuple[int, ...], tokens: int) -> bytes:
    parts = [hashlib.sha256(b"%d" % block).digest() * (512 * BYTES_A_TOKEN // 32) for block in blocks]
    return b"".join(parts)[: tokens * BYTES_A_TOKEN]


def run(policy: Policy, trace: Trace, blocks: list[tuple[int, ...]], model: StepModel) -> np.ndarray:
    """Return the replica of each request."""
    replicas = [Replica(trace, blocks, model) for _ in policy.targets]
    chosen = np.empty(len(trace), dtype=np.int64)
    for request, now_s in enumerate(trace.arrival_s.tolist()):
        for number, replica in enumerate(replicas):
            for what, which in replica.advance(now_s):
                policy.now_s = min(replica.now_s, now_s)
                (policy.first_token if what == "first" else policy.ended)(which, number)
        policy.now_s = now_s
        number = policy.place(request)
        chosen[request] = number
        policy.sent(request, number)
        replicas[number].add(request, now_s)
    return chosen


def measure(trace: Trace, model: StepModel, replicas: int, name: str) -> dict[str, Any]:
    """Return what users of a policy would have seen."""
    kind, workers = POLICIES[name]
    offsets, ids = trace.prefix_offsets, trace.prefix_block_ids
    assert offsets is not None
    assert ids is not None
    flat, ends = ids.tolist(), offsets.tolist()
    blocks = [tuple(flat[start:end]) for start, end in pairwise(ends)]
    policy = kind(trace, blocks, _targets(replicas, model), workers=workers)
    chosen = run(policy, trace, blocks, model)
    ttft, cached = np.full(len(trace), np.nan), 0
    for number in range(replicas):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            result = simulate(trace.take(rows), model, SCHEDULER, is_compiled=False)
            ttft[rows] = result.per_request.ttft_s
            cached += result.cached_input_tokens
    share = np.bincount(chosen, minlength=replicas) / len(trace)
    return {
        "policy": name,
        "replicas": replicas,
        "cached_fraction": round(cached / int(trace.input_tokens.sum()), 4),
        **{f"ttft_p{q}_s": round(float(np.nanpercentile(ttft, q)), 3) for q in (50, 90, 99)},
        "ttft_mean_s": round(float(np.nanmean(ttft)), 3),
        "largest_share_over_even": round(float(share.max() * replicas), 3),
        "placing_cpu_us": round(policy.cpu_s / len(trace) * 1e6, 1) or None,
    }


def _targets(replicas: int, model: StepModel) -> tuple[Target, ...]:
    upstreams = tuple(Upstream(name=f"r{n}", url=f"http://127.0.0.1:{9000 + n}") for n in range(replicas))
    tier = Tier(
        name="t",
        kind="owned",
        model="m",
        engine="adopted",
        upstreams=upstreams,
        cache_tokens=model.capacity_blocks * model.block_tokens,
    )
    return compile_plan(Plan(name="p", tiers={"t": tier}, workloads={})).targets["t"]


def step_model_of(model: str, machine: str, trace: Trace) -> StepModel:
    """Return the step times that `ownward.perf` predicts for a deployment."""
    from ownward.cli._lookup import find_anatomy, find_machines

    count, found = find_machines(machine)
    deployment = deploy(
        find_anatomy(model), machine=found, machines_count=count, engine="vllm", weights=weight_format("bf16"),
        kv_type="bf16",
    )  # fmt: skip
    assert not isinstance(deployment, str), deployment
    context = int((trace.input_tokens + trace.output_tokens).mean())
    return deployment.compute_step_model(context_tokens=context)


def spread(arrival_s: np.ndarray) -> np.ndarray:
    """Return arrivals of which those that share an instant are spread evenly over the time until the next one."""
    instants, firsts, counts = np.unique(arrival_s, return_index=True, return_counts=True)
    gaps_s = np.append(np.diff(instants), 0.0)
    place = np.arange(len(arrival_s)) - np.repeat(firsts, counts)
    return arrival_s + np.repeat(gaps_s / counts, counts) * place


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--replicas", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--machine", default="H100 SXM")
    parser.add_argument("--cache-times", type=int, nargs="*", default=[1, 8], help="caches larger by so much")
    parser.add_argument(
        "--spread",
        action="store_true",
        help="requests of one instant come evenly until the next: the trace states times in steps of 3 s",
    )
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--out", type=Path, help="where the result is written")
    parser.add_argument("--requests", type=int, default=None, help="only the first so many")
    arguments = parser.parse_args()
    with arguments.trace.open("rb") as stream:
        trace = Trace.from_records(list(traffic.read(stream, name=str(arguments.trace))))
    if arguments.requests:
        trace = trace.take(np.arange(arguments.requests))
    if arguments.spread:
        trace = replace(trace, arrival_s=spread(trace.arrival_s))
    model = step_model_of(arguments.model, arguments.machine, trace)
    rows = []
    for times in arguments.cache_times:
        larger = replace(model, capacity_blocks=model.capacity_blocks * times)
        for replicas in arguments.replicas:
            for name in arguments.policies:
                rows.append({"cache_times": times, **measure(trace, larger, replicas, name)})
                print(json.dumps(rows[-1]), flush=True)
    figures = {
        **new_record("prefix_affinity"),
        "trace": {"file": arguments.trace.name, "requests": len(trace), "is_spread": arguments.spread},
        "deployment": {"model": arguments.model, "machine": arguments.machine, "weights": "bf16", "engine": "vllm"},
        "step_model": {name: getattr(model, name) for name in StepModel.__slots__},
        "rows": rows,
    }
    print(f"written to {write_record(figures, arguments.out)}")


if __name__ == "__main__":
    main()
