"""Strategies: what they ask, when they stop, what they choose."""

from __future__ import annotations

import pytest

from ownward.core import ConfigError
from ownward.strategies import Caps, Chosen, Reply, Steps, StrategySpec, judge_for, run

NUMBERS = judge_for({"number": True})


def drive(steps: Steps, answers: dict[str, list[str | None]]) -> tuple[Chosen, list[str]]:
    """Feed `answers` by tier and return what was chosen and the purposes of the calls made."""
    made: list[str] = []
    try:
        asks = next(steps)
        while True:
            made.extend(f"{ask.tier}:{ask.purpose}" for ask in asks)
            asks = steps.send(tuple(Reply(text=answers[ask.tier].pop(0), output_tokens=5) for ask in asks))
    except StopIteration as end:
        return end.value, made


def test_direct_asks_once() -> None:
    chosen, made = drive(run(StrategySpec(kind="direct", tiers=("a",))), {"a": ["42"]})
    assert made == ["a:direct"]
    assert chosen.reply is not None
    assert chosen.reply.text == "42"
    assert chosen.calls == 1


def test_direct_with_a_failed_call_chooses_nothing() -> None:
    chosen, _ = drive(run(StrategySpec(kind="direct", tiers=("a",))), {"a": [None]})
    assert chosen.reply is None


def test_vote_stops_as_soon_as_the_leader_is_sure_enough() -> None:
    spec = StrategySpec(kind="vote", tiers=("a",), samples=7, agreement=0.95)
    chosen, made = drive(run(spec, NUMBERS), {"a": ["it is 7", "7", "7", "7", "8", "8", "8"]})
    assert len(made) == 4  # 4 to 0 is the first lead of at least 0.95: 1 - 1/32
    assert chosen.reply is not None
    assert chosen.reply.text == "it is 7"


def test_vote_takes_all_samples_when_answers_disagree() -> None:
    spec = StrategySpec(kind="vote", tiers=("a",), samples=5)
    chosen, made = drive(run(spec, NUMBERS), {"a": ["1", "2", "1", "2", "1"]})
    assert len(made) == 5
    assert chosen.reason == "3 of 5 votes"


def test_cascade_by_agreement_keeps_the_cheap_answer() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=3, agreement=0.6)
    chosen, made = drive(run(spec, NUMBERS), {"small": ["7", "it is 8", "so 8"], "big": ["9"]})
    assert made == ["small:cascade"] * 3
    assert chosen.reply is not None
    assert (chosen.reply.text, chosen.reason) == ("it is 8", "2 of 3 from small agree")


def test_cascade_by_agreement_escalates_samples_that_can_be_read_and_disagree() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=3, agreement=0.6)
    chosen, made = drive(run(spec, NUMBERS), {"small": ["1", "2", "3"], "big": ["4"]})
    assert made == ["small:cascade"] * 3 + ["big:escalated"]
    assert chosen.reply is not None
    assert (chosen.reply.text, chosen.reason) == ("4", "escalated to big")


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("1234567.25", "1234567.75", False),
        ("0.1234567", "0.1234568", False),
        ("1,234,567.50", "so 1234567.5", True),
        ("-0", "0.0", True),
        ("9" * 1_000_001, "9" * 5000, False),
    ],
    ids=["cents", "seventh digit", "separators", "nothing", "thousands of digits"],
)
def test_numbers_agree_where_they_are_equal_and_not_where_they_are_close(one: str, other: str, are_same: bool) -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=2, agreement=1.0)
    _, made = drive(run(spec, NUMBERS), {"small": [one, other], "big": ["4"]})
    assert (made[-1] == "small:cascade") is are_same


@pytest.mark.parametrize("silent", [None, "I cannot say"])
def test_cascade_counts_samples_without_an_answer_as_agreeing_with_nobody(silent: str | None) -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=3, agreement=0.6)
    chosen, made = drive(run(spec, NUMBERS), {"small": ["1", silent, silent], "big": ["4"]})
    assert made[-1] == "big:escalated"
    assert chosen.reply is not None
    assert chosen.reply.text == "4"


def test_cascade_by_agreement_takes_no_answers_that_agree_in_what_the_verifier_rejects() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=2, agreement=1.0)
    judge = judge_for({"json_schema": {"type": "object", "required": ["city"]}})
    answers: dict[str, list[str | None]] = {"small": ['{"town": "Bern"}'] * 2, "big": ['{"city": "Bern"}']}
    chosen, _ = drive(run(spec, judge), answers)
    assert chosen.reply is not None
    assert chosen.reply.text == '{"city": "Bern"}'


def test_cascade_escalates_what_the_verifier_rejects() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"))
    chosen, made = drive(run(spec, judge_for({"labels": ["yes", "no"]})), {"small": ["perhaps"], "big": ["no"]})
    assert made == ["small:cascade", "big:escalated"]
    assert chosen.reply is not None
    assert chosen.reply.text == "no"
    assert chosen.calls == 2


def test_revise_keeps_the_best_not_the_last() -> None:
    spec = StrategySpec(kind="revise", tiers=("a",), revisions=2)
    judge = judge_for({"json_field": "city"})
    chosen, made = drive(run(spec, judge), {"a": ["no json", '{"city": "Bern"}', "never asked"]})
    assert made == ["a:draft", "a:revision"]
    assert chosen.reply is not None
    assert chosen.reply.text == '{"city": "Bern"}'


def test_forest_without_a_majority_escalates() -> None:
    spec = StrategySpec(kind="forest", tiers=("small", "big"), samples=3)
    chosen, made = drive(run(spec, NUMBERS), {"small": ["1", "2", "3"], "big": ["4"]})
    assert made[-1] == "big:escalated"
    assert chosen.reply is not None
    assert chosen.reply.text == "4"


def test_a_cap_ends_the_task_with_the_best_answer_so_far() -> None:
    spec = StrategySpec(kind="vote", tiers=("a",), samples=7, caps=Caps(max_calls=3))
    chosen, made = drive(run(spec, NUMBERS), {"a": ["1", "2", "3", "4"]})
    assert len(made) == 3
    assert chosen.reason == "stopped at max_calls = 3"
    assert chosen.reply is not None


def test_samples_made_side_by_side_take_the_seconds_of_the_slowest() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "big"), samples=3, agreement=0.6, caps=Caps(max_seconds=5))
    steps = run(spec, NUMBERS)
    next(steps)
    (escalated,) = steps.send(tuple(Reply(text=text, elapsed_s=4.0) for text in ("1", "2", "3")))
    assert escalated.tier == "big"


def test_a_strategy_that_must_judge_is_refused_without_a_judge() -> None:
    with pytest.raises(ConfigError, match="needs an extractor or a verifier"):
        next(run(StrategySpec(kind="vote", tiers=("a",), samples=3)))


def test_a_cascade_of_one_tier_is_refused() -> None:
    with pytest.raises(ConfigError, match="fewer than two tiers"):
        next(run(StrategySpec(kind="cascade", tiers=("a",)), NUMBERS))


def test_an_answer_whose_match_leaves_the_group_out_is_one_that_cannot_be_read() -> None:
    judge = judge_for({"regex": r"answer: (\w+)|I cannot say"})
    assert judge is not None
    assert (judge.extract("answer: yes"), judge.extract("I cannot say")) == ("yes", None)


def test_two_judges_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="several judges"):
        judge_for({"number": True, "regex": "x"})


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"$ref": "http://127.0.0.1:9/s.json"}])
def test_a_json_schema_that_cannot_be_used_is_refused_before_anything_is_asked(schema: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.json_schema is refused"):
        judge_for({"json_schema": schema})


def test_cascade_stops_at_the_first_tier_whose_answer_the_verifier_passes() -> None:
    spec = StrategySpec(kind="cascade", tiers=("small", "middle", "big"))
    chosen, made = drive(
        run(spec, judge_for({"labels": ["yes", "no"]})), {"small": ["perhaps"], "middle": ["no"], "big": ["yes"]}
    )
    assert made == ["small:cascade", "middle:cascade"]
    assert chosen.reply is not None
    assert (chosen.reply.text, chosen.reason, chosen.calls) == ("no", "middle passed the verifier", 2)


def test_a_round_of_more_calls_than_the_cap_leaves_is_made_smaller() -> None:
    spec = StrategySpec(kind="best_of", tiers=("a",), samples=5, caps=Caps(max_calls=3))
    chosen, made = drive(run(spec, NUMBERS), {"a": ["none", "2", "3", "4", "5"]})
    assert len(made) == 3
    assert chosen.reply is not None
    assert chosen.reply.text == "2"


def test_a_vote_that_a_cap_ends_gives_the_answer_that_leads_and_not_the_first() -> None:
    spec = StrategySpec(kind="vote", tiers=("a",), samples=7, caps=Caps(max_calls=3))
    chosen, _ = drive(run(spec, NUMBERS), {"a": ["1", "2", "so 2"]})
    assert chosen.reply is not None
    assert chosen.reply.text == "2"


def test_what_a_cap_did_not_let_be_sent_is_no_call_and_ends_the_task_with_what_is_there() -> None:
    steps = run(StrategySpec(kind="vote", tiers=("a",), samples=7), NUMBERS)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send((Reply(text="1"), Reply(text=None, capped_by="max_usd = 1", was_sent=False)))
    chosen = end.value.value
    assert (chosen.reply.text, chosen.reason, chosen.calls) == ("1", "stopped at max_usd = 1", 1)


@pytest.mark.parametrize(
    "spec",
    [
        StrategySpec(kind="cascade", tiers=("small", "big")),
        StrategySpec(kind="forest", tiers=("small", "big"), samples=2),
    ],
    ids=["cascade", "forest"],
)
def test_an_escalation_that_gives_nothing_is_told_as_one(spec: StrategySpec) -> None:
    chosen, _ = drive(run(spec, NUMBERS), {"small": ["none"] * 4, "big": [None]})
    assert chosen.reply is None
    assert chosen.reason.endswith("which gave no answer that can be read")
