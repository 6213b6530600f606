"""Columns: checked, sorted, cut and summed up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest

from ownward.core import BadInput, to_json
from ownward.traffic import Percentiles, Trace, TrafficRecord, read


def trace(arrivals=(0.0, 1.0, 2.0), **more) -> Trace:
    count = len(arrivals)
    values = {"input_tokens": [10] * count, "output_tokens": [2] * count} | more
    return Trace.from_columns(arrival_s=arrivals, **values)


def test_rows_are_sorted_by_arrival_with_all_that_belongs_to_them() -> None:
    made = trace(
        [2.0, 0.0, 1.0],
        input_tokens=[30, 10, 20],
        session=["c", "a", None],
        prefix_blocks=[[3, 33], [1], []],
        prefix_block_tokens=5,
        request_ids=["z", "x", "y"],
        charge_usd=[Decimal("0.3"), Decimal("0.1"), Decimal("0.2")],
    )
    assert made.input_tokens.tolist() == [10, 20, 30]
    assert made.request_ids == ("x", "y", "z")
    assert [made.session_names[code] if code >= 0 else None for code in made.session] == ["a", None, "c"]
    assert made.prefix_block_ids.tolist() == [1, 3, 33]
    assert made.prefix_offsets.tolist() == [0, 1, 1, 3]
    assert made.compute_charge_usd() == Decimal("0.6")


def test_an_unknown_charge_leaves_the_sum_unknown() -> None:
    assert trace(charge_usd=[Decimal(1), None, Decimal(1)]).compute_charge_usd() is None
    assert trace().compute_charge_usd() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_tokens": [1, -2, 3]}, "input_tokens is -2 in row 1"),
        ({"cached_input_tokens": [0, 11, 0]}, "cached_input_tokens is 11 in row 1"),
        ({"output_tokens": [1, 2]}, "output_tokens has 2 rows"),
        ({"input_tokens": [1.5, 2.0, 3.0]}, "float64"),
        ({"arrivals": (0.0, float("nan"), 1.0)}, "arrival_s is nan"),
        ({"arrivals": (0.0, float("inf"), 1.0)}, "arrival_s is inf"),
    ],
)
def test_what_cannot_be_is_refused_by_row(change, message) -> None:
    arrivals = change.pop("arrivals", (0.0, 1.0, 2.0))
    with pytest.raises(BadInput, match=message):
        trace(arrivals, **change)


def test_columns_cannot_be_written_to() -> None:
    source = np.array([1, 2, 3])
    made = trace(input_tokens=source)
    with pytest.raises(ValueError, match="read-only"):
        made.input_tokens[0] = 5
    source[0] = 9
    assert made.input_tokens[0] == 1


def test_a_time_window_is_half_open() -> None:
    made = trace([0.0, 1.0, 2.0, 3.0])
    assert made.between(1.0, 3.0).arrival_s.tolist() == [1.0, 2.0]


def test_one_workload_of_a_trace() -> None:
    made = trace(workload=["a", "b", "a"])
    assert made.of_workload("a").arrival_s.tolist() == [0.0, 2.0]
    assert len(made.of_workload("none")) == 0


def test_records_out_of_order_start_at_zero() -> None:
    rows = [
        TrafficRecord(source_row_id=str(at), arrival_s=at, input_tokens=1, output_tokens=1) for at in (0.0, -2.0, 1.0)
    ]
    assert Trace.from_records(rows).arrival_s.tolist() == [0.0, 2.0, 3.0]


def test_records_without_times_need_a_rate() -> None:
    rows = [TrafficRecord(source_row_id=str(one), input_tokens=1, output_tokens=1) for one in range(3)]
    with pytest.raises(BadInput, match="'0' has no time"):
        Trace.from_records(rows)
    assert Trace.from_records(rows, assumed_requests_per_s=2.0).arrival_s.tolist() == [0.0, 0.5, 1.0]


def test_a_summary_by_hand() -> None:
    made = trace([0.0, 1.0, 1.5, 10.0], input_tokens=[10, 20, 30, 40], cached_input_tokens=[0, 0, 25, 0])
    summary = made.compute_summary(window_s=2.0)
    assert (summary.requests, summary.duration_s, summary.input_tokens) == (4, 10.0, 100)
    assert summary.requests_per_s == 0.4
    assert summary.cached_fraction == 0.25
    assert summary.uncached_input_tokens == 75
    assert (summary.peak.requests, summary.peak.start_s, summary.peak.requests_per_s) == (3, 0.0, 1.5)
    assert summary.peak.input_tokens_per_s == 30.0
    assert summary.input_percentiles.p50 == 25.0


def test_summaries_of_little() -> None:
    empty = trace(()).compute_summary()
    assert (empty.requests, empty.requests_per_s, empty.peak, empty.input_percentiles) == (0, None, None, None)
    assert trace((5.0,)).compute_summary().requests_per_s is None
    assert '"requests": 1' in to_json(trace((5.0,)).compute_summary())


def test_percentiles_leave_unknown_values_out() -> None:
    found = Percentiles.of(np.array([1.0, np.nan, 3.0]))
    assert (found.p50, found.mean, found.max) == (2.0, 2.0, 3.0)
    assert Percentiles.of(np.array([np.nan])) is None


def test_the_hash_of_a_trace_is_of_what_decides_a_run() -> None:
    assert trace().compute_sha256() == trace(workload=["a", "b", "c"]).compute_sha256()
    assert trace().compute_sha256() != trace(output_tokens=[2, 2, 3]).compute_sha256()


@pytest.mark.shared_data
def test_the_azure_code_trace_has_its_published_figures(shared_data) -> None:
    with (shared_data / "traces" / "azure_llm_2023_code.csv.gz").open("rb") as stream:
        reading = read(stream)
        summary = Trace.from_records(reading).compute_summary()
    assert reading.count.bad_total == 0
    assert summary.requests == 8819
    assert round(summary.input_percentiles.mean) == 2048
    assert round(summary.output_percentiles.mean) == 28
    assert (summary.input_percentiles.p50, summary.output_percentiles.p50) == (1469, 13)
    assert (int(summary.input_percentiles.p99), int(summary.output_percentiles.p99)) == (7436, 251)


@pytest.mark.shared_data
def test_tau_bench_transcripts_are_read_as_one_workload(shared_data) -> None:
    from ownward.traffic import discover

    with (shared_data / "tasks" / "tau_airline_gpt4o_transcripts.jsonl.gz").open("rb") as stream:
        found = discover(read(stream))
        sessions = {record.session for record in found}
    assert len(sessions) == 200
    assert [one.basis for one in found.workloads] == ["system prompt"]


def test_requests_without_an_id_are_named_by_their_number_in_the_file() -> None:
    import io

    raw = b"request_id,arrival_s,input_tokens,output_tokens\n,5,1,1\nmine,1,1,1\n,0,1,1\n"
    made = Trace.from_records(read(io.BytesIO(raw)))
    assert made.request_ids == ("2", "mine", "0")


def test_records_are_let_go_as_they_are_read() -> None:
    """A million of them held at once are most of what a replay takes."""
    held: list[int] = []

    def records() -> Iterator[TrafficRecord]:
        before: list[TrafficRecord] = []
        for number in range(5):
            before.append(TrafficRecord(source_row_id=f"r{number}", arrival_s=number, input_tokens=1, output_tokens=1))
            held.append(sys.getrefcount(before[0]))
            yield before[-1]

    assert len(Trace.from_records(records())) == 5
    assert held[-1] == held[0]
