"""Laws of ranking models by published scores and, where there are none, by size and age."""

import math
from datetime import date

import pytest

from ownward.catalog import Score
from ownward.core import Sourced
from ownward.planner import compute_merits

_THUMBS = {"small": 1e9, "middle": 4e9, "large": 16e9, "unknown": 6e9, "tiny": 1e8}
_NAMED = {name: name for name in _THUMBS}


def _score(model: str, value: float, benchmark: str = "GPQA") -> Score:
    stated = Sourced(value=value, basis="datasheet", source="a page", checked_on=date(2026, 11, 21))
    return Score(
        release=model, model=model, benchmark=benchmark, score=stated, metric="%", kind="third party", via="",
        conditions="",
    )  # fmt: skip


_SCORES = [_score("small", 30), _score("middle", 50), _score("large", 70)]


def test_without_scores_the_rule_of_thumb_is_all() -> None:
    found = compute_merits(_THUMBS, [], named=_NAMED)
    assert {name: merit.worth for name, merit in found.items()} == _THUMBS
    assert not any(merit.rests_on for merit in found.values())


def test_a_better_score_is_worth_more_than_size() -> None:
    found = compute_merits(_THUMBS, [*_SCORES[1:], _score("small", 90)], named=_NAMED)
    assert found["small"].worth > found["large"].worth > found["middle"].worth


def test_what_is_said_to_rest_on_scores_has_them() -> None:
    found = compute_merits(_THUMBS, [*_SCORES, _score("large", 40, "AIME 2025")], named=_NAMED)
    assert found["large"].rests_on == ("AIME 2025", "GPQA")
    assert found["unknown"].rests_on == ()
    assert found["unknown"].worth == _THUMBS["unknown"]


def test_a_hard_benchmark_does_not_lower_whoever_was_tried_on_it() -> None:
    """Two of equal ability on what they share stay close, though one also has a low figure on a harder test."""
    shared = [_score("middle", 50), _score("large", 50), _score("small", 30)]
    hard = [_score("large", 10, "Hard"), _score("small", 4, "Hard")]
    found = compute_merits(_THUMBS, [*shared, *hard], named=_NAMED)
    assert found["large"].worth > found["middle"].worth


def test_one_benchmark_under_two_names_is_one() -> None:
    found = compute_merits(_THUMBS, [*_SCORES, _score("large", 72, "GPQA Diamond")], named=_NAMED)
    assert found["large"].rests_on == ("GPQA",)


def test_the_best_of_several_ways_of_running_counts() -> None:
    worse = compute_merits(_THUMBS, _SCORES, named=_NAMED)
    both = compute_merits(_THUMBS, [*_SCORES, _score("small", 10)], named=_NAMED)
    assert both["small"].worth == worse["small"].worth


def test_scores_that_go_with_size_leave_worth_as_size_says() -> None:
    """The line is the one through the models: none is worth more or less than its size where each lies on it."""
    sizes = {"small": 1e9, "middle": 4e9, "large": 16e9, "huge": 64e9}
    scores = [_score(name, 100 / (1 + math.exp(-0.4 * math.log2(size / 8e9)))) for name, size in sizes.items()]
    found = compute_merits(sizes, scores, named={name: name for name in sizes})
    for name, size in sizes.items():
        assert found[name].worth == pytest.approx(size, rel=0.02)
