"""A running gateway's picture, worked out from two looks at its metrics."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from ownward.core import BadInput
from ownward.gateway.watching.families import COUNTED, READ
from ownward.reports import Look, compute_frame, render_frame
from ownward.reports._live_metrics import quantile

AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
BEGAN = AT.timestamp() - 100


def shown(frame):
    stream = io.StringIO()
    Console(file=stream, width=80, highlight=False).print(render_frame(frame, url="http://127.0.0.1:8484"))
    return stream.getvalue()


def scrape(*, requests=0, tokens=0, usd=0.0, fast=0, slow=0, began=BEGAN, errors=0):
    call = 'workload="chat",tier="near",upstream="near-1"'
    answered = 'endpoint="/v1/chat/completions",workload="chat",tier="near",outcome="answered",status="200"'
    return f"""# HELP ownward_requests_in_flight Requests.
# TYPE ownward_requests_in_flight gauge
ownward_requests_in_flight 3
ownward_requests_total{{{answered}}} {requests}
ownward_requests_total{{endpoint="/v1/chat/completions",workload="chat",tier="",outcome="failed",status="503"}} {errors}
ownward_errors_total{{workload="chat",tier="",kind="no_upstream"}} {errors}
ownward_attempts_total{{{call},state="settled"}} {requests}
ownward_tokens_total{{{call},kind="input"}} {tokens * 4}
ownward_tokens_total{{{call},kind="cached_input"}} {tokens}
ownward_tokens_total{{{call},kind="output"}} {tokens}
ownward_charge_usd_total{{{call}}} {usd}
ownward_ttft_seconds_bucket{{{call},le="0.1"}} {fast}
ownward_ttft_seconds_bucket{{{call},le="0.5"}} {fast + slow}
ownward_ttft_seconds_bucket{{{call},le="+Inf"}} {fast + slow}
ownward_breaker_state{{tier="near",upstream="near-1"}} 0
ownward_upstream_usable{{tier="near",upstream="near-1"}} 1
ownward_calls_in_flight{{tier="near",upstream="near-1"}} 2
ownward_queue_requests{{tier="near"}} 5
ownward_budget_limit_usd{{kind="workload",name="chat"}} 10
ownward_budget_spent_usd{{kind="workload",name="chat"}} 4
ownward_budget_reserved_usd{{kind="workload",name="chat"}} 1
ownward_budget_left_usd{{kind="workload",name="chat"}} 5
process_start_time_seconds {began}
process_cpu_seconds_total {requests / 100}
"""


def test_rates_are_of_the_time_between_two_looks():
    before = Look.parse(scrape(requests=100, tokens=1000, usd=1.0, fast=90), at_s=10)
    now = Look.parse(scrape(requests=140, tokens=1800, usd=1.02, fast=110, slow=20, errors=2), at_s=30)
    frame = compute_frame(now, before, at=AT)
    assert (frame.over_s, frame.is_whole_life, frame.uptime_s) == (20, False, 100)
    assert frame.requests_per_s == pytest.approx(42 / 20)
    assert frame.outcomes == {"answered": 40, "failed": 2}
    assert frame.output_tokens_per_s == pytest.approx(40)
    assert frame.usd_per_hour == pytest.approx(0.02 / 20 * 3600)
    assert frame.usd_total == 1.02
    (upstream,) = frame.upstreams
    assert (upstream.state, upstream.calls_in_flight, upstream.queue_requests) == ("up", 2, 5)
    assert upstream.cached_input_fraction == 0.25
    assert upstream.ttft.p50_s == pytest.approx(0.1)
    assert upstream.ttft.p95_s == pytest.approx(0.46)
    assert upstream.tpot.p50_s is None
    (workload,) = frame.workloads
    assert workload.failed_per_s == pytest.approx(0.1)
    (budget,) = frame.budgets
    assert (budget.kind, budget.name, budget.left_usd) == ("workload", "chat", 5)
    (error,) = frame.errors
    assert (error.kind, error.count) == ("no_upstream", 2)


def test_without_an_earlier_look_figures_are_since_the_gateway_began():
    frame = compute_frame(Look.parse(scrape(requests=50), at_s=1), None, at=AT)
    assert frame.is_whole_life
    assert frame.requests_per_s == 0.5
    assert frame.cpu_fraction == 0.005


@pytest.mark.parametrize("set_by_s", [-3600, 3600])
def test_a_clock_that_is_set_meanwhile_changes_neither_uptime_nor_rates(set_by_s):
    text = scrape(requests=50) + "ownward_uptime_seconds 100\n"
    frame = compute_frame(Look.parse(text, at_s=1), None, at=AT + timedelta(seconds=set_by_s))
    assert (frame.uptime_s, frame.requests_per_s) == (100, 0.5)


def test_a_gateway_that_began_anew_is_not_compared_with_the_one_before():
    before = Look.parse(scrape(requests=5000), at_s=10)
    now = Look.parse(scrape(requests=10, began=AT.timestamp() - 5), at_s=20)
    frame = compute_frame(now, before, at=AT)
    assert frame.is_whole_life
    assert frame.requests_per_s == 2


def test_nothing_seen_is_unknown_and_not_zero():
    frame = compute_frame(Look.parse("ownward_requests_in_flight 0\n", at_s=1), None, at=AT)
    assert frame.requests_per_s is None
    assert frame.usd_per_hour is None
    assert frame.resident_bytes is None
    assert (frame.upstreams, frame.workloads, frame.budgets, frame.errors) == ((), (), (), ())


def test_nothing_charged_is_money_as_any_other_sum():
    """A sum over no calls is whole, and `top --json` writes money by its type."""
    frame = compute_frame(Look.parse("ownward_requests_in_flight 0\n", at_s=1), None, at=AT)
    assert repr(frame.usd_total) == "0.0"


@pytest.mark.parametrize("text", ["", "<html>", "up 1\n", "ownward_requests_in_flight\n"])
def test_what_is_no_gateway_of_ours_is_told(text):
    with pytest.raises(BadInput, match="not an ownward gateway"):
        Look.parse(text, at_s=0)


def test_names_with_quotes_and_line_ends_are_read():
    text = 'ownward_requests_in_flight 1\nownward_errors_total{workload="a \\"b\\" \\\\ \\n,c=",tier="",kind="k"} 1\n'
    (error,) = compute_frame(Look.parse(text, at_s=0), None, at=AT).errors
    assert error.workload == 'a "b" \\ \n,c='


def test_what_is_above_the_last_bucket_is_said_as_its_bound():
    assert quantile([(0.1, 0), (1.0, 0), (float("inf"), 5)], 0.5) == 1.0
    assert quantile([], 0.5) is None
    assert quantile([(0.1, 0), (float("inf"), 0)], 0.5) is None


def test_every_metric_that_is_read_is_one_that_the_gateway_writes():
    import inspect

    from ownward.reports import _live_metrics

    read = set(re.findall(r'"((?:ownward|process)_\w+)"', inspect.getsource(_live_metrics)))
    written = {family.name for family in (*COUNTED, *READ)}
    assert read <= written
    assert {f"ownward_budget_{part}_usd" for part in ("limit", "spent", "reserved", "left")} <= written


def test_what_calls_without_a_price_cost_is_unknown_and_not_nothing():
    unpriced = 'ownward_unpriced_calls_total{workload="chat",tier="near",upstream="near-1"} '
    before = Look.parse(scrape(requests=100, usd=1.0) + unpriced + "3\n", at_s=10)
    later = Look.parse(scrape(requests=140, usd=1.5) + unpriced + "4\n", at_s=30)
    frame = compute_frame(later, before, at=AT)
    assert (frame.usd_per_hour, frame.usd_total) == (None, None)
    assert (frame.upstreams[0].usd_per_hour, frame.workloads[0].usd_per_hour) == (None, None)
    assert (frame.known_usd_per_hour, frame.known_usd_total) == (pytest.approx(0.5 / 20 * 3600), 1.5)
    assert "90.00 + unknown USD/h, 1.50 + unknown USD since it began" in shown(frame)
    since_then = Look.parse(scrape(requests=150, usd=1.6) + unpriced + "4\n", at_s=40)
    frame = compute_frame(since_then, later, at=AT)
    assert frame.usd_per_hour == pytest.approx(0.1 / 10 * 3600)
    assert frame.usd_total is None
    assert "36.00 USD/h, 1.60 + unknown USD" in shown(frame)


def test_calls_whose_charge_stayed_open_are_told_beside_what_was_charged():
    left_open = 'ownward_attempts_total{workload="chat",tier="near",upstream="near-1",state="unsettled"} '
    frame = compute_frame(Look.parse(scrape(requests=100, usd=1.0) + left_open + "3\n", at_s=10), None, at=AT)
    assert (frame.usd_total, frame.unsettled_calls) == (1.0, 3)
    assert "1.00 USD since it began, besides 3 unsettled calls" in " ".join(shown(frame).split())


class WalkedSeries(dict):
    """The series of one metric, which count how often all of them are gone through."""

    walks = 0

    def items(self):
        self.walks += 1
        return super().items()


def test_a_picture_of_a_thousand_workloads_goes_through_their_series_once_and_not_for_each_of_them():
    text = scrape(requests=4, tokens=8, usd=0.5, fast=3)
    series = "\n".join(line for line in text.splitlines() if 'workload="chat"' in line)
    look = Look.parse(text + "\n".join(series.replace('"chat"', f'"w{n}"') for n in range(999)), at_s=1.0)
    samples = {metric: WalkedSeries(found) for metric, found in look.samples.items()}
    frame = compute_frame(replace(look, samples=samples), None, at=datetime.fromtimestamp(BEGAN + 10, UTC))
    assert len(frame.workloads) == 1000
    assert {line.requests_per_s for line in frame.workloads} == {0.4}
    assert max(found.walks for found in samples.values()) <= 6  # once for each label that is asked by
