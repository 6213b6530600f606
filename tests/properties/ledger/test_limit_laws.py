"""What a minute of a limit holds, whatever is asked when: against a list of all that was let through."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ownward.ledger._meters import Bucket, Window

START_US = 1_795_262_400_000_000
MINUTE_US = 60_000_000

gaps_us = st.one_of(
    st.integers(0, 3_000_000), st.integers(0, 90_000_000), st.sampled_from([0, 499_999, 500_000, 59_999_999, MINUTE_US])
)
asks = st.lists(st.tuples(gaps_us, st.integers(1, 12)), max_size=120)


def let_through(meter: Bucket | Window, per_minute: int, steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return when and how much a meter let through."""
    now_us, done = START_US, []
    for gap_us, amount in steps:
        now_us += gap_us
        meter.pass_time(now_us, per_minute)
        if meter.wait_s(amount, per_minute) == 0:
            meter.use(amount, per_minute)
            done.append((now_us, amount))
        stored = Window(at_us=meter.at_us)
        if isinstance(meter, Window):
            stored.read(meter.recent)
            assert (stored.times_us, stored.amounts) == (meter.times_us, meter.amounts)
            assert len(meter.times_us) <= 61
    return done


def most_within_a_minute(done: list[tuple[int, int]]) -> int:
    return max((sum(n for at, n in done if begin <= at < begin + MINUTE_US) for begin, _ in done), default=0)


@given(st.integers(12, 40), asks)
def test_no_minute_of_a_window_holds_more_than_its_limit(per_minute, steps):
    assert most_within_a_minute(let_through(Window(), per_minute, steps)) <= per_minute


@given(st.integers(12, 40), asks)
def test_no_minute_of_a_bucket_holds_more_than_twice_its_limit(per_minute, steps):
    assert most_within_a_minute(let_through(Bucket(), per_minute, steps)) <= 2 * per_minute


@given(st.integers(12, 40), asks, st.integers(1, 12), st.sampled_from([Bucket, Window]))
def test_who_waits_as_long_as_was_said_is_let_through_and_not_much_sooner(per_minute, steps, amount, kind):
    meter = kind()
    done = let_through(meter, per_minute, steps)
    wait_s = meter.wait_s(amount, per_minute)
    if wait_s:
        assert wait_s <= 60
        meter.pass_time(meter.at_us + int(wait_s * 1e6) - 2, per_minute)
        assert meter.wait_s(amount, per_minute) > 0
        meter.pass_time(meter.at_us + 3, per_minute)
        assert meter.wait_s(amount, per_minute) == 0
    elif isinstance(meter, Window):
        assert sum(n for at, n in done if at > meter.at_us - MINUTE_US) + amount <= per_minute


@given(st.integers(1, 200))
def test_an_even_stream_just_below_the_limit_is_never_refused_by_a_window(per_minute):
    gap_us = -(-61_000_000 // per_minute)
    steps = [(gap_us, 1)] * (3 * per_minute)
    assert len(let_through(Window(), per_minute, steps)) == len(steps)


@given(st.integers(1, 30), st.integers(1, 2_000), st.sampled_from([Bucket, Window]))
def test_what_was_used_too_much_is_paid_back_and_all_of_it_comes_back_at_last(per_minute, used, kind):
    meter = kind()
    meter.pass_time(START_US, per_minute)
    meter.use(used, per_minute)
    waits = []
    while wait_s := meter.wait_s(1, per_minute):
        waits.append(wait_s)
        meter.pass_time(meter.at_us + int(wait_s * 1e6) + 1, per_minute)
    assert sum(waits) <= 60 * used / per_minute + 60.001
    if used <= 60 * per_minute:
        assert sum(waits) >= 60 * (used // per_minute - 1)
    meter.pass_time(meter.at_us + int(meter.reset_s(per_minute) * 1e6) + 1, per_minute)
    assert meter.remaining(per_minute) == per_minute


@given(st.lists(st.integers(0, 200), min_size=2, max_size=30), st.integers(100, 200_000))
def test_a_clock_set_back_takes_what_was_counted_with_it(gaps_s, back_s):
    per_minute = 10
    window = Window()
    let_through(window, per_minute, [(gap * 1_000_000, 3) for gap in gaps_s])
    before = window.remaining(per_minute)
    window.pass_time(window.at_us - back_s * 1_000_000, per_minute)
    assert window.remaining(per_minute) == before
    assert all(one <= other for one, other in pairwise(window.times_us))
    window.pass_time(window.at_us + 60_000_000, per_minute)
    assert window.remaining(per_minute) == per_minute
