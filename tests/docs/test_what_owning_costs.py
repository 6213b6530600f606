"""The tables of the pages on traffic and owning say what the code computes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ownward.economics import Assumptions, Capacity, OwnedOption, Volume, assume, compute_owned_cost
from ownward.traffic import FORMATS

DOCS = Path(__file__).resolve().parents[2] / "docs"
DAY = date(2026, 11, 21)
OUTPUT_TOKENS_PER_S = 2000


def sure(value: float):
    return assume(value, "the page's example", checked_on=DAY)


def cost_of(use: float, people_usd: float):
    shared = Assumptions(
        amortisation_months=sure(36),
        residual_fraction=sure(0.2),
        cost_of_capital_fraction_per_year=sure(0),
        pue=sure(1.2),
        usd_per_kwh=sure(0.25),
        hosting_usd_per_month=sure(0),
        maintenance_fraction_per_year=sure(0),
        people_hours_per_month=sure(1),
        people_usd_per_hour=sure(people_usd),
        redundancy=0,
    )
    box = OwnedOption(
        name="box",
        capex_usd=sure(8000),
        idle_watts=sure(700),
        busy_watts=sure(700),
        capacity=Capacity(prefill_tokens_per_s=sure(1e12), decode_tokens_per_s=sure(OUTPUT_TOKENS_PER_S)),
    )
    volume = Volume(
        requests=1,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=use * OUTPUT_TOKENS_PER_S * 730 * 3600,
        peak_input_tokens_per_s=0,
        peak_output_tokens_per_s=use * OUTPUT_TOKENS_PER_S,
    )
    return compute_owned_cost(box, volume, shared)


@pytest.mark.parametrize("use", [0.05, 0.30])
def test_the_table_of_the_box(use) -> None:
    staffed, alone = cost_of(use, 1000), cost_of(use, 0)
    row = (
        f"| {use:.0%} | ${staffed.loaded_output_usd_per_mtok:.2f} | ${alone.loaded_output_usd_per_mtok:.2f}"
        f" | ${alone.marginal_output_usd_per_mtok:.3f} |"
    )
    assert row in (DOCS / "explanation" / "what-owning-costs.md").read_text()
    assert round(staffed.loaded_usd) == 1331


def test_every_format_is_on_its_page_and_no_other() -> None:
    page = (DOCS / "reference" / "import-formats.md").read_text()
    table = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert table == {known.name for known in FORMATS if not known.refusal}
    assert all(f"`{known.name}`" in page for known in FORMATS if known.refusal)
