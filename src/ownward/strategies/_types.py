"""What passes between a strategy and whoever sends its calls."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

StrategyKind = Literal["direct", "cascade", "vote", "best_of", "revise", "forest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Hard limits of one task; None is no limit of that kind."""

    max_calls: int = 8
    max_output_tokens: int | None = None
    max_usd: Decimal | None = None
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategySpec:
    """A strategy over named tiers, with its settings.

    samples: most answers taken from one tier (vote, best_of, forest, cascade by agreement).
    agreement: the certainty at which a vote stops, or the share of equal answers at which a cascade accepts.
    revisions: most rounds of revise.
    """

    kind: StrategyKind
    tiers: tuple[str, ...]
    samples: int = 1
    agreement: float = 0.95
    revisions: int = 2
    temperature: float = 0.7
    caps: Caps = Caps()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call to make: to which tier, how diverse, and what to say after the task's own messages."""

    tier: str
    purpose: str
    temperature: float | None = None
    extra_messages: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back: the text (None where the call failed) and what it used.

    `capped_by` names the cap for which it was cut short, or not sent at all.
    """

    text: str | None
    output_tokens: int | None = None
    usd: Decimal | None = None
    elapsed_s: float = 0.0
    payload: Any = None
    capped_by: str | None = None
    was_sent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The answer of the task (None where every call failed), and why it was chosen."""

    reply: Reply | None
    reason: str
    calls: int


class Judge(Protocol):
    """What a strategy can ask of an answer without knowing the truth."""

    def extract(self, text: str) -> str | None:
        """Return the part by which two answers are the same, or None where there is none."""
        ...

    def verify(self, text: str) -> float | None:
        """Return a score from 0 to 1 (1 passes), or None where nothing can be verified."""
        ...


Steps = Generator[tuple[Ask, ...], tuple[Reply, ...], Chosen]
