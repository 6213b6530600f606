"""Where a workload could be served: models on machines one would own, and API models one would rent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ownward.anatomy import Anatomy
from ownward.catalog import Machine
from ownward.economics import ApiOption, Assumption
from ownward.pricing import Price
from ownward.traffic import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedCandidate:
    """A model in a weight format under an engine on `machines_count` devices that make one replica."""

    tier: str
    anatomy: Anatomy
    machine: Machine
    machines_count: int = 1
    engine: str
    weights: str
    price_usd: Assumption | None = None
    watts: Assumption | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RentedCandidate:
    """An API model at a price."""

    tier: str
    price: Price
    region: str | None = None

    def as_option(self, trace: Trace, *, served_by: str | None = None) -> ApiOption:
        """Return what economics compares; a price with steps depends on the trace's lengths."""
        return ApiOption.from_price(self.price.for_traffic_of(served_by), trace, name=self.tier)


# Where a provider's API answers, in which dialect, and which variable usually holds its key.
PROVIDERS: Mapping[str, tuple[str, str, str]] = {
    "openai": ("https://api.openai.com/v1", "openai", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com", "anthropic", "ANTHROPIC_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "openai", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "openai", "MISTRAL_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "openai", "GEMINI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "openai", "XAI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "openai", "GROQ_API_KEY"),
    "together": ("https://api.together.xyz/v1", "openai", "TOGETHER_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "openai", "FIREWORKS_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "openai", "OPENROUTER_API_KEY"),
}


def marginal_and_loaded(
    candidate: OwnedCandidate,
    *,
    marginal: tuple[Decimal | None, Decimal | None],
    loaded: tuple[Decimal | None, Decimal | None],
    at: date,
) -> tuple[Price | None, Price | None]:
    """Return an owned tier's two price rows (input, output USD per Mtok); None where a cost is unknown."""

    def row(pair: tuple[Decimal | None, Decimal | None], what: str) -> Price | None:
        if pair[0] is None or pair[1] is None:
            return None
        return Price(
            provider="owned",
            model=candidate.anatomy.name,
            input_usd_per_mtok=pair[0],
            output_usd_per_mtok=pair[1],
            cached_input_usd_per_mtok=Decimal(0),
            cache_write_usd_per_mtok=None,
            valid_from=at,
            valid_to=None,
            basis="fitted",
            source=f"{what} on {candidate.machine.name}, computed by ownward plan",
            checked_on=at,
        )

    return row(marginal, "energy only"), row(loaded, "fully loaded")
