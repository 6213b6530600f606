"""The pages about watching name metrics that there are, with labels that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ownward.gateway.watching.families import COUNTED, READ
from ownward.gateway.watching.metrics import Outcome

DOCS = Path(__file__).resolve().parents[3] / "docs"
FAMILIES = {family.name: family for family in (*COUNTED, *READ)}
PAGES = ("how-to/watch-a-gateway.md", "reference/observability.md")


def read(page):
    return (DOCS / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_each_metric_on_the_page_is_one_that_there_is(page):
    endings = "total|seconds|usd|state|usable|bytes"
    named = set(re.findall(rf"\b((?:ownward|process)_[a-z_]+_(?:{endings})(?:_bucket)?)\b", read(page)))
    assert len(named) > 5
    assert {name.removesuffix("_bucket") for name in named} - FAMILIES.keys() == set()


@pytest.mark.parametrize("page", PAGES)
def test_each_sum_on_the_page_is_by_labels_that_the_metric_has(page):
    asked = re.findall(r"\b(?:sum|min|max) by \(([a-z_, ]+)\) \((?:rate\()?(\w+?)(?:_bucket)?[\[){ ]", read(page))
    assert asked
    for labels, name in asked:
        assert {label.strip() for label in labels.split(",")} - {"le"} <= set(FAMILIES[name].labels), name


def test_every_outcome_stands_on_the_page():
    from typing import get_args

    page = read("reference/observability.md")
    assert [outcome for outcome in get_args(Outcome) if f"| `{outcome}` |" not in page] == []
