"""Broken, hostile and compressed files: a bad row costs itself, a bad file an error, and nothing fills memory."""

from __future__ import annotations

import gzip
import io
import json
import sys

import pytest

from ownward.core import BadInput, MissingExtra
from ownward.traffic import Limits, read

HEAD = "arrival_s,input_tokens,output_tokens\n"


def read_bytes(raw: bytes, **options):
    reading = read(io.BytesIO(raw), **options)
    return list(reading), reading


def test_bad_rows_are_listed_by_line_and_the_rest_is_read() -> None:
    raw = HEAD + "0,10,1\n1,-5,1\n2,ten,1\n3,10\n4,10,1\n5,1.5,1\n6,,1\n"
    records, reading = read_bytes(raw.encode())
    assert [record.arrival_s for record in records] == [0.0, 4.0]
    assert [row.line for row in reading.count.bad] == [3, 4, 5, 7, 8]
    assert "input_tokens is '-5'" in reading.count.bad[0].why


def test_only_the_first_bad_rows_are_kept_and_all_are_counted() -> None:
    _, reading = read_bytes((HEAD + "0,1,1\n" + "x,1,1\n" * 50).encode())
    assert reading.count.bad_total == 50
    assert len(reading.count.bad) == 20


def test_a_line_that_is_too_long_is_one_bad_row() -> None:
    lines = [json.dumps({"arrival_s": 0, "input_tokens": 1, "output_tokens": 1})]
    lines += ['{"arrival_s": ' + " " * 5000 + "}", lines[0].replace("1", "2")]
    records, reading = read_bytes("\n".join(lines).encode(), limits=Limits(max_line_bytes=1000))
    assert len(records) == 2
    assert reading.count.bad[0].line == 2
    assert "longer than" in reading.count.bad[0].why


def test_bytes_that_are_no_text_are_a_bad_row() -> None:
    records, reading = read_bytes(HEAD.encode() + b"0,1,1\n\xff\xfe,1,1\n2,1,1\n")
    assert len(records) == 2
    assert reading.count.bad_total == 1
    assert "UTF-8" in reading.count.bad[0].why


def test_a_quote_left_open_does_not_swallow_the_file_silently() -> None:
    records, reading = read_bytes((HEAD + '0,1,1\n"1,1,1\n2,1,1\n').encode())
    assert len(records) == 1
    assert reading.count.bad_total == 1


def test_deeply_nested_json_is_a_bad_row() -> None:
    good = json.dumps({"arrival_s": 0, "input_tokens": 1, "output_tokens": 1})
    deep = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
    records, reading = read_bytes(f"{good}\n{deep}\n".encode())
    assert len(records) == 1
    assert reading.count.bad_total == 1


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    records, _ = read_bytes(b"\xef\xbb\xbf" + HEAD.encode() + b"0,1,1\n")
    assert len(records) == 1


def test_gzip_of_several_members_is_read_as_one() -> None:
    raw = gzip.compress((HEAD + "0,1,1\n").encode()) + gzip.compress(b"1,2,2\n" * 3 + b"2,3,3\n")
    records, reading = read_bytes(raw)
    assert [record.input_tokens for record in records] == [1, 2, 2, 2, 3]
    assert reading.count.bad_total == 0


def test_a_gzip_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(HEAD.encode() + b"0,1,1\n" * 2_000_000)
    with pytest.raises(BadInput, match="expands to more"):
        read_bytes(bomb, limits=Limits(max_expanded_bytes=1_000_000))


def test_a_truncated_gzip_says_so() -> None:
    raw = gzip.compress((HEAD + "".join(f"{one},{one * one},1\n" for one in range(2000))).encode())
    with pytest.raises(BadInput, match="ends before it is complete"):
        read_bytes(raw[:-200])


def test_a_damaged_gzip_says_so() -> None:
    raw = bytearray(gzip.compress((HEAD + "".join(f"{i},{i},1\n" for i in range(5000))).encode()))
    raw[len(raw) // 2] ^= 0xFF
    with pytest.raises(BadInput, match=r"damaged|ends before"):
        read_bytes(bytes(raw))


def test_duplicates_by_the_rows_own_id_are_counted_and_left_out() -> None:
    rows = [{"request_id": one, "arrival_s": 0, "input_tokens": 1, "output_tokens": 1} for one in ("a", "b", "a")]
    records, reading = read_bytes("\n".join(map(json.dumps, rows)).encode())
    assert len(records) == 2
    assert reading.count.duplicates == 1


def test_equal_rows_without_an_id_are_two_requests_and_keep_their_ids_when_read_again() -> None:
    raw = (HEAD + "0,1,1\n0,1,1\n").encode()
    first, _ = read_bytes(raw)
    second, _ = read_bytes(raw)
    assert len({record.source_row_id for record in first}) == 2
    assert [record.source_row_id for record in first] == [record.source_row_id for record in second]


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(BadInput, match="empty"):
        read_bytes(b"")


def test_too_many_rows_end_the_reading() -> None:
    with pytest.raises(BadInput, match="more than 3 requests"):
        read_bytes((HEAD + "0,1,1\n" * 5).encode(), limits=Limits(max_rows=3))


def test_parquet_without_pyarrow_names_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="pyarrow"):
        read_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")


def test_a_pretty_printed_document_is_one_value() -> None:
    document = {"object": "chat.completion", "id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 3}}
    records, _ = read_bytes(json.dumps(document, indent=2).encode())
    assert records[0].input_tokens == 3


def test_a_stream_that_cannot_seek_is_enough() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, raw: bytes) -> None:
            self._inner = io.BytesIO(raw)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            data = self._inner.read(min(7, len(buffer)))
            buffer[: len(data)] = data
            return len(data)

    reading = read(Pipe((HEAD + "0,1,1\n" * 20).encode()))
    assert len(list(reading)) == 20


def test_rows_are_numbered_as_they_stand_bad_ones_counted() -> None:
    records, _ = read_bytes((HEAD + "0,1,1\nx,1,1\n\n2,1,1\n").encode())
    assert [record.row for record in records] == [0, 2]
