"""The judges of the chaos benchmark find what they are there to find."""

from __future__ import annotations

import importlib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ownward.pricing import Price, Usage

PRICE = Price(
    provider="fake",
    model="fake",
    input_usd_per_mtok=Decimal(3),
    output_usd_per_mtok=Decimal(15),
    basis="assumed",
    source="tests",
    checked_on=date(2026, 11, 21),
)
TRUTH = str(PRICE.compute_charge_usd(Usage(input_tokens=10, output_tokens=4)))
CALL = {
    "event": "ended",
    "state": "completed",
    "input_tokens": 10,
    "output_tokens": 4,
    "reported_input_tokens": 10,
    "reported_output_tokens": 4,
}
SETTLED = {
    "request_id": "r",
    "attempt": 1,
    "state": "settled",
    "input_tokens": 10,
    "output_tokens": 4,
    "charge_usd": TRUTH,
}
UNSETTLED = {"request_id": "r", "attempt": 1, "state": "unsettled", "charge_low_usd": "0", "charge_high_usd": "1"}
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@pytest.fixture
def chaos(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3])
    return importlib.import_module("benchmarks.chaos")


def test_rows_that_agree_are_passed(chaos):
    assert chaos.compare([SETTLED], {("r", "1"): CALL}, PRICE) == []
    assert chaos.compare([UNSETTLED], {("r", "1"): {**CALL, "state": "cut"}}, PRICE) == []
    assert chaos.compare([{**SETTLED, "state": "failed"}], {("r", "1"): {**CALL, "state": "refused"}}, PRICE) == []


@pytest.mark.parametrize(
    ("row", "call"),
    [
        ({**SETTLED, "output_tokens": 5}, CALL),
        ({**SETTLED, "charge_usd": "0"}, CALL),
        (SETTLED, None),
        ({**UNSETTLED, "charge_high_usd": "0"}, CALL),
        ({**UNSETTLED, "charge_low_usd": "0.5"}, CALL),
        ({**SETTLED, "state": "failed"}, CALL),
        ({**SETTLED, "state": "failed"}, {**CALL, "event": "accepted", "state": "serving"}),
        ({**SETTLED, "state": "intent"}, CALL),
    ],
)
def test_a_row_that_lies_is_found(chaos, row, call):
    assert len(chaos.compare([row], {} if call is None else {("r", "1"): call}, PRICE)) == 1


def test_a_call_without_an_intent_and_an_intent_that_stands_twice_are_found(chaos):
    assert chaos.compare([], {("r", "1"): CALL}, PRICE) == ["no intent for accepted call ('r', '1')"]
    assert "an intent stands twice" in chaos.compare([SETTLED, SETTLED], {("r", "1"): CALL}, PRICE)


def test_a_call_that_was_accepted_twice_is_found(chaos, tmp_path):
    line = '{"event": "accepted", "request_id": "r", "attempt": "1"}\n'
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl").write_text(line)
    assert chaos.read_calls(tmp_path, ["a"])[1] == []
    assert len(chaos.read_calls(tmp_path, ["a", "b"])[1]) == 1


@pytest.mark.parametrize(
    ("answer", "is_stream", "end"),
    [
        (b"", True, "no answer"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", True, "status 503"),
        (HEAD + b"data: {}\n\ndata: [DONE]\n\n" + END, True, "whole"),
        (HEAD + b'data: {}\n\ndata: {"error": {}}\n\n' + END, True, "cut visibly"),
        (HEAD + b"data: {}\n\n" + END, True, "cut silently"),
        (HEAD + b"data: {}\n\n", True, "cut off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", False, "whole"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<>", False, "cut silently"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", False, "cut off"),
    ],
)
def test_each_end_has_its_name(chaos, answer, is_stream, end):
    assert chaos.judge(answer, "openai", is_stream=is_stream) == end


def test_an_anthropic_stream_ends_in_its_own_words(chaos):
    whole = HEAD + b'event: message_stop\ndata: {"type": "message_stop"}\n\n' + END
    assert chaos.judge(whole, "anthropic", is_stream=True) == "whole"
    assert chaos.judge(HEAD + b"event: error\ndata: {}\n\n" + END, "anthropic", is_stream=True) == "cut visibly"
    assert chaos.judge(HEAD + b"data: [DONE]\n\n" + END, "anthropic", is_stream=True) == "cut silently"
