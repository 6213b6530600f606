"""Write the extract of genai-prices that the catalogue ships: what hosts of open models charge, by date.

Run it with an interpreter that has the pinned package:
    python -m venv /tmp/genai && /tmp/genai/bin/pip install genai-prices==0.2.3
    /tmp/genai/bin/python scripts/build_hosted_prices.py
It refuses other data than the pinned; after looking at what changed, set the new pin below.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "src" / "ownward" / "catalog" / "data" / "prices" / "hosted.json"
ORACLE = ROOT / "tests" / "properties" / "pricing" / "genai_prices_charges.json"
PINNED = ("0.2.3", "5f4d8e175a91cf23cac17da33a4daa60a6a6c49525109c97e93db220d5197206")
CHECKED_ON = "2026-11-21"

HOSTS = {
    "aws", "avian", "baseten", "cerebras", "cloudflare", "databricks", "doubleword", "fireworks", "groq", "modal",
    "novita", "openrouter", "ovhcloud", "quicksilverpro", "together",
}  # fmt: skip
RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
# Priced apart from text and left out here: a request that uses them costs more than its text.
EXTRAS = ("audio", "image", "video", "document", "search", "citation", "messages")
LICENCE = "MIT, Copyright (c) Pydantic Services Inc. 2025 to present"


def base_of(price: Any) -> str | None:
    if price is None:
        return None
    return str(getattr(price, "base", price))


def steps_of(prices: Any) -> list[list[Any]]:
    """Return [above, input, output, cached, write, write 1h] for each threshold at which any rate changes."""
    starts = sorted({t.start for n in RATES for t in getattr(getattr(prices, n, None), "tiers", ())})
    return [[start, *(rate_above(getattr(prices, name, None), start) for name in RATES)] for start in starts]


def rate_above(price: Any, start: int) -> str | None:
    """Return the rate that holds for inputs just above `start`."""
    found = base_of(price)
    for tier in getattr(price, "tiers", ()):
        if tier.start <= start:
            found = str(tier.price)
    return found


def row_of(prices: Any, valid_from: str | None, mode: str, *, is_free: bool) -> dict[str, Any] | str:
    """Return one dated price, or why it is left out."""
    stated = {name: value for name, value in vars(prices).items() if value is not None and not name.startswith("_")}
    if not stated:
        return {"from": valid_from, "mode": mode, "rates": ["0", "0", None, None, None]} if is_free else "no price"
    if "input_mtok" not in stated or "output_mtok" not in stated:
        return "not priced by input and output token"
    if "output_reasoning_mtok" in stated:
        return "reasoning priced apart"
    row: dict[str, Any] = {"from": valid_from, "mode": mode, "rates": [base_of(stated.get(name)) for name in RATES]}
    if steps := steps_of(prices):
        row["steps"] = steps
    if "requests_kcount" in stated:
        row["per_1000_requests"] = base_of(stated["requests_kcount"])
    if extra := sorted(name for name in stated if any(word in name for word in EXTRAS)):
        row["note"] = "priced apart and not counted here: " + ", ".join(extra)
    return row


def rows_of(model: Any, left_out: Counter[str]) -> list[dict[str, Any]]:
    is_free = model.id.endswith(":free")
    dated = model.prices if isinstance(model.prices, list) else [model.prices]
    found = []
    for entry in dated:
        constraint = getattr(entry, "constraint", None)
        if constraint is not None and not hasattr(constraint, "start_date"):
            left_out["time of day"] += 1
            continue
        start = constraint.start_date.isoformat() if constraint else None
        found.append(row_of(getattr(entry, "prices", entry), start, "standard", is_free=is_free))
    for variant in model.price_variants or ():
        if variant.when == {"processing": "batch"}:
            start = variant.constraint.start_date.isoformat() if variant.constraint else None
            found.append(row_of(variant.prices, start, "batch", is_free=False))
    left_out.update(row for row in found if isinstance(row, str))
    return [row for row in found if not isinstance(row, str)]


def names_of(clause: Any) -> list[str]:
    """Return the exact names a model's match clause lists."""
    if hasattr(clause, "equals"):
        return [clause.equals]
    return [name for part in getattr(clause, "or_", ()) for name in names_of(part)]


def extract(providers: list[Any], digest: str) -> dict[str, Any]:
    left_out: Counter[str] = Counter()
    hosts: dict[str, Any] = {}
    for provider in sorted(providers, key=lambda p: p.id):
        if provider.id not in HOSTS and not provider.id.startswith("huggingface_"):
            continue
        models: dict[str, Any] = {}
        for model in sorted(provider.models, key=lambda m: m.id):
            rows = rows_of(model, left_out)
            if rows:
                names = sorted({name for name in names_of(model.match) if name != model.id})
                models[model.id] = {"names": names, "rows": rows} if names else {"rows": rows}
        hosts[provider.id] = {"page": (provider.pricing_urls or ["?"])[0], "models": models}
    print("left out:", dict(left_out), file=sys.stderr)
    return {
        "generated": "by scripts/build_hosted_prices.py; do not edit, override in a price file of your own",
        "package": f"genai-prices {version('genai-prices')}",
        "data_sha256": digest,
        "licence": LICENCE,
        "checked_on": CHECKED_ON,
        "rates": list(RATES),
        "hosts": hosts,
    }


def spelled(document: dict[str, Any]) -> str:
    """Return the JSON text with one model a line, so that a change reads as a change."""
    head = {key: value for key, value in document.items() if key != "hosts"}
    lines = ["{" + json.dumps(head, ensure_ascii=False)[1:-1] + ', "hosts": {']
    for position, (host, offer) in enumerate(document["hosts"].items()):
        lines.append(f'"{host}": {{"page": {json.dumps(offer["page"])}, "models": {{')
        entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in offer["models"].items()]
        lines.append(",\n".join(entries))
        lines.append("}}" if position + 1 == len(document["hosts"]) else "}},")
    return "\n".join([*lines, "}}"]) + "\n"


# What genai-prices itself charges, for tests that compare: its input_tokens include cached tokens.
FIRST_PARTY = {
    "anthropic": "anthropic", "openai": "openai", "google": "google", "mistral": "mistral", "deepseek": "deepseek",
    "x-ai": "xai", "moonshotai": "moonshotai", "minimax": "minimax", "zai": "zai", "cohere": "cohere",
}  # fmt: skip
ORACLE_AT = "2026-10-22T03:00:00+00:00"
USAGES = (
    {"input_tokens": 100_000, "output_tokens": 1_000},
    {"input_tokens": 100_000, "output_tokens": 1_000, "cache_read_tokens": 60_000},
    {"input_tokens": 400_000, "output_tokens": 2_000, "cache_read_tokens": 250_000},
)


def charges(providers: list[Any]) -> dict[str, Any]:
    from datetime import datetime

    from genai_prices import Usage, calc_price

    at = datetime.fromisoformat(ORACLE_AT)
    rows: dict[str, dict[str, list[str]]] = {}
    for provider in providers:
        if provider.id not in FIRST_PARTY:
            continue
        for model in provider.models:
            try:
                totals = [
                    calc_price(
                        Usage(**usage), model.id, provider_id=provider.id, genai_request_timestamp=at
                    ).total_price
                    for usage in USAGES
                ]
            except (LookupError, ValueError):
                continue
            rows.setdefault(FIRST_PARTY[provider.id], {})[model.id] = [str(total) for total in totals]
    return {
        "generated": "by scripts/build_hosted_prices.py: charges as genai-prices computes them",
        "package": f"genai-prices {version('genai-prices')}",
        "licence": LICENCE,
        "at": ORACLE_AT,
        "usages_with_cache_inside_input": list(USAGES),
        "charges_usd": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    spec = importlib.util.find_spec("genai_prices")
    if spec is None or spec.origin is None:
        print(__doc__)
        return 2
    digest = hashlib.sha256((Path(spec.origin).parent / "data.py").read_bytes()).hexdigest()
    if (version("genai-prices"), digest) != PINNED:
        print(f"genai-prices {version('genai-prices')} with data {digest} is not the pinned {PINNED}")
        return 1
    from genai_prices import data

    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(spelled(extract(data.providers, digest)), "utf-8")
    ORACLE.write_text(json.dumps(charges(data.providers), indent=0) + "\n", "utf-8")
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
