"""What is counted, how many series it can become, and that every scraper reads it back."""

from __future__ import annotations

import asyncio
import time
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ownward.gateway.watching import metrics as counted
from ownward.gateway.watching.exposition import Family, value_lines, write_in_turns
from ownward.gateway.watching.families import COUNTED, READ
from ownward.gateway.watching.metrics import (
    MOST_CALL_ENTRIES,
    MOST_LABEL_SETS,
    CallEnd,
    Counter,
    GatewayMetrics,
    Histogram,
)
from ownward.pricing import Usage


def target(tier: str = "near", upstream: str = "near-1") -> Any:
    return SimpleNamespace(tier=SimpleNamespace(name=tier), upstream=SimpleNamespace(name=upstream))


def call(**more: Any) -> CallEnd:
    stated: dict[str, Any] = {
        "number": 1,
        "target": target(),
        "state": "settled",
        "started_s": 1.0,
        "latency_s": 1.1,
        "ttft_s": 0.1,
        "status": 200,
        "usage": Usage(input_tokens=100, output_tokens=51, cached_input_tokens=40),
        "charge_picousd": 1_500_000_000,
        "charge_high_picousd": 1_500_000_000,
        **more,
    }
    return CallEnd(**stated)


def samples(metrics: GatewayMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = "\n".join(chain.from_iterable(metrics.families()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_long_page_holds_nobody_up_and_its_numbers_are_of_one_moment():
    metrics = GatewayMetrics()
    for number in range(MOST_CALL_ENTRIES):
        metrics.count_call(f"workload-{number}", call())
    at_first = samples(metrics)
    turns = 0

    async def serve():
        nonlocal turns
        while True:
            metrics.count_call(f"workload-{turns % MOST_CALL_ENTRIES}", call())
            metrics.requests.add(("/v1/chat/completions", f"workload-{turns}", "near", "answered", "200"))
            turns += 1
            await asyncio.sleep(0)

    async def main():
        serving = asyncio.create_task(serve())
        page = await write_in_turns(metrics.families())
        serving.cancel()
        return page

    page = asyncio.run(main()).decode()
    assert turns > 30
    assert {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    } == at_first


def test_a_call_is_counted_under_workload_tier_and_upstream():
    metrics = GatewayMetrics()
    metrics.count_call("chat", call())
    found = samples(metrics)
    of_call = (("tier", "near"), ("upstream", "near-1"), ("workload", "chat"))
    assert found["ownward_charge_usd_total", of_call] == 0.0015
    assert found["ownward_tokens_total", (("kind", "cached_input"), *of_call)] == 40
    assert found["ownward_tokens_total", (("kind", "output"), *of_call)] == 51
    assert found["ownward_attempts_total", (("state", "settled"), *of_call)] == 1
    assert found["ownward_tpot_seconds_sum", of_call] == 0.02
    assert found["ownward_ttft_seconds_bucket", (("le", "0.1"), *of_call)] == 1
    assert found["ownward_ttft_seconds_bucket", (("le", "0.05"), *of_call)] == 0


@pytest.mark.parametrize(
    "changed", [{"ttft_s": None}, {"usage": None}, {"usage": Usage(input_tokens=1, output_tokens=1)}]
)
def test_the_time_of_a_token_is_unknown_below_two_and_where_nobody_saw_them(changed):
    assert call().tpot_s == pytest.approx(0.02)
    assert call(**changed).tpot_s is None


def test_a_call_that_stayed_open_counts_with_its_upper_bound_and_no_latency():
    metrics = GatewayMetrics()
    metrics.count_call("chat", call(state="unsettled", usage=None, charge_picousd=None, charge_high_picousd=10**12))
    found = {name: value for (name, _), value in samples(metrics).items()}
    assert found["ownward_unsettled_usd_total"] == 1
    assert "ownward_latency_seconds_count" not in found
    assert "ownward_charge_usd_total" not in found


def test_charges_do_not_drift_over_a_million_calls():
    metrics = GatewayMetrics()
    entry = metrics.find_calls("chat", target())
    for _ in range(1000):
        metrics.count_call("chat", call(charge_picousd=100_000))
    assert entry.charge_picousd == 100_000_000


@pytest.mark.parametrize("bounds", [counted.SECONDS, counted.SECONDS_PER_TOKEN])
def test_bounds_of_buckets_grow(bounds):
    assert list(bounds) == sorted(set(bounds))


def test_a_duration_on_a_bound_counts_below_it():
    histogram = Histogram((0.1, 0.2))
    for seconds in (0.1, 0.15, 0.2, 0.3):
        histogram.observe(seconds)
    assert histogram.counts == [1, 2, 1]


def test_a_name_with_quotes_and_line_ends_is_read_back():
    family = Family(name="x_total", kind="counter", labels=("name",), help="a \\ and a\nline")
    awkward = 'a "b" \\n \\ c\nd'
    text = "\n".join(value_lines(family, [((awkward,), 1)])) + "\n"
    (read,) = text_string_to_metric_families(text)
    assert read.samples[0].labels == {"name": awkward}
    assert read.documentation == family.help


def test_series_have_a_bound_and_the_rest_is_counted_as_other():
    metrics = GatewayMetrics()
    for index in range(MOST_CALL_ENTRIES + 50):
        metrics.count_call(f"w{index}", call())
    assert len(metrics.calls) == MOST_CALL_ENTRIES + 1
    assert metrics.calls["other", "other", "other"].settled == 50
    counter = Counter(counted.REQUESTS)
    for index in range(MOST_LABEL_SETS + 50):
        counter.add((f"w{index}", "", "", "", ""))
    assert len(counter.values) == MOST_LABEL_SETS + 1
    assert counter.values["other", "other", "other", "other", "other"] == 50
    metrics.observe_request("w0", "near", 0.1)
    assert sum(histogram.counts[0] for histogram in metrics.request_seconds.values()) == 0


def test_names_and_labels_are_what_prometheus_allows():
    names = [family.name for family in (*COUNTED, *READ)]
    assert len(names) == len(set(names))
    for family in (*COUNTED, *READ):
        assert family.help.endswith(".")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert "le" not in family.labels


def test_counting_a_call_takes_microseconds():
    metrics, one = GatewayMetrics(), call()
    began = time.process_time()
    for _ in range(20_000):
        metrics.count_call("chat", one)
    assert (time.process_time() - began) / 20_000 < 20e-6


def test_a_call_without_a_price_is_counted_as_such_and_not_as_free():
    metrics = GatewayMetrics()
    metrics.count_call("chat", call(charge_picousd=None))
    metrics.count_call("chat", call(charge_picousd=0))
    found = samples(metrics)
    of_call = (("tier", "near"), ("upstream", "near-1"), ("workload", "chat"))
    assert found["ownward_unpriced_calls_total", of_call] == 1
    assert ("ownward_charge_usd_total", of_call) not in found
