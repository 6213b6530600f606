"""When a call is late, where a second one may go, and how many there may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownward.gateway.placing.breaker import CLOSED, BreakerRules
from ownward.gateway.placing.hedging import FirstByteTimes, Pace, find_second, may_take_second
from ownward.gateway.placing.routing import compile_plan
from ownward.plan import Hedge, loads

PLAN = """
schema = "ownward.plan/1"
name = "hedging"
[tiers.own]
kind = "owned"
model = "m"
engine = "adopted"
upstreams = [{ name = "a", url = "http://127.0.0.1:1" }, { name = "b", url = "http://127.0.0.1:2" }]
[tiers.desk]
kind = "owned"
model = "m"
engine = "adopted"
upstreams = [{ name = "d", url = "http://127.0.0.1:3" }]
[tiers.api]
kind = "rented"
model = "m"
upstreams = [{ name = "x", url = "https://a.example" }, { name = "y", url = "https://b.example" }]
[tiers.other]
kind = "rented"
model = "m"
upstreams = [{ name = "z", url = "https://c.example" }]
"""
TARGETS = {target.key: target for targets in compile_plan(loads(PLAN)).targets.values() for target in targets}
SOON = Hedge(after_s=1)


@pytest.mark.parametrize(
    ("first", "to", "taken"),
    [
        ("own/a", (), {"own/b", "desk/d"}),
        ("own/a", ("api",), {"api/x", "api/y"}),
        ("own/a", ("own", "other"), {"own/b", "other/z"}),
        ("api/x", (), {"api/y", "own/a", "own/b", "desk/d"}),
        ("other/z", ("other",), set()),
    ],
)
def test_a_second_call_goes_to_the_tier_itself_and_to_owned_ones_or_where_the_plan_says(first, to, taken):
    hedge = Hedge(after_s=1, to=to)
    assert {key for key, target in TARGETS.items() if may_take_second(TARGETS[first], target, hedge)} == taken


def test_the_first_candidate_that_is_healthy_and_has_a_place_takes_it():
    left = [TARGETS[key] for key in ("own/b", "desk/d")]
    first = TARGETS["own/a"]
    asked = {"hedge": SOON, "now_s": 10.0}

    def find(breakers=None, full=()):
        found = find_second(
            first, left, breakers=breakers or {}, has_place=lambda target: target.key not in full, **asked
        )
        return None if found is None else found.key

    assert find() == "own/b"
    assert find(full={"own/b"}) == "desk/d"
    opened = CLOSED.after_failure(9.9, BreakerRules(failures=1))
    assert find({"own/b": opened}) == "desk/d"
    half_open = CLOSED.after_failure(1.0, BreakerRules(failures=1))
    assert half_open.state(10.0) == "half_open"
    assert find({"own/b": half_open}) == "desk/d", "a probe is not what somebody waits for"
    assert find({"own/b": CLOSED.after_failure(9.9, BreakerRules(failures=2))}) == "own/b"
    assert find({"own/b": opened, "desk/d": opened}) is None
    assert find(full={"own/b", "desk/d"}) is None


@given(
    seen=st.lists(st.floats(0, 100), min_size=20, max_size=1500),
    percentile=st.floats(50, 99),
    fewest=st.integers(20, 1000),
)
def test_a_percentile_is_one_of_the_last_thousand_times_and_stands_where_it_says(seen, percentile, fewest):
    times = FirstByteTimes()
    for seconds in seen:
        times.observe(seconds)
    last = seen[-1000:]
    found = times.percentile(percentile, fewest=fewest)
    if len(last) < fewest:
        assert found is None
        return
    assert found in last
    assert sum(seconds < found for seconds in last) <= percentile / 100 * len(last)
    assert sum(seconds <= found for seconds in last) >= percentile / 100 * len(last)


def test_a_percentile_follows_what_is_seen():
    times = FirstByteTimes()
    for _ in range(100):
        times.observe(1.0)
    assert times.percentile(95, fewest=100) == 1.0
    for _ in range(10):
        times.observe(5.0)
    assert times.percentile(95, fewest=100) == 5.0
    assert times.percentile(50, fewest=100) == 1.0


def test_streams_and_whole_answers_of_each_endpoint_have_times_of_their_own():
    pace = Pace(Hedge(after_percentile=50, min_observations=20))
    for _ in range(20):
        pace.observe("/v1/chat/completions", 0.1, is_stream=True)
        pace.observe("/v1/chat/completions", 9.0, is_stream=False)
    assert pace.delay_s("/v1/chat/completions", is_stream=True) == 0.1
    assert pace.delay_s("/v1/chat/completions", is_stream=False) == 9.0
    assert pace.delay_s("/v1/embeddings", is_stream=False) is None


def test_a_call_that_is_slow_only_beside_very_quick_ones_is_not_late_before_the_stated_time():
    pace = Pace(Hedge(after_percentile=95, after_s=0.2, min_observations=20))
    assert pace.delay_s("/v1/embeddings", is_stream=False) is None
    for _ in range(20):
        pace.observe("/v1/embeddings", 0.003, is_stream=False)
    assert pace.delay_s("/v1/embeddings", is_stream=False) == 0.2
    for _ in range(20):
        pace.observe("/v1/embeddings", 0.7, is_stream=False)
    assert pace.delay_s("/v1/embeddings", is_stream=False) == 0.7


@given(fraction=st.floats(0.01, 0.99), asked=st.lists(st.sampled_from(["request", "take", "give back"]), max_size=400))
def test_second_calls_never_pass_their_share_of_the_requests_so_far(fraction, asked):
    pace = Pace(Hedge(after_s=1, max_fraction=fraction))
    requests = taken = 0
    for what in asked:
        if what == "request":
            pace.second_calls.deposit()
            requests += 1
        elif what == "take":
            taken += pace.second_calls.try_take()
        elif taken:
            pace.second_calls.give_back()
            taken -= 1
        assert taken <= fraction * requests + 1e-6


def test_a_quiet_time_saves_up_ten_second_calls_at_most():
    pace = Pace(SOON)
    for _ in range(100_000):
        pace.second_calls.deposit()
    assert sum(pace.second_calls.try_take() for _ in range(100)) == 10


def test_a_plan_loaded_anew_keeps_what_was_learned_and_earned_unless_the_share_is_another():
    pace = Pace(Hedge(after_percentile=90, min_observations=20, max_fraction=0.5))
    for _ in range(20):
        pace.second_calls.deposit()
        pace.observe("/v1/embeddings", 0.2, is_stream=False)
    pace.follow(Hedge(after_percentile=95, min_observations=20, max_fraction=0.5))
    assert pace.delay_s("/v1/embeddings", is_stream=False) == 0.2
    assert pace.second_calls.try_take()
    pace.follow(Hedge(after_s=3, max_fraction=0.1))
    assert pace.delay_s("/v1/embeddings", is_stream=False) == 3
    assert not pace.second_calls.try_take()
