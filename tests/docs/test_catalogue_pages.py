"""The pages about the catalogue: their examples run, and they name every key."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ownward import catalog
from ownward.core import BadInput
from ownward.pricing import PriceBook, load_prices

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOM = Path(catalog.__file__).parent


def test_the_how_to_file_reads_as_it_stands(tmp_path):
    page = (DOCS / "how-to" / "add-your-own-machine-model-price.md").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1], "utf-8")
    mine = [tmp_path]
    assert catalog.machine("my 3090", mine).memory_bytes.basis == "measured"
    assert catalog.machine("my 3090", mine).bf16_flop_per_s.basis == "datasheet"
    assert catalog.model("our-tune", mine).context_tokens.value == 40960
    price = PriceBook.load(load_prices(mine)).find("our-reseller/gpt-4o", at=date(2026, 11, 20))
    assert price.rates_for(200_000).input_usd_per_mtok == Decimal(4)
    assert catalog.electricity("germany", extra=mine)[0].usd_per_kwh == Decimal("0.21")


def test_the_reference_names_every_key_that_is_read():
    page = (DOCS / "reference" / "catalog.md").read_text("utf-8")
    sources = [*ROOM.glob("*.py"), ROOM.parent / "pricing" / "_stated.py"]
    read = {
        key
        for path in sources
        for key in re.findall(
            r"table\.(?:fact|need_fact|text|need_text|texts|raw|flag)\(\s*\"([a-z0-9_]+)\"", path.read_text("utf-8")
        )
    }
    assert len(read) > 50
    assert sorted(key for key in read if f"`{key}`" not in page) == []


def test_the_reference_names_every_column_of_a_machine_row():
    page = (DOCS / "reference" / "catalog.md").read_text("utf-8")
    line = re.search(r"an object with the columns `([^`]*)`", page)[1]
    columns = re.split(r",\s*", line.replace("\n", " "))
    with pytest.raises(BadInput) as refused:
        catalog.machine_from_mapping({"no_such_column": 1})
    assert sorted(columns) == refused.value.allowed.removeprefix("Known: ").split(", ")


def test_the_reference_names_functions_that_exist():
    page = (DOCS / "reference" / "catalog.md").read_text("utf-8")
    section = page.split("## In Python")[1].split("## JSON")[0]
    named = set(re.findall(r"`([a-z_]+)\(", section))
    assert len(named) > 20
    assert named <= set(catalog.__all__)
