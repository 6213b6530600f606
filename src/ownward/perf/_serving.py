"""A deployment under load: TTFT, TPOT and throughput of requests that come in turn, together, or at a rate."""

from __future__ import annotations

import math
from typing import NamedTuple

from ownward.perf._deployment import Deployment
from ownward.perf._load import Load
from ownward.perf._speculation import Speculation

# An overloaded queue grows as long as requests come: the length of a run that nobody stated.
_RUN_S = 600.0
_FIXED_POINT_ROUNDS = 24
_LEAST_BATCH = 0.02
_CLOSE_ENOUGH = 1e-4
_FULL = 0.95
# How far a predicted capacity may be off: arrivals at this much more are as likely kept up with as not, for whoever
# publishes a rate has mostly chosen one that his machine keeps up with. Between the two, each counts by its odds.
_CAPACITY_SLACK = 1.5
_CAPACITY_SHARPNESS = 12.0
_NEVER = 1e-3
# Lengths of answers against their mean. Of people's chats about as exponential ones: the middles of its fifths.
_EQUAL = (1.0,)
_UNEQUAL = (0.113, 0.383, 0.744, 1.29, 2.47)
# The longest answer of a data set against its mean: what is left of a burst ends with it.
_LONGEST = 7.0


class Served(NamedTuple):
    """What a deployment gives: seconds, and output tokens a second of the whole."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


def serve_together(
    deployment: Deployment,
    *,
    concurrency: int,
    input_tokens: int,
    output_tokens: int,
    context_depth: int = 0,
    speculation: Speculation | None = None,
    requests: int | None = None,
    unequal: bool = False,
) -> Served:
    """Return the means of what `concurrency` users get who send the next request when the last is answered.

    More than the engine or its memory holds wait in turns. `requests` end the run: it ramps up, and ends in a tail of
    half-empty steps. Without them it goes on for ever. `unequal`: answers are as different in length as those of chats,
    so that the tail is longer, and a wait between the first tokens and the last weighs most on the shortest.
    """
    load = Load(deployment, input_tokens, max(output_tokens, 1), context_depth, speculation)
    if concurrency == 1:
        alone_s, step_s = deployment.efficiency.first_s + load.alone_s, load.token_s(1.0)
        return Served(alone_s, step_s, load.output_tokens / (alone_s + step_s * load.output_tokens))
    run = Run(load, concurrency)
    endless = run.endless()
    if requests is None:
        return endless
    return run.ended(endless, max(requests, concurrency), unequal=unequal)


def serve_arrivals(
    deployment: Deployment,
    *,
    arrivals_per_s: float,
    input_tokens: int,
    output_tokens: int,
    context_depth: int = 0,
    speculation: Speculation | None = None,
    requests: int | None = None,
) -> Served:
    """Return the mean of requests that arrive at a rate: the batch is the one that keeps up, by fixed point.

    Where none keeps up, by more than a prediction errs, the queue grows as long as `requests` come, or ten minutes.
    """
    load = Load(deployment, input_tokens, max(output_tokens, 1), context_depth, speculation)
    full = Run(load, 1 << 30)
    answered_per_s = full.slots / (full.slower * full.cycle_s)
    over = arrivals_per_s / answered_per_s
    is_late = 1 / (1 + (_CAPACITY_SLACK / over) ** _CAPACITY_SHARPNESS) if over > 0 else 0.0
    batch = _settled(load, arrivals_per_s, full.slots)
    busy = min(arrivals_per_s * load.prompt_s(batch), _FULL)
    tpot_s = load.token_s(batch) / (1 - busy)
    ttft_s = deployment.efficiency.first_s + load.alone_s / (1 - busy) + tpot_s / 2
    kept_up = Served(ttft_s, tpot_s, arrivals_per_s * output_tokens)
    if is_late < _NEVER:
        return kept_up
    late = Run(load, requests).endless() if requests else full.endless()
    run_s = requests / arrivals_per_s if requests else _RUN_S
    wait_s = full.alone_s + run_s / 2 * max(over - 1, 1 - 1 / _CAPACITY_SLACK)
    late = late._replace(ttft_s=wait_s)
    return Served(*(now ** (1 - is_late) * then**is_late for now, then in zip(kept_up, late, strict=True)))


def _settled(load: Load, arrivals_per_s: float, most: float) -> float:
    """Return the batch at which as many sequences finish as arrive (Little), by false position; at most `most`."""

    def surplus(batch: float) -> float:
        busy = min(arrivals_per_s * load.prompt_s(batch), _FULL)
        return batch - arrivals_per_s * load.decoded_tokens * load.token_s(batch) / (1 - busy)

    low, high = _LEAST_BATCH, most
    below, above = surplus(low), surplus(high)
    if above <= 0:
        return most
    if below >= 0:
        return low
    for _ in range(_FIXED_POINT_ROUNDS):
        batch = (low * above - high * below) / (above - below)
        found = surplus(batch)
        if abs(found) < _CLOSE_ENOUGH * batch:
            break
        if found > 0:
            high, above, below = batch, found, below / 2
        else:
            low, below, above = batch, found, above / 2
    return batch


class Run:
    """Users of one load: what is the same whether their requests end or not."""

    def __init__(self, load: Load, concurrency: int) -> None:
        self.load = load
        self.concurrency = concurrency
        self.efficiency = load.deployment.efficiency
        self.alone_s = self.efficiency.first_s + load.alone_s
        self.slots = max(min(float(concurrency), float(load.max_batch), load.saturating_batch), 1.0)
        self.full_s = load.token_s(self.slots)
        if load.saturating_batch < min(
            concurrency, load.max_batch
        ):  # prompts wait for room in the steps: all of them are full
            self.prompts_s = load.decoded_tokens * max(load.mixed_s(self.slots) - self.full_s, 0.0)
        else:
            self.prompts_s = self.slots * load.prompt_s(self.slots)
        self.cycle_s = load.decoded_tokens * self.full_s + self.prompts_s
        self.slower = load.congestion(self.slots)
        self.queue = min(self.efficiency.queue, 1.0)

    def endless(self) -> Served:
        """Return the means of a run in which every slot is always taken: they obey Little's law."""
        load, users = self.load, self.concurrency
        if self.slots < users:
            rate = self.slots / (self.slower * self.cycle_s)
            first = 0.0 if load.mixes_prompts else self.queue
            others_s = self.prompts_s * (1 - 1 / self.slots)  # its own prompt lies before its first token
            tpot_s = self.slower * (self.full_s + (1 - first) * others_s / load.decoded_tokens)
            ttft_s = max(users / rate - load.decoded_tokens * tpot_s, self.alone_s)
            return Served(ttft_s, tpot_s, rate * load.output_tokens)
        # all are admitted at once: a first token waits for its share of the others' prompts, later ones for the rest
        others_s = self.slower * self.prompts_s * (1 - 1 / self.slots)
        ttft_s = self.alone_s + self.queue * others_s
        latency_s = self.efficiency.first_s + self.slower * self.cycle_s
        tpot_s = max((latency_s - ttft_s) / load.decoded_tokens, self.slower * self.full_s * 0.5)
        return Served(ttft_s, tpot_s, users * load.output_tokens / latency_s)

    def ended(self, endless: Served, requests: int, *, unequal: bool) -> Served:
        """Return the means of a run of so many requests: those that began together, and those that came in turn."""
        load, slots, later = self.load, self.slots, self.load.decoded_tokens
        lengths = _UNEQUAL if unequal else _EQUAL
        waves = requests / slots
        together = 1 / waves  # the share of requests that found all slots empty
        reading = load.reading_tokens(slots)
        stagger = min(reading / later, 1.0)
        half_s, one_s = load.token_s(max(slots / 2, 1.0)), load.token_s(1.0)
        ramp_s = (self.full_s + 4 * half_s + one_s) / 6
        # between the first tokens of those who began together and their last lie the prompts of the others
        others_s = self.prompts_s * (1 - 1 / slots)
        if load.mixes_prompts and reading > 0:
            waited = sum(_share_of_reading(reading / (later * each)) for each in lengths)
            stall_s = others_s / reading * waited / len(lengths)
        else:
            stall_s = (1 - self.queue) * others_s * sum(1 / each for each in lengths) / len(lengths) / later
        if unequal:
            span = min(math.log(slots) + 0.58, _LONGEST)
            edges_s = stagger * (ramp_s - self.full_s / 2)
            edges_s += span * (self.full_s + 4 * load.token_s(math.sqrt(slots)) + one_s) / 6 - self.full_s
            seen_s = half_s + 0.36 * (self.full_s - half_s)
        else:
            edges_s = stagger * (2 * ramp_s - self.full_s)
            part = waves - math.floor(waves)
            if part * slots >= 1 and waves > 1:  # the last wave is not full, where waves keep in step
                edges_s += (1 - stagger) * (load.token_s(part * slots) - part * self.full_s)
            seen_s = self.full_s + stagger * (2 * half_s + self.full_s - 3 * self.full_s) / 3
        tpot_s = (1 - together) * endless.tpot_s + together * self.slower * (seen_s + stall_s)
        first_s = self.efficiency.first_s
        makespan_s = waves * self.slower * self.cycle_s + self.slower * later * edges_s
        makespan_s += first_s * (waves if slots >= self.concurrency else 1.0)
        # first tokens: the first wave reads its prompts in turn; who finds no slot waits until one is left
        began_s = self.alone_s + self.slower * (self.prompts_s * (1 - 1 / slots) + reading * half_s) / 2
        outside = max(self.concurrency - slots, 0.0)
        came_s = endless.ttft_s if not outside else self.alone_s + self.slower * self.full_s
        rate = slots / (self.slower * self.cycle_s)
        wait_s = outside * (requests - self.concurrency + outside / 2) / requests / rate
        ttft_s = together * began_s + (1 - together) * came_s + wait_s
        return Served(ttft_s, tpot_s, requests * load.output_tokens / makespan_s)


def _share_of_reading(reading: float) -> float:
    """Return which share of an answer's steps also read prompts, where reading them takes `reading` answers.

    Whoever begins at a random moment of the reading has the rest of it before him, and at most his whole answer.
    """
    return reading / 2 if reading <= 1 else 1 - 1 / (2 * reading)
