"""What a token and a prompt cost beside others: requests of one length on a deployment."""

from __future__ import annotations

from ownward.perf._deployment import Deployment
from ownward.perf._scheduler import keeps_whole_answers, mixes_prompts
from ownward.perf._speculation import DRAFT_LAYERS, Speculation

# Sequences at which half of what goes wrong under load does: schedulers, samplers and the ends of a run.
_BUSY = 64


class Load:
    """Requests of one length on a deployment: what a token and a prompt cost beside `batch` others.

    `decoded_tokens` of an answer come from decoding: all but the first, which comes from the prompt. A step checks
    `verified_per_step` tokens of a sequence (more than 1 where they are drafted) and keeps `tokens_per_step` of them
    on the mean. `alone_s` is one prompt read alone, `attention_s` its attention's part. At most `max_batch` sequences
    decode at a time, by the engine's limit and by memory. `slower` is the factor that drafting costs besides.
    """

    def __init__(
        self,
        deployment: Deployment,
        input_tokens: int,
        output_tokens: int,
        context_depth: int,
        speculation: Speculation | None,
    ) -> None:
        self.deployment = deployment
        self.input_tokens = max(input_tokens, 1)
        self.output_tokens = output_tokens
        self.decoded_tokens = max(output_tokens - 1, 1)
        self.context_depth = context_depth
        self.speculation = speculation
        self.context = context_depth + input_tokens + output_tokens / 2
        self.attention_s = deployment.attention_s(self.input_tokens, context_depth)
        self.alone_s = deployment.compute_prefill_s(tokens=self.input_tokens, context_before=context_depth)
        self.mixes_prompts = mixes_prompts(deployment.traits.engine)
        # sequences in all stages of their answers hold half of them on the mean
        kept = output_tokens if keeps_whole_answers(deployment.traits.engine) else output_tokens // 2
        held = deployment.most_sequences(context_depth + input_tokens + kept)
        most = deployment.admitted_sequences
        self.max_batch = most if held is None else max(min(held, most), 1)
        self.stages = 1 if deployment.is_llama_like else deployment.pipeline_parallel
        self.chunk_tokens = deployment.chunk_tokens * self.stages
        self.tokens_per_step = 1.0
        self.verified_per_step = 1.0
        self.slower = 1.0 if speculation is None else deployment.efficiency.speculation
        if speculation is not None:
            self.tokens_per_step += speculation.drafted * speculation.accepted
            self.verified_per_step += speculation.drafted

    @property
    def saturating_batch(self) -> float:
        """The decoding sequences at which finished answers make room for just as many prompts in a step."""
        if not self.mixes_prompts:
            return float(1 << 30)
        steps = self.decoded_tokens / self.tokens_per_step
        return max(self.chunk_tokens * steps / (self.input_tokens + steps * self.verified_per_step), 1.0)

    def congestion(self, batch: float) -> float:
        """Return the time that steps of `batch` sequences take under load against what they take by themselves."""
        return float(self.deployment.efficiency.load ** (max(batch - 1, 0.0) / (batch + _BUSY)))

    def token_s(self, batch: float) -> float:
        """Return the seconds a token takes in steps that only decode."""
        return self.slower * (self._step_s(batch, 0.0) + self._draft_s(batch)) / self.tokens_per_step

    def mixed_s(self, batch: float) -> float:
        """Return the seconds a token takes in steps that are filled up with prompts."""
        room = max(self.chunk_tokens - batch * self.verified_per_step, 1.0)
        step_s = (
            self._step_s(batch, room) + self._draft_s(batch) + self.attention_s / self.stages * room / self.input_tokens
        )
        return self.slower * step_s / self.tokens_per_step

    def prompt_s(self, batch: float) -> float:
        """Return what one prompt adds, several short ones in a chunk together."""
        room = (
            max(self.chunk_tokens - batch * self.verified_per_step, self.chunk_tokens / 4)
            if self.mixes_prompts
            else float(self.chunk_tokens)
        )
        taken = min(room, self.input_tokens * max(batch, 1.0))
        if self.mixes_prompts:
            step_s = self._step_s(batch, taken) - self._step_s(batch, 0.0)
        else:
            step_s = self.deployment.compute_step_s(sequences=0.0, context_tokens=0.0, prompt_tokens=taken)
        return step_s * self.input_tokens / taken + self.attention_s / self.stages

    def reading_tokens(self, slots: float) -> float:
        """Return how many tokens each decodes while the prompts of `slots` requests are read; 0 where none may."""
        if not self.mixes_prompts:
            return 0.0
        room = max(self.chunk_tokens - slots * self.verified_per_step / 2, self.chunk_tokens / 4)
        return slots * self.input_tokens / room * self.tokens_per_step

    def _step_s(self, batch: float, prompt_tokens: float) -> float:
        return self.deployment.compute_step_s(
            sequences=batch,
            context_tokens=self.context,
            prompt_tokens=prompt_tokens,
            tokens_each=self.verified_per_step,
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
            each_s = 2 * speculation.draft_params / rate + DRAFT_LAYERS * efficiency.layer_s + efficiency.step_s
        else:
            read = deployment.counted.dense_read / max(anatomy.layer_count, 1)
            each_s = (read + deployment.head_bytes) / rate + efficiency.step_s + 2 * efficiency.layer_s
        return speculation.drafted * (each_s + batch * efficiency.sequence_s)
