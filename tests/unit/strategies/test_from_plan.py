"""A plan's strategy becomes one that runs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ownward.core import ConfigError
from ownward.plan import Strategy
from ownward.strategies import from_plan


def test_options_and_caps_are_carried_over() -> None:
    stated = Strategy(
        kind="vote",
        tiers=("small",),
        max_usd=Decimal("0.02"),
        max_seconds=30.0,
        options={"samples": 5, "agreement_fraction": 0.9, "number": True},
    )
    spec, judge = from_plan(stated)
    assert (spec.kind, spec.tiers, spec.samples, spec.agreement) == ("vote", ("small",), 5, 0.9)
    assert (spec.caps.max_calls, spec.caps.max_usd, spec.caps.max_seconds) == (5, Decimal("0.02"), 30.0)
    assert judge is not None
    assert judge.extract("it is 7") == "7"


def test_direct_needs_no_judge() -> None:
    spec, judge = from_plan(Strategy(kind="direct", tiers=("a",)))
    assert judge is None
    assert spec.caps.max_calls == 1


def test_a_cascade_without_a_judge_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"judge|extractor"):
        from_plan(Strategy(kind="cascade", tiers=("a", "b")))
