"""How sure a ratio of two contenders' rounds is."""

import pytest
from benchmarks.open_loop import compute_ratio

NOISY = [1.0, 1.1, 0.9, 1.6, 0.8, 1.2, 1.0, 2.4, 0.9, 1.1]


def test_rounds_that_agree_leave_no_interval():
    assert compute_ratio([3.0] * 8, [2.0] * 8) == {"ratio": 1.5, "low": 1.5, "high": 1.5}


def test_the_interval_holds_the_ratio_and_grows_with_what_rounds_differ_by():
    found = compute_ratio(NOISY, [1.0] * len(NOISY))
    assert found["ratio"] == pytest.approx(1.05)
    assert found["low"] < found["ratio"] < found["high"]
    assert found["high"] <= max(NOISY)
    tighter = compute_ratio(NOISY * 8, [1.0] * len(NOISY) * 8)
    assert tighter["high"] - tighter["low"] < found["high"] - found["low"]


def test_rounds_of_one_moment_stay_together():
    # Both are twice as slow in every second round: that is no doubt about how they compare.
    moments = [1.0, 2.0] * 6
    assert compute_ratio([3 * moment for moment in moments], moments) == {"ratio": 3.0, "low": 3.0, "high": 3.0}


def test_it_is_the_same_each_time():
    assert compute_ratio(NOISY, NOISY[::-1]) == compute_ratio(NOISY, NOISY[::-1])
