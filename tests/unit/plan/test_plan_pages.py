"""The reference page and the example plan say what the types say."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from ownward.core import Basis
from ownward.plan import (
    CAPABILITIES,
    JUDGES,
    Budget,
    Capture,
    Hedge,
    Match,
    Plan,
    Strategy,
    Tier,
    Upstream,
    Workload,
    dumps,
    loads,
)
from ownward.plan._strategies import RULES
from ownward.pricing import Price, PriceStep

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"
EXAMPLE = (REFERENCE / "plan.example.toml").read_text(encoding="utf-8")
PAGE = (REFERENCE / "plan.md").read_text(encoding="utf-8")


def test_the_example_loads_and_is_left_as_it_is():
    plan = loads(EXAMPLE, file="plan.example.toml")
    assert dumps(plan, EXAMPLE) == EXAMPLE
    assert loads(dumps(plan)) == plan
    assert plan.tiers["rack"].place.is_on_site
    assert not plan.tiers["rack"].place.is_local
    assert plan.tiers["desk"].place.is_local
    assert not plan.tiers["api"].place.is_on_site


@pytest.mark.parametrize(
    "kind", [Plan, Tier, Upstream, Workload, Match, Strategy, Budget, Capture, Hedge, Price, PriceStep]
)
def test_every_key_stands_in_the_example_and_on_the_page(kind):
    """No field of a type is undocumented; a name is the table's own."""
    written: set[str] = set()

    def walk(value):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            written.add(key)
            if isinstance(item, dict | list):
                walk(item)

    walk(tomllib.loads(EXAMPLE))
    for item in dataclasses.fields(kind):
        if item.init and item.name != "name":
            assert item.name in written, f"{kind.__name__}.{item.name} is not in plan.example.toml"
            assert re.search(rf"\b{item.name}\b", PAGE), f"{kind.__name__}.{item.name} is not in plan.md"


def test_every_closed_set_stands_on_the_page():
    """Capabilities, judges, kinds of strategy with their options, bases."""
    for word in (*CAPABILITIES, *JUDGES, *RULES, *get_args(Basis)):
        assert re.search(rf"\b{word}\b", PAGE), word
    for rule in RULES.values():
        for option in rule.options:
            assert re.search(rf"`{option}\b", PAGE), option
