"""What a model is worth beside others: published scores where it has them, its size and age where it has none."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ownward.catalog import Score

_ROUNDS = 40
_FEWEST_SCORED = 3
_LEAST_SLOPE = 0.1
_BOUNDS = (1.0, 99.0)
# A model's prior from size and age counts as much as so many scores.
_PRIOR_SCORES = 1.0
# Names under which one benchmark is published. GPQA is reported on its diamond set throughout.
_SAME = (
    (r"^gpqa.*", "GPQA"),
    (r"^swe.?bench.?verified.*", "SWE-bench Verified"),
    (r"^swe.?bench.?pro.*", "SWE-bench Pro"),
    (r"^aime ?(20)?24$", "AIME 2024"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merit:
    """A model's worth, on the scale of its rule of thumb, and the benchmarks it rests on; none of them, none."""

    worth: float
    rests_on: tuple[str, ...] = ()


def compute_merits(
    thumbs: Mapping[str, float], scores: Iterable[Score], *, named: Mapping[str, str]
) -> dict[str, Merit]:
    """Return the merit of every model of `thumbs`, a rule of thumb by name; `named` leads from releases to names.

    Scores of different benchmarks meet in one scale: the log odds of a score are a model's ability less the
    benchmark's difficulty (Rasch 1960), both fitted to all of the catalogue. A model's ability starts from what its
    rule of thumb lets expect, which counts as one score more; without any it is that. The best of several scores of
    one model on one benchmark is taken: makers state them for different ways of running.
    """
    best: dict[tuple[str, str], float] = {}
    for score in scores:
        name = named.get(score.model or "", "")
        if name in thumbs:
            key = name, _benchmark(score.benchmark)
            best[key] = max(best.get(key, 0.0), float(score.score.value))
    logs = {name: math.log2(max(thumb, 1.0)) for name, thumb in thumbs.items()}
    tested: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, benchmark), value in best.items():
        share = min(max(value, _BOUNDS[0]), _BOUNDS[1]) / 100
        tested[name][benchmark] = math.log(share / (1 - share))
    if len(tested) < _FEWEST_SCORED:
        return {name: Merit(worth=thumb) for name, thumb in thumbs.items()}
    ability, start, slope = _fit(tested, logs)
    return {
        name: Merit(worth=2 ** ((ability[name] - start) / slope), rests_on=tuple(sorted(tested[name])))
        if name in tested
        else Merit(worth=thumb)
        for name, thumb in thumbs.items()
    }


def _fit(tested: Mapping[str, Mapping[str, float]], logs: Mapping[str, float]) -> tuple[dict[str, float], float, float]:
    """Return abilities of tested models, and the line on which the rule of thumb expects them."""
    ability = dict.fromkeys(tested, 0.0)
    start = slope = 0.0
    for _ in range(_ROUNDS):
        told: dict[str, list[float]] = defaultdict(list)
        for name, found in tested.items():
            for benchmark, odds in found.items():
                told[benchmark].append(odds - ability[name])
        ease = {benchmark: sum(rest) / len(rest) for benchmark, rest in told.items()}
        for name, found in tested.items():
            rest = sum(odds - ease[benchmark] for benchmark, odds in found.items())
            expected = start + slope * logs[name]
            ability[name] = (rest + _PRIOR_SCORES * expected) / (len(found) + _PRIOR_SCORES)
        start, slope = _line([(logs[name], ability[name]) for name in tested])
    return ability, start, slope


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return start and slope of the line through points; larger and newer models are never expected to be worse."""
    across = sum(x for x, _ in points) / len(points)
    up = sum(y for _, y in points) / len(points)
    spread = sum((x - across) ** 2 for x, _ in points)
    slope = sum((x - across) * (y - up) for x, y in points) / spread if spread else 0.0
    slope = max(slope, _LEAST_SLOPE)
    return up - slope * across, slope


def _benchmark(name: str) -> str:
    bare = name.strip()
    return next((known for pattern, known in _SAME if re.match(pattern, bare, re.IGNORECASE)), bare)
