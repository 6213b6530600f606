"""Laws of serving: Little's law, what grows with load, and what a rate of arrivals settles at."""

import pytest

from ownward import anatomy, catalog
from ownward.perf import Deployment, Served, deploy, serve_arrivals, serve_together

_OUTPUT = 200


def _deployed(engine: str = "vllm", model: str = "llama-3.1-8b", machine: str = "H100 SXM") -> Deployment:
    release = catalog.model(model)
    found = anatomy.from_config(release.load_config(), name=release.name)
    made = deploy(found, machine=catalog.machine(machine), machines_count=1, engine=engine, weights="bf16")
    assert isinstance(made, Deployment)
    return made


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "llama.cpp"])
@pytest.mark.parametrize("concurrency", [2, 16, 256, 4096])
@pytest.mark.parametrize("prompt", [32, 512, 8192])
def test_users_times_tokens_is_throughput_times_latency(engine: str, concurrency: int, prompt: int) -> None:
    """Little's law holds between TTFT, TPOT and throughput of one load, whatever is full."""
    served = serve_together(_deployed(engine), concurrency=concurrency, input_tokens=prompt, output_tokens=_OUTPUT)
    latency_s = served.ttft_s + served.tpot_s * (_OUTPUT - 1)
    assert served.output_tokens_per_s * latency_s == pytest.approx(concurrency * _OUTPUT, rel=0.25)


def test_one_user_alone_is_served_fastest() -> None:
    served = [
        serve_together(_deployed(), concurrency=many, input_tokens=512, output_tokens=_OUTPUT) for many in (1, 8, 64)
    ]
    assert [each.tpot_s for each in served] == sorted(each.tpot_s for each in served)
    assert [each.output_tokens_per_s for each in served] == sorted(each.output_tokens_per_s for each in served)


def test_users_beyond_what_fits_wait_for_their_first_token_and_not_between_tokens() -> None:
    some, many = (
        serve_together(_deployed(), concurrency=users, input_tokens=2000, output_tokens=_OUTPUT)
        for users in (2000, 8000)
    )
    assert many.tpot_s == pytest.approx(some.tpot_s, rel=0.05)
    assert many.ttft_s > 3 * some.ttft_s
    assert many.output_tokens_per_s == pytest.approx(some.output_tokens_per_s, rel=0.05)


def test_arrivals_that_are_kept_up_with_come_out_at_the_rate_they_come_in() -> None:
    served = serve_arrivals(_deployed(), arrivals_per_s=2, input_tokens=512, output_tokens=_OUTPUT)
    assert served.output_tokens_per_s == pytest.approx(2 * _OUTPUT)
    assert served.ttft_s < 0.5


def test_arrivals_that_nothing_keeps_up_with_wait_for_minutes() -> None:
    served = serve_arrivals(_deployed(), arrivals_per_s=500, input_tokens=512, output_tokens=_OUTPUT)
    assert served.output_tokens_per_s < 500 * _OUTPUT
    assert served.ttft_s > 60


def test_more_arrivals_make_every_token_slower() -> None:
    tpots = [
        serve_arrivals(_deployed(), arrivals_per_s=rate, input_tokens=512, output_tokens=_OUTPUT).tpot_s
        for rate in (0.1, 1, 5, 10)
    ]
    assert tpots == sorted(tpots)


def test_a_name_that_states_limits_is_taken_at_its_word() -> None:
    stated = _deployed("vLLM (max_num_seqs 16, max_batched_tokens 512)")
    assert (stated.admitted_sequences, stated.chunk_tokens) == (16, 512)


def _run(
    engine: str, *, requests: int | None, concurrency: int = 256, unequal: bool = False, prompt: int = 512
) -> Served:
    return serve_together(
        _deployed(engine), concurrency=concurrency, input_tokens=prompt, output_tokens=_OUTPUT, requests=requests,
        unequal=unequal,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize("unequal", [False, True])
def test_a_long_run_is_an_endless_one(engine: str, unequal: bool) -> None:
    """What a run begins and ends with is lost among enough requests."""
    endless, long = _run(engine, requests=None), _run(engine, requests=1_000_000, unequal=unequal)
    assert long.tpot_s == pytest.approx(endless.tpot_s, rel=0.01)
    assert long.output_tokens_per_s == pytest.approx(endless.output_tokens_per_s, rel=0.01)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_burst_gives_less_than_a_run_that_goes_on_and_unequal_answers_least(engine: str) -> None:
    """Half-empty steps at the end cost as much weight reading as full ones."""
    rates = [
        _run(engine, requests=256, unequal=True).output_tokens_per_s,
        _run(engine, requests=256).output_tokens_per_s,
        _run(engine, requests=None).output_tokens_per_s,
    ]
    assert rates == sorted(rates)


def test_nobody_is_served_by_more_than_all_users_at_a_time() -> None:
    """Latencies cannot fill more than the users' time: the mean population stays below their number."""
    for requests in (256, 400, 1000, 100_000):
        served = _run("vllm", requests=requests, prompt=2048)
        latency_s = served.ttft_s + served.tpot_s * (_OUTPUT - 1)
        assert served.output_tokens_per_s * latency_s / _OUTPUT <= 256 * 1.1


def test_a_wait_between_tokens_weighs_most_on_the_shortest_answers() -> None:
    """Where prompts stop decoding, those admitted first wait for the others: the same wait for fewer tokens."""
    equal, unequal = (_run("sglang", requests=256, unequal=unequal, prompt=2048) for unequal in (False, True))
    assert unequal.tpot_s > 1.2 * equal.tpot_s


def test_users_without_a_seat_wait_half_the_run_at_most() -> None:
    served = _run("vllm", requests=8000, concurrency=8000, prompt=2000)
    makespan_s = 8000 * _OUTPUT / served.output_tokens_per_s
    assert 0.3 * makespan_s < served.ttft_s < 0.6 * makespan_s


def test_a_queue_grows_no_longer_than_requests_come() -> None:
    short, long = (
        serve_arrivals(_deployed(), arrivals_per_s=500, input_tokens=512, output_tokens=_OUTPUT, requests=requests)
        for requests in (2000, 20_000)
    )
    assert 5 * short.ttft_s < long.ttft_s
    assert long.output_tokens_per_s <= 500 * _OUTPUT
