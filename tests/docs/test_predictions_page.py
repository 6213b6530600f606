"""What the page about predictions, and the README, say of their errors is the newest result that is kept."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "predictions.md").read_text(encoding="utf-8")
FIRST = PAGE.partition("<!-- left_out -->")[0]
RECORD = json.loads(max((ROOT / "benchmarks" / "results").glob("accuracy-????-??-??.json")).read_text())
LEFT_OUT = json.loads(max((ROOT / "benchmarks" / "results").glob("left_out-????-??-??.json")).read_text())
# The first words of a line of the page, the rows that it has before it, and the line of the record that it tells.
LINES = [
    ("decode, one user", "decode_tok_s_per_user", "tiers A and B"),
    ("of these, dense", "decode_tok_s_per_user", "A and B, dense"),
    ("of these, mixtures and hybrids", "decode_tok_s_per_user", "A and B, mixtures, hybrids"),
    ("of these, weights in two memories", "decode_tok_s_per_user", "A and B, offload"),
    ("prefill", "prefill_tok_s", "tiers A and B"),
    ("of these, mixtures and hybrids", "prefill_tok_s", "A and B, mixtures, hybrids"),
    ("of these, weights in two memories", "prefill_tok_s", "A and B, offload"),
    ("throughput of a batch", "decode_tok_s_total", "tiers A and B"),
    ("of these, what its columns say", "decode_tok_s_total", "A and B, possible"),
    ("of these, weights in two memories", "decode_tok_s_total", "A and B, offload"),
    ("prompt and answer, end to end", "e2e_total_tok_s", "tiers A and B"),
    ("TPOT under load", "tpot_ms", "tiers A and B"),
    ("of these, TPOT that is one", "tpot_ms", "A and B, possible"),
    ("TTFT", "ttft_ms", "tiers A and B"),
    ("latency under load", "e2e_ms", "tiers A and B"),
]


def percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def kept(metric: str, group: str) -> dict:
    return next(row for row in RECORD["summary"] if (row["metric"], row["engine"]) == (metric, group))


@pytest.mark.parametrize(("words", "metric", "group"), LINES)
def test_a_line_of_errors_is_the_newest_result(words: str, metric: str, group: str) -> None:
    found = kept(metric, group)
    (line,) = re.findall(rf"^\| {re.escape(words)} \| {found['rows']} \| .*$", FIRST, re.MULTILINE)
    _, _, _, refused, median, mape, best, bias, inside, *_ = (cell.split("→")[-1].strip() for cell in line.split("|"))
    assert refused == str(found["refusals"])
    assert [median, mape, best] == [percent(found[key]) for key in ("median_error", "mape", "trimmed")]
    assert bias == f"{100 * found['bias']:+.0f}%"
    assert inside == percent(found["coverage_of_answers"])


def test_the_table_of_engines_and_devices_is_the_newest_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    accuracy = importlib.import_module("benchmarks.accuracy")
    said = PAGE.partition("<!-- accuracy -->")[2].partition("<!-- /accuracy -->")[0].strip()
    assert said == accuracy.render_cells(RECORD["cells"])


def test_the_table_of_what_is_left_out_is_the_newest_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    said = PAGE.partition("<!-- left_out -->")[2].partition("<!-- /left_out -->")[0].strip()
    assert said == importlib.import_module("benchmarks.left_out").table(LEFT_OUT)


def test_what_the_readme_says_of_errors_is_the_newest_result() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for words, metric in (
        ("generation for one user", "decode_tok_s_per_user"),
        ("prompts", "prefill_tok_s"),
        ("batched throughput", "decode_tok_s_total"),
        ("first token", "ttft_ms"),
        ("Time a token under load is off by", "tpot_ms"),
    ):
        assert f"{words} {percent(kept(metric, 'tiers A and B')['median_error'])}" in readme, words
    first = ("decode_tok_s_per_user", "prefill_tok_s", "decode_tok_s_total")
    means = ", ".join(percent(kept(metric, "tiers A and B")["mape"]) for metric in first)
    assert f"means are higher ({means} for the first three)" in readme
    new = {row["metric"]: row for row in LEFT_OUT["results"]["machine"] if row["engine"] == "tiers A and B"}
    assert f"nobody has measured ({', '.join(percent(new[metric]['median_error']) for metric in first)})" in readme
