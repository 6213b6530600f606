"""Small runs whose every time can be worked out by hand, and what follows for fleets."""

from __future__ import annotations

import numpy as np
import pytest

from ownward.core import BadInput, ManualClock, MissesSlo, to_json
from ownward.perf import StepModel
from ownward.simulation import Scheduler, Slo, route, simulate, smallest_fleet
from ownward.traffic import Trace


def model(**changes) -> StepModel:
    values = {"fixed_s": 0.1, "per_prefill_token_s": 0.001, "capacity_blocks": 1000, "block_tokens": 16}
    return StepModel(**(values | changes))


def trace(arrivals, inputs, outputs, **more) -> Trace:
    return Trace.from_columns(arrival_s=arrivals, input_tokens=inputs, output_tokens=outputs, **more)


def rows_of(*args, **more):
    return list(simulate(*args, **more).per_request.rows())


def test_one_request_alone() -> None:
    """Prefill of 100 tokens: 0.1 + 0.1; then two steps of 0.1."""
    (row,) = rows_of(trace([5.0], [100], [3]), model())
    assert row["arrival_s"] == 5.0
    assert row["ttft_s"] == pytest.approx(0.2)
    assert row["tpot_s"] == pytest.approx(0.1)
    assert row["latency_s"] == pytest.approx(0.4)


def test_how_many_decode_together_is_what_one_of_them_sees() -> None:
    """Steps of 0.1 s: two alone for half of their time and together for the other, on another replica one alone."""
    times = simulate(trace([0.0, 1.0, 100.0], [0, 0, 0], [21, 21, 21]), model(per_prefill_token_s=0.0)).per_request
    assert times.compute_sequences_at_once() == pytest.approx(
        (1 * 1 + 4 * 1 + 1 * 1 + 1 * 2) / (1 + 2 + 1 + 2), rel=0.03
    )
    apart = simulate(trace([0.0, 0.0], [0, 0], [21, 21]), model(), replicas=2).per_request
    assert apart.compute_sequences_at_once() == pytest.approx(1)
    none = simulate(trace([0.0], [10], [1]), model()).per_request
    assert none.compute_sequences_at_once() == 0


def test_a_one_token_answer_has_no_tpot_and_no_output_has_no_ttft() -> None:
    one, none = rows_of(trace([0.0, 10.0], [10, 10], [1, 0]), model())
    assert one["tpot_s"] is None
    assert one["ttft_s"] == one["latency_s"] == pytest.approx(0.11)
    assert none["ttft_s"] is None
    assert none["latency_s"] == pytest.approx(0.11)


def test_a_prompt_is_cut_to_the_budget_and_decoding_goes_on_beside_it() -> None:
    """Budget 100: a prompt of 250 takes 3 steps alone; beside one that decodes, 99 + 99 + 52."""
    alone = rows_of(trace([0.0], [250], [1]), model(), Scheduler(max_batch=2, token_budget=100))
    assert alone[0]["ttft_s"] == pytest.approx(0.3 + 0.25)
    first, second = rows_of(trace([0.0, 0.05], [10, 250], [10, 1]), model(), Scheduler(max_batch=2, token_budget=100))
    assert second["latency_s"] == pytest.approx(0.11 - 0.05 + 0.3 + 0.25)
    assert first["latency_s"] == pytest.approx(0.11 + 0.3 + 0.25 + 6 * 0.1)


def test_without_chunking_a_long_prompt_enters_whole() -> None:
    (row,) = rows_of(trace([0.0], [250], [1]), model(), Scheduler(max_batch=2, token_budget=100, chunked_prefill=False))
    assert row["ttft_s"] == pytest.approx(0.1 + 0.25)


def test_without_chunking_a_prompt_within_the_budget_waits_until_it_is_left() -> None:
    """Budget 100, 99 beside one that decodes: a prompt of 100 enters after it, and one of 99 at once."""
    whole = Scheduler(max_batch=2, token_budget=100, chunked_prefill=False)
    first, second = rows_of(trace([0.0, 0.05], [10, 100], [5, 1]), model(), whole)
    assert first["latency_s"] == pytest.approx(0.11 + 4 * 0.1)
    assert second["latency_s"] == pytest.approx(0.51 - 0.05 + 0.2)
    first, second = rows_of(trace([0.0, 0.05], [10, 99], [5, 1]), model(), whole)
    assert second["latency_s"] == pytest.approx(0.11 - 0.05 + 0.199)
    assert first["latency_s"] == pytest.approx(0.11 + 0.199 + 3 * 0.1)


def test_a_short_prompt_passes_a_long_one_that_waits_for_the_budget() -> None:
    """The long one waits for 49 steps of 0.1; the short one enters with the step at 1.01."""
    whole = Scheduler(max_batch=3, token_budget=100, chunked_prefill=False, policy="shortest_first")
    first, long, short = rows_of(trace([0.0, 0.05, 1.0], [10, 100, 20], [50, 1, 1]), model(), whole)
    assert short["latency_s"] == pytest.approx(1.01 - 1.0 + 0.12)
    assert first["latency_s"] == pytest.approx(0.11 + 49 * 0.1 + 0.02)
    assert long["latency_s"] == pytest.approx(first["latency_s"] - 0.05 + 0.2)


def test_epoch_arrivals_cost_no_digits() -> None:
    requests = ([100, 50, 20], [30, 20, 10])
    early, late = (rows_of(trace([at, at + 0.5, at + 7.0], *requests), model()) for at in (0.0, 1.7e12))
    for one, other in zip(early, late, strict=True):
        assert other["arrival_s"] - one["arrival_s"] == 1.7e12
        assert {**other, "arrival_s": 0} == {**one, "arrival_s": 0}


def test_shortest_first_lets_the_short_prompt_pass() -> None:
    requests = trace([0.0, 0.01, 0.02], [10, 900, 20], [5, 1, 1])
    fcfs = rows_of(requests, model(), Scheduler(max_batch=1, token_budget=1000))
    shortest = rows_of(requests, model(), Scheduler(max_batch=1, token_budget=1000, policy="shortest_first"))
    assert fcfs[1]["latency_s"] < fcfs[2]["latency_s"]
    assert shortest[2]["latency_s"] < shortest[1]["latency_s"]


def test_priority_enters_by_the_lowest_number() -> None:
    requests = trace([0.0, 0.01, 0.02], [10, 20, 20], [5, 1, 1], priority=[0, 2, 1])
    rows = rows_of(requests, model(), Scheduler(max_batch=1, token_budget=1000, policy="priority"))
    assert rows[2]["latency_s"] < rows[1]["latency_s"]


def test_a_cached_prefix_is_not_computed_again() -> None:
    """Two blocks of 16 are shared; of the second prompt's 40 tokens 8 are left."""
    requests = trace([0.0, 1.0], [40, 40], [1, 1], prefix_blocks=[[1, 2], [1, 2]], prefix_block_tokens=16)
    first, second = rows_of(requests, model())
    assert (first["cached_input_tokens"], second["cached_input_tokens"]) == (0, 32)
    assert first["ttft_s"] == pytest.approx(0.14)
    assert second["ttft_s"] == pytest.approx(0.108)


def test_the_last_prompt_token_is_always_computed() -> None:
    requests = trace([0.0, 1.0], [32, 32], [1, 1], prefix_blocks=[[1, 2], [1, 2]], prefix_block_tokens=16)
    assert rows_of(requests, model())[1]["cached_input_tokens"] == 16


def test_prefix_blocks_that_are_no_multiple_of_the_caches_are_refused() -> None:
    with pytest.raises(BadInput, match="prefix blocks hold 24"):
        simulate(trace([0.0], [40], [1], prefix_blocks=[[1]], prefix_block_tokens=24), model())


def test_the_last_admitted_is_preempted_and_computes_its_prompt_again() -> None:
    """4 blocks of 4: both prompts of 7 take 2 each; growing past 8 tokens, the first takes the second's."""
    small = model(capacity_blocks=4, block_tokens=4)
    first, second = rows_of(trace([0.0, 0.0], [7, 7], [4, 4]), small)
    assert (first["preemptions"], second["preemptions"]) == (0, 1)
    # step 1 both prompts (0.114), step 2 both decode, step 3 needs blocks: the first alone, step 4 it ends;
    # then 7 + 2 tokens again (0.109) and the last one (0.1)
    assert first["latency_s"] == pytest.approx(0.114 + 3 * 0.1)
    assert second["latency_s"] == pytest.approx(0.114 + 3 * 0.1 + 0.109 + 0.1)


def test_what_never_fits_is_refused_and_nothing_waits_for_it() -> None:
    result = simulate(trace([0.0, 0.0], [100, 10], [10, 1]), model(capacity_blocks=4), slo=Slo(ttft_s=10))
    assert (result.finished, result.refused) == (1, 1)
    rows = list(result.per_request.rows())
    assert rows[0]["latency_s"] is None
    assert rows[1]["latency_s"] == pytest.approx(0.11)
    assert result.goodput.good_fraction == 0.5


def test_utilisation_and_energy_count_idle_and_busy_time() -> None:
    """Busy 0.11 s twice in 1.11 s."""
    powered = model(power_idle_watts=100.0, power_busy_watts=500.0)
    result = simulate(trace([0.0, 1.0], [10, 10], [1, 1]), powered)
    assert result.utilisation_fraction == pytest.approx(0.22 / 1.11)
    assert result.energy_joules == pytest.approx(0.22 * 500 + 0.89 * 100)
    assert simulate(trace([0.0], [10], [1]), model()).energy_joules is None


def test_a_clock_passed_in_measures_the_run() -> None:
    class Ticking(ManualClock):
        def monotonic_s(self) -> float:
            self.advance(0.5)
            return super().monotonic_s()

    assert simulate(trace([0.0], [10], [1]), model(), clock=Ticking()).requests_per_wall_s == 2.0
    assert simulate(trace([0.0], [10], [1]), model()).requests_per_wall_s is None


def test_a_run_is_repeatable_byte_for_byte_and_has_its_json_form() -> None:
    generator = np.random.default_rng(1)
    requests = trace(
        np.cumsum(generator.exponential(0.1, 200)), generator.integers(1, 500, 200), generator.integers(1, 50, 200)
    )
    texts = [to_json(simulate(requests, model(), replicas=3, seed=7).as_record()) for _ in range(2)]
    assert texts[0] == texts[1]
    assert '"schema": "ownward.simulation/1"' in texts[0]


def test_an_empty_trace_has_no_figures() -> None:
    result = simulate(trace([], [], []), model())
    assert result.ttft_s is None
    assert result.utilisation_fraction is None


def test_routing_gives_every_request_one_replica() -> None:
    requests = trace(np.arange(100) * 0.01, [100] * 100, [10] * 100)
    even = route(requests, model(), 4, seed=3)
    assert np.bincount(even).tolist() == [25] * 4
    assert np.array_equal(even, route(requests, model(), 4, seed=3))
    assert set(route(requests, model(), 4, routing="least_work").tolist()) == {0, 1, 2, 3}


def test_least_work_keeps_short_requests_off_a_busy_replica() -> None:
    requests = trace([0.0, 0.1, 0.2, 0.3], [100_000, 10, 10, 10], [1, 1, 1, 1])
    chosen = route(requests, model(), 2, routing="least_work").tolist()
    assert chosen[1:] == [1 - chosen[0]] * 3


def test_the_smallest_fleet_holds_the_slo_and_one_less_does_not() -> None:
    generator = np.random.default_rng(2)
    requests = trace(
        np.cumsum(generator.exponential(0.05, 600)), generator.integers(50, 400, 600), generator.integers(1, 30, 600)
    )
    slo = Slo(ttft_s=0.8, fraction=0.95)
    fleet = smallest_fleet(requests, model(), Scheduler(max_batch=8, token_budget=512), slo, redundancy=1)
    assert fleet.replicas > 1
    assert fleet.machines == fleet.replicas + 1
    assert fleet.simulation.goodput.is_met
    assert len(to_json(fleet.as_record())) < 500
    shares = dict(fleet.tried)
    assert shares[fleet.replicas - 1] < 0.95


def test_a_reserve_adds_machines_and_idles_them() -> None:
    requests = trace([0.0, 1.0], [100, 100], [3, 3])
    alone, with_three = (
        smallest_fleet(requests, model(), None, Slo(ttft_s=1.0), redundancy=reserve) for reserve in (0, 3)
    )
    assert (alone.replicas, alone.machines, with_three.replicas, with_three.machines) == (1, 1, 1, 4)
    assert alone.utilisation_fraction is not None
    assert alone.utilisation_fraction == alone.simulation.utilisation_fraction
    assert with_three.utilisation_fraction == pytest.approx(alone.utilisation_fraction / 4)


def test_the_bound_on_replicas_is_the_last_that_is_tried() -> None:
    """Six at once and one prompt a step: with three replicas the last of each waits for one other."""
    requests = trace([0.0] * 6, [100] * 6, [1] * 6)
    one_a_step = Scheduler(max_batch=1, token_budget=512)
    slo = Slo(ttft_s=0.45, fraction=1.0)
    assert smallest_fleet(requests, model(), one_a_step, slo, max_replicas=3).replicas == 3
    with pytest.raises(MissesSlo, match=r"^2 replicas"):
        smallest_fleet(requests, model(), one_a_step, slo, max_replicas=2)


@pytest.mark.parametrize("more", [{"redundancy": -1}, {"max_replicas": 0}])
def test_a_fleet_of_less_than_nothing_is_refused(more) -> None:
    with pytest.raises(BadInput, match="redundancy is"):
        smallest_fleet(trace([0.0], [10], [1]), model(), None, Slo(ttft_s=1.0), **more)


def test_the_share_of_good_requests_is_above_0_and_at_most_1() -> None:
    assert Slo(fraction=1.0).fraction == 1.0
    for fraction in (0.0, -0.1, 1.01):
        with pytest.raises(BadInput, match="fraction"):
            Slo(fraction=fraction)


def test_a_slo_that_no_number_of_machines_holds_is_an_answer() -> None:
    with pytest.raises(MissesSlo, match=r"still serve only 0\.0%"):
        smallest_fleet(trace([0.0, 1.0], [10, 10], [1, 1]), model(), None, Slo(ttft_s=0.01))


def test_a_scheduler_reads_our_names_and_vllms() -> None:
    ours = Scheduler.from_mapping({"max_batch": 8, "token_budget": 64, "chunked_prefill": False}, where="K.json")
    theirs = Scheduler.from_mapping(
        {"max_num_seqs": 8, "max_num_batched_tokens": 64, "enable_chunked_prefill": False}, where="K.json"
    )
    assert ours == theirs
    with pytest.raises(BadInput, match="unknown key 'max_bach'"):
        Scheduler.from_mapping({"max_bach": 8}, where="K.json")
    with pytest.raises(BadInput, match="token_budget"):
        Scheduler(max_batch=8, token_budget=4)
    with pytest.raises(BadInput, match="policy"):
        Scheduler.from_mapping({"policy": "random"}, where="K.json")
