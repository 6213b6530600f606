"""Requests drawn from ServeGen's statistics: as many as stated, as bursty as stated, equal for an equal seed."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import statistics
from collections import Counter

import pytest

from ownward.core import BadInput
from ownward.traffic import Trace, read

HEADER = "client_id,window_start_s,req_per_s,iat_cv,iat_dist,p1,p2\n"
LENGTHS = {
    "0": {
        "0": {"input_tokens": {"100": 0.25, "300": 0.75}, "output_tokens": {"7": 1.0}, "reason_ratio": {"0.5": 1}},
        "21600": {"input_tokens": {"5": 1.0}, "output_tokens": {"9": 1.0}},
    }
}


def draw(*windows: str, lengths=LENGTHS, seed: int = 0):
    reading = read(io.BytesIO((HEADER + "\n".join(windows)).encode()), lengths=lengths, seed=seed)
    return list(reading), reading.count


def gaps_of(records):
    arrivals = [record.arrival_s for record in records]
    return [after - before for before, after in itertools.pairwise(arrivals)]


def test_a_window_has_as_many_requests_as_it_had_and_they_lie_in_it():
    records, count = draw("0,0,5.0,1,Gamma,1.0,1", "0,600,0,0,,0,0", "0,1200,0.005,1,Weibull,0.8,1")
    assert count.format == "servegen"
    assert Counter(int(record.arrival_s // 600) for record in records) == {0: 3000, 2: 3}
    assert len({record.source_row_id for record in records}) == 3003
    assert {record.workload for record in records} == {"client-0"}


@pytest.mark.parametrize(
    ("window", "cv"),
    [("Gamma,0.25,1", 2.0), ("Gamma,4,1", 0.5), ("Weibull,0.5,1", 5**0.5), ("Exp,1,1", 1.0), (",0,0", 1.0)],
)
def test_gaps_are_as_uneven_as_their_distribution_says(window, cv):
    records, _ = draw(f"0,0,100,{cv},{window}")
    gaps = gaps_of(records)
    assert len(records) == 60_000
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(cv, rel=0.06)


def test_lengths_are_drawn_by_their_shares_and_change_with_the_hour():
    records, _ = draw("0,0,20,1,Gamma,1,1", "0,21600,1,1,Gamma,1,1")
    early = [record for record in records if record.arrival_s < 600]
    share = sum(record.input_tokens == 300 for record in early) / len(early)
    assert share == pytest.approx(0.75, abs=0.02)
    assert {record.output_tokens for record in early} == {7}
    assert {(record.input_tokens, record.output_tokens) for record in records[len(early) :]} == {(5, 9)}
    assert {record.usage_basis for record in records} == {"estimated"}


def test_a_draw_depends_on_its_seed_and_not_on_the_order_of_rows():
    one, two = "0,0,1,1,Gamma,0.5,1", "0,600,1,1,Weibull,0.5,1"
    there, _ = draw(one, two)
    back, _ = draw(two, one)
    key = {record.source_row_id: (record.arrival_s, record.input_tokens) for record in there}
    assert key == {record.source_row_id: (record.arrival_s, record.input_tokens) for record in back}
    other, _ = draw(one, two, seed=1)
    assert [record.arrival_s for record in other] != [record.arrival_s for record in there]


def test_arrivals_without_lengths_say_what_to_give():
    with pytest.raises(BadInput, match="--lengths"):
        draw("0,0,1,1,Gamma,1,1", lengths=None)


@pytest.mark.parametrize(
    ("window", "lengths", "why"),
    [
        ("1,0,1,1,Gamma,1,1", LENGTHS, "no client '1'"),
        ("0,0,1,1,Pareto,1,1", LENGTHS, "'pareto'"),
        ("0,0,1,1,Gamma,0,1", LENGTHS, "shape 0"),
        ("0,0,-1,1,Gamma,1,1", LENGTHS, "out of range"),
        ("0,0,1e300,1,Gamma,1,1", LENGTHS, "out of range"),
        ("0,0,1,1,Gamma,1,1", {"0": {"0": {"input_tokens": {"5": 1}}}}, "lack input_tokens or output_tokens"),
        ("0,0,1,1,Gamma,1,1", {"0": {"0": {"input_tokens": {"x": 1}, "output_tokens": {"1": 1}}}}, "not numbers"),
        (
            "0,0,1,1,Gamma,1,1",
            {"0": {"0": {"input_tokens": {"1": -1}, "output_tokens": {"1": 1}}}},
            "not probabilities",
        ),
        ("0,0,1,1,Gamma,1,1", {"0": {"0": 5}}, "not an object"),
        ("0,0,1,1,Gamma,1,1", {"0": []}, "no client"),
    ],
)
def test_what_cannot_be_drawn_costs_its_window_alone(window, lengths, why):
    records, count = draw(window, lengths=lengths)
    assert records == []
    assert why in count.bad[0].why


def test_a_published_day_is_drawn_to_the_request(shared_data):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = shared_data / "traces"
    lengths = json.loads(gzip.decompress((folder / "servegen_deepseek-r1_lengths.json.gz").read_bytes()))
    table = parquet.read_table(folder / "servegen_deepseek-r1_arrivals.parquet").to_pylist()
    some = [row for row in table if row["client_id"] < 20 and row["window_start_s"] < 7200]
    reading = read(io.BytesIO("\n".join(map(json.dumps, some)).encode()), lengths=lengths)
    trace = Trace.from_records(reading)
    assert reading.count.bad_total == 0
    assert len(trace.arrival_s) == sum(round(row["req_per_s"] * 600) for row in some) > 1000
    assert trace.arrival_s[-1] < 7200
