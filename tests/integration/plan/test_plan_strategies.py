"""What a plan may state of a strategy is what the strategies can carry out."""

from __future__ import annotations

from typing import get_args

import pytest

from ownward import plan, strategies
from ownward.plan import JUDGES, Strategy
from ownward.strategies._judges import JUDGE_KEYS


def test_both_know_the_same_kinds_and_judges():
    assert get_args(plan.StrategyKind) == get_args(strategies.StrategyKind)
    assert set(JUDGES) == set(JUDGE_KEYS)


@pytest.mark.parametrize(
    ("judge", "text", "read"),
    [
        ({"labels": ("yes", "no")}, "I say yes.", "yes"),
        ({"regex": "#(\\d+)"}, "it is #7", "7"),
        ({"number": True}, "so 1,200 it is", "1200"),
        ({"json_field": "a"}, '{"a": 1}', "1"),
        ({"json_schema": '{"type": "object", "required": ["a"]}'}, '{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_judge_of_the_plan_is_one_that_judges(judge, text, read):
    """The options of a plan make the judge without translation."""
    stated = Strategy(kind="vote", tiers=("a",), options={"samples": 2, **judge})
    made = strategies.judge_for(stated.judge_options)
    assert made is not None
    assert made.extract(text) == read
    assert made.verify(text) == 1
