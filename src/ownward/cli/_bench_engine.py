"""What the embedded engine really does on its model: reading prompts, and decoding for several users at a time."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ownward.upstreams import Door

PROMPTS_TOKENS = (128, 512)
CONCURRENCY = (1, 2, 4, 8)
ANSWER_TOKENS = 48
_SHORT_PROMPT_TOKENS = 8  # so that no user's decoding waits for another's prompt
_RUNS = 3
_CONTEXT_TOKENS = 1024
_FIRST_TOKEN, _LAST_TOKEN = 100, 40_000  # of a vocabulary of 49,152: neither control tokens nor the rarest
_LARGEST_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """A rate in tokens a second of each user: lowest, median and highest of some runs.

    Of reading a prompt of `prompt_tokens`, or of decoding for `concurrency` users.
    """

    metric: str
    concurrency: int
    prompt_tokens: int
    low: float
    median: float
    high: float


async def measure_engine(weights: Path, *, threads: int | None = None) -> list[EngineSpeed]:
    """Return the engine's speeds, by its own clock; `threads` None takes the cores that are free."""
    from ownward.engines import EmbeddedEngine, EngineOptions
    from ownward.upstreams import Door

    options = EngineOptions(
        model_path=weights, alias="bench", slots=max(CONCURRENCY), context_tokens=_CONTEXT_TOKENS, threads=threads
    )
    draw = random.Random(0)
    async with EmbeddedEngine(options) as engine, Door() as door:
        found = []
        for tokens in PROMPTS_TOKENS:
            read = [await _ask(door, engine.base_url, _prompt(draw, tokens), answer=1) for _ in range(_RUNS)]
            rates = [timing["prompt_per_second"] for timing in read]
            found.append(_speed("prefill_tok_s", 1, tokens, rates))
        for users in CONCURRENCY:
            rates = []
            for _ in range(_RUNS):
                prompts = [_prompt(draw, _SHORT_PROMPT_TOKENS) for _ in range(users)]
                asked = [_ask(door, engine.base_url, prompt, answer=ANSWER_TOKENS) for prompt in prompts]
                done = await asyncio.gather(*asked)
                rates.append(statistics.median(timing["predicted_per_second"] for timing in done))
            found.append(_speed("decode_tok_s_per_user", users, _SHORT_PROMPT_TOKENS, rates))
        return found


def _speed(metric: str, users: int, tokens: int, rates: list[float]) -> EngineSpeed:
    return EngineSpeed(
        metric=metric,
        concurrency=users,
        prompt_tokens=tokens,
        low=min(rates),
        median=statistics.median(rates),
        high=max(rates),
    )


def _prompt(draw: random.Random, tokens: int) -> list[int]:
    """Return a prompt that no cache holds."""
    return [draw.randrange(_FIRST_TOKEN, _LAST_TOKEN) for _ in range(tokens)]


async def _ask(door: Door, address: str, prompt: list[int], *, answer: int) -> dict[str, float]:
    """Return llama.cpp's timings of one completion."""
    from ownward.policy import LOCAL_ONLY, Place, issue_permit

    asked = {"prompt": prompt, "n_predict": answer, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    body = json.dumps(asked).encode()
    permit = issue_permit(
        label=LOCAL_ONLY,
        place=Place(is_local=True, region=None, provider=None),
        upstream="bench",
        origin=address,
        body=body,
    )
    headers = [(b"content-type", b"application/json")]
    response = await door.send(permit, method="POST", target="/completion", headers=headers, body=body)
    timings: dict[str, float] = json.loads(await response.read(_LARGEST_ANSWER_BYTES))["timings"]
    return timings
