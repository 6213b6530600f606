"""The event-driven loop against one that takes every step singly, with objects and no cleverness."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownward.perf import StepModel
from ownward.simulation import Scheduler, simulate
from ownward.simulation import _compiled as compiled_loop
from ownward.traffic import Trace


@dataclass
class Sequence:
    number: int
    arrival: float
    prompt: int
    output: int
    key: int
    units: list[int]
    reused: int
    generated: int = 0
    to_prefill: int = 0
    prefilled: int = 0
    cached_tokens: int = 0  # tokens whose KV is in the cache
    blocks: int = 0  # private blocks
    held: list[int] = field(default_factory=list)  # prefix units in use
    first: float | None = None
    finish: float | None = None
    preemptions: int = 0
    hit: int | None = None

    @property
    def decodes(self) -> bool:
        return self.prefilled == self.to_prefill


class Naive:
    """One step at a time."""

    def __init__(self, trace: Trace, model: StepModel, scheduler: Scheduler, reuse: float) -> None:
        self.model, self.scheduler, self.reuse = model, scheduler, reuse
        self.unit_tokens = trace.prefix_block_tokens or model.block_tokens
        self.unit_blocks = self.unit_tokens // model.block_tokens
        self.free = model.capacity_blocks
        self.users: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.now = self.busy = self.prompts = 0.0
        self.steps = 0
        self.coming = [self.sequence(trace, number) for number in range(len(trace))]
        self.all = list(self.coming)

    def sequence(self, trace: Trace, number: int) -> Sequence:
        prompt = max(int(trace.input_tokens[number]), 1)
        key = 0
        if self.scheduler.policy == "shortest_first":
            key = prompt
        elif self.scheduler.policy == "priority" and trace.priority is not None:
            key = int(trace.priority[number])
        units = []
        reused = 0
        if trace.prefix_offsets is None:
            reused = min(int(int(trace.cached_input_tokens[number]) * self.reuse), prompt - 1)
        if trace.prefix_offsets is not None:
            low, high = trace.prefix_offsets[number : number + 2]
            for unit in trace.prefix_block_ids[low:high].tolist()[: prompt // self.unit_tokens]:
                if unit in units:
                    break
                units.append(unit)
        output = max(int(trace.output_tokens[number]), 1)
        return Sequence(number, float(trace.arrival_s[number]), prompt, output, key, units, reused, to_prefill=prompt)

    def available(self) -> int:
        return self.free + len(self.idle) * self.unit_blocks

    def take(self, count: int) -> None:
        for _ in range(count):
            if not self.free:
                unit, _ = self.idle.popitem(last=False)
                del self.users[unit]
                self.free += self.unit_blocks
            self.free -= 1

    def use(self, unit: int) -> None:
        self.users[unit] = self.users.get(unit, 0) + 1
        self.idle.pop(unit, None)

    def drop(self, one: Sequence) -> None:
        self.free += one.blocks
        one.blocks = 0
        for unit in reversed(one.held):
            self.users[unit] -= 1
            if not self.users[unit]:
                self.idle[unit] = None
        one.held = []
        self.running.remove(one)

    def preempt(self, one: Sequence) -> None:
        self.drop(one)
        one.preemptions += 1
        one.to_prefill, one.prefilled, one.cached_tokens = one.prompt + one.generated, 0, 0
        self.waiting.append(one)

    def make_room(self) -> bool:
        """Blocks for the tokens about to be decoded; True if something was preempted."""
        size = self.model.block_tokens
        needing = [one for one in self.running if one.decodes and one.cached_tokens % size == 0]
        if len(needing) <= self.available():
            for one in needing:
                self.take(1)
                one.blocks += 1
            return False
        for one in needing:
            while one in self.running and self.available() < 1:
                self.preempt(self.running[-1])
            if one not in self.running:
                break
            self.take(1)
            one.blocks += 1
        return True

    def admit(self, left: int, chunks: list[tuple[Sequence, int]]) -> None:
        while self.waiting and len(self.running) < self.scheduler.max_batch and left > 0:
            one = min(self.waiting, key=lambda waiting: (waiting.key, waiting.number))
            hits = []
            for unit in one.units[: (one.to_prefill - 1) // self.unit_tokens]:
                if unit not in self.users:
                    break
                hits.append(unit)
            cached = len(hits) * self.unit_tokens
            if not hits and not one.preemptions:
                cached = one.reused
            rest = one.to_prefill - cached
            is_too_long = one.to_prefill > self.scheduler.token_budget
            if not self.scheduler.chunked_prefill and rest > left and (chunks or not is_too_long):
                return
            needed = math.ceil(one.to_prefill / self.model.block_tokens) - len(hits) * self.unit_blocks
            idle_hits = sum(unit in self.idle for unit in set(hits))
            if needed > self.available() - idle_hits * self.unit_blocks:
                return
            self.waiting.remove(one)
            for unit in hits:
                self.use(unit)
            one.held = hits
            self.take(needed)
            one.blocks, one.prefilled, one.cached_tokens = needed, cached, cached
            if one.hit is None:
                one.hit = cached
            self.running.append(one)
            chunk = min(left, rest) if self.scheduler.chunked_prefill else rest
            chunks.append((one, chunk))
            left -= chunk

    def step(self) -> None:
        model = self.model
        was_preempted = self.make_room()
        decoding = [one for one in self.running if one.decodes]
        left = self.scheduler.token_budget - len(decoding)
        chunks = []
        for one in self.running:
            if not one.decodes:
                chunk = min(left, one.to_prefill - one.prefilled)
                chunks.append((one, chunk))
                left -= chunk
        if not was_preempted:
            self.admit(left, chunks)
        took = model.compute_step_s(
            prefill_tokens=sum(chunk for _, chunk in chunks),
            prefill_token_contexts=sum(sum(range(one.prefilled, one.prefilled + chunk)) for one, chunk in chunks),
            decode_sequences=len(decoding),
            decode_context_tokens=sum(one.cached_tokens + 1 for one in decoding),
        )
        self.now += took
        self.busy += took
        self.prompts += took
        if decoding:
            self.prompts -= model.compute_step_s(
                prefill_tokens=0,
                prefill_token_contexts=0,
                decode_sequences=len(decoding),
                decode_context_tokens=sum(one.cached_tokens + 1 for one in decoding),
            )
        self.steps += 1
        for one in sorted(decoding, key=lambda decoded: decoded.number):
            one.cached_tokens += 1
            self.emit(one)
        for one, chunk in chunks:
            one.prefilled += chunk
            one.cached_tokens += chunk
            self.share(one)
            if one.decodes:
                self.emit(one)

    def share(self, one: Sequence) -> None:
        for unit in one.units[len(one.held) : one.prefilled // self.unit_tokens]:
            if unit in self.users:
                self.free += self.unit_blocks
            one.blocks -= self.unit_blocks
            self.use(unit)
            one.held.append(unit)

    def emit(self, one: Sequence) -> None:
        one.generated += 1
        if one.first is None:
            one.first = self.now
        if one.generated == one.output:
            one.finish = self.now
            self.drop(one)

    def run(self) -> None:
        while self.coming or self.waiting or self.running:
            while self.coming and self.coming[0].arrival <= self.now + 1e-9:
                one = self.coming.pop(0)
                if math.ceil((one.prompt + one.output - 1) / self.model.block_tokens) <= self.model.capacity_blocks:
                    self.waiting.append(one)
            if self.waiting or self.running:
                self.step()
            elif self.coming:
                self.now = self.coming[0].arrival


def compare(trace: Trace, model: StepModel, scheduler: Scheduler, reuse: float = 0.0) -> Naive:
    naive = Naive(trace, model, scheduler, reuse)
    naive.run()
    found = simulate(trace, model, scheduler, recorded_reuse_fraction=reuse, is_compiled=False)
    rows = list(found.per_request.rows())
    for one, row, outputs in zip(naive.all, rows, trace.output_tokens.tolist(), strict=True):
        if one.finish is None:
            assert row["latency_s"] is None
            continue
        assert row["latency_s"] == pytest.approx(one.finish - one.arrival, abs=1e-9)
        if outputs:
            assert row["ttft_s"] == pytest.approx(one.first - one.arrival, abs=1e-9)
        if outputs > 1:
            assert row["tpot_s"] == pytest.approx((one.finish - one.first) / (outputs - 1), abs=1e-9)
        assert row["preemptions"] == one.preemptions
        assert row["cached_input_tokens"] == one.hit
    assert found.steps == naive.steps
    assert found.busy_s == pytest.approx(naive.busy, abs=1e-9)
    assert found.prefill_s == pytest.approx(naive.prompts, abs=1e-9)
    assert naive.free + len(naive.idle) * naive.unit_blocks == model.capacity_blocks
    return naive


@st.composite
def cases(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 60))
    block_tokens = draw(st.sampled_from([1, 2, 7, 16]))
    unit_blocks = draw(st.sampled_from([1, 3]))
    longest = draw(st.sampled_from([5, 60, 400]))
    outputs = draw(st.sampled_from([1, 4, 30, 200]))
    gap = draw(st.sampled_from([0.0, 0.003, 0.05, 1.0]))
    prefixes = None
    if draw(st.booleans()):
        unit_tokens = block_tokens * unit_blocks
        families = generator.integers(0, 4, count)
        prefixes = []
        for family in families.tolist():
            shared = int(generator.integers(0, longest // unit_tokens + 2))
            own = [int(one) for one in generator.integers(10**6, 10**6 + 8, int(generator.integers(0, 3)))]
            prefixes.append([family * 1000 + index for index in range(shared)] + own)
    inputs = generator.integers(0, longest + 1, count)
    trace = Trace.from_columns(
        arrival_s=np.cumsum(generator.exponential(gap, count)) if gap else np.zeros(count),
        input_tokens=inputs,
        cached_input_tokens=generator.integers(0, inputs + 1),
        output_tokens=generator.integers(0, outputs + 1, count),
        priority=generator.integers(0, 3, count),
        prefix_blocks=prefixes,
        prefix_block_tokens=block_tokens * unit_blocks if prefixes else None,
    )
    max_batch = draw(st.sampled_from([1, 3, 8, 64]))
    scheduler = Scheduler(
        max_batch=max_batch,
        token_budget=max_batch + draw(st.sampled_from([0, 1, 20, 1000])),
        chunked_prefill=draw(st.booleans()),
        policy=draw(st.sampled_from(["fcfs", "shortest_first", "priority"])),
    )
    needed = math.ceil((longest + outputs) / block_tokens)
    model = StepModel(
        fixed_s=draw(st.sampled_from([0.0, 0.002, 0.01])),
        per_prefill_token_s=draw(st.sampled_from([1e-5, 3e-4])),
        per_prefill_token_context_s=draw(st.sampled_from([0.0, 1e-8])),
        per_decode_sequence_s=draw(st.sampled_from([0.0, 1e-4])),
        per_kv_byte_s=draw(st.sampled_from([0.0, 1e-12])),
        kv_bytes_per_token=draw(st.sampled_from([0.0, 1e5, 1e7])),
        by_sequences_s=draw(st.sampled_from([(), ((1, 0.0), (2, 0.004), (40, 0.009))])),
        by_tokens_s=draw(st.sampled_from([(), ((4, 0.0),), ((2, 0.003), (64, 0.008), (65, 0.02))])),
        capacity_blocks=max(1, int(needed * draw(st.sampled_from([0.6, 1.0, 1.3, 2.5, 50])))),
        block_tokens=block_tokens,
    )
    return trace, model, scheduler, draw(st.sampled_from([0.0, 0.7, 1.0]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_every_time_agrees_within_a_nanosecond(case) -> None:
    compare(*case)


@pytest.mark.skipif(not compiled_loop.is_available(), reason="numba, which compiles the loop, is not installed")
@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_compiled_loop_is_the_same_byte_for_byte(case) -> None:
    trace, model, scheduler, reuse = case
    plain, compiled = (
        simulate(trace, model, scheduler, recorded_reuse_fraction=reuse, is_compiled=one).per_request
        for one in (False, True)
    )
    for name in ("ttft_s", "tpot_s", "latency_s", "cached_input_tokens", "preemptions"):
        assert getattr(plain, name).tobytes() == getattr(compiled, name).tobytes()


def test_the_cases_reach_preemption_prefix_hits_and_refusals() -> None:
    """A guard on the generator of this file's cases, and a longer run than they are."""
    generator = np.random.default_rng(5)
    count = 400
    trace = Trace.from_columns(
        arrival_s=np.cumsum(generator.exponential(0.02, count)),
        input_tokens=generator.integers(1, 400, count),
        output_tokens=generator.integers(1, 200, count),
        prefix_blocks=[[int(family) * 100 + index for index in range(8)] for family in generator.integers(0, 6, count)],
        prefix_block_tokens=32,
    )
    model = StepModel(
        fixed_s=0.004, per_prefill_token_s=1e-5, per_kv_byte_s=1e-12, kv_bytes_per_token=1e5, capacity_blocks=33
    )
    naive = compare(trace, model, Scheduler(max_batch=16, token_budget=128))
    assert sum(one.preemptions for one in naive.all) > 10
    assert sum(one.hit or 0 for one in naive.all) > 1000
    assert any(one.finish is None for one in naive.all)
