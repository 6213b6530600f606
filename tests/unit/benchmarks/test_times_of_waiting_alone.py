"""What an open loop's 99th percentile is compared with: waiting for one core, and nothing else."""

import statistics

import pytest
from benchmarks.light_client import times_due, times_of_waiting_alone


def test_at_even_times_that_are_far_enough_apart_nobody_waits() -> None:
    due_s = times_due(per_s=100, requests=50, seed=0, is_even=True)
    assert times_of_waiting_alone(due_s, cpu_s=0.004) == pytest.approx([0.004] * 50)


def test_a_bunch_is_served_one_behind_the_other() -> None:
    assert times_of_waiting_alone([1.0, 1.0, 1.0, 9.0], cpu_s=0.5) == pytest.approx([0.5, 1.0, 1.5, 0.5])


@pytest.mark.parametrize("load", [0.05, 0.2, 0.5])
def test_at_random_times_the_mean_wait_is_that_of_a_queue_with_one_server(load: float) -> None:
    """Pollaczek and Khinchine: services of one length S wait load * S / (2 * (1 - load)) in the mean."""
    per_s, cpu_s = 500.0, load / 500.0
    times_s = times_of_waiting_alone(times_due(per_s=per_s, requests=400_000, seed=3), cpu_s=cpu_s)
    assert statistics.fmean(times_s) - cpu_s == pytest.approx(load * cpu_s / (2 * (1 - load)), rel=0.05)
