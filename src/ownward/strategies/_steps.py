"""Strategies as generators: each yields the calls to make (side by side) and takes their replies.

They see no ground truth: agreement and verifiers are all they go by. An unverifiable
task cannot use best_of or revise, and a text without an extractor cannot vote:
`run` refuses rather than compare whole texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import assert_never

from ownward.core import ConfigError, Fault
from ownward.strategies._types import Ask, Chosen, Judge, Reply, Steps, StrategySpec

_PASSES = 1.0


def run(spec: StrategySpec, judge: Judge | None = None) -> Steps:
    """Return the steps of one task under `spec`, ended at its caps with the best answer so far.

    A round of more calls than `max_calls` leaves is made smaller: what is missing agrees with nothing. What a call may
    cost, make and take before it is sent, nobody here knows; whoever sends it says by `capped_by` that it did not fit.
    Raises: ConfigError, when started, if the strategy needs an extractor or a verifier and `judge` is None.
    """
    check(spec, has_judge=judge is not None)
    answers: list[Reply] = []
    elapsed_s = 0.0
    inner = _steps(spec, judge)
    asks = next(inner)
    stop: str | None = None
    while True:
        stop = stop or _cap_reached(spec, answers, elapsed_s=elapsed_s)
        if stop is not None:
            best = _most_frequent(answers, judge) if spec.kind == "vote" else _best(answers, judge)
            return Chosen(reply=best, reason=f"stopped at {stop}", calls=len(answers))
        replies = yield asks[: spec.caps.max_calls - len(answers)]
        stop = next((reply.capped_by for reply in replies if reply.capped_by is not None), None)
        answers.extend(reply for reply in replies if reply.was_sent)
        elapsed_s += max((reply.elapsed_s for reply in replies), default=0.0)  # they were made side by side
        try:
            asks = inner.send(replies)
        except StopIteration as end:
            chosen: Chosen = end.value
            reason = chosen.reason if stop is None else f"{chosen.reason}, with less than was wanted by {stop}"
            return Chosen(reply=chosen.reply, reason=reason, calls=len(answers))


def check(spec: StrategySpec, *, has_judge: bool, file: str = "plan") -> None:
    """Raise ConfigError, if `spec` names too few tiers or needs a judge that is not there."""
    problems = []
    if not spec.tiers:
        problems.append("names no tier")
    if spec.kind == "cascade" and len(spec.tiers) < 2:  # noqa: PLR2004 - from one tier to another
        problems.append("is a cascade of fewer than two tiers")
    if spec.kind != "direct" and not has_judge:
        problems.append(f'is "{spec.kind}", which needs an extractor or a verifier, and has none')
    if problems:
        raise ConfigError(
            [Fault(file=file, key="strategy", message=problem) for problem in problems],
            next_step='State a grader for the workload, or use kind = "direct"',
        )


def _steps(spec: StrategySpec, judge: Judge | None) -> Steps:
    if spec.kind == "direct":
        return _direct(spec)
    assert judge is not None  # checked by `check`
    match spec.kind:
        case "cascade":
            return _cascade(spec, judge)
        case "vote":
            return _vote(spec, judge)
        case "best_of":
            return _best_of(spec, judge)
        case "revise":
            return _revise(spec, judge)
        case "forest":
            return _forest(spec, judge)
        case _:
            assert_never(spec.kind)


def _direct(spec: StrategySpec) -> Steps:
    (reply,) = yield (Ask(tier=spec.tiers[0], purpose="direct"),)
    return Chosen(reply=_answered(reply), reason=f"direct to {spec.tiers[0]}", calls=1)


def _cascade(spec: StrategySpec, judge: Judge) -> Steps:
    """Take the cheap tier's answer if a verifier passes it, of several if enough agree; else ask the next tier.

    Samples that the verifier rejects agree with nobody: the share is of all that were asked for.
    """
    for tier in spec.tiers[:-1]:
        asks = tuple(
            Ask(tier=tier, purpose="cascade", temperature=spec.temperature if index else None)
            for index in range(max(spec.samples, 1))
        )
        replies = yield asks
        if len(asks) == 1:
            (only,) = replies
            if only.text is not None and judge.verify(only.text) == _PASSES:
                return Chosen(reply=only, reason=f"{tier} passed the verifier", calls=0)
            continue
        sound = [reply for reply in replies if reply.text is not None and judge.verify(reply.text) in {None, _PASSES}]
        leading = Counter(_keys(sound, judge)).most_common(1)
        if leading and leading[0][1] / len(asks) >= spec.agreement:
            key, votes = leading[0]
            return Chosen(
                reply=_first_with(sound, judge, key), reason=f"{votes} of {len(asks)} from {tier} agree", calls=0
            )
    last = spec.tiers[-1]
    (reply,) = yield (Ask(tier=last, purpose="escalated"),)
    return Chosen(reply=_answered(reply), reason=_escalated(f"escalated to {last}", reply), calls=0)


def _vote(spec: StrategySpec, judge: Judge) -> Steps:
    """Sample until the leading answer beats the second with probability `agreement`, at most `samples` times.

    Source: Aggarwal et al. 2023, "Let's Sample Step by Step" (Adaptive-Consistency), the Beta criterion.
    """
    replies: list[Reply] = []
    most = max(spec.samples, 1)
    while len(replies) < most:
        width = min(2 if not replies else 1, most - len(replies))
        more = yield tuple(Ask(tier=spec.tiers[0], purpose="vote", temperature=spec.temperature) for _ in range(width))
        replies.extend(more)
        ranked = Counter(_keys(replies, judge)).most_common(2)
        if not ranked:
            continue
        first, second = ranked[0][1], ranked[1][1] if len(ranked) > 1 else 0
        if leads_with_probability(first, second) >= spec.agreement:
            break
    ranked = Counter(_keys(replies, judge)).most_common(1)
    if not ranked:
        return Chosen(reply=None, reason=f"none of {len(replies)} answers could be read", calls=0)
    key, votes = ranked[0]
    return Chosen(reply=_first_with(replies, judge, key), reason=f"{votes} of {len(replies)} votes", calls=0)


def _best_of(spec: StrategySpec, judge: Judge) -> Steps:
    replies = yield tuple(
        Ask(tier=spec.tiers[0], purpose="best_of", temperature=spec.temperature) for _ in range(max(spec.samples, 1))
    )
    best = _best(replies, judge)
    score = judge.verify(best.text) if best is not None and best.text is not None else None
    return Chosen(reply=best, reason=f"best of {len(replies)}, scored {score}", calls=0)


def _revise(spec: StrategySpec, judge: Judge) -> Steps:
    """Ask again with the failed answer shown; keep the best by the verifier, not the last."""
    (reply,) = yield (Ask(tier=spec.tiers[0], purpose="draft"),)
    tried = [reply]
    for _ in range(spec.revisions):
        best = _best(tried, judge)
        if best is None or best.text is None or judge.verify(best.text) == _PASSES:
            break
        (reply,) = yield (_revision_of(best, spec.tiers[0]),)
        tried.append(reply)
    best = _best(tried, judge)
    return Chosen(reply=best, reason=f"best of a draft and {len(tried) - 1} revisions", calls=0)


def _forest(spec: StrategySpec, judge: Judge) -> Steps:
    """Grow diverse answers, prune by the verifier, revise the survivors once, then agree or escalate.

    After Bi et al. 2024, "Forest-of-Thought", without its look at the ground truth.
    """
    tier = spec.tiers[0]
    roots = yield tuple(
        Ask(tier=tier, purpose="root", temperature=spec.temperature) for _ in range(max(spec.samples, 2))
    )
    kept: list[Reply] = []
    asks: list[Ask] = []
    for root in roots:
        if root.text is None:
            continue
        score = judge.verify(root.text)
        if score is None or score == _PASSES:
            kept.append(root)
        else:
            asks.append(_revision_of(root, tier))
    if asks:
        revised = yield tuple(asks)
        kept.extend(reply for reply in revised if reply.text is not None and judge.verify(reply.text) == _PASSES)
    ranked = Counter(_keys(kept, judge)).most_common(1)
    if ranked and ranked[0][1] * 2 > len(roots):
        key, votes = ranked[0]
        return Chosen(reply=_first_with(kept, judge, key), reason=f"{votes} of {len(roots)} trees agree", calls=0)
    if len(spec.tiers) > 1:
        (reply,) = yield (Ask(tier=spec.tiers[1], purpose="escalated"),)
        reason = _escalated(f"no majority of {len(roots)} trees: escalated", reply)
        return Chosen(reply=_answered(reply), reason=reason, calls=0)
    return Chosen(reply=_best(kept or roots, judge), reason=f"no majority of {len(roots)} trees", calls=0)


def leads_with_probability(first: int, second: int) -> float:
    """Return the probability that the answer with `first` votes is truly ahead of the one with `second`.

    1 - I_0.5(first + 1, second + 1), the Beta posterior under a flat prior, as an exact binomial sum.

    >>> leads_with_probability(1, 0), leads_with_probability(5, 0)
    (0.75, 0.984375)
    """
    draws = first + second + 1
    at_least = sum(math.comb(draws, wins) for wins in range(first + 1, draws + 1))
    return 1 - at_least / float(2**draws)


def _revision_of(reply: Reply, tier: str) -> Ask:
    return Ask(
        tier=tier,
        purpose="revision",
        extra_messages=(
            {"role": "assistant", "content": reply.text or ""},
            {
                "role": "user",
                "content": "That answer does not have the required form or is wrong. Give a corrected answer only.",
            },
        ),
    )


def _keys(replies: Iterable[Reply], judge: Judge) -> list[str]:
    found = (judge.extract(reply.text) for reply in replies if reply.text is not None)
    return [key for key in found if key is not None]


def _first_with(replies: Iterable[Reply], judge: Judge, key: str) -> Reply | None:
    return next((reply for reply in replies if reply.text is not None and judge.extract(reply.text) == key), None)


def _answered(reply: Reply) -> Reply | None:
    return reply if reply.text is not None else None


def _escalated(reason: str, reply: Reply) -> str:
    return reason if reply.text is not None else f"{reason}, which gave no answer that can be read"


def _best(replies: Iterable[Reply], judge: Judge | None) -> Reply | None:
    """Return the answered reply with the highest verifier score, the earliest of equals."""
    answered = [reply for reply in replies if reply.text is not None]

    def score(reply: Reply) -> float:
        return (judge.verify(reply.text) or 0.0) if judge is not None and reply.text is not None else 0.0

    return max(answered, key=score, default=None)


def _most_frequent(replies: Iterable[Reply], judge: Judge | None) -> Reply | None:
    """Return the first reply with the answer that most gave; the best where none can be read."""
    given = list(replies)
    if judge is not None and (ranked := Counter(_keys(given, judge)).most_common(1)):
        return _first_with(given, judge, ranked[0][0])
    return _best(given, judge)


def _cap_reached(spec: StrategySpec, answers: list[Reply], *, elapsed_s: float) -> str | None:
    caps = spec.caps
    if len(answers) >= caps.max_calls:
        return f"max_calls = {caps.max_calls}"
    tokens = sum(reply.output_tokens or 0 for reply in answers)
    if caps.max_output_tokens is not None and tokens >= caps.max_output_tokens:
        return f"max_output_tokens = {caps.max_output_tokens}"
    if caps.max_usd is not None and sum((reply.usd or Decimal(0) for reply in answers), Decimal(0)) >= caps.max_usd:
        return f"max_usd = {caps.max_usd:f}"
    if caps.max_seconds is not None and elapsed_s >= caps.max_seconds:
        return f"max_seconds = {caps.max_seconds:g}"
    return None
