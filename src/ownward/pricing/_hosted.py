"""Prices of hosts of open models, from the catalogue's extract of genai-prices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ownward.pricing._price import Price, PriceMode, PriceStep

_THOUSAND = Decimal(1000)
# Names of hosts as other tools write them.
_HOSTS = {
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "together-ai": "together",
    "together_ai": "together",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTable:
    """The extract: rows by host and model, made into prices when asked for."""

    package: str
    checked_on: date
    hosts: dict[str, Any]
    names: dict[str, dict[str, str]]

    def find(self, host: str, model: str) -> tuple[Price, ...]:
        """Return every dated price of a model (by id or listed name) at a host; empty if it does not list it."""
        offer = self.hosts.get(host)
        key = self.names.get(host, {}).get(model.lower())
        if offer is None or key is None:
            return ()
        return self._prices(host, offer, key)

    def hosts_of(self, model: str) -> tuple[str, ...]:
        """Return the hosts that list a model under exactly this name."""
        return tuple(host for host, names in self.names.items() if model.lower() in names)

    def all_models(self) -> Iterator[tuple[str, str]]:
        """Yield host and id of everything listed."""
        for host, offer in self.hosts.items():
            for key in offer["models"]:
                yield host, key

    def _prices(self, host: str, offer: dict[str, Any], key: str) -> tuple[Price, ...]:
        rows = offer["models"][key]["rows"]
        found = []
        for mode in dict.fromkeys(row["mode"] for row in rows):
            dated = sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["from"] or "")
            ends = [row["from"] for row in dated[1:]] + [None]
            for row, end in zip(dated, ends, strict=True):
                found.append(self._price(host, offer["page"], key, row, end))
        return tuple(found)

    def _price(self, host: str, page: str, key: str, row: dict[str, Any], end: str | None) -> Price:
        rate_in, rate_out, cached, write, write_1h = map(_decimal, row["rates"])
        assert rate_in is not None
        assert rate_out is not None
        mode: PriceMode = row["mode"]
        notes = [row["note"]] if "note" in row else []
        if not rate_in and not rate_out:
            notes.append("a free offer of the host, limited in rate")
        return Price(
            provider=host,
            model=key,
            input_usd_per_mtok=rate_in,
            output_usd_per_mtok=rate_out,
            cached_input_usd_per_mtok=cached,
            cache_write_usd_per_mtok=write,
            cache_write_1h_usd_per_mtok=write_1h,
            usd_per_request=Decimal(row.get("per_1000_requests", 0)) / _THOUSAND,
            steps=tuple(_step(step) for step in row.get("steps", ())),
            mode=mode,
            valid_from=_day(row["from"]),
            valid_to=_day(end),
            basis="price page",
            source=f"{page} (via {self.package})",
            checked_on=self.checked_on,
            note="; ".join(notes),
        )


def host_name(provider: str) -> str:
    """Return a provider's name as the extract writes it."""
    return _HOSTS.get(provider.lower(), provider.lower())


@lru_cache(maxsize=1)
def hosted_table() -> HostedTable:
    """Return the extract, read once a process."""
    from ownward import catalog

    document = json.loads((catalog.DATA_FOLDER / "prices" / "hosted.json").read_text("utf-8"))
    names: dict[str, dict[str, str]] = {}
    for host, offer in document["hosts"].items():
        spelled = names.setdefault(host, {})
        for key, entry in offer["models"].items():
            for name in entry.get("names", ()):
                spelled.setdefault(name.lower(), key)
        spelled.update({key.lower(): key for key in offer["models"]})
    return HostedTable(
        package=document["package"],
        checked_on=date.fromisoformat(document["checked_on"]),
        hosts=document["hosts"],
        names=names,
    )


def _step(row: list[Any]) -> PriceStep:
    above, rate_in, rate_out, cached, write, write_1h = row
    return PriceStep(
        above_input_tokens=above,
        input_usd_per_mtok=Decimal(rate_in),
        output_usd_per_mtok=Decimal(rate_out),
        cached_input_usd_per_mtok=_decimal(cached),
        cache_write_usd_per_mtok=_decimal(write),
        cache_write_1h_usd_per_mtok=_decimal(write_1h),
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
