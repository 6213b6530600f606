"""The price book: the user's own prices, then makers' APIs, then hosts of open models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from ownward.core import BadInput, MissingPrice, StalePrice, closest
from ownward.pricing._first_party import all_first_party, data_day, find_first_party, is_first_party
from ownward.pricing._hosted import host_name, hosted_table
from ownward.pricing._offers import hosted_names
from ownward.pricing._price import Price, PriceMode
from ownward.pricing._usage import Usage

# What offers are compared by where the caller names no request: three input tokens for each output token.
TYPICAL_USAGE = Usage(input_tokens=3_000, output_tokens=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """The answer of a search for prices, as JSON carries it; `at` is None for the newest."""

    schema: str = "ownward.prices/1"
    at: date | None = None
    prices: tuple[Price, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Every price known, with the days each holds. Unknown is an error; zero is only what is stated to be free."""

    overrides: tuple[Price, ...] = ()

    @classmethod
    def load(cls, overrides: Sequence[Price] = ()) -> PriceBook:
        """Return the book; `overrides` go before everything else. The large tables are read when first asked."""
        return cls(overrides=tuple(overrides))

    def find(
        self, model: str, *, provider: str | None = None, at: datetime | date, mode: PriceMode = "standard"
    ) -> Price:
        """Return the price of `model` in force at `at`; a plain date means its noon in UTC.

        `provider/model` names both. Without a provider a maker's own API goes
        before hosts, and a model that only hosts offer needs the provider named.
        Raises: MissingPrice, with the closest names or the hosts to choose from;
        StalePrice, if the prices known hold at other dates; BadInput, if two of the user's own contradict each other.
        """
        moment = _moment(at)
        own = self._overriding(model, provider, moment.date(), mode)
        if own is not None:
            return own
        if provider is None:
            prefix, _, rest = model.partition("/")
            if rest and (is_first_party(prefix) or host_name(prefix) in hosted_table().hosts):
                try:
                    return self.find(rest, provider=prefix, at=at, mode=mode)
                except MissingPrice:
                    # `openai/gpt-oss-120b` is a host's name of a model that its maker does not sell.
                    if not hosted_table().hosts_of(model):
                        raise
        if provider is None or host_name(provider) not in hosted_table().hosts:
            first = find_first_party(model, provider, moment, mode)
            if first is not None:
                return first
        return self._hosted(model, provider, moment.date(), mode)

    def search(self, text: str, *, at: datetime | date | None = None, limit: int | None = None) -> list[Price]:
        """Return the standard prices whose provider and model contain every word of `text`, at `at` or the newest.

        Overrides come first, then makers, then hosts, each by name. What has no price at `at` is left out.
        """
        words = text.lower().split()
        found: list[Price] = []
        day = None if at is None else _moment(at).date()
        own = [price for price in self.overrides if day is None or price.holds_on(day)]
        found += [price for price in own if _contains(words, price.provider, price.model)]
        seen = {(price.provider, price.model) for price in found}
        for name in self._names():
            if limit is not None and len(found) >= limit:
                break
            if name in seen or not _contains(words, *name):
                continue
            try:
                found.append(self.find(name[1], provider=name[0], at=at or _newest(name[0])))
            except (MissingPrice, StalePrice):
                continue
        return found[:limit]

    def hosts(
        self, model: str, *, at: datetime | date, usage: Usage = TYPICAL_USAGE, include_free: bool = False
    ) -> list[Price]:
        """Return the hosted offers of a catalogue model at `at`, the cheapest for `usage` first.

        Which host's name means which model is a table in the catalogue's data, never a guess. Free offers are
        limited in rate and left out unless asked for. Empty if no host is known; other weights of the
        same family are other models.
        Raises: UnknownModel, if the catalogue has no such model.
        """
        offers = []
        for host, name in hosted_names(model):
            try:
                offers.append(self.find(name, provider=host, at=at))
            except (MissingPrice, StalePrice):
                continue
        named = {model.lower()}
        offers += [price for price in self.overrides if price.model.lower() in named and price not in offers]
        wanted = [price for price in offers if include_free or not price.is_free]
        return sorted(wanted, key=lambda price: (price.compute_charge_usd(usage), price.provider))

    def history(self, model: str, *, provider: str) -> list[Price]:
        """Return every dated standard price of a model at a host or in the overrides, oldest first."""
        own = [p for p in self.overrides if _is_named(p, model, provider) and p.mode == "standard"]
        hosted = [p for p in hosted_table().find(provider, model) if p.mode == "standard"]
        return sorted([*own, *hosted], key=lambda price: price.valid_from or date.min)

    def _overriding(self, model: str, provider: str | None, day: date, mode: PriceMode) -> Price | None:
        named = [
            price
            for price in self.overrides
            if price.mode == mode
            and (_is_named(price, model, provider) or f"{price.provider}/{price.model}".lower() == model.lower())
        ]
        holding = _of_one_provider(model, [price for price in named if price.holds_on(day)])
        if not holding:
            return None
        # Of overlapping rows the one that began last is the correction.
        last = max(price.valid_from or date.min for price in holding)
        newest = [price for price in holding if (price.valid_from or date.min) == last]
        other = next((p for p in newest if p.period == newest[0].period and _rates(p) != _rates(newest[0])), None)
        if other is not None:
            raise BadInput(
                f"two prices of your own for {other.provider}/{other.model} hold from the same day and differ:"
                f" one from {newest[0].source!r}, one from {other.source!r}",
                next_step="Remove one, or give the newer a later valid_from",
            )
        return newest[0]

    def _hosted(self, model: str, provider: str | None, day: date, mode: PriceMode) -> Price:
        table = hosted_table()
        hosts = table.hosts_of(model) if provider is None else (host_name(provider),)
        if provider is None and len(hosts) > 1:
            raise MissingPrice(
                f"{model!r} is offered by {len(hosts)} hosts at their own prices",
                allowed=f"Name one: {', '.join(f'{host}/{model}' for host in hosts[:6])}",
            )
        dated = [price for host in hosts for price in table.find(host, model)]
        known = [price for price in dated if price.mode == mode]
        for price in known:
            if price.holds_on(day):
                return price
        where = f" at {provider!r}" if provider else ""
        if known:
            raise StalePrice(
                f"the prices known of {model!r}{where} hold from {known[0].valid_from}, not on {day}",
                next_step="Ask for another date with --at, or state the price in a file of your own ([[price]])",
            )
        if dated:
            raise MissingPrice(
                f"no {mode} price of {model!r}{where} is known",
                allowed=f"Known: {', '.join(sorted({price.mode for price in dated}))}",
            )
        names = [key for host, key in self._names() if provider is None or host == host_name(provider)]
        near = closest(model, names) or closest(model, [f"{host}/{key}" for host, key in self._names()])
        raise MissingPrice(
            f"no price of {model!r}{where} is known",
            allowed=f"Closest: {', '.join(repr(name) for name in near)}" if near else None,
            next_step="State it in a file of your own ([[price]]), or see what is known: ownward prices",
        )

    def _names(self) -> Iterable[tuple[str, str]]:
        yield from all_first_party()
        yield from hosted_table().all_models()


def _of_one_provider(model: str, prices: list[Price]) -> list[Price]:
    """Return the prices where they are one provider's, or those of the one maker's own API among them."""
    providers = {price.provider.lower() for price in prices}
    if len(providers) <= 1:
        return prices
    makers = {provider for provider in providers if is_first_party(provider)}
    if len(makers) != 1:
        raise MissingPrice(
            f"{model!r} has prices of your own at {len(providers)} providers",
            allowed=f"Name one: {', '.join(f'{provider}/{model}' for provider in sorted(providers))}",
        )
    return [price for price in prices if price.provider.lower() in makers]


def _rates(price: Price) -> tuple[object, ...]:
    return (
        price.input_usd_per_mtok,
        price.output_usd_per_mtok,
        price.cached_input_usd_per_mtok,
        price.cache_write_usd_per_mtok,
        price.cache_write_1h_usd_per_mtok,
        price.usd_per_request,
        price.steps,
    )


def _moment(at: datetime | date) -> datetime:
    if isinstance(at, datetime):
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return datetime(at.year, at.month, at.day, 12, tzinfo=UTC)


def _newest(provider: str) -> date:
    return hosted_table().checked_on if provider in hosted_table().hosts else data_day()


def _is_named(price: Price, model: str, provider: str | None) -> bool:
    is_provider = provider is None or price.provider.lower() == provider.lower()
    return is_provider and price.model.lower() == model.lower()


def _contains(words: Sequence[str], provider: str, model: str) -> bool:
    name = f"{provider}/{model}".lower()
    return all(word in name for word in words)
