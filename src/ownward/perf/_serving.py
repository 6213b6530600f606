"""A deployment under load: TTFT, TPOT and throughput of requests that come in turn, together, or at a rate."""

from __future__ import annotations

import re
from typing import NamedTuple

from ownward.perf._deployment import Deployment
from ownward.perf._scheduler import mixes_prompts

# An overloaded queue grows as long as requests come: the length of a run that nobody stated.
_RUN_S = 600.0
_FIXED_POINT_ROUNDS = 24
_LEAST_BATCH = 0.02
_CLOSE_ENOUGH = 1e-4
# Sequences at which half of what goes wrong under load does: schedulers, samplers and the ends of a run.
_BUSY = 64
_FULL = 0.95
# How far a predicted capacity may be off: arrivals within it are taken to be kept up with.
_CAPACITY_SLACK = 1.2


class Speculation(NamedTuple):
    """Drafted tokens a step and the share that is accepted: a step gives 1 + drafted x accepted tokens."""

    drafted: int
    accepted: float
    method: str = ""
    draft_params: float = 0.0


class Served(NamedTuple):
    """What a deployment gives: seconds, and output tokens a second of the whole."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


# Accepted share of drafted tokens where not stated. Source: MTP 0.73 to 0.82 on Strix Halo (kyuz0); others assumed.
_ACCEPTED = {"mtp": 0.75, "draft": 0.5, "ngram": 0.35, "dflash": 0.4, "eagle": 0.6}
_ANY_ACCEPTED = 0.6
_ANY_DRAFTED = 3
# The layers that a small draft model has (Qwen3-0.6B and 1.7B: 28; TinyLlama-1.1B: 22), each launched for every token.
_DRAFT_LAYERS = 28


def read_speculation(given: bool | str | None) -> Speculation | None:
    """Return what is meant by `speculative`: a method with a depth as in `mtp-3`, or only that there is one.

    >>> read_speculation("spec:mtp-3"), read_speculation(False)
    (Speculation(drafted=3, accepted=0.75, method='mtp', draft_params=0), None)
    """
    if not given:
        return None
    text = given.lower() if isinstance(given, str) else ""
    depth = re.search(r"(?:mtp|eagle|ngram|dflash)-?k?(\d+)|\bk['\"]?[:= ]*(\d+)", text)
    drafted = int(depth[1] or depth[2]) if depth else _ANY_DRAFTED
    method = next((name for name in _ACCEPTED if name in text), "")
    size = re.search(r"(\d+(?:\.\d+)?)b\b", text) if method == "draft" else None
    return Speculation(
        min(drafted, 16), _ACCEPTED.get(method, _ANY_ACCEPTED), method, float(size[1]) * 1e9 if size else 0
    )


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
    load = _Load(deployment, input_tokens, max(output_tokens, 1), context_depth, speculation)
    alone_s = efficiency.first_s + load.alone_s
    if concurrency == 1:
        step_s = load.token_s(1.0)
        return Served(alone_s, step_s, load.output_tokens / (alone_s + step_s * load.output_tokens))
    seats = min(concurrency, load.most)
    if load.fullest < seats:  # prompts wait for room in the steps
        tpot_s = load.mixed_s(load.fullest)
        cycle_s, batch = load.later * tpot_s, load.fullest
    else:
        cycle_s, batch = load.later * load.token_s(seats) + seats * load.prompt_s(seats), float(seats)
        # where a prompt stops decoding, those admitted together wait for each other's prompts before they start
        first = 0.0 if load.mixes else min(efficiency.queue, 1.0)
        tpot_s = (cycle_s - first * seats * load.prompt_s(seats)) / load.later
    slower = efficiency.load ** ((batch - 1) / (batch + _BUSY))
    answered_per_s = batch / (slower * cycle_s)
    if batch < concurrency:
        waiting_s = concurrency / answered_per_s - slower * load.later * tpot_s
        return Served(max(waiting_s, alone_s), slower * tpot_s, answered_per_s * load.output_tokens)
    # all are admitted at once: a first token waits for its share of the others' prompts, the later ones for the rest
    others_s = slower * (seats - 1) * load.prompt_s(seats)
    ttft_s = alone_s + min(efficiency.queue, 1.0) * others_s
    latency_s = efficiency.first_s + slower * cycle_s
    tpot_s = max(latency_s - ttft_s, slower * load.later * load.token_s(seats) * 0.5) / load.later
    return Served(ttft_s, tpot_s, concurrency * load.output_tokens / latency_s)


def serve_arrivals(
    deployment: Deployment,
    *,
    arrivals_per_s: float,
    input_tokens: int,
    output_tokens: int,
    context_depth: int = 0,
    speculation: Speculation | None = None,
) -> Served:
    """Return the mean of requests that arrive at a rate: the batch is the one that keeps up, by fixed point.

    Where none keeps up, by more than a prediction errs, the queue grows for ten minutes.
    """
    load = _Load(deployment, input_tokens, max(output_tokens, 1), context_depth, speculation)
    most = min(float(load.most), load.fullest)
    batch = _settled(load, arrivals_per_s, most)
    busy = min(arrivals_per_s * load.prompt_s(batch), _FULL)
    tpot_s = load.token_s(batch) / (1 - busy)
    ttft_s = deployment.efficiency.first_s + load.alone_s / (1 - busy) + tpot_s / 2
    served_per_s = batch / (load.later * tpot_s)
    kept_up = _CAPACITY_SLACK * served_per_s
    if kept_up < arrivals_per_s:
        ttft_s += _RUN_S / 2 * (1 - kept_up / arrivals_per_s)
    return Served(ttft_s, tpot_s, min(arrivals_per_s, max(served_per_s, kept_up)) * output_tokens)


def _settled(load: _Load, arrivals_per_s: float, most: float) -> float:
    """Return the batch at which as many sequences finish as arrive (Little), by false position; at most `most`."""

    def surplus(batch: float) -> float:
        busy = min(arrivals_per_s * load.prompt_s(batch), _FULL)
        return batch - arrivals_per_s * load.later * load.token_s(batch) / (1 - busy)

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


class _Load:
    """Requests of one length on a deployment: what a token and a prompt cost beside `batch` others."""

    def __init__(
        self,
        deployment: Deployment,
        input_tokens: int,
        output_tokens: int,
        before: int,
        speculation: Speculation | None,
    ) -> None:
        self.deployment = deployment
        self.input_tokens = max(input_tokens, 1)
        self.output_tokens = output_tokens
        self.later = max(output_tokens - 1, 1)
        """Tokens of an answer that decoding makes: the first one comes from the prompt."""
        self.before = before
        self.speculation = speculation
        self.context = before + input_tokens + output_tokens / 2
        self.attention_s = deployment.attention_s(self.input_tokens, before)
        self.alone_s = deployment.compute_prefill_s(tokens=self.input_tokens, context_before=before)
        self.mixes = mixes_prompts(deployment.traits.engine)
        held = deployment.most_sequences(before + input_tokens + output_tokens)
        most = deployment.admitted_sequences
        self.most = most if held is None else max(min(held, most), 1)
        self.turns = 1 if deployment.is_llama_like else deployment.pipeline
        self.chunk = deployment.chunk_tokens * self.turns
        self.tokens_a_step = 1.0
        self.checked = 1.0
        self.slower = 1.0 if speculation is None else deployment.efficiency.speculation
        if speculation is not None:
            self.tokens_a_step += speculation.drafted * speculation.accepted
            self.checked += speculation.drafted

    @property
    def fullest(self) -> float:
        """The decoding sequences at which finished answers make room for just as many prompts in a step."""
        if not self.mixes:
            return float(1 << 30)
        steps = self.later / self.tokens_a_step
        return max(self.chunk * steps / (self.input_tokens + steps * self.checked), 1.0)

    def token_s(self, batch: float) -> float:
        """Return the seconds a token takes in steps that only decode."""
        return self.slower * (self._step_s(batch, 0.0) + self._draft_s(batch)) / self.tokens_a_step

    def mixed_s(self, batch: float) -> float:
        """Return the seconds a token takes in steps that are filled up with prompts."""
        room = max(self.chunk - batch * self.checked, 1.0)
        step_s = (
            self._step_s(batch, room) + self._draft_s(batch) + self.attention_s / self.turns * room / self.input_tokens
        )
        return self.slower * step_s / self.tokens_a_step

    def prompt_s(self, batch: float) -> float:
        """Return what one prompt adds, several short ones in a chunk together."""
        room = max(self.chunk - batch * self.checked, self.chunk / 4) if self.mixes else float(self.chunk)
        taken = min(room, self.input_tokens * max(batch, 1.0))
        if self.mixes:
            step_s = self._step_s(batch, taken) - self._step_s(batch, 0.0)
        else:
            step_s = self.deployment.compute_step_s(sequences=0.0, context_tokens=0.0, prompt_tokens=taken)
        return step_s * self.input_tokens / taken + self.attention_s / self.turns

    def _step_s(self, batch: float, prompt_tokens: float) -> float:
        return self.deployment.compute_step_s(
            sequences=batch, context_tokens=self.context, prompt_tokens=prompt_tokens, tokens_each=self.checked
        )

    def _draft_s(self, batch: float) -> float:
        """Return what drafting adds to a step: a small model's steps, a layer and the head, or nothing."""
        speculation, deployment = self.speculation, self.deployment
        if speculation is None:
            return 0.0
        efficiency, anatomy = deployment.efficiency, deployment.anatomy
        rate = deployment.bandwidth_bytes_per_s * deployment.tensor_parallel * efficiency.weight_mbu
        if speculation.method == "ngram":
            each_s = 0.0
        elif speculation.method == "draft":
            each_s = 2 * speculation.draft_params / rate + _DRAFT_LAYERS * efficiency.layer_s + efficiency.step_s
        else:
            read = deployment.counted.dense_read / max(anatomy.layer_count, 1)
            each_s = (read + deployment.head_bytes) / rate + efficiency.step_s + 2 * efficiency.layer_s
        return speculation.drafted * (each_s + batch * efficiency.sequence_s)
