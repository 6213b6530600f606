"""How a replica chooses what to run, and what a user calls good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ownward.core import BadInput, closest

Policy = Literal["fcfs", "shortest_first", "priority"]

_SYNONYMS = {
    "batch": "max_batch",
    "max_batch_size": "max_batch",
    "max_num_seqs": "max_batch",
    "budget": "token_budget",
    "max_num_batched_tokens": "token_budget",
    "chunking": "chunked_prefill",
    "chunked": "chunked_prefill",
    "enable_chunked_prefill": "chunked_prefill",
    "scheduling_policy": "policy",
}
_POLICY_SYNONYMS = {
    "fifo": "fcfs",
    "sjf": "shortest_first",
    "shortest": "shortest_first",
    "shortest-first": "shortest_first",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """The limits of a step and the order of those that wait.

    At most `max_batch` sequences run, and a step computes at most
    `token_budget` tokens: one for each sequence that decodes, the rest for prompts. With `chunked_prefill` a prompt is
    cut to what is left; without it, it enters whole or waits until it can, a longer one than
    the budget as the only prompt of its step. Who waits enters by arrival (`fcfs`), by
    the fewest input tokens (`shortest_first`) or by the lowest `priority` number of the trace, then by arrival.
    Raises: BadInput, where the budget is below the batch, so that decoding would starve.
    """

    max_batch: int = 256
    token_budget: int = 2048
    chunked_prefill: bool = True
    policy: Policy = "fcfs"

    def __post_init__(self) -> None:
        """Refuse limits under which nothing moves."""
        if self.max_batch < 1 or self.token_budget < self.max_batch:
            raise BadInput(
                f"scheduler: max_batch is {self.max_batch} and token_budget {self.token_budget}",
                allowed="max_batch of 1 or more, and a token_budget not below it",
            )
        if self.policy not in get_args(Policy):
            raise BadInput(f"scheduler: policy is {self.policy!r}", allowed=f"One of {', '.join(get_args(Policy))}")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], *, where: str) -> Scheduler:
        """Return the scheduler that a JSON object states; vLLM's names are understood as well.

        Raises: BadInput, for an unknown key or a value of the wrong kind.
        """
        known = {field.name: field.default for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key == "schema" or value is None:
                continue
            name = _SYNONYMS.get(key, key)
            if name not in known:
                near = closest(key, known)
                raise BadInput(
                    f"scheduler: unknown key {key!r}",
                    where=where,
                    allowed=f"Closest: {', '.join(near)}" if near else f"Known: {', '.join(sorted(known))}",
                )
            if type(value) is not type(known[name]) and not (isinstance(value, float) and value.is_integer()):
                raise BadInput(f"scheduler: {key} is {value!r}", where=where, allowed=f"As in {known[name]!r}")
            values[name] = int(value) if isinstance(value, float) else value
        if "policy" in values:
            values["policy"] = _POLICY_SYNONYMS.get(values["policy"], values["policy"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a good request keeps to; None asks nothing. `fraction` of all requests must be good.

    A one-token answer has no TPOT and so cannot miss it.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None
    fraction: float = 0.99

    def __post_init__(self) -> None:
        """Refuse a share outside (0, 1]."""
        if not 0 < self.fraction <= 1:
            raise BadInput(f"SLO: fraction is {self.fraction}", allowed="Above 0 and at most 1")
